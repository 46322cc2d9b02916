"""Which of two models is faster, judged on interleaved blocks, so that a disturbance meets both alike.

Two sessions of one and the same model can differ by a few percent for as long as they live (where their memory lies),
however often they are timed. So both are loaded several times, and a difference within a margin is called none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from statistics import stdev
from typing import Literal

from netadapt.errors import MeasurementError
from netadapt.measure import statistics
from netadapt.measure.device import Device, Model
from netadapt.measure.measurement import Status, Tier
from netadapt.measure.protocol import Block, BlockSource

Verdict = Literal["SAME", "FASTER", "SLOWER", "AMBIGUOUS"]

#: Loads a model afresh, to be timed block by block.
Load = Callable[[], AbstractContextManager[BlockSource]]

#: Blocks are taken until this many times the wanted number of pairs, whether clean or not.
_PATIENCE = 5
#: A machine is busy when more than this share of the time of the pairs was lost to other processes. It gets no rounds
#: beyond the fewest: they would make the interval little narrower, and take as long as others please.
_BUSY = 0.1
#: By how much the interval of a busy machine is widened on either side: what others leave in the caches slows one
#: model more than the other. Beside two busy loops a ratio was 1.5 % off that of the quiet machine.
_BUSY_MARGIN = 0.02
#: Share of lost time above which a comparison is contended.
_CONTENDED = 0.5

Pair = tuple[Block, Block]


@dataclass(frozen=True, slots=True)
class Pairing:
    """Parameters of a comparison."""

    #: How often both models are loaded afresh, at least and at most.
    rounds: int = 4
    most_rounds: int = 16
    #: Clean pairs of blocks to take in each round.
    pairs: int = 15
    confidence: float = 0.95
    #: Rounds are added until half of the confidence interval, divided by the ratio, is no wider.
    half_width: float = 0.01
    #: Relative difference below which two models count as equally fast.
    margin: float = 0.02
    time_limit_ns: int = 60_000_000_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """Latency of model B relative to model A: `ratio` below 1 says that B is faster."""

    ratio: float
    #: Confidence interval of the ratio.
    low: float
    high: float
    verdict: Verdict
    pairs: int
    clean_fraction: float
    #: Medians of the blocks in pairs, for orientation; the ratio is that of the pairs.
    a_ns: int
    b_ns: int
    a_platform: str
    b_platform: str
    tier: Tier
    #: "contended" when more time was lost to other processes than spent on pairs that count. If hardly a pair was
    #: clean, disturbed ones count too, by the CPU time of their blocks.
    status: Status = "converged"

    @property
    def speedup(self) -> tuple[float, float, float]:
        """How many times as fast B is: the ratio of A to B and its confidence interval (low, high)."""
        return 1 / self.ratio, 1 / self.high, 1 / self.low


def compare(device: Device, model_a: Model, model_b: Model, pairing: Pairing | None = None) -> Comparison:
    """Compare two models on one device; see `compare_models`."""
    return compare_models(device, model_a, device, model_b, pairing)


def compare_models(
    device_a: Device, model_a: Model, device_b: Device, model_b: Model, pairing: Pairing | None = None
) -> Comparison:
    """Compare two models, or one model on two platforms, in pairs of blocks A B, B A, A B, ...

    FASTER and SLOWER speak of B: the whole confidence interval of the ratio lies on that side of 1 and the ratio
    itself outside the margin. SAME: the whole interval lies within the margin. AMBIGUOUS: neither.

    Raises:
        MeasurementError: the platforms are of different tiers, one failed, or there was no time for enough pairs.
        ModelError: see `Device.costs`.

    """
    require_equal_tiers(device_a, device_b)
    pairing = pairing or Pairing()
    rounds = collect_rounds(
        lambda: device_a.load(model_a),
        lambda: device_b.load(model_b),
        pairing,
        exclusive=lambda: _exclusive(device_a, device_b),
    )
    pairs = [pair for taken in rounds for pair in taken]
    clean = clean_costs(pairs)
    counted = _counted(rounds, pairing)
    costs = [pair for taken in counted for pair in taken]
    ratio, low, high = ratio_of_rounds(counted, pairing.confidence)
    lost = lost_share(pairs)
    if lost > _BUSY:
        low, high = low / (1 + _BUSY_MARGIN), high * (1 + _BUSY_MARGIN)
    few = len(costs) > len(clean)
    return Comparison(
        ratio=ratio,
        low=low,
        high=high,
        verdict=verdict(ratio, low, high, pairing.margin),
        pairs=len(costs),
        clean_fraction=len(clean) / len(pairs),
        a_ns=round(statistics.median([a for a, _ in costs])),
        b_ns=round(statistics.median([b for _, b in costs])),
        a_platform=device_a.platform.name,
        b_platform=device_b.platform.name,
        tier=device_a.platform.tier,
        status="contended" if few or lost > _CONTENDED else "converged",
    )


def require_equal_tiers(device_a: Device, device_b: Device) -> None:
    """Raise MeasurementError if numbers of the two devices must not be compared."""
    if device_a.platform.tier != device_b.platform.tier:
        raise MeasurementError(
            f"{device_a.platform.name} ({device_a.platform.tier}) and {device_b.platform.name}"
            f" ({device_b.platform.tier}) are of different tiers; their numbers must not be compared"
        )


def paired_ratio(pairs: Sequence[tuple[float, float]], confidence: float) -> tuple[float, float, float]:
    """Median ratio B/A of pairs (A, B), with the confidence interval that inverts the sign test.

    Raises:
        MeasurementError: there are too few pairs for an interval.

    """
    ratios = [b / a for a, b in pairs]
    interval = statistics.quantile_interval(ratios, 0.5, confidence)
    if interval is None:
        raise MeasurementError(f"{len(pairs)} pairs of blocks are too few to compare; try again with more time")
    return statistics.median(ratios), *interval


def ratio_of_rounds(rounds: Sequence[Sequence[tuple[float, float]]], confidence: float) -> tuple[float, float, float]:
    """Median ratio B/A of all pairs (A, B), with an interval that allows for how the rounds differ.

    Pairs of one round share where memory lies, so that more of them do not make the ratio better known; Student's
    interval over the rounds' medians says how well it is known. The wider of both intervals counts on either side.

    Args:
        rounds: costs of the pairs of each round.
        confidence: of the interval within rounds; that between rounds is of 95 %.

    Raises:
        MeasurementError: there are too few pairs for an interval.

    """
    ratio, low, high = paired_ratio([pair for taken in rounds for pair in taken], confidence)
    medians = [math.log(statistics.median([b / a for a, b in taken])) for taken in rounds if taken]
    if len(medians) < 2:
        return ratio, low, high
    half = statistics.student_t(len(medians) - 1) * stdev(medians) / math.sqrt(len(medians))
    return ratio, min(low, ratio * math.exp(-half)), max(high, ratio * math.exp(half))


def verdict(ratio: float, low: float, high: float, margin: float) -> Verdict:
    """Judge a ratio B/A with its confidence interval; see `compare_models`."""
    least, most = 1 / (1 + margin), 1 + margin
    if high < 1 and ratio < least:
        return "FASTER"
    if low > 1 and ratio > most:
        return "SLOWER"
    return "SAME" if least <= low and high <= most else "AMBIGUOUS"


def collect_pairs(load_a: Load, load_b: Load, pairing: Pairing) -> list[Pair]:
    """All pairs of `collect_rounds`."""
    return [pair for taken in collect_rounds(load_a, load_b, pairing) for pair in taken]


def collect_rounds(
    load_a: Load,
    load_b: Load,
    pairing: Pairing,
    exclusive: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> list[list[Pair]]:
    """Take rounds of pairs of blocks A, B until their ratio is known well enough, or time is up.

    `exclusive` is held during each round.
    """
    spent_ns = 0
    rounds: list[list[Pair]] = []
    for number in range(1, pairing.most_rounds + 1):
        with exclusive():
            started_ns = time.perf_counter_ns()
            deadline_ns = started_ns + pairing.time_limit_ns - spent_ns
            with load_a() as a, load_b() as b:
                rounds.append(_interleave(a, b, pairing.pairs, lambda: time.perf_counter_ns() < deadline_ns))  # noqa: B023
            spent_ns += time.perf_counter_ns() - started_ns
        busy = lost_share([pair for taken in rounds for pair in taken]) > _BUSY
        enough = number >= pairing.rounds and (busy or _is_precise(rounds, pairing))
        if spent_ns >= pairing.time_limit_ns or enough:
            break
    return rounds


def lost_share(pairs: Sequence[Pair]) -> float:
    """Share of the time of the pairs that went into disturbed ones."""
    lost, spent = (sum(_duration(pair) for pair in pairs if _is_clean(pair) is clean) for clean in (False, True))
    return lost / (lost + spent) if lost else 0.0


def _is_clean(pair: Pair) -> bool:
    return all(block.clean for block in pair)


def _duration(pair: Pair) -> float:
    return sum(block.wall_ns or block.cost for block in pair)


def _counted(rounds: Sequence[Sequence[Pair]], pairing: Pairing) -> list[list[tuple[float, float]]]:
    """Costs of the clean pairs of each round, or of all if those are too few for an interval."""
    clean = [clean_costs(taken) for taken in rounds]
    if sum(map(len, clean)) >= statistics.smallest_sample(0.5, pairing.confidence):
        return clean
    return [[(a.cost, b.cost) for a, b in taken] for taken in rounds]


def _is_precise(rounds: Sequence[Sequence[Pair]], pairing: Pairing) -> bool:
    try:
        ratio, low, high = ratio_of_rounds([clean_costs(taken) for taken in rounds], pairing.confidence)
    except MeasurementError:
        return False
    return high - low <= 2 * pairing.half_width * ratio


def clean_costs(pairs: Sequence[Pair]) -> list[tuple[float, float]]:
    """Costs of the pairs of which both blocks were undisturbed."""
    return [(a.cost, b.cost) for a, b in pairs if _is_clean((a, b))]


def _interleave(a: BlockSource, b: BlockSource, wanted: int, in_time: Callable[[], bool]) -> list[Pair]:
    """Take pairs, of which each half goes first in turn, until enough are clean or it has become hopeless."""
    a.warm_up()
    b.warm_up()
    pairs: list[Pair] = []
    clean = 0
    for turn in range(_PATIENCE * wanted):
        if clean == wanted or (turn and not in_time()) or (turn >= wanted and lost_share(pairs) > _CONTENDED):
            break
        if turn % 2:
            second, first = _settled(b), _settled(a)
        else:
            first, second = _settled(a), _settled(b)
        pairs.append((first, second))
        clean += _is_clean((first, second))
    return pairs


def _settled(source: BlockSource) -> Block:
    """Take a block that does not start with the cache full of the other model (which cost up to 15 %)."""
    source.block()
    return source.block()


@contextmanager
def _exclusive(*devices: Device) -> Iterator[None]:
    """Hold the lock of every device; two devices may well share one, which must be taken only once."""
    locks = {device.lock.path: device for device in devices if device.lock}
    with ExitStack() as stack:
        # Always in the same order, or two comparisons could wait for each other for ever.
        for path in sorted(locks):
            stack.enter_context(locks[path].exclusive())
        yield
