"""One writer per name: advisory locks that the system drops when their process dies, however it dies."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from pipelines.core.errors import StageFailed

_ATTEMPTS = 5  # some 50 ms: a writer that has the lock has by then written who it is


class LockBusyError(Exception):
    """Another process holds the lock. `pid` is None if it has not yet written which."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(f"held by process {pid}")
        self.pid = pid


@contextlib.contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[None]:
    """Holds the lock on `path`, whose folder is made if need be. Raises LockBusyError at once unless it may `wait`."""
    handle = _acquire(path, wait)
    try:
        with contextlib.suppress(OSError):  # the lock holds on a full disk too; only who has it stays unsaid
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def _acquire(path: Path, wait: bool) -> int:
    attempts = 0
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the last holder removed the folder just now
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            # Its last holder may have removed the file while this process waited: such a lock excludes nobody.
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        except BlockingIOError:
            attempts += not _only_looked_at(handle)
            pid = _pid(handle)
            if attempts == _ATTEMPTS:
                os.close(handle)
                raise LockBusyError(pid) from None
            time.sleep(0.01)
        except FileNotFoundError:
            pass
        os.close(handle)


def _only_looked_at(handle: int) -> bool:
    """Whether nobody has the lock to write: a `holder` that looks has it for an instant, and shares it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(handle, fcntl.LOCK_UN)
    return True


def _pid(handle: int) -> int | None:
    text = os.pread(handle, 32, 0)
    return int(text) if text.isdigit() else None


def holder(path: Path) -> int | None:
    """The process that holds the lock on `path` (0 if it has not said which), or None if it is free."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _pid(handle) or 0
    finally:
        os.close(handle)


@contextlib.contextmanager
def claimed(path: Path, what: str) -> Iterator[None]:
    """`locked`, for a person: raises StageFailed that names the process which is writing `what`."""
    try:
        with locked(path):
            yield
    except LockBusyError as busy:
        who = f"process {busy.pid}" if busy.pid else "another process"
        raise StageFailed(f"{what} is being written by {who}", "wait until it is done, or stop that process") from None
