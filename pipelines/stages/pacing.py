"""How a collection is paced: who acts, whose keys, and which updates follow which steps. One task's view.

A step number n counts the rows of all E environments of the task: they step together, so one control step takes n to
n + E. By default K steps are followed by K updates; `block_updates` says another number.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pipelines.core.configs.stages import CollectConfig
from pipelines.core.samplers import pooled
from pipelines.core.types import Algorithm, Array, Log, Metrics, Space
from pipelines.core.unit_box import rows_to_unit

Draw = Callable[[Log, Array], Any]


def updates_at(config: CollectConfig, step: Any) -> Any:
    """Updates due once `step` rows are there; below 0 while learning has not begun. [] -> []"""
    after = step - config.random_steps
    if config.block_updates is None:
        return after
    # one block's share apart from the whole ones: millions of steps times thousands of updates overflow
    return after // config.block_steps * config.block_updates + (
        after % config.block_steps * config.block_updates // config.block_steps
    )


def env_keys(config: CollectConfig, key: Array) -> Array:
    """`[E]`, one per environment; a single one has the task's own."""
    if config.num_envs == 1:
        return key[None]
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(config.num_envs))


def action_of(config: CollectConfig, space: Space, n: Array, key: Array, explored: Array) -> Array:
    """What is done in step n: anything while nothing is learned, unless the policy is to act from the start. `[A]`"""
    if config.warmup == "policy":
        return explored
    return jnp.where(n < config.random_steps, uniform_action(space, key), explored)


def uniform_action(space: Space, key: Array) -> Array:
    """`[A]` uniform between the bounds, or one of the actions."""
    if space.num_actions is not None:
        return jax.random.randint(key, space.action_shape, 0, space.num_actions)
    return jax.random.uniform(key, space.action_shape, minval=jnp.asarray(space.low), maxval=jnp.asarray(space.high))


def draw_from(config: Any, algorithm: Algorithm, space: Space) -> Draw:
    """`draw(log, key) -> batch` out of all that was seen: one log, or those of the environments `[E, ...]`."""
    if config.num_envs == 1:
        return algorithm.sample
    return lambda logs, key: rows_to_unit(space, pooled(logs, key, config.agent.batch_size))


def learn(
    config: CollectConfig, algorithm: Algorithm, draw: Draw, learner: Any, log: Log, key: Array, end: Array, count: int
) -> tuple[Any, Metrics]:
    """The last `count` of the updates that are due at step `end`; those of a negative number are not made.

    Update u draws from the second half of fold_in(key, random_steps + u), whose first half is that step's. Metrics are
    means, 0 for what was not made.
    """

    def make(learner: Any, number: Array) -> tuple[Any, Metrics]:
        own = jax.random.split(jax.random.fold_in(key, number + config.random_steps))[1]
        sample_key, update_key = jax.random.split(own)
        return algorithm.update(learner, draw(log, sample_key), update_key, number)

    numbers = updates_at(config, end) - count + jnp.arange(count, dtype=jnp.int32)
    shapes = jax.eval_shape(make, learner, numbers[0])[1]
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def one(learner: Any, number: Array) -> tuple[Any, Metrics]:
        return jax.lax.cond(number >= 0, make, lambda learner, number: (learner, nothing), learner, number)

    if count == 1:
        return one(learner, numbers[0])
    learner, metrics = jax.lax.scan(one, learner, numbers)
    return learner, jax.tree.map(lambda leaf: leaf.mean(0), metrics)
