"""DDPG (Lillicrap et al. 2016, arXiv:1509.02971) on one task's log: one critic, its actor, and targets of both.

It is what MBML's Fig. 5 shows of MetaGenRL (Kirsch et al. 2020): trained off-policy on the fixed batch of one AntDir
task, it collapses and does not recover, which MBML puts down to the values that it learns as DDPG does: nothing keeps
the actor near the log, and the critic is believed wherever the actor goes.
Differs: the learned objective of MetaGenRL, which has agents in common, is not here: one agent and one task are all
that Fig. 5 is about. As td3.py: normalised observations, scaled rewards, bootstraps through truncation.
One task's view: B batch, O obs, A action.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from pipelines.algos.td3 import Acting, State, actor_loss, critic_loss, noisy, td_target
from pipelines.core.configs.algorithms import DdpgConfig
from pipelines.core.learn import descend, polyak
from pipelines.core.normaliser import fit
from pipelines.core.samplers import rows
from pipelines.core.types import Algorithm, Array, Log, Metrics, Params, Space, Transition, memoryless
from pipelines.nets import mlp


def make(config: DdpgConfig, space: Space, discount: float) -> Algorithm:
    """DDPG on one log. `discount` is the family's, used unless the config names one."""
    gamma = discount if config.discount is None else config.discount
    opt = optax.adam(config.learning_rate)
    net = mlp([space.obs_dim], config.hidden, space.action_dim)
    critic = mlp([space.obs_dim, space.action_dim], config.hidden, 1)

    def init(key: Array, log: Log) -> State:
        actor_key, critic_key = jax.random.split(key)
        actor, values = net.init(actor_key), critic.init(critic_key)
        normaliser = fit(log, config.scale_obs, config.scale_reward)
        return State(actor, actor, values, values, opt.init(actor), opt.init(values), normaliser)

    def target(state: State, batch: Transition) -> Array:
        next_features = state.normaliser.obs(batch.next_obs)
        next_action = jnp.tanh(net.apply(state.actor_target, next_features))
        next_q = critic.apply(state.critics_target, next_features, next_action)[..., 0]
        return td_target(batch.reward / state.normaliser.reward_std, batch.terminal, next_q, gamma)

    def update(state: State, batch: Transition, key: Array, step: Array) -> tuple[State, Metrics]:
        features, wanted = state.normaliser.obs(batch.obs), target(state, batch)

        def loss(values: Params) -> tuple[Array, Metrics]:
            q = critic.apply(values, features, batch.action)[..., 0]
            value = critic_loss(q[None], wanted)
            return value, {"critic_loss": value, "q": q.mean() * state.normaliser.reward_std}

        critics, critic_opt, metrics = descend(opt, loss, state.critics, state.critic_opt)

        def loss_of_actor(actor: Params) -> tuple[Array, Metrics]:
            action = jnp.tanh(net.apply(actor, features))
            value = actor_loss(critic.apply(critics, features, action)[..., 0], action, batch.action)
            return value, {"actor_loss": value}

        actor, actor_opt, of_actor = descend(opt, loss_of_actor, state.actor, state.actor_opt)
        actor_target = polyak(state.actor_target, actor, config.target_rate)
        critics_target = polyak(state.critics_target, critics, config.target_rate)
        after = State(actor, actor_target, critics, critics_target, actor_opt, critic_opt, state.normaliser)
        return after, metrics | of_actor

    def q(acting: Acting, obs: Array, action: Array) -> Array:
        """In units of the reward. [..., O], [..., A] -> [...]"""
        values = critic.apply(acting.critics, acting.normaliser.obs(obs), action)
        return values[..., 0] * acting.normaliser.reward_std

    def act(acting: Acting, obs: Array, key: Array, explore: Any) -> Array:
        """Explore 1 adds noise, 0 does not."""
        action = jnp.tanh(net.apply(acting.actor, acting.normaliser.obs(obs)))
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
