"""The belief over tasks of VariBAD (Zintgraf et al. 2020, arXiv:1910.08348), learned from logs as in BOReL (Dorfman et
al. 2021, arXiv:2008.02598, section 3).

An encoder reads a trial of k episodes step by step; its Gaussian q_t, t = 0 .. L, is the belief after t steps, q_0 that
of an agent that has seen nothing. Every z_t ~ q_t decodes the whole trial, past and future: rewards, and successors
where tasks differ in their dynamics. What is maximised for each trial is the sum over t of
log p(trial | z_t) - kl_weight KL(q_t || q_{t-1}), q_{-1} = N(0, I). A squared error or a log-likelihood is the sum over
the decoded steps (`over_steps` has the released code's mean); a loss is the mean over trials.
Differs: the encoder and the decoders see the true successor of each row, with flag 1 where an episode ended inside the
trial (the code's next row begins from it, too); observations are normalised by default (`scale_obs`; the code
normalises nothing), rewards are not, so that losses stand in the reward's own units; tasks are drawn without and their
trials with replacement, where the code permutes both; a sub-sample of latents (`elbo_terms`) and of the steps that they
decode (`decode_terms`) is weighed up to the whole sum in the reconstruction and the KL alike, where the code's option
thins the KL alone; linear layers begin as everywhere here (LeCun), the recurrent one as published. Images: rewards
only, by a convolutional net each in encoder and decoder (the paper's is lost).
T tasks, B trials, L = k H steps, N = L + 1 latents, Z latent.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pipelines.algos.belief_decoders import (
    Decoder,
    Terms,
    bernoulli_loss,
    cells_loss,
    make_decoder,
    split_loss,
    squared_loss,
)
from pipelines.algos.belief_nets import embedding, fit_norm, plain_norm
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.learn import descend, falling
from pipelines.core.normaliser import Normaliser
from pipelines.core.samplers import Trial, Trials, logged_trials
from pipelines.core.types import Array, Log, Metrics, OptState, Params, Space, Transition
from pipelines.nets import Net, gru, mlp

CHUNK = {"cpu": 16}  # latents decoded at once where the config does not say: what a core's cache holds, ..
CHUNK_ELSEWHERE = 4096  # .. or enough to fill an accelerator

# ---- inference -------------------------------------------------------------------------------------------------------


class Belief(NamedTuple):
    """A Gaussian over the latent task, of independent entries."""

    mean: Array  # [..., Z]
    log_variance: Array  # [..., Z]


class Coder(NamedTuple):
    """What an encoder knows: its nets' parameters, and the scales of what they see."""

    nets: Params
    norm: Normaliser


class Encoder(NamedTuple):
    """From what happened in a trial so far to a belief. Leading batch axes are free; actions are in [-1, 1].

    init(key) -> Coder, with scales that change nothing
    begin(coder) -> hidden [H], of a new trial
    step(coder, hidden [..., H], row [...], next_flag [...]) -> hidden [..., H]
    belief(coder, hidden [..., H]) -> Belief [..., Z]
    filter(coder, rows [L, ...], next_flag [L, ...], reset=None) -> hidden [L + 1, ..., H], the first that of `begin`;
        where `reset [L, ...]`, the row is taken as if it were the trial's first
    """

    init: Callable[[Array], Coder]
    begin: Callable[[Coder], Array]
    step: Callable[[Coder, Array, Transition, Array], Array]
    belief: Callable[[Coder, Array], Belief]
    filter: Callable[..., Array]


def make_encoder(config: BeliefConfig, space: Space) -> Encoder:
    """Embeddings of action, successor with its flag and reward, one recurrent layer, two linear heads; `space` is the
    learner's own (`unit_box.unit`)."""
    columns = ["obs", "reward"] + ["action"] * bool(config.embed_action)
    see, size = embedding(config, space, columns), config.embed_action + config.embed_obs + config.embed_reward
    memory = gru(size, config.width)
    head = mlp([config.width], (), config.latent_dim)

    def init(key: Array) -> Coder:
        keys = jax.random.split(key, 4)
        nets = {"see": see.init(keys[0]), "memory": memory.init(keys[1])}
        heads = {"mean": head.init(keys[2]), "log_variance": head.init(keys[3])}
        return Coder(nets | heads, plain_norm(space))

    def seen(coder: Coder, row: Transition, next_flag: Array) -> Array:
        params, norm = coder.nets["see"], coder.norm
        columns = [see.action(params, row.action)] if config.embed_action else []
        columns += [see.obs(params, norm, row.next_obs, next_flag), see.reward(params, norm, row.reward)]
        return jnp.concatenate(columns, -1)

    def step(coder: Coder, hidden: Array, row: Transition, next_flag: Array) -> Array:
        return memory.step(coder.nets["memory"], hidden, seen(coder, row, next_flag))

    def belief(coder: Coder, hidden: Array) -> Belief:
        return Belief(*(head.apply(coder.nets[name], hidden) for name in Belief._fields))

    def run_through(coder: Coder, rows: Transition, next_flag: Array, reset: Array | None = None) -> Array:
        xs, params = seen(coder, rows, next_flag), coder.nets["memory"]
        first = jnp.zeros((*xs.shape[1:-1], config.width))
        if reset is None:
            return jnp.concatenate([first[None], memory.run(params, first, xs)])

        def one(hidden: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
            x, blank = row
            after = memory.step(params, jnp.where(blank[..., None], 0.0, hidden), x)
            return after, after

        return jnp.concatenate([first[None], jax.lax.scan(one, first, (xs, reset))[1]])

    return Encoder(init, lambda coder: jnp.zeros((config.width,)), step, belief, run_through)


def blanks(rule: str, row: Transition, above: float) -> Array | None:
    """`reset` of an encoder's `filter`: None, or where the released code begins anew, at each row that ends in the goal
    (`paid`) or ends the task (`terminal`). [...] -> [...]"""
    match rule:
        case "never":
            return None
        case "paid":
            return row.reward > above
    return row.terminal


# ---- divergences and draws -------------------------------------------------------------------------------------------


def divergence(q: Belief, p: Belief) -> Array:
    """KL(q || p), summed over Z. [..., Z] -> [...]"""
    log_ratio = p.log_variance - q.log_variance
    away = (q.mean - p.mean) ** 2 * jnp.exp(-p.log_variance)
    return 0.5 * (jnp.exp(-log_ratio) + away - 1.0 + log_ratio).sum(-1)


def kl_chain(q: Belief, kl_to: str = "previous") -> Array:
    """KL(q_t || q_{t-1}) of trials' beliefs, of the first to N(0, I); `standard`: of all. [B, N, Z] -> [B, N]"""
    if kl_to == "standard":
        return divergence(q, Belief(*(jnp.zeros_like(leaf) for leaf in q)))
    before = Belief(*(jnp.concatenate([jnp.zeros_like(leaf[:, :1]), leaf[:, :-1]], 1) for leaf in q))
    return divergence(q, before)


def drawn(q: Belief, noise: Array) -> Array:
    """mean + deviation * noise. [..., Z]"""
    return q.mean + jnp.exp(0.5 * q.log_variance) * noise


class Drawn(NamedTuple):
    """Which latents and which steps of each trial count, and their weights; None for all of them."""

    latent: Array | None  # [B, n] int32, of 0 .. L
    step: Array | None  # [B, m] int32, of 0 .. L - 1
    terms: Terms  # [B, n], [B, m]


def draw_terms(config: BeliefConfig, valid: Array, key: Array) -> Drawn:
    """A weight is the share of the trial's terms that each drawn one stands for; terms past its end weigh nothing.
    valid [B, L]"""
    latent_key, step_key = jax.random.split(key)
    there = jnp.concatenate([jnp.ones_like(valid[:, :1]), valid], 1)

    def some(mask: Array, key: Array, count: int | None) -> tuple[Array | None, Array]:
        if count is None or count >= mask.shape[1]:
            return None, mask.astype(jnp.float32)
        index = jnp.argsort(jax.random.uniform(key, mask.shape), axis=1)[:, :count]
        return index, jnp.take_along_axis(mask, index, 1) * (mask.shape[1] / count)

    latent, latent_weight = some(there, latent_key, config.elbo_terms)
    step, step_weight = some(valid, step_key, config.decode_terms)
    if config.over_steps == "mean":
        step_weight = step_weight / valid.sum(1, keepdims=True)
    return Drawn(latent, step, Terms(latent_weight, step_weight))


def picked(values: Any, index: Array | None) -> Any:
    """`[B, N, ...]` -> `[B, n, ...]`, those numbered `index [B, n]`."""
    if index is None:
        return values

    def pick(leaf: Array) -> Array:
        return jnp.take_along_axis(leaf, index.reshape(*index.shape, *(1,) * (leaf.ndim - 2)), axis=1)

    return jax.tree.map(pick, values)


# ---- the loss --------------------------------------------------------------------------------------------------------


class Nets(NamedTuple):
    encoder: Encoder
    reward: Decoder | Net  # a net of z alone where there is a logit for each cell
    state: Decoder | None


def make_nets(config: BeliefConfig, space: Space) -> Nets:
    reward: Decoder | Net
    if config.reward_head == "cells":
        num_cells = 1
        for size in config.cells:
            num_cells *= size
        reward = mlp([config.latent_dim], config.decoder_hidden, num_cells)
    else:
        reward = make_decoder(config, space, config.reward_inputs, 1)
    state = make_decoder(config, space, ("obs", "action"), space.obs_dim) if config.decode_state else None
    return Nets(make_encoder(config, space), reward, state)


def cell_of(cells: tuple[int, ...], obs: Array) -> Array:
    """The number of the cell that an observation `[..., len(cells)]` names. -> [...] int32"""
    number = jnp.zeros(obs.shape[:-1], jnp.int32)
    for axis, size in enumerate(cells):
        number = number * size + jnp.clip(jnp.round(obs[..., axis]).astype(jnp.int32), 0, size - 1)
    return number


def reward_loss(
    config: BeliefConfig, net: Decoder | Net, params: Params, norm: Normaliser, z: Array, trial: Trial, terms: Terms
) -> Array:
    """Of latents z [B, N, Z] and steps [B, L]; weighted sum over pairs, mean over trials. -> []"""
    row, paid = trial.row, (trial.row.reward > config.paid_above).astype(jnp.float32)
    if not isinstance(net, Decoder):
        return cells_loss(net.apply(params, z), cell_of(config.cells, row.next_obs), paid, terms)
    of_step = net.of_step(params, norm, trial)
    if config.reward_head == "bernoulli":
        return split_loss(net, params, z, of_step, paid[..., None], terms, bernoulli_loss, chunk_of(config))
    target = norm.reward(row.reward)[..., None]
    return split_loss(net, params, z, of_step, target, terms, squared_loss, chunk_of(config))


def state_loss(
    config: BeliefConfig, net: Decoder, params: Params, norm: Normaliser, z: Array, trial: Trial, terms: Terms
) -> Array:
    """Squared errors of the successor, summed over its entries; otherwise as `reward_loss`."""
    target = norm.obs(trial.row.next_obs)
    target = target.reshape(*target.shape[:2], -1)
    of_step = net.of_step(params, norm, trial)
    return split_loss(net, params, z, of_step, target, terms, squared_loss, chunk_of(config))


def chunk_of(config: BeliefConfig) -> int:
    return config.chunk or CHUNK.get(jax.default_backend(), CHUNK_ELSEWHERE)


def beliefs(encoder: Encoder, coder: Coder, trial: Trial) -> Belief:
    """q_0 .. q_L of trials [B, L] -> [B, N, Z]"""
    by_time = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), (trial.row, trial.next_flag))
    return Belief(*(leaf.swapaxes(0, 1) for leaf in encoder.belief(coder, encoder.filter(coder, *by_time))))


def total_loss(
    config: BeliefConfig, nets: Nets, params: Params, norm: Normaliser, trial: Trial, noise: Array, found: Drawn
) -> tuple[Array, Metrics]:
    """Minus the ELBO of trials [B, L], their mean; noise [B, N, Z]."""
    q = beliefs(nets.encoder, Coder(params["encoder"], norm), trial)
    z, steps = picked(drawn(q, noise), found.latent), picked(trial, found.step)
    metrics = {"reward_loss": reward_loss(config, nets.reward, params["reward"], norm, z, steps, found.terms)}
    if nets.state is not None:
        metrics["state_loss"] = state_loss(config, nets.state, params["state"], norm, z, steps, found.terms)
    each = found.terms.latent * picked(kl_chain(q, config.kl_to), found.latent)
    kl = each.sum(1).mean()
    loss = sum(metrics.values(), jnp.float32(0)) + config.kl_weight * kl
    return loss, {"loss": loss, **metrics, "kl": kl}


# ---- the model -------------------------------------------------------------------------------------------------------


class Data(NamedTuple):
    """Logs, mixed or not, and where their trials lie."""

    logs: Log  # [T, N, ...]
    where: Trials  # [T, M + 1]


class State(NamedTuple):
    params: Params  # {"encoder", "reward"} and, where successors are decoded, "state"
    opt: OptState
    norm: Normaliser


class Acting(NamedTuple):
    """What is kept of it: `coder` is what an `Encoder` takes."""

    coder: Coder
    decoders: Params


class Model(NamedTuple):
    """What `learn.block` runs: init(key, data) -> State; sample(data, key) -> Trial [T', B, L];
    update(state, batch, key, step) -> (state, metrics). `begin(key, norm) -> State` where there is no log yet."""

    init: Callable[[Array, Data], State]
    begin: Callable[[Array, Normaliser], State]
    sample: Callable[[Data, Array], Trial]
    update: Callable[[State, Trial, Array, Array], tuple[State, Metrics]]
    acting: Callable[[State], Acting]


def make(config: BeliefConfig, space: Space, horizon: int) -> Model:
    """The model on the logs of T tasks with actions in [-1, 1]; `horizon` is the longest episode's."""
    nets, length = make_nets(config, space), config.trial_episodes * horizon
    optimizer = optax.adam(falling(config.learning_rate, config.decay_updates))

    def init(key: Array, data: Data) -> State:
        return begin(key, fit_norm(config, space, data.logs))

    def begin(key: Array, norm: Normaliser) -> State:
        keys = jax.random.split(key, 3)
        params = {"encoder": nets.encoder.init(keys[0]).nets, "reward": nets.reward.init(keys[1])}
        if nets.state is not None:
            params["state"] = nets.state.init(keys[2])
        return State(params, optimizer.init(params), norm)

    def sample(data: Data, key: Array) -> Trial:
        task_key, trial_key = jax.random.split(key)
        count = data.where.size.shape[0]
        task = jnp.arange(count)
        if config.tasks_per_update is not None and config.tasks_per_update < count:
            task = jax.random.choice(task_key, count, (config.tasks_per_update,), replace=False)
        task = jnp.broadcast_to(task[:, None], (task.shape[0], config.trials_per_task))
        number = jax.random.randint(trial_key, task.shape, 0, data.where.size[task])
        return logged_trials(data.logs, data.where, task, number, length)

    def update(state: State, batch: Trial, key: Array, step: Array) -> tuple[State, Metrics]:
        noise_key, terms_key = jax.random.split(key)
        num = batch.flag.shape[0] * batch.flag.shape[1]  # said, not -1: an outcome may have no numbers
        trial = jax.tree.map(lambda leaf: leaf.reshape(num, *leaf.shape[2:]), batch)
        (num, steps), found = trial.valid.shape, draw_terms(config, trial.valid, terms_key)
        noise = jax.random.normal(noise_key, (num, steps + 1, config.latent_dim))

        def loss(params: Params) -> tuple[Array, Metrics]:
            return total_loss(config, nets, params, state.norm, trial, noise, found)

        params, opt, metrics = descend(optimizer, loss, state.params, state.opt)
        return State(params, opt, state.norm), metrics

    def acting(state: State) -> Acting:
        decoders = {name: value for name, value in state.params.items() if name != "encoder"}
        return Acting(Coder(state.params["encoder"], state.norm), decoders)

    return Model(init, begin, sample, update, acting)
