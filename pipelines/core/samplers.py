"""Draws from logs. One task's view; across-task algorithms map them over T."""

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
