"""What relabelling asks: ensembles learned from the log, or the family's own reward."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.algos import models
from pipelines.core.configs.stages import whole_blocks
from pipelines.core.errors import OmrlError, UsageError
from pipelines.core.learn import block, stage_key, task_keys
from pipelines.core.taskmap import TaskAxis
from pipelines.core.trees import task_leaf
from pipelines.core.types import Log, Space, Task, TaskFamily, task_rows, transitions
from pipelines.core.work import Work
from pipelines.stages import learners
from pipelines.stages.blocks import Plan, run_blocks
from pipelines.tasks import registry

CHUNK = 2_048  # rows predicted at once
LEARN = "--set reward=model learns it from the log"


@dataclass(frozen=True)
class Kit:
    """What judges rows. `reward` None: it is known; `transition` None: the dynamics are the same."""

    space: Space
    reward: models.Model | None
    transition: models.Model | None
    known: Callable[..., Any] | None  # the family's reward of rows [N], or None where nobody knows it
    outcome_dim: int = 0  # numbers of the outcome that are predicted beside a successor

    def judge(self, chunk: int | None = None) -> models.Judge:
        return models.judge(self.space, self.reward, self.transition, self.known, chunk)

    @property
    def truth(self) -> Callable[..., Any] | None:
        """The family's reward of other tasks' rows as they were logged; None where those would not have happened."""
        return self.known if self.transition is None else None


def kit_of(config: Any, space: Space, dynamics: bool, known: Callable[..., Any] | None, outcome_dim: int) -> Kit:
    """`outcome_dim` numbers are predicted beside successors if the reward is known and will ask for them."""
    predicted = outcome_dim if dynamics and config.reward == "known" else 0
    transition = None
    if dynamics:
        target: models.Target = "change" if config.transition.change else "next_obs"
        transition = models.make(config.transition, space, target, predicted)
    reward = models.make(config.model, space) if config.reward == "model" else None
    return Kit(space, reward, transition, known, predicted)


# ---- what is known ---------------------------------------------------------------------------------------------------


def find_family(config: Any, card: Any, note: Callable[[str], None]) -> TaskFamily | None:
    """The family of a log; None if it has none, or none that is here. Raises OmrlError if its reward is wanted."""
    name = card.extra.get("family")
    if not name:
        if config.reward == "known":
            raise UsageError("the log names no family, so its reward is not known", LEARN)
        return None
    try:
        return registry.find(name)
    except OmrlError as error:
        if config.reward == "known":
            raise
        note(f"{name} is not here ({error.cause}): nothing is compared with its reward")
        return None


def mapped(family: TaskFamily) -> Callable[..., Any]:
    """`known(task [P], obs [N, O], action, next_obs, outcome) -> [N]`"""
    return jax.vmap(family.reward, in_axes=(None, 0, 0, 0, 0))


def known_reward(
    config: Any, family: TaskFamily | None, tasks: tuple[Task, ...], log: Log, note: Callable[[str], None]
) -> Callable[..., Any] | None:
    """The family's own reward of rows, see `mapped`; None if nobody knows it. Raises UsageError if it is wanted and the
    family has none, or `log` (any task's) lacks what it needs."""
    if family is None:
        return None
    wanted = config.reward == "known"
    if log.outcome.shape[-1] != family.outcome_dim:
        cause = f"the log lacks {', '.join(family.outcome)}, which the reward of {family.name} needs"
        if wanted:
            raise UsageError(cause, LEARN)
        note(f"{cause}: nothing is compared with it")
        return None
    known = mapped(family)
    one: Any = transitions(log, np.arange(1))  # type: ignore[arg-type]
    try:
        jax.eval_shape(known, jnp.asarray(task_rows(tasks)[0]), one.obs, one.action, one.next_obs, one.outcome)
    except OmrlError as error:  # a user's family may have none
        if wanted:
            raise UsageError(error.cause, LEARN) from error
        note(error.cause)
        return None
    return known


def dynamics_differ(config: Any, family: TaskFamily | None) -> bool:
    """Whether successors are relabelled, too."""
    if config.dynamics != "auto":
        return bool(config.dynamics == "differ")
    return family is not None and family.dynamics


# ---- learning --------------------------------------------------------------------------------------------------------


def learn(work: Work, axis: TaskAxis, kit: Kit, data: models.Data, tasks: tuple[Task, ...]) -> models.Ensembles:
    """Every task's ensembles `[T, ...]`, on the devices: first all of the rewards, then all of the dynamics."""
    config: Any = work.config
    stage, ids = stage_key(work.seed, "relabel"), [task.id for task in tasks]
    parts = [
        (kit.reward, config.updates, stage),
        (kit.transition, config.transition_updates, jax.random.fold_in(stage, 2)),
    ]
    if kit.transition is not None:
        whole_blocks("transition_updates", config.transition_updates, "block_updates", config.block_updates)
    carry, advances, keys = [], [], []
    ends: list[int] = []
    for model, updates, key in parts:
        init_keys, later_keys = (axis.put(task_keys(half, ids)) for half in jax.random.split(key))
        ends.append((ends[-1] if ends else 0) + (updates if model else 0))
        keys.append(later_keys)
        carry.append(_begun(axis, model, init_keys, data) if model else ())
        advances.append(axis.over_tasks(block(model, config.block_updates), donate=(1,)) if model else None)
    headline = "model_loss" if kit.reward else "transition_loss"
    plan = Plan(ends[-1], config.block_updates, 0, "update", headline, tuple(task.name for task in tasks))

    def step(number: int, carry: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        part = int(number >= ends[0])
        advance: Any = advances[part]
        state, metrics = advance(number - part * ends[0], carry[part], data, keys[part])
        return [state if n == part else other for n, other in enumerate(carry)], axis.get(metrics)

    if ends[-1]:
        carry, _ = run_blocks(work, plan, carry, step, lambda carry: np.zeros(0), axis.put_padded)
    fitted = [
        axis.over_tasks(lambda step, state, model=model: model.fitted(state))(0, state) if model else ()
        for (model, *_), state in zip(parts, carry, strict=True)
    ]
    return models.Ensembles(*fitted)


def _begun(axis: TaskAxis, model: models.Model, keys: Any, data: models.Data) -> Any:
    return axis.over_tasks(lambda step, key, data: model.init(key, data))(0, keys, data)


# ---- limits ----------------------------------------------------------------------------------------------------------


def deviations(logs: Log) -> Any:
    """Of the rewards of each task's own log. -> [T]"""
    return np.array([np.std(rewards[:size]) for rewards, size in zip(logs.reward, logs.size, strict=True)], np.float32)


def limits_of(config: Any, logs: Log, dynamics: bool) -> models.Limits:
    """`[T]` each: the config's thresholds, or a tenth of the deviation of the task's own rewards and, on average over
    their numbers, of its changes s' - s. 0 for successors where the dynamics are the same."""
    count = len(logs.size)
    reward: Any = np.full(count, config.threshold, np.float32) if config.threshold else deviations(logs) / 10
    moved: Any = np.full(count, config.next_threshold or 0.0, np.float32)
    if dynamics and config.next_threshold is None:
        moved = np.array([_change(Log(*(column[t] for column in logs))) / 10 for t in range(count)], np.float32)
    return models.Limits(reward, moved if dynamics else 0 * moved)


def _change(log: Log) -> float:
    """The deviation of s' - s, on average over its numbers."""
    every: Any = np.arange(int(log.size))
    rows = transitions(log, every)
    return float(np.mean(np.std(rows.next_obs.astype(np.float32) - rows.obs.astype(np.float32), axis=0)))


# ---- everything together ---------------------------------------------------------------------------------------------


class Logs:
    """The logs of all tasks, one at a time in numpy, each padded to the longest."""

    def __init__(self, log: Any, held: Log | None = None) -> None:
        """`held` are all of them, `[T, ...]`, if they have been read."""
        self._log, self._held = log, held
        self._rows = max(learners.log_rows(log))
        leaves = [task_leaf(index) for index in range(len(log.card.tasks))]
        self._slots = max(log.card.arrays[f"{leaf}/obs"].shape[0] for leaf in leaves)

    def __getitem__(self, j: int) -> Log:
        if self._held is not None:
            return Log(*(column[j] for column in self._held))
        (logs, *_) = learners.read_log(self._log, [j])
        whole = {"size": logs.size[0], "obs": _padded(logs.obs[0], self._slots)}
        rest = {name: _padded(column[0], self._rows) for name, column in logs._asdict().items() if name not in whole}
        return Log(**whole, **rest)


def _padded(column: Any, length: int) -> Any:
    return np.concatenate([column, np.zeros((length - len(column), *column.shape[1:]), column.dtype)])


@dataclass(frozen=True)
class Bench:
    """What judges, and what is judged: all tasks' rows under G of the T tasks, those of `numbers`. `ensembles`,
    `limits` and `rows` lie on the devices, [G, ...]."""

    work: Work
    axis: TaskAxis
    kit: Kit
    tasks: tuple[Task, ...]  # all of them
    numbers: list[int]
    logs: Logs
    ensembles: models.Ensembles
    limits: models.Limits
    rows: Any  # [G, P], the tasks

    @property
    def ids(self) -> list[int]:
        """Of the tasks under which rows are judged."""
        return [self.tasks[i].id for i in self.numbers]

    @property
    def other(self) -> Any:
        """[G, T] bool, pairs of different tasks."""
        return np.asarray(self.numbers)[:, None] != np.arange(len(self.tasks))

    def told(self, done: int, passes: int = 1) -> None:
        part, parts = self.work.part
        whole = passes * len(self.tasks)
        self.work.tell.progress(part * whole + done, parts * whole, "log", "relabelling")
