"""Who plays which task: acting states laid over the tasks of a split, with what plays them and what they are shown."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from pipelines.core.configs.eval import EvalConfig
from pipelines.core.errors import UsageError
from pipelines.core.learn import stage_key, task_keys
from pipelines.core.taskmap import TaskAxis
from pipelines.core.trees import from_dict
from pipelines.core.types import Algorithm, HostFamily, Task, TaskFamily, task_rows
from pipelines.rollouts import Lineup
from pipelines.stages import adapting, contexts, learners, protocols


def assign(tasks: tuple[Task, ...], trained: tuple[Task, ...], match: str) -> list[int]:
    """For each evaluated task the index of the trained policy that plays it.

    `own`: the same task id; raises UsageError where there is none. `nearest`: least distance of the tasks' params, the
    first of equals.
    """
    if match == "nearest":
        gaps = np.linalg.norm(task_rows(tasks)[:, None] - task_rows(trained)[None], axis=-1)
        return [int(index) for index in np.round(gaps, 4).argmin(1)]
    index = {task.id: number for number, task in enumerate(trained)}
    strangers = [task.name for task in tasks if task.id not in index]
    if strangers:
        raise UsageError(
            f"the policy-set has no policy for task {strangers[0]} (and {len(strangers) - 1} more)",
            "--set match=nearest takes the nearest training task's, or --split train",
        )
    return [index[task.id] for task in tasks]


def spread_over(tree: Any, chosen: list[int] | None, num_tasks: int) -> Any:
    """Acting state(s) -> leaves [T, ...]: one per task (`chosen`), or the same for all."""
    if chosen is not None:
        return jax.tree.map(lambda leaf: leaf[np.asarray(chosen)], tree)
    return jax.tree.map(lambda leaf: np.broadcast_to(leaf, (num_tasks, *np.shape(leaf))), tree)


def tasks_of(family: TaskFamily, split: str, trained: Iterable[int], of: str = "train") -> tuple[Task, ...]:
    """The tasks of a split; where the policy was `trained` on tasks of it (ids; `of` is their split), those alone.
    Raises UsageError for a split without tasks."""
    tasks = family.tasks(split)
    if split == of:
        known = set(trained)
        tasks = tuple(task for task in tasks if task.id in known) or tasks
    if not tasks:
        raise UsageError(f"{family.name} has no {split} tasks", "--split train or --split test")
    return tasks


def evenly(there: int, wanted: int | None) -> np.ndarray:
    """Which `wanted` of `there` are evenly spaced, the last among them; None, or more than there are: all. -> [S]"""
    num = min(wanted or there, there)
    return np.round(there * np.arange(1, num + 1) / max(num, 1)).astype(int) - 1


@dataclass(frozen=True)
class Seat:
    """T tasks on the devices, and who plays them."""

    keys: Any
    chosen: list[int] | None  # each task's policy among those of a policy-set; None: one policy for all
    lineup: Lineup
    play: protocols.Play
    context: tuple[Any, ...]  # ([T, P, C, ...],) or ()
    rounds: adapting.Rounds | None = None  # what comes before, of one policy for all

    def final(self, acting: Any, step: int | None = None) -> protocols.Played:
        """The acting state(s) of an artifact play, or of its snapshot at `step`."""
        played = self.play(self._laid(acting), self.keys, *self.context)
        if self.rounds is None:
            return played
        adapted, told = self.rounds.run(acting, step)
        after = self.play(adapted, self.keys)
        return after._replace(adapted=adapting.Adapted(played.returns, *told))

    def along(self, snapshots: Any, steps: np.ndarray) -> list[protocols.Played]:
        """All of `snapshots`, [S, ...] or [S, T, ...], of `steps [S]`, with the same luck: beside each other where the
        seat is laid for that, else one after the other by one program."""
        if self.lineup.beside is None:
            return [self.final(protocols.snapshot(snapshots, s), int(step)) for s, step in enumerate(steps)]
        if self.chosen is not None:
            snapshots = jax.tree.map(lambda leaf: np.swapaxes(leaf, 0, 1), snapshots)
        played = self.play(self._laid(snapshots), self.keys, *self.context)
        return [protocols.snapshot(played, s) for s in range(len(steps))]

    def _laid(self, acting: Any) -> Any:
        axis = self.lineup.axis
        if self.lineup.shared:
            return axis.replicate(acting)
        return axis.put(spread_over(acting, self.chosen, axis.num_tasks))


class Bench:
    """A policy and the family that it is evaluated on."""

    def __init__(
        self, config: EvalConfig, seed: int, policy: Any, family: TaskFamily, log: Any = None, source: Any = None
    ) -> None:
        """`policy` is an artifact that acts, `log` the replay-log that contexts come from, if any do, `source` the one
        that it was learned from and adapts with."""
        extra = policy.card.extra
        self.config, self.seed, self.family = config, seed, family
        self.algorithm: Algorithm = learners.make(extra["algorithm"], extra["agent"], family.space, family.discount)
        self._shared = extra["algorithm"] in learners.SHARED
        self._trained = tuple(Task.from_json(task) for task in policy.card.tasks)
        self.context = contexts.Context(config, policy, log, family.space, seed) if log is not None else None
        self.adapter = None
        if config.protocol == "adapt":
            self.adapter = adapting.Adapter(config.adapt, seed, policy, source, family)
        elif source is not None:
            raise UsageError(f"protocol={config.protocol} adapts nothing and reads no --log", "--protocol adapt")
        arrays = policy.arrays()
        self.acting = learners.acting_of(policy, self.algorithm.acting_type)
        every = arrays.get("snapshot_step", np.zeros(0, np.int32))
        played = evenly(len(every), config.curve_points)
        self.steps = every[played]  # [S]
        self.snapshots = None
        if len(self.steps):
            kept = from_dict(self.algorithm.acting_type, arrays["snapshots"])
            self.snapshots = kept if len(played) == len(every) else protocols.snapshot(kept, played)

    def seat(self, tasks: tuple[Task, ...], num_runs: int, key: Any, beside: int | None = None) -> Seat:
        """Lays the tasks out; `num_runs` episodes, or trials, of each will be played, by `beside` policies at once."""
        chosen = None if self._shared else assign(tasks, self._trained, self.config.match)
        axis = TaskAxis(len(tasks), self.config.mapping)
        lineup = Lineup(axis, tasks, shared=self._shared and self.adapter is None, beside=beside)
        play = protocols.play_of(self.config, self.family, self.algorithm.policy, num_runs, lineup)
        context = () if self.context is None else (axis.put(self.context.draw(tasks, num_runs)),)
        rounds = None if self.adapter is None else self.adapter.over(tasks, axis)
        keys = axis.put(task_keys(key, [task.id for task in tasks]))
        return Seat(keys, chosen, lineup, play, context, rounds)

    def along(self, tasks: tuple[Task, ...], num_runs: int, key: Any) -> list[protocols.Played]:
        """All snapshots that are played, with the same luck. Those of a simulator play beside each other: its steps
        then wait for one call, not for S."""
        at_once = self.adapter is None and isinstance(self.family, HostFamily)
        seat = self.seat(tasks, num_runs, key, len(self.steps) if at_once else None)
        return seat.along(self.snapshots, self.steps)

    def check_context(self, tasks: tuple[Task, ...], label: str) -> None:
        """Raises UsageError for a context that is not there, or that the policy would not remember."""
        if self.context is not None:
            chosen = None if self._shared else assign(tasks[:1], self._trained, self.config.match)
            acting = self.acting if chosen is None else protocols.snapshot(self.acting, chosen[0])
            rows = protocols.snapshot(self.context.draw(tasks, 1), (0, 0))
            contexts.must_last(self.algorithm.policy, acting, rows, label)

    def choose(self) -> protocols.Checkpoint | None:
        """The snapshot that the config asks for; None for the policy as it ended."""
        if self.config.checkpoint == "last":
            return None
        protocols.want_snapshots(self.steps)
        tasks = tasks_of(self.family, protocols.CHOSEN_ON[self.config.checkpoint], (task.id for task in self._trained))
        seen = self.along(tasks, self.config.curve_episodes, stage_key(self.seed, "eval-checkpoint"))
        return protocols.best([one.returns.mean(1) for one in seen], self.steps)
