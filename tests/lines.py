"""A family on a line, on a device and behind a simulator, and who plays it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipelines import rollouts
from pipelines.core.types import (
    DeviceFamily,
    HostFamily,
    Log,
    Space,
    Stepped,
    Task,
    memoryless,
)


def play(family: DeviceFamily, act: Callable[[Any, Any], Any], num_rows: int, task: Any, key: Any) -> Log:
    """`num_rows` rows of `act(obs, key) -> action` on one task, recorded as `collect` records them."""
    policy = memoryless(lambda acting, obs, key, explore: act(obs, key), None)
    task = jnp.asarray(task)

    def one(carry: Any, key: Any) -> Any:
        live, recorder = carry
        act_key, step_key, reset_key = jax.random.split(key, 3)
        after, row = rollouts.step(family, policy, None, task, live, act(live.obs, act_key), step_key)
        fresh = rollouts.begin(family, policy, None, task, after.memory, reset_key)
        done = row.terminal | row.truncated
        following = jax.tree.map(lambda new, old: jnp.where(done, new, old), fresh, after)
        return (following, rollouts.record(recorder, row, live.step, recorder.rows, fresh.obs)), None

    def run(key: Any) -> Log:
        begin_key, steps_key = jax.random.split(key)
        live = rollouts.begin(family, policy, None, task, policy.begin(None, begin_key), begin_key)
        carry = live, rollouts.recorder(family, num_rows, live.obs)
        return jax.lax.scan(one, carry, jax.random.split(steps_key, num_rows))[0][1].log

    return jax.tree.map(np.asarray, jax.jit(run)(key))


def uniform(space: Space) -> Callable[[Any, Any], Any]:
    """Any action of the box, whatever is seen."""
    low, high = np.asarray(space.low, np.float32), np.asarray(space.high, np.float32)
    return lambda obs, key: jax.random.uniform(key, space.action_shape, minval=low, maxval=high)


def line(horizon: int = 5, discount: float = 0.9, ends_at: float | None = None, num_tasks: int = 1) -> DeviceFamily:
    """A point on a line that moves by its action and is paid its place times the task's number; task row [1].

    It starts at 0 or, drawn, at 0.5. With `ends_at` the episode is over once it stands there or beyond.
    """

    def reset(task: Any, key: Any) -> Any:
        place = jax.random.bernoulli(key, 0.5, (1,)) * 0.5
        return place, place

    def step(task: Any, state: Any, action: Any, key: Any) -> Any:
        place = state + action
        terminal = place[0] >= ends_at if ends_at is not None else jnp.zeros((), bool)
        outcome = jnp.concatenate([place, action])
        return place, place, reward(task, state, action, place, outcome), terminal, outcome

    def reward(task: Any, obs: Any, action: Any, next_obs: Any, outcome: Any) -> Any:
        return task[..., 0] * next_obs[..., 0]

    return DeviceFamily(
        name="line/toy",
        space=Space((1,), (1,), (-1.0,), (1.0,)),
        horizon=horizon,
        discount=discount,
        outcome=("place", "move"),
        terminates=ends_at is not None,
        tasks=lambda split: tuple(Task(n, f"times {n}", split, {"times": float(n)}) for n in range(1, num_tasks + 1)),
        reset=reset,
        step=step,
        reward=reward,
        references=lambda task: {"random": 0.0, "oracle": 1.0, "ceiling": float("nan")},
    )


class Hosted:
    """A simulator that steps a device family: what a host engine is to the loop driver. Draws reset noise as keys do.

    `breaks_at`: the physics of environment 0 fails at this step after each reset.
    """

    def __init__(self, family: DeviceFamily, tasks: np.ndarray, breaks_at: int | None = None) -> None:
        self.family, self.tasks, self.breaks_at = family, jnp.asarray(tasks, jnp.float32), breaks_at
        self._reset, self._step = jax.jit(jax.vmap(family.reset)), jax.jit(jax.vmap(family.step))
        self._keys = jax.random.split(jax.random.key(0), len(tasks))
        self.place, self.obs = self._reset(self.tasks, self._keys)
        self.steps = np.zeros(len(tasks), int)

    def __enter__(self) -> "Hosted":
        return self

    def __exit__(self, *exc: Any) -> None:
        pass

    def reset(self, mask: np.ndarray, noise: np.ndarray) -> np.ndarray:
        fresh = self._reset(self.tasks, jax.random.wrap_key_data(jnp.asarray(noise)))

        def keep(new: Any, old: Any) -> Any:
            return jnp.where(mask.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        self.place, self.obs = jax.tree.map(keep, fresh, (self.place, self.obs))
        self.steps = np.where(mask, 0, self.steps)
        return np.asarray(self.obs, np.float64)

    def step(self, action: np.ndarray) -> Stepped:
        before = self.place
        self.place, self.obs, reward, terminal, outcome = self._step(self.tasks, self.place, action, self._keys)
        diverged = np.zeros(len(self.tasks), bool)
        diverged[0] = self.steps[0] == self.breaks_at
        if diverged.any():
            self.place = self.obs = jnp.where(diverged[:, None], before, self.place)
        self.steps = self.steps + 1
        return Stepped(*(np.asarray(one) for one in (self.obs, reward, terminal, outcome, diverged)))

    def state(self) -> np.ndarray:
        return np.column_stack([np.asarray(self.place, np.float64), self.steps])

    def restore(self, state: np.ndarray) -> np.ndarray:
        self.place = self.obs = jnp.asarray(state[:, :-1], jnp.float32)
        self.steps = state[:, -1].astype(int)
        return np.asarray(self.obs, np.float64)


def hosted(family: DeviceFamily, breaks_at: int | None = None, restorable: bool = True) -> HostFamily:
    """The same family behind a simulator."""
    common = {name: getattr(family, name) for name in vars(family) if name not in ("reset", "step", "engine")}
    return HostFamily(
        **common,
        simulate=lambda tasks: Hosted(family, tasks, breaks_at),
        noise=jax.random.key_data,
        restorable=restorable,
    )
