"""The central types. Axes: T tasks, N log rows, L sequence, B batch, E ensemble, O obs, A action, Z latent.

`[O]`, `[A]`, `[F]` stand for any shape. Everything that holds arrays is a NamedTuple of arrays only, so that it can be
stacked, mapped, donated and saved.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Params = Any  # a plain nested dict of arrays
OptState = Any
Metrics = dict[str, Array]


class Space(NamedTuple):
    """Shapes, dtypes and bounds of a family. `num_actions` is None where actions are continuous."""

    obs_shape: tuple[int, ...]
    action_shape: tuple[int, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    num_actions: int | None = None
    obs_dtype: str = "float32"
    action_dtype: str = "float32"

    @property
    def obs_dim(self) -> int:
        return int(np.prod(self.obs_shape))

    @property
    def action_dim(self) -> int:
        return int(np.prod(self.action_shape))

    def to_json(self) -> dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Space":
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}
        return cls(**fields)


class Transition(NamedTuple):
    """A view of a batch of log rows. Leading axes are free; `[]` means scalar per row.

    `next_obs` is the true successor, never the reset. `terminal` means no bootstrap and nothing else; `truncated` means
    that recording stopped. `outcome [F]` is what the reward needs and the observation lacks.
    """

    obs: Array  # [O]
    action: Array  # [A]
    reward: Array  # []
    next_obs: Array  # [O]
    terminal: Array  # [] bool
    truncated: Array  # [] bool
    outcome: Array  # [F]


class Log(NamedTuple):
    """One task's replay log in time order (or a stack of them with a leading T).

    Observations are stored once: an episode of h steps takes h + 1 slots, so row n of episode e has its observation in
    slot n + e and its successor in slot n + e + 1. Rows of an episode are contiguous.
    """

    obs: Array  # [N + episodes, O]
    action: Array  # [N, A]
    reward: Array  # [N]
    terminal: Array  # [N] bool
    truncated: Array  # [N] bool
    outcome: Array  # [N, F]
    episode: Array  # [N] int32, counts from 0
    step: Array  # [N] int32, step within the episode
    behaviour: Array  # [N] int32, learner updates done when the action was chosen
    size: Array  # [] int32, rows that hold data


def transitions(log: Log, rows: Array) -> Transition:
    """The rows `[...]` of one task's log as a batch of transitions `[..., *]`."""
    slot = rows + log.episode[rows]
    return Transition(
        obs=log.obs[slot],
        action=log.action[rows],
        reward=log.reward[rows],
        next_obs=log.obs[slot + 1],
        terminal=log.terminal[rows],
        truncated=log.truncated[rows],
        outcome=log.outcome[rows],
    )


class Task(NamedTuple):
    """A task is a row of numbers with an id and a name."""

    id: int
    name: str
    split: str
    params: dict[str, float]

    def row(self) -> np.ndarray:
        """`[P]` float32, in the order of `params`."""
        return np.asarray(list(self.params.values()), np.float32)

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "name": self.name, "split": self.split, "params": dict(self.params)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Task":
        return cls(data["id"], data["name"], data["split"], dict(data["params"]))


def task_rows(tasks: tuple[Task, ...]) -> np.ndarray:
    """`[T, P]` float32."""
    return np.stack([task.row() for task in tasks])


@dataclass(frozen=True)
class TaskFamily:
    """A family on a device engine: pure functions of one task's row `task [P]`.

    reset(task, key) -> (state, obs [O])
    step(task, state, action [A], key) -> (state, obs [O], reward [], terminal [], outcome [F])
    reward(task, obs, action, next_obs, outcome) -> [], the one definition: the environment pays it, relabelling uses it
    references(task) -> {"random", "oracle", "ceiling": float}, undiscounted returns over one horizon (NaN: unknown)
    """

    name: str
    space: Space
    horizon: int
    discount: float
    outcome_dim: int
    terminates: bool
    tasks: Callable[[str], tuple[Task, ...]]
    reset: Callable[[Array, Array], tuple[Any, Array]]
    step: Callable[[Array, Any, Array, Array], tuple[Any, Array, Array, Array, Array]]
    reward: Callable[[Array, Array, Array, Array, Array], Array]
    references: Callable[[Task], dict[str, float]]
    engine: str = "device"


@dataclass(frozen=True)
class Policy:
    """How a learned state acts on one task. Memory has fixed shapes.

    begin(state, key) -> memory                       a new task
    start(state, memory, obs, key) -> memory          each episode
    act(state, memory, obs, key, explore) -> action   `explore` in [0, 1], 0 is greedy
    observe(state, memory, transition) -> memory
    value(state, memory, obs, action) -> []           or None
    """

    begin: Callable[[Any, Array], Any]
    start: Callable[[Any, Any, Array, Array], Any]
    act: Callable[[Any, Any, Array, Array, Any], Array]
    observe: Callable[[Any, Any, Transition], Any]
    value: Callable[[Any, Any, Array, Array], Array] | None


def memoryless(
    act: Callable[[Any, Array, Array, Any], Array], value: Callable[[Any, Array, Array], Array] | None
) -> Policy:
    """A policy that remembers nothing: act(state, obs, key, explore), value(state, obs, action)."""
    empty = jnp.zeros((0,))
    return Policy(
        begin=lambda state, key: empty,
        start=lambda state, memory, obs, key: memory,
        act=lambda state, memory, obs, key, explore: act(state, obs, key, explore),
        observe=lambda state, memory, transition: memory,
        value=None if value is None else lambda state, memory, obs, action: value(state, obs, action),
    )


@dataclass(frozen=True)
class Algorithm:
    """Whatever learns. Per-task algorithms see one task; across-task ones see a leading T in data and batch.

    init(key, data) -> state (data None: learns online); sample(data, key) -> batch;
    update(state, batch, key, step) -> (state, metrics);
    acting(state) -> `acting_type`, the part of the state that acting needs (what snapshots and artifacts keep);
    policy works on acting(state). `q(acting, obs, action) -> []` is the teacher's value where there is one.
    """

    init: Callable[[Array, Any], Any]
    sample: Callable[[Any, Array], Any]
    update: Callable[[Any, Any, Array, Array], tuple[Any, Metrics]]
    acting: Callable[[Any], Any]
    acting_type: type
    policy: Policy
    q: Callable[[Any, Array, Array], Array] | None = None
