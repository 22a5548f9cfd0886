"""Batch PEARL (Rakelly et al. 2019, arXiv:1903.08254; tiMe section 2.4 Eq. 2): SAC on (s, z), z ~ q(z | context).

q(z|c) is a product of Gaussian factors, one per transition, trained through the critic loss and a KL to N(0, I).
Differs: twin critics with target copies and a learned temperature (Haarnoja 2018b) in place of the value net; the actor
sees a detached z (as the paper's code); by default z follows the posterior at every step of an episode, so that a
zero-shot episode can use what it has seen, where the paper draws z once per episode (field `resample`).
T tasks, B batch, L context, Z latent.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pipelines.algos import sac
from pipelines.core.configs.algorithms import PearlConfig
from pipelines.core.learn import descend, polyak
from pipelines.core.normaliser import Normaliser, fit
from pipelines.core.samplers import row_numbers
from pipelines.core.types import (
    Algorithm,
    Array,
    Log,
    Metrics,
    Params,
    Policy,
    Space,
    Transition,
    transitions,
)
from pipelines.nets import Net, mlp

MIN_VARIANCE = 1e-7


class Batch(NamedTuple):
    row: Transition  # [T, B]
    context: Transition  # [T, L]


class State(NamedTuple):
    """SAC on (s, z); its `critic_opt` descends the critics and the encoder together."""

    sac: sac.State
    encoder: Params


class Acting(NamedTuple):
    sac: sac.Acting
    encoder: Params


class Memory(NamedTuple):
    """Natural parameters of the product of factors so far, and the noise and the z of this episode."""

    precision: Array  # [Z] sum of 1 / variance
    weighted: Array  # [Z] sum of mean / variance
    noise: Array  # [Z]
    z: Array  # [Z]


def factors(encoder: Net, params: Params, norm: Normaliser, rows: Transition, with_next: bool) -> tuple[Array, Array]:
    """Each transition `[...]` -> (precision, mean * precision) `[..., Z]` of its Gaussian factor."""
    obs, reward = norm.obs(rows.obs), norm.reward(rows.reward)[..., None]
    inputs = (obs, rows.action, reward, norm.obs(rows.next_obs)) if with_next else (obs, rows.action, reward)
    mean, raw = jnp.split(encoder.apply(params, *inputs), 2, axis=-1)
    precision = 1.0 / jnp.maximum(jax.nn.softplus(raw), MIN_VARIANCE)
    return precision, mean * precision


def product_of_gaussians(precision: Array, weighted: Array) -> tuple[Array, Array]:
    """Summed natural parameters `[..., Z]` -> (mean, variance); no factors at all is the prior N(0, I)."""
    empty = precision == 0
    variance = jnp.where(empty, 1.0, 1.0 / jnp.where(empty, 1.0, precision))
    return weighted * variance, variance


def kl_to_prior(mean: Array, variance: Array) -> Array:
    """KL(N(mean, variance) || N(0, I)), summed over Z. [..., Z] -> [...]"""
    return 0.5 * (variance + mean**2 - 1.0 - jnp.log(variance)).sum(-1)


def policy(config: PearlConfig, nets: sac.Nets, encoder: Net) -> Policy:
    """SAC's policy on (s, z). An episode starts from what the task has shown so far, or from the prior."""

    def draw(memory: Memory) -> Array:
        mean, variance = product_of_gaussians(memory.precision, memory.weighted)
        return mean + jnp.sqrt(variance) * memory.noise

    def begin(acting: Acting, key: Array) -> Memory:
        zeros = jnp.zeros((config.latent_dim,))
        return Memory(zeros, zeros, zeros, zeros)

    def start(acting: Acting, memory: Memory, obs: Array, key: Array) -> Memory:
        memory = memory._replace(noise=jax.random.normal(key, (config.latent_dim,)))
        return memory._replace(z=draw(memory))

    def features(acting: Acting, memory: Memory, obs: Array) -> Array:
        return jnp.concatenate([acting.sac.normaliser.obs(obs), memory.z], -1)

    def act(acting: Acting, memory: Memory, obs: Array, key: Array, explore: Any) -> Array:
        return sac.act(nets.actor, acting.sac.actor, features(acting, memory, obs), key, explore)

    def observe(acting: Acting, memory: Memory, row: Transition) -> Memory:
        norm = acting.sac.normaliser
        precision, weighted = factors(encoder, acting.encoder, norm, row, config.context_next_obs)
        memory = memory._replace(precision=memory.precision + precision, weighted=memory.weighted + weighted)
        return memory._replace(z=draw(memory)) if config.resample == "step" else memory

    def value(acting: Acting, memory: Memory, obs: Array, action: Array) -> Array:
        q = nets.critics.apply(acting.sac.critics, features(acting, memory, obs), action)
        return q.mean(0) * acting.sac.normaliser.reward_std

    return Policy(begin, start, act, observe, value)


def posterior(encoder: Net, params: Params, norm: Normaliser, context: Transition, with_next: bool) -> Any:
    """Context `[..., L]` -> (mean, variance) `[..., Z]`."""
    precision, weighted = factors(encoder, params, norm, context, with_next)
    return product_of_gaussians(precision.sum(-2), weighted.sum(-2))


def widen(norm: Normaliser, obs: Array, z: Array) -> Array:
    """obs [T, B, O], z [T, Z] -> features [T, B, O + Z]"""
    wide = jnp.broadcast_to(z[:, None], (*obs.shape[:2], z.shape[-1]))
    return jnp.concatenate([norm.obs(obs), wide], -1)


def update_with(config: PearlConfig, gamma: float, nets: sac.Nets, encoder: Net, action_dim: int) -> Any:
    """The update: critics and encoder down Eq. 2 and the KL, then actor and temperature on a detached z."""
    optimizer = sac.optimizers(config).critic

    def update(state: State, batch: Batch, key: Array, step: Array) -> tuple[State, Metrics]:
        noise_key, target_key, actor_key = jax.random.split(key, 3)
        row, norm = batch.row, state.sac.normaliser
        noise = jax.random.normal(noise_key, (row.reward.shape[0], config.latent_dim))

        def infer(params: Params) -> tuple[Array, Array]:
            mean, variance = posterior(encoder, params, norm, batch.context, config.context_next_obs)
            return mean + jnp.sqrt(variance) * noise, kl_to_prior(mean, variance).mean()

        z = jax.lax.stop_gradient(infer(state.encoder)[0])
        target = sac.next_value_target(gamma, nets, state.sac, row, widen(norm, row.next_obs, z), target_key)

        def loss(params: tuple[Params, Params]) -> tuple[Array, Metrics]:
            latent, kl = infer(params[1])
            q = nets.critics.apply(params[0], widen(norm, row.obs, latent), row.action)
            value = sac.critic_loss(q.reshape(q.shape[0], -1), target.reshape(-1))
            metrics = {"critic_loss": value, "kl": kl, "q": q.mean() * norm.reward_std}
            return value + config.kl_weight * kl, metrics

        both = (state.sac.critics, state.encoder)
        (critics, params), critic_opt, metrics = descend(optimizer, loss, both, state.sac.critic_opt)
        inner = state.sac._replace(critics=critics, critic_opt=critic_opt)
        features = widen(norm, row.obs, z)
        inner, actor_metrics = sac.improve_actor(config, nets, inner, features, action_dim, actor_key)
        inner = inner._replace(critics_target=polyak(inner.critics_target, inner.critics, config.target_rate))
        return State(inner, params), metrics | actor_metrics

    return update


def make(config: PearlConfig, space: Space, discount: float) -> Algorithm:
    """Batch PEARL across tasks: data is a stack of T logs."""
    gamma = discount if config.discount is None else config.discount
    nets = sac.make_nets(space, config.hidden, extra=config.latent_dim)
    sizes = [space.obs_dim, space.action_dim, 1] + [space.obs_dim] * config.context_next_obs
    encoder = mlp(sizes, config.encoder_hidden, 2 * config.latent_dim)

    def init(key: Array, logs: Log) -> State:
        sac_key, encoder_key = jax.random.split(key)
        inner, params = sac.init_state(config, nets, fit(logs), sac_key), encoder.init(encoder_key)
        critic_opt = sac.optimizers(config).critic.init((inner.critics, params))
        return State(inner._replace(critic_opt=critic_opt), params)

    def sample_task(log: Log, key: Array) -> Batch:
        row_key, context_key = jax.random.split(key)
        rows = row_numbers(log, row_key, config.batch_size)
        context = row_numbers(log, context_key, config.context_size)
        return Batch(transitions(log, rows), transitions(log, context))

    return Algorithm(
        init=init,
        sample=lambda logs, key: jax.vmap(sample_task)(logs, jax.random.split(key, logs.size.shape[0])),
        update=update_with(config, gamma, nets, encoder, space.action_dim),
        acting=lambda state: Acting(sac.acting(state.sac), state.encoder),
        acting_type=Acting,
        policy=policy(config, nets, encoder),
    )
