"""Scripted policies of the point robots: the oracles that are told the task and the searches that are not.

They are references, not optima (the oracles of the semicircle and of the wind are optimal: each axis closes its own gap
as fast as the box allows). A policy's acting state is the task's row `[P]`; only oracles read it.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from pipelines.core.types import Array, Policy, Transition
from pipelines.tasks.scripted import knowing

SPEED = 0.1


def towards(target: Array, obs: Array) -> Array:
    """Straight at `target [2]`, each axis as fast as it may. -> [2]"""
    return jnp.clip(target - obs, -SPEED, SPEED)


def along(direction: Array) -> Array:
    """The longest move of that direction that the box allows. [2] -> [2]"""
    return SPEED * direction / jnp.maximum(jnp.max(jnp.abs(direction)), 1e-12)


# ---- semicircle ------------------------------------------------------------------------------------------------------

SWEEP_RADIUS = 0.88
SWEEP_FROM = 0.15  # radians; it ends as far from pi
NUM_ANGLES = 721  # goals that the search holds possible


def sweep_path(num_steps: int) -> np.ndarray:
    """`[num_steps, 2]`: from the origin to the arc, then along it by the longest moves that the box allows."""

    def on_arc(angle: float) -> np.ndarray:
        return SWEEP_RADIUS * np.array([math.cos(angle), math.sin(angle)])

    angle, end = SWEEP_FROM, math.pi - SWEEP_FROM
    first = on_arc(angle)
    path = [np.clip(first, -SPEED * n, SPEED * n) for n in range(1, 1 + math.ceil(np.abs(first).max() / SPEED))]
    while len(path) < num_steps:
        low, high = angle, min(angle + 2 * SPEED, end)  # a chord of 0.1 along an axis is at most 0.17 rad here
        for _ in range(60):
            middle = (low + high) / 2
            fits = np.abs(on_arc(middle) - on_arc(angle)).max() <= SPEED
            low, high = (middle, high) if fits else (low, middle)
        angle = low
        path.append(on_arc(angle))
    return np.stack(path[:num_steps])


class Sweep(NamedTuple):
    """What the sweep knows."""

    step: Array  # [] int32
    possible: Array  # [NUM_ANGLES] bool, goals that fit all that was paid and not paid
    found: Array  # [] bool


def semicircle(horizon: int) -> dict[str, Policy]:
    """oracle: to the goal. search: along the arc until it is paid, from then on to the middle of what is possible."""
    angles = np.linspace(0, math.pi, NUM_ANGLES, dtype=np.float32)
    goals = np.stack([np.cos(angles), np.sin(angles)], -1)
    path = np.asarray(sweep_path(horizon), np.float32)

    def begin(task: Array, key: Array) -> Sweep:
        return Sweep(jnp.int32(0), jnp.ones((NUM_ANGLES,), bool), jnp.zeros((), bool))

    def act(task: Array, memory: Sweep, obs: Array, key: Array, explore: Any) -> Array:
        middle = jnp.sum(jnp.where(memory.possible, angles, 0.0)) / jnp.maximum(memory.possible.sum(), 1)
        goal = jnp.stack([jnp.cos(middle), jnp.sin(middle)])
        return towards(jnp.where(memory.found, goal, jnp.asarray(path)[memory.step]), obs)

    def observe(task: Array, memory: Sweep, row: Transition) -> Sweep:
        paid = row.reward > 0.5
        near = jnp.sum((row.next_obs[None] - goals) ** 2, -1) <= 0.2**2
        return Sweep(memory.step + 1, memory.possible & (near == paid), memory.found | paid)

    sweep = Policy(begin, lambda task, memory, obs, key: memory._replace(step=jnp.int32(0)), act, observe, None)
    return {"oracle": knowing(lambda task, obs: towards(task[1:3], obs)), "search": sweep}


# ---- wind ------------------------------------------------------------------------------------------------------------


def wind(goal: tuple[float, float]) -> dict[str, Policy]:
    """oracle: leans against the wind it is told. search: against the wind of the last move. blind: does not lean."""
    target = np.asarray(goal, np.float32)

    def observe(task: Array, memory: Array, row: Transition) -> Array:
        return row.next_obs - row.obs - row.action

    return {
        "oracle": knowing(lambda task, obs: towards(jnp.asarray(target) - task, obs)),
        "search": Policy(
            begin=lambda task, key: jnp.zeros((2,)),
            start=lambda task, memory, obs, key: memory,
            act=lambda task, memory, obs, key, explore: towards(jnp.asarray(target) - memory, obs),
            observe=observe,
            value=None,
        ),
        "blind": knowing(lambda task, obs: towards(jnp.asarray(target), obs)),
    }


# ---- escape room -----------------------------------------------------------------------------------------------------

SLIDE_FROM = 0.19  # radians: below it the door of a task cannot be missed on the way up
AT_WALL = 0.98
PUSH = 0.45  # outward part of a sliding move


class Slide(NamedTuple):
    """What the slide knows."""

    found: Array  # [] bool
    door: Array  # [2] a direction that leads through it


def _leave(direction: Array, obs: Array) -> Array:
    """Out along `direction`, then stay."""
    outside = jnp.sum(obs**2) > 1.0
    return jnp.where(outside, 0.0, along(direction))


def room() -> dict[str, Policy]:
    """oracle: out through the door. search: to the wall, along it with a push outward; later out where it once was."""
    first = np.asarray([math.cos(SLIDE_FROM), math.sin(SLIDE_FROM)], np.float32)

    def act(task: Array, memory: Slide, obs: Array, key: Array, explore: Any) -> Array:
        radius = jnp.sqrt(jnp.sum(obs**2))
        out = obs / jnp.maximum(radius, 1e-12)
        tangent = jnp.stack([-out[1], out[0]])
        slide = jnp.where(radius < AT_WALL, first, tangent + PUSH * out)
        return _leave(jnp.where(memory.found, memory.door, slide), obs)

    def observe(task: Array, memory: Slide, row: Transition) -> Slide:
        # It slides counter-clockwise and so meets the door's first edge: the door's middle lies ahead of where it was.
        ahead = row.next_obs / jnp.maximum(jnp.sqrt(jnp.sum(row.next_obs**2)), 1e-12)
        new = ~memory.found & (row.reward > 0.5)
        return Slide(memory.found | new, jnp.where(new, ahead, memory.door))

    search = Policy(
        begin=lambda task, key: Slide(jnp.zeros((), bool), jnp.zeros((2,))),
        start=lambda task, memory, obs, key: memory,
        act=act,
        observe=observe,
        value=None,
    )
    return {"oracle": knowing(lambda task, obs: _leave(task[1:3], obs)), "search": search}
