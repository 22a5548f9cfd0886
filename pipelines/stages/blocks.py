"""The loop of every stage that learns: compiled blocks, metrics, NaN watch, snapshots, checkpoints, Ctrl-C."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from pipelines.core.errors import StageFailed
from pipelines.core.interrupt import deferred_interrupt
from pipelines.core.trees import to_dict
from pipelines.core.work import Work


@dataclass(frozen=True)
class Plan:
    """`total` steps in blocks of `block`, `snapshots` of them kept or, with `every`, one each so many steps; `tasks`
    names the leading axis of the metrics."""

    total: int
    block: int
    snapshots: int
    unit: str
    headline: str  # the metric that matters
    tasks: tuple[str, ...] = ()
    every: int | None = None
    sparse: frozenset[str] = frozenset()  # metrics that are NaN where a block has nothing to tell

    def snapshot_steps(self) -> list[int]:
        """Steps after which a policy is kept: block ends, the last one being the end; evenly spaced, or those at or
        first after each multiple of `every`."""
        blocks = self.total // self.block
        if self.every is not None:
            ends = {-(-step // self.block) for step in range(self.every, self.total, self.every)} | {blocks}
            return [end * self.block for end in sorted(ends)]
        kept = min(self.snapshots, blocks)
        return [round(blocks * (k + 1) / kept) * self.block for k in range(kept)]


def run_blocks(
    work: Work,
    plan: Plan,
    carry: Any,
    advance: Callable[[int, Any], tuple[Any, dict[str, Any]]],
    acting: Callable[[Any], Any],
    restore: Callable[[Any], Any] = lambda carry: carry,
) -> tuple[Any, dict[str, Any]]:
    """Runs `advance(step, carry) -> (carry, metrics)` block by block from the last checkpoint, if there is one.

    `acting(carry)` is the host tree that a snapshot keeps, `restore` puts a checkpoint's carry on the devices.
    A part of a work in several ends with a checkpoint, and its steps are counted after those of the parts before.
    Returns the last carry and {"step": [S], "acting": tree [S, ...]}. Raises StageFailed naming the task whose loss is
    not finite (the last good checkpoint stays), KeyboardInterrupt after saving.
    """
    wanted = plan.snapshot_steps()
    empty = jax.tree.map(lambda leaf: np.zeros((len(wanted), *leaf.shape), leaf.dtype), acting(carry))
    step, snapshots = 0, empty
    saved = work.checkpoint.load((carry, empty))
    if saved is not None:
        step, (held, snapshots) = saved
        snapshots = jax.tree.map(np.array, snapshots)  # writable
        carry = restore(held)
        work.tell.note(f"resumed at {plan.unit} {step} of {plan.total}")
    number, parts = work.part
    before = number * plan.total
    with deferred_interrupt() as interrupted:
        while step < plan.total:
            carry, metrics = advance(step, carry)
            step += plan.block
            told = _checked(metrics, plan, step)
            work.tell.metrics(before + step, told)
            work.tell.progress(before + step, parts * plan.total, plan.unit, _headline(told, plan.headline))
            if step in wanted:
                at = wanted.index(step)
                jax.tree.map(lambda kept, leaf: kept.__setitem__(at, leaf), snapshots, acting(carry))  # noqa: B023
            due = work.checkpoint.due() if step < plan.total else parts > 1
            if interrupted() or due:
                work.checkpoint.save(step, (carry, snapshots))
            if interrupted():
                raise KeyboardInterrupt
    return carry, {"step": np.asarray(wanted, np.int32), "acting": snapshots}


def _checked(metrics: dict[str, Any], plan: Plan, step: int) -> dict[str, float]:
    """Means under the plain name, each task's under `name/task`; of a sparse one those that are known. Raises
    StageFailed on any other number that is not finite."""
    flat: dict[str, float] = {}
    for name, value in metrics.items():
        values = np.asarray(value)
        if name in plan.sparse:
            each = zip(plan.tasks, values, strict=True)
            if known := {f"{name}/{task}": float(one) for task, one in each if not np.isnan(one)}:
                flat |= {name: float(np.mean(list(known.values())))} | known
            continue
        if not np.isfinite(values).all():
            spoilt = (
                [task for task, one in zip(plan.tasks, values, strict=True) if not np.isfinite(one)]
                if values.ndim
                else []
            )
            where = f"task {', '.join(spoilt)}" if spoilt else "all tasks together"
            raise StageFailed(
                f"{name} is not finite in {where} between {plan.unit} {step - plan.block} and {step}",
                "a lower learning rate often helps (--set agent.learning_rate=...); the last good checkpoint is kept",
            )
        flat[name] = float(values.mean())
        if values.ndim:
            flat |= {f"{name}/{task}": float(one) for task, one in zip(plan.tasks, values, strict=True)}
    return flat


def _headline(told: dict[str, float], name: str) -> str:
    return f"{name} {told[name]:.4g}" if name in told else ""


def snapshot_arrays(snapshots: dict[str, Any]) -> dict[str, Any]:
    """What `run_blocks` kept along the way, as an artifact holds it."""
    return {"snapshots": to_dict(snapshots["acting"]), "snapshot_step": snapshots["step"]}
