import os
import threading

import pytest

from pipelines.core.errors import StageFailed
from pipelines.store.locks import LockBusyError, claimed, holder, locked


def test_one_holder_at_a_time(tmp_path):
    path = tmp_path / "work" / "lock"
    assert holder(path) is None
    with locked(path):
        assert holder(path) == os.getpid()
        with pytest.raises(LockBusyError, match=str(os.getpid())), locked(path):
            pytest.fail("two holders")
        with (
            pytest.raises(StageFailed, match=rf"log@1 is being written by process {os.getpid()}"),
            claimed(path, "log@1"),
        ):
            pytest.fail("two holders")
    assert holder(path) is None
    with locked(path):
        assert path.read_text() == str(os.getpid())


def test_a_waiter_gets_a_lock_that_counts_though_its_holder_removed_the_file(tmp_path):
    path = tmp_path / "lock"
    seen = []

    def wait():
        with locked(path, wait=True):
            seen.append(holder(path))

    waiter = threading.Thread(target=wait)
    with locked(path):
        waiter.start()
        waiter.join(timeout=0.2)
        assert waiter.is_alive()
        path.unlink()
    waiter.join(timeout=30)
    assert seen == [os.getpid()]


def test_looking_at_a_lock_keeps_nobody_from_it(tmp_path):
    path = tmp_path / "lock"
    looking = True

    def look():
        while looking:
            holder(path)

    watchers = [threading.Thread(target=look) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(200):
            with locked(path):
                assert path.read_text() == str(os.getpid())
    finally:
        looking = False
        for watcher in watchers:
            watcher.join()
