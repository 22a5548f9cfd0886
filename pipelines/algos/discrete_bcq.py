"""Discrete BCQ (Fujimoto et al. 2019b, arXiv:1910.01708): double DQN among the actions that the log's behaviour takes.

An action is admitted where its probability under the cloned behaviour is more than a threshold times the likeliest
action's (Eq. 15). Differs: the target net follows by Polyak averaging at every update; nets are not shared between
values and behaviour; nets see normalised observations and critics learn rewards divided by a scale, both fitted on the
log, while values are in units of the reward; bootstraps through truncation.
One task's view: B batch, M actions, O obs.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pipelines.algos.dqn import td_target
from pipelines.core.configs.algorithms import DiscreteBcqConfig
from pipelines.core.learn import descend, polyak
from pipelines.core.normaliser import Normaliser, fit
from pipelines.core.samplers import rows
from pipelines.core.types import Algorithm, Array, Log, Metrics, OptState, Params, Space, Transition, memoryless
from pipelines.nets import mlp


class State(NamedTuple):
    critics: Params
    critics_target: Params
    behaviour: Params
    critic_opt: OptState
    behaviour_opt: OptState
    normaliser: Normaliser


class Acting(NamedTuple):
    """What acting and valuing need."""

    critics: Params
    behaviour: Params
    normaliser: Normaliser


def admitted(logits: Array, threshold: float) -> Array:
    """pi_b(a|s) / max pi_b(.|s) > threshold. [..., M] -> bool [..., M]; the likeliest action always is."""
    share = jnp.exp(logits - logits.max(-1, keepdims=True))
    return (share > threshold) | (share == 1.0)


def best(q: Array, logits: Array, threshold: float) -> Array:
    """The best action of those admitted. [..., M] each -> int [...]"""
    return jnp.where(admitted(logits, threshold), q, -jnp.inf).argmax(-1)


def taken(values: Array, action: Array) -> Array:
    """[..., M], int [...] -> [...]"""
    return jnp.take_along_axis(values, action[..., None], axis=-1)[..., 0]


def q_loss(q: Array, action: Array, target: Array) -> Array:
    """Mean Huber loss (of width 1) of the taken actions' values. [B, M], int [B], [B] -> []"""
    return optax.huber_loss(taken(q, action), target).mean()


def behaviour_loss(logits: Array, action: Array, logit_weight: float) -> Array:
    """Mean negative log-likelihood plus the weighted mean squared logit. [B, M], int [B] -> []"""
    return -taken(jax.nn.log_softmax(logits), action).mean() + logit_weight * (logits**2).mean()


def make(config: DiscreteBcqConfig, space: Space, discount: float) -> Algorithm:
    """Discrete BCQ on one log. `discount` is the family's, used unless the config names one."""
    gamma = discount if config.discount is None else config.discount
    net, opt = mlp([space.obs_dim], config.hidden, space.num_actions or 0), optax.adam(config.learning_rate)

    def init(key: Array, log: Log) -> State:
        critic_key, behaviour_key = jax.random.split(key)
        critics, behaviour = net.init(critic_key), net.init(behaviour_key)
        normaliser = fit(log, config.scale_obs, config.scale_reward)
        return State(critics, critics, behaviour, opt.init(critics), opt.init(behaviour), normaliser)

    def update(state: State, batch: Transition, key: Array, step: Array) -> tuple[State, Metrics]:
        features, next_features = state.normaliser.obs(batch.obs), state.normaliser.obs(batch.next_obs)
        next_logits = net.apply(state.behaviour, next_features)
        choice = best(net.apply(state.critics, next_features), next_logits, config.threshold)
        next_q = net.apply(state.critics_target, next_features)
        target = td_target(batch.reward / state.normaliser.reward_std, batch.terminal, next_q, choice, gamma)

        def value_loss(critics: Params) -> tuple[Array, Metrics]:
            q = net.apply(critics, features)
            value = q_loss(q, batch.action, target)
            mean_q = taken(q, batch.action).mean() * state.normaliser.reward_std
            return value, {"critic_loss": value, "q": mean_q}

        def cloning_loss(behaviour: Params) -> tuple[Array, Metrics]:
            value = behaviour_loss(net.apply(behaviour, features), batch.action, config.logit_weight)
            return value, {"behaviour_loss": value}

        critics, critic_opt, metrics = descend(opt, value_loss, state.critics, state.critic_opt)
        behaviour, behaviour_opt, of_behaviour = descend(opt, cloning_loss, state.behaviour, state.behaviour_opt)
        followed = polyak(state.critics_target, critics, config.target_rate)
        state = State(critics, followed, behaviour, critic_opt, behaviour_opt, state.normaliser)
        return state, metrics | of_behaviour

    def q(acting: Acting, obs: Array, action: Array) -> Array:
        """Q(s, a) in units of the reward. [..., O], int [...] -> [...]"""
        values = net.apply(acting.critics, acting.normaliser.obs(obs))
        return taken(values, jnp.asarray(action)) * acting.normaliser.reward_std

    def act(acting: Acting, obs: Array, key: Array, explore: Any) -> Array:
        """`explore` is the probability of an admitted action as the behaviour draws it, instead of the best."""
        features = acting.normaliser.obs(obs)
        logits = net.apply(acting.behaviour, features)
        greedy = best(net.apply(acting.critics, features), logits, config.threshold)
        coin_key, draw_key = jax.random.split(key)
        kept = jnp.where(admitted(logits, config.threshold), logits, -jnp.inf)
        drawn = jax.random.categorical(draw_key, kept)
        return jnp.where(jax.random.uniform(coin_key) < explore, drawn, greedy).astype(space.action_dtype)

    return Algorithm(
        init=init,
        sample=lambda log, key: rows(log, key, config.batch_size),
        update=update,
        acting=lambda state: Acting(state.critics, state.behaviour, state.normaliser),
        acting_type=Acting,
        policy=memoryless(act, q),
        q=q,
    )
