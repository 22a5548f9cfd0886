"""BOReL's learner and its belief, learned together while trials are collected: off-policy VariBAD trained online
(Dorfman et al. 2021, arXiv:2008.02598, section 3 and its supplement).

The belief is that of `belief`, the policy that of `borel`. An update draws whole trials of some tasks; every
`belief_every`-th teaches the belief with them; then the policy learns from their rows, between states of the BAMDP.
Differs: beliefs are of the encoder as it is at the update, one pass over the drawn trials, where the released code
keeps in its replay what was believed when a row was collected, which the encoder has long left behind; so the rows of
an update are of the drawn trials, and belief and policy learn from the same ones. Nothing is fitted to a log:
observations and rewards are divided by fields. No trial is mixed and no reward relabelled: all tasks' trials are one
policy's, which has to look for the goal in each of them.
T tasks, M drawn trials, k episodes of a trial, L = k H rows at most, B rows of each drawn task, Z latent.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pipelines.algos import belief as model
from pipelines.algos import dqn
from pipelines.algos.belief import Belief, Coder
from pipelines.algos.belief_nets import is_image
from pipelines.algos.borel import DiscreteActing, SoftActing, ended, make_learner, policy_of, with_scales
from pipelines.core.bamdp import View, augmented
from pipelines.core.configs.algorithms import OnlineBorelConfig
from pipelines.core.configs.base import resolve
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.normaliser import Normaliser, fixed
from pipelines.core.samplers import Trial, Trials, logged_trials
from pipelines.core.types import Algorithm, Array, Log, Metrics, Space, Transition


class Batch(NamedTuple):
    """Trials, each as a log of its own, and which of their rows the policy learns from."""

    trials: Log  # [M, ...]
    trial: Array  # [tasks B] int32, of which
    row: Array  # [tasks B] int32, which row of it


class State(NamedTuple):
    inner: Any  # the learner's
    belief: model.State


# ---- trials out of logs that grow ------------------------------------------------------------------------------------


def begin_of(logs: Log, task: Array, row: Array, k: int) -> Array:
    """The first row of the trial of k episodes that each row `row [M]` of the logs `task [M]` is of. -> [M]"""
    first = row - logs.step[task, row]
    for _ in range(k - 1):
        last = jnp.maximum(first - 1, 0)  # of the episode before
        opened = logs.episode[task, first] % k == 0
        first = jnp.where(opened, first, last - logs.step[task, last])
    return first


def cut_out(logs: Log, task: Array, first: Array, k: int, length: int) -> Log:
    """The trials that begin at the rows `first [M]` of the logs `task [M]`, each as a log of its own: `[M, length]`,
    `size` of them held, episodes counted from 0."""
    tasks, last = task[:, None], logs.size[task][:, None] - 1
    at = first[:, None] + jnp.arange(length)[None]
    rows = jnp.minimum(at, last)
    begun = logs.episode[task, first]
    episode = logs.episode[tasks, rows] - begun[:, None]
    slots = (first + begun)[:, None] + jnp.arange(length + k)[None]
    columns = {name: getattr(logs, name)[tasks, rows] for name in Log._fields if name not in ("obs", "size")}
    size = ((at <= last) & (episode < k)).sum(1, dtype=jnp.int32)
    obs = logs.obs[tasks, jnp.minimum(slots, logs.obs.shape[1] - 1)]
    return Log(**{**columns, "episode": episode, "obs": obs, "size": size})


def as_trials(trials: Log) -> Trial:
    """What an encoder reads of them. [M, L]"""
    num, length = trials.reward.shape
    where = Trials(jnp.stack([jnp.zeros_like(trials.size), trials.size], 1), jnp.ones_like(trials.size))
    return logged_trials(trials, where, jnp.arange(num), jnp.zeros(num, jnp.int32), length)


def believed(found: Belief, trials: Log) -> View:
    """Beliefs q_0 .. q_L [M, L + 1, Z] as the view of the trials."""
    return View(jnp.concatenate(found, -1), trials.size)


# ---- the algorithm ---------------------------------------------------------------------------------------------------


def scales(config: OnlineBorelConfig, space: Space, num_beliefs: int) -> tuple[Normaliser, Normaliser]:
    """Of the belief's nets [O], and of states [O + 1 + 2 Z]: flag and belief stand as they are."""
    scale = 1.0 if is_image(space) else config.obs_scale  # the belief's convolutional nets divide by 255
    of_belief = fixed(space._replace(obs_shape=() if is_image(space) else space.obs_shape), scale, 1.0)
    std = jnp.concatenate([jnp.full(space.obs_dim, config.obs_scale), jnp.ones(1 + num_beliefs)])
    return of_belief, Normaliser(jnp.zeros_like(std), std, jnp.float32(0), jnp.float32(config.reward_scale))


def drawer(config: OnlineBorelConfig, k: int, length: int) -> Any:
    """`sample(logs, key) -> Batch`: tasks with replacement, of each some trials, of these some rows, uniformly over
    rows."""

    def sample(logs: Log, key: Array) -> Batch:
        task_key, first_key, trial_key, row_key = jax.random.split(key, 4)
        task = jnp.arange(logs.size.shape[0])
        if config.tasks_per_update is not None:
            task = jax.random.randint(task_key, (config.tasks_per_update,), 0, logs.size.shape[0])
        each = config.trials_per_task
        trials_of = jnp.repeat(task, each)
        row = jax.random.randint(first_key, trials_of.shape, 0, logs.size[trials_of])
        trials = cut_out(logs, trials_of, begin_of(logs, trials_of, row, k), k, length)
        trial = jax.random.randint(trial_key, (len(task), config.batch_size), 0, each)
        trial = (trial + each * jnp.arange(len(task))[:, None]).reshape(-1)
        return Batch(trials, trial, jax.random.randint(row_key, trial.shape, 0, trials.size[trial]))

    return sample


def make(config: OnlineBorelConfig, space: Space, discount: float, horizon: int = 0) -> Algorithm:
    """The two of them on logs `[T, ...]` of whole trials; `horizon` is the longest episode's (0: nothing is drawn).
    `init(key, None)`: there is no log. `config.belief` says what the belief is, `decode_state` too."""
    believing = resolve(BeliefConfig, config.belief, prefix="agent.belief.")
    k, beliefs = believing.trial_episodes, 2 * believing.latent_dim
    encoder, learned = model.make_encoder(believing, space), model.make(believing, space, horizon)
    wide = space._replace(obs_shape=(space.obs_dim + 1 + beliefs,), obs_dtype="float32")
    inner = make_learner(config, wide, discount)
    kind = DiscreteActing if inner.acting_type is dqn.Acting else SoftActing

    def coder_of(state: model.State) -> Coder:
        return Coder(state.params["encoder"], state.norm)

    def init(key: Array, _: Any) -> State:
        inner_key, belief_key = jax.random.split(key)
        of_belief, of_states = scales(config, space, beliefs)
        return State(with_scales(inner.init(inner_key, None), of_states), learned.begin(belief_key, of_belief))

    def teach(state: model.State, trial: Trial, key: Array, step: Array) -> tuple[model.State, Metrics]:
        """Every `belief_every`-th update, whose metrics stand for those that are left out: a mean over a block is
        theirs."""

        def once(state: model.State) -> tuple[model.State, Metrics]:
            state, metrics = learned.update(state, jax.tree.map(lambda leaf: leaf[None], trial), key, step)
            return state, {name: config.belief_every * value for name, value in metrics.items()}

        def not_now(state: model.State) -> tuple[model.State, Metrics]:
            shapes = jax.eval_shape(once, state)[1]
            return state, {name: jnp.zeros(one.shape, one.dtype) for name, one in shapes.items()}

        return jax.lax.cond(step % config.belief_every == 0, once, not_now, state)

    def states_of(state: model.State, batch: Batch, trial: Trial) -> Transition:
        view = believed(model.beliefs(encoder, coder_of(state), trial), batch.trials)
        return ended(config, believing, augmented(batch.trials, view, batch.trial, batch.row, k, config.boundary))

    def update(state: State, batch: Batch, key: Array, step: Array) -> tuple[State, Metrics]:
        belief_key, inner_key = jax.random.split(key)
        trial = as_trials(batch.trials)
        taught, of_belief = teach(state.belief, trial, belief_key, step)
        found, metrics = inner.update(state.inner, states_of(taught, batch, trial), inner_key, step)
        return State(found, taught), metrics | {f"belief_{name}": value for name, value in of_belief.items()}

    return Algorithm(
        init=init,
        sample=drawer(config, k, k * horizon),
        update=update,
        acting=lambda state: kind(inner.acting(state.inner), coder_of(state.belief)),
        acting_type=kind,
        policy=policy_of(inner.policy, encoder, space, k, config.boundary),
    )
