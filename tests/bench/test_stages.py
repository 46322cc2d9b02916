"""Work that is done once."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.stages import Workshop


def test_a_stage_is_done_once(tmp_path: Path) -> None:
    calls = []

    def work(folder: Path) -> dict[str, float]:
        calls.append(folder)
        (folder / "weights").write_text("w")
        return {"accuracy": 0.1 + 0.2}

    first = Workshop(tmp_path).stage("trained", seed=0, lr=0.1).do(work)
    again = Workshop(tmp_path).stage("trained", lr=0.1, seed=0)
    assert again.do(work) == first == {"accuracy": 0.1 + 0.2}
    assert len(calls) == 1
    assert (again.folder / "weights").read_text() == "w"


def test_another_key_is_another_stage(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    folders = {workshop.stage(name, seed=seed).folder for name in ("a", "b") for seed in (0, 1)}
    assert len(folders) == 4


def test_a_stage_that_was_stopped_is_done_again(tmp_path: Path) -> None:
    stage = Workshop(tmp_path).stage("trained", seed=0)

    def stopped(folder: Path) -> dict[str, int]:
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.do(stopped)
    assert stage.found is None
    assert stage.do(lambda folder: {"there": int((folder / "half").exists())}) == {"there": 1}
