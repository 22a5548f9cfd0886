"""import: logs that somebody else wrote. files -> replay-log

What is read is checked before anything is stored, and looked at afterwards as `omrl inspect` does.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import formats
from pipelines.core import own, sources
from pipelines.core.configs.io import ImportConfig
from pipelines.core.errors import CheckFailed, InputMissing, OmrlError, UsageError
from pipelines.core.names import slug
from pipelines.core.trees import task_leaf
from pipelines.core.types import Log, Space, Task, TaskFamily
from pipelines.core.work import Product, Work
from pipelines.stages import inspect
from pipelines.stages.collect import episode_returns
from pipelines.stages.import_episodes import Columns, Found, Rules, assemble
from pipelines.stages.import_tasks import tasks_of
from pipelines.tasks import registry

DISCOUNT = 0.99  # where nobody says
REPORT = "inspect.json"  # what was seen, a file of the artifact
SLACK = 1e-5  # of a bound, by which rounding may exceed it
REWARD_SLACK = 1e-3
MEANS_GOAL = ("borel",)  # formats whose terminals end nothing


@dataclass(frozen=True)
class About:
    """What holds for all tasks of the log."""

    family: TaskFamily | None
    space: Space | None
    horizon: int | None
    discount: float
    bounds: dict[str, Any]


def run(work: Work) -> Product:
    """Reads, checks, and looks. Raises CheckFailed, InputMissing or UsageError naming what is wrong and where."""
    config: Any = work.config
    source = _source(config)
    about = _about(config, source, work)
    tasks = tasks_of(source.tasks, about.family)
    columns, found = _read(work, config, source, about)
    space = _space(config, about, columns, found)
    for one, task in zip(columns, tasks, strict=True):
        one["action"] = _actions(config, space, one["action"], task.name)
    horizon = about.horizon or max(int(one["step"].max()) + 1 for one in columns)
    _tell(work, found)
    lacks = _compare_rewards(work, about.family, tasks, columns) if about.family else []
    arrays = {}
    for index, one in enumerate(columns):
        arrays[task_leaf(index)] = one | {"returns": episode_returns(Log(**one))}  # type: ignore[arg-type]
    family = about.family.name if about.family else ""
    extra = {
        "family": family,
        **(own.on_card(family) if family else {}),
        "space": space.to_json(),
        "horizon": horizon,
        "discount": about.discount,
        "algorithm": "",  # of the behaviour: nobody knows
        "agent": {},
        "imported": source.format,
        "lacks": lacks,  # what the family's reward needs and the log does not have
        "transitions": sum(int(one["size"]) for one in columns),
    }
    seen = inspect.look([task.to_json() for task in tasks], arrays, extra)
    metrics = {f"last_return/{task.name}": inspect.last_return(arrays[task_leaf(i)]) for i, task in enumerate(tasks)}
    report = {"notes": _notes(found), "deviation": _deviation(found), **seen.to_json()}
    files = {REPORT: json.dumps(inspect.finite(report), indent=1).encode()}
    name = slug(family, slug(Path(config.source).stem))
    return Product(arrays, metrics, [task.to_json() for task in tasks], extra, files, name)


# ---- what is there ---------------------------------------------------------------------------------------------------


def _source(config: ImportConfig) -> formats.Source:
    if not config.source:
        raise InputMissing("import needs a source", "omrl import FOLDER")
    path = sources.find(config.source)
    now = sources.fingerprint(config.source)
    if now != config.sha256:
        raise CheckFailed(f"{config.source} changed while it was read", "import it again")
    return formats.read(path, config.format, config.allow_pickle, config.mapping)


def _about(config: ImportConfig, source: formats.Source, work: Work) -> About:
    said, name = source.about, config.family
    if not name and (name := str(said.get("family", ""))):
        try:
            own.refuse_unknown(name)
        except (UsageError, InputMissing) as error:
            work.tell.note(f"the source is of {name}, which is not here ({error.cause}): imported without a family")
            name = ""
    family = registry.find(name) if name else None
    if family is not None:
        gamma = config.discount or family.discount
        return About(family, family.space, config.horizon or family.horizon, gamma, {})
    space = Space.from_json(said["space"]) if "space" in said else None
    horizon = config.horizon or (int(said["horizon"]) if "horizon" in said else None)
    discount = config.discount or float(said.get("discount", DISCOUNT))
    return About(None, space, horizon, discount, dict(said.get("bounds", {})))


def _read(work: Work, config: ImportConfig, source: formats.Source, about: About) -> tuple[list[Columns], list[Found]]:
    auto = "ignore" if source.format in MEANS_GOAL and not source.exact else "end"
    rules = Rules(
        horizon=about.horizon,
        terminals=auto if config.terminals == "auto" else config.terminals,
        tolerance=config.tolerance,
        exact=source.exact,
        obs_shape=about.space.obs_shape if about.space else None,
        obs_dtype=about.space.obs_dtype if about.space else None,
    )
    columns, found = [], []
    for number, one in enumerate(source.tasks):
        read, seen = assemble(one.load(), one.name, rules)
        columns.append(read)
        found.append(seen)
        work.tell.progress(number + 1, len(source.tasks), "task", f"{int(read['size'])} transitions")
    shapes = {one.task: read["obs"].shape[1:] for one, read in zip(found, columns, strict=True)}
    first = about.space.obs_shape if about.space else columns[0]["obs"].shape[1:]
    for task, shape in shapes.items():
        if shape != first:
            whose = f"{about.family.name}'s are" if about.family else f"those of task {found[0].task} are"
            raise CheckFailed(
                f"task {task}: observations are {list(shape)}, {whose} {list(first)}", "is it the same family?"
            )
    return columns, found


# ---- actions ---------------------------------------------------------------------------------------------------------


def _space(config: ImportConfig, about: About, columns: list[Columns], found: list[Found]) -> Space:
    """The family's space, the source's, or what the rows look like."""
    if about.space is not None:
        return about.space
    actions = [one["action"].reshape(len(one["action"]), -1) for one in columns]
    dims = {one.shape[1] for one in actions}
    if len(dims) > 1:
        raise CheckFailed(
            f"actions have {' and '.join(map(str, sorted(dims)))} numbers in different tasks", "one space each log"
        )
    obs, dim = columns[0]["obs"], dims.pop()
    common: dict[str, Any] = {"obs_shape": obs.shape[1:], "obs_dtype": obs.dtype.name}
    whole = dim == 1 and all(one["action"].dtype.kind == "i" for one in columns)
    discrete = whole or (dim > 1 and all(_one_hot(one) for one in actions))
    if config.actions == "discrete" or (config.actions == "auto" and (discrete or "num_actions" in about.bounds)):
        most = dim if dim > 1 else int(max(one.max() for one in actions)) + 1
        count = int(about.bounds.get("num_actions", most))
        return Space(action_shape=(), num_actions=count, action_dtype="int32", **common)
    low, high = _bounds(config, about, actions)
    return Space(action_shape=(dim,), low=low, high=high, **common)


def _bounds(
    config: ImportConfig, about: About, actions: list[np.ndarray]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per number of an action: as said, else [-1, 1] if all fit in it, else what was seen."""
    dim = actions[0].shape[1]
    least, most = (np.stack([getattr(one, end)(0) for one in actions]) for end in ("min", "max"))
    low, high = least.min(0).astype(float), most.max(0).astype(float)
    if "low" in about.bounds:
        low, high = np.asarray(about.bounds["low"]), np.asarray(about.bounds["high"])
    elif (low.min() >= -1 - SLACK and high.max() <= 1 + SLACK) or config.action_box is not None:
        low, high = np.full(dim, -1.0), np.full(dim, 1.0)
    low = low if config.action_low is None else np.full(dim, config.action_low)
    high = high if config.action_high is None else np.full(dim, config.action_high)
    if not (low < high).all():
        raise CheckFailed(
            "the actions' lower bound is not below the upper one", "--set action_low=... --set action_high=..."
        )
    return tuple(low.tolist()), tuple(high.tolist())


def _one_hot(actions: np.ndarray) -> bool:
    return bool(np.isin(actions, (0, 1)).all() and (actions.sum(1) == 1).all())


def _actions(config: ImportConfig, space: Space, action: np.ndarray, task: str) -> np.ndarray:
    """In the units, the shape and the dtype of `space`. Raises CheckFailed for what lies outside."""
    flat = action.reshape(len(action), -1)
    if space.num_actions is not None:
        return _discrete(space, flat, task)
    if flat.shape[1] != space.action_dim:
        raise CheckFailed(
            f"task {task}: actions have {flat.shape[1]} numbers, the space {space.action_dim}", "is it the same family?"
        )
    low, high = np.asarray(space.low, np.float32), np.asarray(space.high, np.float32)
    flat = flat.astype(np.float32)
    if config.action_box is not None:
        ends = config.action_box
        flat = (low + (flat - ends[0]) * ((high - low) / (ends[1] - ends[0]))).astype(np.float32)
    slack = SLACK * (high - low)
    out: Any = ((flat < low - slack) | (flat > high + slack)).any(1)
    if out.any() and config.out_of_range == "refuse":
        box = f"[{low.min():g}, {high.max():g}]"
        cause = (
            f"task {task}: {out.sum()} of {len(out)} actions lie outside {box}, in [{flat.min():.4g}, {flat.max():.4g}]"
        )
        raise CheckFailed(
            cause, "--set action_box=[LOW,HIGH] rescales from their own box, --set out_of_range=clip cuts"
        )
    inside = np.clip(flat, low, high) if out.any() else flat  # what rounding did stays as it is
    return inside.reshape(len(flat), *space.action_shape).astype(space.action_dtype)


def _discrete(space: Space, flat: np.ndarray, task: str) -> np.ndarray:
    if flat.shape[1] == space.num_actions and flat.shape[1] > 1:
        if not _one_hot(flat):
            raise CheckFailed(
                f"task {task}: actions are neither one-hot nor whole numbers", "--set actions=continuous?"
            )
        return flat.argmax(1).astype(np.int32)
    if flat.shape[1] != 1 or (flat != np.round(flat)).any():
        raise CheckFailed(
            f"task {task}: actions are {list(flat.shape)}, not one of {space.num_actions}", "--set actions=continuous?"
        )
    assert space.num_actions is not None
    out = np.asarray((flat < 0) | (flat >= space.num_actions))
    if out.any():
        cause = f"task {task}: {out.sum()} of {len(flat)} actions are not in 0 to {space.num_actions - 1}"
        raise CheckFailed(cause, "actions are numbered from 0")
    return flat[:, 0].astype(np.int32)


# ---- saying what was seen --------------------------------------------------------------------------------------------


def _notes(found: list[Found]) -> list[str]:
    """Each thing that was noted once, with how many tasks it is about."""
    by_text: dict[str, list[str]] = {}
    for one in found:
        for note in one.notes:
            by_text.setdefault(note, []).append(one.task)
        if one.splits:
            by_text.setdefault("next_obs is not the following obs: episodes were split there", []).append(one.task)
    return [
        f"{tasks[0]}{f' and {len(tasks) - 1} more' if len(tasks) > 1 else ''}: {text}"
        for text, tasks in by_text.items()
    ]


def _deviation(found: list[Found]) -> float | None:
    known = [one.deviation for one in found if one.deviation is not None]
    return max(known) if known else None


def _tell(work: Work, found: list[Found]) -> None:
    for note in _notes(found):
        work.tell.note(note)
    deviation = _deviation(found)
    splits = sum(one.splits for one in found)
    if deviation is not None:
        split = f"; {splits} episodes end where it is not" if splits else ""
        work.tell.note(f"next_obs is the following obs within {deviation:.2g}{split}")


def _compare_rewards(work: Work, family: TaskFamily, tasks: tuple[Task, ...], columns: list[Columns]) -> list[str]:
    """Says whether the logged rewards are those that the family pays. -> what it lacks to know"""
    if any(one["outcome"].shape[1] != family.outcome_dim for one in columns):
        said = f"the log lacks {', '.join(family.outcome)}: {family.name}'s reward cannot be computed on its rows"
        work.tell.note(said + ", nor can they be relabelled by it")
        return list(family.outcome)
    worst, whose = 0.0, ""
    for task, one in zip(tasks, columns, strict=True):
        rows = formats.rows(one)
        row = np.broadcast_to(task.row(np.float64), (len(rows["reward"]), len(task.params)))
        obs, after = rows["obs"].astype(np.float64), rows["next_obs"].astype(np.float64)
        try:
            paid = family.reward(row, obs, rows["action"], after, rows["outcome"].astype(np.float64))
        except OmrlError as error:  # a user's family may have none
            work.tell.note(error.cause)
            return ["reward"]
        away = float(np.abs(np.asarray(paid) - rows["reward"]).max())
        worst, whose = (away, f" in {task.name}") if away > worst else (worst, whose)
    verdict = "are" if worst < REWARD_SLACK else "are not"
    work.tell.note(f"rewards {verdict} those of {family.name}: they differ by up to {worst:.3g}{whose}")
    return []
