"""Policies that were written, not learned: references, the tests' subjects, and what `oracle` means in a rollout.

A scripted policy is a `Policy` whose acting state is the task's row `[P]`. An oracle reads it; a search ignores it and
must find out.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.core.types import Array, DeviceFamily, Policy, Space, Task, Transition, memoryless

NUM_RANDOM = 2_000  # episodes behind a random reference


def knowing(act: Callable[[Array, Array], Array]) -> Policy:
    """act(task [P], obs [O]) -> action: a policy that is told the task."""
    return memoryless(lambda task, obs, key, explore: act(task, obs), None)


def uniform(space: Space) -> Policy:
    """Any action of the space, whatever is seen."""
    low, high = np.asarray(space.low, np.float32), np.asarray(space.high, np.float32)

    def act(task: Array, obs: Array, key: Array, explore: Any) -> Array:
        if space.num_actions is not None:
            return jax.random.randint(key, space.action_shape, 0, space.num_actions, space.action_dtype)
        return jax.random.uniform(key, space.action_shape, minval=low, maxval=high)

    return memoryless(act, None)


def trial(family: DeviceFamily, policy: Policy, num_episodes: int) -> Callable[[Array, Array], Array]:
    """`run(task [P], key) -> returns [num_episodes]`: episodes in a row on one task, memory kept between them."""

    def run(task: Array, key: Array) -> Array:
        begin_key, trial_key = jax.random.split(key)

        def episode(memory: Any, key: Array) -> tuple[Any, Array]:
            reset_key, start_key, steps_key = jax.random.split(key, 3)
            sim, obs = family.reset(task, reset_key)

            def one(carry: Any, key: Array) -> Any:
                sim, obs, memory = carry
                act_key, step_key = jax.random.split(key)
                action = policy.act(task, memory, obs, act_key, 0.0)
                sim, after, reward, terminal, outcome = family.step(task, sim, action, step_key)
                row = Transition(obs, action, reward, after, terminal, jnp.zeros((), bool), outcome)
                return (sim, after, policy.observe(task, memory, row)), reward

            begun = sim, obs, policy.start(task, memory, obs, start_key)
            (_, _, memory), rewards = jax.lax.scan(one, begun, jax.random.split(steps_key, family.horizon))
            return memory, rewards.sum()

        return jax.lax.scan(episode, policy.begin(task, begin_key), jax.random.split(trial_key, num_episodes))[1]

    return run


def references(
    family: DeviceFamily, oracle: Policy, search: Policy | None, num_episodes: int, num_random: int = NUM_RANDOM
) -> Callable[[Task], dict[str, float]]:
    """Returns over one horizon by simulation from `family`'s own starts, drawn with a fixed key.

    random: mean of `num_random` episodes. oracle: the scripted policy that is told the task. ceiling: the scripted
    search that is not told it, mean per episode over a trial of `num_episodes`; NaN where none is written.
    """
    key = jax.random.key(0)

    @functools.cache
    def programs() -> dict[str, Any]:
        spread = jax.vmap(trial(family, uniform(family.space), 1), in_axes=(None, 0))
        found = {
            "random": jax.jit(lambda task: spread(task, jax.random.split(key, num_random))),
            "oracle": jax.jit(lambda task: trial(family, oracle, 1)(task, key)),
        }
        if search is not None:
            found["ceiling"] = jax.jit(lambda task: trial(family, search, num_episodes)(task, key))
        return found

    @functools.cache
    def of(row: tuple[float, ...]) -> dict[str, float]:
        task = jnp.asarray(row, jnp.float32)
        measured = {name: float(np.asarray(run(task), np.float64).mean()) for name, run in programs().items()}
        return {"ceiling": float("nan")} | measured

    return lambda task: dict(of(tuple(task.params.values())))
