"""IQL (Kostrikov et al. 2022, arXiv:2110.06169): critics that never see an action outside the log; equations are the
paper's.

Differs: no cosine decay of the actor's rate and no dropout; nets see normalised observations and critics learn rewards
divided by their deviation on the log (beta is in those units; the paper divides by the range of returns) unless fields
say otherwise; bootstraps through truncation. One task's view: B batch, E = 2 critics, A action.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pipelines.algos import bc
from pipelines.algos.td3 import critic_loss, td_target
from pipelines.core.configs.algorithms import IqlConfig
from pipelines.core.learn import descend, polyak
from pipelines.core.normaliser import Normaliser, fit
from pipelines.core.samplers import rows
from pipelines.core.types import Algorithm, Array, Log, Metrics, OptState, Params, Space, Transition, memoryless
from pipelines.nets import Net, ensemble, mlp


class State(NamedTuple):
    actor: bc.Actor
    value: Params
    critics: Params
    critics_target: Params
    actor_opt: OptState
    value_opt: OptState
    critic_opt: OptState
    normaliser: Normaliser


class Acting(NamedTuple):
    """What acting and valuing need."""

    actor: bc.Actor
    critics: Params
    normaliser: Normaliser


class Nets(NamedTuple):
    actor: Net  # (features) -> [A], before tanh
    value: Net  # (features) -> [1]
    critics: Net  # (features, action) -> [E]


def make_nets(space: Space, hidden: tuple[int, ...]) -> Nets:
    return Nets(
        actor=mlp([space.obs_dim], hidden, space.action_dim),
        value=mlp([space.obs_dim], hidden, 1),
        critics=ensemble(mlp([space.obs_dim, space.action_dim], hidden, 1), 2),
    )


def expectile_loss(advantage: Array, expectile: float) -> Array:
    """mean |tau - 1(u < 0)| u^2, u = Q(s, a) - V(s), Eq. 5. [B] -> []"""
    return (jnp.where(advantage < 0, 1 - expectile, expectile) * advantage**2).mean()


def weights(advantage: Array, beta: float, most: float) -> Array:
    """exp(beta A), at most `most`. [B] -> [B]"""
    return jnp.minimum(jnp.exp(beta * advantage), most)


def actor_loss(log_prob: Array, weight: Array) -> Array:
    """-mean w log pi(a|s), Eq. 7. [B], [B] -> []"""
    return -(weight * log_prob).mean()


def make(config: IqlConfig, space: Space, discount: float) -> Algorithm:
    """IQL on one log. `discount` is the family's, used unless the config names one."""
    gamma = discount if config.discount is None else config.discount
    nets, opt = make_nets(space, config.hidden), optax.adam(config.learning_rate)

    def init(key: Array, log: Log) -> State:
        actor_key, value_key, critic_key = jax.random.split(key, 3)
        actor = bc.init_actor(nets.actor, space, actor_key)
        value, critics = nets.value.init(value_key), nets.critics.init(critic_key)
        return State(
            actor=actor,
            value=value,
            critics=critics,
            critics_target=critics,
            actor_opt=opt.init(actor),
            value_opt=opt.init(value),
            critic_opt=opt.init(critics),
            normaliser=fit(log, config.scale_obs, config.scale_reward),
        )

    def value_of(value: Params, features: Array) -> Array:
        return nets.value.apply(value, features)[..., 0]

    def improve_value(state: State, features: Array, q: Array) -> tuple[State, Metrics]:
        def loss(value: Params) -> tuple[Array, Metrics]:
            found = expectile_loss(q - value_of(value, features), config.expectile)
            return found, {"value_loss": found}

        value, value_opt, metrics = descend(opt, loss, state.value, state.value_opt)
        return state._replace(value=value, value_opt=value_opt), metrics

    def improve_actor(state: State, features: Array, action: Array, advantage: Array) -> tuple[State, Metrics]:
        weight = weights(advantage, config.inverse_temperature, config.max_weight)

        def loss(actor: bc.Actor) -> tuple[Array, Metrics]:
            mean = jnp.tanh(nets.actor.apply(actor.mean, features))
            found = actor_loss(bc.log_prob(mean, bc.log_std(actor), action), weight)
            return found, {"actor_loss": found, "weight": weight.mean()}

        actor, actor_opt, metrics = descend(opt, loss, state.actor, state.actor_opt)
        return state._replace(actor=actor, actor_opt=actor_opt), metrics

    def update(state: State, batch: Transition, key: Array, step: Array) -> tuple[State, Metrics]:
        features, next_features = state.normaliser.obs(batch.obs), state.normaliser.obs(batch.next_obs)
        q = nets.critics.apply(state.critics_target, features, batch.action).min(0)
        state, metrics = improve_value(state, features, q)
        state, of_actor = improve_actor(state, features, batch.action, q - value_of(state.value, features))
        reward = batch.reward / state.normaliser.reward_std
        target = td_target(reward, batch.terminal, value_of(state.value, next_features), gamma)

        def loss(critics: Params) -> tuple[Array, Metrics]:
            q = nets.critics.apply(critics, features, batch.action)
            found = critic_loss(q, target)
            return found, {"critic_loss": found, "q": q.mean() * state.normaliser.reward_std}

        critics, critic_opt, of_critics = descend(opt, loss, state.critics, state.critic_opt)
        followed = polyak(state.critics_target, critics, config.target_rate)
        state = state._replace(critics=critics, critic_opt=critic_opt, critics_target=followed)
        return state, metrics | of_actor | of_critics

    def q(acting: Acting, obs: Array, action: Array) -> Array:
        """Mean of the twin critics, in units of the reward. [..., O], [..., A] -> [...]"""
        values = nets.critics.apply(acting.critics, acting.normaliser.obs(obs), action)
        return values.mean(0) * acting.normaliser.reward_std

    def act(acting: Acting, obs: Array, key: Array, explore: Any) -> Array:
        return bc.act(nets.actor, acting.actor, acting.normaliser.obs(obs), key, explore)

    return Algorithm(
        init=init,
        sample=lambda log, key: rows(log, key, config.batch_size),
        update=update,
        acting=lambda state: Acting(state.actor, state.critics, state.normaliser),
        acting_type=Acting,
        policy=memoryless(act, q),
        q=q,
    )
