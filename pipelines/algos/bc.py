"""Behaviour cloning: the policy that the log was made with, whatever it was worth.

`gaussian`: the Gaussian N(tanh mu(s), sigma) of greatest likelihood, one sigma per action entry; greedy, it acts by its
mean. `deterministic`: least squares. It has no value: there is nothing to distil, and no value gap.
One task's view: B batch, A action.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from pipelines.algos.td3 import noisy
from pipelines.core.configs.algorithms import BcConfig
from pipelines.core.learn import descend
from pipelines.core.normaliser import Normaliser, fit
from pipelines.core.samplers import rows
from pipelines.core.types import Algorithm, Array, Log, Metrics, OptState, Params, Space, Transition, memoryless
from pipelines.nets import Net, mlp

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


class Actor(NamedTuple):
    """A Gaussian around a squashed mean; actions themselves are not squashed."""

    mean: Params
    log_std: Array  # [A]


class State(NamedTuple):
    actor: Actor
    opt: OptState
    normaliser: Normaliser


class Acting(NamedTuple):
    actor: Actor
    normaliser: Normaliser


def init_actor(net: Net, space: Space, key: Array) -> Actor:
    return Actor(net.init(key), jnp.zeros((space.action_dim,)))


def log_std(actor: Actor) -> Array:
    return jnp.clip(actor.log_std, LOG_STD_MIN, LOG_STD_MAX)


def log_prob(mean: Array, log_std: Array, action: Array) -> Array:
    """Density of N(mean, std), summed over A. [B, A], [A], [B, A] -> [B]"""
    away = (action - mean) * jnp.exp(-log_std)[None]
    return -(0.5 * away**2 + log_std[None] + 0.5 * jnp.log(2 * jnp.pi)).sum(-1)


def cloning_loss(mean: Array, action: Array) -> Array:
    """Mean squared error over batch and entries. [B, A] each -> []"""
    return ((mean - action) ** 2).mean()


def act(net: Net, actor: Actor, features: Array, key: Array, explore: Any) -> Array:
    """clip(mean + explore std noise) `[A]`: explore 1 is the policy, 0 its mean."""
    return noisy(jnp.tanh(net.apply(actor.mean, features)), key, explore * jnp.exp(log_std(actor)))


def make(config: BcConfig, space: Space, discount: float) -> Algorithm:
    """Behaviour cloning of one log. There is no return to discount."""
    net, opt = mlp([space.obs_dim], config.hidden, space.action_dim), optax.adam(config.learning_rate)
    gaussian = config.kind == "gaussian"

    def init(key: Array, log: Log) -> State:
        actor = init_actor(net, space, key)
        return State(actor, opt.init(actor), fit(log, config.scale_obs))

    def update(state: State, batch: Transition, key: Array, step: Array) -> tuple[State, Metrics]:
        features = state.normaliser.obs(batch.obs)

        def loss(actor: Actor) -> tuple[Array, Metrics]:
            mean = jnp.tanh(net.apply(actor.mean, features))
            squares = cloning_loss(mean, batch.action)
            value = -log_prob(mean, log_std(actor), batch.action).mean() if gaussian else squares
            return value, {"actor_loss": value, "squared_error": squares}

        actor, opt_state, metrics = descend(opt, loss, state.actor, state.opt)
        return State(actor, opt_state, state.normaliser), metrics

    def act_one(acting: Acting, obs: Array, key: Array, explore: Any) -> Array:
        deviation = explore if gaussian else 0.0
        return act(net, acting.actor, acting.normaliser.obs(obs), key, deviation)

    return Algorithm(
        init=init,
        sample=lambda log, key: rows(log, key, config.batch_size),
        update=update,
        acting=lambda state: Acting(state.actor, state.normaliser),
        acting_type=Acting,
        policy=memoryless(act_one, None),
    )
