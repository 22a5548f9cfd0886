"""Hopper: gymnasium's hopper.xml, 4 x 0.002 s, RK4 (facts: mbml 8.3).

Observed [14]: qpos without the root's x (5), qvel (6), the torso's position (3).
Measured: the root's velocity along x over the control step.
"""

from typing import Any

from pipelines.tasks.bodies import parts
from pipelines.tasks.body import Body, View, namespace


def observe(view: View) -> Any:
    return namespace(view.qpos).concat([view.qpos[..., 1:], view.qvel, view.torso], axis=-1)


def healthy(view: View) -> Any:
    """Height above 0.7, pitch within 0.2, all else below 100 in size."""
    xp = namespace(view.qpos)
    rest = xp.concat([view.qpos[..., 2:], view.qvel], axis=-1)
    bounded = xp.all(xp.abs(rest) < 100, axis=-1)
    return bounded & (view.qpos[..., 1] > 0.7) & (xp.abs(view.qpos[..., 2]) < 0.2)


def make(cartesian: str = "exact") -> Body:
    """Starts standing at the origin, qpos and qvel disturbed by U(-0.005, 0.005)."""
    return Body(
        name="hopper",
        mjcf="hopper.xml",
        frame_skip=4,
        obs_dim=14,
        action_dim=3,
        outcome=("x_velocity",),
        noise=parts.both_uniform(6, 6),
        start=parts.disturbed((0.0, 1.25, 0.0, 0.0, 0.0, 0.0), 0.005),
        torso=parts.planar_torso(),
        observe=observe,
        measure=parts.root_x_velocity,
        healthy=healthy,
        cartesian=cartesian,
    )
