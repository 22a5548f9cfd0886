"""Draws from logs. One task's view; across-task algorithms map them over T."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from pipelines.core.types import Array, Log, Transition, transitions


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
    ends = jnp.cumsum(logs.size)
    flat = jax.random.randint(key, (batch_size,), 0, ends[-1])
    task = jnp.searchsorted(ends, flat, side="right")
    row = flat - (ends - logs.size)[task]
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
