from __future__ import annotations

import pytest

pytest.importorskip("tvm")

from board_servers import device_server, platform
from tvm.script import from_source

from netadapt.errors import KernelCrashed
from netadapt.measure.device import open_device
from netadapt.measure.tvm.checked_library import CheckedLibrary
from netadapt.measure.tvm.records import Records
from netadapt.measure.tvm.tuning import Candidate, MetaScheduleSearch, fused_functions, tune
from netadapt.network.workload import Workload
from netadapt.network.workload_onnx import workload_to_onnx

pytestmark = pytest.mark.timeout(60)

MODEL = workload_to_onnx(Workload("linear", (16,), 24, (1, 1), bias=True))


class Scripted:
    """A search that makes given candidates, one a batch, and keeps what it is told of them."""

    def __init__(self, *candidates):
        self.candidates = candidates
        self.told = []

    def __call__(self, function, target, trials, seed):
        return self

    def batches(self):
        for candidate in self.candidates:
            yield [candidate]

    def tell(self, costs_ns):
        self.told += costs_ns


def crashing(function):
    """A kernel that writes where there is no memory."""
    text = function.with_attr("global_symbol", "main").script()
    last = text.splitlines()[-1].strip().partition("[")[0]
    return from_source(text.replace(f"{last}[v_ax0, v_ax1]", f"{last}[v_ax0, v_ax1 + T.int64(1 << 40)]"))


def test_a_candidate_that_crashes_the_board_is_not_kept_and_the_next_one_is_timed(tmp_path):
    path = tmp_path / "records.json"
    with device_server() as server:
        board = platform(server=server.address)
        (function,) = fused_functions(MODEL, board.runtime.target)
        (good,) = next(MetaScheduleSearch(function.function, board.runtime.target, trials=1, seed=0).batches())
        crash = crashing(function.function)
        checked = CheckedLibrary(function.library(crash, board.runtime.target), function.example())
        with open_device(board) as device, pytest.raises(KernelCrashed), device.load_library(checked, "crash"):
            pytest.fail("it did not crash")
        search = Scripted(Candidate(crash, [[], []]), good)
        (result,) = tune(MODEL, board, path, trials=2, make_search=search)
    crashed_ns, good_ns = search.told
    assert crashed_ns is None
    assert result.kernel.best_ns == good_ns > 0
    assert result.kernel.wrong == 1
    records = Records.read(path)
    assert (records.platform, records.tier, records.kernels) == ("test-board", "device", (result.kernel,))
