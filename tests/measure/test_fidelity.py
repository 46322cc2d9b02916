"""Simulated beside published latencies: reading the file, and small networks for real."""

from __future__ import annotations

import math

import pytest

from netadapt.cli.models import onnx_of
from netadapt.errors import DataError, UnknownNameError
from netadapt.measure.simulator.core_file import find_core, load_core
from netadapt.measure.simulator.fidelity import Comparison, Fidelity, PublishedBoard, assess, read_published

HEADER = "board,core,mhz,dtype,mobilenet_v1"


def written(tmp_path, text):
    path = tmp_path / "boards.csv"
    path.write_text(text)
    return path


# ---- The file


def test_a_file_is_read(tmp_path):
    path = written(
        tmp_path,
        "# a remark, with a comma\n"
        "board,core,mhz,dtype,squeezenet,mobilenet_v1\n"
        "\n"
        '"Board, Model B",cortex-a72,1800,float32,60.5,100\n'
        "# another\n"
        "Other,cortex-a55,1992.0,float16,1e1, 20 \n",
    )
    assert read_published(path) == [
        PublishedBoard("Board, Model B", "cortex-a72", 1800, "float32", {"squeezenet": 60.5, "mobilenet_v1": 100.0}),
        PublishedBoard("Other", "cortex-a55", 1992, "float16", {"squeezenet": 10.0, "mobilenet_v1": 20.0}),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "needs the columns board, core, mhz, dtype and one for each network, each once; found nothing"),
        ("# only remarks\n", "found nothing"),
        ("board,core,dtype,mobilenet_v1\nB,cortex-a72,float32,1\n", "found board, core, dtype, mobilenet_v1"),
        ("board,core,mhz,dtype\nB,cortex-a72,1800,float32\n", "and one for each network"),
        (f"{HEADER}\n", "has no row"),
        (f"{HEADER}\nB,cortex-a72,1800,float32\n", "line 2: has 4 fields, the first line 5"),
        (f"{HEADER}\nB,cortex-a72,1800,float32,1,2\n", "line 2: has 6 fields, the first line 5"),
        (f"# remark\n{HEADER}\n\nB,cortex-a72,1800,float32,fast\n", "line 4, mobilenet_v1: .*above 0 .*'fast'"),
        (f"{HEADER}\nB,cortex-a72,1800,float32,\n", "line 2, mobilenet_v1: .*above 0 .*''"),
        (f"{HEADER}\nB,cortex-a72,1800,float32,-1\n", "mobilenet_v1: .*above 0 .*'-1'"),
        (f"{HEADER}\nB,cortex-a72,1800,float32,nan\n", "mobilenet_v1: .*above 0 .*'nan'"),
        (f"{HEADER}\nB,cortex-a72,1800,float32,inf\n", "mobilenet_v1: .*above 0 .*'inf'"),
        (f"{HEADER},mobilenet_v1\nB,cortex-a72,1800,float32,1,2\n", "one for each network, each once; found board"),
        (f"{HEADER}\nB,cortex-a72,,float32,1\n", "line 2, mhz: .*above 0"),
        (f"{HEADER}\nB,cortex-a72,1800,int8,1\n", "line 2: dtype should be one of float32, float16 .*'int8'"),
        (f'{HEADER}\n"B,cortex-a72,1800,float32,1\n', "line 2: not a line of a CSV file"),
    ],
)
def test_faults_are_told_with_their_line(tmp_path, text, complaint):
    with pytest.raises(DataError, match=rf"boards\.csv.*{complaint}"):
        read_published(written(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"absent\.csv: cannot be read as text"):
        read_published(tmp_path / "absent.csv")
    path = tmp_path / "boards.csv"
    path.write_bytes(b"\xff\xfe\x00board")
    with pytest.raises(DataError, match=r"boards\.csv: cannot be read as text"):
        read_published(path)


# ---- Errors, by hand


def compared(published_ms, simulated_ms, core="cortex-a72", board="B", dtype="float32"):
    return Comparison(board, core, core, dtype, "net", published_ms, simulated_ms, ())


def test_mean_absolute_errors_by_hand():
    result = Fidelity(
        (
            compared(100, 110),
            compared(100, 70),
            compared(50, 50, "cortex-a53", "C"),
            compared(10, 30, "cortex-a55", dtype="float16"),
        )
    )
    assert [entry.error for entry in result.comparisons] == pytest.approx([0.1, -0.3, 0, 2])
    # float16 is not what the figures are about.
    assert result.mean_absolute_error() == pytest.approx(0.4 / 3)
    assert result.mean_absolute_error(core="cortex-a72") == pytest.approx(0.2)
    assert result.mean_absolute_error(board="C") == 0
    assert result.mean_absolute_error("float16") == pytest.approx(2)
    assert math.isnan(result.mean_absolute_error(core="cortex-a55"))
    assert result.cores == ["cortex-a53", "cortex-a72"]


# ---- Core files of boards


def test_the_core_file_of_a_board_goes_before_that_of_its_core():
    for core, board in (("cortex-a72", "Raspberry Pi 4 Model B"), ("cortex-a53", "Raspberry Pi 3 Model B+")):
        found = find_core(core, board, 1000)
        assert board in found.boards
        assert found.name.startswith(f"{core}-")
        assert found.mhz == 1000
    assert find_core("cortex-a72", "some other board", 1000).name == "cortex-a72"
    with pytest.raises(UnknownNameError, match="unknown core 'cortex-a78'"):
        find_core("cortex-a78", "some board", 1000)


def test_another_clock_leaves_memory_as_fast_as_it_is():
    slow, fast = load_core("cortex-a72", 1000), load_core("cortex-a72", 2000)
    assert fast.dram_latency_cycles == pytest.approx(2 * slow.dram_latency_cycles, abs=1)
    assert fast.caches == slow.caches


# ---- For real

FACTORY = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    ), torch.zeros(1, 3, 32, 32)
"""


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("installation")
def test_a_small_network_on_boards(tmp_path, monkeypatch):
    pytest.importorskip("ncnn", reason="ncnn is not installed")
    pytest.importorskip("pnnx", reason="pnnx is not installed")
    (tmp_path / "fidelity_nets.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    own = "fidelity_nets:make"
    path = written(
        tmp_path,
        f"board,core,mhz,dtype,{own}\n"
        "Raspberry Pi 4 Model B,cortex-a72,1800,float32,0.1\n"
        "Raspberry Pi 4 Model B,cortex-a72,600,float32,0.3\n"
        "Some phone,cortex-a55,1800,float32,0.1\n"
        "Some phone,cortex-a55,1800,float16,0.1\n",
    )
    told = []
    result = assess(
        read_published(path),
        lambda network: onnx_of(network, None, None, None),
        lambda done, total: told.append((done, total)),
    )
    assert told == [(count, 4) for count in range(1, 5)]
    fast, slow, phone, half = result.comparisons
    pi = load_core("cortex-a72-rpi4")
    assert (fast.model, fast.fitted, phone.model) == (pi.name, pi.fitted, "cortex-a55")
    # A third of the clock takes three times as long, less what waits for memory.
    assert 1.5 * fast.simulated_ms < slow.simulated_ms <= 3.05 * fast.simulated_ms
    assert (half.dtype, half.network) == ("float16", own)
    # Half the bytes and twice the lanes, but converting what comes in and goes out costs something, too.
    assert 0.3 < half.simulated_ms / phone.simulated_ms < 1.2
    assert half.simulated_ms != phone.simulated_ms
    assert result.cores == ["cortex-a55", "cortex-a72"]
