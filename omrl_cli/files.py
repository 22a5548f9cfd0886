"""Files where the user wants them: looked at before the work, written whole after it."""

from collections.abc import Mapping
from pathlib import Path

from omrl_cli import console
from pipelines.core.errors import StageFailed, UsageError

SUFFIXES = {"video": (".gif", ".mp4"), "html": (".html", ".htm"), "picture": (".png",), "figure": (".png",)}


def check(files: Mapping[str, Path], force: bool) -> None:
    """`files` by the option that names them. Raises UsageError for a name that is not of its kind, a file that is there
    already (unless `force`), a folder that is not."""
    for kind, path in files.items():
        if path.suffix not in SUFFIXES[kind]:
            raise UsageError(f"--{kind} {path}", f"its name must end in {' or '.join(SUFFIXES[kind])}")
        if path.exists() and not force:
            raise UsageError(f"{path} exists", "--force overwrites it")
        if not path.absolute().parent.is_dir():
            raise UsageError(f"there is no folder {path.parent}", f"mkdir -p {path.parent}")


def write(path: Path, content: bytes, command: str) -> None:
    """By rename: whole, or what was there before. Raises StageFailed."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StageFailed(f"cannot write {path}: {error.strerror}", "name another place") from error
    console.talk(f"{command}: wrote {path} ({console.size(len(content))})")


def existing(path: Path) -> Path:
    """The nearest folder above (or at) `path` that exists; a file, where one is in the way."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())
