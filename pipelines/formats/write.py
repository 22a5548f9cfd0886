"""Writing logs as others read them. Each layout gets an `omrl.json` beside it, which says what the layout cannot (the
family, the space, the tasks' ids and params), so that importing the export gives the same columns."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.core.errors import StageFailed, UsageError
from pipelines.formats.folders import BOREL_COLUMNS, EXTRAS
from pipelines.formats.hdf5 import MINARI, h5py
from pipelines.formats.raw import MANIFEST, Columns

LIMIT = 60  # characters of a task's name in a path


@dataclass(frozen=True)
class Exported:
    """What a log says of itself: task entries (JSON) and space, horizon, discount, family; `columns(i)` are those of
    task i in the store's layout, observations stored once."""

    tasks: Sequence[Mapping[str, Any]]
    about: Mapping[str, Any]
    columns: Callable[[int], Mapping[str, np.ndarray]]


def rows(columns: Mapping[str, np.ndarray]) -> Columns:
    """The store's columns as rows of their own: obs and next_obs are both there."""
    size = int(columns["size"])
    slot = np.arange(size) + columns["episode"][:size]
    taken = {name: columns[name][:size] for name in ("action", "reward", "terminal", *EXTRAS)}
    return {"obs": columns["obs"][slot], "next_obs": columns["obs"][slot + 1], **taken}


def slug(name: str) -> str:
    """A task's name as part of a path."""
    return "-".join("".join(c if c.isalnum() or c in "._" else " " for c in name).split())[:LIMIT] or "task"


def borel_name(index: int, task: Mapping[str, Any]) -> str:
    """`seed_<index>_goal_<params, 3 decimals>`; 0 stands for a task without params."""
    return f"seed_{index}_goal_" + ("_".join(f"{value:.3f}" for value in task["params"].values()) or "0")


def _borel(folder: Path, task: Mapping[str, Any], data: Columns, about: Mapping[str, Any]) -> None:
    folder.mkdir()
    num_actions, action = about["space"]["num_actions"], data["action"]
    if num_actions is not None:
        action = np.eye(num_actions)[action.astype(int).reshape(len(action))]
    out = {**data, "action": action}
    for column, name in BOREL_COLUMNS.items():
        values = out[column].reshape(len(action), -1)
        kind = np.uint8 if column == "terminal" or values.dtype == np.uint8 else np.float64
        np.save(folder / f"{name}.npy", values.astype(kind))
    for name in EXTRAS:
        np.save(folder / f"{name}.npy", data[name])


def _npz(path: Path, task: Mapping[str, Any], data: Columns, about: Mapping[str, Any]) -> None:
    names = {"obs": "observations", "action": "actions", "reward": "rewards", "next_obs": "next_observations"}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **{names.get(name, name): values for name, values in data.items()})


def _minari(folder: Path, task: Mapping[str, Any], data: Columns, about: Mapping[str, Any]) -> None:
    """As Minari 0.5 writes it: one dataset, a group per episode."""
    package, space = h5py(), about["space"]
    path = folder / MINARI
    path.parent.mkdir(parents=True)
    cuts = np.flatnonzero(np.diff(data["episode"])) + 1
    episodes = np.split(np.arange(len(data["reward"])), cuts)
    with package.File(path, "w", track_order=True) as file:
        for number, part in enumerate(episodes):
            group = file.create_group(f"episode_{number}")
            group.attrs.update({"id": number, "total_steps": len(part)})
            observations = np.concatenate([data["obs"][part], data["next_obs"][part[-1:]]])
            kinds = {"actions": data["action"], "rewards": data["reward"].astype(np.float64)}
            kinds |= {"terminations": data["terminal"], "truncations": data["truncated"]}
            group.create_dataset("observations", data=observations)
            for name, values in kinds.items():
                group.create_dataset(name, data=values[part])
            for name in ("outcome", "behaviour"):
                group.create_dataset(f"infos/omrl_{name}", data=data[name][part])
    body = {
        "total_episodes": len(episodes),
        "total_steps": len(data["reward"]),
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "observation_space": json.dumps(_box(space["obs_dtype"], space["obs_shape"], None, None)),
        "action_space": json.dumps(_action_space(space)),
        "dataset_id": "/".join(folder.parts[-2:]),
        "algorithm_name": str(about.get("algorithm", "")),
        "description": f"task {task['name']} of {about.get('family') or 'no family'}: {json.dumps(task['params'])}",
        "minari_version": "0.5.4",
        "dataset_size": round(path.stat().st_size / 1e6, 1),
    }
    (path.parent / "metadata.json").write_text(json.dumps(body))
    (folder.parent / "namespace_metadata.json").write_text("{}")


def _action_space(space: Mapping[str, Any]) -> dict[str, Any]:
    if space["num_actions"] is not None:
        return {"type": "Discrete", "dtype": "int64", "start": 0, "n": space["num_actions"]}
    return _box(space["action_dtype"], space["action_shape"], space["low"], space["high"])


def _box(dtype: str, shape: Sequence[int], low: Any, high: Any) -> dict[str, Any]:
    """Gymnasium's Box as Minari serialises it; without bounds, those of the dtype."""
    ends = (0, 255) if dtype == "uint8" else (-np.inf, np.inf)
    bounds = [
        np.broadcast_to(np.reshape(given, shape) if given is not None else end, shape).tolist()
        for given, end in zip((low, high), ends, strict=True)
    ]
    return {"type": "Box", "dtype": dtype, "shape": list(shape), "low": bounds[0], "high": bounds[1]}


# format -> (the path of task number i in the export, its writer)
WRITERS: dict[str, tuple[Callable[[int, Mapping[str, Any]], str], Callable[..., None]]] = {
    "borel": (borel_name, _borel),
    "minari": (lambda index, task: f"omrl/{index:04d}-{slug(task['name'])}-v0", _minari),
    "npz": (lambda index, task: f"{index:04d}-{slug(task['name'])}.npz", _npz),
}


def write(log: Exported, target: Path, format: str, force: bool) -> Iterator[str]:
    """Writes `log` to the new folder `target`, whole or not at all; gives each task's name when it is done.

    Raises UsageError for a target that is there (`force` replaces an export of ours, nothing else), StageFailed where
    the disk refuses.
    """
    check_target(target, force)
    if format == "minari":
        h5py()
    name, writer = WRITERS[format]
    part = target.with_name(f".{target.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        entries = []
        for index, task in enumerate(log.tasks):
            place = name(index, task)
            (part / place).parent.mkdir(parents=True, exist_ok=True)
            writer(part / place, task, rows(log.columns(index)), log.about)
            entries.append({"path": place, **task})
            yield str(task["name"])
        body = {"version": 1, "format": format, **log.about, "tasks": entries}
        (part / MANIFEST).write_text(json.dumps(body, indent=1) + "\n")
        if target.exists():
            shutil.rmtree(target)
        part.replace(target)
    except OSError as error:
        raise StageFailed(f"cannot write {target}: {error.strerror or error}", "name another place") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_target(target: Path, force: bool) -> None:
    """Raises UsageError unless `target` may be written."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / MANIFEST).is_file():
        raise UsageError(f"{target} exists and is no export of omrl", "name a new folder")
    if not force:
        raise UsageError(f"{target} exists", "--force overwrites it")
