"""Episodes of one policy in several tasks, exploring or not, as rows for logs: the same of both kinds of families.

Keys are used as the evaluation's drivers use them. M tasks (one may come up twice), K episodes of each, H steps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.core.types import Array, DeviceFamily, HostFamily, Policy, TaskFamily, Transition
from pipelines.rollouts import loop, scan


class Explored(NamedTuple):
    """Whole episodes, and what lies behind their ends."""

    first_obs: Array  # [M, K, O]
    row: Transition  # [M, K, H, ...]
    held: Array  # [M, K, H] bool, up to the end of each episode


Play = Callable[[Any, np.ndarray, Array], Explored]


def explore(family: TaskFamily, policy: Policy, num_episodes: int, length: int, amount: float = 1.0) -> Play:
    """`play(acting, tasks [M, P], keys [M]) -> Explored`: K episodes of each task, memory kept between them, each cut
    after `length` steps. `acting` is one for all tasks, and explores as `amount` says (0: greedy)."""
    if isinstance(family, HostFamily):
        return _on_host(family, policy, num_episodes, length, amount)
    assert isinstance(family, DeviceFamily)
    return _on_device(family, policy, num_episodes, length, amount)


def _on_device(family: DeviceFamily, policy: Policy, num_episodes: int, length: int, amount: float) -> Play:
    def episode(acting: Any, task: Array, memory: Any, keys: tuple[Array, Array]) -> tuple[Any, Any]:
        reset_key, steps_key = keys
        first = scan.begin(family, policy, acting, task, memory, reset_key)

        def one(carry: tuple[scan.Live, Array], t: Array) -> tuple[tuple[scan.Live, Array], Any]:
            live, ended = carry
            act_key, step_key = jax.random.split(jax.random.fold_in(steps_key, t))
            action = policy.act(acting, live.memory, live.obs, act_key, amount)
            moved, row = scan.step(family, policy, acting, task, live, action, step_key)
            moved = jax.tree.map(lambda new, old: jnp.where(ended, old, new), moved, live)
            return (moved, ended | row.terminal | row.truncated), (row, ~ended)

        (last, _), (rows, held) = jax.lax.scan(one, (first, jnp.zeros((), bool)), jnp.arange(length))
        return last.memory, Explored(first.obs, rows, held)

    def trial(acting: Any, task: Array, key: Array) -> Explored:
        begin_key, reset_key, steps_key = jax.random.split(key, 3)
        number, episodes = jax.vmap(jax.random.fold_in, (None, 0)), jnp.arange(num_episodes)
        keys = number(reset_key, episodes), number(steps_key, episodes)
        memory = policy.begin(acting, begin_key)
        found: Explored = jax.lax.scan(lambda memory, keys: episode(acting, task, memory, keys), memory, keys)[1]
        return found

    program = jax.jit(jax.vmap(trial, in_axes=(None, 0, 0)))
    return lambda acting, tasks, keys: program(acting, jnp.asarray(tasks, jnp.float32), keys)


def _on_host(family: HostFamily, policy: Policy, num_episodes: int, length: int, amount: float) -> Play:
    choose = loop.turn(policy, lambda acting, memory, obs, key: policy.act(acting, memory, obs, key, amount))

    @jax.jit
    def opened(acting: Any, keys: Array) -> Any:
        begin_key, reset_key, steps_key = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(keys)
        return jax.vmap(lambda key: policy.begin(acting, key))(begin_key), reset_key, steps_key

    @jax.jit
    def started(episode: Array, reset_key: Array, steps_key: Array) -> Any:
        number = jax.vmap(jax.random.fold_in, (0, None))
        sim_key, start_key = jax.vmap(jax.random.split, out_axes=1)(number(reset_key, episode))
        return jax.vmap(family.noise)(sim_key), start_key, number(steps_key, episode)

    @jax.jit
    def acted(t: Array, acting: Any, memory: Any, pending: loop.Pending, start_key: Array, steps_key: Array) -> Any:
        act_key = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, t))[0])(steps_key)
        mine = jax.tree.map(lambda leaf: leaf[0], pending)
        return jax.vmap(choose, in_axes=(None, 0, 0, 0, 0))(acting, memory, mine, act_key, start_key)

    def episode(simulator: Any, acting: Any, memory: Any, before: loop.Pending | None, keys: Any) -> Any:
        drawn, start_key, steps_key = keys
        lead, noise = (1, len(drawn)), np.asarray(drawn)
        first = simulator.reset(np.ones(len(noise), bool), noise)
        pending = loop.opening(family, first.reshape(*lead, *first.shape[1:]))
        first_obs, ended, rows, held = pending.obs[0], np.zeros(lead, bool), [], []
        if before is not None:
            pending = pending._replace(row=before.row, seen=before.seen)
        for t in range(length):
            memory, action = acted(np.int32(t), acting, memory, pending, start_key, steps_key)
            moved = loop.move(family, simulator, pending.obs, np.full(lead, t), np.asarray(action)[None])
            rows.append(jax.tree.map(lambda leaf: leaf[0], moved.row))
            held.append(~ended[0])
            pending = loop.Pending(moved.row, ~ended, np.zeros(lead, bool), moved.row.next_obs)
            over = moved.done & (t + 1 < length)
            ended = ended | moved.done
            if ended.all():
                break
            if over.any():  # begun again and not looked at: a fallen body is not pushed on
                obs: Any = simulator.reset(over.reshape(-1), noise).reshape(moved.row.next_obs.shape)
                pending = pending._replace(obs=obs.astype(family.space.obs_dtype))
        return memory, pending, Explored(first_obs, _padded(rows, length), _padded(held, length))

    def play(acting: Any, tasks: np.ndarray, keys: Array) -> Explored:
        with family.simulate(np.asarray(tasks, np.float64)) as simulator:
            memory, reset_key, steps_key = opened(acting, keys)
            before, found = None, []
            for number in range(num_episodes):
                streams = started(np.int32(number), reset_key, steps_key)
                memory, before, one = episode(simulator, acting, memory, before, streams)
                found.append(one)
        return jax.tree.map(lambda *leaves: np.stack(leaves, 1), *found)

    return play


def _padded(steps: list[Any], length: int) -> Any:
    """Trees `[M, ...]` of some steps -> `[M, H, ...]`, zeros behind them."""

    def join(*leaves: Any) -> np.ndarray:
        found = np.stack(leaves, 1)
        lacking = np.zeros((len(found), length - len(leaves), *found.shape[2:]), found.dtype)
        return np.concatenate([found, lacking], 1) if len(leaves) < length else found

    return jax.tree.map(join, *steps)
