"""Which format a source has, and why we think so."""

import re
from pathlib import Path
from typing import Any

from pipelines.core.errors import InputMissing, UsageError
from pipelines.core.sources import SUFFIXES, files
from pipelines.formats import folders, hdf5
from pipelines.formats.raw import MANIFEST, Said, Source, manifest

READERS = {
    "borel": folders.borel,
    "minari": hdf5.minari,
    "d4rl": hdf5.d4rl,
    "npz": folders.npz,
    "focal": folders.focal,
    "macaw": hdf5.macaw,
    "mbml": folders.mbml,
}
HINT = f"--format {'|'.join(READERS)}, or --mapping FILE for anything else (docs/logs.md)"


def detect(source: Path) -> tuple[str, str]:
    """(format, the reason). Raises UsageError where it is none that we know; looks at names, and into one HDF5 file."""
    if source.is_dir() and (body := manifest(source)) is not None:
        return str(body["format"]), f"{MANIFEST} says so"
    if found := folders.borel_folders(source):
        return "borel", f"{len(found)} folder(s) like {found[0].name}"
    if found := folders.focal_folders(source):
        return "focal", f"{len(found)} folder(s) like {found[0].name}"
    if found := hdf5.minari_folders(source):
        return "minari", f"{len(found)} dataset(s) with {hdf5.MINARI}"
    there = [source] if source.is_file() else sorted(path for path in source.iterdir() if path.is_file())
    suffixes = {path.suffix for path in there}
    if ".npz" in suffixes:
        return "npz", f"{sum(path.suffix == '.npz' for path in there)} .npz file(s)"
    if flat := [path for path in there if path.suffix in (".hdf5", ".h5")]:
        return _hdf5(flat[0])
    if any(re.fullmatch(r"goal_\d+\.zip_pkl", path.name) for path in there):
        return "mbml", "files like goal_00.zip_pkl"
    some = ", ".join(path.name for path in files(source)[:3]) or f"no {', '.join(SUFFIXES[:4])}, ..."
    raise UsageError(f"cannot tell the format of {source}: it holds {some}", HINT)


def _hdf5(path: Path) -> tuple[str, str]:
    names = hdf5.keys(path)
    if "terminal_obs" in names:
        return "macaw", f"{path.name} has terminal_obs"
    if {"observations", "rewards"} <= names:
        return "d4rl", f"{path.name} has observations and rewards"
    if any(name.startswith("episode_") for name in names):
        raise UsageError(f"{path} is part of a Minari dataset", "give the folder that holds its data/ folder")
    raise UsageError(f"cannot tell the format of {path}: it has {', '.join(sorted(names)[:6])}", HINT)


def read(source: Path, format: str, allow_pickle: bool = False, mapping: dict[str, Any] | None = None) -> Source:
    """The tasks of a source. Raises InputMissing where it has none, and what the readers raise."""
    files(source)  # no link leads out
    if format == "auto":
        format = "mapping" if mapping is not None else detect(source)[0]
    if format == "mapping":
        if mapping is None:
            raise UsageError("format mapping needs a mapping", "--mapping FILE; docs/logs.md shows one")
        return folders.mapping(source, allow_pickle, mapping)
    body = manifest(source) if source.is_dir() else None
    if body is not None and body["format"] == format:
        return _exported(source, body, allow_pickle)
    found = READERS[format](source, allow_pickle)
    if not found.tasks:
        raise InputMissing(f"{source} has no {format} logs", HINT)
    return found


def _exported(source: Path, body: dict[str, Any], allow_pickle: bool) -> Source:
    """An export of ours: the manifest names the tasks and says what the format cannot."""
    tasks = []
    for entry in body["tasks"]:
        path = source / str(entry["path"])
        load = {
            "borel": lambda path=path: folders.exported_borel(source, path),
            "npz": lambda path=path: folders.exported_npz(source, path),
            "minari": lambda path=path: hdf5.exported_minari(source, path),
        }[body["format"]]
        tasks.append(Said(str(entry["name"]), load, dict(entry["params"]), (), str(entry["split"]), int(entry["id"])))
    about = {
        name: body[name]
        for name in ("family", "space", "horizon", "discount", "family_code")
        if body.get(name) is not None
    }
    return Source(str(body["format"]), tasks, about, exact=True)
