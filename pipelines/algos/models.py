"""Ensembles of models of one task, rewards r(s, a) or successors s'(s, a) (MBML section 3.1), and what they make of
another task's rows.

Differs: inputs are normalised by the moments of the log, targets by theirs; one episode of ten is held out, so that the
error can be told; the original trains on everything and normalises nothing. Successors are learned as changes s' - s
(`change`; false: s' itself, as the original does). `bootstrap` gives each member a sample of the rows of its own (each
row counts twice or not at all), where the published members see the same minibatches and differ in their initial
weights only. Actions are seen in the box [-1, 1], discrete ones as one of n. One task's view: B batch, M members,
K targets (1, or O, or O and the F numbers of the outcome).
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pipelines.core.configs.models import ModelConfig
from pipelines.core.learn import descend
from pipelines.core.normaliser import Normaliser, fit, moments, valid_rows
from pipelines.core.samplers import Foreign
from pipelines.core.types import Array, Log, Metrics, OptState, Params, Space, Transition, transitions
from pipelines.core.unit_box import to_unit
from pipelines.nets import many

HELD_OUT = 10  # one episode of so many; of the rows, the last of so many parts, where there are fewer episodes
Target = Literal["reward", "next_obs", "change"]


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
    coins: Array  # key data: which member learns which rows, if they are bootstrapped


class Fitted(NamedTuple):
    """What predicting needs."""

    members: Params
    normaliser: Normaliser
    mean: Array
    std: Array


class Model(NamedTuple):
    """init(key, data) -> state; sample(data, key) -> batch; update(state, batch, key, step) -> (state, metrics);
    fitted(state) -> Fitted; predict(fitted, obs [B, O], action [B, A]) -> (mean, spread), [B, K] each, in the target's
    units; the spread is the members' standard deviation (ddof 1), 0 of a single one."""

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


def flat_successor(row: Transition) -> Array:
    """`[B, O + F]`: next_obs, then the outcome."""
    lead = row.reward.shape
    return jnp.concatenate([row.next_obs.reshape(*lead, -1), row.outcome.reshape(*lead, -1)], -1).astype(jnp.float32)


def make(config: ModelConfig, space: Space, target: Target = "reward", outcome_dim: int = 0) -> Model:
    """The ensemble that predicts `target` from (s, a); beside a successor, the F = `outcome_dim` numbers of the
    outcome, if a known reward will ask for them. A change is predicted as the successor that it leads to."""
    outputs = 1 if target == "reward" else space.obs_dim + outcome_dim
    actions = space.action_dim if space.num_actions is None else space.num_actions
    net = many([space.obs_dim, actions], config.hidden, outputs, config.members)
    opt = optax.adam(config.learning_rate)
    loss_name = "model_loss" if target == "reward" else "transition_loss"

    def targets(row: Transition) -> Array:
        if target == "reward":
            return row.reward[..., None].astype(jnp.float32)
        values = flat_successor(row)[..., :outputs]
        return values - before(row.obs) if target == "change" else values

    def before(obs: Array) -> Array:
        """What a change is added to. [B, O] -> [B, K]"""
        flat = obs.reshape(*obs.shape[: obs.ndim - len(space.obs_shape)], -1).astype(jnp.float32)
        return jnp.pad(flat, [(0, 0)] * (flat.ndim - 1) + [(0, outcome_dim)])

    def inputs(normaliser: Normaliser, obs: Array, action: Array) -> tuple[Array, Array]:
        if space.num_actions is not None:
            return normaliser.obs(obs), jax.nn.one_hot(action, space.num_actions)
        action = to_unit(space, action)
        return normaliser.obs(obs), jnp.reshape(action, (*action.shape[: action.ndim - len(space.action_shape)], -1))

    def init(key: Array, data: Data) -> State:
        members = net.init(key)
        everything = transitions(data.log, jnp.arange(data.log.reward.shape[0]))
        mean, std = moments(targets(everything), valid_rows(data.log))
        coins = jax.random.key_data(jax.random.fold_in(key, 1))
        return State(members, opt.init(members), fit(data.log), mean, std, coins)

    def sample(data: Data, key: Array) -> Batch:
        number = data.order[jax.random.randint(key, (config.batch_size,), 0, data.num_train)]
        return Batch(transitions(data.log, number), number)

    def weights(state: State, number: Array) -> Array:
        if not config.bootstrap:
            return jnp.ones((config.batch_size, config.members))
        return double_or_nothing(jax.random.wrap_key_data(state.coins), number, config.members)

    def update(state: State, batch: Batch, key: Array, step: Array) -> tuple[State, Metrics]:
        weight = weights(state, batch.number)
        wanted = (targets(batch.row) - state.mean[None]) / state.std[None]
        features = inputs(state.normaliser, batch.row.obs, batch.row.action)

        def loss(members: Params) -> tuple[Array, Metrics]:
            value = ensemble_loss(net.apply(members, *features), wanted, weight)
            return value, {loss_name: value / config.members}

        members, opt_state, metrics = descend(opt, loss, state.members, state.opt)
        return state._replace(members=members, opt=opt_state), metrics

    def predict(fitted: Fitted, obs: Array, action: Array) -> tuple[Array, Array]:
        each = net.apply(fitted.members, *inputs(fitted.normaliser, obs, action))  # [B, M, K]
        spread = each.std(1, ddof=min(1, config.members - 1)) * fitted.std[None]
        mean = each.mean(1) * fitted.std[None] + fitted.mean[None]
        return (mean + before(obs) if target == "change" else mean), spread

    def fitted(state: State) -> Fitted:
        return Fitted(state.members, state.normaliser, state.mean, state.std)

    return Model(init, sample, update, fitted, predict)


def chunked(model: Model, chunk: int) -> Callable[[Fitted, Array, Array], tuple[Array, Array]]:
    """`model.predict` on many rows, `chunk` at a time: a member's activations must fit a core's cache."""

    def predict(fitted: Fitted, obs: Array, action: Array) -> tuple[Array, Array]:
        size = obs.shape[0]
        whole = -(-size // chunk) * chunk

        def cut(column: Array) -> Array:
            padded = jnp.concatenate([column, jnp.zeros((whole - size, *column.shape[1:]), column.dtype)])
            return padded.reshape(-1, chunk, *column.shape[1:])

        mean, spread = jax.lax.map(lambda rows: model.predict(fitted, *rows), (cut(obs), cut(action)))
        return mean.reshape(whole, -1)[:size], spread.reshape(whole, -1)[:size]

    return predict


# ---- other tasks' rows -----------------------------------------------------------------------------------------------


class Ensembles(NamedTuple):
    """What one task's ensembles have learned; () for what is known, or is the same in all tasks."""

    reward: Any
    transition: Any


class Limits(NamedTuple):
    """Greatest spreads of a row that passes, of its reward and of its successor (a mean over its numbers)."""

    reward: Array  # []
    next_obs: Array  # []


class Judged(NamedTuple):
    """Rows as a task would have paid them, and moved where the dynamics differ."""

    reward: Array  # [B]
    next_obs: Array  # [B, O]; [B, 0] where the dynamics are the same
    spread: Array  # [B] of the reward; 0 where it is known
    next_spread: Array  # [B] of the successor; 0 where the dynamics are the same
    passed: Array  # [B] bool


Judge = Callable[[Ensembles, Array, Limits, Transition], Judged]


def judge(space: Space, reward: Model | None, transition: Model | None, known: Any, chunk: int | None = None) -> Judge:
    """`one(ensembles, task [P], limits, rows [B]) -> Judged`: rows of any task under one task.

    The reward is `known(task, obs, action, next_obs, outcome)` (on the predicted successor and outcome where the
    dynamics differ), or the ensemble `reward`'s. A row passes if every ensemble's spread is below its limit. `chunk`
    rows are predicted at once; None: all of them.
    """

    def predicted(model: Model, fitted: Any, rows: Transition) -> tuple[Array, Array]:
        predict = model.predict if chunk is None else chunked(model, chunk)
        return predict(fitted, rows.obs, rows.action)

    def one(ensembles: Ensembles, task: Array, limits: Limits, rows: Transition) -> Judged:
        passed = jnp.ones(rows.reward.shape, bool)
        next_obs = jnp.zeros((*rows.reward.shape, 0), space.obs_dtype)
        spread = next_spread = jnp.zeros(rows.reward.shape)
        if transition is not None:
            mean, members = predicted(transition, ensembles.transition, rows)
            next_obs, next_spread = as_seen(space, mean), members[:, : space.obs_dim].mean(-1)
            passed &= next_spread < limits.next_obs
            rows = rows._replace(next_obs=next_obs, outcome=mean[:, space.obs_dim :])
        if reward is None:
            paid = known(task, rows.obs, rows.action, rows.next_obs, rows.outcome)
        else:
            paid, spread = (column[:, 0] for column in predicted(reward, ensembles.reward, rows))
            passed &= spread < limits.reward
        return Judged(paid, next_obs, spread, next_spread, passed)

    return one


def as_seen(space: Space, mean: Array) -> Array:
    """Predictions `[B, K]` -> observations `[B, O]` in the space's shape and dtype."""
    obs = mean[:, : space.obs_dim].reshape(-1, *space.obs_shape)
    if not jnp.issubdtype(space.obs_dtype, jnp.integer):
        return obs.astype(space.obs_dtype)
    ends = jnp.iinfo(space.obs_dtype)
    return jnp.clip(jnp.round(obs), ends.min, ends.max).astype(space.obs_dtype)


def on_the_fly(judged: Judged, rows: Transition) -> Foreign:
    """`rows [B]` as they were logged and as they were judged; those that do not pass are not valid."""
    moved = {"next_obs": judged.next_obs} if judged.next_obs.shape[1:] == rows.next_obs.shape[1:] else {}
    return Foreign(rows, rows._replace(reward=judged.reward, **moved), judged.passed)
