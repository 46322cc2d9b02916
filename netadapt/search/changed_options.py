"""Say in the words of the command line how what a run is asked for differs from what it was asked for before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from netadapt.search.strategy import STRATEGIES

#: Fields of the configuration that change how long a run takes, not what it finds.
_FREE_TO_CHANGE = frozenset({"workers"})

_OPTIONS = {
    "network": "NETWORK",
    "data": "--data",
    "platform": "--platform",
    "budgets": "--budget",
    "selection": "--selection",
    "strategy": "--strategy",
    "pace.iterations": "--iterations",
    "pace.decay": "--decay",
    "pace.initial_reduction": "--initial-reduction",
    "short_term.steps": "--steps",
    "long_term.steps": "--long-steps",
    "short_term.options.lr": "--lr",
    "long_term.options.lr": "--long-lr",
    "short_term.options.batch_size": "--batch",
    "long_term.options.batch_size": "--batch",
    "short_term.options.precision": "--precision",
    "long_term.options.precision": "--precision",
    "device": "--device",
    "normalisation": "--mean and --std",
    "preprocessing_in_model": "--preprocessing in-model",
    "seed": "--seed",
    "fingerprint": "the platform's fingerprint (its runtime, its settings or the machine)",
}


def changed_options(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The options that differ between two configurations, such as "--iterations was 20, now 6"."""
    old, new = dict(_flat(before)), dict(_flat(now))
    names = [name for name in {**new, **old} if name not in _FREE_TO_CHANGE]
    changed = [name for name in names if old.get(name) != new.get(name)]
    # Both fine-tunes have the same batch size: it is said once.
    return list(dict.fromkeys(_change(name, old.get(name), new.get(name)) for name in changed))


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and path != "strategy":
            yield from _flat(value, f"{path}.")
        else:
            yield path, value


def _change(name: str, before: object, now: object) -> str:
    if name == "weights":
        return "the network's weights are others than before"
    if name == "correction":
        return f"--no-correction was {'not given' if before else 'given'}, now it is {'not given' if now else 'given'}"
    if name.endswith(".augmentation.flip"):
        return f"--no-flip was {'not given' if before else 'given'}, now it is {'not given' if now else 'given'}"
    return f"{_OPTIONS.get(name, name)} was {_text(name, before)}, now {_text(name, now)}"


def _text(name: str, value: object) -> str:
    if value is None:
        return "not given"
    if name == "strategy":
        return next((known for known, strategy in STRATEGIES.items() if asdict(strategy) == value), "one of your own")
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value)
