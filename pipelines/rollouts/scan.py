"""Policies meet families. One step of acting, written once; evaluation and collection are scans of it."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pipelines.core.types import Array, Log, Policy, TaskFamily, Transition

DISCOUNT_FLOOR = 1e-3  # a discounted return is followed until the discount falls below this


class Live(NamedTuple):
    """A running episode: the simulator's state, what the agent sees, the episode's step and the policy's memory."""

    sim: Any
    obs: Array
    step: Array
    memory: Any


def begin(family: TaskFamily, policy: Policy, acting: Any, task: Array, memory: Any, key: Array) -> Live:
    """A fresh episode that keeps what the policy remembers of the task."""
    sim_key, start_key = jax.random.split(key)
    sim, obs = family.reset(task, sim_key)
    return Live(sim, obs, jnp.int32(0), policy.start(acting, memory, obs, start_key))


def step(
    family: TaskFamily, policy: Policy, acting: Any, task: Array, live: Live, action: Array, key: Array
) -> tuple[Live, Transition]:
    """One control step with `action`; the policy observes it. Episodes never end here: resetting is the caller's."""
    sim, obs, reward, terminal, outcome = family.step(task, live.sim, action, key)
    truncated = (live.step + 1 >= family.horizon) & ~terminal
    row = Transition(live.obs, action, reward, obs, terminal, truncated, outcome)
    return Live(sim, obs, live.step + 1, policy.observe(acting, live.memory, row)), row


class Episodes(NamedTuple):
    """Zero-shot episodes of one acting state on one task. P episodes, H horizon."""

    returns: Array  # [P] undiscounted, over the horizon
    discounted: Array  # [P] followed until the discount falls below 1e-3
    value: Array  # [P] Q(s0, a0); NaN where the policy has none
    obs: Array  # [P, H + 1, O]
    rewards: Array  # [P, H]


def zero_shot(family: TaskFamily, policy: Policy, discount: float, num_episodes: int) -> Callable[..., Episodes]:
    """`run(acting, task [K], key) -> Episodes`: one task, P episodes mapped, each beginning with an empty memory.

    The scan is longer than the horizon where the discounted return needs it (`discount` < 1); rows past a terminal
    state pay nothing, rows past the horizon count in the discounted return only.
    """
    tail = math.ceil(math.log(DISCOUNT_FLOOR) / math.log(discount)) if 0 < discount < 1 else 0
    length = max(family.horizon, tail)

    def episode(acting: Any, task: Array, key: Array) -> Episodes:
        begin_key, reset_key, steps_key = jax.random.split(key, 3)
        first = begin(family, policy, acting, task, policy.begin(acting, begin_key), reset_key)

        def one(carry: tuple[Live, Array], t: Array) -> tuple[tuple[Live, Array], Any]:
            live, ended = carry
            act_key, step_key = jax.random.split(jax.random.fold_in(steps_key, t))
            action = policy.act(acting, live.memory, live.obs, act_key, 0.0)
            after, row = step(family, policy, acting, task, live, action, step_key)
            if policy.value is None:
                value = jnp.float32(jnp.nan)
            else:
                value = policy.value(acting, live.memory, live.obs, row.action)
            return (after, ended | row.terminal), (jnp.where(ended, 0.0, row.reward), row.next_obs, value)

        _, (reward, next_obs, value) = jax.lax.scan(one, (first, jnp.zeros((), bool)), jnp.arange(length))
        horizon = family.horizon
        return Episodes(
            returns=reward[:horizon].sum(),
            discounted=(reward * discount ** jnp.arange(length)).sum(),
            value=value[0],
            obs=jnp.concatenate([first.obs[None], next_obs[:horizon]]),
            rewards=reward[:horizon],
        )

    def run(acting: Any, task: Array, key: Array) -> Episodes:
        return jax.vmap(functools.partial(episode, acting, task))(jax.random.split(key, num_episodes))

    return run


# ---- recording -------------------------------------------------------------------------------------------------------


class Recorder(NamedTuple):
    """One task's log being written, row by row."""

    log: Log
    rows: Array  # [] rows written
    episode: Array  # []
    total: Array  # [] return of the running episode so far


def recorder(family: TaskFamily, num_rows: int, first_obs: Array) -> Recorder:
    """An empty log of `num_rows` rows that begins at `first_obs`."""
    space = family.space
    num_episodes = num_rows if family.terminates else -(-num_rows // family.horizon)
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
