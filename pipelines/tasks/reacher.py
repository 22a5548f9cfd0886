"""A two-link arm that sees itself from above, and must find a target it does not see (BOReL's Reacher-Image).

The observation is the last three frames of 64 x 64 grey levels, newest last: links at half brightness, the fingertip at
full, the target not drawn. It is paid minus the fingertip's distance (m) to the target, which lies on a quarter circle
of radius 0.13 around the shoulder, at an angle U[pi/2, pi]. One control step holds torques for four steps of 0.02 s.

The mechanics are those of dm_control's reacher: links 0.12 m apart (capsules of radius 0.01 m, 0.12 and 0.1 m long; a
sphere as fingertip), torques of 0.05 N m, damping 0.01 N m s, a wrist that turns by 160 degrees. They are written out
here: M(q) q'' + C(q, q') = torque - damping q', one Euler step with the damping implicit, as MuJoCo takes it.

Differs: BOReL's appendix D is lost; from its PEARL fork are the stack, the repeat of 4, the radius, the quarter circle
and the 100 steps; the reward is presumably its. Decided here: the target is not drawn ("unseen"), angles count from the
x axis, episodes begin with the arm stretched along x at rest, the reward is of the fingertip after the step and not
summed over the repeats, the view is 0.6 m wide and drawn by capsules and a disc, anti-aliased over one pixel, where the
fork renders MuJoCo's scene. The wrist's stop is hard: it takes the wrist's speed and leaves the shoulder's.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from pipelines.core.types import About, Array, DeviceFamily, Policy, Scene, Shape, Space, Task, Transition
from pipelines.tasks.scripted import references

HORIZON = 100
DISCOUNT = 0.99
SIZE, FRAMES = 64, 3
SPACE = Space(obs_shape=(SIZE, SIZE, FRAMES), action_shape=(2,), low=(-1.0, -1.0), high=(1.0, 1.0), obs_dtype="uint8")
TARGET_RADIUS = 0.13
TRAIN_SEED, TEST_SEED = 0, 73

DT, REPEAT = 0.02, 4  # s
LINK = 0.12  # m, shoulder to wrist and wrist to fingertip
HAND = 0.10  # m, the second capsule; the fingertip is a sphere beyond it
THICKNESS = 0.01  # m, the radius of capsules and fingertip
DENSITY = 1000.0  # kg / m^3
TORQUE, DAMPING = 0.05, 0.01
WRIST_LIMIT = math.radians(160)

HALF_VIEW = 0.3  # m
PIXEL = 2 * HALF_VIEW / SIZE
LINK_GREY, TIP_GREY = 128.0, 255.0


def tasks(split: str) -> tuple[Task, ...]:
    """40 and 10 targets, one draw of a seed each; the id is the angle in millionths of a radian."""
    draws = {"train": (TRAIN_SEED, 40), "test": (TEST_SEED, 10)}
    if split not in draws:
        return ()
    seed, count = draws[split]

    def one(angle: float) -> Task:
        x, y = TARGET_RADIUS * math.cos(angle), TARGET_RADIUS * math.sin(angle)
        return Task(round(angle * 1e6), f"{math.degrees(angle):.3f}deg", split, {"angle": angle, "x": x, "y": y})

    return tuple(one(angle) for angle in np.random.RandomState(seed).uniform(math.pi / 2, math.pi, count).tolist())


# ---- mechanics -------------------------------------------------------------------------------------------------------


class Arm(NamedTuple):
    """Shoulder and wrist."""

    angles: Array  # [2] rad
    speeds: Array  # [2] rad/s


def _capsule(length: float) -> tuple[float, float]:
    """Mass and inertia across its middle of a solid capsule whose axis is `length` long."""
    r, rod = THICKNESS, DENSITY * math.pi * THICKNESS**2 * length
    ends = DENSITY * 4 / 3 * math.pi * r**3
    return rod + ends, rod * (3 * r**2 + length**2) / 12 + ends * (0.4 * r**2 + length**2 / 4 + 3 * length * r / 8)


def _inertias() -> tuple[float, float, float]:
    """(a, b, d): M = [[a + 2 b cos q2, d + b cos q2], [d + b cos q2, d]]."""
    arm, arm_inertia = _capsule(LINK)
    hand, hand_inertia = _capsule(HAND)
    tip = DENSITY * 4 / 3 * math.pi * THICKNESS**3
    about_wrist = hand_inertia + hand * (HAND / 2) ** 2 + tip * (0.4 * THICKNESS**2 + LINK**2)
    about_shoulder = arm_inertia + arm * (LINK / 2) ** 2
    return about_shoulder + about_wrist + (hand + tip) * LINK**2, LINK * (hand * HAND / 2 + tip * LINK), about_wrist


A, B, D = _inertias()


def swing(arm: Arm, action: Array) -> Arm:
    """One control step: four Euler steps of 0.02 s under constant torques. action [2]"""
    torque = TORQUE * jnp.clip(action, -1.0, 1.0)
    for _ in range(REPEAT):
        (_, wrist), (w1, w2) = arm.angles, arm.speeds
        cosine, bend = jnp.cos(wrist), B * jnp.sin(wrist)
        m11, m12, m22 = A + 2 * B * cosine + DT * DAMPING, D + B * cosine, D + DT * DAMPING
        f1 = torque[0] - DAMPING * w1 + bend * (2 * w1 * w2 + w2**2)
        f2 = torque[1] - DAMPING * w2 - bend * w1**2
        speeds = arm.speeds + DT * jnp.stack([m22 * f1 - m12 * f2, m11 * f2 - m12 * f1]) / (m11 * m22 - m12**2)
        angles = arm.angles + DT * speeds
        stopped = jnp.abs(angles[1]) > WRIST_LIMIT
        angles = angles.at[1].set(jnp.clip(angles[1], -WRIST_LIMIT, WRIST_LIMIT))
        arm = Arm(angles, speeds.at[1].multiply(jnp.where(stopped, 0.0, 1.0)))
    return arm


def joints(angles: Array) -> tuple[Array, Array, Array]:
    """Where wrist, hand's end and fingertip are. [2] -> [2] each"""
    first = jnp.stack([jnp.cos(angles[0]), jnp.sin(angles[0])])
    total = angles[0] + angles[1]
    second = jnp.stack([jnp.cos(total), jnp.sin(total)])
    return LINK * first, LINK * first + HAND * second, LINK * (first + second)


# ---- what is seen ----------------------------------------------------------------------------------------------------


def _coverage(start: Array, end: Array) -> Array:
    """How much of each pixel a capsule from `start` to `end` [2] covers, [SIZE, SIZE] in [0, 1]; y points up."""
    across = (jnp.arange(SIZE) + 0.5) * PIXEL - HALF_VIEW
    x, y = across[None, :] - start[0], -across[:, None] - start[1]
    axis = end - start
    along = jnp.clip((x * axis[0] + y * axis[1]) / jnp.maximum(jnp.sum(axis**2), 1e-12), 0.0, 1.0)
    distance = jnp.sqrt((x - along * axis[0]) ** 2 + (y - along * axis[1]) ** 2)
    return jnp.clip(0.5 + (THICKNESS - distance) / PIXEL, 0.0, 1.0)


def draw(angles: Array) -> Array:
    """The arm from above. [2] -> [SIZE, SIZE] uint8"""
    wrist, hand, tip = joints(angles)
    links = jnp.maximum(_coverage(jnp.zeros((2,)), wrist), _coverage(wrist, hand))
    grey = jnp.maximum(LINK_GREY * links, TIP_GREY * _coverage(tip, tip))
    return jnp.round(grey).astype(jnp.uint8)


def position(obs: Any) -> Any:
    """The fingertip in the newest frame: the middle of what is brighter than a link. [..., S, S, 3] -> [..., 2]"""
    xp = obs.__array_namespace__()
    bright = xp.clip(xp.astype(obs[..., -1], xp.float32) - LINK_GREY, 0.0, None)
    total = xp.sum(bright, axis=(-2, -1))
    across = (xp.arange(SIZE) + 0.5) * PIXEL - HALF_VIEW
    x = xp.sum(xp.sum(bright, axis=-2) * across, axis=-1) / total
    y = -xp.sum(xp.sum(bright, axis=-1) * across, axis=-1) / total
    return xp.stack([x, y], axis=-1)


# ---- the family ------------------------------------------------------------------------------------------------------


class State(NamedTuple):
    """The arm, and the frames that are still seen."""

    arm: Arm
    frames: Array  # [SIZE, SIZE, FRAMES] uint8, newest last


def reset(task: Array, key: Array) -> tuple[State, Array]:
    """Stretched along x, at rest, seen three times. -> (State, obs [64, 64, 3])"""
    arm = Arm(jnp.zeros((2,)), jnp.zeros((2,)))
    frames = jnp.repeat(draw(arm.angles)[..., None], FRAMES, -1)
    return State(arm, frames), frames


def reward(task: Any, obs: Any, action: Any, next_obs: Any, outcome: Any) -> Any:
    """Minus the fingertip's distance to the target. task [..., 3] = (angle, x, y), outcome [..., 2]; -> [...]"""
    xp = outcome.__array_namespace__()
    return -xp.sqrt((outcome[..., 0] - task[..., 1]) ** 2 + (outcome[..., 1] - task[..., 2]) ** 2)


def step(task: Array, state: State, action: Array, key: Array) -> tuple[State, Array, Array, Array, Array]:
    """-> (State, obs [64, 64, 3], reward [], terminal [], outcome [2])"""
    arm = swing(state.arm, action)
    frames = jnp.concatenate([state.frames[..., 1:], draw(arm.angles)[..., None]], -1)
    tip = joints(arm.angles)[2]
    return State(arm, frames), frames, reward(task, None, action, None, tip), jnp.zeros((), bool), tip


def scene(task: Task) -> Scene:
    """The shoulder, the quarter circle and the target."""
    angles = np.linspace(math.pi / 2, math.pi, 46)
    arc = TARGET_RADIUS * np.stack([np.cos(angles), np.sin(angles)], -1)
    shoulder = Shape("circle", (0.0, 0.0, THICKNESS), "wall", solid=True)
    target = Shape("circle", (task.params["x"], task.params["y"], THICKNESS), "goal")
    low, high = (-HALF_VIEW, -HALF_VIEW), (HALF_VIEW, HALF_VIEW)
    return Scene(low, high, (shoulder, Shape("line", tuple(arc.ravel().tolist()), "floor"), target))


# ---- the scripted arm ------------------------------------------------------------------------------------------------

_BEND = math.acos((TARGET_RADIUS**2 - 2 * LINK**2) / (2 * LINK**2))  # of the wrist where the tip is on the circle
STIFFNESS, BRAKE = (4.0, 4.0), (0.25, 0.08)  # torque per rad and per rad/s, in units of the action


def _oracle() -> Policy:
    """Turns both joints to where the tip is on the target; counts along where they are from a start it knows."""

    def act(task: Array, arm: Arm, obs: Array, key: Array, explore: Any) -> Array:
        wanted = jnp.stack([task[0] - _BEND / 2, jnp.asarray(_BEND)])
        return jnp.clip(jnp.asarray(STIFFNESS) * (wanted - arm.angles) - jnp.asarray(BRAKE) * arm.speeds, -1.0, 1.0)

    def observe(task: Array, arm: Arm, row: Transition) -> Arm:
        return swing(arm, row.action)

    def fresh(*_: Any) -> Arm:
        return Arm(jnp.zeros((2,)), jnp.zeros((2,)))

    return Policy(begin=fresh, start=fresh, act=act, observe=observe, value=None)


def build(name: str, options: Mapping[str, str]) -> DeviceFamily:
    """The family of that name."""
    family = DeviceFamily(
        name=name,
        space=SPACE,
        horizon=HORIZON,
        discount=DISCOUNT,
        tasks=tasks,
        reset=reset,
        step=step,
        reward=reward,
        outcome=("fingertip_x", "fingertip_y"),
        about=About(
            reward="-|fingertip - target|",
            start="stretched along x, at rest",
            source="BOReL section 5; its PEARL fork",
            differs=("appendix D is lost: start, view and reward decided here", "the target is not drawn"),
        ),
        position=position,
        scene=scene,
        scripted={"oracle": _oracle()},
    )
    return dataclasses.replace(family, references=references(family, family.scripted["oracle"], None, 1, 100))
