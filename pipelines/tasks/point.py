"""Point on a plane that must find a goal on a semicircle (tiMe section 5.1; `point-semicircle`).

The agent starts at (0, 0), moves by (dx, dy) with |dx|, |dy| <= 1, and is paid minus its distance to the goal after the
move. It sees its position, never the goal. Goals lie on a semicircle of radius 10.

Differs: the paper prints the reward as of "the current location" and gives no horizon; the reward is of the location
after the move, the horizon is 20 and the discount 0.95. The `spread` variant is ours: 15 training goals, evenly spaced
from 0 to 180 degrees, and the 14 midpoints between them as test goals. The `disjoint` variant is ours, too: MBML's
Fig. 1 draws two tasks whose logs do not overlap, and two goals on opposite sides of the start come nearest to it; what
the logs of two agents share is the start and what they tried before they had learned.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from pipelines.core.types import About, Array, DeviceFamily, Scene, Shape, Space, Task
from pipelines.tasks.scripted import knowing

RADIUS = 10.0
HORIZON = 20
DISCOUNT = 0.95
SPACE = Space(obs_shape=(2,), action_shape=(2,), low=(-1.0, -1.0), high=(1.0, 1.0))
NUM_SHOTS = 100  # random shooting, tiMe appendix B


def reset(task: Array, key: Array) -> tuple[Array, Array]:
    """Always the origin. -> (state [2], obs [2])"""
    position = jnp.zeros((2,))
    return position, position


def reward(task: Any, obs: Any, action: Any, next_obs: Any, outcome: Any) -> Any:
    """Minus the distance to the goal after the move. task [..., 3] = (angle, x, y); -> [...]"""
    xp = next_obs.__array_namespace__()
    return -xp.sqrt(xp.sum((next_obs - task[..., 1:3]) ** 2, axis=-1))


def step(task: Array, state: Array, action: Array, key: Array) -> tuple[Array, Array, Array, Array, Array]:
    """-> (state [2], obs [2], reward [], terminal [], outcome [0])"""
    nxt = state + jnp.clip(action, -1.0, 1.0)
    outcome = jnp.zeros((0,))
    return nxt, nxt, reward(task, state, action, nxt, outcome), jnp.zeros((), bool), outcome


def tasks_at(angles: list[float], split: str) -> tuple[Task, ...]:
    """One task per angle (degrees). The id is the angle in thousandths of a degree: it survives other task lists."""

    def one(angle: float) -> Task:
        x, y = RADIUS * math.cos(math.radians(angle)), RADIUS * math.sin(math.radians(angle))
        return Task(round(angle * 1000), f"{angle:g}deg", split, {"angle": angle, "x": x, "y": y})

    return tuple(one(angle) for angle in angles)


def time_tasks(split: str) -> tuple[Task, ...]:
    """Three goals that divide the semicircle into two equal arcs; the test goals coincide with the training goals."""
    return tasks_at([0.0, 90.0, 180.0], split) if split in ("train", "test") else ()


def spread_tasks(split: str) -> tuple[Task, ...]:
    """15 training goals, 14 midpoints as test goals."""
    gap = 180.0 / 14
    angles = {"train": [round(gap * k, 6) for k in range(15)], "test": [round(gap * (k + 0.5), 6) for k in range(14)]}
    return tasks_at(angles.get(split, []), split)


def disjoint_tasks(split: str) -> tuple[Task, ...]:
    """The two goals that lie opposite each other, seen from the start; the test goals are the training goals."""
    return tasks_at([0.0, 180.0], split) if split in ("train", "test") else ()


def scene(task: Task) -> Scene:
    """The semicircle and the goal, a disc of one step."""
    angles = np.linspace(0, math.pi, 91)
    arc = np.stack([RADIUS * np.cos(angles), RADIUS * np.sin(angles)], -1)
    goal = Shape("circle", (task.params["x"], task.params["y"], 1.0), "goal")
    return Scene((-12.0, -4.0), (12.0, 12.0), (Shape("line", tuple(arc.ravel().tolist()), "floor"), goal))


# ---- references: what the best and the worst can do ------------------------------------------------------------------


def optimal_action(position: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Exact: each axis closes its own gap as fast as the box allows, which minimises every later distance at once."""
    return np.clip(goal - position, -1.0, 1.0)


def exact_q(position: np.ndarray, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Q*(s, a) of the continuing problem at DISCOUNT, in closed form. [..., 2] each -> [...]

    After the move the optimal action closes each axis by 1 a step, so the distances to come are known; all are 0 after
    as many steps as the farther axis is away.
    """
    gap = np.abs(goal - (position + np.clip(action, -1, 1)))
    steps = np.arange(math.ceil(gap.max()) + 1 if gap.size else 1)
    left = np.maximum(gap[..., None, :] - steps[:, None], 0.0)
    return -(np.linalg.norm(left, axis=-1) * DISCOUNT**steps).sum(-1)


def _rollout(goal: np.ndarray, choose: Callable[[int, np.ndarray], np.ndarray], episodes: int) -> np.ndarray:
    """Undiscounted returns `[episodes]` of choose(t, position [episodes, 2]) -> action over one horizon."""
    position, total = np.zeros((episodes, 2)), np.zeros(episodes)
    for t in range(HORIZON):
        position = position + np.clip(choose(t, position), -1, 1)
        total -= np.linalg.norm(position - goal, axis=-1)
    return total


@functools.cache
def _references(x: float, y: float) -> dict[str, float]:
    goal = np.asarray([x, y])
    rng = np.random.default_rng(0)

    def shoot(t: int, position: np.ndarray) -> np.ndarray:
        shots = rng.uniform(-1, 1, (len(position), NUM_SHOTS, 2))
        if t == 0:  # blind: nothing observed yet, any action is as good as another
            return shots[:, 0]
        best = exact_q(position[:, None], shots, goal).argmax(-1)
        return shots[np.arange(len(position)), best]

    return {
        "oracle": float(_rollout(goal, lambda t, p: optimal_action(p, goal), 1)[0]),
        "random": float(_rollout(goal, lambda t, p: rng.uniform(-1, 1, p.shape), 5_000).mean()),
        "ceiling": float(_rollout(goal, shoot, 400).mean()),
    }


def references(task: Task) -> dict[str, float]:
    """Undiscounted returns over one horizon, own seeded generator.

    random: uniform actions, mean of 5,000 episodes (standard error about 0.2). oracle: exact optimum. ceiling: exact
    Q* with 100 random shots and one blind (uniform) first step, mean of 400 episodes: what a method that must act once
    before it can know the goal, and that picks actions by random shooting, can reach.
    """
    return _references(task.params["x"], task.params["y"])


def _family(variant: str, tasks: Callable[[str], tuple[Task, ...]], source: str, differs: str) -> DeviceFamily:
    return DeviceFamily(
        name=f"point-semicircle/{variant}",
        space=SPACE,
        horizon=HORIZON,
        discount=DISCOUNT,
        tasks=tasks,
        reset=reset,
        step=step,
        reward=reward,
        references=references,
        about=About(reward="-|s' - goal|", start="(0, 0)", source=source, differs=(differs,)),
        position=lambda obs: obs[..., :2],
        scene=scene,
        scripted={"oracle": knowing(lambda task, obs: jnp.clip(task[1:3] - obs, -1.0, 1.0))},
    )


TIME = _family("time", time_tasks, "tiMe 5.1", "horizon 20 and discount 0.95 are ours; paid after the move")
SPREAD = _family("spread", spread_tasks, "ours", "15 training goals, unseen test goals at their midpoints")
DISJOINT = _family("disjoint", disjoint_tasks, "ours, after MBML Fig. 1", "two goals whose logs hardly overlap")
FAMILIES = {family.name: family for family in (TIME, SPREAD, DISJOINT)}


def build(name: str, options: Mapping[str, str]) -> DeviceFamily:
    """The family of that name."""
    return FAMILIES[name]
