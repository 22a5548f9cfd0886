"""relabel: which logged rows would have been paid what in another task. replay-log -> relabelled-log

For every ordered pair (i, j): rows of task j's log under task i's reward. Where the reward is learned, rows on which
task i's ensemble disagrees are left out (MBML section 3.1); rewards that a family knows are computed on every row.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.algos import models
from pipelines.core.errors import UsageError
from pipelines.core.learn import block, stage_key, task_keys
from pipelines.core.taskmap import TaskAxis
from pipelines.core.trees import task_leaf, to_dict
from pipelines.core.types import Array, Log, Relabelled, Task, TaskFamily, task_rows, transitions
from pipelines.core.work import Product, Work
from pipelines.stages import learners
from pipelines.stages.blocks import Plan, run_blocks
from pipelines.tasks import registry

CHUNK = 2_048  # rows predicted at once: a member's activations must fit a core's cache


class Judged(NamedTuple):
    """Rows of one log under one task's reward, and what is kept of them. N rows, M kept at most."""

    row: Array  # [M]
    reward: Array  # [M]
    spread: Array  # [M]
    passed: Array  # [] rows that pass, before thinning
    tried: Array  # [] rows that were looked at
    error: Array  # [] root mean square error against the known reward; NaN where it is not known
    covered: Array  # [] share of rows whose error is within two spreads


def reward_of(family: TaskFamily | None, space: Any) -> Any:
    """`one(task [P], rows) -> [N]` by the family's own function; UsageError where it is not known."""
    if family is None:
        raise UsageError("the log names no family, so its reward is not known", "--set reward=model learns it")
    return jax.vmap(family.reward, in_axes=(None, 0, 0, 0, 0))


def judge(config: Any, model: models.Model, known: Any) -> Any:
    """`one(step, log, fitted, task, threshold, key) -> Judged` of another task's `log`."""

    def one(step: Array, log: Log, fitted: Any, task: Array, threshold: Array, key: Array) -> Judged:
        size = log.reward.shape[0]
        key = jax.random.fold_in(key, step)  # the number of the task that the log is of
        tried_key, kept_key = jax.random.split(key)
        valid = jnp.arange(size) < log.size
        if config.rows_tried is not None and config.rows_tried < size:
            luck = jnp.where(valid, jax.random.uniform(tried_key, (size,)), -1.0)
            valid &= luck >= jax.lax.top_k(luck, config.rows_tried)[0][-1]
        rows = transitions(log, jnp.arange(size))
        unknown = jnp.full((size,), jnp.nan)
        paid = unknown if known is None else known(task, rows.obs, rows.action, rows.next_obs, rows.outcome)
        if config.reward == "known":
            reward, spread, passed = paid, jnp.zeros((size,)), valid
        else:
            reward, spread = (column[:, 0] for column in predicted(model, fitted, rows.obs, rows.action))
            passed = valid & (spread < threshold)
        error = reward - paid
        count = jnp.maximum(valid.sum(), 1)
        luck = jnp.where(passed, jax.random.uniform(kept_key, (size,)), -1.0)
        luck, chosen = jax.lax.top_k(luck, min(config.rows_per_pair, size))
        chosen = jnp.sort(jnp.where(luck >= 0, chosen, size))  # those past the end are none
        at = jnp.minimum(chosen, size - 1)
        return Judged(
            row=chosen.astype(jnp.int32),
            reward=reward[at],
            spread=spread[at],
            passed=passed.sum(),
            tried=valid.sum(),
            error=jnp.sqrt(jnp.where(valid, error**2, 0).sum() / count),
            covered=(valid & (jnp.abs(error) <= 2 * spread)).sum() / count,
        )

    return one


def predicted(model: models.Model, fitted: Any, obs: Array, action: Array) -> tuple[Array, Array]:
    """`model.predict` on many rows, CHUNK at a time."""
    size = obs.shape[0]
    whole = -(-size // CHUNK) * CHUNK

    def cut(column: Array) -> Array:
        padded = jnp.concatenate([column, jnp.zeros((whole - size, *column.shape[1:]), column.dtype)])
        return padded.reshape(-1, CHUNK, *column.shape[1:])

    mean, spread = jax.lax.map(lambda rows: model.predict(fitted, *rows), (cut(obs), cut(action)))
    return mean.reshape(whole, -1)[:size], spread.reshape(whole, -1)[:size]


def learn(work: Work, axis: TaskAxis, model: models.Model, data: Any, tasks: tuple[Task, ...]) -> Any:
    """Every task's ensemble `[T, ...]`, on the devices."""
    config: Any = work.config
    init_keys, keys = (
        axis.put(task_keys(key, [task.id for task in tasks]))
        for key in jax.random.split(stage_key(work.seed, "relabel"))
    )
    carry = axis.over_tasks(lambda step, key, data: model.init(key, data))(0, init_keys, data)
    advance = axis.over_tasks(block(model, config.block_updates), donate=(1,))
    names = tuple(task.name for task in tasks)
    plan = Plan(config.updates, config.block_updates, 0, "update", "model_loss", names)

    def step(number: int, carry: Any) -> tuple[Any, dict[str, Any]]:
        carry, metrics = advance(number, carry, data, keys)
        return carry, axis.get(metrics)

    carry, _ = run_blocks(work, plan, carry, step, lambda carry: np.zeros(0), axis.put_padded)
    return axis.over_tasks(lambda step, state: model.fitted(state))(0, carry)


def known_reward(work: Work, card: Any) -> Any:
    """The family's own reward on rows, or None where it is not known and not wanted."""
    wanted = work.config.reward == "known"  # type: ignore[attr-defined]
    name = card.extra.get("family")
    if not name and not wanted:
        return None
    family = registry.find(name) if name else None
    if family is not None and family.dynamics and wanted:
        raise UsageError(
            f"the tasks of {family.name} differ in their dynamics: a reward alone does not relabel a row",
            "relabelling their successors is not built yet",
        )
    return reward_of(family, None)


def run(work: Work) -> Product:
    """Learns the ensembles if need be, judges every pair, keeps indices and rewards."""
    config: Any = work.config
    log = work.inputs["log"]
    logs, tasks, space, _ = learners.read_log(log)
    learners.want_tasks(tasks, 2, "relabel")
    known = known_reward(work, log.card)
    axis = TaskAxis(len(tasks), config.mapping)
    model = models.make(config.model, space)
    data = axis.over_tasks(lambda step, log: models.hold_out(log))(0, axis.put(logs))
    deviation = np.array([np.std(one.reward[: one.size]) for one in _each(logs)], np.float32)
    threshold = np.full(len(tasks), config.threshold, np.float32) if config.threshold else deviation / 10
    if config.reward == "model":
        fitted = learn(work, axis, model, data, tasks)
        own = axis.get(axis.over_tasks(lambda step, data, fitted: own_error(model, data, fitted))(0, data, fitted))
    else:
        fitted, own = axis.put(np.zeros((len(tasks), 0))), np.zeros(len(tasks))
    pair_key = jax.random.fold_in(stage_key(work.seed, "relabel"), 1)
    keys = axis.put(task_keys(pair_key, [task.id for task in tasks]))
    rows = axis.put(task_rows(tasks))
    limits = axis.put(threshold)
    call = axis.over_tasks(judge(config, model, known), shared=1)
    columns = []
    for j, (task, one) in enumerate(zip(tasks, _each(logs), strict=True)):
        columns.append(axis.get(call(task.id, axis.replicate(one), fitted, rows, limits, keys)))
        work.tell.progress(j + 1, len(tasks), "log", "relabelling")
    stacked: list[Any] = [np.stack(found, axis=1) for found in zip(*columns, strict=True)]
    return product(work, log.card, tasks, logs, Judged(*stacked), own, threshold)  # [T, T, ...]


def own_error(model: models.Model, data: models.Data, fitted: Any) -> Array:
    """Root mean square error on the rows that were held out. -> []"""
    rows = transitions(data.log, jnp.arange(data.log.reward.shape[0]))
    mean, _ = predicted(model, fitted, rows.obs, rows.action)
    held = models.held_out(data)
    return jnp.sqrt(jnp.where(held, (mean[:, 0] - rows.reward) ** 2, 0).sum() / jnp.maximum(held.sum(), 1))


def _each(logs: Any) -> list[Log]:
    return [Log(*(column[t] for column in logs)) for t in range(len(logs.size))]


def product(
    work: Work, card: Any, tasks: tuple[Task, ...], logs: Log, judged: Judged, own: np.ndarray, threshold: np.ndarray
) -> Product:
    """One leaf per task and column; `pair_size`, `pass_rate` [T, T], row i being the task whose reward it is."""
    config: Any = work.config
    count = len(tasks)
    other = ~np.eye(count, dtype=bool)
    kept = (judged.row < logs.reward.shape[1]) & other[:, :, None]
    arrays: dict[str, Any] = {
        "pair_size": kept.sum(-1).astype(np.int32),
        "pass_rate": np.where(other, judged.passed / np.maximum(judged.tried, 1), 1.0).astype(np.float32),
        "threshold": threshold,
        "held_out_error": np.asarray(own, np.float32),
        "foreign_error": judged.error,
        "within_two_spreads": judged.covered,
    }
    for i in range(count):
        mine = kept[i]
        source = np.broadcast_to(np.arange(count, dtype=np.int32)[:, None], mine.shape)
        columns: list[Any] = [np.zeros(int(mine.sum()), np.int32), source[mine]]
        columns += [column[i][mine] for column in (judged.row, judged.reward, judged.spread)]
        arrays[task_leaf(i)] = to_dict(Relabelled(*columns))
    thin = [(i, j) for i, j in zip(*np.nonzero(other & (arrays["pair_size"] < config.least_rows)), strict=True)]
    for i, j in thin[:5]:
        size = arrays["pair_size"][i, j]
        work.tell.note(f"only {size} rows of task {tasks[j].name} pass under the reward of task {tasks[i].name}")
    if len(thin) > 5:
        work.tell.note(f"and {len(thin) - 5} more pairs with fewer than {config.least_rows} rows")
    metrics = {
        "pass_rate": float(arrays["pass_rate"][other].mean()),
        "rows": float(arrays["pair_size"].sum()),
        "thin_pairs": float(len(thin)),
        "held_out_error": float(np.mean(own)),
    }
    if np.isfinite(judged.error).all():
        metrics |= {
            "foreign_error": float(judged.error[other].mean()),
            "within_two_spreads": float(judged.covered[other].mean()),
        }
    extra = {name: card.extra[name] for name in ("family", "space", "horizon", "discount")}
    extra |= {"reward": config.reward, "unit": "row", "thin_pairs": [[tasks[i].name, tasks[j].name] for i, j in thin]}
    name = f"{config.reward}-{card.extra['family']}" if card.extra["family"] else config.reward
    name = "-".join("".join(c if c.isalnum() else " " for c in name).split())
    return Product(arrays, metrics, list(card.tasks), extra, name=name)
