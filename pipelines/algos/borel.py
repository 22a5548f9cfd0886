"""BOReL (Dorfman et al. 2021, arXiv:2008.02598): off-policy RL from logs on states with beliefs, section 3.

A belief learned before (`belief`) says after every row of a trial what the task may be. The Bayes-adaptive MDP's state
[observation, flag, belief's mean, its log-variance] is the observation of an ordinary learner: SAC, CQL on it, or DQN
where actions are discrete, each the file of that name. The encoder is frozen, and part of what acts.
Differs: tasks are drawn anew for every update, where the code keeps those of an iteration; nets see states of mean 0
and deviation 1 and learn rewards divided by their deviation unless fields say otherwise; weights are LeCun-normal; CQL
has the right estimator, beside squared errors with a factor 1/2, so that `conservative_weight` counts double beside
the code's; a trial's next episode is begun seeing where it begins (`boundary` has the code's way, but for the encoder,
which sees no flag at the end of a trial). A fixed temperature is one of scaled rewards: with `scale_reward` it weighs
less in a log's own, by their deviation. CQL's nets have one width, and SAC's usual bounds of their deviation.
T tasks, B rows of each in a batch, F = O + 1 + 2 Z.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.algos import cql, dqn, sac
from pipelines.algos.belief import Coder, Encoder, make_encoder
from pipelines.core.bamdp import Boundary, View, augmented, flat
from pipelines.core.configs.algorithms import BorelConfig, CqlConfig, DqnConfig
from pipelines.core.configs.base import resolve
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.errors import UsageError
from pipelines.core.normaliser import Normaliser, fit, moments
from pipelines.core.types import Algorithm, Array, Latent, Log, Metrics, Policy, Space, Transition

NOTHING = np.zeros((0,), np.float32)  # the memory of the learner's own policy


class Data(NamedTuple):
    """Logs, what is believed before and after their rows, and by whom."""

    logs: Log  # [T, ...]
    views: View  # [T, ...]
    coder: Coder


class State(NamedTuple):
    inner: Any  # the learner's
    coder: Coder  # stays as it is


class SoftActing(NamedTuple):
    """What acts: the learner's nets, and the encoder that feeds them."""

    inner: sac.Acting
    coder: Coder


class DiscreteActing(NamedTuple):
    inner: dqn.Acting
    coder: Coder


class Memory(NamedTuple):
    """Of one trial."""

    hidden: Array  # [H] all that the belief depends on
    number: Array  # [] int32, episodes begun, less 1
    flag: Array  # [] 1 where an episode but the first has just begun
    last: Array  # [O] the last successor; [0] where episodes are begun seeing where they begin


# ---- the learner -----------------------------------------------------------------------------------------------------


def learner_of(config: BorelConfig, space: Space) -> str:
    """sac, cql or dqn. Raises UsageError for one that cannot act in the space."""
    name = config.learner
    discrete = space.num_actions is not None
    if name == "auto":
        name = "dqn" if discrete else "sac"
    if (name == "dqn") != discrete:
        kind = "discrete" if discrete else "continuous"
        hint = "leave agent.learner out: it is dqn where actions are discrete, else sac"
        raise UsageError(f"agent.learner={name} cannot act in a family with {kind} actions", hint)
    return name


def part_of(config: BorelConfig, kind: Any) -> Any:
    """The config of a learner: the fields that it has in common with BOReL's."""
    return kind(**{name: getattr(config, name) for name in kind.model_fields if name in type(config).model_fields})


def make_learner(config: BorelConfig, space: Space, discount: float) -> Algorithm:
    """On states of the BAMDP; `space` is theirs."""
    match learner_of(config, space):
        case "sac":
            return sac.make(config, space, discount)
        case "cql":
            return cql.make(part_of(config, CqlConfig), space, discount)
        case _:
            return dqn.make(part_of(config, DqnConfig), space, discount)


def with_scales(state: Any, norm: Normaliser) -> Any:
    """A learner's state whose nets see through `norm`."""
    if isinstance(state, cql.State):
        return state._replace(sac=with_scales(state.sac, norm))
    return state._replace(normaliser=norm)


def scales(config: BorelConfig, data: Data, num_episodes: int) -> Normaliser:
    """Moments of states over all logs, the flag's as it is: [F]."""
    norm = fit(data.logs, config.scale_obs, config.scale_reward)
    belief, size = data.views.belief, data.views.size
    last = jnp.take_along_axis(data.logs.episode, jnp.maximum(size - 1, 0)[:, None], 1)
    slots = size[:, None] + last // num_episodes + 1
    valid = jnp.broadcast_to(jnp.arange(belief.shape[1]), belief.shape[:2]) < slots
    mean, std = moments(belief, valid)
    if not config.scale_obs:
        mean, std = jnp.zeros_like(mean), jnp.ones_like(std)
    reward_std = norm.reward_std if config.scale_reward else jnp.float32(config.reward_scale)
    return Normaliser(
        jnp.concatenate([norm.obs_mean.reshape(-1), jnp.zeros((1,)), mean]),
        jnp.concatenate([norm.obs_std.reshape(-1), jnp.ones((1,)), std]),
        norm.reward_mean,
        reward_std,
    )


# ---- the policy ------------------------------------------------------------------------------------------------------


def policy_of(inner: Policy, encoder: Encoder, space: Space, num_episodes: int, boundary: Boundary) -> Policy:
    """Acts on what it sees, the flag and the belief. A new task begins with the belief that nothing was seen; later
    episodes of it keep what is believed. A trial may go on for longer than the k episodes that were learned on."""

    def believed(acting: Any, memory: Memory) -> Array:
        return jnp.concatenate(encoder.belief(acting.coder, memory.hidden), -1)

    def state(acting: Any, memory: Memory, obs: Array) -> Array:
        if boundary == "end":
            obs = jnp.where(memory.flag > 0, memory.last, obs)
        return flat(obs, memory.flag, believed(acting, memory))

    def begin(acting: Any, key: Array) -> Memory:
        last = jnp.zeros(space.obs_shape if boundary == "end" else (0,), space.obs_dtype)
        return Memory(encoder.begin(acting.coder), jnp.int32(-1), jnp.float32(0), last)

    def start(acting: Any, memory: Memory, obs: Array, key: Array) -> Memory:
        number = memory.number + 1
        return memory._replace(number=number, flag=(number > 0).astype(jnp.float32))

    def act(acting: Any, memory: Memory, obs: Array, key: Array, explore: Any) -> Array:
        return inner.act(acting.inner, NOTHING, state(acting, memory, obs), key, explore)

    def observe(acting: Any, memory: Memory, row: Transition) -> Memory:
        more = memory.number != num_episodes - 1  # whether there is another episode
        flag = ((row.terminal | row.truncated) & more).astype(jnp.float32)
        hidden = encoder.step(acting.coder, memory.hidden, row, flag)
        last = row.next_obs.astype(space.obs_dtype) if boundary == "end" else memory.last
        return Memory(hidden, memory.number, jnp.zeros_like(memory.flag), last)

    def value(acting: Any, memory: Memory, obs: Array, action: Array) -> Array:
        assert inner.value is not None
        return inner.value(acting.inner, NOTHING, state(acting, memory, obs), action)

    def latent(acting: Any, memory: Memory) -> Latent:
        found = encoder.belief(acting.coder, memory.hidden)
        return Latent(found.mean, jnp.exp(found.log_variance / 2))

    return Policy(begin, start, act, observe, value, latent)


# ---- the algorithm ---------------------------------------------------------------------------------------------------


def ended(config: BorelConfig, believing: BeliefConfig, rows: Transition) -> Transition:
    """With `paid_ends` the goal is an end, worth what it pays once: as leaving it costs, staying is best all the same,
    and values are no larger than rewards."""
    return rows._replace(terminal=rows.terminal | (rows.reward > believing.paid_above)) if config.paid_ends else rows


def drawer(config: BorelConfig, believing: BeliefConfig) -> Callable[[Data, Array], Transition]:
    """`sample(data, key) -> [tasks B]` rows between states of the BAMDP: tasks with replacement, then rows of each."""

    def sample(data: Data, key: Array) -> Transition:
        task_key, row_key = jax.random.split(key)
        size = data.views.size
        task = jnp.arange(size.shape[0])
        if config.tasks_per_update is not None:
            task = jax.random.randint(task_key, (config.tasks_per_update,), 0, size.shape[0])
        task = jnp.repeat(task, config.batch_size)
        row = jax.random.randint(row_key, task.shape, 0, size[task])
        rows = augmented(data.logs, data.views, task, row, believing.trial_episodes, config.boundary)
        return ended(config, believing, rows)

    return sample


def make(config: BorelConfig, space: Space, discount: float) -> Algorithm:
    """BOReL across tasks on logs and their views. `config.belief` says what the encoder is."""
    belief = resolve(BeliefConfig, config.belief, prefix="agent.belief.")
    encoder = make_encoder(belief, space)
    wide = space._replace(obs_shape=(space.obs_dim + 1 + 2 * belief.latent_dim,), obs_dtype="float32")
    inner = make_learner(config, wide, discount)
    kind = DiscreteActing if inner.acting_type is dqn.Acting else SoftActing

    def init(key: Array, data: Data) -> State:
        found = with_scales(inner.init(key, None), scales(config, data, belief.trial_episodes))
        return State(found, jax.tree.map(jnp.array, data.coder))  # a copy: states are donated, data is not

    def update(state: State, batch: Transition, key: Array, step: Array) -> tuple[State, Metrics]:
        found, metrics = inner.update(state.inner, batch, key, step)
        return state._replace(inner=found), metrics

    return Algorithm(
        init=init,
        sample=drawer(config, belief),
        update=update,
        acting=lambda state: kind(inner.acting(state.inner), state.coder),
        acting_type=kind,
        policy=policy_of(inner.policy, encoder, space, belief.trial_episodes, config.boundary),
    )
