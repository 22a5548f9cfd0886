"""What every reader gives, and the names that columns go by."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipelines.core.errors import CheckFailed, InputMissing
from pipelines.core.sources import inside

Columns = dict[str, np.ndarray]

MANIFEST = "omrl.json"  # what an export of ours says of itself
TASKS = ("tasks.json", "tasks.yaml", "tasks.yml")

NAMES = {
    "obs": ("obs", "observations", "observation", "states", "state"),
    "action": ("action", "actions", "acts"),
    "reward": ("reward", "rewards", "rews"),
    "next_obs": ("next_obs", "next_observations", "next_observation", "next_states", "next_state"),
    "terminal": ("terminal", "terminals", "terminations", "done", "dones"),
    "truncated": ("truncated", "timeouts", "truncations", "timeout"),
    "mask": ("masks", "mask"),
    "episode": ("episode", "episodes", "episode_id"),
    "outcome": ("outcome",),
    "behaviour": ("behaviour",),
}
NEEDED = ("obs", "action", "reward")


@dataclass(frozen=True)
class Raw:
    """One task's rows as the source has them, N rows in order. None: the source does not say.

    `ends` marks the last row of every episode. Rows may follow a terminal only where it does not end the episode.
    """

    obs: np.ndarray  # [N, O]
    action: np.ndarray  # [N, A] or [N]
    reward: np.ndarray  # [N] or [N, 1]
    next_obs: np.ndarray | None = None  # [N, O]
    terminal: np.ndarray | None = None  # [N] bool
    truncated: np.ndarray | None = None  # [N] bool
    ends: np.ndarray | None = None  # [N] bool
    outcome: np.ndarray | None = None  # [N, F]
    behaviour: np.ndarray | None = None  # [N]


@dataclass(frozen=True)
class Said:
    """One task of a source: what is known of it before its rows are read."""

    name: str
    load: Callable[[], Raw]
    params: dict[str, float] = field(default_factory=dict)
    numbers: tuple[float, ...] = ()  # parameters without names, as in a folder's name
    split: str = "train"
    id: int | None = None


@dataclass(frozen=True)
class Source:
    """A source as its reader understands it. `about` may hold family, space (JSON), horizon, discount, outcome (names);
    `exact`: an export of ours, whose columns are taken as they are."""

    format: str
    tasks: list[Said]
    about: dict[str, Any] = field(default_factory=dict)
    exact: bool = False


def standard(found: Mapping[str, Any], where: str) -> Columns:
    """Columns under our names. Raises CheckFailed for one that is missing, or that is there under two names."""
    out: Columns = {}
    for name, aliases in NAMES.items():
        have = [alias for alias in aliases if alias in found]
        if len(have) > 1:
            raise CheckFailed(f"{where} has both {have[0]} and {have[1]}", "which is meant? --mapping FILE says it")
        if have:
            out[name] = found[have[0]]
    for name in NEEDED:
        if name not in out:
            have_all = ", ".join(sorted(found)) or "nothing"
            raise CheckFailed(
                f"{where} has no {NAMES[name][-1] if name == 'state' else NAMES[name][1]}, it has {have_all}",
                "--mapping FILE says which array is which column",
            )
    return out


def flag(values: Any) -> np.ndarray:
    """`[N]` bool of `[N]` or `[N, 1]`."""
    array = np.asarray(values)
    first = array.reshape(len(array), -1)[:, 0] if array.size and array.ndim > 1 else array.reshape(-1)
    return np.asarray(first != 0)


def raw_of(columns: Columns, said_ends: bool = True) -> Raw:
    """The rows of standard columns. Where there are `mask`s (OGBench), they say what is terminal and terminals say what
    ends; else terminals and time-outs end an episode, unless `said_ends` is False: then nobody says what does."""
    terminal = flag(columns["terminal"]) if "terminal" in columns else None
    truncated = flag(columns["truncated"]) if "truncated" in columns else None
    ends = None
    if "mask" in columns:
        ends, terminal = terminal, ~flag(columns["mask"])
    elif said_ends and (terminal is not None or truncated is not None):
        parts = [part for part in (terminal, truncated) if part is not None]
        same = len({len(part) for part in parts}) == 1  # unequal lengths are refused later, with both of them
        ends = np.logical_or.reduce(parts) if same else parts[0]
    if "episode" in columns:
        number = np.asarray(columns["episode"]).reshape(-1)
        ends = np.append(number[1:] != number[:-1], True) if len(number) else None
    taken = {name: columns.get(name) for name in ("next_obs", "outcome", "behaviour")}
    return Raw(
        columns["obs"], columns["action"], columns["reward"], terminal=terminal, truncated=truncated, ends=ends, **taken
    )


def manifest(source: Path) -> dict[str, Any] | None:
    """What an export of ours says of itself, if `source` is one."""
    path = source / MANIFEST
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict) or not isinstance(found["tasks"], list) or found["version"] != 1:
            raise ValueError("not what `omrl export` writes")
        for task in found["tasks"]:
            if not {"path", "name", "split", "id", "params"} <= task.keys():
                raise ValueError("a task that says too little")
    except (ValueError, KeyError, AttributeError) as error:
        raise CheckFailed(
            f"{path} is damaged: {error}", "export again, or delete it to read the folder without it"
        ) from error
    return found


def task_table(source: Path, names: list[str]) -> list[dict[str, Any]]:
    """What a `tasks.json` or `tasks.yaml` in the folder says of each task, by its name or in order. [] without one.

    Raises CheckFailed for a table that does not fit.
    """
    path = next((source / name for name in TASKS if (source / name).is_file()), None) if source.is_dir() else None
    if path is None:
        return []
    try:
        found = yaml.safe_load(inside(source, path).read_text())  # JSON is YAML
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckFailed(
            f"{path} cannot be read: {' '.join(str(error).split())}", "a list of {name, params}"
        ) from error
    if isinstance(found, dict):
        missing = [name for name in names if name not in found]
        if missing:
            raise CheckFailed(f"{path} says nothing of {missing[0]}", "one entry for each folder or file")
        found = [found[name] for name in names]
    if not isinstance(found, list) or len(found) != len(names):
        count = len(found) if isinstance(found, list) else "no"
        raise CheckFailed(
            f"{path} lists {count} tasks, there are {len(names)}", f"in the order {', '.join(names[:4])}, ..."
        )
    return [_entry(one, path) for one in found]


def _entry(one: Any, path: Path) -> dict[str, Any]:
    """{name, params, split, id} or params alone."""
    if isinstance(one, dict) and "params" not in one and not {"name", "split", "id"} & one.keys():
        one = {"params": one}
    params = one.get("params", {}) if isinstance(one, dict) else None
    if not isinstance(params, dict) or not all(_number(value) for value in params.values()):
        raise CheckFailed(f"{path}: {one!r} is no task", "for example {name: slow, params: {velocity: 0.5}}")
    return {**one, "params": {str(name): float(value) for name, value in params.items()}}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def said(
    name: str, load: Callable[[], Raw], entry: Mapping[str, Any] | None = None, numbers: tuple[float, ...] = ()
) -> Said:
    """A task, with what a table says of it."""
    entry = entry or {}
    return Said(
        name=str(entry.get("name", name)),
        load=load,
        params=dict(entry.get("params", {})),
        numbers=() if entry.get("params") else numbers,
        split=str(entry.get("split", "train")),
        id=entry.get("id"),
    )


def by_number(path: Path | str) -> list[Any]:
    """A sort key: goal_2 before goal_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]


def need(path: Path) -> Path:
    """Raises InputMissing."""
    if not path.is_file():
        raise InputMissing(f"{path} is missing", "a task has all of its files; is the copy complete?")
    return path
