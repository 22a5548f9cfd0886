"""Context that is given and not gathered: rows of a replay-log that a policy's memory is shown before it first acts.

The log may be the one that the policy was trained on (own) or another behaviour's, on the same tasks. T tasks, P runs,
C rows.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.core.configs.eval import EvalConfig
from pipelines.core.errors import UsageError, WrongKind
from pipelines.core.types import Log, Policy, Space, Task, Transition, transitions
from pipelines.rollouts import begin_task
from pipelines.stages import learners

TOLERANCE = 1e-4  # of a task's numbers, which an imported log may have rounded


def is_own(policy: Any, log: Any) -> bool:
    """Whether the log is the one that the policy was learned from, or its own."""
    made_from = policy.card.parents.get("log")
    return bool(log.card.id == (made_from.id if made_from else policy.card.id))


def alike(one: Task, other: Task) -> bool:
    """Whether two tasks have the same numbers."""
    if one.params.keys() != other.params.keys():
        return False
    mine, theirs = (np.array([task.params[name] for name in one.params]) for task in (one, other))
    return bool(np.allclose(mine, theirs, rtol=TOLERANCE, atol=TOLERANCE))


def matched(tasks: Sequence[Task], logged: Sequence[Task], own: bool) -> list[int]:
    """For each evaluated task its place in a log: the task of the same numbers, of those that of the same id.

    Raises UsageError where the log has not seen one of them.
    """
    found: list[int] = []
    strangers: list[str] = []
    for task in tasks:
        same = [n for n, other in enumerate(logged) if alike(task, other) and (task.params or other.id == task.id)]
        found += sorted(same, key=lambda n: logged[n].id != task.id)[:1]
        strangers += [] if same else [task.name]
    if strangers:
        more = f" (and {len(strangers) - 1} more)" if len(strangers) > 1 else ""
        hint = (
            "--split train, or --context offline:REF with a log of these tasks" if own else "give a log of these tasks"
        )
        raise UsageError(f"the context's log has no rows of task {strangers[0]}{more}", hint)
    return found


def generator(seed: int, what: str, task_id: int) -> np.random.Generator:
    """The stream of one task: other tasks and other uses have others."""
    return np.random.default_rng([seed, zlib.crc32(what.encode()), task_id])


def row_numbers(rng: np.random.Generator, size: int, count: int, pick: str = "uniform") -> np.ndarray:
    """`count` rows of a log of `size`, in order of time and each once."""
    if pick == "uniform":
        return np.sort(rng.choice(size, count, replace=False))
    return np.arange(count) if pick == "first" else np.arange(size - count, size)


def enough(wanted: int, there: int, task: str) -> None:
    """Raises UsageError where a log has fewer rows than a context wants."""
    if wanted > there:
        cause = f"context_rows={wanted}: the log has {there} rows of task {task}"
        raise UsageError(cause, f"--context-rows {there} takes them all")


def task_log(log: Any, number: int) -> Log:
    """One task's log out of a replay-log, in numpy."""
    logs, *_ = learners.read_log(log, [number])
    return Log(*(column[0] for column in logs))


def rows_of(log: Log, rows: np.ndarray) -> Transition:
    """The rows `[...]` of one task's log, in numpy."""
    found: Any = transitions(log, rows)  # type: ignore[arg-type]
    return found


def same_space(log: Any, space: Space) -> None:
    """Raises WrongKind for a log of other observations or actions."""
    known = Space.from_json(log.card.extra["space"])
    for name in ("obs_shape", "action_shape", "num_actions"):
        if getattr(known, name) != getattr(space, name):
            cause = f"the log {log.card.id} has {name} {getattr(known, name)}, the policy {getattr(space, name)}"
            raise WrongKind(cause, "give a log of the policy's own family")


class Context:
    """Where contexts come from: one log, and for each evaluated task its place in it."""

    def __init__(self, config: EvalConfig, policy: Any, log: Any, space: Space, seed: int) -> None:
        """Raises WrongKind for a log of another space."""
        same_space(log, space)
        self.config, self.log, self.seed, self.own = config, log, seed, is_own(policy, log)
        self.logged = tuple(Task.from_json(task) for task in log.card.tasks)

    def draw(self, tasks: Sequence[Task], num_runs: int) -> Transition:
        """`[T, P, C, ...]` in numpy. Raises UsageError where the log lacks a task, or rows of it."""
        count, pick = self.config.context_rows, self.config.context_pick
        drawn = []
        for task, number in zip(tasks, matched(tasks, self.logged, self.own), strict=True):
            log = task_log(self.log, number)
            enough(count, int(log.size), task.name)
            rng = generator(self.seed, "eval-context", task.id)
            rows = np.stack([row_numbers(rng, int(log.size), count, pick) for _ in range(num_runs)])
            drawn.append(rows_of(log, rows))
        return jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)

    @property
    def words(self) -> str:
        """What tables say of it."""
        end = {"uniform": "", "first": "the first ", "last": "the last "}[self.config.context_pick]
        return f"given {end}{self.config.context_rows} rows of {'its own' if self.own else 'another'} log"

    def on_card(self) -> dict[str, Any]:
        return {
            "from": "own" if self.own else "offline",
            "log": self.log.card.id,
            "rows": self.config.context_rows,
            "pick": self.config.context_pick,
        }


def must_last(policy: Policy, acting: Any, rows: Transition, label: str) -> None:
    """Raises UsageError for a policy that keeps nothing of a context `[C, ...]`: as an episode starts, its memory is as
    if it had been shown none."""
    keys = jax.random.split(jax.random.key(0))

    def started(context: Transition | None) -> Any:
        memory = begin_task(policy, acting, keys[0], context)
        return policy.start(acting, memory, jnp.asarray(rows.obs[0]), keys[1])

    with_it, without = (jax.tree.leaves(jax.jit(started)(context)) for context in (rows, None))
    if all(np.array_equal(a, b) for a, b in zip(with_it, without, strict=True)):
        cause = f"{label} keeps nothing of a context: its memory is empty as an episode starts"
        raise UsageError(cause, "leave out --context")
