"""Rows of one task's log under another task: which pass, how wrong they are, and which are kept."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.algos import models
from pipelines.core.learn import stage_key, task_keys
from pipelines.core.normaliser import valid_rows
from pipelines.core.samplers import some_of
from pipelines.core.trees import task_leaf, to_dict
from pipelines.core.types import Array, Log, Relabelled, Transition, transitions
from pipelines.stages.relabel_models import CHUNK, Bench, Kit

PAIR_KEY = 1  # folded into the stage's key
EDGES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # of the ranges of spreads, in thresholds


class Errors(NamedTuple):
    """How far predictions are from the truth, and whether their spread says so; NaN where the truth is not known.

    C = 8 ranges of the spread, from less than an eighth of the threshold to more than 8 of it.
    """

    error: Array  # [] root mean square
    of_passed: Array  # [] over the rows that pass
    spread: Array  # [] root mean square
    covered: Array  # [] share of rows whose error is within two spreads
    rows: Array  # [C] of each range
    by_spread: Array  # [C] root mean square error of each range


class Pair(NamedTuple):
    """Rows of one log under one task. M rows are kept at most."""

    row: Array  # [M] ascending; those past the end of the log are none
    reward: Array  # [M]
    spread: Array  # [M]
    next_obs: Array  # [M, O], or [M, 0]
    next_spread: Array  # [M]
    passed: Array  # [] rows that pass, before thinning
    tried: Array  # [] rows that were looked at
    errors: Errors


class Whole(NamedTuple):
    """All N rows of one log under one task."""

    reward: Array  # [N]
    spread: Array  # [N]
    errors: Errors


def measure(error: Array, spread: Array, limit: Array, mask: Array) -> Errors:
    """Of rows `[N]` where `mask`; error [N, D], spread [N, D]. A row's spread is the mean over its D numbers; errors
    are root mean squares over rows, and then means over numbers. NaN where there are no rows."""

    dims, edges = error.shape[-1], jnp.asarray(EDGES)[None] * limit
    at = (spread.mean(-1)[:, None] >= edges).sum(-1)
    ranges = ((at == jnp.arange(len(EDGES) + 1)[:, None]) & mask).astype(jnp.float32)  # [C, N]
    columns = jnp.concatenate([error**2, spread**2, jnp.abs(error) <= 2 * spread], -1)
    sums = ranges @ jnp.where(mask[:, None], columns, 0)  # [C, 3 D]
    rows, within = ranges.sum(-1), EDGES.index(1.0) + 1  # ranges below the threshold

    def rms(sums: Array, count: Array) -> Array:
        """Of sums [..., D] over so many rows [...]."""
        mean = jnp.sqrt(sums / jnp.maximum(count, 1)[..., None]).mean(-1)
        return jnp.where(count > 0, mean, jnp.nan)

    square, total, count = sums[:, :dims], sums.sum(0), rows.sum()
    found = rms(total[:dims], count)
    return Errors(
        error=found,
        of_passed=rms(square[:within].sum(0), rows[:within].sum()),
        spread=rms(total[dims : 2 * dims], count),
        covered=jnp.where(jnp.isnan(found), jnp.nan, total[2 * dims :].sum() / jnp.maximum(count * dims, 1)),
        rows=rows,
        by_spread=rms(square, rows),
    )


def _judged(kit: Kit) -> Callable[..., tuple[models.Judged, Array]]:
    """`one(ensembles, task, limits, rows) -> (Judged, error [N] against the family's own reward)`"""
    judge, truth = kit.judge(CHUNK), kit.truth

    def one(ensembles: models.Ensembles, task: Array, limits: models.Limits, rows: Transition) -> Any:
        found = judge(ensembles, task, limits, rows)
        unknown = jnp.full(rows.reward.shape, jnp.nan)
        paid = unknown if truth is None else truth(task, rows.obs, rows.action, rows.next_obs, rows.outcome)
        return found, found.reward - paid

    return one


def pair(kit: Kit, rows_per_pair: int, rows_tried: int | None) -> Callable[..., Pair]:
    """`one(step, log, ensembles, task [P], limits, key) -> Pair` of another task's `log`; step: that task's id."""
    judged = _judged(kit)

    def one(step: Array, log: Log, ensembles: Any, task: Array, limits: models.Limits, key: Array) -> Pair:
        size = log.reward.shape[0]
        tried_key, kept_key = jax.random.split(jax.random.fold_in(key, step))
        number, valid = jnp.arange(size, dtype=jnp.int32), valid_rows(log)
        if rows_tried is not None and rows_tried < size:
            number = some_of(valid, tried_key, rows_tried)
            valid = number < size
        looked_at = jnp.minimum(number, size - 1)
        found, error = judged(ensembles, task, limits, transitions(log, looked_at))
        passed = valid & found.passed
        kept = some_of(passed, kept_key, rows_per_pair)
        at = jnp.minimum(kept, len(number) - 1)
        return Pair(
            row=jnp.where(kept < len(number), number[at], size),
            reward=found.reward[at],
            spread=found.spread[at],
            next_obs=found.next_obs[at],
            next_spread=found.next_spread[at],
            passed=passed.sum(),
            tried=valid.sum(),
            errors=measure(error[:, None], found.spread[:, None], limits.reward, valid),
        )

    return one


def whole(kit: Kit) -> Callable[..., Whole]:
    """`one(step, log, ensembles, task [P], limits) -> Whole` of another task's `log`."""
    judged = _judged(kit)

    def one(step: Array, log: Log, ensembles: Any, task: Array, limits: models.Limits) -> Whole:
        rows = transitions(log, jnp.arange(log.reward.shape[0]))
        found, error = judged(ensembles, task, limits, rows)
        errors = measure(error[:, None], found.spread[:, None], limits.reward, valid_rows(log))
        return Whole(found.reward, found.spread, errors)

    return one


class Own(NamedTuple):
    """What a task's ensembles make of its own rows."""

    reward: Errors
    next_obs: Errors  # in the units of the observation
    unexplained: Array  # [] share of the successors' changes that is not predicted, in deviations: 1 is nothing learned


def own(kit: Kit) -> Callable[..., Own]:
    """`one(step, data, ensembles, task [P], limits) -> Own`: errors against the log, on the rows that were held out;
    on all rows where the reward is known."""

    def one(step: Array, data: models.Data, ensembles: models.Ensembles, task: Array, limits: models.Limits) -> Own:
        rows = transitions(data.log, jnp.arange(data.log.reward.shape[0]))
        held, valid = models.held_out(data), valid_rows(data.log)
        if kit.reward is not None:
            paid, spread = models.chunked(kit.reward, CHUNK)(ensembles.reward, rows.obs, rows.action)
            error, mask = paid - rows.reward[:, None], held
        else:
            assert kit.known is not None
            paid = kit.known(task, rows.obs, rows.action, rows.next_obs, rows.outcome)
            error, mask = (paid - rows.reward)[:, None], valid
            spread = jnp.zeros_like(error)
        of_reward = measure(error, spread, limits.reward, mask)
        if kit.transition is None:
            nothing = jnp.full((len(held), 1), jnp.nan)
            return Own(of_reward, measure(nothing, nothing, limits.next_obs, held), jnp.float32(jnp.nan))
        mean, spread = models.chunked(kit.transition, CHUNK)(ensembles.transition, rows.obs, rows.action)
        flat = rows.next_obs.reshape(len(held), -1).astype(jnp.float32)
        before = rows.obs.reshape(len(held), -1).astype(jnp.float32)
        dims, count = kit.space.obs_dim, jnp.maximum(held.sum(), 1)
        error = mean[:, :dims] - flat
        moved = jnp.where(held[:, None], flat - before, 0)
        away = jnp.where(held[:, None], moved - moved.sum(0) / count, 0)
        left = jnp.where(held[:, None], error, 0)
        unexplained = jnp.sqrt((left**2).sum(0) / jnp.maximum((away**2).sum(0), 1e-12)).mean()
        return Own(of_reward, measure(error, spread[:, :dims], limits.next_obs, held), unexplained)

    return one


# ---- all pairs -------------------------------------------------------------------------------------------------------


def single_rows(bench: Bench) -> dict[str, Any]:
    """-> one leaf per task of the bench (none on the fly), and what is known of pairs [G, T], the first being the task
    whose reward it is. On the fly a pair's size is what passes of the rows that were tried."""
    config: Any = bench.work.config
    axis, other, stored = bench.axis, bench.other, config.apply == "stored"
    keys = axis.put(task_keys(jax.random.fold_in(stage_key(bench.work.seed, "relabel"), PAIR_KEY), bench.ids))
    judge = pair(bench.kit, config.rows_per_pair if stored else 1, config.rows_tried)
    call = axis.over_tasks(judge, shared=1)
    columns = []
    for j, task in enumerate(bench.tasks):
        found = call(task.id, axis.replicate(bench.logs[j]), bench.ensembles, bench.rows, bench.limits, keys)
        columns.append(axis.get(found))
        bench.told(j + 1)
    pairs: Pair = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *columns)  # [G, T, ...]
    kept = (pairs.row < len(bench.logs[0].reward)) & other[:, :, None]
    arrays = errors_of(pairs.errors)
    arrays["pass_rate"] = np.where(other, pairs.passed / np.maximum(pairs.tried, 1), 1.0).astype(np.float32)
    arrays["pair_size"] = (kept.sum(-1) if stored else np.where(other, pairs.passed, 0)).astype(np.int32)
    for g, i in enumerate(bench.numbers) if stored else ():
        mine = kept[g]
        source = np.broadcast_to(np.arange(len(mine), dtype=np.int32)[:, None], mine.shape)
        rows = relabelled(source[mine], pairs.row[g][mine], pairs.reward[g][mine], pairs.spread[g][mine])
        arrays[task_leaf(i)] = to_dict(rows._replace(next_obs=pairs.next_obs[g][mine]))
        if bench.kit.transition is not None:
            arrays[task_leaf(i)]["next_spread"] = pairs.next_spread[g][mine]
    return arrays


def relabelled(source: Any, row: Any, reward: Any, spread: Any) -> Relabelled:
    """Rows [M] of the first parent's logs, with their own successors, in nobody's place."""
    nothing: Any = np.zeros(len(row), np.int32)
    next_obs: Any = np.zeros((len(row), 0), np.float32)
    return Relabelled(nothing, source, row, reward, spread, next_obs, nothing - 1)


def errors_of(errors: Errors) -> dict[str, Any]:
    """[G, T, ...] against the family's own reward; the diagonal is filled in by `with_own`."""
    return {
        "foreign_error": errors.error,
        "passed_error": errors.of_passed,
        "within_two_spreads": errors.covered,
        "calibration_rows": np.asarray(errors.rows, np.int32),
        "calibration_error": errors.by_spread,
    }


def with_own(bench: Bench, arrays: dict[str, Any], own: Own) -> dict[str, Any]:
    """`arrays` and what each task's ensembles make of its own rows; on the diagonal of what is of pairs, too."""
    out, diagonal = dict(arrays), (np.arange(len(bench.numbers)), np.asarray(bench.numbers))
    for name, value in errors_of(own.reward).items():
        out[name] = np.array(out[name])
        out[name][diagonal] = value
    out["held_out_error"] = own.reward.error
    if bench.kit.reward is not None:
        out["error_per_spread"] = own.reward.error / np.maximum(own.reward.spread, 1e-12)
    if bench.kit.transition is not None:
        out |= {
            "held_out_next_error": own.next_obs.error,
            "next_error_per_spread": own.next_obs.error / np.maximum(own.next_obs.spread, 1e-12),
            "next_calibration_rows": np.asarray(own.next_obs.rows, np.int32),
            "next_calibration_error": own.next_obs.by_spread,
            "unexplained": own.unexplained,
        }
    return out
