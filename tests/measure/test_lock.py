from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time

import pytest

from netadapt.errors import MeasurementError
from netadapt.measure.lock import Holder, MeasuringLock, machine_lock_path

SPAWN = multiprocessing.get_context("spawn")


def hold(path, taken):
    with MeasuringLock(path).held():
        taken.set()
        time.sleep(60)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    path, taken = tmp_path / "lock", SPAWN.Event()
    process = SPAWN.Process(target=hold, args=(path, taken))
    process.start()
    assert taken.wait(20)
    yield path, process
    process.kill()
    process.join()


def test_waits_for_another_process_and_says_which(holder):
    path, process = holder
    waits = []

    def on_wait(text):
        waits.append(text)
        # Killed, not ended: the system has to free the lock.
        os.kill(process.pid, signal.SIGKILL)

    with MeasuringLock(path, on_wait).held():
        assert not process.is_alive()
    assert len(waits) == 1
    assert re.fullmatch(rf"process {process.pid} \(.+\), which began \d+ s ago", waits[0])


def test_a_holder_is_described_with_a_readable_time_and_a_sign_that_its_command_was_cut(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/usr/bin/netadapt", "adapt", *["word"] * 30])
    text = str(Holder.this_process(time.time() - 25 * 60))
    assert re.fullmatch(rf"process {os.getpid()} \(netadapt adapt word .* \.\.\.\), which began 25 min ago", text)


def test_says_it_anew_while_it_waits(holder, monkeypatch):
    path, process = holder
    monkeypatch.setattr("netadapt.measure.lock._NOTICE_S", 0.05)
    waits = []

    def on_wait(text):
        waits.append(text)
        if len(waits) == 3:
            os.kill(process.pid, signal.SIGKILL)

    with MeasuringLock(path, on_wait).held():
        assert len(waits) == 3


def wait_and_take(path, waiting, taken):
    with MeasuringLock(path, lambda text: waiting.set()).held():
        taken.set()
        time.sleep(0.2)


def test_who_waits_is_next(tmp_path):
    lock, waiting, taken = MeasuringLock(tmp_path / "lock"), SPAWN.Event(), SPAWN.Event()
    other = SPAWN.Process(target=wait_and_take, args=(tmp_path / "lock", waiting, taken))
    with lock.held():
        other.start()
        assert waiting.wait(20)
    # At once, and while the other one only looks every 20 ms.
    with lock.held():
        assert taken.is_set()
    other.join()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"[1]", b'{"pid": "x"}', b'{"pid": 1e999}', b"[" * 4096, b"\xff" * 10]
)
def test_a_lock_file_with_other_content(tmp_path, content):
    assert Holder.read(content) is None
    path = tmp_path / "lock"
    path.write_bytes(content)
    with MeasuringLock(path).held():
        holder = Holder.read(path.read_bytes())
    assert holder.pid == os.getpid()


def test_the_lock_is_in_a_folder_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert machine_lock_path().parent == tmp_path / "netadapt"
    with MeasuringLock(machine_lock_path()).held():
        assert machine_lock_path().stat().st_mode & 0o077 == 0


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with (
        pytest.raises(MeasurementError, match="cannot open the measuring lock"),
        MeasuringLock(tmp_path / "lock").held(),
    ):
        pass
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_free_lock_is_not_waited_for(tmp_path):
    with MeasuringLock(tmp_path / "lock", lambda text: pytest.fail("waited")).held():
        pass


def test_the_holder_may_take_it_again(tmp_path):
    lock = MeasuringLock(tmp_path / "lock", lambda text: pytest.fail("waited"))
    with lock.held():
        with lock.held():
            pass
        with pytest.raises(ValueError, match="inside"), lock.held():
            raise ValueError("inside")
    with lock.held():
        pass


def test_is_free_again_after_an_error(tmp_path):
    with pytest.raises(ValueError, match="inside"), MeasuringLock(tmp_path / "lock").held():
        raise ValueError("inside")
    with MeasuringLock(tmp_path / "lock", lambda text: pytest.fail("waited")).held():
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(MeasurementError, match=r"cannot open the measuring lock .*XDG_STATE_HOME"),
        MeasuringLock(tmp_path / "file" / "lock").held(),
    ):
        pass
