import os
import socket
from importlib import metadata

import pytest

from netadapt.errors import RunError, UnknownNameError
from netadapt.search.executors import workers as workers_module
from netadapt.search.executors.workers import LOCAL, Workers


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        (1, Workers(1)),
        ("4", Workers(4)),
        ("ray", Workers(os.cpu_count(), LOCAL)),
        ("ray:3", Workers(3, LOCAL)),
        ("ray://head.example:10001", Workers(None, "ray://head.example:10001")),
        ("ray://10.0.0.7:10001/", Workers(None, "ray://10.0.0.7:10001")),
        ("ray://[fe80::1]:10001", Workers(None, "ray://[fe80::1]:10001")),
    ],
)
def test_workers_are_processes_or_a_cluster(asked: int | str, meant: Workers) -> None:
    assert Workers.parse(asked) == meant


@pytest.mark.parametrize(
    "asked", [0, -1, "", "many", "ray:", "ray:0", "ray:x", "ray://", "ray://host", "ray://host:0", "ray://host:70000"]
)
def test_anything_else_is_refused(asked: int | str) -> None:
    with pytest.raises(UnknownNameError, match="choose one of: a number from 1 up, ray, ray://HOST:PORT, ray:NUMBER"):
        Workers.parse(asked)


def test_processes_need_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", _no_version)
    Workers(2).require()


def test_a_missing_ray_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", _no_version)
    with pytest.raises(RunError, match=r"Ray is not installed; pip install '\.\[ray\]' in a clone of netadapt"):
        Workers(2, LOCAL).require()


def _no_version(name: str) -> str:
    raise metadata.PackageNotFoundError(name)


def test_an_old_ray_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "2.9.3")
    with pytest.raises(RunError, match=r"Ray 2\.9\.3 is too old; .* brings one from 2\.60 up"):
        Workers(2, LOCAL).require()


def test_an_address_that_nobody_listens_at_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "2.60.0")
    monkeypatch.setattr(workers_module, "find_spec", lambda name: object())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # but it does not listen
        address = f"ray://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(
            RunError, match=rf"no Ray cluster can be reached at {address} \(Connection refused\); on its"
        ):
            Workers(None, address).require()


def test_a_client_without_grpc_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "2.60.0")
    monkeypatch.setattr(workers_module, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"needs grpcio; pip install '\.\[ray\]' in a clone of netadapt"):
        Workers(None, "ray://127.0.0.1:10001").require()
