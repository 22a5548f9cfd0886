"""The driver of host families: one compiled call in which all policies act, one engine call that moves all simulators.

T tasks have E environments each. Keys are used as the scan driver uses them, so that a family that is written for both
engines gives the same episodes.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.core.types import Array, HostFamily, Policy, Simulator, Transition, task_rows
from pipelines.rollouts.episodes import Episodes, Lineup, Trials, begin_task, discounted_return, places

MOST_ENVIRONMENTS = 256  # at once, in evaluation: a simulator may need megabytes for each


class Pending(NamedTuple):
    """What a policy is to be shown before it acts, for one environment."""

    row: Transition  # the last control step
    seen: Any  # [] bool, whether there was one
    fresh: Any  # [] bool, whether `obs` begins an episode
    obs: Any  # [O]


def opening(family: HostFamily, obs: Any) -> Pending:
    """All environments at their first observation `[T, E, O]`."""
    lead, space = obs.shape[:2], family.space
    obs = obs.astype(space.obs_dtype)
    zeros: Any = np.zeros(lead, np.float32)
    never: Any = np.zeros(lead, bool)
    action: Any = np.zeros((*lead, *space.action_shape), space.action_dtype)
    outcome: Any = np.zeros((*lead, family.outcome_dim), np.float32)
    return Pending(Transition(obs, action, zeros, obs, never, never, outcome), never, ~never, obs)


def turn(policy: Policy, choose: Callable[[Any, Any, Array, Array], Array]) -> Callable[..., tuple[Any, Array]]:
    """`one(acting, memory, pending, act_key, start_key) -> (memory, action)` for one environment.

    `choose(acting, memory, obs, key) -> action`.
    """

    def one(acting: Any, memory: Any, pending: Pending, act_key: Array, start_key: Array) -> tuple[Any, Array]:
        memory = _where(pending.seen, policy.observe(acting, memory, pending.row), memory)
        memory = _where(pending.fresh, policy.start(acting, memory, pending.obs, start_key), memory)
        return memory, choose(acting, memory, pending.obs, act_key)

    return one


def watched(policy: Policy) -> Callable[..., tuple[Any, Array, Array]]:
    """`one(t, acting, memory, pending, act_key, start_key) -> (memory, action, value)`: a greedy `turn`, the `t`-th of
    its episode, and what the policy thinks of the first action; NaN of others, and where it has no values."""
    greedy = turn(policy, lambda acting, memory, obs, key: policy.act(acting, memory, obs, key, 0.0))

    def one(t: Array, acting: Any, memory: Any, pending: Pending, *keys: Array) -> tuple[Any, Array, Array]:
        memory, action = greedy(acting, memory, pending, *keys)
        value = jnp.float32(jnp.nan)
        if policy.value is not None:  # `t` is the same for all environments, so that this stays a branch
            judge = functools.partial(policy.value, acting, memory, pending.obs)
            value = jax.lax.cond(t == 0, judge, lambda action: value, action)
        return memory, action, value

    return one


def _where(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


class Moved(NamedTuple):
    """One control step of all environments, [T, E, ...]."""

    row: Transition
    done: np.ndarray  # [T, E] bool
    diverged: np.ndarray  # [T, E] bool


def move(family: HostFamily, simulator: Simulator, obs: Any, step: Any, action: Any) -> Moved:
    """Steps the engine with `action [T, E, A]` from `obs [T, E, O]`, the `step`-th observation of its episode.

    A time-out is truncated and not terminal. Where the physics failed the episode is truncated too.
    """
    lead, space = obs.shape[:2], family.space
    stepped = simulator.step(action.reshape(-1, *space.action_shape))

    def split(array: np.ndarray, dtype: Any = np.float32) -> Any:
        return np.asarray(array, dtype).reshape(*lead, *array.shape[1:])

    terminal, diverged = split(stepped.terminal, bool), split(stepped.diverged, bool)
    truncated = ((step + 1 >= family.horizon) | diverged) & ~terminal
    next_obs = split(stepped.obs, space.obs_dtype)
    row = Transition(obs, action, split(stepped.reward), next_obs, terminal, truncated, split(stepped.outcome))
    return Moved(row, terminal | truncated, diverged)


# ---- evaluation ------------------------------------------------------------------------------------------------------


class Played(NamedTuple):
    """One episode in every environment, in numpy."""

    rewards: np.ndarray  # [T, E, H]
    path: np.ndarray  # [T, E, H + 1, K]
    value: np.ndarray  # [T, E] of the first action
    length: np.ndarray  # [T, E] control steps until it ended
    memory: Any  # on the devices
    pending: Pending  # what the memory has not been shown yet: the last row


class Player:
    """Plays the policies of T tasks, in E environments of each at once: the compiled calls of an episode.

    Where S policies play beside each other, each has E environments of its own with the same keys: `[T, S * E, ...]`.
    """

    def __init__(self, family: HostFamily, policy: Policy, num_runs: int, lineup: Lineup) -> None:
        """`num_runs` runs of each task are to be played, E of them together."""
        axis, tasks, self.beside = lineup.axis, lineup.tasks, lineup.beside or 1
        most = min(max(1, MOST_ENVIRONMENTS // (len(tasks) * self.beside)), num_runs)
        self.family, self.lineup = family, lineup
        self.together = next(size for size in range(most, 0, -1) if num_runs % size == 0)
        self.rows = np.repeat(task_rows(tasks, np.float64), self.beside * self.together, axis=0)
        look, fold = watched(policy), self._each

        def mine(leaf: Array, first: Array) -> Array:
            return jnp.concatenate([jax.lax.dynamic_slice_in_dim(leaf, first, self.together)] * self.beside)

        def opened(first: Array, acting: Any, key: Array, *context: Transition) -> Any:
            keys = mine(jax.random.split(key, num_runs), first)
            begin_key, reset_key, steps_key = jax.vmap(lambda one: jax.random.split(one, 3), out_axes=1)(keys)
            rows = [jax.tree.map(lambda leaf: mine(leaf, first), one) for one in context] or [None]
            begun = fold(lambda acting, key, rows: begin_task(policy, acting, key, rows))(acting, begin_key, *rows)
            return begun, reset_key, steps_key

        def numbered(episode: Array, keys: Array) -> Array:
            return jax.vmap(jax.random.fold_in, (0, None))(keys, episode)

        def started(step: Array, reset_key: Array) -> Any:
            sim_key, start_key = jax.vmap(jax.random.split, out_axes=1)(reset_key)
            return jax.vmap(family.noise)(sim_key), start_key

        def acted(t: Array, acting: Any, memory: Any, pending: Pending, start_key: Array, steps_key: Array) -> Any:
            act_key = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, t))[0])(steps_key)
            return fold(functools.partial(look, t))(acting, memory, pending, act_key, start_key)

        shared = int(lineup.shared)
        self.open, self.numbered = axis.over_tasks(opened, shared=shared), axis.over_tasks(numbered)
        self.started = axis.over_tasks(started)
        self.act = axis.over_tasks(acted, donate=(2,), shared=shared, whole=False)

    def _each(self, one: Callable[..., Any]) -> Callable[..., Any]:
        """`one(acting, ...)` of one environment -> of all those of a task, each with its policy."""

        def runs(acting: Any, *own: Any) -> Any:
            return jax.vmap(functools.partial(one, acting))(*own)

        if self.lineup.beside is None:
            return runs

        def panel(acting: Any, *own: Any) -> Any:
            split = jax.tree.map(lambda leaf: leaf.reshape(self.beside, self.together, *leaf.shape[1:]), own)
            found = jax.vmap(runs)(acting, *split)
            size = self.beside * self.together  # and not -1: a memory may hold nothing, [S, E, 0]
            return jax.tree.map(lambda leaf: leaf.reshape(size, *leaf.shape[2:]), found)

        return panel

    def joined(self, parts: list[Any]) -> list[np.ndarray]:
        """What was played together, columns of `[T, S * E, ...]` -> columns `[T, P, ...]`, or `[S, T, P, ...]`."""

        def join(*column: np.ndarray) -> np.ndarray:
            if self.lineup.beside is None:
                return np.concatenate(column, axis=1)
            split = [leaf.reshape(len(leaf), self.beside, self.together, *leaf.shape[2:]) for leaf in column]
            return np.concatenate(split, axis=2).swapaxes(0, 1)

        return [join(*column) for column in zip(*parts, strict=True)]

    def episode(
        self, simulator: Simulator, acting: Any, memory: Any, before: Pending | None, reset_key: Any, steps_key: Any
    ) -> Played:
        """One episode in each environment. `before` holds the row that the memory has not been shown yet.

        An ended environment is begun again and not looked at: a fallen body is not pushed on.
        """
        family, axis, horizon, where = self.family, self.lineup.axis, self.family.horizon, places(self.family)
        noise, start_key = self.started(0, reset_key)
        drawn = axis.get(noise)
        lead, drawn = drawn.shape[:2], drawn.reshape(-1, *drawn.shape[2:])
        first = simulator.reset(np.ones(len(drawn), bool), drawn)
        pending = opening(family, first.reshape(*lead, *first.shape[1:]))
        if before is not None:
            pending = pending._replace(row=before.row, seen=before.seen)
        ended, rewards = np.zeros(lead, bool), np.zeros((*lead, horizon), np.float32)
        path = np.repeat(where(pending.obs)[:, :, None], horizon + 1, axis=2)
        value, length = np.full(lead, np.nan, np.float32), np.zeros(lead, np.int32)
        acting, memory, start_key, steps_key = (axis.split(one) for one in (acting, memory, start_key, steps_key))
        for t in range(horizon):
            memory, action, found = self.act(t, acting, memory, axis.split(pending), start_key, steps_key).parts()
            value = axis.get(found) if t == 0 else value
            moved = move(family, simulator, pending.obs, np.full(lead, t), axis.get(action))
            rewards[..., t] = np.where(ended, 0.0, moved.row.reward)
            length += ~ended
            path[:, :, t + 1] = np.where(ended[..., None], path[:, :, t], where(moved.row.next_obs))
            over: Any = moved.row.terminal | moved.diverged
            pending = Pending(moved.row, ~ended, np.zeros(lead, bool), moved.row.next_obs)
            ended = ended | over
            if ended.all():
                path[:, :, t + 2 :] = path[:, :, t + 1 : t + 2]
                break
            if over.any():
                obs = simulator.reset(over.reshape(-1), drawn).reshape(moved.row.next_obs.shape)
                pending = pending._replace(obs=obs.astype(family.space.obs_dtype))
        return Played(rewards, path, value, length, axis.whole(memory), pending)


def zero_shot(
    family: HostFamily, policy: Policy, discount: float, num_episodes: int, lineup: Lineup
) -> Callable[..., Episodes]:
    """`run(acting [T, ...], keys [T], *context) -> Episodes` in numpy with a leading T, or S, T: P episodes of each
    task, each beginning with an empty memory, or with one that was shown its `context` [T, P, C, ...]. All lie on the
    devices as `lineup` says.

    A simulator is never run past the horizon, so the discounted return is NaN where it needs more steps than that.
    """
    player = Player(family, policy, num_episodes, lineup)

    def run(acting: Any, keys: Any, *context: Any) -> Episodes:
        parts = []
        with family.simulate(player.rows) as simulator:
            for first in range(0, num_episodes, player.together):
                memory, *streams = player.open(first, acting, keys, *context)
                parts.append(player.episode(simulator, acting, memory, None, *streams)[:4])
        rewards, path, value, length = player.joined(parts)
        discounted = discounted_return(rewards, discount).astype(np.float32)
        columns: list[Any] = [rewards.sum(-1), discounted, value, path, rewards, length]
        return Episodes(*columns)

    return run


def trials(
    family: HostFamily, policy: Policy, num_trials: int, num_episodes: int, lineup: Lineup
) -> Callable[..., Trials]:
    """`run(acting [T, ...], keys [T], *context) -> Trials` in numpy with a leading T, or S, T, as `scan.trials` plays
    them."""
    player = Player(family, policy, num_trials, lineup)

    def trial(simulator: Simulator, first: int, acting: Any, keys: Any, context: Any) -> list[Played]:
        memory, reset_key, steps_key = player.open(first, acting, keys, *context)
        before, played = None, []
        for number in range(num_episodes):
            streams = player.numbered(number, reset_key), player.numbered(number, steps_key)
            episode = player.episode(simulator, acting, memory, before, *streams)
            memory, before = episode.memory, episode.pending
            played.append(episode)
        return played

    def run(acting: Any, keys: Any, *context: Any) -> Trials:
        with family.simulate(player.rows) as simulator:
            parts = [trial(simulator, first, acting, keys, context) for first in range(0, num_trials, player.together)]
        rewards, path, value, length = player.joined(
            [[np.stack([episode[n] for episode in part], axis=2) for n in range(4)] for part in parts]
        )
        discounted = discounted_return(rewards, family.discount).astype(np.float32)
        columns: list[Any] = [rewards.sum(-1), path, rewards, discounted, value, length]
        return Trials(*columns)

    return run
