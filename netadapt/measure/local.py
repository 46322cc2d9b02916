"""What the runtimes on this machine have in common: how their programs are timed, recorded and checked."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import metadata
from itertools import cycle
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from netadapt.errors import NetAdaptError
from netadapt.measure import machine
from netadapt.measure.core_speed import CoreSpeed
from netadapt.measure.device import Check, Device, Model
from netadapt.measure.lock import MeasuringLock
from netadapt.measure.measurement import Measurement, Provenance
from netadapt.measure.platform import Platform
from netadapt.measure.protocol import BlockSource, CallableSource, Timing, collect, latency_of
from netadapt.network.workload import EMPTY_RUN, Workload
from netadapt.wording import counted

#: Memory that a network touches between two runs of one of its layers. Alone, a layer finds its weights in the cache:
#: the last layer of mobilenet_v1, 4 MB, takes 0.05 ms alone and 0.23 ms in the network. So copies of a workload that
#: together fill this much are run in turn. The sum of the layers of 22 random-width networks divided by the time of
#: the whole: 0.91 to 0.97 without, 0.95 to 0.99 with copies; twice as much overshoots on small images.
_WORKING_SET = 8 << 20
_MOST_COPIES = 8
#: What is smaller stays in the first caches or is fetched in no time.
_SMALL = 128 << 10
#: What the speed of the core is read off: about 15 us of convolution, a few times.
_PROBE = Workload("conv", (64,), 64, (14, 14), bias=True, activation="relu")
_PROBE_RUNS = 3


class Program(Protocol):
    """A model that is loaded, with its inputs; a call runs it once."""

    #: Memory that a run does not share with runs of other models, and finds cold where they have pushed it out.
    bytes: int

    def __call__(self) -> object:
        """Run the model once."""

    def another(self) -> Program:
        """Load the same model again, with such memory of its own."""


class LocalDevice(Device):
    """A runtime on the CPU of this machine; measures one model at a time.

    Args:
        distribution: name of the Python distribution of the runtime.
        platform, requested, lock: as `Device` takes them.

    """

    def __init__(self, distribution: str, platform: Platform, requested: str, lock: MeasuringLock) -> None:
        super().__init__(platform, requested, lock)
        self._distribution = distribution

    @abstractmethod
    def model_program(self, model: Model) -> Program:
        """Load a whole model; raises ModelError and MeasurementError as `Device.costs`."""

    @abstractmethod
    def workload_program(self, workload: Workload) -> tuple[Program, str]:
        """Load one operation as it runs inside a network, and tell the name of that form; errors as above."""

    @abstractmethod
    def probe_program(self, workload: Workload) -> Program:
        """Load the operation that the speed of the core is read off, for one thread."""

    def costs(self, model: Model) -> dict[str, Measurement]:
        """Measure a whole model; see `Device.costs`."""
        with self.exclusive():
            return {"latency": self._latency(self.model_program(model), self.platform.network_timing(), "model")}

    def workload_costs(self, workload: Workload) -> dict[str, Measurement]:
        """Measure one operation in the layout it has inside a network; see `Device.workload_costs`."""
        with self.exclusive():
            program, form = self.workload_program(workload)
            return {"latency": self._latency(in_turn(program), self.platform.workload_timing(), form)}

    @contextmanager
    def load(self, model: Model) -> Iterator[BlockSource]:
        """Load a model for interleaved timing; see `Device.load`."""
        program = self.model_program(model)
        yield self._source(program, self.platform.network_timing())

    def _source(self, run: Callable[[], Any], timing: Timing) -> BlockSource:
        """What times runs of a program, or of copies of it in turn."""
        return CallableSource(run, timing, core_speed=self._core_speed)

    @cached_property
    def _core_speed(self) -> CoreSpeed:
        program = self.probe_program(_PROBE)

        def work() -> None:
            for _ in range(_PROBE_RUNS):
                program()

        return CoreSpeed(work)

    def _slowdown(self) -> float:
        """How many times as slow the core is now as it has been; see `CoreSpeed.slowdown`."""
        return self._core_speed.slowdown

    def _latency(self, run: Callable[[], object], timing: Timing, form: str) -> Measurement:
        source = self._source(run, timing)
        source.warm_up()
        sample = collect(source, timing).on_slow_core(self._slowdown())
        return latency_of(sample, self.platform.tier, self._origin(form))

    def _origin(self, form: str) -> Provenance:
        return self.provenance(
            form,
            runtime=self._distribution,
            runtime_version=version(self._distribution),
            machine_name=machine.cpu_model(),
            cores=machine.cores(),
            system=machine.operating_system(),
        )


def in_turn(program: Program) -> Callable[[], object]:
    """Run a program, or copies of it in turn, so that each finds the cache as it would inside a network."""
    copies = 1 if program.bytes < _SMALL else min(_MOST_COPIES, -(-_WORKING_SET // program.bytes))
    following = cycle([program, *(program.another() for _ in range(copies - 1))]).__next__

    def run() -> object:
        return following()()

    return run


def activations(random: np.random.Generator, shape: Sequence[int]) -> NDArray[Any]:
    """Numbers of the size of images and activations; never denormal ones, which are slow."""
    signs = random.choice(np.array([-1, 1]), math.prod(shape)).reshape(shape)
    values: NDArray[Any] = signs * random.uniform(0.05, 1.0, shape)
    return values


def checks(platform: Platform, distributions: Sequence[str], opened: Callable[[], Device]) -> list[Check]:
    """Check that distributions are installed, that there are cores enough, and that a run of nothing gives a time."""
    threads = platform.runtime.threads
    found = {name: version(name) for name in distributions}
    results = [Check(name, number != "absent", f"version {number}") for name, number in found.items()]
    results.append(Check("cores", machine.cores() >= threads, f"{machine.cores()} for {counted(threads, 'thread')}"))
    try:
        with opened() as device:
            empty = device.measure_workload(EMPTY_RUN)
    except NetAdaptError as error:
        return [*results, Check("measuring", False, str(error))]
    detail = f"an empty run takes {empty.value} ns ({empty.status}, {empty.clean_fraction:.0%} of blocks clean)"
    return [*results, Check("measuring", empty.status != "contended", detail)]


def version(distribution: str) -> str:
    """The installed version of a Python distribution; "absent" when there is none."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "absent"
