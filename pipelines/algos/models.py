"""Ensembles of models of one task: rewards r(s, a) or successors s'(s, a) (MBML section 3.1), for relabelling.

Differs: inputs are normalised by the moments of the log, targets by theirs; one episode of ten is held out, so that the
error can be told; the original trains on everything and normalises nothing. `bootstrap` gives each member a sample of
the rows of its own (each row counts twice or not at all), where the published members see the same minibatches and
differ in their initial weights only. One task's view: B batch, M members, K targets (1, or O).
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pipelines.core.configs.models import ModelConfig
from pipelines.core.learn import descend
from pipelines.core.normaliser import Normaliser, fit, moments, valid_rows
from pipelines.core.types import Array, Log, Metrics, OptState, Params, Space, Transition, transitions
from pipelines.nets import many

HELD_OUT = 10  # one episode of so many; of the rows, the last of so many parts, where there are fewer episodes


class Data(NamedTuple):
    """A task's log, and its rows in an order that begins with those that may be learned from."""

    log: Log
    order: Array  # [N] int32
    num_train: Array  # [] int32


class State(NamedTuple):
    members: Params
    opt: OptState
    normaliser: Normaliser
    mean: Array  # [K] of the targets
    std: Array  # [K]


class Fitted(NamedTuple):
    """What predicting needs."""

    members: Params
    normaliser: Normaliser
    mean: Array
    std: Array


class Model(NamedTuple):
    """init(key, data) -> state; sample(data, key) -> batch; update(state, batch, key, step) -> (state, metrics);
    fitted(state) -> Fitted; predict(fitted, obs [B, O], action [B, A]) -> (mean, spread), [B, K] each, in the target's
    units; the spread is the members' standard deviation (ddof 1)."""

    init: Callable[[Array, Data], State]
    sample: Callable[[Data, Array], Any]
    update: Callable[[State, Any, Array, Array], tuple[State, Metrics]]
    fitted: Callable[[State], Fitted]
    predict: Callable[[Fitted, Array, Array], tuple[Array, Array]]


def hold_out(log: Log) -> Data:
    """Every tenth episode is held out, or the last tenth of the rows where there are fewer than ten episodes."""
    rows = jnp.arange(log.reward.shape[0], dtype=jnp.int32)
    valid = valid_rows(log)
    few = log.episode[log.size - 1] + 1 < HELD_OUT
    held = jnp.where(few, rows >= log.size - log.size // HELD_OUT, log.episode % HELD_OUT == HELD_OUT - 1)
    learned = valid & ~held
    return Data(log, jnp.argsort(~learned, stable=True).astype(jnp.int32), learned.sum().astype(jnp.int32))


def held_out(data: Data) -> Array:
    """[N] bool, rows that nothing was learned from."""
    learned = jnp.zeros(data.order.shape, bool).at[data.order].set(jnp.arange(len(data.order)) < data.num_train)
    return valid_rows(data.log) & ~learned


def ensemble_loss(predicted: Array, target: Array, weight: Array) -> Array:
    """Mean squared error of each member, summed over the members. [B, M, K], [B, K], [B, M] -> []"""
    error = ((predicted - target[:, None]) ** 2).mean(-1)
    return (weight * error).mean(0).sum()


def double_or_nothing(key: Array, rows: Array, members: int) -> Array:
    """Weights 0 or 2 of rows `[B]` for each member, the same whenever a row comes up. -> [B, M]"""
    coins = jax.vmap(lambda row: jax.random.bernoulli(jax.random.fold_in(key, row), 0.5, (members,)))(rows)
    return 2.0 * coins


class Batch(NamedTuple):
    row: Transition  # [B, ...]
    number: Array  # [B] which rows they are


def make(config: ModelConfig, space: Space, target: Literal["reward", "next_obs"] = "reward") -> Model:
    """The ensemble that predicts `target` from (s, a)."""
    outputs = 1 if target == "reward" else space.obs_dim
    net = many([space.obs_dim, space.action_dim], config.hidden, outputs, config.members)
    opt = optax.adam(config.learning_rate)
    coin_key = jax.random.key(0)  # of the bootstrap: which member learns which rows, whatever the seed

    def targets(row: Transition) -> Array:
        values = row.reward[..., None] if target == "reward" else row.next_obs
        return values.reshape(*row.reward.shape, outputs).astype(jnp.float32)

    def inputs(normaliser: Normaliser, obs: Array, action: Array) -> tuple[Array, Array]:
        return normaliser.obs(obs), jnp.reshape(action, (*action.shape[: action.ndim - len(space.action_shape)], -1))

    def init(key: Array, data: Data) -> State:
        members = net.init(key)
        everything = transitions(data.log, jnp.arange(data.log.reward.shape[0]))
        mean, std = moments(targets(everything), valid_rows(data.log))
        return State(members, opt.init(members), fit(data.log), mean, std)

    def sample(data: Data, key: Array) -> Batch:
        number = data.order[jax.random.randint(key, (config.batch_size,), 0, data.num_train)]
        return Batch(transitions(data.log, number), number)

    def update(state: State, batch: Batch, key: Array, step: Array) -> tuple[State, Metrics]:
        shape = (config.batch_size, config.members)
        weight = double_or_nothing(coin_key, batch.number, config.members) if config.bootstrap else jnp.ones(shape)
        wanted = (targets(batch.row) - state.mean[None]) / state.std[None]
        features = inputs(state.normaliser, batch.row.obs, batch.row.action)

        def loss(members: Params) -> tuple[Array, Metrics]:
            value = ensemble_loss(net.apply(members, *features), wanted, weight)
            return value, {"model_loss": value / config.members}

        members, opt_state, metrics = descend(opt, loss, state.members, state.opt)
        return state._replace(members=members, opt=opt_state), metrics

    def predict(fitted: Fitted, obs: Array, action: Array) -> tuple[Array, Array]:
        each = net.apply(fitted.members, *inputs(fitted.normaliser, obs, action))  # [B, M, K]
        spread = each.std(1, ddof=1) * fitted.std[None]
        return each.mean(1) * fitted.std[None] + fitted.mean[None], spread

    def fitted(state: State) -> Fitted:
        return Fitted(state.members, state.normaliser, state.mean, state.std)

    return Model(init, sample, update, fitted, predict)
