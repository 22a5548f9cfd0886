"""The central types. Axes: T tasks, N log rows, L sequence, B batch, E ensemble, O obs, A action, Z latent.

`[O]`, `[A]`, `[F]` stand for any shape. Everything that holds arrays is a NamedTuple of arrays only, so that it can be
stacked, mapped, donated and saved.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

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


class Relabelled(NamedTuple):
    """Rows of other tasks' logs with rewards of this task. Indices and new rewards, never copies.

    M rows in all. Single rows are ordered by the task they come from, then by row; whole episodes by the episode of
    this task's own log in whose place they stand, then in time.
    """

    log: Array  # [M] int32, which of the artifact's parent logs
    task: Array  # [M] int32, index of the task that the row was collected in
    row: Array  # [M] int32, its number in that task's log
    reward: Array  # [M] what this task pays for it
    spread: Array  # [M] the ensemble's disagreement, in units of the reward; 0 where the reward is known
    next_obs: Array  # [M, O] where this task would have led; [M, 0] where the dynamics are the same
    place: Array  # [M] int32, the own episode that it replaces; -1 for single rows


class Task(NamedTuple):
    """A task is a row of numbers with an id and a name."""

    id: int
    name: str
    split: str
    params: dict[str, float]

    def row(self, dtype: Any = np.float32) -> np.ndarray:
        """`[P]`, in the order of `params`."""
        return np.asarray(list(self.params.values()), dtype)

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "name": self.name, "split": self.split, "params": dict(self.params)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Task":
        return cls(data["id"], data["name"], data["split"], dict(data["params"]))


def task_rows(tasks: tuple[Task, ...], dtype: Any = np.float32) -> np.ndarray:
    """`[T, P]`; float32 for jax, float64 for host engines."""
    return np.stack([task.row(dtype) for task in tasks])


@dataclass(frozen=True)
class About:
    """What a listing says of a family: one line each."""

    reward: str  # the formula, in the paper's letters
    start: str  # where episodes begin
    ends: str = "never before the horizon"
    source: str = ""
    differs: tuple[str, ...] = ()  # from the paper, or from the family's other variants


class Shape(NamedTuple):
    """A mark of a picture drawn from above. `kind`: circle (x, y, radius), box (x, y, half-width, half-height; filled
    if `solid`), line (x0, y0, x1, y1, ...). `role`: goal, wall or floor."""

    kind: str
    numbers: tuple[float, ...]
    role: str = "wall"
    solid: bool = False


class Scene(NamedTuple):
    """What a task looks like from above."""

    low: tuple[float, float]
    high: tuple[float, float]
    shapes: tuple[Shape, ...]


class Solid(NamedTuple):
    """What a 3D picture of a family needs: its mechanics as a compiled `mujoco.MjModel`, and where in an engine's state
    the joints are."""

    model: Callable[[np.ndarray], Any]  # a task's row [P] -> MjModel
    qpos: Callable[[Any], np.ndarray]  # the engine's states [N, ...] -> [N, nq]
    substeps: int  # the model's time steps in a control step


def nothing_known(task: Task) -> dict[str, float]:
    """References of a family that has none."""
    return {"random": float("nan"), "oracle": float("nan"), "ceiling": float("nan")}


@dataclass(frozen=True, kw_only=True)
class TaskFamily:
    """A family of tasks. Its engine is one of the two kinds below; everything else is common to both.

    tasks(split) -> the tasks of `train`, `test` or `ood`, () where there are none
    reward(task [..., P], obs [..., O], action [..., A], next_obs [..., O], outcome [..., F]) -> [...], the one
        definition: the environment pays it, relabelling uses it. Array-API code: numpy and jax, leading axes free
    references(task) -> {"random", "oracle", "ceiling": float}, undiscounted returns over one horizon (NaN: unknown)
    position(obs [..., O]) -> [..., 2] and scene(task): where an agent is from above, and what surrounds it
    scripted: policies that were written, not learned (`oracle`, ...); their acting state is the task's row [P]
    solid: the mechanics, for pictures in 3D
    may_fail: whether the engine's physics may fail, which cuts an episode; those of any HostFamily may
    goal_reward: where a step that pays more has reached the goal, and no other pays as much; None: nothing says so
    wall: the radius at which a round wall around the origin stops an agent; tasks differ in its door. None: no wall
    trial_references(k) -> {"bayes", ...: float}, exact undiscounted sums over k episodes from where evaluation begins,
        means over the tasks, of policies that are not told the task; `bayes` is the best there can be
    """

    name: str
    space: Space
    horizon: int
    discount: float
    tasks: Callable[[str], tuple[Task, ...]]
    reward: Callable[[Any, Any, Any, Any, Any], Any]
    outcome: tuple[str, ...] = ()  # names of what the reward needs and the observation lacks
    terminates: bool = False
    dynamics: bool = False  # whether tasks differ in their dynamics
    references: Callable[[Task], dict[str, float]] = nothing_known
    about: About = About(reward="", start="")
    position: Callable[[Any], Any] | None = None
    scene: Callable[[Task], Scene] | None = None
    scripted: "Mapping[str, Policy]" = field(default_factory=dict)
    solid: Solid | None = None
    may_fail: bool = False
    goal_reward: float | None = None
    wall: float | None = None
    trial_references: Callable[[int], dict[str, float]] | None = None

    @property
    def outcome_dim(self) -> int:
        return len(self.outcome)


@dataclass(frozen=True, kw_only=True)
class DeviceFamily(TaskFamily):
    """Pure functions of one task's row `task [P]`, rolled out inside one scan.

    reset(task, key) -> (state, obs [O])
    step(task, state, action [A], key) -> (state, obs [O], reward [], terminal [], outcome [F])
    """

    reset: Callable[[Array, Array], tuple[Any, Array]]
    step: Callable[[Array, Any, Array, Array], tuple[Any, Array, Array, Array, Array]]
    engine: str = "device"


class Stepped(NamedTuple):
    """One control step of B environments of a host engine, in numpy.

    `diverged`: the physics failed. Such an environment was put back to where it was before the step; its observation is
    the last finite one, its outcome 0, and its caller should end the episode.
    """

    obs: np.ndarray  # [B, O], the true successor, never the reset
    reward: np.ndarray  # [B]
    terminal: np.ndarray  # [B] bool
    outcome: np.ndarray  # [B, F]
    diverged: np.ndarray  # [B] bool


class Simulator(Protocol):
    """B environments of a host engine, one task each. A context manager: leaving it frees threads and memory."""

    def reset(self, mask: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """New episodes where `mask [B]`, begun from `noise [B, N]`. -> obs [B, O] of all."""

    def step(self, action: np.ndarray) -> Stepped:
        """`action [B, A]` in the units of the space."""

    def state(self) -> np.ndarray:
        """`[B, S]` float64: all that the future depends on."""

    def restore(self, state: np.ndarray) -> np.ndarray:
        """Goes on from `state [B, S]`, to the bit. -> obs [B, O]"""

    def __enter__(self) -> "Simulator": ...

    def __exit__(self, *exc: Any) -> None: ...


@dataclass(frozen=True, kw_only=True)
class HostFamily(TaskFamily):
    """A simulator outside jax, many environments a call.

    simulate(tasks [B, P] float64) -> Simulator
    noise(key) -> [N], the randomness of one reset, drawn by jax
    """

    simulate: Callable[[np.ndarray], Simulator]
    noise: Callable[[Array], Array]
    restorable: bool = True  # False: `state` is not all that the future depends on
    engine: str = "host"


class Latent(NamedTuple):
    """What an encoder makes of all that a memory has been shown: a posterior's mean and standard deviation."""

    mean: Array  # [Z]
    spread: Array  # [Z], 0 where the encoder gives one point


@dataclass(frozen=True)
class Policy:
    """How a learned state acts on one task. Memory has fixed shapes.

    begin(state, key) -> memory                       a new task
    start(state, memory, obs, key) -> memory          each episode
    act(state, memory, obs, key, explore) -> action   `explore` in [0, 1], 0 is greedy
    observe(state, memory, transition) -> memory
    value(state, memory, obs, action) -> []           or None
    latent(state, memory) -> Latent                   or None, where no task is inferred
    """

    begin: Callable[[Any, Array], Any]
    start: Callable[[Any, Any, Array, Array], Any]
    act: Callable[[Any, Any, Array, Array, Any], Array]
    observe: Callable[[Any, Any, Transition], Any]
    value: Callable[[Any, Any, Array, Array], Array] | None
    latent: Callable[[Any, Any], Latent] | None = None


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


class Held(NamedTuple):
    """A meta-policy's value on one task, its idea of the task held fixed."""

    params: Params  # what may be learned on
    held: Any  # a tree of real numbers that stays as it is: the latent, scales
    normaliser: Any  # a Normaliser: how its nets see observations


@dataclass(frozen=True)
class HeldCritic:
    """How another algorithm goes on from a meta-policy's value (MBML section 5.3).

    take(acting, memory) -> Held
    q(params, held, features [..., F], action [..., A]) -> [...], in units of the reward, of normalised observations
        and actions in [-1, 1]
    """

    take: Callable[[Any, Any], Held]
    q: Callable[[Params, Any, Array, Array], Array]


@dataclass(frozen=True)
class Algorithm:
    """Whatever learns. Per-task algorithms see one task; across-task ones see a leading T in data and batch.

    init(key, data) -> state (data None: learns online); sample(data, key) -> batch;
    update(state, batch, key, step) -> (state, metrics);
    acting(state) -> `acting_type`, the part of the state that acting needs (what snapshots and artifacts keep);
    policy works on acting(state). What others distil, where there is one, on leading axes as they come:
    `q(acting, obs, action) -> []`, the teacher's value;
    `propose(acting, obs, noise [Z]) -> action`, its generator, Z = `noise_dim`; `perturb(acting, obs, action) -> [A]`
    in (-1, 1), how a proposal should be moved, in units of the furthest that it may be.
    `critic`: what may be learned on in a new task, of a meta-policy that has it.
    """

    init: Callable[[Array, Any], Any]
    sample: Callable[[Any, Array], Any]
    update: Callable[[Any, Any, Array, Array], tuple[Any, Metrics]]
    acting: Callable[[Any], Any]
    acting_type: type
    policy: Policy
    q: Callable[[Any, Array, Array], Array] | None = None
    propose: Callable[[Any, Array, Array], Array] | None = None
    perturb: Callable[[Any, Array, Array], Array] | None = None
    noise_dim: int = 0  # Z, of `propose`
    noise_clip: float = 1.0  # its noise is drawn from N(0, I) and held within this
    reach: float = 0.0  # how far `perturb` may move a proposal
    critic: HeldCritic | None = None
