"""Double DQN (van Hasselt et al. 2016, arXiv:1509.06461) for families with discrete actions; equations are the paper's.

Differs: the target net follows by Polyak averaging at every update, as BOReL's collectors do, instead of by copies; the
nets see normalised observations and learn rewards divided by a scale, while values are in units of the reward;
bootstraps through truncation. One task's view: B batch, M actions, O obs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pipelines.core.configs.algorithms import DqnConfig
from pipelines.core.learn import descend, falling, polyak
from pipelines.core.normaliser import Normaliser, fit, fixed
from pipelines.core.samplers import rows
from pipelines.core.types import Algorithm, Array, Log, Metrics, OptState, Params, Space, Transition, memoryless
from pipelines.nets import mlp


class State(NamedTuple):
    critics: Params
    critics_target: Params
    opt: OptState
    epsilon: Array  # [] probability of a uniform action where the policy explores
    normaliser: Normaliser


class Acting(NamedTuple):
    """What acting and valuing need."""

    critics: Params
    epsilon: Array
    normaliser: Normaliser


def td_target(reward: Array, terminal: Array, next_q: Array, next_choice: Array, discount: float) -> Array:
    """r + discount (1 - terminal) Q'(s', a*), Eq. 4; a* is the online net's choice, or the target's own (Eq. 2).

    [B], [B], [B, M], int [B] -> [B]
    """
    chosen = jnp.take_along_axis(next_q, next_choice[:, None], axis=1)[:, 0]
    return reward + discount * jnp.where(terminal, 0.0, chosen)


def q_loss(q: Array, action: Array, target: Array) -> Array:
    """Mean squared error of the taken actions' values. [B, M], int [B], [B] -> []"""
    return ((jnp.take_along_axis(q, action[:, None], axis=1)[:, 0] - target) ** 2).mean()


def less_epsilon(config: DqnConfig, epsilon: Array) -> Array:
    """One update's step on the line from `explore_start` to `explore_end`, `explore_steps` long. [] -> []"""
    slope = abs(config.explore_end - config.explore_start) / config.explore_steps
    return epsilon + jnp.clip(config.explore_end - epsilon, -slope, slope)


def make(
    config: DqnConfig,
    space: Space,
    discount: float,
    sample: Callable[[Log, Array, int], Transition] = rows,
) -> Algorithm:
    """Double DQN on one log. `discount` is the family's, used unless the config names one."""
    gamma = discount if config.discount is None else config.discount
    num_actions = space.num_actions or 0
    net = mlp([space.obs_dim], config.hidden, num_actions)
    opt = optax.adam(falling(config.learning_rate, config.decay_updates))

    def init(key: Array, log: Log | None) -> State:
        normaliser = fixed(space, config.obs_scale, config.reward_scale) if log is None else fit(log)
        critics = net.init(key)
        return State(critics, critics, opt.init(critics), jnp.float32(config.explore_start), normaliser)

    def update(state: State, batch: Transition, key: Array, step: Array) -> tuple[State, Metrics]:
        features, next_features = state.normaliser.obs(batch.obs), state.normaliser.obs(batch.next_obs)
        next_q = net.apply(state.critics_target, next_features)
        choosing = net.apply(state.critics, next_features) if config.double else next_q
        reward = batch.reward / state.normaliser.reward_std
        target = td_target(reward, batch.terminal, next_q, choosing.argmax(-1), gamma)

        def loss(critics: Params) -> tuple[Array, Metrics]:
            q = net.apply(critics, features)
            value = q_loss(q, batch.action, target)
            return value, {"q_loss": value, "q": q.mean() * state.normaliser.reward_std}

        critics, opt_state, metrics = descend(opt, loss, state.critics, state.opt)
        state = State(
            critics=critics,
            critics_target=polyak(state.critics_target, critics, config.target_rate),
            opt=opt_state,
            epsilon=less_epsilon(config, state.epsilon),
            normaliser=state.normaliser,
        )
        return state, metrics | {"epsilon": state.epsilon}

    def q(acting: Acting, obs: Array, action: Array) -> Array:
        """Q(s, a) in units of the reward. [..., O], int [...] -> [...]"""
        values = net.apply(acting.critics, acting.normaliser.obs(obs))
        taken = jnp.take_along_axis(values, jnp.asarray(action)[..., None], axis=-1)[..., 0]
        return taken * acting.normaliser.reward_std

    def act(acting: Acting, obs: Array, key: Array, explore: Any) -> Array:
        """Epsilon-greedy: explore 1 is the behaviour policy, 0 the greedy one."""
        coin_key, action_key = jax.random.split(key)
        greedy = net.apply(acting.critics, acting.normaliser.obs(obs)).argmax(-1)
        uniform = jax.random.randint(action_key, (), 0, num_actions)
        random = jax.random.uniform(coin_key) < explore * acting.epsilon
        return jnp.where(random, uniform, greedy).astype(space.action_dtype)

    return Algorithm(
        init=init,
        sample=lambda log, key: sample(log, key, config.batch_size),
        update=update,
        acting=lambda state: Acting(state.critics, state.epsilon, state.normaliser),
        acting_type=Acting,
        policy=memoryless(act, q),
        q=q,
    )
