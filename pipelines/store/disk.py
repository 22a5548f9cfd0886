"""Files that survive a crash, and disks that are full."""

import contextlib
import errno
import hashlib
import os
import re
import resource
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipelines.core.errors import StageFailed

_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
# TensorStore, which writes orbax's arrays, raises ValueError and tells errno in its text only.
_FULL_TEXT = re.compile(r"os_error_code=\\?'({})\\?'".format("|".join(str(number) for number in sorted(_FULL))))


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_under(folder: Path) -> dict[str, Path]:
    """Path relative to `folder` (with forward slashes) -> path of every file below it, sorted."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def size_of(folder: Path) -> int:
    """Bytes of every file below `folder` that is still there."""
    total = 0
    for path in files_under(folder).values():
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Waits until everything below `folder` is on the disk."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def write_whole(path: Path, content: bytes) -> None:
    """Replaces `path`: a reader, or a crash, sees the old content or the new one."""
    scratch = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        scratch.write_bytes(content)
        sync(scratch)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    sync(path.parent)


def discard(path: Path, trash: Path) -> None:
    """Removes a folder at once for every reader (a rename into `trash`), then from the disk."""
    trash.mkdir(parents=True, exist_ok=True)
    gone = trash / f"{path.name}-{secrets.token_hex(4)}"
    try:
        os.rename(path, gone)
    except FileNotFoundError:
        return
    shutil.rmtree(gone, ignore_errors=True)


@contextlib.contextmanager
def room_for(needed: int, folder: Path, what: str) -> Iterator[None]:
    """Inside, `needed` bytes are written below `folder`. Raises StageFailed with both numbers when they do not fit:
    before anything is written if the numbers say so, and otherwise from whatever the writer raised (quotas show only
    then)."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if needed > _free(folder):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield
    except Exception as error:
        if isinstance(error, StageFailed) or not is_full(error):
            raise
        hint = "free space there or choose another --store; then run the command again with --resume"
        raise StageFailed(
            f"no room for {what}: it needs {needed} bytes, {_free(folder)} free at {folder}", hint
        ) from error


def _free(folder: Path) -> int:
    """Bytes that a new file below `folder` can hold: what the disk has, or the limit on a file's size if that is less.
    Orbax puts nearly all bytes of a tree into one file, so the limit counts against the whole tree."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    free = shutil.disk_usage(folder).free
    return free if limit == resource.RLIM_INFINITY else min(free, limit)


def is_full(error: BaseException | None) -> bool:
    """Whether the error, or one that it came from, is a full disk, a spent quota or a file past its limit."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if _FULL_TEXT.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
