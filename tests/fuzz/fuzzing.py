"""Feed damaged and hostile input to a reader: anything but a result or a `NetAdaptError`, 30 s or 2 GB is a failure.

A fuzz test writes one damaged input and reads it, in a function of a random generator and an empty folder:

    from mutations import mutated_bytes

    def test_readers_of_x(fuzz: Fuzz) -> None:
        good = make_x()

        def read_damaged(generator: random.Random, folder: Path) -> None:
            path = folder / "file.x"
            path.write_bytes(mutated_bytes(good, generator))
            read_x(path)

        fuzz(read_damaged, quick=40, full=4000)

`fuzz` (a fixture of conftest.py) calls it `quick` times, or `full` times with `pytest tests/fuzz --profile full`, each
time with a generator of its own, so that case 17 is the same input whenever and wherever it runs. The calls are made
in a forked child process, whose address space may grow by 2 GB and which is killed when one call takes over 30 s; so
the function may be a closure, and nothing that it does to its process harms the test run. What the function returns
is ignored. `mutations.py` has ways to damage bytes, texts, and values such as JSON and TOML hold.

A failing test names the numbers of the cases and keeps the folder of the first one. To debug a case in one's own
process, call `run_case(read_damaged, number, folder)`.

Inputs that fuzzing has found, and those that were written by hand, belong in tests of their own: `must_refuse` runs a
reader under the same limits and expects a `NetAdaptError`, whose text it returns.
"""

from __future__ import annotations

import multiprocessing
import random
import resource
import shutil
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from netadapt.errors import NetAdaptError

SECONDS = 30.0
"""Longest that one case may take."""
BYTES = 2 * 10**9
"""By how much a reader may extend the memory of its process."""

_MOST_FAILURES = 10  # after which a test ends; they are mostly the same
_FORK = multiprocessing.get_context("fork")

Case = Callable[[random.Random, Path], object]
"""Makes a damaged input in an empty folder and reads it."""


@dataclass(frozen=True)
class Tally:
    """How many of the cases a reader took for good, and how many it refused."""

    accepted: int
    refused: int


@dataclass(frozen=True)
class Fuzz:
    """Runs cases and fails the test on whatever a reader must not do; see the module."""

    is_full: bool
    folder: Path

    def __call__(self, case: Case, *, quick: int, full: int) -> Tally:
        """Run the cases; at least one of them must have been refused, or nothing was damaged."""
        numbers = range(full if self.is_full else quick)
        accepted = refused = 0
        failures: list[str] = []
        while numbers and len(failures) < _MOST_FAILURES:
            with closing(_outcomes(case, numbers, self.folder)) as outcomes:
                for number, outcome in outcomes:
                    numbers = range(number + 1, numbers.stop)
                    accepted += outcome == _ACCEPTED
                    refused += outcome == _REFUSED
                    if outcome not in (_ACCEPTED, _REFUSED):
                        self._keep(number, first=not failures)
                        failures.append(f"case {number}: {outcome}")
                    if len(failures) == _MOST_FAILURES:
                        break
        if failures:
            pytest.fail("\n".join([*failures, f"the input of the first is in {self._kept}"]), pytrace=False)
        assert refused, f"all of {accepted} damaged inputs were taken for good"
        return Tally(accepted, refused)

    @property
    def _kept(self) -> Path:
        return self.folder / "failed"

    def _keep(self, number: int, first: bool) -> None:
        if first:
            shutil.copytree(_case_folder(self.folder, number), self._kept, symlinks=True, ignore=_only_plain)


def must_refuse(read: Callable[[], object]) -> str:
    """Run a reader in a child under the limits of a case; returns the text of the `NetAdaptError` that it must raise.

    Whatever else it does fails the test.
    """
    receiver, sender = _FORK.Pipe(duplex=False)
    child = _FORK.Process(target=_refuse_in_child, args=(read, sender), daemon=True)
    child.start()
    sender.close()
    try:
        outcome, text = receiver.recv() if receiver.poll(SECONDS) else ("took too long", "")
    except EOFError:
        child.join()
        outcome, text = f"its process ended with {child.exitcode}", ""
    finally:
        child.kill()
        child.join()
        receiver.close()
    if outcome != _REFUSED:
        pytest.fail(f"{outcome}; it should raise a NetAdaptError", pytrace=False)
    return str(text)


def run_case(case: Case, number: int, folder: Path) -> object:
    """Run one case in this process, without limits."""
    folder.mkdir(parents=True, exist_ok=True)
    return case(random.Random(f"fuzz {number}"), folder)


# ---- The child

_ACCEPTED, _REFUSED = "accepted", "refused"


def _outcomes(case: Case, numbers: range, folder: Path) -> Generator[tuple[int, str], None, None]:
    """Number and outcome of cases, until all are done or the child is lost; each one's folder is there meanwhile."""
    receiver, sender = _FORK.Pipe(duplex=False)
    child = _FORK.Process(target=_run_in_child, args=(case, numbers, folder, sender), daemon=True)
    child.start()
    sender.close()
    try:
        for number in numbers:
            try:
                lost = None if receiver.poll(SECONDS) else f"took over {SECONDS:.0f} s"
                outcome = lost or receiver.recv()
            except EOFError:
                child.join()
                outcome = lost = f"its process ended with {child.exitcode}"
            yield number, outcome
            shutil.rmtree(_case_folder(folder, number), ignore_errors=True)
            if lost:
                return
    finally:
        child.kill()
        child.join()
        receiver.close()


def _run_in_child(case: Case, numbers: range, folder: Path, sender: Connection) -> None:
    _limit_this_process()
    for number in numbers:
        place = _case_folder(folder, number)
        outcome, _ = _outcome(lambda number=number, place=place: run_case(case, number, place))
        sender.send(outcome)


def _refuse_in_child(read: Callable[[], object], sender: Connection) -> None:
    _limit_this_process()
    sender.send(_outcome(read))


def _outcome(read: Callable[[], object]) -> tuple[str, str]:
    try:
        read()
    except NetAdaptError as error:
        return _REFUSED, str(error)
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]} ({_place(error)})", ""
    return _ACCEPTED, ""


def _place(error: BaseException) -> str:
    """Where in our code an exception passed last."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "netadapt" in Path(frame.filename).parts] or frames
    return f"{ours[-1].filename}:{ours[-1].lineno}" if ours else "no traceback"


def _limit_this_process() -> None:
    if "torch" in sys.modules:
        # Threads of the parent are not in the child, and a pool that waits for them waits forever.
        sys.modules["torch"].set_num_threads(1)
    statm = Path("/proc/self/statm")
    if statm.exists():
        used = int(statm.read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _case_folder(folder: Path, number: int) -> Path:
    return folder / f"case-{number}"


def _only_plain(folder: str, names: list[str]) -> list[str]:
    """Names that cannot be copied: pipes and the like."""
    return [name for name in names if not (Path(folder) / name).is_file() and not (Path(folder) / name).is_dir()]
