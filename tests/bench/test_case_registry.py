from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import registry as registry_module
from bench.registry import changed_cases, load_registry, main, read_lock
from netadapt.errors import CaseError, DefinitionError

SUITE = """
[alpha]
version = 2
title = "A case"

[alpha.smoke]
images = 1

[alpha.quick]
images = 10
widths = [0.5, 1.0]

[alpha.full]
images = 100
"""


@pytest.fixture
def folder(tmp_path):
    """A package of cases: alpha imports a helper, and through it another; nobody imports the bystander."""
    root = tmp_path / "own_cases"
    (root / "cases").mkdir(parents=True)
    (root / "cases.toml").write_text(SUITE)
    (root / "cases" / "alpha.py").write_text("from own_cases import helper\n\n\ndef run(bench):\n    helper.help()\n")
    (root / "helper.py").write_text("from .deep.inner import VALUE\n\n\ndef help():\n    return VALUE\n")
    (root / "deep").mkdir()
    (root / "deep" / "inner.py").write_text("VALUE = 1\n")
    (root / "bystander.py").write_text("VALUE = 1\n")
    return root


def digest(folder, profile="quick"):
    return load_registry(folder / "cases.toml").case("alpha", profile).digest


def lock(folder, *options, results=None):
    where = [f"--registry={folder / 'cases.toml'}", f"--results={results or folder / 'no-results'}"]
    return main(["--lock", *options, *where])


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


class TestOurs:
    def test_lock_is_up_to_date(self):
        """Raise the version of a case that changed, then: python -m bench.registry --lock."""
        registry = load_registry()

        assert not changed_cases(registry, read_lock(registry))
        assert read_lock(registry) == registry.lock()

    def test_issue_names_these_cases(self):
        assert set(load_registry().ids) == {
            "lut_accuracy",
            "proposal_latency",
            "end_to_end_speedup",
            "ablations",
            "search_cost",
            "speedup_vs_exhaustive",
            "simulator_fidelity",
            "determinism",
        }


class TestCase:
    def test_has_the_parameters_of_its_profile(self, folder):
        case = load_registry(folder / "cases.toml").case("alpha", "quick")

        assert (case.id, case.version, case.profile) == ("alpha", 2, "quick")
        assert case.parameters == {"images": 10, "widths": [0.5, 1.0]}
        assert len(case.digest) == 16

    def test_unknown_one_tells_the_known(self, folder):
        with pytest.raises(CaseError, match="unknown case 'beta'; choose one of: alpha"):
            load_registry(folder / "cases.toml").case("beta", "quick")

    def test_without_code_is_told(self, folder):
        (folder / "cases" / "alpha.py").unlink()
        with pytest.raises(CaseError, match="code of case alpha is missing"):
            digest(folder)

    def test_faults_of_the_file_are_told_together(self, folder):
        (folder / "cases.toml").write_text(SUITE.replace("version = 2", "version = 0") + "color = 1\n[alpha.later]\n")
        with pytest.raises(DefinitionError, match=r"(?s)2 faults.*alpha\.version.*alpha\.later"):
            load_registry(folder / "cases.toml")


class TestDigest:
    def test_knows_its_profile(self, folder):
        assert digest(folder, "quick") != digest(folder, "full")

    @pytest.mark.parametrize(
        ("file", "old", "new"),
        [
            ("cases.toml", "images = 10\n", "images = 11\n"),
            ("cases/alpha.py", "helper.help()", "helper.help() or None"),
            ("helper.py", "return VALUE", "return -VALUE"),
            ("deep/inner.py", "VALUE = 1", "VALUE = 2"),
        ],
    )
    def test_changes_with_what_decides_the_numbers(self, folder, file, old, new):
        before = digest(folder)
        change(folder / file, old, new)
        assert digest(folder) != before

    @pytest.mark.parametrize(
        ("file", "old", "new"),
        [
            ("cases.toml", "images = 100", "images = 200"),
            ("cases.toml", "A case", "The case"),
            ("cases.toml", "version = 2", "version = 3"),
            ("cases/alpha.py", "\n\n\ndef", "\n# why\n\n\n\ndef"),
            ("bystander.py", "VALUE = 1", "VALUE = 2"),
        ],
    )
    def test_stays_with_everything_else(self, folder, file, old, new):
        before = digest(folder)
        change(folder / file, old, new)
        assert digest(folder) == before

    def test_changes_with_protocol_and_reference_model(self, folder, monkeypatch):
        digests = {digest(folder)}
        monkeypatch.setattr(registry_module, "PROTOCOL_VERSION", 99)
        digests.add(digest(folder))
        monkeypatch.setattr(registry_module, "reference_model", lambda: b"another")
        digests.add(digest(folder))
        assert len(digests) == 3


class TestLock:
    def test_case_that_changed_must_get_a_new_version(self, folder, capsys):
        assert lock(folder) == 0
        change(folder / "helper.py", "return VALUE", "return -VALUE")
        registry = load_registry(folder / "cases.toml")

        assert changed_cases(registry, read_lock(registry)) == ["alpha"]
        assert lock(folder) == 2
        assert "alpha changed and kept the version" in capsys.readouterr().err

        change(folder / "cases.toml", "version = 2", "version = 3")
        assert lock(folder) == 0
        registry = load_registry(folder / "cases.toml")
        assert read_lock(registry) == registry.lock()

    def test_version_does_not_go_back(self, folder, capsys):
        lock(folder)
        change(folder / "cases.toml", "version = 2", "version = 1")
        assert lock(folder) == 2
        assert "lower version" in capsys.readouterr().err

    def test_amends_only_what_no_results_were_made_with(self, folder, tmp_path, capsys):
        lock(folder)
        change(folder / "helper.py", "return VALUE", "return -VALUE")
        results = tmp_path / "results" / "ort-local"
        results.mkdir(parents=True)
        run = results / "2026-01-01-abc.json"
        run.write_text(json.dumps({"cases": [{"id": "alpha", "version": 2}]}))

        assert lock(folder, "--amend", results=tmp_path / "results") == 2
        assert "kept the version" in capsys.readouterr().err
        run.write_text(json.dumps({"cases": [{"id": "alpha", "version": 1}]}))
        assert lock(folder, "--amend", results=tmp_path / "results") == 0

    def test_damaged_one_is_told(self, folder, capsys):
        (folder / "cases.lock").write_text("{")
        assert lock(folder) == 2
        assert "restore it from git" in capsys.readouterr().err

    def test_is_a_command(self, folder):
        command = [sys.executable, "-m", "bench.registry", "--lock", f"--registry={folder / 'cases.toml'}"]
        subprocess.run(command, cwd=Path(registry_module.__file__).parent.parent, check=True, timeout=60)
        assert (folder / "cases.lock").is_file()
