"""Draws from logs. One task's view; across-task algorithms map them over T."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from pipelines.core.types import Array, Log, Relabelled, Transition, transitions


def row_numbers(log: Log, key: Array, batch_size: int) -> Array:
    """`[B]` row numbers, uniform with replacement."""
    return jax.random.randint(key, (batch_size,), 0, log.size)


def rows(log: Log, key: Array, batch_size: int) -> Transition:
    """`[B]` transitions, uniform with replacement."""
    return transitions(log, row_numbers(log, key, batch_size))


def contexts(log: Log, key: Array, excluded: Array, context_size: int) -> Transition:
    """`[B, L]` transitions: for each row of `excluded [B]` a set of L others, uniform with replacement."""
    ahead = jax.random.randint(key, (*excluded.shape, context_size), 1, jnp.maximum(log.size, 2))
    return transitions(log, (excluded[:, None] + ahead) % log.size)


def pooled(logs: Log, key: Array, batch_size: int) -> Transition:
    """`[B]` transitions, uniform over the rows of all T logs (tiMe section 5.1's single replay buffer)."""
    return rows_of(logs, *pooled_numbers(logs, key, batch_size))


def pooled_numbers(logs: Log, key: Array, batch_size: int) -> tuple[Array, Array]:
    """`[B]` tasks and row numbers, uniform over the rows of all T logs."""
    ends = jnp.cumsum(logs.size)
    flat = jax.random.randint(key, (batch_size,), 0, ends[-1])
    task = jnp.searchsorted(ends, flat, side="right")
    return task, flat - (ends - logs.size)[task]


def balanced_numbers(logs: Log, key: Array, batch_size: int) -> tuple[Array, Array]:
    """`[B]` tasks, uniform, and row numbers, uniform over the rows of each."""
    task_key, row_key = jax.random.split(key)
    task = jax.random.randint(task_key, (batch_size,), 0, logs.size.shape[0])
    return task, jax.random.randint(row_key, (batch_size,), 0, logs.size[task])


def rows_of(logs: Log, task: Array, row: Array) -> Transition:
    """Rows `row [...]` of the logs `task [...]` of a stack `[T, ...]`."""
    slot = row + logs.episode[task, row]
    return Transition(
        obs=logs.obs[task, slot],
        action=logs.action[task, row],
        reward=logs.reward[task, row],
        next_obs=logs.obs[task, slot + 1],
        terminal=logs.terminal[task, row],
        truncated=logs.truncated[task, row],
        outcome=logs.outcome[task, row],
    )


class Trial(NamedTuple):
    """k consecutive episodes of one task as one episode of its Bayes-adaptive MDP (BOReL section 3). L = k H rows.

    The observation of the BAMDP is (obs, flag); the flag is 1 where an episode begins inside the trial. Rows past the
    end of a shorter trial are not `valid`.
    """

    row: Transition  # [B, L, ...]
    flag: Array  # [B, L] of obs
    next_flag: Array  # [B, L] of next_obs
    valid: Array  # [B, L] bool


def trials(
    log: Log, key: Array, batch_size: int, num_episodes: int, horizon: int, boundary: Literal["start", "end"] = "start"
) -> Trial:
    """`[B, k H]`: trials drawn uniformly with replacement from the log cut into trials of k whole episodes.

    What follows an episode's last row inside a trial, and what the next episode's first action was chosen on:
    `start`, the next episode's first observation with flag 1, whatever the log's true successor; `end`, as BOReL's code
    has it, the terminal observation with flag 1. Terminal ends the trial's last episode only: inside a trial a
    transition always has a successor.
    """
    held = jnp.arange(log.episode.shape[0]) < log.size
    last = log.size - 1
    whole = log.terminal[last] | (log.step[last] + 1 >= horizon)  # a log may stop in the middle of an episode
    num_trials = (log.episode[last] + whole) // num_episodes
    first_episode = num_episodes * jax.random.randint(key, (batch_size,), 0, num_trials)
    begins = jnp.searchsorted(jnp.where(held, log.episode, log.episode[last] + 1), first_episode)
    rows = jnp.minimum(begins[:, None] + jnp.arange(num_episodes * horizon), last)
    number = log.episode[rows] - first_episode[:, None]
    valid = (begins[:, None] + jnp.arange(num_episodes * horizon) <= last) & (number < num_episodes)
    opens = (log.step[rows] == 0) & (number > 0)
    closes = (log.terminal[rows] | log.truncated[rows]) & (number < num_episodes - 1)
    row = transitions(log, rows)

    def pick(mask: Array, new: Array, old: Array) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (old.ndim - mask.ndim)), new, old)

    if boundary == "start":
        row = row._replace(next_obs=pick(closes, transitions(log, jnp.minimum(rows + 1, last)).obs, row.next_obs))
    else:
        row = row._replace(obs=pick(opens, transitions(log, jnp.maximum(rows - 1, 0)).next_obs, row.obs))
    row = row._replace(terminal=row.terminal & ~closes)
    return Trial(row, opens.astype(jnp.float32), closes.astype(jnp.float32), valid)


class Trials(NamedTuple):
    """Where the trials of T logs lie: trial m of a task is rows first[m] to first[m + 1]."""

    first: Array  # [T, M + 1] int32; those of a task with fewer are followed by its end
    size: Array  # [T] int32, trials of each task


def logged_trials(logs: Log, where: Trials, task: Array, number: Array, length: int) -> Trial:
    """Trials `number [...]` of the tasks `task [...]` as they were logged, `[..., length]`: the successor of each row
    is the true one, with flag 1 where an episode ended inside the trial."""
    begin, end = where.first[task, number], where.first[task, number + 1]
    at = begin[..., None] + jnp.arange(length).reshape((1,) * begin.ndim + (-1,))
    rows, valid = jnp.minimum(at, end[..., None] - 1), at < end[..., None]
    tasks = jnp.broadcast_to(task[..., None], rows.shape)
    after = jnp.minimum(rows + 1, end[..., None] - 1)
    opens = (logs.step[tasks, rows] == 0) & (rows > begin[..., None])
    closes = (logs.step[tasks, after] == 0) & (after > rows)
    return Trial(rows_of(logs, tasks, rows), opens.astype(jnp.float32), closes.astype(jnp.float32), valid)


# ---- relabelled rows -------------------------------------------------------------------------------------------------


class Foreign(NamedTuple):
    """Rows of other tasks: as they were logged, and as one task would have paid (and moved) them."""

    logged: Transition  # [B, ...]
    relabelled: Transition  # [B, ...]
    valid: Array  # [B] bool; false where there is no such row


class Pool(NamedTuple):
    """The stored rows of all tasks; those of task j under task i are `rows` number start[i, j] and on."""

    rows: Relabelled  # [T, M], M >= 1: shorter ones are padded
    start: Array  # [T, T] int32
    size: Array  # [T, T] int32


def some_of(mask: Array, key: Array, count: int) -> Array:
    """`[min(count, N)]` int32: rows where `mask [N]`, uniformly without repetition, in order; N for those that lack."""
    size = mask.shape[0]
    luck = jnp.where(mask, jax.random.uniform(key, (size,)), -1.0)
    luck, chosen = jax.lax.top_k(luck, min(count, size))
    return jnp.sort(jnp.where(luck >= 0, chosen, size)).astype(jnp.int32)


def relabelled(logs: Log, found: Relabelled) -> tuple[Transition, Transition]:
    """Single rows `found [...]` out of the logs `[T, ...]`: as they were logged, and as they were relabelled."""
    logged = rows_of(logs, found.task, found.row)
    moved = {"next_obs": found.next_obs} if found.next_obs.shape == logged.next_obs.shape else {}
    return logged, logged._replace(reward=found.reward, **moved)


def pair_rows(logs: Log, pool: Pool, i: Array, j: Array, key: Array, batch_size: int) -> Foreign:
    """`[B]` rows of task j under task i, uniform with replacement; none is valid where none was kept."""
    return _foreign(logs, pool, i, pool.start[i, j], pool.size[i, j], key, batch_size)


def foreign_rows(logs: Log, pool: Pool, i: Array, key: Array, batch_size: int) -> Foreign:
    """`[B]` rows under task i of all other tasks, uniform with replacement: tasks take part as they have rows."""
    return _foreign(logs, pool, i, jnp.int32(0), pool.size[i].sum(), key, batch_size)


def _foreign(logs: Log, pool: Pool, i: Array, start: Array, size: Array, key: Array, batch_size: int) -> Foreign:
    at = start + jax.random.randint(key, (batch_size,), 0, jnp.maximum(size, 1))
    at = jnp.minimum(at, pool.rows.row.shape[1] - 1)  # an empty pair may stand behind the last row
    logged, new = relabelled(logs, jax.tree.map(lambda leaf: leaf[i, at], pool.rows))
    return Foreign(logged, new, jnp.broadcast_to(size > 0, (batch_size,)))
