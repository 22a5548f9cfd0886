"""Formats of plain files: BOReL's folders, .npz, FOCAL's episodes, MBML's buffers, and what a mapping says.

borel: `seed_<S>_goal_<g...>/{obs,actions,rewards,next_obs,terminals}.npy`, each [N, dim]. The goal is in the folder's
name. `terminals` says that the agent is in the goal and ends nothing; discrete actions are one-hot.
focal: `goal_idx<i>/trj_evalsample<n>_step<k>.npy`, one episode each: objects, [obs, action, reward, next_obs] a row.
mbml: `goal_<i>.zip_pkl`, a gzip pickle of a list of (obs, next_obs, action, reward, done).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from pipelines.core.errors import CheckFailed, InputMissing, UsageError
from pipelines.core.sources import inside
from pipelines.formats.hdf5 import dataset
from pipelines.formats.numpys import load_gzip_pickle, load_npy, load_npz
from pipelines.formats.raw import NAMES, NEEDED, Raw, Said, Source, by_number, need, raw_of, said, standard, task_table

BOREL = re.compile(r"(?:seed_(\d+)_)?goal_(-?\d[\d.eE+-]*(?:_-?\d[\d.eE+-]*)*)$")
FOCAL = re.compile(r"trj_eval(?:sample)?(\d+)_step(\d+)\.npy$")
BOREL_COLUMNS = {
    "obs": "obs",
    "action": "actions",
    "reward": "rewards",
    "next_obs": "next_obs",
    "terminal": "terminals",
}
EXTRAS = ("truncated", "episode", "outcome", "behaviour")  # what an export of ours adds, for itself


def borel_folders(source: Path) -> list[Path]:
    """The folders of tasks in `source`, or `source` itself if it is one."""
    here = (
        [path for path in source.iterdir() if path.is_dir() and BOREL.fullmatch(path.name)] if source.is_dir() else []
    )
    return sorted(here, key=lambda path: by_number(path.name)) or ([source] if BOREL.fullmatch(source.name) else [])


def borel(source: Path, allow_pickle: bool) -> Source:
    """One task per folder. Two seeds of one goal are two tasks of one goal: they are told apart by their seeds."""
    folders = borel_folders(source)
    table = task_table(source, [folder.name for folder in folders])
    tasks = []
    for index, folder in enumerate(folders):
        match = BOREL.fullmatch(folder.name)
        numbers = tuple(float(part) for part in match[2].split("_")) if match else ()
        tasks.append(
            said(folder.name, _borel_task(source, folder, allow_pickle), table[index] if table else None, numbers)
        )
    return Source("borel", tasks)


def _borel_task(source: Path, folder: Path, allow_pickle: bool, exact: bool = False) -> Any:
    def load() -> Raw:
        names = {**BOREL_COLUMNS, **({name: name for name in EXTRAS} if exact else {})}
        parts = sorted(path.name for path in folder.glob("reward_*.npy"))
        if parts and not (folder / "rewards.npy").is_file():
            hint = "write their sum, or the one that is meant, as rewards.npy; or say it in a --mapping FILE"
            raise InputMissing(f"{folder} has no rewards.npy, only {' and '.join(parts)}", hint)
        found = {
            name: load_npy(inside(source, need(folder / f"{file}.npy")), allow_pickle)
            for name, file in names.items()
            if name not in ("terminal", "next_obs", *EXTRAS) or (folder / f"{file}.npy").exists()
        }
        return raw_of(found, said_ends=exact)

    return load


def exported_borel(source: Path, folder: Path) -> Raw:
    """A folder of an export of ours, with the columns that the layout lacks."""
    return cast(Raw, _borel_task(source, folder, False, exact=True)())


def exported_npz(source: Path, path: Path) -> Raw:
    """A file of an export of ours."""
    return raw_of(standard(load_npz(inside(source, need(path))), str(path)))


def npz(source: Path, allow_pickle: bool) -> Source:
    """One task per .npz; observations, actions, rewards, terminals, ... under the names that are in use."""
    paths = [source] if source.is_file() else sorted(source.glob("*.npz"), key=lambda path: by_number(path.name))
    table = task_table(source, [path.stem for path in paths])

    def load(path: Path) -> Raw:
        root = source.parent if source.is_file() else source
        return raw_of(standard(load_npz(inside(root, path), allow_pickle), str(path)))

    return Source("npz", [_of_file(path, load, table, index) for index, path in enumerate(paths)])


def _of_file(path: Path, load: Any, table: list[dict[str, Any]], index: int) -> Said:
    return said(path.stem, lambda: load(path), table[index] if table else None)


# ---- formats that are pickles ----------------------------------------------------------------------------------------


def focal_folders(source: Path) -> list[Path]:
    """The folders of tasks."""
    found = [path for path in source.glob("goal_idx*") if path.is_dir()] if source.is_dir() else []
    return sorted(found, key=lambda path: by_number(path.name))


def focal(source: Path, allow_pickle: bool) -> Source:
    """One task per folder, its episodes in the order of training step and sample; the step is the behaviour's."""
    folders = focal_folders(source)
    table = task_table(source, [folder.name for folder in folders])

    def load(folder: Path) -> Raw:
        paths = [(match, path) for path in folder.glob("*.npy") if (match := FOCAL.fullmatch(path.name))]
        paths.sort(key=lambda one: (int(one[0][2]), int(one[0][1])))
        if not paths:
            raise InputMissing(f"{folder} has no trj_evalsample<n>_step<k>.npy", "is the copy complete?")
        parts = [(int(match[2]), _focal_episode(source, path, allow_pickle)) for match, path in paths]
        columns = [np.concatenate([episode[c] for _, episode in parts]) for c in range(4)]
        ends = np.concatenate([np.arange(len(episode[2])) == len(episode[2]) - 1 for _, episode in parts])
        steps = np.concatenate([np.full(len(episode[2]), step) for step, episode in parts])
        return Raw(
            columns[0], columns[1], columns[2], columns[3], np.zeros(len(ends), bool), ends=ends, behaviour=steps
        )

    return Source("focal", [_of_file(folder, load, table, index) for index, folder in enumerate(folders)])


def _focal_episode(source: Path, path: Path, allow_pickle: bool) -> list[np.ndarray]:
    rows = load_npy(inside(source, path), allow_pickle)
    if rows.ndim != 2 or rows.shape[1] < 4 or not len(rows):
        raise CheckFailed(
            f"{path} is {list(rows.shape)}, not rows of [obs, action, reward, next_obs]", "see docs/logs.md"
        )
    return [_stacked(rows[:, c], f"{path}: column {c}") for c in range(4)]


def _stacked(values: Any, where: str) -> np.ndarray:
    """[N] of arrays of one shape -> [N, ...] of numbers."""
    try:
        return np.stack([np.asarray(value, np.float64) for value in values])
    except (ValueError, TypeError) as error:
        raise CheckFailed(
            f"{where} does not stack: {' '.join(str(error).split())}", "rows have one shape each"
        ) from error


def mbml_files(source: Path) -> list[Path]:
    """The buffers of tasks."""
    found = [source] if source.is_file() else source.glob("goal_*.zip_pkl")
    return sorted(found, key=lambda path: by_number(path.name))


def mbml(source: Path, allow_pickle: bool) -> Source:
    """One task per buffer: (s, s', a, r, done) in order; episodes end where they are done or do not continue."""
    paths = mbml_files(source)
    table = task_table(source, [path.name.partition(".")[0] for path in paths])
    root = source.parent if source.is_file() else source

    def load(path: Path) -> Raw:
        rows = load_gzip_pickle(inside(root, path), allow_pickle)
        if (
            not isinstance(rows, list)
            or not rows
            or any(not isinstance(row, tuple | list) or len(row) != 5 for row in rows)
        ):
            raise CheckFailed(f"{path} is not a list of (s, s', a, r, done)", "see docs/logs.md")
        obs, next_obs, action, reward, done = (_stacked([row[c] for row in rows], f"{path}: {c}") for c in range(5))
        return raw_of({"obs": obs, "next_obs": next_obs, "action": action, "reward": reward, "terminal": done})

    return Source("mbml", [_of_file(path, load, table, index) for index, path in enumerate(paths)])


# ---- anything else ---------------------------------------------------------------------------------------------------


def mapping(source: Path, allow_pickle: bool, said_so: Mapping[str, Any]) -> Source:
    """What a mapping says: `columns`: {obs: "{folder}/states.npy", action: "data.hdf5#{name}/act", ...} and `tasks`: a
    list of {name, params, split, ...}, whose own `columns` come first. Raises UsageError where it says less."""
    entries = said_so.get("tasks")
    common = said_so.get("columns", {})
    unknown = sorted(said_so.keys() - {"tasks", "columns", "space", "horizon", "discount", "family"})
    if unknown or not isinstance(entries, list) or not entries or not isinstance(common, dict):
        cause = f"the mapping has {unknown[0]!r}" if unknown else "the mapping has no list of tasks"
        raise UsageError(cause, "it has `columns:` and `tasks:`; docs/logs.md shows one")
    root = source if source.is_dir() else source.parent
    tasks = []
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UsageError(
                f"task {index} of the mapping is {entry!r}", "for example {name: slow, params: {velocity: 1}}"
            )
        columns = {**common, **entry.get("columns", {})}
        strangers = sorted(columns.keys() - NAMES.keys())
        missing = [name for name in NEEDED if name not in columns]
        if strangers or missing:
            cause = f"has a column {strangers[0]!r}" if strangers else f"has no column {missing[0]!r}"
            raise UsageError(f"the mapping {cause}", f"columns: {', '.join(NAMES)}")
        words = {
            str(name): str(value) for name, value in {"index": index, **entry}.items() if not isinstance(value, dict)
        }
        tasks.append(said(words.get("name", f"task{index}"), _mapped(root, columns, words, allow_pickle), entry))
    return Source(
        "mapping",
        tasks,
        {name: said_so[name] for name in ("space", "horizon", "discount", "family") if name in said_so},
    )


def _mapped(root: Path, columns: Mapping[str, str], words: Mapping[str, str], allow_pickle: bool) -> Any:
    def load() -> Raw:
        found = {}
        for column, pattern in columns.items():
            place = str(pattern)
            for word, value in words.items():
                place = place.replace("{" + word + "}", value)
            name, _, key = place.partition("#")
            path = root / name
            inside(root, path)
            found[column] = _column(need(path), key, allow_pickle)
        return raw_of(found)

    return load


def _column(path: Path, key: str, allow_pickle: bool) -> np.ndarray:
    """The array that `file` or `file#key` names."""
    if path.suffix in (".hdf5", ".h5"):
        return dataset(path, key)
    if path.suffix == ".npz":
        arrays = load_npz(path, allow_pickle)
        if key not in arrays:
            raise InputMissing(f"{path} has no {key!r}", f"it has {', '.join(sorted(arrays))}")
        return arrays[key]
    if path.suffix == ".npy":
        return load_npy(path, allow_pickle)
    raise UsageError(f"{path} is neither .npy nor .npz nor .hdf5", "a mapping names arrays in these")
