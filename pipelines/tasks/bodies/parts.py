"""What several bodies share: how they begin, and where a torso is."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.tasks.body import namespace


def both_uniform(nq: int, nv: int) -> Callable[[Any], Any]:
    """key -> [nq + nv], uniform in [-1, 1]."""
    return lambda key: jax.random.uniform(key, (nq + nv,), minval=-1.0)


def uniform_and_normal(nq: int, nv: int) -> Callable[[Any], Any]:
    """key -> [nq + nv], uniform in [-1, 1] for qpos, normal for qvel."""

    def noise(key: Any) -> Any:
        one, two = jax.random.split(key)
        return jnp.concatenate([jax.random.uniform(one, (nq,), minval=-1.0), jax.random.normal(two, (nv,))])

    return noise


def disturbed(nominal: tuple[float, ...], scale: float, free: bool = False) -> Callable[[Any], tuple[Any, Any]]:
    """noise [B, nq + nv] -> qpos = nominal + scale * its own, qvel = scale * its own.

    `free`: qpos[3:7] is a unit quaternion, and made one again, as MuJoCo did when the papers used it.
    """

    def start(noise: Any) -> tuple[Any, Any]:
        xp, nq = namespace(noise), len(nominal)
        qpos, qvel = (
            xp.asarray(np.asarray(nominal), dtype=noise.dtype) + scale * noise[..., :nq],
            scale * noise[..., nq:],
        )
        if free:
            turn = qpos[..., 3:7]
            turn = turn / xp.sqrt(xp.sum(turn**2, axis=-1, keepdims=True))
            qpos = xp.concat([qpos[..., :3], turn, qpos[..., 7:]], axis=-1)
        return qpos, qvel

    return start


def planar_torso(height: float = 0.0) -> Callable[[Any], Any]:
    """qpos [B, nq] that begins with the root's x and z -> [B, 3]; `height`: of the frame where the root's z is 0."""

    def torso(qpos: Any) -> Any:
        xp = namespace(qpos)
        return xp.stack([qpos[..., 0], xp.zeros_like(qpos[..., 0]), qpos[..., 1] + height], axis=-1)

    return torso


def root_x_velocity(before: Any, after: Any, dt: float) -> Any:
    """Of the root joint, over the control step. -> [B, 1]"""
    return (after.qpos[..., :1] - before.qpos[..., :1]) / dt
