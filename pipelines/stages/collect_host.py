"""collect on a host family: blocks of control steps with the policies as they stand, then their updates.

Where the block is one step long this is the device families' collection, step by step. With `overlap` the updates of
a block are made while the physics of the next go on: its policies are those of the block before, always, so that bits
never depend on which of the two is faster. T tasks, E environments each, K control steps in a block.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines import rollouts
from pipelines.core.configs.stages import CollectConfig
from pipelines.core.taskmap import TaskAxis
from pipelines.core.types import Algorithm, Array, HostFamily, Simulator, Task, Transition
from pipelines.rollouts import loop
from pipelines.stages.pacing import action_of, draw_from, env_keys, learn, updates_at


class Learning(NamedTuple):
    """The devices' part of what collection goes on from, [T, ...]."""

    learner: Any
    memory: Any  # [T, E, ...]
    recorder: rollouts.Recorder  # [T, ...], with more than one environment [T, E, ...]


class Rows(NamedTuple):
    """One control step, or K of them, as they are logged."""

    row: Transition  # [T, K, E, ...]
    step: Any  # [T, K, E]
    next_first_obs: Any  # [T, K, E, O] where the next episode begins, if this row ends one


class Moving(NamedTuple):
    """The host's part, [T, ...]."""

    pending: loop.Pending  # [T, E, ...]
    step: np.ndarray  # [T, E] of the running episode
    simulator: np.ndarray  # [T E, S] float64
    total: np.ndarray  # [T, E] return of the running episode so far
    diverged: np.ndarray  # [T] episodes whose physics failed
    waiting: Any  # with `overlap` the last block's Rows, which nothing has been learned from; else ()


Carry = tuple[Learning, Moving]


class Collection:
    """Holds the simulator and the compiled calls; `advance` is one block."""

    def __init__(
        self,
        family: HostFamily,
        algorithm: Algorithm,
        config: CollectConfig,
        axis: TaskAxis,
        tasks: tuple[Task, ...],
        simulator: Simulator,
        keys: Any,
    ) -> None:
        """`simulator` has E environments of each task, those of a task beside each other."""
        self.family, self.algorithm, self.config, self.axis, self.tasks = family, algorithm, config, axis, tasks
        self.simulator, self.keys = simulator, keys
        self._draw = draw_from(config, algorithm, family.space)
        self._beside = ThreadPoolExecutor(1)
        self._open = axis.over_tasks(self._opened)
        self._act = axis.over_tasks(self._acted, donate=(2,), whole=False)
        self._learn = axis.over_tasks(self._learned, donate=(1, 2))
        self._copy = axis.over_tasks(lambda step, learner: jax.tree.map(jnp.copy, algorithm.acting(learner)))

    # ---- compiled, for one task --------------------------------------------------------------------------------------

    def _opened(self, step: Array, key: Array) -> tuple[Any, Any, Array]:
        init_key, memory_key, reset_key = jax.random.split(key, 3)
        learner = self.algorithm.init(init_key, None)
        acting = self.algorithm.acting(learner)
        memory = jax.vmap(lambda key: self.algorithm.policy.begin(acting, key))(env_keys(self.config, memory_key))
        return learner, memory, self._noise(env_keys(self.config, reset_key))

    def _noise(self, reset_keys: Array) -> Array:
        """`[E, N]` from which episodes begin."""
        return jax.vmap(lambda key: self.family.noise(jax.random.split(key)[0]))(reset_keys)

    def _acted(self, n: Array, acting: Any, memory: Any, pending: loop.Pending, key: Array) -> Any:
        """Step n's actions, and the noise from which episodes that it ends would be followed by others."""
        policy, space = self.algorithm.policy, self.family.space
        (act_key, _, reset_key), before = self._step_keys(n, key), self._step_keys(n - self.config.num_envs, key)
        start_key = jax.vmap(lambda key: jax.random.split(key)[1])(before[2])

        def choose(acting: Any, memory: Any, obs: Array, key: Array) -> Array:
            return action_of(self.config, space, n, key, policy.act(acting, memory, obs, key, 1.0))

        one = loop.turn(policy, choose)
        memory, action = jax.vmap(one, in_axes=(None, 0, 0, 0, 0))(acting, memory, pending, act_key, start_key)
        return memory, action, self._noise(reset_key)

    def _step_keys(self, n: Array, key: Array) -> Array:
        """`[3, E]`: of acting, of what an engine would draw, of a new episode."""
        own = env_keys(self.config, jax.random.split(jax.random.fold_in(key, n))[0])
        return jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(own)

    def _learned(self, step: Array, learner: Any, recorder: rollouts.Recorder, rows: Rows, key: Array) -> Any:
        """Logs the rows `[K, E, ...]` from step number `step` on, and makes the updates that follow them."""
        config, single = self.config, self.config.num_envs == 1
        since = step - config.block_steps * config.overlap  # when what acted had learned last
        behaviour = jnp.maximum(updates_at(config, since), 0)  # nothing is learned inside a block
        record = rollouts.record if single else jax.vmap(rollouts.record, in_axes=(0, 0, 0, None, 0))

        def log(recorder: rollouts.Recorder, rows: Rows) -> tuple[rollouts.Recorder, None]:
            return record(recorder, rows.row, rows.step, behaviour, rows.next_first_obs), None

        recorder, _ = jax.lax.scan(log, recorder, jax.tree.map(lambda leaf: leaf[:, 0], rows) if single else rows)
        count = config.block_steps if config.block_updates is None else config.block_updates
        end = step + config.block_steps
        learner, metrics = learn(config, self.algorithm, self._draw, learner, recorder.log, key, end, count)
        return learner, recorder, metrics

    # ---- on the host -------------------------------------------------------------------------------------------------

    def _first(self, noise: np.ndarray) -> loop.Pending:
        """New episodes everywhere, from `noise [T, E, N]`."""
        lead = noise.shape[:2]
        first = self.simulator.reset(np.ones(lead, bool).reshape(-1), noise.reshape(-1, *noise.shape[2:]))
        return loop.opening(self.family, first.reshape(*lead, *first.shape[1:]))

    def _per_recorder(self, leaf: Any) -> Any:
        """`[T, E, ...]` -> as recorders are laid out."""
        return self.axis.put(leaf[:, 0] if self.config.num_envs == 1 else leaf)

    def _over_recorders(self, one: Any) -> Any:
        return one if self.config.num_envs == 1 else jax.vmap(one)

    def begin(self, init_keys: Any) -> Carry:
        """Everything at its beginning."""
        learner, memory, noise = self._open(0, init_keys)
        pending = self._first(self.axis.get(noise))
        rows = self.config.steps // self.config.num_envs
        one = self._over_recorders(lambda obs: rollouts.recorder(self.family, rows, obs))
        recorder = self.axis.over_tasks(lambda step, obs: one(obs))(0, self._per_recorder(pending.obs))
        lead = pending.obs.shape[:2]
        count = np.zeros(lead, np.int32)
        waiting = self._none_yet(pending) if self.config.overlap else ()
        moving = Moving(pending, count, self.simulator.state(), np.zeros(lead), count[:, 0], waiting)
        return Learning(learner, memory, recorder), moving

    def _none_yet(self, pending: loop.Pending) -> Rows:
        """A block of rows before there was one."""
        num_steps = self.config.block_steps // self.config.num_envs

        def empty(leaf: Any, dtype: Any = None) -> Any:
            return np.zeros((len(leaf), num_steps, *leaf.shape[1:]), dtype or leaf.dtype)

        return Rows(jax.tree.map(empty, pending.row), empty(pending.seen, np.int32), empty(pending.obs))

    def restore(self, held: Carry) -> Carry:
        """A checkpoint's trees -> devices and simulator. Where the simulator cannot be restored the running episodes
        are cut and new ones begin."""
        learning, moving = self.axis.put_padded(held[0]), held[1]
        if self.family.restorable:
            self.simulator.restore(moving.simulator)
            return learning, moving
        _, _, noise = self._open(0, self.keys)
        pending = self._first(self.axis.get(noise))
        moving = moving._replace(pending=pending, step=np.zeros_like(moving.step), total=np.zeros_like(moving.total))
        if self.config.overlap:
            return learning, moving._replace(waiting=_cut(moving.waiting, pending.obs))
        one = self._over_recorders(rollouts.cut)
        cut = self.axis.over_tasks(lambda step, recorder, obs: one(recorder, obs), donate=(1,))
        return learning._replace(recorder=cut(0, learning.recorder, self._per_recorder(pending.obs))), moving

    def advance(self, step: int, carry: Carry) -> tuple[Carry, dict[str, Any]]:
        """The control steps of a block, and the updates that follow it: after it, or beside those of the next.

        Raises nothing: failed physics is counted.
        """
        learning, moving = carry
        last = step + self.config.block_steps == self.config.steps
        learner, recorder, metrics, future = learning.learner, learning.recorder, None, None
        acting = self.algorithm.acting(learner)
        if self.config.overlap:
            acting = self._copy(0, learner)  # the learner is given away
            future = self._update_beside(step, learning, moving.waiting)
        memory, moving, rows, returns = self._play(step, acting, learning.memory, moving)
        if future is not None:
            learner, recorder, metrics = future.result()
        if last or not self.config.overlap:
            learner, recorder, metrics = self._learn(step, learner, recorder, self.axis.put(rows), self.keys)
        if self.config.overlap:
            moving = moving._replace(waiting=rows)
        found = {} if metrics is None else self.axis.get(metrics)
        return (Learning(learner, memory, recorder), moving), found | {"episode_return": returns}

    def _update_beside(self, step: int, learning: Learning, rows: Rows) -> Future[Any] | None:
        """The updates that follow the block before `step`, in a thread of their own; None at the first."""
        if step == 0:
            return None
        before, learner, recorder = step - self.config.block_steps, learning.learner, learning.recorder
        return self._beside.submit(lambda: self._learn(before, learner, recorder, self.axis.put(rows), self.keys))

    def _play(self, step: int, acting: Any, memory: Any, moving: Moving) -> tuple[Any, Moving, Rows, np.ndarray]:
        """A block of control steps. -> (memory, where everything is then, its rows, mean return `[T]` of the episodes
        that ended)"""
        rows, returns = [], []
        acting, memory, keys = (self.axis.split(tree) for tree in (acting, memory, self.keys))
        for n in range(step, step + self.config.block_steps, self.config.num_envs):
            memory, action, noise = self._act(n, acting, memory, self.axis.split(moving.pending), keys).parts()
            moving, row, ended = self._moved(moving, self.axis.get(action), self.axis.get(noise))
            rows.append(row)
            returns.append(ended)
        found = np.stack(returns)  # [K, T, E], NaN where no episode ended
        ended = np.isfinite(found)
        count = ended.sum((0, 2))
        mean = np.where(count, np.where(ended, found, 0.0).sum((0, 2)) / np.maximum(count, 1), np.nan)
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves, 1), *rows)
        return self.axis.whole(memory), moving._replace(simulator=self.simulator.state()), stacked, mean

    def _moved(self, moving: Moving, action: np.ndarray, noise: np.ndarray) -> tuple[Moving, Rows, np.ndarray]:
        """-> (where everything is now, the rows `[T, E, ...]`, returns `[T, E]` of episodes that ended, else NaN)"""
        at = loop.move(self.family, self.simulator, moving.pending.obs, moving.step, action)
        obs: Any = at.row.next_obs
        if at.done.any():
            begun = self.simulator.reset(at.done.reshape(-1), noise.reshape(-1, *noise.shape[2:]))
            obs = begun.reshape(obs.shape).astype(obs.dtype)
        total = moving.total + at.row.reward
        now = moving._replace(
            pending=loop.Pending(at.row, np.ones_like(at.done), at.done, obs),
            step=np.where(at.done, 0, moving.step + 1).astype(np.int32),
            total=np.where(at.done, 0.0, total),
            diverged=moving.diverged + at.diverged.sum(1, dtype=np.int32),
        )
        return now, Rows(at.row, moving.step, obs), np.where(at.done, total, np.nan)


def _cut(rows: Rows, first_obs: Any) -> Rows:
    """A block whose last rows end their episodes, as truncated; the next begin at `first_obs [T, E, O]`."""
    truncated: Any = np.array(rows.row.truncated)
    next_first = np.array(rows.next_first_obs)
    truncated[:, -1] |= ~rows.row.terminal[:, -1]
    next_first[:, -1] = first_obs
    return rows._replace(row=rows.row._replace(truncated=truncated), next_first_obs=next_first)
