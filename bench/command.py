"""`pytest --benchmark`: its options as a run, and what they exclude."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.judging import Baselines
from bench.registry import CASES
from bench.session import BenchRun, Wanted
from netadapt import terminal
from netadapt.errors import CaseError

RUN = pytest.StashKey[BenchRun]()
#: By name of the platform.
BASELINES = pytest.StashKey[Mapping[str, Baselines]]()


def prepare(config: pytest.Config, platforms: tuple[str, ...]) -> None:
    """Open a run for the options, and let pytest collect its cases unless it was told what to collect.

    Raises:
        CaseError: cases are to be run in several processes.
        NetAdaptError: see `BenchRun` and `Baselines`.

    """
    if config.getoption("numprocesses", None) or config.getoption("dist", "no") != "no":
        raise CaseError(
            "--benchmark measures one thing at a time, so it cannot be run in several processes: leave out -n and"
            " --dist (cases use the cores themselves where that does no harm)"
        )
    root = config.rootpath
    wanted = Wanted(
        profile=config.getoption("profile") or "quick",
        platforms=tuple(config.getoption("platform") or platforms),
        work=config.getoption("work") or root / "runs" / "bench",
        results=config.getoption("results") or root / "results",
        cases=tuple(config.getoption("case") or ()),
        registry=config.getoption("registry") or CASES,
    )
    run = BenchRun(wanted, terminal.tell_fallback)
    config.add_cleanup(run.close)
    config.stash[RUN] = run
    config.stash[BASELINES] = _baselines(run, config.getoption("baseline"))
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [str(Path(__file__).parent / "test_cases.py")]


def is_strict(config: pytest.Config) -> bool:
    """Whether a case without a baseline fails: pytest's own `--strict`."""
    return bool(config.getini("strict"))


def _baselines(run: BenchRun, file: Path | None) -> dict[str, Baselines]:
    names = [device.platform.name for device in run.devices]
    if file is not None:
        given = Baselines.of_file(file, names)
        return {name: given if given.runs[0][1].platform == name else Baselines(()) for name in names}
    assert run.wanted.results
    return {name: Baselines.of_folder(run.wanted.results, name) for name in names}
