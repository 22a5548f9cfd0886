"""Files of a user's: which there are, that none leads out of its folder, and the hash of what they hold. jax-free."""

import functools
import hashlib
import os
from pathlib import Path

from pipelines.core.errors import CheckFailed, InputMissing

SUFFIXES = (".npy", ".npz", ".hdf5", ".h5", ".json", ".yaml", ".yml", ".zip_pkl", ".pkl")  # what readers read
CHUNK = 1 << 22


def find(source: str) -> Path:
    """The folder or file. Raises InputMissing."""
    path = Path(source).expanduser()
    if not path.exists():
        raise InputMissing(f"there is no {source}", "give the folder or the file that holds the logs")
    return path


def inside(root: Path, path: Path) -> Path:
    """`path` with links resolved. Raises CheckFailed unless it lies in `root`."""
    real = path.resolve()
    if not real.is_relative_to(root.resolve()):
        raise CheckFailed(
            f"{path} leads out of {root}, to {real}", "copy it into the folder, or import the folder above"
        )
    return real


def files(source: Path) -> list[Path]:
    """The files of a folder that a reader may read, sorted; of a file, itself. Raises CheckFailed for a link that leads
    out of the folder."""
    if source.is_file():
        return [source]
    found: list[Path] = []
    for folder, folders, names in os.walk(source):
        for name in sorted((*folders, *names)):
            path = Path(folder, name)
            if path.is_symlink():
                inside(source, path)
            if path.suffix in SUFFIXES and path.is_file() and not name.startswith("."):
                found.append(path)
    return sorted(found)


def fingerprint(source: str) -> str:
    """The sha256 of what a source holds, wherever it lies; "" if it is not there."""
    path = Path(source).expanduser()
    if not path.exists():
        return ""
    stats = [(one, one.stat()) for one in files(path)]
    rows = tuple((one, stat.st_size, stat.st_mtime_ns, stat.st_ino) for one, stat in stats)
    return _fingerprint(path, rows)


@functools.cache
def _fingerprint(source: Path, rows: tuple[tuple[Path, int, int, int], ...]) -> str:
    """Sizes and times are here for the cache: a config is validated several times."""
    total = hashlib.sha256()
    for path, *_ in rows:
        name = "" if path == source else path.relative_to(source).as_posix()
        total.update(f"{name}\0{_sha256(path)}\0".encode())
    return total.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
