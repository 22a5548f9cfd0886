"""Point robots that must find out where to go, or what moves them (BOReL section 5).

A robot at s moves by an action of at most 0.1 along each axis and sees its position only.

point-semicircle-sparse   s' = s + a; paid 1 within 0.2 of a goal on the unit semicircle, angle U[0, pi]
point-wind                s' = s + a + w, w in U[-0.05, 0.05]^2; paid 1 within 0.2 of (0, 1); tasks differ in dynamics
escape-room               a round wall of radius 1 with a door pi/8 wide, centre U[0, pi]; paid 1 outside it. A move
                          that meets the ring 0.999 <= r <= 1 passes if it meets it in the door; else the robot is put
                          at radius 0.99 in the direction the move looked to, which lets it slide along the wall

`start` says where episodes of a log begin; evaluation begins at the origin (`fixed`), and references are of that start.

Differs: BOReL draws one task per seed and keeps no list; here train tasks are one draw of RandomState(0), test tasks
of RandomState(73), the seed of its evaluation tasks. Its `terminals` mark "in the goal" and end no episode: nothing is
terminal here. The door's angle wraps (a door at pi reaches below the x axis). Of `excluding`, 16 draws are made at once
and the first good one is taken; the origin stands in where none is (once in 10^8). Wind always begins at the origin.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.core.types import About, Array, DeviceFamily, Policy, Scene, Shape, Space, Task
from pipelines.tasks import searches
from pipelines.tasks.scripted import references

SPEED = 0.1
GOAL_RADIUS = 0.2
DISCOUNT = 0.9
SPACE = Space(obs_shape=(2,), action_shape=(2,), low=(-SPEED, -SPEED), high=(SPEED, SPEED))
TRAIN_SEED, TEST_SEED = 0, 73
LOW, HIGH = (-1.5, -0.5), (1.5, 1.5)  # the rectangle of uniform starts
ANNULUS = (0.8, 1.2)  # left out by `excluding`
NUM_DRAWS = 16
WIND = 0.05
WIND_GOAL = (0.0, 1.0)
RING = (0.999, 1.0)
BLOCKED = 0.99  # the radius at which a move that the wall stops ends
HALF_DOOR = math.pi / 16

Reset = Callable[[Array, Array], tuple[Array, Array]]


# ---- tasks -----------------------------------------------------------------------------------------------------------


def _angle_tasks(split: str, num_train: int, num_test: int) -> tuple[Task, ...]:
    """Angles U[0, pi]; the id is the angle in millionths of a radian."""
    draws = {"train": (TRAIN_SEED, num_train), "test": (TEST_SEED, num_test)}
    if split not in draws:
        return ()
    seed, count = draws[split]
    angles = np.random.RandomState(seed).uniform(0, math.pi, count)
    return tuple(
        Task(round(a * 1e6), f"{math.degrees(a):.3f}deg", split, {"angle": a, "x": math.cos(a), "y": math.sin(a)})
        for a in map(float, angles)
    )


def semicircle_tasks(split: str) -> tuple[Task, ...]:
    """80 and 20 goals. params (angle, x, y)"""
    return _angle_tasks(split, 80, 20)


def room_tasks(split: str) -> tuple[Task, ...]:
    """60 and 5 doors. params (angle, x, y) of the door's centre"""
    return _angle_tasks(split, 60, 5)


def wind_tasks(split: str) -> tuple[Task, ...]:
    """40 and 10 winds. params (x, y); the id is the place in the list, test winds from 10,000."""
    draws = {"train": (TRAIN_SEED, 40, 0), "test": (TEST_SEED, 10, 10_000)}
    if split not in draws:
        return ()
    seed, count, first = draws[split]
    winds = np.random.RandomState(seed).uniform(-WIND, WIND, (count, 2))
    return tuple(
        Task(first + n, f"({x:+.4f},{y:+.4f})", split, {"x": x, "y": y}) for n, (x, y) in enumerate(winds.tolist())
    )


# ---- where episodes begin --------------------------------------------------------------------------------------------


def start_fixed(task: Array, key: Array) -> tuple[Array, Array]:
    """The origin. -> (state [2], obs [2]), as of all the starts"""
    return jnp.zeros((2,)), jnp.zeros((2,))


def start_uniform(task: Array, key: Array) -> tuple[Array, Array]:
    """Uniform over the rectangle."""
    place = jax.random.uniform(key, (2,), minval=jnp.asarray(LOW), maxval=jnp.asarray(HIGH))
    return place, place


def start_excluding(task: Array, key: Array) -> tuple[Array, Array]:
    """Uniform over the rectangle without the annulus 0.8 <= r <= 1.2, all of it."""
    places = jax.random.uniform(key, (NUM_DRAWS, 2), minval=jnp.asarray(LOW)[None], maxval=jnp.asarray(HIGH)[None])
    radius = jnp.sqrt(jnp.sum(places**2, -1))
    good = (radius < ANNULUS[0]) | (radius > ANNULUS[1])
    place = jnp.where(good.any(), places[good.argmax()], 0.0)
    return place, place


def start_in_room(task: Array, key: Array) -> tuple[Array, Array]:
    """Angle U[-pi, pi], radius U[0, 1] (denser at the centre)."""
    angle, radius = jax.random.uniform(key, (2,), minval=jnp.asarray([-math.pi, 0.0]), maxval=jnp.asarray([math.pi, 1]))
    place = radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    return place, place


# ---- rewards and moves -----------------------------------------------------------------------------------------------


def _within(next_obs: Any, x: Any, y: Any) -> Any:
    """1 within GOAL_RADIUS of (x, y), else 0. [..., 2] -> [...]"""
    xp = next_obs.__array_namespace__()
    near = (next_obs[..., 0] - x) ** 2 + (next_obs[..., 1] - y) ** 2 <= GOAL_RADIUS**2
    return xp.astype(near, next_obs.dtype)


def semicircle_reward(task: Any, obs: Any, action: Any, next_obs: Any, outcome: Any) -> Any:
    """1 within 0.2 of the goal after the move, else 0. task [..., 3] = (angle, x, y); -> [...]"""
    return _within(next_obs, task[..., 1], task[..., 2])


def wind_reward(task: Any, obs: Any, action: Any, next_obs: Any, outcome: Any) -> Any:
    """1 within 0.2 of (0, 1) after the move, else 0, whatever the wind. -> [...]"""
    return _within(next_obs, *WIND_GOAL)


def room_reward(task: Any, obs: Any, action: Any, next_obs: Any, outcome: Any) -> Any:
    """1 outside the room, else 0, whatever the door. -> [...]"""
    xp = next_obs.__array_namespace__()
    return xp.astype(next_obs[..., 0] ** 2 + next_obs[..., 1] ** 2 > 1.0, next_obs.dtype)


def walled(task: Array, state: Array, action: Array) -> Array:
    """The place after a move in the room. task [3] = (angle, x, y) of the door; [2], [2] -> [2]

    Where the segment s + t a first meets the ring: from inside at its inner circle, from outside at its outer one, at
    t = 0 where it begins in it.
    """
    ahead = state + action
    # sums, not dot products: those are rounded to 10 bits on some accelerators, and the ring is a thousandth wide
    length, along, radius2 = jnp.sum(action**2), jnp.sum(state * action), jnp.sum(state**2)
    inside, outside = radius2 < RING[0] ** 2, radius2 > RING[1] ** 2
    # t solves length t^2 + 2 along t + radius^2 = ring^2
    gap = radius2 - jnp.where(inside, RING[0], RING[1]) ** 2
    root2 = along**2 - length * gap
    root = jnp.sqrt(jnp.maximum(root2, 0.0))
    t = (-along + jnp.where(inside, root, -root)) / jnp.where(length > 0, length, 1.0)
    t = jnp.where(inside | outside, t, 0.0)
    meets = ~(inside | outside) | ((root2 >= 0) & (t >= 0) & (t <= 1) & (length > 0))
    hit = state + t * action
    in_door = hit[0] * task[1] + hit[1] * task[2] >= math.cos(HALF_DOOR) * jnp.sqrt(jnp.sum(hit**2))
    blocked = BLOCKED * ahead / jnp.maximum(jnp.sqrt(jnp.sum(ahead**2)), 1e-12)
    return jnp.where(meets & ~in_door, blocked, ahead)


# ---- pictures --------------------------------------------------------------------------------------------------------


def _arc(low: float, high: float) -> tuple[float, ...]:
    """A polyline along the unit circle, at most two degrees a piece."""
    angles = np.linspace(low, high, 2 + math.ceil((high - low) / math.radians(2)))
    return tuple(float(number) for angle in angles for number in (math.cos(angle), math.sin(angle)))


def semicircle_scene(task: Task) -> Scene:
    """The semicircle and the goal's disc."""
    goal = Shape("circle", (task.params["x"], task.params["y"], GOAL_RADIUS), "goal")
    return Scene((-2.0, -1.0), (2.0, 2.0), (Shape("line", _arc(0, math.pi), "floor"), goal))


def wind_scene(task: Task) -> Scene:
    """The goal's disc, and ten steps of wind from the origin."""
    wind = Shape("line", (0.0, 0.0, 10 * task.params["x"], 10 * task.params["y"]), "floor")
    return Scene((-1.0, -0.75), (1.0, 1.75), (wind, Shape("circle", (*WIND_GOAL, GOAL_RADIUS), "goal")))


def room_scene(task: Task) -> Scene:
    """The wall, and the door as the goal."""
    low, high = task.params["angle"] - HALF_DOOR, task.params["angle"] + HALF_DOOR
    wall = Shape("line", _arc(high, low + 2 * math.pi), "wall")
    return Scene((-2.0, -2.0), (2.0, 2.0), (wall, Shape("line", _arc(low, high), "goal")))


# ---- families --------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A family's column of differences."""

    horizon: int
    num_episodes: int  # of the trial behind the ceiling
    tasks: Callable[[str], tuple[Task, ...]]
    starts: dict[str, tuple[Reset, str]]
    move: Callable[[Array, Array, Array], Array]
    reward: Callable[[Any, Any, Any, Any, Any], Any]
    formula: str
    scene: Callable[[Task], Scene]
    scripted: dict[str, Policy]
    dynamics: bool = False
    wall: float | None = None


_ORIGIN = (start_fixed, "(0, 0)")
ROWS: dict[str, Row] = {
    "point-semicircle-sparse/borel": Row(
        horizon=60,
        num_episodes=2,
        tasks=semicircle_tasks,
        starts={
            "uniform": (start_uniform, "U[-1.5, 1.5] x U[-0.5, 1.5]"),
            "excluding": (start_excluding, "U[-1.5, 1.5] x U[-0.5, 1.5] but for 0.8 <= r <= 1.2"),
            "fixed": _ORIGIN,
        },
        move=lambda task, state, action: state + action,
        reward=semicircle_reward,
        formula="1 if |s' - goal| <= 0.2 else 0",
        scene=semicircle_scene,
        scripted=searches.semicircle(60),
    ),
    "point-wind/borel": Row(
        horizon=25,
        num_episodes=1,
        tasks=wind_tasks,
        starts={"fixed": _ORIGIN},
        move=lambda task, state, action: state + action + task,
        reward=wind_reward,
        formula="1 if |s' - (0, 1)| <= 0.2 else 0",
        scene=wind_scene,
        scripted=searches.wind(WIND_GOAL),
        dynamics=True,
    ),
    "escape-room/borel": Row(
        horizon=60,
        num_episodes=2,
        tasks=room_tasks,
        starts={"uniform": (start_in_room, "angle U[-pi, pi], radius U[0, 1]"), "fixed": _ORIGIN},
        move=walled,
        reward=room_reward,
        formula="1 if |s'| > 1 else 0",
        scene=room_scene,
        scripted=searches.room(),
        dynamics=True,
        wall=BLOCKED,
    ),
}


def _family(name: str, start: str) -> DeviceFamily:
    row = ROWS[name]
    reset, begins = row.starts[start]

    def step(task: Array, state: Array, action: Array, key: Array) -> tuple[Array, Array, Array, Array, Array]:
        nxt = row.move(task, state, jnp.clip(action, -SPEED, SPEED))
        outcome = jnp.zeros((0,))
        return nxt, nxt, row.reward(task, state, action, nxt, outcome), jnp.zeros((), bool), outcome

    return DeviceFamily(
        name=name,
        space=SPACE,
        horizon=row.horizon,
        discount=DISCOUNT,
        tasks=row.tasks,
        reset=reset,
        step=step,
        reward=row.reward,
        dynamics=row.dynamics,
        about=About(
            reward=row.formula,
            start=begins,
            source="BOReL section 5",
            differs=("tasks regenerated from seeds 0 and 73; being in the goal is not terminal",),
        ),
        position=lambda obs: obs[..., :2],
        scene=row.scene,
        scripted=row.scripted,
        goal_reward=0.5,
        wall=row.wall,
    )


def build(name: str, options: Mapping[str, str]) -> DeviceFamily:
    """The family of that name. `start`: uniform, excluding (semicircle only) or fixed."""
    row = ROWS[name]
    evaluated = _family(name, "fixed")
    found = references(evaluated, row.scripted["oracle"], row.scripted["search"], row.num_episodes)
    family = _family(name, options.get("start", "fixed"))
    return dataclasses.replace(family, references=found)
