"""tiMe's second phase (Vuong et al. 2019, `Pre-training as Batch Meta RL with tiMe`): Algorithm 1 with Q only.

Joint regression of Q_S(s, a, M) on every task's own Q*_j(s, a), and of P(E(s, a), M) on r (and s'), where
M = f(context) is inferred from transitions of the same task.

Differs: one update takes B transitions of *every* task, not of one random task. Targets are regressed in standard
units (mean and deviation over the logs). "Terms are scaled to the size of the Q term" is read as a detached running
ratio. P(E, M) sees M beside E's output. s' is predicted as a change. T tasks, B batch, L context, Z latent.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pipelines.core.configs.algorithms import TimeConfig
from pipelines.core.learn import descend
from pipelines.core.normaliser import Normaliser, fit, moments, valid_rows
from pipelines.core.samplers import contexts, row_numbers
from pipelines.core.types import (
    Algorithm,
    Array,
    Log,
    Metrics,
    OptState,
    Params,
    Policy,
    Space,
    Transition,
    transitions,
)
from pipelines.nets import Net, mlp

RATIO_DECAY = 0.99  # of the running sizes of the loss terms
TERMS = ("q", "reward", "next_obs")


class Data(NamedTuple):
    """The logs and, for each row, the value its own task's teacher gives it."""

    logs: Log  # [T, N, ...]
    teacher_q: Array  # [T, N]


class Batch(NamedTuple):
    row: Transition  # [T, B]
    context: Transition  # [T, B, L]
    teacher_q: Array  # [T, B]


class Scales(NamedTuple):
    """Standard units of what is regressed."""

    inputs: Normaliser
    q_mean: Array  # []
    q_std: Array  # []
    change_std: Array  # [O], of s' - s


class State(NamedTuple):
    params: Params  # {"f", "embed", "predictor", "q"}
    opt: OptState
    sizes: Array  # [3] running size of each loss term
    scales: Scales


class Acting(NamedTuple):
    params: Params
    scales: Scales


class Memory(NamedTuple):
    """What this episode has shown: M is the mean of `total`, the zero vector before the first transition."""

    total: Array  # [Z]
    num: Array  # []


class Nets(NamedTuple):
    f: Net  # (s, a, r, s') -> [Z]
    embed: Net  # E: (s, a)
    predictor: Net  # P: (E, M) -> [1 + O]: r and the change of s
    q: Net  # Q_S: (s, a, M)


def make_nets(config: TimeConfig, space: Space) -> Nets:
    obs, action, latent = space.obs_dim, space.action_dim, config.latent_dim
    return Nets(
        f=mlp([obs, action, 1, obs], config.encoder_hidden, latent),
        embed=mlp([obs, action], config.embed_hidden, config.embed_dim),
        predictor=mlp([config.embed_dim, latent], config.predictor_hidden, 1 + obs),
        q=mlp([obs, action, latent], config.q_hidden, 1),
    )


def encode(nets: Nets, acting: Acting, rows: Transition) -> Array:
    """f before the mean over the set: each transition `[...]` -> `[..., Z]`."""
    norm = acting.scales.inputs
    reward = norm.reward(rows.reward)[..., None]
    return nets.f.apply(acting.params["f"], norm.obs(rows.obs), rows.action, reward, norm.obs(rows.next_obs))


def q_value(nets: Nets, acting: Acting, obs: Array, action: Array, latent: Array) -> Array:
    """Q_S(s, a, M) in standard units. [..., O], [..., A], [..., Z] -> [...]"""
    return nets.q.apply(acting.params["q"], acting.scales.inputs.obs(obs), action, latent)[..., 0]


# ---- the loss -------------------------------------------------------------------------------------------------------


def term_weights(sizes: Array) -> Array:
    """Detached weights [3] that bring each running size to the size of the Q term (the first)."""
    return jax.lax.stop_gradient(sizes[0] / jnp.maximum(sizes, 1e-8))


def regression_terms(nets: Nets, config: TimeConfig, acting: Acting, batch: Batch) -> Array:
    """Line 12 of Algorithm 1, one mean square per term in standard units: [q, r, s'] -> [3]; unused terms are 0."""
    latent = encode(nets, acting, batch.context).mean(-2)  # line 5
    scales, row = acting.scales, batch.row
    features = (scales.inputs.obs(row.obs), row.action)
    embedded = nets.embed.apply(acting.params["embed"], *features)
    predicted = nets.predictor.apply(acting.params["predictor"], embedded, latent)  # line 6
    predicted_q = q_value(nets, acting, row.obs, row.action, latent)  # line 7
    q_error = predicted_q - (batch.teacher_q - scales.q_mean) / scales.q_std
    reward_error = predicted[..., 0] - scales.inputs.reward(row.reward)
    change_error = predicted[..., 1:] - (row.next_obs - row.obs) / jnp.broadcast_to(scales.change_std, row.obs.shape)
    terms = [
        (q_error**2).mean(),
        (reward_error**2).mean() if config.predict_reward else jnp.float32(0),
        (change_error**2).sum(-1).mean() if config.predict_next_obs else jnp.float32(0),
    ]
    return jnp.stack(terms)


# ---- the algorithm --------------------------------------------------------------------------------------------------


def fit_scales(data: Data) -> Scales:
    valid = valid_rows(data.logs)
    everything = jax.vmap(transitions)(data.logs, jnp.broadcast_to(jnp.arange(valid.shape[1]), valid.shape))
    _, change_std = moments(everything.next_obs - everything.obs, valid)
    return Scales(fit(data.logs), *moments(data.teacher_q, valid), change_std)


def policy(config: TimeConfig, space: Space, nets: Nets) -> Policy:
    """Random shooting on Q_S(s, ., M): the best of `num_shots` uniform actions (section 5.1).

    The context is this episode's own transitions: `start` clears it.
    """
    low, high = jnp.asarray(space.low), jnp.asarray(space.high)

    def empty() -> Memory:
        return Memory(jnp.zeros((config.latent_dim,)), jnp.float32(0))

    def latent(memory: Memory) -> Array:
        return memory.total / jnp.maximum(memory.num, 1.0)

    def act(acting: Acting, memory: Memory, obs: Array, key: Array, explore: Any) -> Array:
        shots = jax.random.uniform(key, (config.num_shots, *space.action_shape), minval=low, maxval=high)
        wide = [jnp.broadcast_to(x, (config.num_shots, *x.shape)) for x in (obs, latent(memory))]
        return shots[q_value(nets, acting, wide[0], shots, wide[1]).argmax()]

    def observe(acting: Acting, memory: Memory, row: Transition) -> Memory:
        return Memory(memory.total + encode(nets, acting, row), memory.num + 1)

    def value(acting: Acting, memory: Memory, obs: Array, action: Array) -> Array:
        standard = q_value(nets, acting, obs, action, latent(memory))
        return standard * acting.scales.q_std + acting.scales.q_mean

    return Policy(
        begin=lambda acting, key: empty(),
        start=lambda acting, memory, obs, key: empty(),
        act=act,
        observe=observe,
        value=value,
    )


def make(config: TimeConfig, space: Space) -> Algorithm:
    """tiMe across tasks: data is `Data`, T is the leading axis inside the loss."""
    nets, optimizer = make_nets(config, space), optax.adam(config.learning_rate)

    def init(key: Array, data: Data) -> State:
        names = ("f", "embed", "predictor", "q")
        params = {name: getattr(nets, name).init(k) for name, k in zip(names, jax.random.split(key, 4), strict=True)}
        return State(params, optimizer.init(params), jnp.ones(3), fit_scales(data))

    def sample_task(log: Log, teacher_q: Array, key: Array) -> Batch:
        row_key, context_key = jax.random.split(key)
        rows = row_numbers(log, row_key, config.batch_size)
        context = contexts(log, context_key, rows, config.context_size)
        return Batch(transitions(log, rows), context, teacher_q[rows])

    def sample(data: Data, key: Array) -> Batch:
        keys = jax.random.split(key, data.teacher_q.shape[0])
        return jax.vmap(sample_task)(data.logs, data.teacher_q, keys)

    def update(state: State, batch: Batch, key: Array, step: Array) -> tuple[State, Metrics]:
        weights = term_weights(state.sizes) if config.scale_terms else jnp.ones(3)

        def loss(params: Params) -> tuple[Array, Metrics]:
            terms = regression_terms(nets, config, Acting(params, state.scales), batch)
            return (weights * terms).sum(), {f"{name}_loss": term for name, term in zip(TERMS, terms, strict=True)}

        params, opt, metrics = descend(optimizer, loss, state.params, state.opt)
        terms = jnp.stack([metrics[f"{name}_loss"] for name in TERMS])
        sizes = jnp.where(step == 0, terms, state.sizes + (1 - RATIO_DECAY) * (terms - state.sizes))
        return state._replace(params=params, opt=opt, sizes=sizes), metrics

    return Algorithm(
        init=init,
        sample=sample,
        update=update,
        acting=lambda state: Acting(state.params, state.scales),
        acting_type=Acting,
        policy=policy(config, space, nets),
    )
