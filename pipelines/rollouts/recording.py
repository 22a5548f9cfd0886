"""Logs being written, row by row, in time order."""

from typing import NamedTuple

import jax.numpy as jnp

from pipelines.core.types import Array, HostFamily, Log, TaskFamily, Transition


class Recorder(NamedTuple):
    """One task's log being written, row by row."""

    log: Log
    rows: Array  # [] rows written
    episode: Array  # []
    total: Array  # [] return of the running episode so far


def recorder(family: TaskFamily, num_rows: int, first_obs: Array) -> Recorder:
    """An empty log of `num_rows` rows that begins at `first_obs`."""
    space = family.space
    # an episode may be cut at any step where physics may fail or a simulator be lost; others run to the horizon
    early = family.terminates or family.may_fail or isinstance(family, HostFamily)
    num_episodes = num_rows if early else -(-num_rows // family.horizon)
    log = Log(
        obs=jnp.zeros((num_rows + num_episodes, *space.obs_shape), space.obs_dtype).at[0].set(first_obs),
        action=jnp.zeros((num_rows, *space.action_shape), space.action_dtype),
        reward=jnp.zeros((num_rows,)),
        terminal=jnp.zeros((num_rows,), bool),
        truncated=jnp.zeros((num_rows,), bool),
        outcome=jnp.zeros((num_rows, family.outcome_dim)),
        episode=jnp.zeros((num_rows,), jnp.int32),
        step=jnp.zeros((num_rows,), jnp.int32),
        behaviour=jnp.zeros((num_rows,), jnp.int32),
        size=jnp.int32(0),
    )
    return Recorder(log, jnp.int32(0), jnp.int32(0), jnp.float32(0))


def record(rec: Recorder, row: Transition, step: Array, behaviour: Array, next_first_obs: Array) -> Recorder:
    """Appends `row`, the `step`-th of its episode; where it ends the episode, the next one begins at `next_first_obs`.

    The last row of the log is truncated if nothing else ended its episode: recording stopped.
    """
    log, n = rec.log, rec.rows
    stopped = (n + 1 == log.reward.shape[0]) & ~row.terminal
    row = row._replace(truncated=row.truncated | stopped)
    done = row.terminal | row.truncated
    slot = n + rec.episode
    log = Log(
        # the first observation of the next episode has no slot after the last row; "drop" lets it go
        obs=log.obs.at[slot + 1]
        .set(row.next_obs)
        .at[slot + 1 + done]
        .set(jnp.where(done, next_first_obs, row.next_obs), mode="drop"),
        action=log.action.at[n].set(row.action),
        reward=log.reward.at[n].set(row.reward),
        terminal=log.terminal.at[n].set(row.terminal),
        truncated=log.truncated.at[n].set(row.truncated),
        outcome=log.outcome.at[n].set(row.outcome),
        episode=log.episode.at[n].set(rec.episode),
        step=log.step.at[n].set(step),
        behaviour=log.behaviour.at[n].set(behaviour),
        size=n + 1,
    )
    total = jnp.where(done, 0.0, rec.total + row.reward)
    return Recorder(log, n + 1, rec.episode + done, total)


def cut(rec: Recorder, next_first_obs: Array) -> Recorder:
    """Ends the running episode where it stands, as truncated: its simulator could not be restored."""
    log, n = rec.log, rec.rows
    running = (n > 0) & ~(log.terminal[n - 1] | log.truncated[n - 1])
    slot = n + rec.episode + running  # an ended episode has had its successor's first observation written already
    log = log._replace(
        truncated=log.truncated.at[n - 1].set(log.truncated[n - 1] | running),
        obs=log.obs.at[slot].set(next_first_obs, mode="drop"),
    )
    return Recorder(log, n, rec.episode + running, jnp.float32(0))
