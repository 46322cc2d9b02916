"""Benchmark cases as tests: which there are, how they are watched, and what is written and said at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest

from bench.command import BASELINES, RUN, is_strict
from bench.ending import Ending, end
from bench.progress import shown
from bench.registry import CASES
from bench.replay import ReplayTimer
from bench.session import BenchRun, Job, Wanted
from netadapt.search.observer import Observer

_SPEED = Path(__file__).parent / "speed"
_SMOKE_PLATFORM = "ort-local"
_ENDING = pytest.StashKey[Ending]()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    # Speed takes minutes and a quiet machine; it is no part of `pytest bench`.
    asked = config.getoption("benchmark_only") or any(str(_SPEED) in str(Path(arg).absolute()) for arg in config.args)
    return True if collection_path == _SPEED and not asked else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "job" not in metafunc.fixturenames:
        return
    run = metafunc.config.stash.get(RUN, None) or _smoke_run(metafunc.config)
    metafunc.parametrize("job", [_parameter(job) for job in run.jobs])


def _parameter(job: Job) -> pytest.ParameterSet:
    platform = job.device.platform
    # Grouped, so that numbers of two tiers never stand in one table.
    mark = pytest.mark.benchmark(timer=ReplayTimer(), group=f"{platform.name} (tier: {platform.tier})")
    return pytest.param(job, id=job.id, marks=mark)


def _smoke_run(config: pytest.Config) -> BenchRun:
    """Every case once, as small as can be; nothing is kept."""
    folder = tempfile.TemporaryDirectory(prefix="netadapt-bench-")
    config.add_cleanup(folder.cleanup)
    registry = config.getoption("registry") or CASES
    run = BenchRun(Wanted("smoke", (_SMOKE_PLATFORM,), Path(folder.name), results=None, registry=registry))
    config.add_cleanup(run.close)
    config.stash[RUN] = run
    return run


@pytest.fixture
def run(pytestconfig: pytest.Config) -> BenchRun:
    return pytestconfig.stash[RUN]


@pytest.fixture
def watch(run: BenchRun, pytestconfig: pytest.Config) -> Callable[[Job], AbstractContextManager[Observer]]:
    """Shows a job's progress on the real standard error; that of a smoke test is not shown."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    @contextmanager
    def watching(job: Job) -> Iterator[Observer]:
        with capture.global_and_fixture_disabled() if capture else nullcontext(), shown(job.title) as observer:
            yield observer

    return watching if run.wanted.results else lambda job: nullcontext(Observer())


def pytest_sessionfinish(session: pytest.Session) -> None:
    run = session.config.stash.get(RUN, None)
    if run is None or run.wanted.results is None or session.config.getoption("collectonly"):
        return
    ending = end(run, session.config.stash[BASELINES], is_strict(session.config), session.config.rootpath)
    session.config.stash[_ENDING] = ending
    if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = ending.exit_code


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    ending = config.stash.get(_ENDING, None)
    if ending is None:
        return
    terminalreporter.section("benchmark cases")
    for line in ending.lines():
        terminalreporter.write_line(line)
