"""The driver of device families: one step of acting, written once; evaluation and collection are scans of it."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pipelines.core.types import Array, DeviceFamily, Policy, Transition
from pipelines.rollouts.episodes import Episodes, Trials, begin_task, discounted_return, places, tail_steps


class Live(NamedTuple):
    """A running episode: the simulator's state, what the agent sees, the episode's step and the policy's memory."""

    sim: Any
    obs: Array
    step: Array
    memory: Any


def failed(sim: Any) -> Any:
    """Whether the physics failed: such an engine holds the last good state still, and its state says so."""
    return getattr(sim, "diverged", False)


def begin(family: DeviceFamily, policy: Policy, acting: Any, task: Array, memory: Any, key: Array) -> Live:
    """A fresh episode that keeps what the policy remembers of the task."""
    sim_key, start_key = jax.random.split(key)
    sim, obs = family.reset(task, sim_key)
    return Live(sim, obs, jnp.int32(0), policy.start(acting, memory, obs, start_key))


def step(
    family: DeviceFamily, policy: Policy, acting: Any, task: Array, live: Live, action: Array, key: Array
) -> tuple[Live, Transition]:
    """One control step with `action`; the policy observes it. Episodes never end here: resetting is the caller's."""
    sim, obs, reward, terminal, outcome = family.step(task, live.sim, action, key)
    truncated = ((live.step + 1 >= family.horizon) | failed(sim)) & ~terminal
    row = Transition(live.obs, action, reward, obs, terminal, truncated, outcome)
    return Live(sim, obs, live.step + 1, policy.observe(acting, live.memory, row)), row


def zero_shot(family: DeviceFamily, policy: Policy, discount: float, num_episodes: int) -> Callable[..., Episodes]:
    """`run(acting, task [K], key, context) -> Episodes`: one task, P episodes mapped, each beginning with an empty
    memory, or with one that was shown the rows of its `context` [P, C, ...].

    The scan is longer than the horizon where the discounted return needs it (`discount` < 1); rows past a terminal
    state pay nothing, rows past the horizon count in the discounted return only.
    """
    length, where = max(family.horizon, tail_steps(discount)), places(family)

    def episode(acting: Any, task: Array, key: Array, context: Transition | None) -> Episodes:
        begin_key, reset_key, steps_key = jax.random.split(key, 3)
        first = begin(family, policy, acting, task, begin_task(policy, acting, begin_key, context), reset_key)

        def one(carry: tuple[Live, Array], t: Array) -> tuple[tuple[Live, Array], Any]:
            live, ended = carry
            act_key, step_key = jax.random.split(jax.random.fold_in(steps_key, t))
            action = policy.act(acting, live.memory, live.obs, act_key, 0.0)
            after, row = step(family, policy, acting, task, live, action, step_key)
            if policy.value is None:
                value = jnp.float32(jnp.nan)
            else:
                value = policy.value(acting, live.memory, live.obs, row.action)
            return (after, ended | row.terminal | failed(after.sim)), (
                jnp.where(ended, 0.0, row.reward),
                where(row.next_obs),
                value,
                ended,
            )

        _, (reward, path, value, over) = jax.lax.scan(one, (first, jnp.zeros((), bool)), jnp.arange(length))
        horizon = family.horizon
        return Episodes(
            returns=reward[:horizon].sum(),
            discounted=(reward * discount ** jnp.arange(length)).sum(),
            value=value[0],
            path=jnp.concatenate([where(first.obs)[None], path[:horizon]]),
            rewards=reward[:horizon],
            length=(~over[:horizon]).sum(),
        )

    def run(acting: Any, task: Array, key: Array, context: Transition | None = None) -> Episodes:
        return jax.vmap(functools.partial(episode, acting, task))(jax.random.split(key, num_episodes), context)

    return run


def trials(family: DeviceFamily, policy: Policy, num_trials: int, num_episodes: int) -> Callable[..., Trials]:
    """`run(acting, task [K], key, context) -> Trials`: P trials of k episodes on one task.

    The memory is begun once in a trial, and shown the rows of its `context` [P, C, ...]; `policy.start` hears of each
    episode, `policy.observe` sees every row up to an episode's end and none past it.
    """
    where = places(family)
    value_of = policy.value or (lambda *_: jnp.float32(jnp.nan))

    def episode(acting: Any, task: Array, memory: Any, keys: tuple[Array, Array]) -> tuple[Any, Any]:
        reset_key, steps_key = keys
        first = begin(family, policy, acting, task, memory, reset_key)

        def one(carry: tuple[Live, Array], t: Array) -> tuple[tuple[Live, Array], Any]:
            live, ended = carry
            act_key, step_key = jax.random.split(jax.random.fold_in(steps_key, t))
            action = policy.act(acting, live.memory, live.obs, act_key, 0.0)
            after, row = step(family, policy, acting, task, live, action, step_key)
            after = jax.tree.map(lambda new, old: jnp.where(ended, old, new), after, live)
            return (after, ended | row.terminal | failed(after.sim)), (
                jnp.where(ended, 0.0, row.reward),
                where(after.obs),
                value_of(acting, live.memory, live.obs, row.action),
                ended,
            )

        carry, steps = (first, jnp.zeros((), bool)), jnp.arange(family.horizon)
        (last, _), (reward, path, value, over) = jax.lax.scan(one, carry, steps)
        path = jnp.concatenate([where(first.obs)[None], path])
        return last.memory, (reward, path, value[0], (~over).sum())

    def trial(acting: Any, task: Array, key: Array, context: Transition | None) -> Trials:
        begin_key, reset_key, steps_key = jax.random.split(key, 3)
        numbers = jnp.arange(num_episodes)
        number = jax.vmap(jax.random.fold_in, (None, 0))
        keys = number(reset_key, numbers), number(steps_key, numbers)
        memory = begin_task(policy, acting, begin_key, context)
        _, found = jax.lax.scan(lambda memory, keys: episode(acting, task, memory, keys), memory, keys)
        rewards, path, value, length = found
        return Trials(rewards.sum(-1), path, rewards, discounted_return(rewards, family.discount), value, length)

    def run(acting: Any, task: Array, key: Array, context: Transition | None = None) -> Trials:
        return jax.vmap(functools.partial(trial, acting, task))(jax.random.split(key, num_trials), context)

    return run
