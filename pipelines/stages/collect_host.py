"""collect on a host family: blocks of control steps with the policies as they stand, then as many updates.

Where the block is one step long this is the device families' collection, step by step. T tasks, one environment each.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines import rollouts
from pipelines.core.configs.stages import CollectConfig
from pipelines.core.taskmap import TaskAxis
from pipelines.core.types import Algorithm, Array, HostFamily, Metrics, Simulator, Task, Transition
from pipelines.rollouts import loop


class Learning(NamedTuple):
    """The devices' part of what collection goes on from, [T, ...]."""

    learner: Any
    memory: Any
    recorder: rollouts.Recorder


class Moving(NamedTuple):
    """The host's part, [T, ...]: E = 1 environment."""

    pending: loop.Pending  # [T, 1, ...]
    step: np.ndarray  # [T, 1] of the running episode
    simulator: np.ndarray  # [T, S] float64
    total: np.ndarray  # [T] return of the running episode so far
    diverged: np.ndarray  # [T] episodes whose physics failed


class Rows(NamedTuple):
    """One block of one task, as it is logged. K control steps."""

    row: Transition  # [K, ...]
    step: Any  # [K]
    next_first_obs: Any  # [K, O] where the next episode begins, if this row ends one


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
        self.family, self.algorithm, self.config, self.axis, self.tasks = family, algorithm, config, axis, tasks
        self.simulator, self.keys = simulator, keys
        self._open = axis.over_tasks(self._opened)
        self._act = axis.over_tasks(self._acted, donate=(2,))
        self._learn = axis.over_tasks(self._learned, donate=(1, 2))

    # ---- compiled, for one task --------------------------------------------------------------------------------------

    def _opened(self, step: Array, key: Array) -> tuple[Any, Any, Array]:
        init_key, memory_key, reset_key = jax.random.split(key, 3)
        learner = self.algorithm.init(init_key, None)
        memory = self.algorithm.policy.begin(self.algorithm.acting(learner), memory_key)
        sim_key, _ = jax.random.split(reset_key)
        return learner, jax.tree.map(lambda leaf: leaf[None], memory), self.family.noise(sim_key)[None]

    def _acted(self, n: Array, learner: Any, memory: Any, pending: loop.Pending, key: Array) -> Any:
        """Step n's action, and the noise from which an episode that it ends would be followed by another."""
        policy, space = self.algorithm.policy, self.family.space
        (act_key, _, reset_key), before = self._step_keys(n, key), self._step_keys(n - 1, key)
        _, start_key = jax.random.split(before[2])

        def choose(acting: Any, memory: Any, obs: Array, key: Array) -> Array:
            uniform = uniform_action(space, key)
            return jnp.where(n < self.config.random_steps, uniform, policy.act(acting, memory, obs, key, 1.0))

        one = loop.turn(policy, choose)
        acting = self.algorithm.acting(learner)
        memory, action, _ = jax.vmap(one, in_axes=(None, 0, 0, None, None))(acting, memory, pending, act_key, start_key)
        sim_key, _ = jax.random.split(reset_key)
        return memory, action, self.family.noise(sim_key)[None]

    def _step_keys(self, n: Array, key: Array) -> Array:
        return jax.random.split(jax.random.split(jax.random.fold_in(key, n))[0], 3)

    def _learned(self, step: Array, learner: Any, recorder: rollouts.Recorder, rows: Rows, key: Array) -> Any:
        """Logs the rows from step number `step` on, and makes the update that follows each of them."""
        config, algorithm = self.config, self.algorithm
        numbers = step + jnp.arange(config.block_steps, dtype=jnp.int32)

        behaviour = jnp.maximum(step - config.random_steps, 0)  # nothing is learned inside a block

        def log(recorder: rollouts.Recorder, rows: Rows) -> tuple[rollouts.Recorder, None]:
            return rollouts.record(recorder, rows.row, rows.step, behaviour, rows.next_first_obs), None

        recorder, _ = jax.lax.scan(log, recorder, rows)

        def learn(learner: Any, n: Array) -> tuple[Any, Metrics]:
            sample_key, update_key = jax.random.split(jax.random.split(jax.random.fold_in(key, n))[1])
            batch = algorithm.sample(recorder.log, sample_key)
            return algorithm.update(learner, batch, update_key, n - config.random_steps)

        shapes = jax.eval_shape(learn, learner, step)[1]
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        def update(learner: Any, n: Array) -> tuple[Any, Metrics]:
            return jax.lax.cond(n >= config.random_steps, learn, lambda learner, n: (learner, nothing), learner, n)

        learner, metrics = jax.lax.scan(update, learner, numbers)
        return learner, recorder, jax.tree.map(lambda leaf: leaf.mean(0), metrics)

    # ---- on the host -------------------------------------------------------------------------------------------------

    def begin(self, init_keys: Any) -> tuple[Learning, Moving]:
        """Everything at its beginning."""
        learner, memory, noise = self._open(0, init_keys)
        first = self.simulator.reset(np.ones(len(self.tasks), bool), self.axis.get(noise)[:, 0])
        pending = loop.opening(self.family, first[:, None])
        make = self.axis.over_tasks(lambda step, obs: rollouts.recorder(self.family, self.config.steps, obs))
        recorder = make(0, self.axis.put(pending.obs[:, 0]))
        count = np.zeros(len(self.tasks), np.int32)
        moving = Moving(pending, count[:, None], self.simulator.state(), np.zeros(len(count)), count)
        return Learning(learner, memory, recorder), moving

    def restore(self, held: tuple[Learning, Moving]) -> tuple[Learning, Moving]:
        """A checkpoint's trees -> devices and simulator. Where the simulator cannot be restored the running episodes
        are cut and new ones begin."""
        learning, moving = self.axis.put_padded(held[0]), held[1]
        if self.family.restorable:
            self.simulator.restore(moving.simulator)
            return learning, moving
        _, _, noise = self._open(0, self.keys)
        first = self.simulator.reset(np.ones(len(self.tasks), bool), self.axis.get(noise)[:, 0])
        pending = loop.opening(self.family, first[:, None])
        cut = self.axis.over_tasks(lambda step, recorder, obs: rollouts.cut(recorder, obs), donate=(1,))
        recorder = cut(0, learning.recorder, self.axis.put(pending.obs[:, 0]))
        moving = moving._replace(pending=pending, step=np.zeros_like(moving.step), total=np.zeros_like(moving.total))
        return learning._replace(recorder=recorder), moving

    def advance(self, step: int, carry: tuple[Learning, Moving]) -> tuple[tuple[Learning, Moving], dict[str, Any]]:
        """`block_steps` control steps, then as many updates. Raises nothing: failed physics is counted."""
        learning, moving = carry
        memory, rows, returns = learning.memory, [], []
        for n in range(step, step + self.config.block_steps):
            pending = self.axis.put(moving.pending)
            memory, action, noise = self._act(n, learning.learner, memory, pending, self.keys)
            moving, row, ended = self._moved(moving, self.axis.get(action), self.axis.get(noise)[:, 0])
            rows.append(row)
            returns.append(ended)
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves, 1), *rows)
        learner, recorder, metrics = self._learn(
            step, learning.learner, learning.recorder, self.axis.put(stacked), self.keys
        )
        found = np.stack(returns)  # [K, T], NaN where no episode ended
        ended = np.isfinite(found)
        mean = np.where(ended, found, 0.0).sum(0) / np.maximum(ended.sum(0), 1)
        moving = moving._replace(simulator=self.simulator.state())
        return (Learning(learner, memory, recorder), moving), self.axis.get(metrics) | {"episode_return": mean}

    def _moved(self, moving: Moving, action: np.ndarray, noise: np.ndarray) -> tuple[Moving, Rows, np.ndarray]:
        """-> (where everything is now, the rows `[T, ...]`, returns `[T]` of the episodes that ended, else NaN)"""
        at = loop.move(self.family, self.simulator, moving.pending.obs, moving.step, action)
        obs: Any = at.row.next_obs
        done = at.done[:, 0]
        if done.any():
            obs = self.simulator.reset(done, noise)[:, None].astype(obs.dtype)
        total = moving.total + at.row.reward[:, 0]
        now = Moving(
            pending=loop.Pending(at.row, np.ones_like(at.done), at.done, obs),
            step=np.where(at.done, 0, moving.step + 1).astype(np.int32),
            simulator=moving.simulator,
            total=np.where(done, 0.0, total),
            diverged=moving.diverged + at.diverged[:, 0],
        )
        row = Transition(*(column[:, 0] for column in at.row))
        return now, Rows(row, moving.step[:, 0], obs[:, 0]), np.where(done, total, np.nan)


def uniform_action(space: Any, key: Array) -> Array:
    """`[A]` uniform between the bounds, or one of the actions."""
    if space.num_actions is not None:
        return jax.random.randint(key, space.action_shape, 0, space.num_actions)
    return jax.random.uniform(key, space.action_shape, minval=jnp.asarray(space.low), maxval=jnp.asarray(space.high))
