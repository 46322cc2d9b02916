import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
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


def test_what_is_imported_is_asked_for() -> None:
    """Not only by the extra with which tests run."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [wanted for name, wanted in project["optional-dependencies"].items() if name != "test"]
    wanted = [requirement for group in [project["dependencies"], *extras] for requirement in group]
    asked_for = {_normal(re.split(r"[^A-Za-z0-9._-]", requirement)[0]) for requirement in wanted}
    offering = packages_distributions()
    for name, file in sorted(_imports()):
        assert {_normal(distribution) for distribution in offering.get(name, [name])} & asked_for, f"{name} of {file}"


def _imports() -> set[tuple[str, str]]:
    """Packages of others that the modules import, each with one of the modules."""
    found: dict[str, str] = {}
    for path in (ROOT / "netadapt").rglob("*.py"):
        if "in_guest" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found |= {name.split(".")[0]: str(path.relative_to(ROOT)) for name in names}
    return {(name, file) for name, file in found.items() if name not in {*sys.stdlib_module_names, "netadapt"}}


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_what_the_readme_says_to_type_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    tox = (ROOT / "tox.ini").read_text()
    assert "pip install tox && tox -e demo" in readme
    assert "pip install tox && tox\n" in readme
    assert "[testenv:demo]" in tox
    assert "env_list = lint, tests" in tox
