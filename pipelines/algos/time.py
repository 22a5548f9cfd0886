"""tiMe's second phase (Vuong et al. 2019, `Pre-training as Batch Meta RL with tiMe`): Algorithm 1.

Joint regression of Q_S(s, a, M) on every task's own Q*_j(s, a), and of P(E(s, a), M) on r (and s'), where
M = f(context) is inferred from transitions of the same task. Teachers that generate and perturb actions (BCQ) teach
G_S(s, noise, M) and xi_S(s, a, M) along with it, whose candidates are then what is chosen from; for others, as in
section 5.1, actions are tried at random. `act` says otherwise: `cem` is the ablation of section 5.2.

Differs: one update takes B transitions of *every* task, not of one random task. Targets are regressed in standard
units (mean and deviation over the logs). "Terms are scaled to the size of the Q term" is read as a detached running
ratio. P(E, M) sees M beside E's output. s' is predicted as a change. xi_S sees M, as the text has it (line 11 leaves it
out). Noise is held where the teachers hold it. act=generator with a teacher that has no generator imitates the action
that it takes itself, see `distilled`. T tasks, B batch, L context, Z latent.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pipelines.algos.context import input_sizes, inputs, mean_of
from pipelines.algos.distilled import Actor, Teach, candidates, generate, make_actor, nudge, widened
from pipelines.core.configs.algorithms import TimeConfig
from pipelines.core.learn import descend
from pipelines.core.normaliser import Normaliser, fit, moments, valid_rows
from pipelines.core.samplers import contexts, row_numbers
from pipelines.core.types import (
    Algorithm,
    Array,
    Held,
    HeldCritic,
    Latent,
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
TAUGHT = ("generator", "perturbation")  # terms that there are with act=generator


class Data(NamedTuple):
    """The logs, for each row the value its own task's teacher gives it, and the teachers if their actions are asked."""

    logs: Log  # [T, N, ...]
    teacher_q: Array  # [T, N]
    teachers: Any = ()  # their acting states [T, ...]


class Batch(NamedTuple):
    row: Transition  # [T, B]
    context: Transition  # [T, B, L]
    teacher_q: Array  # [T, B]
    lesson: Any = ()  # Lesson [T, B] with act=generator


class Scales(NamedTuple):
    """Standard units of what is regressed."""

    inputs: Normaliser
    q_mean: Array  # []
    q_std: Array  # []
    change_std: Array  # [O], of s' - s


class State(NamedTuple):
    params: (
        Params  # {"f", "embed", "predictor", "q"}; with act=generator "generator" and, if it perturbs, "perturbation"
    )
    opt: OptState
    sizes: Array  # [3] running size of each loss term, [5] with act=generator
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
    actor: Actor | None = None  # G_S: (s, noise, M) and xi_S: (s, a, M), with act=generator


def make_nets(config: TimeConfig, space: Space) -> Nets:
    obs, action, latent = space.obs_dim, space.action_dim, config.latent_dim
    return Nets(
        f=mlp(input_sizes(space), config.encoder_hidden, latent),
        embed=mlp([obs, action], config.embed_hidden, config.embed_dim),
        predictor=mlp([config.embed_dim, latent], config.predictor_hidden, 1 + obs),
        q=mlp([obs, action, latent], config.q_hidden, 1),
        actor=make_actor(config, space) if config.act == "generator" else None,
    )


def encode(nets: Nets, acting: Acting, rows: Transition) -> Array:
    """f before the mean over the set: each transition `[...]` -> `[..., Z]`."""
    return nets.f.apply(acting.params["f"], *inputs(acting.scales.inputs, rows))


def q_value(nets: Nets, acting: Acting, obs: Array, action: Array, latent: Array) -> Array:
    """Q_S(s, a, M) in standard units. [..., O], [..., A], [..., Z] -> [...]"""
    return nets.q.apply(acting.params["q"], acting.scales.inputs.obs(obs), action, latent)[..., 0]


# ---- the loss -------------------------------------------------------------------------------------------------------


def term_weights(sizes: Array) -> Array:
    """Detached weights that bring each running size to the size of the Q term (the first)."""
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


def imitation_terms(nets: Nets, config: TimeConfig, acting: Acting, batch: Batch) -> Array:
    """The rest of line 12: ||G_S(s, noise, M) - a||^2 and ||xi_S(s, a, M) - xi_j(s, a)||^2 at a = G_j(s, noise) -> [2];
    the last is 0 where the teachers do not perturb. M learns from both."""
    assert nets.actor is not None
    latent = encode(nets, acting, batch.context).mean(-2)  # [T, B, Z]
    features, lesson, params = acting.scales.inputs.obs(batch.row.obs), batch.lesson, acting.params
    action = lesson.row.action
    made = generate(nets.actor.generator, params["generator"], features, lesson.noise, latent)  # lines 8 and 9
    terms = [((made - action) ** 2).sum(-1).mean(), jnp.float32(0)]
    if config.perturbation_scale:
        xi = nudge(nets.actor.perturbation, params["perturbation"], features, action, latent)  # line 11
        terms[1] = ((xi - lesson.xi) ** 2).sum(-1).mean()
    return jnp.stack(terms)


# ---- the algorithm --------------------------------------------------------------------------------------------------


def fit_scales(data: Data) -> Scales:
    valid = valid_rows(data.logs)
    everything = jax.vmap(transitions)(data.logs, jnp.broadcast_to(jnp.arange(valid.shape[1]), valid.shape))
    _, change_std = moments(everything.next_obs - everything.obs, valid)
    return Scales(fit(data.logs), *moments(data.teacher_q, valid), change_std)


Value = Callable[[Array], Array]  # of actions [M, A] -> [M]


def cross_entropy_search(config: TimeConfig, space: Space, value: Value, key: Array) -> Array:
    """The best action of the last of some rounds, each drawn around the best of the round before. -> [A]"""
    low, high = jnp.asarray(space.low), jnp.asarray(space.high)
    wide = (config.num_shots, *space.action_shape)

    def one(carry: tuple[Array, Array], key: Array) -> tuple[tuple[Array, Array], Array]:
        mean, std = (jnp.broadcast_to(leaf, wide) for leaf in carry)
        shots = jnp.clip(mean + std * jax.random.normal(key, wide), jnp.broadcast_to(low, wide), high[None])
        _, best = jax.lax.top_k(value(shots), min(config.cem_elites, config.num_shots))
        return (shots[best].mean(0), shots[best].std(0)), shots[best[0]]

    begun = ((low + high) / 2, (high - low) / 2)
    return jax.lax.scan(one, begun, jax.random.split(key, config.cem_rounds))[1][-1]


def policy(config: TimeConfig, space: Space, nets: Nets) -> Policy:
    """The action that Q_S(s, ., M) likes best: of G_S's candidates, as BCQ has it; or of `num_shots` uniform ones
    (random shooting, section 5.1); or as cross-entropy search finds it.

    The context is this episode's own transitions: `start` clears it.
    """
    low, high = jnp.asarray(space.low), jnp.asarray(space.high)

    def empty() -> Memory:
        return Memory(jnp.zeros((config.latent_dim,)), jnp.float32(0))

    def latent(memory: Memory) -> Array:
        return mean_of(memory.total, memory.num)

    def act(acting: Acting, memory: Memory, obs: Array, key: Array, explore: Any) -> Array:
        def values(actions: Array) -> Array:
            wide = [jnp.broadcast_to(x, (actions.shape[0], *x.shape)) for x in (obs, latent(memory))]
            return q_value(nets, acting, wide[0], actions, wide[1])

        if config.act == "cem":
            return cross_entropy_search(config, space, values, key)
        if nets.actor is not None:
            features = acting.scales.inputs.obs(obs)
            shots = candidates(config, nets.actor, acting.params, features, latent(memory), key)
        else:
            shots = jax.random.uniform(key, (config.num_shots, *space.action_shape), minval=low, maxval=high)
        return shots[values(shots).argmax()]

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
        latent=lambda acting, memory: Latent(latent(memory), jnp.zeros((config.latent_dim,))),
    )


def held_critic(nets: Nets) -> HeldCritic:
    """Q_S at the M of a memory."""

    def q(params: Params, held: tuple[Array, Scales], features: Array, action: Array) -> Array:
        latent, scales = held
        standard = nets.q.apply(params, features, action, widened(latent, features.shape[:-1]))[..., 0]
        return standard * scales.q_std + scales.q_mean

    def take(acting: Acting, memory: Memory) -> Held:
        return Held(acting.params["q"], (mean_of(memory.total, memory.num), acting.scales), acting.scales.inputs)

    return HeldCritic(take, q)


def init_params(config: TimeConfig, nets: Nets, key: Array) -> Params:
    named = {"f": nets.f, "embed": nets.embed, "predictor": nets.predictor, "q": nets.q}
    params = {name: net.init(k) for (name, net), k in zip(named.items(), jax.random.split(key, 4), strict=True)}
    if nets.actor is not None:
        params["generator"] = nets.actor.generator.init(jax.random.fold_in(key, 4))
        if config.perturbation_scale:
            params["perturbation"] = nets.actor.perturbation.init(jax.random.fold_in(key, 5))
    return params


def make(config: TimeConfig, space: Space, teach: Teach | None = None) -> Algorithm:
    """tiMe across tasks: data is `Data`, T is the leading axis inside the loss. `teach` (`distilled.teaching`) is what
    sampling needs with act=generator; acting does not."""
    nets, optimizer = make_nets(config, space), optax.adam(config.learning_rate)
    names = TERMS if nets.actor is None else TERMS + TAUGHT

    def init(key: Array, data: Data) -> State:
        params = init_params(config, nets, key)
        return State(params, optimizer.init(params), jnp.ones(len(names)), fit_scales(data))

    def sample_task(log: Log, teacher_q: Array, teacher: Any, key: Array) -> Batch:
        row_key, context_key = jax.random.split(key)
        rows = row_numbers(log, row_key, config.batch_size)
        context = contexts(log, context_key, rows, config.context_size)
        batch = Batch(transitions(log, rows), context, teacher_q[rows])
        if nets.actor is None:
            return batch
        assert teach is not None, "an algorithm that was made to act has no teachers"
        return batch._replace(lesson=teach(teacher, batch.row, jax.random.fold_in(key, 2)))

    def sample(data: Data, key: Array) -> Batch:
        keys = jax.random.split(key, data.teacher_q.shape[0])
        return jax.vmap(sample_task)(data.logs, data.teacher_q, data.teachers, keys)

    def update(state: State, batch: Batch, key: Array, step: Array) -> tuple[State, Metrics]:
        weights = term_weights(state.sizes) if config.scale_terms else jnp.ones(len(names))

        def loss(params: Params) -> tuple[Array, Metrics]:
            acting = Acting(params, state.scales)
            terms = regression_terms(nets, config, acting, batch)
            if nets.actor is not None:
                terms = jnp.concatenate([terms, imitation_terms(nets, config, acting, batch)])
            return (weights * terms).sum(), {f"{name}_loss": term for name, term in zip(names, terms, strict=True)}

        params, opt, metrics = descend(optimizer, loss, state.params, state.opt)
        terms = jnp.stack([metrics[f"{name}_loss"] for name in names])
        sizes = jnp.where(step == 0, terms, state.sizes + (1 - RATIO_DECAY) * (terms - state.sizes))
        return state._replace(params=params, opt=opt, sizes=sizes), metrics

    return Algorithm(
        init=init,
        sample=sample,
        update=update,
        acting=lambda state: Acting(state.params, state.scales),
        acting_type=Acting,
        policy=policy(config, space, nets),
        critic=held_critic(nets),
    )
