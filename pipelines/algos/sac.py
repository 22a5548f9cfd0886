"""Soft actor-critic (Haarnoja et al. 2018b, arXiv:1812.05905); equations are the paper's.

Online (collect), batch (train) and pooled (metatrain) are this file: only where the rows come from differs.
Differs: the nets see normalised observations and critics learn rewards divided by a scale (fitted on the log, or fixed
where there is none yet), while values are reported in units of the reward; bootstraps through truncation. From the code
of MBML and BOReL (rlkit's): weights are LeCun-normal, target critics begin as copies, the temperature's gradient is
the paper's.
One task's view: B batch, E = 2 critics, O obs, A action.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pipelines.core.configs.algorithms import SacConfig, SoftConfig
from pipelines.core.learn import descend, falling, polyak
from pipelines.core.normaliser import Normaliser, fit, fixed
from pipelines.core.samplers import rows
from pipelines.core.types import Algorithm, Array, Log, Metrics, OptState, Params, Space, Transition, memoryless
from pipelines.nets import Net, ensemble, mlp

LOG_STD_MIN, LOG_STD_MAX = -10.0, 2.0


class State(NamedTuple):
    actor: Params
    critics: Params
    critics_target: Params
    log_temperature: Array
    actor_opt: OptState
    critic_opt: OptState
    temperature_opt: OptState
    normaliser: Normaliser


class Acting(NamedTuple):
    """What acting and valuing need."""

    actor: Params
    critics: Params
    normaliser: Normaliser


class Nets(NamedTuple):
    actor: Net  # (features) -> [2 A]
    critics: Net  # (features, action) -> [E]
    log_std_min: float = LOG_STD_MIN  # of the actor


def make_nets(
    space: Space, hidden: tuple[int, ...], extra: int = 0, critic_hidden: tuple[int, ...] | None = None
) -> Nets:
    """Actor and twin critics on features [O + extra]; the critics are as wide as the actor unless it is said."""
    features = space.obs_dim + extra
    return Nets(
        actor=mlp([features], hidden, 2 * space.action_dim),
        critics=ensemble(mlp([features, space.action_dim], critic_hidden or hidden, 1), 2),
    )


def nets_of(config: SoftConfig, space: Space) -> Nets:
    """As a config describes them."""
    if not isinstance(config, SacConfig):
        return make_nets(space, config.hidden)
    nets = make_nets(space, config.hidden, critic_hidden=config.critic_hidden)
    return nets._replace(log_std_min=config.log_std_min)


# ---- the policy: a tanh-squashed Gaussian ---------------------------------------------------------------------------


def gaussian(out: Array, least: float = LOG_STD_MIN) -> tuple[Array, Array]:
    """Actor output `[..., 2 A]` -> mean, log_std `[..., A]`, held between `least` and 2."""
    mean, log_std = jnp.split(out, 2, axis=-1)
    return mean, jnp.clip(log_std, least, LOG_STD_MAX)


def sample_action(out: Array, key: Array, least: float = LOG_STD_MIN) -> tuple[Array, Array]:
    """Actor output -> (action in (-1, 1) `[..., A]`, its log-density `[...]`), appendix C of the paper.

    The log-determinant of tanh is exact and stable: log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2u)).
    """
    mean, log_std = gaussian(out, least)
    noise = jax.random.normal(key, mean.shape)
    u = mean + jnp.exp(log_std) * noise
    log_normal = -0.5 * noise**2 - log_std - 0.5 * jnp.log(2 * jnp.pi)
    log_det = 2 * (jnp.log(2.0) - u - jax.nn.softplus(-2 * u))
    return jnp.tanh(u), (log_normal - log_det).sum(-1)


def act(net: Net, params: Params, features: Array, key: Array, explore: Any, least: float = LOG_STD_MIN) -> Array:
    """tanh(mean + explore * std * noise) `[A]`: explore 1 is the SAC policy, 0 its mean."""
    mean, log_std = gaussian(net.apply(params, features), least)
    return jnp.tanh(mean + explore * jnp.exp(log_std) * jax.random.normal(key, mean.shape))


# ---- losses ---------------------------------------------------------------------------------------------------------


def soft_target(
    reward: Array, terminal: Array, next_q: Array, next_log_prob: Array, discount: float, temperature: Array
) -> Array:
    """r + discount (1 - terminal) (min_E Q'(s', a') - temperature log pi(a'|s')), Eqs. 3 and 6.

    [B], [B], [E, B], [B] -> [B]
    """
    soft_value = next_q.min(0) - temperature * next_log_prob
    return reward + discount * jnp.where(terminal, 0.0, soft_value)


def critic_loss(q: Array, target: Array) -> Array:
    """Eq. 5, summed over the critics. [E, B], [B] -> []"""
    return 0.5 * ((q - target[None]) ** 2).mean(1).sum(0)


def actor_loss(q: Array, log_prob: Array, temperature: Array) -> Array:
    """Eq. 7 with the minimum of the critics. [E, B], [B] -> []"""
    return (temperature * log_prob - q.min(0)).mean()


def temperature_loss(log_temperature: Array, log_prob: Array, target_entropy: float) -> Array:
    """Eq. 18. [], [B] -> []"""
    return -(jnp.exp(log_temperature) * (log_prob + target_entropy)).mean()


# ---- the algorithm --------------------------------------------------------------------------------------------------


class Optimizers(NamedTuple):
    actor: optax.GradientTransformation
    critic: optax.GradientTransformation
    temperature: optax.GradientTransformation


def optimizers(config: SoftConfig) -> Optimizers:
    rate = config.learning_rate if config.actor_learning_rate is None else config.actor_learning_rate
    actor, critic = falling(rate, config.decay_updates), falling(config.learning_rate, config.decay_updates)
    return Optimizers(actor=optax.adam(actor), critic=optax.adam(critic), temperature=optax.adam(actor))


def init_state(config: SoftConfig, nets: Nets, normaliser: Normaliser, key: Array) -> State:
    actor_key, critic_key = jax.random.split(key)
    opt = optimizers(config)
    actor, critics = nets.actor.init(actor_key), nets.critics.init(critic_key)
    log_temperature = jnp.log(jnp.float32(config.init_temperature))
    return State(
        actor=actor,
        critics=critics,
        critics_target=critics,
        log_temperature=log_temperature,
        actor_opt=opt.actor.init(actor),
        critic_opt=opt.critic.init(critics),
        temperature_opt=opt.temperature.init(log_temperature),
        normaliser=normaliser,
    )


def acting(state: State) -> Acting:
    return Acting(state.actor, state.critics, state.normaliser)


def improve_actor(
    config: SoftConfig, nets: Nets, state: State, features: Array, action_dim: int, key: Array
) -> tuple[State, Metrics]:
    """One step of the actor (Eq. 7) and, where it is learned, one of the temperature (Eq. 18) on features `[B, F]`."""
    opt = optimizers(config)
    temperature = jnp.exp(state.log_temperature)

    def loss(actor: Params) -> tuple[Array, Metrics]:
        action, log_prob = sample_action(nets.actor.apply(actor, features), key, nets.log_std_min)
        q = nets.critics.apply(state.critics, features, action)
        value = actor_loss(q, log_prob, temperature)
        return value, {"actor_loss": value, "log_prob": log_prob}

    actor, actor_opt, metrics = descend(opt.actor, loss, state.actor, state.actor_opt)
    log_prob = metrics.pop("log_prob")
    state, metrics = state._replace(actor=actor, actor_opt=actor_opt), metrics | {"temperature": temperature}
    metrics |= {"entropy": -log_prob.mean()}
    if not config.learn_temperature:
        return state, metrics
    target_entropy = -float(action_dim) if config.target_entropy is None else config.target_entropy

    def entropy_loss(log_temperature: Array) -> tuple[Array, Metrics]:
        return temperature_loss(log_temperature, log_prob, target_entropy), {}

    log_temperature, temperature_opt, _ = descend(
        opt.temperature, entropy_loss, state.log_temperature, state.temperature_opt
    )
    return state._replace(log_temperature=log_temperature, temperature_opt=temperature_opt), metrics


def next_value_target(
    discount: float, nets: Nets, state: State, batch: Transition, next_features: Array, key: Array
) -> Array:
    """The soft target of `batch` `[B]` in scaled rewards, no gradient."""
    action, log_prob = sample_action(nets.actor.apply(state.actor, next_features), key, nets.log_std_min)
    next_q = nets.critics.apply(state.critics_target, next_features, action)
    reward = batch.reward / state.normaliser.reward_std
    target = soft_target(reward, batch.terminal, next_q, log_prob, discount, jnp.exp(state.log_temperature))
    return jax.lax.stop_gradient(target)


def make(
    config: SoftConfig,
    space: Space,
    discount: float,
    sample: Callable[[Log, Array, int], Transition] = rows,
) -> Algorithm:
    """SAC on one log: `sample(log, key, batch_size)` draws the rows (`rows`, or `pooled` over T logs).

    `discount` is the family's, used unless the config names one. `init(key, None)` is for learning online.
    """
    gamma = discount if config.discount is None else config.discount
    nets, opt = nets_of(config, space), optimizers(config)

    def init(key: Array, log: Log | None) -> State:
        normaliser = fixed(space, config.obs_scale, config.reward_scale) if log is None else fit(log)
        return init_state(config, nets, normaliser, key)

    def update(state: State, batch: Transition, key: Array, step: Array) -> tuple[State, Metrics]:
        target_key, actor_key = jax.random.split(key)
        features, next_features = state.normaliser.obs(batch.obs), state.normaliser.obs(batch.next_obs)
        target = next_value_target(gamma, nets, state, batch, next_features, target_key)

        def loss(critics: Params) -> tuple[Array, Metrics]:
            q = nets.critics.apply(critics, features, batch.action)
            value = critic_loss(q, target)
            return value, {"critic_loss": value, "q": q.mean() * state.normaliser.reward_std}

        critics, critic_opt, metrics = descend(opt.critic, loss, state.critics, state.critic_opt)
        state = state._replace(critics=critics, critic_opt=critic_opt)
        state, actor_metrics = improve_actor(config, nets, state, features, space.action_dim, actor_key)
        target_critics = polyak(state.critics_target, state.critics, config.target_rate)
        return state._replace(critics_target=target_critics), metrics | actor_metrics

    def q(acting: Acting, obs: Array, action: Array) -> Array:
        """Mean of the twin critics, in units of the reward. [..., O], [..., A] -> [...]"""
        values = nets.critics.apply(acting.critics, acting.normaliser.obs(obs), action)
        return values.mean(0) * acting.normaliser.reward_std

    def act_one(acting: Acting, obs: Array, key: Array, explore: Any) -> Array:
        return act(nets.actor, acting.actor, acting.normaliser.obs(obs), key, explore, nets.log_std_min)

    return Algorithm(
        init=init,
        sample=lambda log, key: sample(log, key, config.batch_size),
        update=update,
        acting=acting,
        acting_type=Acting,
        policy=memoryless(act_one, q),
        q=q,
    )
