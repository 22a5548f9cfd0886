"""Humanoid: gymnasium's humanoid.xml, 5 x 0.003 s, RK4, PGS (facts: mql 1.2, 9.4; mbml 1.2).

Observed [376]: qpos without the root's x and y (22), qvel (23), and of all 14 bodies, the world included, cinert (140),
cvel (84), qfrc_actuator (23), cfrc_ext (84, zeros where `contact_forces` is zero). Measured: the velocity along x and y
of the centre of mass over the control step, and the impact cost.
"""

from typing import Any

from pipelines.tasks.bodies import parts
from pipelines.tasks.body import Body, View, flatten, namespace

NUM_BODIES = 14
STANDING = (0.0, 0.0, 1.4, 1.0) + (0.0,) * 20
CONTROL = 0.4  # the actuators' range: controls are 0.4 times the action
IMPACT_COST, MOST_IMPACT_COST = 0.5e-6, 10.0


def forces(view: View) -> Any:
    """`[B, 84]`; zeros where they are not computed."""
    if view.cfrc_ext is None:
        return namespace(view.qpos).zeros((*view.qpos.shape[:-1], 6 * NUM_BODIES), dtype=view.qpos.dtype)
    return flatten(view.cfrc_ext)


def impact_cost(forces: Any) -> Any:
    """min(0.5e-6 |cfrc_ext|^2, 10) of `[B, 84]`. -> [B]"""
    xp = namespace(forces)
    return xp.clip(IMPACT_COST * xp.sum(forces**2, axis=-1), 0.0, MOST_IMPACT_COST)


def healthy(view: View) -> Any:
    """The root's height within [1, 2]."""
    height = view.qpos[..., 2]
    return (height >= 1.0) & (height <= 2.0)


def torso(qpos: Any) -> Any:
    return qpos[..., :3]


def observe(view: View) -> Any:
    inner = [flatten(view.cinert), flatten(view.cvel), view.qfrc_actuator, forces(view)]
    return namespace(view.qpos).concat([view.qpos[..., 2:], view.qvel, *inner], axis=-1)


def measure(before: View, after: View, dt: float) -> Any:
    """-> [B, 3] (x velocity, y velocity, impact cost)"""
    moved = (after.com[..., :2] - before.com[..., :2]) / dt
    return namespace(moved).concat([moved, impact_cost(forces(after))[..., None]], axis=-1)


def make(cartesian: str = "exact", contact_forces: str = "zero", masses: str = "modern") -> Body:
    """Starts standing at the origin, qpos and qvel disturbed by U(-0.01, 0.01)."""
    needs = {"com", "cinert", "cvel", "qfrc_actuator"} | ({"cfrc_ext"} if contact_forces == "computed" else set())
    return Body(
        name="humanoid",
        mjcf="humanoid.xml",
        frame_skip=5,
        obs_dim=376,
        action_dim=17,
        outcome=("x_velocity", "y_velocity", "impact_cost"),
        noise=parts.both_uniform(24, 23),
        start=parts.disturbed(STANDING, 0.01, free=True),
        torso=torso,
        observe=observe,
        measure=measure,
        healthy=healthy,
        needs=frozenset(needs),
        cartesian=cartesian,
        masses=masses,
    )
