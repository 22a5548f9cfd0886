"""The driver of host families: one compiled call in which all policies act, one engine call that moves all simulators.

T tasks have E environments each. Keys are used as the scan driver uses them, so that a family that is written for both
engines gives the same episodes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.core.taskmap import TaskAxis
from pipelines.core.types import Array, HostFamily, Policy, Simulator, Task, Transition, task_rows
from pipelines.rollouts.episodes import Episodes, places, tail_steps

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


def turn(policy: Policy, choose: Callable[[Any, Any, Array, Array], Array]) -> Callable[..., tuple[Any, Array, Array]]:
    """`one(acting, memory, pending, act_key, start_key) -> (memory, action, value)` for one environment.

    `choose(acting, memory, obs, key) -> action`. The value is NaN where the policy has none.
    """

    def one(acting: Any, memory: Any, pending: Pending, act_key: Array, start_key: Array) -> tuple[Any, Array, Array]:
        memory = _where(pending.seen, policy.observe(acting, memory, pending.row), memory)
        memory = _where(pending.fresh, policy.start(acting, memory, pending.obs, start_key), memory)
        action = choose(acting, memory, pending.obs, act_key)
        value = jnp.float32(jnp.nan) if policy.value is None else policy.value(acting, memory, pending.obs, action)
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


def zero_shot(
    family: HostFamily, policy: Policy, discount: float, num_episodes: int, axis: TaskAxis, tasks: tuple[Task, ...]
) -> Callable[..., Episodes]:
    """`run(acting [T, ...], keys [T]) -> Episodes` in numpy with a leading T: P episodes of each task, each beginning
    with an empty memory. `acting` and `keys` lie on the devices of `axis`.

    A simulator is never run past the horizon, so the discounted return is NaN where it needs more steps than that.
    """
    most = max(1, MOST_ENVIRONMENTS // len(tasks))
    together = next(size for size in range(min(most, num_episodes), 0, -1) if num_episodes % size == 0)

    def opened(first: Array, acting: Any, key: Array) -> Any:
        keys = jax.lax.dynamic_slice_in_dim(jax.random.split(key, num_episodes), first, together)
        begin_key, reset_key, steps_key = jax.vmap(lambda one: jax.random.split(one, 3), out_axes=1)(keys)
        sim_key, start_key = jax.vmap(jax.random.split, out_axes=1)(reset_key)
        memory = jax.vmap(policy.begin, in_axes=(None, 0))(acting, begin_key)
        return memory, jax.vmap(family.noise)(sim_key), start_key, steps_key

    one = turn(policy, lambda acting, memory, obs, key: policy.act(acting, memory, obs, key, 0.0))

    def acted(t: Array, acting: Any, memory: Any, pending: Pending, start_key: Array, steps_key: Array) -> Any:
        act_key = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, t))[0])(steps_key)
        return jax.vmap(one, in_axes=(None, 0, 0, 0, 0))(acting, memory, pending, act_key, start_key)

    open_, act = axis.over_tasks(opened), axis.over_tasks(acted, donate=(2,))
    rows = np.repeat(task_rows(tasks, np.float64), together, axis=0)

    def some(simulator: Simulator, first: int, acting: Any, keys: Any) -> Episodes:
        memory, noise, *streams = open_(first, acting, keys)
        return _episodes(
            family, discount, simulator, axis, memory, axis.get(noise), lambda *a: act(*a, *streams), acting
        )

    def run(acting: Any, keys: Any) -> Episodes:
        with family.simulate(rows) as simulator:
            parts = [some(simulator, first, acting, keys) for first in range(0, num_episodes, together)]
        columns: list[Any] = [np.concatenate(column, axis=1) for column in zip(*parts, strict=True)]
        return Episodes(*columns)

    return run


def _episodes(
    family: HostFamily,
    discount: float,
    simulator: Simulator,
    axis: TaskAxis,
    memory: Any,
    noise: np.ndarray,
    act: Callable[..., Any],
    acting: Any,
) -> Episodes:
    """One episode in each environment, begun from `noise [T, E, N]`. An ended one is begun again and not looked at."""
    lead, horizon, where = noise.shape[:2], family.horizon, places(family)
    flat = noise.reshape(-1, *noise.shape[2:])
    first = simulator.reset(np.ones(len(flat), bool), flat)
    pending = opening(family, first.reshape(*lead, *first.shape[1:]))
    ended, rewards = np.zeros(lead, bool), np.zeros((*lead, horizon), np.float32)
    length = np.zeros(lead, np.int32)
    path = np.repeat(where(pending.obs)[:, :, None], horizon + 1, axis=2)
    value = np.full(lead, np.nan, np.float32)
    for t in range(horizon):
        memory, action, found = act(t, acting, memory, axis.put(pending))
        if t == 0:
            value = axis.get(found)
        moved = move(family, simulator, pending.obs, np.full(lead, t), axis.get(action))
        rewards[..., t] = np.where(ended, 0.0, moved.row.reward)
        length += ~ended
        now = where(moved.row.next_obs)
        path[:, :, t + 1] = np.where(ended[..., None], path[:, :, t], now)
        ended |= moved.row.terminal | moved.diverged
        if ended.all():
            path[:, :, t + 2 :] = path[:, :, t + 1 : t + 2]
            break
        obs: Any = moved.row.next_obs
        if ended.any():  # a fallen body is not pushed on
            fallen: Any = moved.row.terminal | moved.diverged
            obs = simulator.reset(fallen.reshape(-1), flat).reshape(obs.shape)
        pending = Pending(moved.row, ~ended, np.zeros(lead, bool), obs.astype(family.space.obs_dtype))
    known = horizon >= tail_steps(discount)
    discounted = (rewards * discount ** np.arange(horizon)).sum(-1) if known else np.full(lead, np.nan)
    columns: list[Any] = [rewards.sum(-1), discounted.astype(np.float32), value, path, rewards, length]
    return Episodes(*columns)
