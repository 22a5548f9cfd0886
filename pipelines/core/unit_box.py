"""Actions between the environment's bounds and the box [-1, 1]^A in which every learner lives.

Policies that end in a tanh, noise scales and perturbation limits are published for that box (rlkit's normalised
environments, BOReL's point robots with bounds of 0.1). A log, a reward function and an engine see the environment's own
units; the learner that `in_unit_box` wraps never does.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from pipelines.core.types import Algorithm, Array, Log, Policy, Space, Transition


def is_unit(space: Space) -> bool:
    """Whether there is nothing to map: actions are discrete, or bounded by -1 and 1 already."""
    return space.num_actions is not None or (set(space.low) <= {-1.0} and set(space.high) <= {1.0})


def unit(space: Space) -> Space:
    """The space as a learner sees it."""
    return space if is_unit(space) else space._replace(low=(-1.0,) * space.action_dim, high=(1.0,) * space.action_dim)


def _middle_and_reach(space: Space) -> tuple[Array, Array]:
    low, high = (jnp.asarray(bound, jnp.float32).reshape(space.action_shape) for bound in (space.low, space.high))
    return (high + low) / 2, (high - low) / 2


def to_unit(space: Space, action: Array) -> Array:
    """`[..., A]` in the environment's units -> `[..., A]`, its bounds at -1 and 1."""
    if is_unit(space):
        return action
    middle, reach = (jnp.broadcast_to(bound, action.shape) for bound in _middle_and_reach(space))
    return (action - middle) / reach


def from_unit(space: Space, action: Array) -> Array:
    """`[..., A]` in [-1, 1] -> `[..., A]` in the environment's units."""
    if is_unit(space):
        return action
    middle, reach = (jnp.broadcast_to(bound, action.shape) for bound in _middle_and_reach(space))
    return middle + reach * action


def rows_to_unit(space: Space, tree: Any) -> Any:
    """Any tree of logs, transitions and other things, with the actions of the logs and transitions mapped."""

    def holds_actions(node: Any) -> bool:
        return isinstance(node, Log | Transition)

    def mapped(node: Any) -> Any:
        return node._replace(action=to_unit(space, node.action)) if holds_actions(node) else node

    return jax.tree.map(mapped, tree, is_leaf=holds_actions)


def in_unit_box(algorithm: Algorithm, space: Space) -> Algorithm:
    """An algorithm made for `unit(space)` -> the same one for logs and environments of `space`."""
    if is_unit(space):
        return algorithm
    inner, q, propose, perturb = algorithm.policy, algorithm.q, algorithm.propose, algorithm.perturb
    value = inner.value
    policy = Policy(
        begin=inner.begin,
        start=inner.start,
        act=lambda *args: from_unit(space, inner.act(*args)),
        observe=lambda state, memory, row: inner.observe(state, memory, rows_to_unit(space, row)),
        value=value and (lambda state, memory, obs, action: value(state, memory, obs, to_unit(space, action))),
        latent=inner.latent,
    )
    return replace(
        algorithm,
        init=lambda key, data: algorithm.init(key, rows_to_unit(space, data)),
        sample=lambda data, key: rows_to_unit(space, algorithm.sample(data, key)),
        policy=policy,
        q=q and (lambda acting, obs, action: q(acting, obs, to_unit(space, action))),
        propose=propose and (lambda acting, obs, noise: from_unit(space, propose(acting, obs, noise))),
        perturb=perturb and (lambda acting, obs, action: perturb(acting, obs, to_unit(space, action))),
    )
