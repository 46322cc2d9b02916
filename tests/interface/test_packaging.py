import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a wheel built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_carries_platforms_data_and_weights(contents: set[str]) -> None:
    assert {f"netadapt/platforms/{path.name}" for path in (ROOT / "platforms").glob("*.toml")} <= contents
    assert "netadapt/platforms/ort-local.toml" in contents
    assert "netadapt/train/data/fashion-mnist-mini.npz" in contents
    weights = "netadapt/zoo/weights/mobilenet_v1-0.5-32-fashion-mnist"
    assert {f"{weights}.safetensors", f"{weights}.md", "netadapt/py.typed"} <= contents


def test_the_wheel_carries_nothing_else(contents: set[str]) -> None:
    folders = {name.split("/")[0] for name in contents}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == {"netadapt"}


def test_no_text_advises_to_install_from_an_index_that_does_not_have_it() -> None:
    advising = [
        path
        for folder in ("netadapt", "docs")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in (".py", ".md") and re.search(r"pip install '?netadapt\b", path.read_text())
    ]
    assert advising == []
    assert "pip install netadapt" not in (ROOT / "README.md").read_text()


def test_what_the_readme_says_to_type_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    tox = (ROOT / "tox.ini").read_text()
    assert "pip install tox && tox -e demo" in readme
    assert "pip install tox && tox\n" in readme
    assert "[testenv:demo]" in tox
    assert "env_list = lint, tests" in tox
