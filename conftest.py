"""The options of `pytest --benchmark` and of the fuzz tests; the benchmark itself is in bench/."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest


def _put_checkout_last() -> None:
    """Let an installed package go before the checkout, whose folder pytest has put first (it is the one of this file).

    Not by --import-mode=append: then the conftest.py files of the tests would hide each other.
    """
    checkout = str(Path(__file__).parent)
    sys.path[:] = [*(entry for entry in sys.path if entry != checkout), checkout]


_put_checkout_last()
import netadapt  # noqa: E402, F401 - before pytest puts the checkout first again, for the package bench

DEFAULT_PLATFORMS = ("ort-local", "sim-cortex-a72")
#: Options that say something only with --benchmark.
_DEPENDENT = ("platform", "case", "results", "work", "baseline")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("netadapt benchmark", "benchmark cases of netadapt (docs/benchmarks.md)")
    group.addoption("--benchmark", action="store_true", help="run the benchmark cases and write results")
    group.addoption(
        "--platform",
        action="append",
        metavar="NAME",
        help=f"platform to run on, repeatable (default: {' and '.join(DEFAULT_PLATFORMS)})",
    )
    group.addoption(
        "--profile",
        metavar="quick|full",
        help="how much is run (default: quick); without --benchmark, of the fuzz tests in tests/fuzz",
    )
    group.addoption("--case", action="append", metavar="ID", help="case to run, repeatable (default: all)")
    group.addoption(
        "--results",
        type=Path,
        metavar="DIR",
        help="where results are written (default: results);"
        " a folder outside of the checkout as --results=DIR, or pytest looks for its settings there",
    )
    group.addoption(
        "--work",
        type=Path,
        metavar="DIR",
        help="where trained networks are kept, and what a stopped run has done (default: runs/bench)",
    )
    group.addoption(
        "--baseline",
        type=Path,
        metavar="FILE",
        help="results to judge by (default: for each case the newest comparable in --results)."
        " With pytest's own --strict, a case that has none fails",
    )
    group.addoption("--registry", type=Path, help=argparse.SUPPRESS)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    # Not in pytest_configure: bad input ends with a line and exit code 2, before pytest begins a session.
    if not config.getoption("benchmark"):
        return _refuse_profile(config) or _refuse_options_without_benchmark(config)
    # As late as this, so that other tests do not wait for it.
    from bench.command import prepare
    from netadapt.errors import NetAdaptError

    try:
        prepare(config, DEFAULT_PLATFORMS)
    except NetAdaptError as error:
        return _refuse(str(error))
    return None


def pytest_collection_finish() -> None:
    # Processes that are started look for modules where this one does.
    _put_checkout_last()


def _refuse_options_without_benchmark(config: pytest.Config) -> int | None:
    given = [f"--{name}" for name in _DEPENDENT if config.getoption(name)]
    return _refuse(f"{', '.join(given)}: only with --benchmark") if given else None


def _refuse_profile(config: pytest.Config) -> int | None:
    profile = config.getoption("profile")
    return None if profile in (None, "quick", "full") else _refuse(f"unknown profile {profile!r}: quick or full")


def _refuse(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return 2


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, object]) -> None:
    # The name of the host is nobody's business.
    machine_info.pop("node", None)
