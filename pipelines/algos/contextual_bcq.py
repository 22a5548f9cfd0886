"""Contextual BCQ (MBML, Li et al. 2020, section 5.1): BCQ whose every net sees an inferred task identity z beside s.

z ~ q(z | c) of MBML's encoder, a product of Gaussian factors (`context`), one draw for all rows of a task in an update.
The encoder learns from the critics' loss alone, as the paper says; there is no KL to the prior, as in the code. With
`encoder_loss=value+vae` it follows the VAE's loss too, which in the code is never cleared from its gradient.
Differs: as bcq.py does. T tasks, B batch, L context, Z of the identity; BCQ sees T B rows of features [s; z].
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pipelines.algos import bcq, context
from pipelines.algos.context import (
    Memory,
    drawn,
    factors,
    gaussian_encoder,
    posterior,
    together,
)
from pipelines.algos.pearl import Batch, widen
from pipelines.algos.td3 import critic_loss
from pipelines.core.configs.algorithms import ContextualBcqConfig
from pipelines.core.learn import descend
from pipelines.core.normaliser import fit
from pipelines.core.samplers import rows
from pipelines.core.types import (
    Algorithm,
    Array,
    Held,
    HeldCritic,
    Latent,
    Log,
    Metrics,
    Params,
    Policy,
    Space,
    Transition,
)
from pipelines.nets import Net


class State(NamedTuple):
    """BCQ on (s, z); its `critic_opt` descends the critics and the encoder together."""

    bcq: bcq.State
    encoder: Params


class Acting(NamedTuple):
    bcq: bcq.Acting
    encoder: Params


def flat(rows: Transition) -> Transition:
    """[T, B] -> [T B]"""
    return jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:]), rows)


def beside_z(features: Array, z: Array) -> Array:
    """[..., F], [Z] -> [..., F + Z]"""
    return jnp.concatenate([features, jnp.broadcast_to(z, (*features.shape[:-1], z.shape[-1]))], -1)


def update_with(
    config: ContextualBcqConfig,
    gamma: float,
    nets: bcq.Nets,
    encoder: Net,
    opt: optax.GradientTransformation,
    space: Space,
) -> Any:
    """BCQ's update on (s, z); only the critics' step, which is the encoder's too, lets a gradient through z."""
    latent, many = bcq.latent_dim(config, space), config.num_candidates

    def update(state: State, batch: Batch, key: Array, step: Array) -> tuple[State, Metrics]:
        identity_key, vae_key, target_key, proposal_key = jax.random.split(key, 4)
        rows, norm, vae = flat(batch.row), state.bcq.normaliser, state.bcq.vae
        num_rows = rows.reward.shape[0]
        noise = jax.random.normal(identity_key, (batch.row.reward.shape[0], config.identity_dim))
        vae_noise = jax.random.normal(vae_key, (num_rows, latent))

        def inferred(params: Params) -> Array:
            return drawn(posterior(encoder, params, norm, batch.context), noise)

        def features_of(obs: Array, z: Array) -> Array:
            return widen(norm, obs, z).reshape(num_rows, -1)

        z = inferred(state.encoder)
        features, next_features = (features_of(obs, z) for obs in (batch.row.obs, batch.row.next_obs))
        inner, metrics = bcq.imitate(config, nets, opt, state.bcq, features, rows.action, vae_noise)
        tried = bcq.clipped_noise(config, target_key, (num_rows, many, latent))
        target = bcq.bootstrapped(config, gamma, inner, rows, next_features, tried)

        def loss(params: tuple[Params, Params]) -> tuple[Array, Metrics]:
            wide = features_of(batch.row.obs, inferred(params[1]))
            q = nets.critics.apply(params[0], wide, rows.action)
            value = critic_loss(q, target)
            told = {"critic_loss": value, "q": q.mean() * norm.reward_std}
            if config.encoder_loss == "value+vae":  # of the VAE as it was, whose gradient stays in the encoder
                value = value + bcq.rebuilding_loss(config, nets, vae, wide, rows.action, vae_noise)
            return value, told

        both = (inner.critics, state.encoder)
        (critics, params), critic_opt, of_critics = descend(opt, loss, both, inner.critic_opt)
        inner = inner._replace(critics=critics, critic_opt=critic_opt)
        proposal = bcq.clipped_noise(config, proposal_key, (num_rows, latent))
        inner, of_perturbation = bcq.perturb_better(config, nets, opt, inner, features, proposal)
        return State(bcq.follow(config, inner), params), metrics | of_critics | of_perturbation

    return update


def policy(config: ContextualBcqConfig, nets: bcq.Nets, encoder: Net, space: Space) -> Policy:
    """BCQ's policy on (s, z). Before each episode z is drawn from what the task has shown so far, or from the prior."""
    shape = (1, config.num_candidates, bcq.latent_dim(config, space))

    def begin(acting: Acting, key: Array) -> Memory:
        return context.fresh(config.identity_dim)

    def start(acting: Acting, memory: Memory, obs: Array, key: Array) -> Memory:
        return context.episode(memory, key)

    def features(acting: Acting, memory: Memory, obs: Array) -> Array:
        return beside_z(acting.bcq.normaliser.obs(obs), memory.z)

    def act(acting: Acting, memory: Memory, obs: Array, key: Array, explore: Any) -> Array:
        noise = bcq.clipped_noise(config, key, shape)
        return bcq.best_candidate(config, acting.bcq, features(acting, memory, obs)[None], noise)

    def observe(acting: Acting, memory: Memory, row: Transition) -> Memory:
        more = factors(encoder, acting.encoder, acting.bcq.normaliser, row)
        memory = memory._replace(seen=together(memory.seen, more))
        return context.redrawn(memory) if config.resample == "step" else memory

    def value(acting: Acting, memory: Memory, obs: Array, action: Array) -> Array:
        return bcq.first_value(nets, acting.bcq, features(acting, memory, obs), action)

    def latent(acting: Acting, memory: Memory) -> Latent:
        return context.latent(memory)

    return Policy(begin, start, act, observe, value, latent)


def held_critic(nets: bcq.Nets) -> HeldCritic:
    """The first critic, with z as it is and the scale of the reward."""

    def take(acting: Acting, memory: Memory) -> Held:
        held = {"z": memory.z, "reward_std": acting.bcq.normaliser.reward_std}
        return Held(bcq.member(acting.bcq.critics, 0), held, acting.bcq.normaliser)

    def q(params: Params, held: Any, features: Array, action: Array) -> Array:
        return nets.critic.apply(params, beside_z(features, held["z"]), action)[..., 0] * held["reward_std"]

    return HeldCritic(take, q)


def make(config: ContextualBcqConfig, space: Space, discount: float) -> Algorithm:
    """Contextual BCQ across tasks: data is a stack of T logs."""
    gamma = discount if config.discount is None else config.discount
    nets, opt = bcq.make_nets(config, space, extra=config.identity_dim), optax.adam(config.learning_rate)
    encoder = gaussian_encoder(space, config.encoder_hidden, config.identity_dim)

    def init(key: Array, logs: Log) -> State:
        bcq_key, encoder_key = jax.random.split(key)
        inner = bcq.init_state(nets, opt, fit(logs, config.scale_obs, config.scale_reward), bcq_key)
        params = encoder.init(encoder_key)
        return State(inner._replace(critic_opt=opt.init((inner.critics, params))), params)

    def sample_task(log: Log, key: Array) -> Batch:
        row_key, context_key = jax.random.split(key)
        return Batch(rows(log, row_key, config.batch_size), rows(log, context_key, config.context_size))

    return Algorithm(
        init=init,
        sample=lambda logs, key: jax.vmap(sample_task)(logs, jax.random.split(key, logs.size.shape[0])),
        update=update_with(config, gamma, nets, encoder, opt, space),
        acting=lambda state: Acting(bcq.acting(state.bcq), state.encoder),
        acting_type=Acting,
        policy=policy(config, nets, encoder, space),
        critic=held_critic(nets),
    )
