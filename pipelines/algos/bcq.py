"""BCQ (Fujimoto et al. 2019a, arXiv:1812.02900), as MBML runs it; equations are the paper's.

A generator G(s, noise) (the decoder of a conditional VAE) proposes actions like the log's, a perturbation xi moves them
by at most Phi, and the critics choose among them. MBML distils all three: `propose`, `perturb` and `q`.
Differs: the nets see normalised observations and critics learn rewards divided by a scale, both fitted on the log,
while values are in units of the reward; LeCun-normal weights and zero biases; `q` is the first critic, which also
chooses the action (as the code has it); bootstraps through truncation.
One task's view: B batch, E = 2 critics, M candidates, O obs, A action, Z latent.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pipelines.algos.td3 import critic_loss, td_target
from pipelines.core.configs.algorithms import BcqConfig
from pipelines.core.learn import descend, polyak
from pipelines.core.normaliser import Normaliser, fit
from pipelines.core.samplers import rows
from pipelines.core.types import Algorithm, Array, Log, Metrics, OptState, Params, Space, Transition, memoryless
from pipelines.nets import Net, beside, ensemble, member, mlp

LOG_STD_MIN, LOG_STD_MAX = -4.0, 15.0


class Vae(NamedTuple):
    encoder: Params
    generator: Params


class State(NamedTuple):
    vae: Vae
    critics: Params
    critics_target: Params
    perturbation: Params
    perturbation_target: Params
    vae_opt: OptState
    critic_opt: OptState
    perturbation_opt: OptState
    normaliser: Normaliser


class Acting(NamedTuple):
    """What acting, valuing and distilling need."""

    generator: Params
    perturbation: Params
    critics: Params
    normaliser: Normaliser


class Nets(NamedTuple):
    encoder: Net  # (features, action) -> [2 Z]
    generator: Net  # (features, latent) -> [A], before tanh
    perturbation: Net  # (features, action) -> [A], before tanh
    critic: Net  # (features, action) -> [1], one of the twins
    critics: Net  # (features, action) -> [E]


def latent_dim(config: BcqConfig, space: Space) -> int:
    return 2 * space.action_dim if config.latent_dim is None else config.latent_dim


def make_nets(config: BcqConfig, space: Space, extra: int = 0) -> Nets:
    """Of features [O + extra]."""
    features, action, latent = space.obs_dim + extra, space.action_dim, latent_dim(config, space)
    critic = mlp([features, action], config.hidden, 1)
    return Nets(
        encoder=mlp([features, action], config.vae_hidden, 2 * latent),
        generator=mlp([features, latent], config.vae_hidden, action),
        perturbation=mlp([features, action], config.perturbation_hidden or config.hidden, action),
        critic=critic,
        critics=ensemble(critic, 2),
    )


# ---- losses and targets ----------------------------------------------------------------------------------------------


def posterior(out: Array) -> tuple[Array, Array]:
    """Encoder output `[..., 2 Z]` -> mean, log_std `[..., Z]`."""
    mean, log_std = jnp.split(out, 2, axis=-1)
    return mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)


def vae_loss(action: Array, rebuilt: Array, mean: Array, log_std: Array, kl_weight: float) -> Array:
    """Squared error plus weighted KL to N(0, I), both means over batch and entries. [B, A] twice, [B, Z] twice -> []"""
    kl = 0.5 * (jnp.exp(2 * log_std) + mean**2 - 1.0 - 2 * log_std)
    return ((rebuilt - action) ** 2).mean() + kl_weight * kl.mean()


def perturbed(action: Array, xi: Array, scale: float) -> Array:
    """clip(a + Phi xi, +-1), xi in (-1, 1). [..., A] each"""
    return jnp.clip(action + scale * xi, -1.0, 1.0)


def next_value(next_q: Array, min_weight: float) -> Array:
    """max over the candidates of lambda min_E Q' + (1 - lambda) max_E Q', Eq. 13. [E, B, M] -> [B]"""
    return (min_weight * next_q.min(0) + (1 - min_weight) * next_q.max(0)).max(-1)


# ---- the algorithm ---------------------------------------------------------------------------------------------------


def clipped_noise(config: BcqConfig, key: Array, shape: tuple[int, ...]) -> Array:
    """Latents that actions are generated from: near the middle of the prior."""
    return jnp.clip(jax.random.normal(key, shape), -config.noise_clip, config.noise_clip)


def candidates(config: BcqConfig, generator: Params, perturbation: Params, features: Array, noise: Array) -> Array:
    """M actions in each of B states. [B, F], [B, M, Z] -> [B, M, A]"""
    action = jnp.tanh(beside(generator, features, noise))
    xi = jnp.tanh(beside(perturbation, features, action))
    return perturbed(action, xi, config.perturbation_scale)


def bootstrap(config: BcqConfig, state: State, next_features: Array, noise: Array) -> Array:
    """The target critics' value of the best candidate. [B, F], [B, M, Z] -> [B]"""
    action = candidates(config, state.vae.generator, state.perturbation_target, next_features, noise)
    next_q = jnp.stack([beside(member(state.critics_target, e), next_features, action)[..., 0] for e in range(2)])
    return next_value(next_q, config.min_weight)


def bootstrapped(
    config: BcqConfig, gamma: float, state: State, batch: Transition, next_features: Array, noise: Array
) -> Array:
    """The critics' target for `batch` `[B]` in scaled rewards. noise [B, M, Z]"""
    value = bootstrap(config, state, next_features, noise)
    return td_target(batch.reward / state.normaliser.reward_std, batch.terminal, value, gamma)


def rebuilding_loss(config: BcqConfig, nets: Nets, vae: Vae, features: Array, action: Array, noise: Array) -> Array:
    """The VAE's loss on `[B]` rows. noise [B, Z]"""
    mean, log_std = posterior(nets.encoder.apply(vae.encoder, features, action))
    rebuilt = jnp.tanh(nets.generator.apply(vae.generator, features, mean + jnp.exp(log_std) * noise))
    return vae_loss(action, rebuilt, mean, log_std, config.kl_weight)


def imitate(
    config: BcqConfig,
    nets: Nets,
    opt: optax.GradientTransformation,
    state: State,
    features: Array,
    action: Array,
    noise: Array,
) -> tuple[State, Metrics]:
    """One step of the VAE on `[B]` rows. noise [B, Z]"""

    def loss(vae: Vae) -> tuple[Array, Metrics]:
        value = rebuilding_loss(config, nets, vae, features, action, noise)
        return value, {"vae_loss": value}

    vae, vae_opt, metrics = descend(opt, loss, state.vae, state.vae_opt)
    return state._replace(vae=vae, vae_opt=vae_opt), metrics


def perturb_better(
    config: BcqConfig, nets: Nets, opt: optax.GradientTransformation, state: State, features: Array, noise: Array
) -> tuple[State, Metrics]:
    """One step of xi up the first critic, on actions that the generator proposes (Eq. 12). noise [B, Z]"""
    proposed = jnp.tanh(nets.generator.apply(state.vae.generator, features, noise))

    def loss(perturbation: Params) -> tuple[Array, Metrics]:
        xi = jnp.tanh(nets.perturbation.apply(perturbation, features, proposed))
        action = perturbed(proposed, xi, config.perturbation_scale)
        value = -nets.critic.apply(member(state.critics, 0), features, action).mean()
        return value, {"actor_loss": value}

    perturbation, perturbation_opt, metrics = descend(opt, loss, state.perturbation, state.perturbation_opt)
    return state._replace(perturbation=perturbation, perturbation_opt=perturbation_opt), metrics


def follow(config: BcqConfig, state: State) -> State:
    """The targets, one update later."""
    return state._replace(
        critics_target=polyak(state.critics_target, state.critics, config.target_rate),
        perturbation_target=polyak(state.perturbation_target, state.perturbation, config.target_rate),
    )


def init_state(nets: Nets, opt: optax.GradientTransformation, normaliser: Normaliser, key: Array) -> State:
    keys = jax.random.split(key, 4)
    vae = Vae(nets.encoder.init(keys[0]), nets.generator.init(keys[1]))
    critics, perturbation = nets.critics.init(keys[2]), nets.perturbation.init(keys[3])
    return State(
        vae=vae,
        critics=critics,
        critics_target=critics,
        perturbation=perturbation,
        perturbation_target=perturbation,
        vae_opt=opt.init(vae),
        critic_opt=opt.init(critics),
        perturbation_opt=opt.init(perturbation),
        normaliser=normaliser,
    )


def acting(state: State) -> Acting:
    return Acting(state.vae.generator, state.perturbation, state.critics, state.normaliser)


def first_value(nets: Nets, acting: Acting, features: Array, action: Array) -> Array:
    """The first critic, in units of the reward. [..., F], [..., A] -> [...]"""
    values = nets.critic.apply(member(acting.critics, 0), features, action)
    return values[..., 0] * acting.normaliser.reward_std


def best_candidate(config: BcqConfig, acting: Acting, features: Array, noise: Array) -> Array:
    """Of the M actions that are proposed, the one that the first critic likes best. [1, F], [1, M, Z] -> [A]"""
    action = candidates(config, acting.generator, acting.perturbation, features, noise)
    return action[0, beside(member(acting.critics, 0), features, action)[0, :, 0].argmax()]


def make(config: BcqConfig, space: Space, discount: float) -> Algorithm:
    """BCQ on one log. `discount` is the family's, used unless the config names one."""
    gamma = discount if config.discount is None else config.discount
    nets, opt = make_nets(config, space), optax.adam(config.learning_rate)
    latent, many = latent_dim(config, space), config.num_candidates

    def init(key: Array, log: Log) -> State:
        return init_state(nets, opt, fit(log, config.scale_obs, config.scale_reward), key)

    def update(state: State, batch: Transition, key: Array, step: Array) -> tuple[State, Metrics]:
        vae_key, target_key, proposal_key = jax.random.split(key, 3)
        num_rows = batch.reward.shape[0]
        features, next_features = state.normaliser.obs(batch.obs), state.normaliser.obs(batch.next_obs)
        noise = jax.random.normal(vae_key, (num_rows, latent))
        state, metrics = imitate(config, nets, opt, state, features, batch.action, noise)
        tried = clipped_noise(config, target_key, (num_rows, many, latent))
        target = bootstrapped(config, gamma, state, batch, next_features, tried)

        def loss(critics: Params) -> tuple[Array, Metrics]:
            q = nets.critics.apply(critics, features, batch.action)
            value = critic_loss(q, target)
            return value, {"critic_loss": value, "q": q.mean() * state.normaliser.reward_std}

        critics, critic_opt, of_critics = descend(opt, loss, state.critics, state.critic_opt)
        state = state._replace(critics=critics, critic_opt=critic_opt)
        noise = clipped_noise(config, proposal_key, (num_rows, latent))
        state, of_perturbation = perturb_better(config, nets, opt, state, features, noise)
        return follow(config, state), metrics | of_critics | of_perturbation

    def q(acting: Acting, obs: Array, action: Array) -> Array:
        """The first critic, in units of the reward. [..., O], [..., A] -> [...]"""
        return first_value(nets, acting, acting.normaliser.obs(obs), action)

    def propose(acting: Acting, obs: Array, noise: Array) -> Array:
        """G(s, noise). [..., O], [..., Z] -> [..., A]"""
        return jnp.tanh(nets.generator.apply(acting.generator, acting.normaliser.obs(obs), noise))

    def perturb(acting: Acting, obs: Array, action: Array) -> Array:
        """xi(s, a) in (-1, 1), in units of Phi. [..., O], [..., A] -> [..., A]"""
        return jnp.tanh(nets.perturbation.apply(acting.perturbation, acting.normaliser.obs(obs), action))

    def act(acting: Acting, obs: Array, key: Array, explore: Any) -> Array:
        """The best of M candidates for the first critic. They are drawn, whether it explores or not."""
        noise = clipped_noise(config, key, (1, many, latent))
        return best_candidate(config, acting, acting.normaliser.obs(obs)[None], noise)

    return Algorithm(
        init=init,
        sample=lambda log, key: rows(log, key, config.batch_size),
        update=update,
        acting=acting,
        acting_type=Acting,
        policy=memoryless(act, q),
        q=q,
        propose=propose,
        perturb=perturb,
        noise_dim=latent,
        noise_clip=config.noise_clip,
        reach=config.perturbation_scale,
    )
