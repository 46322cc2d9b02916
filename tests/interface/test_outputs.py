import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.numpy
from typer.testing import CliRunner

from netadapt.cli import app
from netadapt.errors import OutputError
from netadapt.lut.store import Table
from netadapt.outputs import ONNX_FILE, PICTURE, REPORT, TABLE_FILE, WEIGHT_FILE, Kind, require_output

MINE = "# Notes\n\nNot to be lost.\n"
KINDS = [ONNX_FILE, WEIGHT_FILE, REPORT, PICTURE, TABLE_FILE]


def example(kind: Kind, folder: Path) -> Path:
    """A file of the kind, as small as one can be."""
    path = folder / "file"
    if kind is ONNX_FILE:
        graph = onnx.helper.make_graph([], "empty", [], [])
        path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    elif kind is WEIGHT_FILE:
        safetensors.numpy.save_file({"weight": np.zeros(1, np.float32)}, path)
    elif kind is TABLE_FILE:
        with Table.open(folder / "table.sqlite") as table:
            table.export_json(path)
    else:
        texts = {REPORT: '<meta name="generator" content="netadapt">', PICTURE: '<svg class="plot"></svg>'}
        path.write_text(texts[kind])
    return path


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_files_of_the_kind_that_is_written_are_replaced_and_no_others(kind: Kind, tmp_path: Path) -> None:
    for path in (example(kind, tmp_path), tmp_path / "new", tmp_path / "new folder" / "new"):
        require_output(path, kind)
    (tmp_path / "empty").touch()
    require_output(tmp_path / "empty", kind)
    for content in (MINE.encode(), b"{}", b"\x08", b"\xff" * 100, b"<html></html>", b"[" * 100_000):
        (tmp_path / "mine").write_bytes(content)
        with pytest.raises(OutputError, match=f"mine is there already and is no {kind.name}; remove it or choose"):
            require_output(tmp_path / "mine", kind)


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, words in {
        tmp_path: "is a folder",
        tmp_path / "pipe": "not a plain file",
        Path("/dev/null"): "plain",
    }.items():
        with pytest.raises(OutputError, match=words):
            require_output(path, ONNX_FILE)


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(MINE)
    with pytest.raises(OutputError, match="cannot be written"):
        require_output(tmp_path / "file" / "net.onnx", ONNX_FILE)
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(OutputError, match="link is not a folder that can be written to"):
        require_output(tmp_path / "link" / "net.onnx", ONNX_FILE)
    with pytest.raises(OutputError, match="File name too long"):
        require_output(tmp_path / ("x" * 300), ONNX_FILE)


@pytest.mark.parametrize(
    "command",
    [
        ["export", "mobilenet_v1:0.25@32", "--out", "FILE"],
        ["train", "mobilenet_v1:0.25@32", "--data", "fashion-mnist-mini", "--out", "FILE"],
        ["lut", "export", "FILE", "--table", "table.sqlite"],
        ["report", "SOURCE", "--out", "FILE"],
    ],
    ids=lambda command: command[0],
)
def test_commands_leave_a_file_of_something_else_alone(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.md").write_text(MINE)
    (tmp_path / "source").mkdir()
    words = [{"FILE": "notes.md", "SOURCE": "source"}.get(word, word) for word in command]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert result.stderr.startswith("netadapt: notes.md is there already and is no ")
    assert (tmp_path / "notes.md").read_text() == MINE


def test_adapt_refuses_a_folder_of_something_else_at_once(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text(MINE)
    words = ["adapt", "mobilenet_v1:0.25@32", "--data", "absent", "--budget", "macs=0.5x", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert result.stderr == (
        f"netadapt: {tmp_path} is not empty and holds no run of netadapt; choose a new or an empty folder\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["notes.md"]
