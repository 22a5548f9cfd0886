"""Names of families that are not ours: `path/to/file.py:NAME`, and the entry points of installed packages. jax-free."""

import functools
import hashlib
import importlib.metadata
from pathlib import Path

from pipelines.core.configs.base import nearest
from pipelines.core.errors import InputMissing, UsageError
from pipelines.core.families import FAMILIES, entry_of, parse

GROUP = "omrl.families"  # of entry points


def file_of(name: str) -> tuple[Path, str] | None:
    """`path/to/file.py:NAME` -> (path, NAME); None for any other name."""
    path, colon, attribute = name.rpartition(":")
    return (Path(path).expanduser(), attribute) if colon and path.endswith(".py") else None


@functools.cache
def entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    """The families that installed packages offer, by name. Nothing of theirs is imported."""
    return {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}


def fingerprint(name: str) -> str | None:
    """What the code behind a name is: the sha256 of the user's file, a package's version; None for our own families
    (the code of omrl is on every card) and for a file that is not there."""
    if found := file_of(name):
        path, _ = found
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    if (point := entry_points().get(name)) and point.dist is not None:
        return f"{point.dist.name} {point.dist.version}"
    return None


def on_card(name: str) -> dict[str, str]:
    """What a card says of the code behind a family that is not ours."""
    code = fingerprint(name)
    return {} if code is None else {"family_code": code}


def refuse_unknown(name: str) -> None:
    """Raises UsageError with the nearest name, option or value for a family that nobody offers, InputMissing for a file
    that is not there. Builds and imports nothing."""
    if not name:  # on the card of what was made from an imported log
        hint = "import the log again with --family NAME, or play it with `omrl rollout --policy ... --family NAME`"
        raise UsageError("this was learned from an imported log without a family: there is nothing to play it on", hint)
    if entry_of(name) is not None:
        parse(name)
    elif found := file_of(name):
        path, _ = found
        if not path.is_file():
            raise InputMissing(f"there is no file {path}", "a family is path/to/file.py:NAME, as seen from this folder")
    elif name not in entry_points():
        raise UsageError(f"unknown family {name!r}", nearest(name, [*FAMILIES, *entry_points()], "families"))
