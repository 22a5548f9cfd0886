"""Adapting before playing (`eval --protocol adapt`): one episode of each task, MQL's round of updates, then the test.

All tasks adapt at once under the task axis. The meta-policy is an argument of that program and nothing is written back
to it; the meta-training log is only read, and by an online policy's snapshots no further than it went then. Differs
from the released code: the episode's opening noise and all draws belong to a task and not to the order of tasks.
T tasks, P episodes, H steps, K training tasks.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.algos.adaptation import Round, Told
from pipelines.algos.mql import Adaptable, Core
from pipelines.core.configs.adapt import AdaptConfig
from pipelines.core.configs.algorithms import MqlConfig
from pipelines.core.configs.base import resolve
from pipelines.core.errors import InputMissing, StageFailed, UsageError, WrongKind
from pipelines.core.learn import stage_key, task_keys
from pipelines.core.taskmap import TaskAxis
from pipelines.core.types import Log, Task, TaskFamily, task_rows
from pipelines.core.unit_box import rows_to_unit, unit
from pipelines.rollouts.exploring import explore
from pipelines.stages import learners, online
from pipelines.stages.adapt_papers import settled

MOST_NAMES = 5  # of tasks, in a note


class Adapted(NamedTuple):
    """What a round was, in numpy."""

    before: Any  # [T, P] returns of the meta-policy, by the same keys as those after it
    rows: Any  # [T] of the episode that was adapted to
    beta: Any  # [T]
    ess: Any  # [T]
    pull: Any  # [T] lambda


def arrays(adapted: Adapted) -> dict[str, np.ndarray]:
    """What a report keeps of a round."""
    return {f"adapt_{name}": np.asarray(value) for name, value in adapted._asdict().items()}


def curves(rounds: list[Adapted]) -> dict[str, np.ndarray]:
    """And of those of S snapshots, [S, T]."""
    names = ("before", "beta", "ess", "pull")
    return {f"adapt_{name}": np.stack([_per_task(getattr(one, name)) for one in rounds]) for name in names}


def _per_task(values: np.ndarray) -> np.ndarray:
    return values if values.ndim == 1 else values.mean(1)


def metrics(arrays: Mapping[str, Any]) -> dict[str, float]:
    """What a card says of an evaluation's `arrays`: the mean return before, what adaptation gained per task and how far
    tasks are spread before and after, and means of beta, ESS and lambda; empty where nothing adapted."""
    if "adapt_before" not in arrays:
        return {}
    before, after = (np.asarray(arrays[name], float).mean(1) for name in ("adapt_before", "returns"))
    found = {"before": before.mean(), "gain": (after - before).mean(), "gain_spread": (after - before).std()}
    found |= {"spread_before": before.std(), "spread_after": after.std()}
    found |= {name: np.mean(arrays[f"adapt_{name}"]) for name in ("rows", "beta", "ess")}
    found |= {"lambda": np.mean(arrays["adapt_pull"])}
    return {f"adapt/{name}": float(value) for name, value in found.items()}


class Adapter:
    """A meta-policy's artifact and the log that it was learned from, ready to adapt."""

    def __init__(self, config: AdaptConfig, seed: int, policy: Any, log: Any, family: TaskFamily) -> None:
        """Raises UsageError for a policy that keeps nothing to go on from, InputMissing without a log, WrongKind for
        another one than it was learned from."""
        extra = policy.card.extra
        want_adaptable(policy)
        self.config = settled(config, family.name)
        want_own(policy, log)
        self.family, self.seed = family, seed
        self.agent = resolve(MqlConfig, extra["agent"], prefix="agent.")
        if self.agent.context == "none" and self.config.features == "z":
            raise UsageError("a policy without a context has no z", "--set adapt.features=obs+z")
        self.core = Core(self.agent, unit(family.space), family.discount, self.config.learning_rate)
        self._logs, self._rounds = log, dict[tuple[int, ...], Rounds]()
        self._online = extra.get("trained") == "online"

    @property
    def words(self) -> str:
        """What tables say of it."""
        pull = "1 - ESS" if self.config.proximal == "ess" else f"{self.config.proximal:g}"
        counts = f"{self.config.new_updates} + {self.config.old_updates} updates"
        return f"to one episode by {counts}, lambda {pull}"

    def too_few(self, tasks: Sequence[Task], rows: Any) -> str | None:
        """What to say of tasks whose episode has fewer rows than the regression has features. rows [T]"""
        wide = self.agent.context_dim if self.agent.context != "none" else 0
        features = wide + (self.family.space.obs_dim if self.config.features == "obs+z" else 0)
        names = [f"{task.name} ({int(n)})" for task, n in zip(tasks, rows, strict=True) if n < features]
        if not names:
            return None
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        said = f"fewer rows than the {features} features of propensities in task {', '.join(names[:MOST_NAMES])}{more}"
        return f"{said}: they say little there, ESS is near 1 and lambda near 0 whatever the task is"

    def on_card(self) -> dict[str, Any]:
        return {"log": self._logs.card.id, **self.config.model_dump(mode="json")}

    def sizes_at(self, logs: Log, step: int | None) -> np.ndarray:
        """Rows that tasks had when the snapshot of `step` was taken: all of them at the end (None), or where the log
        was there before the policy. [K] int32"""
        if step is None or not self._online:
            return np.asarray(logs.size)
        made, horizon = self._logs.card.config, self._logs.card.extra["horizon"]
        iterations = step // (made["trials"] * made["trial_episodes"] * horizon)
        there = np.arange(logs.behaviour.shape[1]) < logs.size[:, None]
        turns = np.unique(logs.behaviour[there & (logs.behaviour > 0)])  # updates done, one number for each iteration
        last = turns[:iterations][-1] if iterations else 0
        return (there & (logs.behaviour <= last)).sum(1).astype(np.int32)

    def over(self, tasks: tuple[Task, ...], axis: TaskAxis) -> "Rounds":
        """Its rounds in some tasks, compiled once."""
        ids = tuple(task.id for task in tasks)
        if ids not in self._rounds:
            logs, *_ = learners.read_log(self._logs)
            self._rounds[ids] = Rounds(self, tasks, axis, rows_to_unit(self.family.space, logs))
        return self._rounds[ids]


class Rounds:
    """The compiled calls of a round in T tasks."""

    def __init__(self, adapter: Adapter, tasks: tuple[Task, ...], axis: TaskAxis, logs: Log) -> None:
        self.family, self.tasks, self.axis = adapter.family, tasks, axis
        self._play_keys, keys = (
            task_keys(stage_key(adapter.seed, name), [task.id for task in tasks])
            for name in ("adapt episode", "adapt updates")
        )
        held = jax.tree.map(np.asarray, logs)
        self._keys, self._logs = axis.put(keys), axis.replicate(held)
        self._sizes = functools.partial(adapter.sizes_at, held)
        self._rows = task_rows(tasks, np.float64)
        self._episode = explore(self.family, greedy(adapter), 1, self.family.horizon)
        run = Round(adapter.config, adapter.core).run
        self._adapt = axis.over_tasks(
            lambda _, start, logs, size, new, key: run(start, logs._replace(size=size), new, key), shared=3
        )
        self._finite = jax.jit(jax.vmap(_finite))

    def episode(self, acting: Adaptable) -> Log:
        """One episode of the meta-policy in each task, greedy. -> [T, H, ...] in numpy. Raises StageFailed where
        physics failed before there was a row."""
        found = self._episode(acting, self._rows, self._play_keys)
        count, horizon = len(self.tasks), self.family.horizon
        empty = online.empty_logs(self.family, count, horizon, horizon + 1)
        none = jnp.zeros((count,), jnp.int32)
        logs, *_ = jax.jit(online.append)(empty, none, jnp.arange(count), found, jnp.int32(0))
        logs = jax.tree.map(np.asarray, logs)
        fine = (logs.size > 0) & np.isfinite(logs.reward).all(1)
        if not fine.all():
            names = ", ".join(task.name for task, ok in zip(self.tasks, fine, strict=True) if not ok)
            cause = f"the episode to adapt to is empty or not finite in task {names}"
            raise StageFailed(cause, "evaluate without --protocol adapt")
        return logs

    def run(self, acting: Adaptable, step: int | None = None) -> tuple[Any, Told]:
        """`acting` is the meta-policy's, or its snapshot's at `step`. -> (the adapted ones [T, ...] on the devices,
        what is said of them [T]). Raises StageFailed for a task whose parameters are not finite any more."""
        new = rows_to_unit(self.family.space, self.episode(acting))
        each = jax.tree.map(lambda leaf: np.asarray(leaf)[:, None], new)  # a stack of one log for each task
        shared = self.axis.replicate(acting), self._logs, self.axis.replicate(self._sizes(step))
        adapted, told = self._adapt(0, *shared, self.axis.put(each), self._keys)
        told, fine = self.axis.get((told, self._finite(adapted)))
        for task, ok in zip(self.tasks, fine, strict=True):
            if not ok:
                raise StageFailed(
                    f"adapting to task {task.name} gave numbers that are not finite", "--set adapt.learning_rate=1e-4"
                )
        return adapted, told


def _finite(tree: Any) -> jax.Array:
    """Whether every number of it is. -> []"""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def greedy(adapter: Adapter) -> Any:
    """The meta-policy as it gathers what it adapts to: no noise, a window filled up with zeros (facts 3.1)."""
    family = adapter.family
    agent = online.collector(adapter.agent)
    policy = learners.make("mql", agent, family.space, family.discount).policy
    return replace(policy, act=lambda acting, memory, obs, key, _: policy.act(acting, memory, obs, key, 0.0))


# ---- what is refused -------------------------------------------------------------------------------------------------


def want_adaptable(policy: Any) -> None:
    """Raises UsageError for anything but a meta-policy of MQL."""
    kind, algorithm = policy.card.kind, policy.card.extra["algorithm"]
    if (kind, algorithm) != ("meta-policy", "mql"):
        what = algorithm if kind == "meta-policy" else f"a {kind}"
        cause = f"{what} keeps nothing that adaptation could go on from"
        raise UsageError(cause, "omrl metatrain --algorithm mql (with or without --online) makes a policy that does")


def want_own(policy: Any, log: Any) -> None:
    """Raises InputMissing without a log, WrongKind for one that the policy was not learned from: its rows would be
    weighted by contexts of tasks that the policy never saw."""
    card = policy.card
    made_from = card.parents.get("log")
    named = made_from.id if made_from else "none"
    if log is None:
        raise InputMissing(f"adaptation needs the log {named} that {card.id} was learned from", "--log own")
    if log.card.extra["family"] != card.extra["family"]:
        cause = f"the log {log.card.id} is of {log.card.extra['family']}, the policy of {card.extra['family']}"
        raise WrongKind(cause, f"--log own takes the log {named} that it was learned from")
    if made_from is None or (made_from.id, made_from.digest) != (log.card.id, log.card.digest):
        cause = f"{card.id} was learned from the log {named}, not from {log.card.id}"
        raise WrongKind(cause, "--log own")
