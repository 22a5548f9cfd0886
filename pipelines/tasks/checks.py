"""What is checked of a family that is not ours, before anything runs on it: its parts must agree with each other.

Random actions are played for a few steps on a few tasks. What is found wrong names the task, the step and the numbers.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.core.errors import CheckFailed, OmrlError, UsageError
from pipelines.core.names import SPLITS
from pipelines.core.types import DeviceFamily, HostFamily, Policy, Task, TaskFamily, task_rows

MOST_STEPS = 25
EPISODES = 4  # of each task
TOLERANCE = 1e-4  # of a reward that is computed again, times 1 + its size: float32, and any order of summation


class NoReward:
    """The reward of a family that has no formula for it."""

    def __init__(self, why: str, hint: str) -> None:
        self.why, self.hint = why, hint

    def __call__(self, *rows: Any) -> Any:
        raise UsageError(self.why, self.hint)


class Walk(NamedTuple):
    """Transitions of random actions. K tasks, E episodes, H steps; rows after an episode's end do not count."""

    obs: np.ndarray  # [K, E, H, O]
    action: np.ndarray  # [K, E, H, A]
    reward: np.ndarray  # [K, E, H]
    next_obs: np.ndarray  # [K, E, H, O]
    terminal: np.ndarray  # [K, E, H]
    outcome: np.ndarray  # [K, E, H, F]

    @property
    def counts(self) -> np.ndarray:
        """`[K, E, H]` bool."""
        return np.cumsum(self.terminal, -1) - self.terminal == 0


def check(family: TaskFamily) -> None:
    """Raises CheckFailed that names what disagrees."""
    _space(family)
    tasks = _tasks(family)
    assert isinstance(family, DeviceFamily | HostFamily)
    walk = _on_device(family, tasks) if isinstance(family, DeviceFamily) else _on_host(family, tasks)
    _finite(family, tasks, walk)
    _rewards(family, tasks, walk)
    _extras(family, tasks[0], walk)


def _fail(family: TaskFamily, cause: str, hint: str = "") -> CheckFailed:
    return CheckFailed(f"family {family.name}: {cause}", hint)


def _guarded(family: TaskFamily, what: str, call: Callable[..., Any], *args: Any) -> Any:
    """`call(*args)`; what it raises becomes a CheckFailed that says what was called."""
    try:
        return call(*args)
    except OmrlError:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or "no message"
        raise _fail(family, f"{what} raised {type(error).__name__}: {said[:300]}", "--debug shows where") from error


def _space(family: TaskFamily) -> None:
    space = family.space
    for name in (space.obs_dtype, space.action_dtype):
        try:
            np.dtype(name)
        except TypeError:
            raise _fail(family, f"{name!r} is no dtype", "for example float32, int32, uint8") from None
    if space.num_actions is not None:
        if space.action_shape != () or space.num_actions < 2 or not np.issubdtype(space.action_dtype, np.integer):
            raise _fail(family, f"discrete actions of {space}", 'they want action_shape=(), action_dtype="int32"')
    elif not (len(space.low) == len(space.high) == space.action_dim):
        raise _fail(
            family, f"{len(space.low)} lows and {len(space.high)} highs for {space.action_dim} actions", "give one each"
        )
    elif not all(math.isfinite(a) and math.isfinite(b) and a < b for a, b in zip(space.low, space.high, strict=True)):
        raise _fail(family, f"action bounds {space.low} to {space.high}", "they must be finite, low below high")
    if family.horizon < 1 or not 0 < family.discount <= 1:
        raise _fail(family, f"horizon {family.horizon}, discount {family.discount}", "at least 1; in (0, 1]")


def _tasks(family: TaskFamily) -> tuple[Task, ...]:
    """The tasks that are played: the first and the last of each split."""
    splits = {split: _guarded(family, f"tasks({split!r})", family.tasks, split) for split in SPLITS}
    if not splits["train"]:
        raise _fail(family, "it has no train tasks", 'tasks("train") gives them, tasks("ood") may be ()')
    known: dict[int, tuple[str, Task]] = {}
    names = list(splits["train"][0].params)
    for split, tasks in splits.items():
        for one, other in itertools.combinations(tasks, 2):
            if one.id == other.id or one.name == other.name:
                raise _fail(family, f"{split} tasks {one.name!r} and {other.name!r} share an id or a name ({one.id})")
        for task in tasks:
            if not 0 <= task.id < 2**31:
                raise _fail(family, f"task {task.name!r} has id {task.id}", "from 0 to 2**31 - 1")
            if task.split != split:
                raise _fail(family, f"task {task.name!r} of tasks({split!r}) says it is of {task.split!r}")
            if list(task.params) != names or not np.isfinite(list(task.params.values())).all():
                raise _fail(family, f"task {task.name!r} has params {task.params}", f"finite numbers, named {names}")
            where, same = known.setdefault(task.id, (split, task))
            if same.params != task.params:
                raise _fail(family, f"id {task.id} is {same.name!r} in {where} and {task.name!r} in {split}")
    return tuple({task.id: task for tasks in splits.values() for task in (*tasks[:1], *tasks[-1:])}.values())


# ---- playing ---------------------------------------------------------------------------------------------------------


def _uniform(family: TaskFamily, key: jax.Array) -> jax.Array:
    space = family.space
    if space.num_actions is not None:
        return jax.random.randint(key, (), 0, space.num_actions, space.action_dtype)
    low, high = (np.asarray(bound, np.float32).reshape(space.action_shape) for bound in (space.low, space.high))
    return jax.random.uniform(key, space.action_shape, minval=low, maxval=high).astype(space.action_dtype)


def _shape(family: TaskFamily, what: str, found: Any, shape: tuple[int, ...], dtype: str | None = None) -> None:
    if tuple(found.shape) != tuple(shape) or (dtype is not None and found.dtype != np.dtype(dtype)):
        wanted = f"{dtype or ''}{list(shape)}"
        raise _fail(family, f"{what} is {found.dtype}{list(found.shape)}, the space and outcome say {wanted}")


def _on_device(family: DeviceFamily, tasks: tuple[Task, ...]) -> Walk:
    space, rows = family.space, jnp.asarray(task_rows(tasks))
    state, obs = _guarded(family, "reset", jax.eval_shape, family.reset, rows[0], jax.random.key(0))
    _shape(family, "reset's observation", obs, space.obs_shape, space.obs_dtype)
    action = jax.ShapeDtypeStruct(space.action_shape, np.dtype(space.action_dtype))
    after = _guarded(family, "step", jax.eval_shape, family.step, rows[0], state, action, jax.random.key(0))
    before, now = ([(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)] for tree in (state, after[0]))
    if str(jax.tree.structure(state)) != str(jax.tree.structure(after[0])) or before != now:
        raise _fail(family, "step changes the state's structure, shapes or dtypes", "a scan needs them to stay")
    _shape(family, "step's observation", after[1], space.obs_shape, space.obs_dtype)
    _shape(family, "step's reward", after[2], ())
    _shape(family, "step's terminal", after[3], (), "bool")
    _shape(family, "step's outcome", after[4], (family.outcome_dim,))

    def episode(task: jax.Array, key: jax.Array) -> Any:
        def one(carry: Any, key: jax.Array) -> Any:
            state, obs = carry
            act_key, step_key = jax.random.split(key)
            action = _uniform(family, act_key)
            state, next_obs, reward, terminal, outcome = family.step(task, state, action, step_key)
            return (state, next_obs), (obs, action, reward, next_obs, terminal, outcome)

        reset_key, steps_key = jax.random.split(key)
        steps = min(family.horizon, MOST_STEPS)
        return jax.lax.scan(one, family.reset(task, reset_key), jax.random.split(steps_key, steps))[1]

    keys = jax.random.split(jax.random.key(0), (len(tasks), EPISODES))
    play = jax.jit(jax.vmap(jax.vmap(episode, in_axes=(None, 0))))
    return Walk(*map(np.asarray, _guarded(family, "a few steps", play, rows, keys)))


def _on_host(family: HostFamily, tasks: tuple[Task, ...]) -> Walk:
    space, lead = family.space, (len(tasks), EPISODES)
    size = math.prod(lead)
    rows = np.repeat(task_rows(tasks, np.float64), EPISODES, axis=0)
    noise = np.asarray(_guarded(family, "noise", jax.vmap(family.noise), jax.random.split(jax.random.key(0), size)))
    every = np.ones(size, bool)
    found: list[tuple[np.ndarray, ...]] = []
    with _guarded(family, "simulate", family.simulate, rows) as simulator:
        obs = _guarded(family, "reset", simulator.reset, every, noise)
        # numbers of any precision become the space's, but a picture in floats would be cut to bytes unseen
        _shape(
            family,
            "reset's observations",
            obs,
            (size, *space.obs_shape),
            "uint8" if space.obs_dtype == "uint8" else None,
        )
        if not np.array_equal(obs, simulator.reset(every, noise)):
            raise _fail(family, "two resets from the same noise differ", "`noise` must decide all of a reset")
        for key in jax.random.split(jax.random.key(1), min(family.horizon, MOST_STEPS)):
            keys = jax.random.split(key, size)
            action = np.asarray(jax.vmap(lambda one: _uniform(family, one))(keys))
            held = simulator.state() if family.restorable else None
            stepped = _guarded(family, "step", simulator.step, action)
            _shape(family, "step's observations", stepped.obs, (size, *space.obs_shape))
            for name, shape in {"reward": (), "terminal": (), "diverged": (), "outcome": (family.outcome_dim,)}.items():
                _shape(family, f"step's {name}", getattr(stepped, name), (size, *shape))
            if held is not None and not found:
                simulator.restore(held)
                if not np.array_equal(simulator.step(action).obs, stepped.obs):
                    raise _fail(family, "a step after restore(state()) differs", "restorable=False says that it cannot")
            ended = stepped.terminal | stepped.diverged
            found.append((obs, action, stepped.reward, stepped.obs, ended, stepped.outcome))
            obs = simulator.reset(ended, noise) if ended.any() else stepped.obs
    columns = (np.stack(column, axis=1) for column in zip(*found, strict=True))
    return Walk(*(column.reshape(*lead, *column.shape[1:]) for column in columns))


# ---- judging ---------------------------------------------------------------------------------------------------------


def _finite(family: TaskFamily, tasks: tuple[Task, ...], walk: Walk) -> None:
    """Names the earliest step that anything is wrong at."""
    found = []
    for name in ("obs", "next_obs", "reward", "outcome"):
        values = getattr(walk, name)
        bad = ~np.isfinite(values).reshape(*walk.reward.shape, -1).all(-1) & walk.counts
        found += [(int(at[2]), name, int(at[0]), values[tuple(at)]) for at in np.argwhere(bad)]
    if found:
        step, name, task, value = min(found, key=lambda one: one[0])
        raise _fail(
            family, f"{name} at step {step} of task {tasks[task].name!r} is {_short(np.asarray(value).tolist())}"
        )


def _rewards(family: TaskFamily, tasks: tuple[Task, ...], walk: Walk) -> None:
    """The reward formula against what the steps paid."""
    if isinstance(family.reward, NoReward):
        return
    rows = task_rows(tasks)[:, None, None, :]
    columns = [np.asarray(column, np.float32 if column.dtype == np.float64 else None) for column in walk]
    obs, action, _, next_obs, _, outcome = map(jnp.asarray, columns)
    again = _guarded(family, "reward", family.reward, jnp.asarray(rows), obs, action, next_obs, outcome)
    if np.shape(again) != walk.reward.shape:
        raise _fail(
            family,
            f"reward gives shape {np.shape(again)} for rows of shape {walk.reward.shape}",
            "leading axes are free: sum over the last one only",
        )
    again = np.asarray(again, np.float64)
    wrong = ~(np.abs(again - walk.reward) <= TOLERANCE * (1 + np.abs(walk.reward))) & walk.counts
    if not wrong.any():
        return
    at = tuple(np.argwhere(wrong)[0])
    task, _, step = at
    told = {
        name: np.round(getattr(walk, name)[at].astype(float), 6).tolist()
        for name in ("obs", "action", "next_obs", "outcome")
    }
    words = ", ".join(f"{name} {_short(value)}" for name, value in told.items() if value != [])
    raise _fail(
        family,
        f"reward and step disagree in task {tasks[task].name!r} at step {step}: "
        f"step paid {walk.reward[at]:.6g}, reward gives {again[at]:.6g} for {words}",
        "the two must be one formula; what it needs and obs lacks goes into outcome",
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 160 else f"{text[:160]}..."


def _extras(family: TaskFamily, task: Task, walk: Walk) -> None:
    """The optional parts, where there are any."""
    references = _guarded(family, "references", family.references, task)
    if set(references) != {"random", "oracle", "ceiling"}:
        raise _fail(family, f"references gives {sorted(references)}", "random, oracle and ceiling; NaN where unknown")
    if family.position is not None:
        found = _guarded(family, "position", family.position, walk.obs[0, 0])
        _shape(family, "position", found, (walk.obs.shape[2], 2))
    if family.scene is not None:
        _guarded(family, "scene", family.scene, task)
    row, key = jnp.asarray(task.row()), jax.random.key(0)
    obs = jnp.asarray(walk.obs[0, 0, 0], family.space.obs_dtype)
    for name, policy in family.scripted.items():

        def first(policy: Policy = policy) -> jax.Array:
            memory = policy.start(row, policy.begin(row, key), obs, key)
            return policy.act(row, memory, obs, key, 0.0)

        _shape(family, f"the action of {name!r}", _guarded(family, name, first), family.space.action_shape)
