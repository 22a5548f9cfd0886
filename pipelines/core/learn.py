"""Gradient steps, and blocks of them in one compiled call."""

import zlib
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax

from pipelines.core.types import Array, Metrics, OptState, Params


def descend(
    optimizer: optax.GradientTransformation,
    loss: Callable[..., tuple[Array, Metrics]],
    params: Params,
    opt_state: OptState,
    *args: Any,
) -> tuple[Params, OptState, Metrics]:
    """One step of `optimizer` down `loss(params, *args) -> (scalar, metrics)`."""
    grads, metrics = jax.grad(loss, has_aux=True)(params, *args)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, metrics


def falling(rate: float, updates: int | None) -> optax.ScalarOrSchedule:
    """A learning rate that falls from `rate` to zero along a cosine over that many updates; None: it stays."""
    return rate if updates is None else optax.cosine_decay_schedule(rate, updates)


def polyak(target: Params, online: Params, rate: float) -> Params:
    """(1 - rate) target + rate online."""
    return jax.tree.map(lambda old, new: old + rate * (new - old), target, online)


class Learns(Protocol):
    """What a block runs: an Algorithm, or a model that is no policy."""

    @property
    def sample(self) -> Callable[[Any, Array], Any]: ...

    @property
    def update(self) -> Callable[[Any, Any, Array, Array], tuple[Any, Metrics]]: ...


def block(algorithm: Learns, num_updates: int) -> Callable[[Array, Any, Any, Array], tuple[Any, Metrics]]:
    """`run(step, state, data, key) -> (state, metrics)`: `num_updates` updates from update number `step` in one scan.

    Update n draws from fold_in(key, n) whatever the block it falls in; metrics are means over the block.
    """

    def run(step: Array, state: Any, data: Any, key: Array) -> tuple[Any, Metrics]:
        def one(state: Any, n: Array) -> tuple[Any, Metrics]:
            sample_key, update_key = jax.random.split(jax.random.fold_in(key, n))
            return algorithm.update(state, algorithm.sample(data, sample_key), update_key, n)

        state, metrics = jax.lax.scan(one, state, step + jnp.arange(num_updates, dtype=jnp.int32))
        return state, jax.tree.map(lambda leaf: leaf.mean(0), metrics)

    return run


def stage_key(seed: int, stage: str) -> Array:
    """The key of a stage: fold_in(key(seed), hash of its name)."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(stage.encode()) & 0x7FFFFFFF)


def task_keys(key: Array, task_ids: Any) -> Array:
    """`[T]` keys, one per task id: adding a task disturbs no other task's stream."""
    return jax.vmap(lambda task_id: jax.random.fold_in(key, task_id))(jnp.asarray(task_ids, jnp.uint32))
