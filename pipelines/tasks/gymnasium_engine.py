"""Any Gymnasium environment as a family: a task is a value of one of its attributes (gravity, a length, a goal).

    family("Pendulum-v1", attribute="g", values={"train": [4.0, 8.0, 12.0], "test": [6.0, 10.0]}, horizon=200)

The attribute is set on `env.unwrapped` when the environment is made. B environments are stepped one after another in a
Python loop, in float64. A reset is seeded by an integer that jax draws. Gymnasium's TimeLimit is off: the horizon is
the family's, and its end is a truncation. An environment that has `get_state()` and `set_state(state)` on
`env.unwrapped` (flat arrays) can be restored; any other goes on at an episode boundary.

`reward` is the formula that the steps pay, which relabelling needs; without one the family has no known reward. What it
needs and the observation lacks is named in `outcome`, and read from the `info` of the step.
"""

import contextlib
import difflib
import functools
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from pipelines.core.configs.base import nearest
from pipelines.core.errors import StageFailed, UsageError
from pipelines.core.names import SPLITS
from pipelines.core.types import About, Array, HostFamily, Space, Stepped, Task
from pipelines.tasks.checks import NoReward

Value = float | Sequence[float]
MOST_SEED = 2**31 - 1


def family(
    env_id: str | Callable[..., gymnasium.Env],
    *,
    attribute: str | Sequence[str],
    values: Mapping[str, Sequence[Value]],
    horizon: int,
    reward: Callable[[Any, Any, Any, Any, Any], Any] | None = None,
    outcome: Sequence[str] = (),
    discount: float = 0.99,
    dynamics: bool = True,
    terminates: bool = True,
    name: str = "",
    make: Mapping[str, Any] | None = None,
    **more: Any,
) -> HostFamily:
    """The family of environments that differ in `attribute` (one name, or several and then each value has as many
    numbers). `values`: those of each split.

    env_id: what `gymnasium.make` takes, or a function that gives an environment; both are called with the keywords
    `make`. reward(task [..., P], obs, action, next_obs, outcome [..., F]) -> [...], Array-API code.
    dynamics: whether the attribute changes more than the reward. terminates: whether episodes can end early. `more`:
    further fields of TaskFamily (position, scene, references, about, ...). Raises UsageError for an environment that
    cannot be had, an attribute it lacks, or a space that is not supported.
    """
    names = (attribute,) if isinstance(attribute, str) else tuple(attribute)
    known = env_id if isinstance(env_id, str) else getattr(env_id, "__name__", "environment")
    for split in values:
        if split not in SPLITS:
            raise UsageError(f"values of the split {split!r}", f"the splits are {', '.join(SPLITS)}")
    tasks = {split: _tasks(split, names, found) for split, found in values.items()}
    build = functools.partial(_make, env_id, dict(make or {}))
    with contextlib.closing(build()) as env:
        _attributes_there(env, names)
        space, first_action, low_level = _space(env), _first_action(env), env.unwrapped
        restorable = hasattr(low_level, "get_state") and hasattr(low_level, "set_state")
    hint = "give gymnasium_engine.family(..., reward=...) the formula that its steps pay"

    def simulate(rows: np.ndarray) -> "Environments":
        return Environments([build() for _ in rows], names, rows, tuple(outcome), first_action, restorable)

    described = About(
        reward="" if reward else "unknown: only the environment computes it", start=f"{known}'s own reset"
    )
    fields: dict[str, Any] = {
        "name": name or known,
        "space": space,
        "horizon": horizon,
        "discount": discount,
        "tasks": lambda split: tasks.get(split, ()),
        "reward": reward or NoReward(f"family {name or known} has no known reward", hint),
        "outcome": tuple(outcome),
        "terminates": terminates,
        "dynamics": dynamics,
        "about": described,
        **more,
    }
    return HostFamily(**fields, simulate=simulate, noise=_seed, restorable=restorable, engine="gymnasium")


def _seed(key: Array) -> Array:
    """`[1]` int32, what `env.reset(seed=...)` gets."""
    return jax.random.randint(key, (1,), 0, MOST_SEED, jnp.int32)


def _tasks(split: str, names: tuple[str, ...], values: Sequence[Value]) -> tuple[Task, ...]:
    """A task's id is a hash of its numbers: it survives other lists."""

    def one(value: Value) -> Task:
        numbers = np.atleast_1d(np.asarray(value, np.float64))
        if numbers.shape != (len(names),):
            raise UsageError(f"the {split} value {value!r} is not {len(names)} number(s)", f"one for each of {names}")
        params = dict(zip(names, numbers.tolist(), strict=True))
        label = ",".join(f"{name}={number:.6g}" for name, number in params.items())
        return Task(zlib.crc32(numbers.tobytes()) & MOST_SEED, label, split, params)

    return tuple(map(one, values))


# ---- one environment -------------------------------------------------------------------------------------------------


def _make(env_id: str | Callable[..., gymnasium.Env], keywords: dict[str, Any]) -> gymnasium.Env:
    """Without a TimeLimit; ready to draw its frames if it can be."""
    if callable(env_id):
        return env_id(**keywords)
    try:
        spec = gymnasium.spec(env_id)
        modes = getattr(gymnasium.envs.registration.load_env_creator(spec.entry_point), "metadata", {}).get(
            "render_modes", ()
        )
        drawn = {"render_mode": "rgb_array"} if "rgb_array" in modes else {}
        return gymnasium.make(env_id, max_episode_steps=-1, disable_env_checker=True, **(drawn | keywords))
    except gymnasium.error.UnregisteredEnv as error:
        near = difflib.get_close_matches(env_id, list(gymnasium.registry), n=1)
        raise UsageError(f"{' '.join(str(error).split())}", f"did you mean {near[0]}?" if near else "") from error
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        missing = f"pip install {error.name}" if isinstance(error, ImportError) and error.name else ""
        raise UsageError(f"gymnasium.make({env_id!r}): {' '.join(str(error).split())}", missing) from error


def _attributes_there(env: gymnasium.Env, names: Sequence[str]) -> None:
    for name in names:
        if not hasattr(env.unwrapped, name):
            numbers = [key for key, value in vars(env.unwrapped).items() if isinstance(value, int | float)]
            raise UsageError(f"{env.unwrapped} has no attribute {name!r}", nearest(name, numbers, "its numbers"))


def _space(env: gymnasium.Env) -> Space:
    """Raises UsageError for what is neither a Box of numbers to see nor a flat Box or a Discrete to do."""
    obs, action = env.observation_space, env.action_space
    if not isinstance(obs, gymnasium.spaces.Box):
        raise UsageError(f"observations of {obs} are not supported", "wrap it: gymnasium.wrappers.FlattenObservation")
    dtype = "uint8" if obs.dtype == np.uint8 else "float32"
    if isinstance(action, gymnasium.spaces.Discrete):
        return Space(obs.shape, (), num_actions=int(action.n), obs_dtype=dtype, action_dtype="int32")
    if (
        not isinstance(action, gymnasium.spaces.Box)
        or len(action.shape) != 1
        or not np.isfinite([action.low, action.high]).all()
    ):
        raise UsageError(
            f"actions of {action} are not supported", "a Box with one axis and finite bounds, or a Discrete"
        )
    low, high = (tuple(map(float, bound)) for bound in (action.low, action.high))
    return Space(obs.shape, action.shape, low, high, obs_dtype=dtype)


def _first_action(env: gymnasium.Env) -> int:
    return int(getattr(env.action_space, "start", 0))


class Environments:
    """The Simulator: one environment per row of `tasks` [B, P]. An environment whose episode ended, or whose numbers
    stopped being numbers, stands still until it is reset."""

    def __init__(
        self,
        envs: list[gymnasium.Env],
        names: tuple[str, ...],
        tasks: np.ndarray,
        outcome: tuple[str, ...],
        first_action: int,
        restorable: bool,
    ) -> None:
        self._envs, self._outcome, self._first_action, self._restorable = envs, outcome, first_action, restorable
        for env, row in zip(envs, tasks, strict=True):
            for name, number in zip(names, row, strict=True):
                now = getattr(env.unwrapped, name)
                setattr(
                    env.unwrapped,
                    name,
                    int(number) if isinstance(now, int) and number == int(number) else float(number),
                )
        space = envs[0].observation_space
        assert isinstance(space, gymnasium.spaces.Box)
        self._dtype = np.uint8 if space.dtype == np.uint8 else np.float64
        self._obs = np.zeros((len(envs), *space.shape), self._dtype)
        self._standing = np.ones(len(envs), bool)

    def reset(self, mask: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """New episodes where `mask [B]`, seeded by `noise [B, 1]`. -> obs [B, O] of all."""
        for index in np.flatnonzero(mask):
            self._obs[index], _ = self._envs[index].reset(seed=int(noise[index, 0]))
            self._standing[index] = False
        return self._obs.copy()

    def step(self, action: np.ndarray) -> Stepped:
        """`action [B, A]`. Raises StageFailed for a field of `outcome` that is not in the step's info, and for an
        environment that truncates its episode itself."""
        size = len(self._envs)
        reward, outcome = np.zeros(size), np.zeros((size, len(self._outcome)))
        terminal, diverged = np.zeros(size, bool), np.zeros(size, bool)
        for index in np.flatnonzero(~self._standing):
            obs, reward[index], terminal[index], truncated, info = self._envs[index].step(self._action(action[index]))
            if truncated:
                raise StageFailed(
                    f"{self._envs[index].unwrapped} truncated an episode itself", "the family's horizon must come first"
                )
            outcome[index] = [self._told(name, info) for name in self._outcome]
            numbers = np.asarray(obs, np.float64), reward[index], outcome[index]
            diverged[index] = not all(np.isfinite(one).all() for one in numbers)
            if diverged[index]:
                reward[index], terminal[index], outcome[index] = 0.0, False, 0.0
            else:
                self._obs[index] = obs
        self._standing |= terminal | diverged
        return Stepped(self._obs.copy(), reward, terminal, outcome, diverged)

    def _action(self, action: np.ndarray) -> Any:
        return (
            int(action) + self._first_action
            if np.issubdtype(action.dtype, np.integer)
            else np.asarray(action, np.float32)
        )

    def _told(self, name: str, info: Mapping[str, Any]) -> float:
        if name not in info:
            raise StageFailed(f"the step's info has no {name!r}", nearest(name, [str(key) for key in info], "it has"))
        return float(info[name])

    def state(self) -> np.ndarray:
        """`[B, S]` float64: whether it stands still, the observation, the environment's own state if it gives one."""
        seen = self._obs.reshape(len(self._envs), -1).astype(np.float64)
        columns = [self._standing[:, None].astype(np.float64), seen]
        if self._restorable:
            own: list[Any] = [env.unwrapped for env in self._envs]
            columns.append(np.stack([np.asarray(env.get_state(), np.float64).ravel() for env in own]))
        return np.concatenate(columns, axis=1)

    def restore(self, state: np.ndarray) -> np.ndarray:
        """Goes on from `state [B, S]`. -> obs [B, O]. Raises UsageError where the environments have no set_state."""
        if not self._restorable:
            raise UsageError(f"{self._envs[0].unwrapped} has no set_state", "its episodes can only be begun again")
        size = math.prod(self._obs.shape[1:])
        self._standing = state[:, 0] != 0
        self._obs = state[:, 1 : 1 + size].reshape(self._obs.shape).astype(self._dtype)
        for env, row in zip(self._envs, state[:, 1 + size :], strict=True):
            low_level: Any = env.unwrapped
            low_level.set_state(row)
        return self._obs.copy()

    def frame(self) -> np.ndarray:
        """`[height, width, 3]` uint8, the first environment as it draws itself. Raises UsageError if it cannot."""
        try:
            drawn: Any = self._envs[0].render()
        except (gymnasium.error.Error, ImportError) as error:
            raise UsageError(f"{self._envs[0].unwrapped} cannot be drawn: {' '.join(str(error).split())}") from error
        if not isinstance(drawn, np.ndarray):
            raise UsageError(f"{self._envs[0].unwrapped} draws no frames", 'it needs render_mode="rgb_array"')
        return drawn

    def __enter__(self) -> "Environments":
        return self

    def __exit__(self, *exc: Any) -> None:
        for env in self._envs:
            env.close()
