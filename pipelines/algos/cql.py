"""CQL(H) (Kumar et al. 2020, arXiv:2006.04779) on SAC's core; equations are the paper's.

The critics pay alpha (log of the integral of exp Q(s, a) over the box - Q(s, a_log)). The integral is estimated by
importance sampling with M actions of each of three proposals: uniform, pi(.|s) and pi(.|s') (appendix F); every
exp(Q) is divided by its action's density *inside* the logarithm (BOReL's released code takes the log of an average of
Q / density instead: `tests/algos/test_cql.py` has an integral that only the right form finds).
Differs: alpha weighs both terms, so that the gap does not depend on it (the released form weighs the first only); the
target leaves the entropy out by default, as the paper's code; nets see normalised observations and critics learn
rewards divided by their deviation on the log (alpha is in those units) unless fields say otherwise; bootstraps through
truncation. One task's view: B batch, E = 2 critics, M actions per proposal, A action.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from pipelines.algos import sac
from pipelines.core.configs.algorithms import CqlConfig
from pipelines.core.learn import descend, falling, polyak
from pipelines.core.normaliser import fit, fixed
from pipelines.core.samplers import rows
from pipelines.core.types import Algorithm, Array, Log, Metrics, OptState, Params, Space, Transition
from pipelines.nets import beside, member

MAX_LOG_WEIGHT = math.log(1e6)


class State(NamedTuple):
    sac: sac.State
    log_weight: Array  # [] log alpha
    weight_opt: OptState


class Proposals(NamedTuple):
    """Actions that stand for the whole box, and the densities that they were drawn with."""

    action: Array  # [B, M, A]
    log_density: Array  # [B, M]


def drawn(out: Array, key: Array, count: int) -> Proposals:
    """`count` actions of the policy with actor output `[B, 2 A]`."""
    action, log_density = jax.vmap(lambda key: sac.sample_action(out, key), out_axes=1)(jax.random.split(key, count))
    return Proposals(action, log_density)


def uniform(key: Array, num_rows: int, count: int, action_dim: int) -> Proposals:
    """`count` actions of the box (-1, 1)^A, of density 2^-A."""
    action = jax.random.uniform(key, (num_rows, count, action_dim), minval=-1.0, maxval=1.0)
    return Proposals(action, jnp.full((num_rows, count), -action_dim * math.log(2.0)))


def log_integral(q: Array, log_density: Array) -> Array:
    """log mean_M exp(Q) / density, an estimate of log of the integral of exp Q. [E, B, M], [B, M] -> [E, B]"""
    return jax.nn.logsumexp(q - log_density[None], axis=-1) - math.log(q.shape[-1])


def conservative_gap(q: Array, log_density: Array, data_q: Array) -> Array:
    """Eq. 4's difference, a mean over the batch and a sum over the critics. [E, B, M], [B, M], [E, B] -> []"""
    return (log_integral(q, log_density) - data_q).mean(1).sum(0)


def weight_loss(log_weight: Array, gap: Array, wanted: float) -> Array:
    """-alpha (gap - tau): alpha grows while the gap is above tau (Eq. 30). [], [] -> []"""
    return -weight_of(log_weight) * (gap - wanted)


def weight_of(log_weight: Array) -> Array:
    return jnp.exp(jnp.minimum(log_weight, MAX_LOG_WEIGHT))


def make(config: CqlConfig, space: Space, discount: float) -> Algorithm:
    """CQL on one log. `discount` is the family's, used unless the config names one."""
    gamma = discount if config.discount is None else config.discount
    nets, opt, weight_opt = (
        sac.make_nets(space, config.hidden),
        sac.optimizers(config),
        optax.adam(falling(config.learning_rate, config.decay_updates)),
    )
    base = sac.make(config, space, discount)

    def init(key: Array, log: Log | None) -> State:
        if log is None:  # whoever asks has scales of its own
            norm = fixed(space, 1.0, 1.0)
        else:
            norm = fit(log, config.scale_obs, config.scale_reward)
        inner = sac.init_state(config, nets, norm, key)
        log_weight = jnp.log(jnp.float32(config.conservative_weight))
        return State(inner, log_weight, weight_opt.init(log_weight))

    def proposals(key: Array, out: Array, next_out: Array) -> Proposals:
        """[B, 3 M]: uniform, of the policy, of the policy one state later."""
        keys, count = jax.random.split(key, 3), config.num_actions
        each = (
            uniform(keys[0], out.shape[0], count, space.action_dim),
            drawn(out, keys[1], count),
            drawn(next_out, keys[2], count),
        )
        return Proposals(*(jnp.concatenate(parts, axis=1) for parts in zip(*each, strict=True)))

    def target(state: sac.State, batch: Transition, next_features: Array, next_out: Array, key: Array) -> Array:
        action, log_prob = sac.sample_action(next_out, key)
        next_q = nets.critics.apply(state.critics_target, next_features, action)
        temperature = jnp.exp(state.log_temperature) if config.soft_target else jnp.zeros(())
        reward = batch.reward / state.normaliser.reward_std
        return sac.soft_target(reward, batch.terminal, next_q, log_prob, gamma, temperature)

    def update(state: State, batch: Transition, key: Array, step: Array) -> tuple[State, Metrics]:
        inner, weight = state.sac, weight_of(state.log_weight)
        target_key, proposal_key, actor_key = jax.random.split(key, 3)
        features, next_features = inner.normaliser.obs(batch.obs), inner.normaliser.obs(batch.next_obs)
        out, next_out = nets.actor.apply(inner.actor, features), nets.actor.apply(inner.actor, next_features)
        wanted = target(inner, batch, next_features, next_out, target_key)
        tried = proposals(proposal_key, out, next_out)
        # the log's own action goes along as one more, so that each critic is one pass over [B (3 M + 1)] rows
        actions = jnp.concatenate([tried.action, batch.action[:, None]], axis=1)

        def loss(critics: Params) -> tuple[Array, Metrics]:
            each = jnp.stack([beside(member(critics, e), features, actions)[..., 0] for e in range(2)])
            q, data_q = each[..., :-1], each[..., -1]
            bellman, gap = sac.critic_loss(data_q, wanted), conservative_gap(q, tried.log_density, data_q)
            mean_q = data_q.mean() * inner.normaliser.reward_std
            return bellman + weight * gap, {"critic_loss": bellman, "conservative_gap": gap, "q": mean_q}

        critics, critic_opt, metrics = descend(opt.critic, loss, inner.critics, inner.critic_opt)
        inner = inner._replace(critics=critics, critic_opt=critic_opt)
        inner, of_actor = sac.improve_actor(config, nets, inner, features, space.action_dim, actor_key)
        inner = inner._replace(critics_target=polyak(inner.critics_target, inner.critics, config.target_rate))
        state = learn_weight(state._replace(sac=inner), metrics["conservative_gap"])
        return state, metrics | of_actor | {"conservative_weight": weight}

    def learn_weight(state: State, gap: Array) -> State:
        if config.lagrange_gap is None:
            return state
        wanted = 2 * config.lagrange_gap  # the gap is a sum over two critics

        def loss(log_weight: Array) -> tuple[Array, Metrics]:
            return weight_loss(log_weight, gap, wanted), {}

        log_weight, opt_state, _ = descend(weight_opt, loss, state.log_weight, state.weight_opt)
        return state._replace(log_weight=log_weight, weight_opt=opt_state)

    return Algorithm(
        init=init,
        sample=lambda log, key: rows(log, key, config.batch_size),
        update=update,
        acting=lambda state: sac.acting(state.sac),
        acting_type=sac.Acting,
        policy=base.policy,
        q=base.q,
    )
