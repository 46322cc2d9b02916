from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest

from netadapt.errors import MeasurementError
from netadapt.measure.lock import MeasuringLock

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


def test_waits_for_another_process_and_says_so_once(holder):
    path, process = holder
    waits = []

    def on_wait():
        waits.append("waiting")
        # Killed, not ended: the system has to free the lock.
        os.kill(process.pid, signal.SIGKILL)

    with MeasuringLock(path, on_wait).held():
        assert not process.is_alive()
    assert waits == ["waiting"]


def test_a_free_lock_is_not_waited_for(tmp_path):
    with MeasuringLock(tmp_path / "lock", lambda: pytest.fail("waited")).held():
        pass


def test_the_holder_may_take_it_again(tmp_path):
    lock = MeasuringLock(tmp_path / "lock", lambda: pytest.fail("waited"))
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
    with MeasuringLock(tmp_path / "lock", lambda: pytest.fail("waited")).held():
        pass


def test_a_file_that_can_only_be_read_is_good_enough(tmp_path):
    path = tmp_path / "lock"
    path.touch(0o444)
    with MeasuringLock(path).held():
        pass


def test_a_folder_that_does_not_exist(tmp_path):
    with (
        pytest.raises(MeasurementError, match=r"cannot make the measuring lock .*TMPDIR"),
        MeasuringLock(tmp_path / "absent" / "lock").held(),
    ):
        pass
