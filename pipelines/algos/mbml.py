"""MBML's second phase (Li et al. 2020, arXiv:1909.11373, Algorithm 1): many teachers distilled into one policy whose
task encoder is made to read rewards; equations are the paper's, numbered in `mbml_losses`.

q(z | context) is a product of Gaussian factors (`context`). Q_D, G_D and xi_D regress on the teachers' Q, G and xi
(Eqs. 3 to 5), and a triplet loss holds a context, the same states and actions paid as in another task (Eq. 7) and that
task's own context against each other (Eqs. 8 and 9), or, where nothing is relabelled, the hardest contexts of a batch
(Eq. 11). Ablations: "no triplet" triplet=false; "no relabelling" relabel=none; "neither" both; "ground truth"
relabel=known.
Differs: the task encoder and the nets see normalised rows, and Q_D speaks in standard units, though its squared error
counts in those of the reward (`q_units`); one optimiser for all nets (each entry of Adam is its own). A row may be in
the context of its own update (as Eq. 3 has it; the code leaves those out). The positive of a pair is cut to as many
rows as the anchor by the anchor's own mask. Noise is held where the teachers hold it (the code; N(0, I) in the
equations). Teachers are frozen: the remark after Eq. 5 that xi's loss moves G_i is not followed, as in the code. A
teacher without a generator (batch SAC, CQL, TD3+BC, IQL, DDPG) shows the action that it takes itself, see `distilled`.
The code's ways: kl_over=sum, batch_hard=anchor, and a relabelled-log made with apply=on-the-fly.
T tasks, B batch, L context, Z latent.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pipelines.algos import context
from pipelines.algos import mbml_losses as losses
from pipelines.algos.context import (
    Factors,
    Gaussian,
    Memory,
    drawn,
    factors,
    gathered,
    gaussian_encoder,
    product_of_gaussians,
    together,
)
from pipelines.algos.distilled import Actor, Teach, candidates, make_actor, widened
from pipelines.algos.mbml_batch import Batch, Data, make_sample
from pipelines.algos.models import Judge
from pipelines.core.configs.algorithms import MbmlConfig
from pipelines.core.learn import descend
from pipelines.core.normaliser import Normaliser, fit, moments, valid_rows
from pipelines.core.types import (
    Algorithm,
    Array,
    Held,
    HeldCritic,
    Latent,
    Metrics,
    OptState,
    Params,
    Policy,
    Space,
    Transition,
)
from pipelines.nets import Net, mlp


class Scales(NamedTuple):
    """Standard units."""

    inputs: Normaliser
    q_mean: Array  # []
    q_std: Array  # []


class State(NamedTuple):
    params: Params  # {"encoder", "q", "generator"} and, where teachers perturb, "perturbation"
    opt: OptState
    scales: Scales


class Acting(NamedTuple):
    params: Params
    scales: Scales


class Nets(NamedTuple):
    encoder: Net  # (s, a, r, s') -> [2 Z]
    q: Net  # Q_D: (s, a, z), in standard units
    actor: Actor  # G_D: (s, noise, z) and xi_D: (s, a, z)


def make_nets(config: MbmlConfig, space: Space) -> Nets:
    return Nets(
        encoder=gaussian_encoder(space, config.encoder_hidden, config.latent_dim),
        q=mlp([space.obs_dim, space.action_dim, config.latent_dim], config.q_hidden, 1),
        actor=make_actor(config, space),
    )


# ---- inference -------------------------------------------------------------------------------------------------------


def seen_in(config: MbmlConfig, nets: Nets, params: Params, scales: Scales, rows: Transition) -> Factors:
    """Each transition's factor. [...] -> [..., Z]"""
    return factors(nets.encoder, params["encoder"], scales.inputs, rows, min_variance=config.min_variance)


def inferred(config: MbmlConfig, nets: Nets, params: Params, scales: Scales, batch: Batch) -> tuple[Gaussian, Array]:
    """(q(z | context) of each task `[T, Z]`, the metric loss `[]`); a context is the union of the task's own rows and
    those relabelled for it that there are."""
    own = seen_in(config, nets, params, scales, batch.own)  # [T, S, L, Z]
    if config.relabel == "none":
        each = product_of_gaussians(gathered(own), config.prior_factor)  # [T, S, Z]
        first = Gaussian(*(leaf[:, 0] for leaf in each))
        apart = losses.batch_hard_loss(each, config.margin, config.batch_hard) if config.triplet else jnp.float32(0)
        return first, apart
    own = Factors(*(leaf[:, 0] for leaf in own))  # [T, L, Z]
    foreign = seen_in(config, nets, params, scales, batch.foreign.relabelled)
    seen = together(gathered(own), gathered(foreign, batch.foreign.valid))
    apart = triplets(config, nets, params, scales, batch, own) if config.triplet else jnp.float32(0)
    return product_of_gaussians(seen, config.prior_factor), apart


def triplets(config: MbmlConfig, nets: Nets, params: Params, scales: Scales, batch: Batch, own: Factors) -> Array:
    """Eqs. 8 and 9 of `batch.pairs`; own [T, L, Z] are the factors of the tasks' contexts."""
    valid = batch.pairs.valid  # [T, T, L]

    def posterior(each: Factors) -> Gaussian:
        return product_of_gaussians(gathered(each, valid), config.prior_factor)

    mine = Factors(*(jnp.broadcast_to(leaf[:, None], (*valid.shape, leaf.shape[-1])) for leaf in own))
    anchor = posterior(seen_in(config, nets, params, scales, batch.pairs.relabelled))
    negative = posterior(seen_in(config, nets, params, scales, batch.pairs.logged))
    return losses.triplet_loss(anchor, posterior(mine), negative, valid.any(-1), config.margin)


def q_value(nets: Nets, params: Params, scales: Scales, features: Array, action: Array, z: Array) -> Array:
    """Q_D, in units of the reward. [..., F], [..., A], [..., Z] -> [...]"""
    return nets.q.apply(params, features, action, z)[..., 0] * scales.q_std + scales.q_mean


def total_loss(
    config: MbmlConfig, nets: Nets, params: Params, scales: Scales, batch: Batch, noise: Array
) -> tuple[Array, Metrics]:
    """Eq. 10. noise [T, Z] is that of the latents."""
    found, apart = inferred(config, nets, params, scales, batch)
    z, features, lesson = drawn(found, noise), scales.inputs.obs(batch.row.obs), batch.lesson
    target = (batch.teacher_q - scales.q_mean) / scales.q_std
    units = scales.q_std**2 if config.q_units == "reward" else 1.0
    terms = {
        "q_loss": units * losses.q_loss(nets.q, params["q"], features, batch.row.action, z, target),
        "kl_loss": losses.kl_loss(found, config.kl_over),
        "generator_loss": losses.generator_loss(
            nets.actor.generator, params["generator"], features, lesson.noise, z, lesson.row.action
        ),
    }
    if config.triplet:
        terms["triplet_loss"] = apart
    if config.perturbation_scale:
        terms["perturbation_loss"] = losses.perturbation_loss(
            nets.actor.perturbation, params["perturbation"], features, lesson.row.action, z, lesson.xi
        )
    weights = {"kl_loss": config.kl_weight}
    return sum((weights.get(name, 1.0) * term for name, term in terms.items()), jnp.float32(0)), terms


# ---- the policy ------------------------------------------------------------------------------------------------------


def policy(config: MbmlConfig, nets: Nets) -> Policy:
    """The best of G_D's candidates for Q_D (Fig. 3). Before an episode z is drawn from the posterior of everything that
    the task has shown, the prior at first."""

    def begin(acting: Acting, key: Array) -> Memory:
        return context.episode(context.fresh(config.latent_dim), key, config.prior_factor)

    def start(acting: Acting, memory: Memory, obs: Array, key: Array) -> Memory:
        return context.episode(memory, key, config.prior_factor)

    def act(acting: Acting, memory: Memory, obs: Array, key: Array, explore: Any) -> Array:
        features = acting.scales.inputs.obs(obs)
        action = candidates(config, nets.actor, acting.params, features, memory.z, key)
        wide = [widened(one, action.shape[:1]) for one in (features, memory.z)]
        return action[q_value(nets, acting.params["q"], acting.scales, wide[0], action, wide[1]).argmax()]

    def observe(acting: Acting, memory: Memory, row: Transition) -> Memory:
        memory = memory._replace(seen=together(memory.seen, seen_in(config, nets, acting.params, acting.scales, row)))
        return context.redrawn(memory, config.prior_factor) if config.resample == "step" else memory

    def value(acting: Acting, memory: Memory, obs: Array, action: Array) -> Array:
        return q_value(nets, acting.params["q"], acting.scales, acting.scales.inputs.obs(obs), action, memory.z)

    def latent(acting: Acting, memory: Memory) -> Latent:
        return context.latent(memory, config.prior_factor)

    return Policy(begin, start, act, observe, value, latent)


def held_critic(nets: Nets) -> HeldCritic:
    """Q_D at the z of a memory."""

    def q(params: Params, held: tuple[Array, Scales], features: Array, action: Array) -> Array:
        z, scales = held
        return q_value(nets, params, scales, features, action, widened(z, features.shape[:-1]))

    def take(acting: Acting, memory: Memory) -> Held:
        return Held(acting.params["q"], (memory.z, acting.scales), acting.scales.inputs)

    return HeldCritic(take, q)


# ---- the algorithm ---------------------------------------------------------------------------------------------------


def make(config: MbmlConfig, space: Space, teach: Teach | None = None, judge: Judge | None = None) -> Algorithm:
    """MBML across tasks: data is `Data`, T is the leading axis inside the loss. `teach` (`distilled.teaching`) and, for
    ensembles that are asked, `judge` are what sampling needs; acting needs neither."""
    nets, optimizer = make_nets(config, space), optax.adam(config.learning_rate)

    def init(key: Array, data: Data) -> State:
        named = {"encoder": nets.encoder, "q": nets.q, "generator": nets.actor.generator}
        if config.perturbation_scale:
            named["perturbation"] = nets.actor.perturbation
        params = {name: net.init(jax.random.fold_in(key, n)) for n, (name, net) in enumerate(named.items())}
        scales = Scales(fit(data.logs), *moments(data.teacher_q, valid_rows(data.logs)))
        return State(params, optimizer.init(params), scales)

    def sample(data: Data, key: Array) -> Batch:
        assert teach is not None, "an algorithm that was made to act has no teachers"
        return make_sample(config, teach, judge)(data, key)

    def update(state: State, batch: Batch, key: Array, step: Array) -> tuple[State, Metrics]:
        noise = jax.random.normal(key, (batch.teacher_q.shape[0], config.latent_dim))

        def loss(params: Params) -> tuple[Array, Metrics]:
            return total_loss(config, nets, params, state.scales, batch, noise)

        params, opt, metrics = descend(optimizer, loss, state.params, state.opt)
        return State(params, opt, state.scales), metrics

    return Algorithm(
        init=init,
        sample=sample,
        update=update,
        acting=lambda state: Acting(state.params, state.scales),
        acting_type=Acting,
        policy=policy(config, nets),
        critic=held_critic(nets),
    )
