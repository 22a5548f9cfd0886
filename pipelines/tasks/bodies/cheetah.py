"""HalfCheetah: gymnasium's half_cheetah.xml, 5 x 0.01 s, Euler (facts: mql 1.2, mbml 1.2).

Observed [20]: qpos without the root's x (8), qvel (9), the torso's position (3: x *is* seen).
Measured: the root's velocity along x over the control step.
"""

from typing import Any

from pipelines.tasks.bodies import parts
from pipelines.tasks.body import Body, View, namespace


def observe(view: View) -> Any:
    return namespace(view.qpos).concat([view.qpos[..., 1:], view.qvel, view.torso], axis=-1)


def make(cartesian: str = "exact") -> Body:
    """Starts standing at the origin, qpos disturbed by U(-0.1, 0.1), qvel by N(0, 0.1^2)."""
    return Body(
        name="halfcheetah",
        mjcf="half_cheetah.xml",
        frame_skip=5,
        obs_dim=20,
        action_dim=6,
        outcome=("x_velocity",),
        noise=parts.uniform_and_normal(9, 9),
        start=parts.disturbed((0.0,) * 9, 0.1),
        torso=parts.planar_torso(0.7),
        observe=observe,
        measure=parts.root_x_velocity,
        cartesian=cartesian,
    )
