"""The benchmark cases there are, and what makes each of them the case it is.

A case is told from what it was by the digest of all that decides its numbers. The lock file holds the digest of every
version, so a case cannot change and keep its version: `python -m bench.registry --lock`.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import Field, ValidationError

from bench.case import Case
from bench.reference_model import reference_model
from netadapt.errors import CaseError, NetAdaptError
from netadapt.files import write_atomically
from netadapt.measure.definitions import Section, definition_error, faults_of, read_toml
from netadapt.measure.measurement import TIERS, Tier
from netadapt.measure.protocol import PROTOCOL_VERSION
from netadapt.results.schema import Profile

PROFILES: tuple[Profile, ...] = get_args(Profile)
#: The registry of this project.
CASES = Path(__file__).parent / "cases.toml"

#: By case: its version, and its digest in each profile.
Lock = Mapping[str, Mapping[str, Any]]


class Entry(Section):
    """A case as `cases.toml` has it."""

    version: int = Field(ge=1)
    title: str = Field(min_length=1)
    #: On platforms of which tiers the case makes sense; an emulated one has no clock.
    tiers: Annotated[tuple[Tier, ...], Field(strict=False)] = tuple(tier for tier in TIERS if tier != "emulated")
    smoke: dict[str, Any]
    quick: dict[str, Any]
    full: dict[str, Any]

    def parameters(self, profile: Profile) -> dict[str, Any]:
        """What the case is run with in a profile."""
        parameters: dict[str, Any] = getattr(self, profile)
        return parameters


@dataclass(frozen=True)
class Registry:
    """The cases of one `cases.toml`. Their code lies beside it, in `cases/<id>.py`."""

    path: Path
    entries: Mapping[str, Entry]

    @property
    def ids(self) -> list[str]:
        """All cases, in the order of the file."""
        return list(self.entries)

    @property
    def lock_path(self) -> Path:
        """The lock file."""
        return self.path.with_suffix(".lock")

    def entry(self, case_id: str) -> Entry:
        """What the file says about a case.

        Raises:
            CaseError: there is no such case.

        """
        if case_id not in self.entries:
            raise CaseError(f"unknown case {case_id!r}; choose one of: {', '.join(self.ids)}")
        return self.entries[case_id]

    def case(self, case_id: str, profile: Profile) -> Case:
        """A case in a profile.

        Raises:
            CaseError: there is no such case, or its code is missing.

        """
        entry = self.entry(case_id)
        return Case(case_id, entry.version, profile, entry.parameters(profile), self._digest(case_id, profile))

    def lock(self) -> dict[str, dict[str, Any]]:
        """What the lock file should say."""
        return {
            case_id: {
                "version": entry.version,
                **{profile: self.case(case_id, profile).digest for profile in PROFILES},
            }
            for case_id, entry in self.entries.items()
        }

    def _digest(self, case_id: str, profile: Profile) -> str:
        facts = {
            "id": case_id,
            "parameters": self.entries[case_id].parameters(profile),
            "protocol": PROTOCOL_VERSION,
            "reference": hashlib.sha256(reference_model()).hexdigest(),
            "sources": {name: _digest_of_code(path) for name, path in self._sources(case_id).items()},
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def _sources(self, case_id: str) -> dict[str, Path]:
        """The code of a case and all that it imports from the folder of the registry, by their path in it."""
        root = self.path.parent
        first = root / "cases" / f"{case_id}.py"
        if not first.is_file():
            raise CaseError(f"{self.path}: the code of case {case_id} is missing: {first}")
        found: dict[str, Path] = {}
        waiting = [first]
        while waiting:
            path = waiting.pop()
            name = path.relative_to(root).as_posix()
            if name not in found:
                found[name] = path
                waiting += _imported(path, root)
        return found


def load_registry(path: Path = CASES) -> Registry:
    """Read a registry.

    Raises:
        DefinitionError: the file cannot be used; all its faults are listed.

    """
    fields = read_toml(path, "registry of benchmark cases")
    entries: dict[str, Entry] = {}
    faults: list[str] = []
    for case_id, entry in fields.items():
        try:
            entries[case_id] = Entry.model_validate(entry)
        except ValidationError as error:
            faults += [f"{case_id}.{fault}" for fault in faults_of(error)]
    if faults:
        raise definition_error(path, faults)
    return Registry(path, entries)


def read_lock(registry: Registry) -> Lock:
    """What the lock file says; nothing when there is none.

    Raises:
        CaseError: it cannot be read.

    """
    try:
        lock: Lock = json.loads(registry.lock_path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CaseError(f"{registry.lock_path}: cannot be read ({error}); restore it from git") from error
    return lock


def changed_cases(registry: Registry, lock: Lock) -> list[str]:
    """Cases that are not what the lock says they are at their version."""
    return [
        case_id
        for case_id, facts in registry.lock().items()
        if case_id in lock and lock[case_id]["version"] == facts["version"] and lock[case_id] != facts
    ]


def write_lock(registry: Registry, amendable: Sequence[str] = ()) -> None:
    """Write the lock file.

    Args:
        registry: the cases.
        amendable: cases that may change and keep their version.

    Raises:
        CaseError: another case changed and kept its version, or went back to an earlier one.

    """
    lock = read_lock(registry)
    changed = [case_id for case_id in changed_cases(registry, lock) if case_id not in amendable]
    if changed:
        raise CaseError(
            f"{registry.path}: {', '.join(changed)} changed and kept the version; results before and after are not"
            " comparable, so raise it"
        )
    lower = [case_id for case_id, entry in registry.entries.items() if entry.version < _version(lock, case_id)]
    if lower:
        raise CaseError(f"{registry.path}: {', '.join(lower)} has a lower version than it had")
    content = json.dumps(registry.lock(), indent=2, sort_keys=True) + "\n"
    write_atomically(registry.lock_path, content.encode())


def _version(lock: Lock, case_id: str) -> int:
    return int(lock[case_id]["version"]) if case_id in lock else 0


def _digest_of_code(path: Path) -> str:
    """Digest of what a file says to Python: empty lines and lines of comment do not count."""
    lines = (line.rstrip() for line in path.read_text(encoding="utf-8").splitlines())
    code = "\n".join(line for line in lines if line and not line.lstrip().startswith("#"))
    return hashlib.sha256(code.encode()).hexdigest()


def _imported(path: Path, root: Path) -> Iterator[Path]:
    """Files below `root` that a file imports; `root` is a package."""
    package = [root.name, *path.relative_to(root).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            before = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*before, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            first, *rest = name.split(".")
            module = root.joinpath(*rest)
            if first == root.name:
                yield from (file for file in (module.with_suffix(".py"), module / "__init__.py") if file.is_file())


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the lock file; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m bench.registry", description=__doc__)
    parser.add_argument("--lock", action="store_true", required=True, help="write the lock file")
    parser.add_argument(
        "--amend", action="store_true", help="let a case change that no results file was made with at its version"
    )
    parser.add_argument("--registry", type=Path, default=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, default=CASES.parent.parent / "results", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    try:
        registry = load_registry(given.registry)
        write_lock(registry, _unused(registry, given.results) if given.amend else ())
    except NetAdaptError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _unused(registry: Registry, results: Path) -> list[str]:
    """Cases whose version no results file has."""
    used = set(_versions_in(results))
    return [case_id for case_id, entry in registry.entries.items() if (case_id, entry.version) not in used]


def _versions_in(results: Path) -> Iterator[tuple[str, int]]:
    for path in sorted(results.rglob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        cases = content.get("cases", []) if isinstance(content, dict) else []
        yield from ((case["id"], case["version"]) for case in cases)


if __name__ == "__main__":
    sys.exit(main())
