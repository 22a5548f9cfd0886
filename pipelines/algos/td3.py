"""TD3 (Fujimoto et al. 2018, arXiv:1802.09477): twin critics, target smoothing, a delayed actor; Algorithm 1.

Differs: the first update is one of the actor's (MQL's order); the nets see normalised observations and critics learn
rewards divided by a scale (fitted on the log, or fixed where there is none yet), while values are in units of the
reward; bootstraps through truncation. One task's view: B batch, E = 2 critics, O obs, A action.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pipelines.core.configs.algorithms import Td3Config
from pipelines.core.learn import descend, polyak
from pipelines.core.normaliser import Normaliser, fit, fixed
from pipelines.core.samplers import rows
from pipelines.core.types import Algorithm, Array, Log, Metrics, OptState, Params, Space, Transition, memoryless
from pipelines.nets import Net, ensemble, member, mlp


class State(NamedTuple):
    actor: Params
    actor_target: Params
    critics: Params
    critics_target: Params
    actor_opt: OptState
    critic_opt: OptState
    normaliser: Normaliser


class Acting(NamedTuple):
    """What acting and valuing need."""

    actor: Params
    critics: Params
    normaliser: Normaliser


class Nets(NamedTuple):
    actor: Net  # (features) -> [A], before tanh
    critic: Net  # (features, action) -> [1], one of the twins
    critics: Net  # (features, action) -> [E]


class Slow(NamedTuple):
    """What changes at the actor's updates only."""

    actor: Params
    actor_target: Params
    critics_target: Params
    actor_opt: OptState


def make_nets(space: Space, hidden: tuple[int, ...], num_critics: int = 2) -> Nets:
    critic = mlp([space.obs_dim, space.action_dim], hidden, 1)
    return Nets(mlp([space.obs_dim], hidden, space.action_dim), critic, ensemble(critic, num_critics))


def td_target(reward: Array, terminal: Array, next_value: Array, discount: float) -> Array:
    """r + discount (1 - terminal) V(s'). [B] each -> [B]"""
    return reward + discount * jnp.where(terminal, 0.0, next_value)


def smoothed(action: Array, noise: Array, clip: float) -> Array:
    """clip(a + clip(noise, +-c), +-1), Eq. 14. [B, A], [B, A] -> [B, A]"""
    return jnp.clip(action + jnp.clip(noise, -clip, clip), -1.0, 1.0)


def critic_loss(q: Array, target: Array) -> Array:
    """Mean squared error, summed over the critics. [E, B], [B] -> []"""
    return ((q - target[None]) ** 2).mean(1).sum(0)


def actor_loss(q: Array, action: Array, data_action: Array) -> Array:
    """-mean Q1(s, pi(s)), Eq. 15. [B], [B, A], [B, A] (not read) -> []"""
    return -q.mean()


def noisy(action: Array, key: Array, deviation: Any) -> Array:
    """The behaviour policy's action: with normal noise, within the box. [A] -> [A]"""
    return jnp.clip(action + deviation * jax.random.normal(key, action.shape), -1.0, 1.0)


def make(
    config: Td3Config,
    space: Space,
    discount: float,
    loss_of_actor: Callable[[Array, Array, Array], Array] = actor_loss,
    num_critics: int = 2,
) -> Algorithm:
    """TD3 on one log. `discount` is the family's, used unless the config names one. `init(key, None)` is for learning
    online; `loss_of_actor(Q1 [B], pi(s) [B, A], the log's action [B, A])`.
    """
    gamma = discount if config.discount is None else config.discount
    nets, opt = make_nets(space, config.hidden, num_critics), optax.adam(config.learning_rate)

    def init(key: Array, log: Log | None) -> State:
        normaliser = fixed(space, config.obs_scale, config.reward_scale) if log is None else fit(log)
        actor_key, critic_key = jax.random.split(key)
        actor, critics = nets.actor.init(actor_key), nets.critics.init(critic_key)
        return State(actor, actor, critics, critics, opt.init(actor), opt.init(critics), normaliser)

    def target(state: State, batch: Transition, key: Array) -> Array:
        next_features = state.normaliser.obs(batch.next_obs)
        action = jnp.tanh(nets.actor.apply(state.actor_target, next_features))
        noise = config.target_noise * jax.random.normal(key, action.shape)
        next_action = smoothed(action, noise, config.target_noise_clip)
        next_q = nets.critics.apply(state.critics_target, next_features, next_action)
        reward = batch.reward / state.normaliser.reward_std
        return td_target(reward, batch.terminal, next_q.min(0), gamma)

    def improve(slow: Slow, critics: Params, features: Array, data_action: Array) -> tuple[Slow, Array]:
        def loss(actor: Params) -> tuple[Array, Metrics]:
            action = jnp.tanh(nets.actor.apply(actor, features))
            q = nets.critic.apply(member(critics, 0), features, action)[..., 0]
            value = loss_of_actor(q, action, data_action)
            return value, {"actor_loss": value}

        actor, actor_opt, metrics = descend(opt, loss, slow.actor, slow.actor_opt)
        actor_target = polyak(slow.actor_target, actor, config.target_rate)
        critics_target = polyak(slow.critics_target, critics, config.target_rate)
        return Slow(actor, actor_target, critics_target, actor_opt), metrics["actor_loss"]

    def update(state: State, batch: Transition, key: Array, step: Array) -> tuple[State, Metrics]:
        features, wanted = state.normaliser.obs(batch.obs), target(state, batch, key)

        def loss(critics: Params) -> tuple[Array, Metrics]:
            q = nets.critics.apply(critics, features, batch.action)
            value = critic_loss(q, wanted)
            return value, {"critic_loss": value, "q": q.mean() * state.normaliser.reward_std}

        critics, critic_opt, metrics = descend(opt, loss, state.critics, state.critic_opt)
        slow, value = jax.lax.cond(
            step % config.actor_delay == 0,
            lambda slow: improve(slow, critics, features, batch.action),
            lambda slow: (slow, jnp.zeros(())),
            Slow(state.actor, state.actor_target, state.critics_target, state.actor_opt),
        )
        state = State(**slow._asdict(), critics=critics, critic_opt=critic_opt, normaliser=state.normaliser)
        # metrics are means over blocks of updates: weighted, this one is the mean over those that had it
        return state, metrics | {"actor_loss": config.actor_delay * value}

    def q(acting: Acting, obs: Array, action: Array) -> Array:
        """Mean of the twin critics, in units of the reward. [..., O], [..., A] -> [...]"""
        values = nets.critics.apply(acting.critics, acting.normaliser.obs(obs), action)
        return values.mean(0) * acting.normaliser.reward_std

    def act(acting: Acting, obs: Array, key: Array, explore: Any) -> Array:
        """Explore 1 is the behaviour policy, 0 the greedy one."""
        action = jnp.tanh(nets.actor.apply(acting.actor, acting.normaliser.obs(obs)))
        return noisy(action, key, explore * config.explore_noise)

    return Algorithm(
        init=init,
        sample=lambda log, key: rows(log, key, config.batch_size),
        update=update,
        acting=lambda state: Acting(state.actor, state.critics, state.normaliser),
        acting_type=Acting,
        policy=memoryless(act, q),
        q=q,
    )
