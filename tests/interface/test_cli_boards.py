"""What the command line shows of boards, emulated ones in their place."""

import json
import sys

import pytest
from typer.testing import CliRunner, Result

from netadapt.cli import EXIT_ERROR, app
from netadapt.measure.platform import list_platforms

TINY = """
import torch
from torch import nn


def make():
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    ]
    return nn.Sequential(*layers), torch.zeros(1, 3, 12, 12)
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> str:
    (tmp_path / "tiny_network.py").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "tiny_network", raising=False)
    return "tiny_network:make"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "160"})


@pytest.mark.timeout(300)
def test_layers_are_compared_on_two_runtimes_of_a_core(installation, tiny, tmp_path) -> None:
    platforms = ("-p", "sim-cortex-a72", "-p", "sim-cortex-a72-tvm")
    command = ("lut", "compare", tiny, *platforms, "--table", tmp_path / "t.sqlite")

    told = json.loads(run(*command, "--json").stdout)

    assert [layer["workload"]["op"] for layer in told["layers"]] == ["conv", "conv", "global_avg_pool", "linear"]
    assert all(layer["a_ns"] > 0 and layer["b_ns"] > 0 for layer in told["layers"])
    assert (told["whole"]["a_platform"], told["whole"]["b_platform"]) == ("sim-cortex-a72", "sim-cortex-a72-tvm")
    assert told["whole"]["tier"] == "simulated"

    shown = run(*command)
    worst = max(told["layers"], key=lambda layer: layer["b_ns"] / layer["a_ns"])
    assert f"takes {worst['b_ns'] / worst['a_ns']:.2f} times as long at worst" in shown.stdout
    for words in ("sum of layers", "whole network, measured", "tier: simulated"):
        assert words in shown.stdout


def test_layers_of_two_tiers_are_not_compared(installation, tiny, tmp_path) -> None:
    told = run("lut", "compare", tiny, "-p", "ort-local", "-p", "sim-cortex-a72-tvm", "--table", tmp_path / "t.sqlite")
    assert told.exit_code == EXIT_ERROR
    assert "different tiers" in told.stderr


def test_an_emulated_board_tells_no_time(installation, tiny) -> None:
    told = run("measure", tiny, "-p", "qemu-aarch64-tvm")
    assert told.exit_code == 0, told.output
    assert "result checked: differs from ONNX Runtime's by at most" in told.stdout
    assert "latency" not in told.stdout


@pytest.mark.parametrize("arguments", [("lut", "build"), ("lut", "accuracy"), ("lut", "show")], ids=" ".join)
def test_nothing_is_predicted_for_an_emulated_board(installation, tiny, tmp_path, arguments) -> None:
    told = run(*arguments, tiny, "-p", "qemu-aarch64-tvm", "--table", tmp_path / "t.sqlite")
    assert told.exit_code == EXIT_ERROR
    assert "qemu-aarch64-tvm" in told.stderr


@pytest.mark.parametrize("name", list_platforms())
def test_the_card_says_what_numbers_may_be_used_for(name) -> None:
    shown = run("platforms", "show", name)
    assert shown.exit_code == 0, shown.output
    card = shown.stdout.partition("card:")[2].partition("fallback:")[0]
    assert len(card.split()) > 20
    tier = json.loads(run("platforms", "show", name, "--json").stdout)["tier"]
    words = {
        "device": "(docs/add-a-phone.md)",
        "local": "says nothing about",
        "simulated": "docs/simulator.md",
        "emulated": "there is none",
    }
    assert words[tier] in " ".join(card.split())


def test_a_board_of_ones_own_is_added_and_checked(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    added = run("platforms", "add", "mine", "--like", "rpi4-tvm", "--board", "Board 5", "--server", "127.0.0.1:1")
    assert added.exit_code == 0, added.output
    assert "netadapt platforms check mine" in added.stdout
    assert "Board 5" in run("platforms", "show", "mine").stdout
    # Nobody listens there.
    checked = run("platforms", "check", "mine")
    assert checked.exit_code == 1
    assert "127.0.0.1:1" in checked.stdout
    removed = run("platforms", "remove", "mine")
    assert removed.exit_code == 0, removed.output
    assert "mine" not in run("platforms", "list").stdout


def test_what_boards_are_called_is_shown_as_it_is(tmp_path, monkeypatch) -> None:
    """Also where it looks like markup of what draws the tables."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    board = "[/] 🦥 [red]x[/red]"
    added = run("platforms", "add", "mine", "--like", "linux-ort", "--board", board, "--server", "[::1]:1")
    assert added.exit_code == 0, added.output
    assert board in run("platforms", "list").stdout
    assert board in run("platforms", "show", "mine").stdout
    assert "[::1]:1" in run("platforms", "check", "mine").stdout


def test_a_bundled_platform_is_not_removed() -> None:
    told = run("platforms", "remove", "rpi4-tvm")
    assert told.exit_code == EXIT_ERROR
    assert "rpi4-tvm comes with netadapt and stays" in told.stderr


@pytest.mark.parametrize("address", [(), ("--server", "a:1", "--tracker", "b:1")], ids=["none", "both"])
def test_a_board_needs_one_address(address) -> None:
    told = run("platforms", "add", "mine", "--like", "rpi4-tvm", "--board", "Board 5", *address)
    assert told.exit_code == EXIT_ERROR
    assert "--server" in told.output
