"""HDF5: Minari's datasets, D4RL's files, MACAW's buffers. The only file that imports h5py, when it is asked for.

minari: `<dataset>/data/{main_data.hdf5, metadata.json}`; a group per episode, h + 1 observations for h steps.
d4rl: flat observations, actions, rewards, terminals, timeouts, and sometimes next_observations.
macaw: obs, actions, rewards, terminals, next_obs, terminal_obs, ...; its writer stores every trajectory backwards.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.core.errors import CheckFailed, InputMissing, UsageError
from pipelines.core.sources import inside
from pipelines.formats.raw import NAMES, Raw, Source, by_number, need, raw_of, said, standard, task_table

MINARI = Path("data", "main_data.hdf5")
DAMAGED = "copy it again from where it came"
IO = "pip install 'omrl[io]'"


def h5py() -> Any:
    """The package. Raises UsageError where it is not installed."""
    try:
        import h5py as package
    except ImportError as error:
        raise UsageError("HDF5 files need h5py, which is not installed", IO) from error
    return package


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file, for reading. Raises CheckFailed where it, or what is read from it, is damaged."""
    package = h5py()
    try:
        with package.File(path, "r") as file:
            yield file
    except (OSError, KeyError, RuntimeError) as error:
        raise CheckFailed(f"{path} is cut short or damaged: {' '.join(str(error).split())}", DAMAGED) from error


def keys(path: Path) -> set[str]:
    """The names at the top."""
    with opened(path) as file:
        return set(file)


def dataset(path: Path, key: str) -> np.ndarray:
    """One array. Raises InputMissing for a name that is not there, CheckFailed for what no array of numbers is."""
    with opened(path) as file:
        return _array(file, key, path)


def _array(group: Any, key: str, path: Path) -> np.ndarray:
    package, here = h5py(), group
    where = f"{path}: {group.name.strip('/')}/{key}".replace(": /", ": ")
    for part in [part for part in key.split("/") if part]:
        if not isinstance(here, package.Group) or part not in here.keys():  # noqa: SIM118 - an h5py group
            have = ", ".join(sorted(here)) if isinstance(here, package.Group) else "no more"
            raise InputMissing(f"{where} is missing", f"it has {have}")
        if isinstance(here.get(part, getlink=True), package.ExternalLink):
            raise CheckFailed(f"{where} is in another file, to which it links", "copy it into this one (h5repack)")
        here = here[part]
    if not isinstance(here, package.Dataset):
        raise CheckFailed(f"{where} is a group, not an array", "--mapping FILE names the array in it that is meant")
    if here.external or here.is_virtual:
        raise CheckFailed(f"{where} is in another file, to which it links", "copy it into this one (h5repack)")
    if here.dtype.kind not in "fiub":
        raise CheckFailed(f"{where} holds {here.dtype}, not numbers", "--mapping FILE names the array that is meant")
    found: np.ndarray = here[()]
    return found


def _flat(path: Path) -> dict[str, np.ndarray]:
    """The arrays at the top that go by a known name."""
    wanted = {alias for aliases in NAMES.values() for alias in aliases}
    with opened(path) as file:
        return {key: _array(file, key, path) for key in file if key in wanted}


def flat_files(source: Path) -> list[Path]:
    """The HDF5 files of a folder, or the file."""
    if source.is_file():
        return [source]
    return sorted([*source.glob("*.hdf5"), *source.glob("*.h5")], key=lambda path: by_number(path.name))


def d4rl(source: Path, allow_pickle: bool) -> Source:
    """One task per file."""
    return _files("d4rl", source, lambda path: raw_of(standard(_flat(path), str(path))))


def macaw(source: Path, allow_pickle: bool) -> Source:
    """One task per file. The rows of a trajectory share their `terminal_obs` and are put in order here."""
    return _files("macaw", source, _macaw)


def _files(format: str, source: Path, load: Any) -> Source:
    paths = flat_files(source)
    table = task_table(source, [path.stem for path in paths])
    root = source.parent if source.is_file() else source

    def reader(path: Path) -> Any:
        return lambda: load(inside(root, path))

    return Source(format, [said(path.stem, reader(path), table[i] if table else None) for i, path in enumerate(paths)])


def _macaw(path: Path) -> Raw:
    columns = standard(_flat(path), str(path))
    last = dataset(path, "terminal_obs")
    count = len(columns["obs"])
    if "next_obs" not in columns or len(last) != count or len(columns["next_obs"]) != count or count == 0:
        raise CheckFailed(f"{path}: obs, next_obs and terminal_obs have unequal lengths", DAMAGED)
    new = (last[1:] != last[:-1]).reshape(count - 1, -1).any(1)
    obs, successor = columns["obs"].reshape(count, -1), columns["next_obs"].reshape(count, -1)
    forward, backward = (successor[:-1] == obs[1:]).all(1), (obs[:-1] == successor[1:]).all(1)
    if backward.sum() > forward.sum():
        cuts = np.flatnonzero(new | ~backward) + 1
        order = np.concatenate([part[::-1] for part in np.split(np.arange(count), cuts)])
        columns = {name: values[order] for name, values in columns.items()}
        new = np.isin(np.arange(1, count), cuts)
    raw = raw_of(columns)
    return Raw(**{**raw.__dict__, "ends": np.append(new, True)})


# ---- Minari ----------------------------------------------------------------------------------------------------------


def minari_folders(source: Path) -> list[Path]:
    """The datasets below a folder: the folders that have data/main_data.hdf5."""
    if not source.is_dir():
        return []
    found = [path.parents[1] for path in source.rglob(str(MINARI))]
    return sorted(found, key=lambda path: by_number(path.relative_to(source)))


def minari(source: Path, allow_pickle: bool) -> Source:
    """One task per dataset."""
    folders = minari_folders(source)
    if not folders and source.is_dir():
        hint = "--mapping FILE reads other layouts; Minari's arrow format is not read: write it again as hdf5"
        raise InputMissing(f"{source} has no */data/main_data.hdf5", hint)
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        names = ["-".join(folder.relative_to(source).parts) for folder in folders]
    table = task_table(source, names)
    described = [_described(folder) for folder in folders]
    spaces = {json.dumps(one, sort_keys=True) for one in described if one}
    if len(spaces) > 1:
        raise CheckFailed(f"the {len(folders)} datasets in {source} have different spaces", "tasks of a log share them")

    def reader(folder: Path) -> Any:
        return lambda: _minari(inside(source, folder / MINARI))

    tasks = [said(names[i], reader(folder), table[i] if table else None) for i, folder in enumerate(folders)]
    return Source("minari", tasks, {"bounds": described[0]} if described and described[0] else {})


def exported_minari(source: Path, folder: Path) -> Raw:
    """A dataset of an export of ours."""
    return _minari(inside(source, need(folder / MINARI)))


def _described(folder: Path) -> dict[str, Any]:
    """{low, high} or {num_actions} of the metadata's action space. Raises CheckFailed for what no log can hold."""
    path = need(folder / "data" / "metadata.json")
    try:
        body = json.loads(path.read_text())
        action, obs = json.loads(body["action_space"]), json.loads(body["observation_space"])
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise CheckFailed(f"{path} is damaged: {error}", DAMAGED) from error
    for what, space in (("observation", obs), ("action", action)):
        if space.get("type") not in ("Box", "Discrete"):
            raise CheckFailed(
                f"{folder}: its {what} space is a {space.get('type')}", "--mapping FILE picks one array of it"
            )
    if obs.get("dtype") == "uint8" and len(obs.get("shape", ())) == 3 and body.get("jpeg_encoding", False):
        raise CheckFailed(f"{folder} keeps its images as JPEG", "write it with jpeg_encoding=False: JPEG loses detail")
    if action["type"] == "Discrete":
        return {"num_actions": int(action["n"]), "start": int(action.get("start", 0))}
    low, high = np.ravel(action["low"]).tolist(), np.ravel(action["high"]).tolist()
    return {"low": low, "high": high} if np.isfinite([*low, *high]).all() else {}


def _minari(path: Path) -> Raw:
    columns: dict[str, list[np.ndarray]] = {}
    with opened(path) as file:
        names = sorted((name for name in file if name.startswith("episode_")), key=by_number)
        if not names:
            raise CheckFailed(f"{path} has no episodes", DAMAGED)
        for name in names:
            for column, values in _episode(file[name], path).items():
                columns.setdefault(column, []).append(values)
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    if any(len(parts) < len(names) for parts in columns.values()):
        raise CheckFailed(f"{path}: some episodes have infos that others lack", DAMAGED)
    ends = np.concatenate([np.arange(len(part)) == len(part) - 1 for part in columns["reward"]])
    return Raw(**joined, ends=ends)


def _episode(group: Any, path: Path) -> dict[str, np.ndarray]:
    obs = _array(group, "observations", path)
    columns = {
        "action": _array(group, "actions", path),
        "reward": _array(group, "rewards", path),
        "terminal": _array(group, "terminations", path),
        "truncated": _array(group, "truncations", path),
    }
    steps = len(columns["reward"])
    lengths = {"observations": len(obs) - 1, **{name: len(values) for name, values in columns.items()}}
    if set(lengths.values()) != {steps} or steps < 1:
        said_so = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise CheckFailed(f"{path}: {group.name.strip('/')} has unequal lengths: {said_so}", DAMAGED)
    for name in ("outcome", "behaviour"):
        if "infos" in group and f"omrl_{name}" in group["infos"]:
            columns[name] = _array(group, f"infos/omrl_{name}", path)
    return {"obs": obs[:-1], "next_obs": obs[1:], **columns}
