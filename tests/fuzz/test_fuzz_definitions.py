"""Damaged definitions: platforms, cores and their tables of forms."""

from __future__ import annotations

import random
import shutil
import tomllib
from pathlib import Path

import pytest
from fuzzing import Fuzz, must_refuse
from mutations import mutated_bytes, mutated_text

from netadapt.measure.platform import load_platform, platform_folders
from netadapt.measure.simulator.core_file import load_core


def _bundled(name: str) -> Path:
    folder = next(folder for folder in platform_folders() if (folder / "cores").is_dir())
    return folder / f"{name}.toml"


def _damaged(good: str, generator: random.Random) -> bytes:
    if generator.random() < 0.8:
        return mutated_text(good, generator).encode(errors="surrogatepass")
    return mutated_bytes(good.encode(), generator)


def test_platforms(fuzz: Fuzz) -> None:
    goods = [path.read_text() for path in _bundled("ort-local").parent.glob("*.toml")]

    def read(generator: random.Random, folder: Path) -> None:
        path = folder / "own.toml"
        path.write_bytes(_damaged(generator.choice(goods), generator))
        load_platform(path)

    fuzz(read, quick=150, full=10_000)


def test_cores(fuzz: Fuzz) -> None:
    cores = _bundled("cores/cortex-a53").parent
    good = (cores / "cortex-a53.toml").read_text()
    table = Path(tomllib.loads(good)["forms"])

    def read(generator: random.Random, folder: Path) -> None:
        (folder / table.parent).mkdir(parents=True, exist_ok=True)
        for name in {table.name, "common.toml"}:
            shutil.copyfile(cores / table.parent / name, folder / table.parent / name)
        path = folder / "own.toml"
        path.write_text(good)
        damaged = generator.choice((path, path, path, folder / table))
        damaged.write_bytes(_damaged(damaged.read_text(), generator))
        load_core(path)

    fuzz(read, quick=15, full=1500)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = " + "[" * 500, "not a TOML file"),
        ("x = " + "[" * 5000, "nested too deeply"),
        ("x = " + "[" * 40 + "]" * 40, "nested more than 32 levels deep"),
        ("x = " + "{a=" * 300 + "1" + "}" * 300, "nested more than 32 levels deep|nested too deeply"),
        ("x = " + "9" * 4301, "Exceeds the limit"),
        ("x = 0x" + "f" * 5000, "integer of more than 64 bits"),
        ("x = 9223372036854775808", "integer of more than 64 bits"),
        (".".join("a" * 20_000) + " = 1", "a key of more than 32 parts"),
        ("[" + ".".join("a" * 20_000) + "]", "a key of more than 32 parts"),
        ("x = {" + " . ".join(["'a'"] * 40) + " = 1}", "a key of more than 32 parts"),
        ("a" * 900_000, "not a TOML file"),
        ('"' * 900_000, "not a TOML file"),
        ("x = 1\n" * 200_000, "larger than 1,048,576 bytes"),
        ("x = 9999-99-99", "not a TOML file"),
        ("\0", "not a TOML file"),
        ('core = "\\u0000"\n"\\u001b[2J" = 1', r"'\\x1b\[2J'"),
    ],
    ids=lambda value: value[:12],
)
def test_hostile_texts(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)
    for read in (load_platform, load_core):
        message = must_refuse(lambda read=read: read(path))
        assert str(path) in message
        assert "\x1b" not in message
    with pytest.raises(Exception, match=complaint):
        load_platform(path)


def test_hostile_references(tmp_path: Path) -> None:
    good = _bundled("cores/cortex-a53").read_text()
    path = tmp_path / "own.toml"
    for name in ("\\u0000", "x" * 5000, "../" * 2000, "/dev/zero", "own", ""):
        for field in ("extends", "forms"):
            path.write_text(f'{field} = "{name}"\n' + good.replace("forms =", "other ="))
            must_refuse(lambda: load_core(path))
    must_refuse(lambda: load_platform("x" * 5000))
    must_refuse(lambda: load_core("x" * 5000))
