"""HalfCheetah: gymnasium's half_cheetah.xml, 5 x 0.01 s, Euler (facts: mql 1.2, mbml 1.2).

Observed [20]: qpos without the root's x (8), qvel (9), the torso's position (3: x *is* seen).
Measured: the root's velocity along x over the control step.
"""

from typing import Any

import jax

from pipelines.tasks.body import Body, View, namespace

NQ = NV = 9
HEIGHT = 0.7  # of the torso's frame where the root's z is 0


def noise(key: Any) -> Any:
    """[18]: uniform in [-1, 1] for qpos, normal for qvel."""
    one, two = jax.random.split(key)
    return jax.numpy.concatenate([jax.random.uniform(one, (NQ,), minval=-1.0), jax.random.normal(two, (NV,))])


def start(noise: Any) -> tuple[Any, Any]:
    """Standing still at the origin, disturbed: qpos by U(-0.1, 0.1), qvel by N(0, 0.1^2)."""
    return 0.1 * noise[..., :NQ], 0.1 * noise[..., NQ:]


def torso(qpos: Any) -> Any:
    xp = namespace(qpos)
    return xp.stack([qpos[..., 0], xp.zeros_like(qpos[..., 0]), qpos[..., 1] + HEIGHT], axis=-1)


def observe(view: View) -> Any:
    return namespace(view.qpos).concat([view.qpos[..., 1:], view.qvel, view.torso], axis=-1)


def measure(before: View, after: View, dt: float) -> Any:
    return (after.qpos[..., :1] - before.qpos[..., :1]) / dt


def make(cartesian: str = "exact") -> Body:
    return Body(
        name="halfcheetah",
        mjcf="half_cheetah.xml",
        frame_skip=5,
        obs_dim=20,
        action_dim=6,
        outcome=("x_velocity",),
        noise=noise,
        start=start,
        torso=torso,
        observe=observe,
        measure=measure,
        cartesian=cartesian,
    )
