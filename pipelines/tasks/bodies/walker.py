"""Walker2d: gymnasium's walker2d.xml (feet of friction 0.9 and 1.9), RK4 (facts: mql 1.2, 1.4; mbml 1.2, 1.4).

Observed [17]: qpos without the root's x (8), qvel cut to +-10 (9). Measured: the root's velocity along x over the
control step, which is 4 x 0.004 s in the papers (0.016 s) and 4 x 0.002 s in gymnasium (0.008 s). A task multiplies
every element of four arrays of the model; derived constants stay the nominal ones.
"""

from typing import Any

from pipelines.tasks.bodies import parts
from pipelines.tasks.body import Body, View, namespace
from pipelines.tasks.task_lists import PARAMETERS

FRAME_SKIP = 4
FIELDS = {"mass": "body_mass", "inertia": "body_inertia", "damping": "dof_damping", "friction": "geom_friction"}


def observe(view: View) -> Any:
    xp = namespace(view.qpos)
    return xp.concat([view.qpos[..., 1:], xp.clip(view.qvel, -10.0, 10.0)], axis=-1)


def healthy(view: View) -> Any:
    """Height within (0.8, 2), pitch within 1."""
    height, pitch = view.qpos[..., 1], view.qpos[..., 2]
    return (height > 0.8) & (height < 2.0) & (namespace(view.qpos).abs(pitch) < 1.0)


def factors(task: Any) -> dict[str, Any]:
    """`[B, 65]` in the order of PARAMETERS -> body_mass [B, 8], body_inertia [B, 8, 3], dof_damping [B, 9],
    geom_friction [B, 8, 3]: by what each element is multiplied."""
    found, at = {}, 0
    for name, (rows, columns), _ in PARAMETERS:
        shape = (rows,) if columns == 1 else (rows, columns)
        found[FIELDS[name]] = task[..., at : at + rows * columns].reshape(*task.shape[:-1], *shape)
        at += rows * columns
    return found


def make(cartesian: str = "exact", masses: str = "old", control_step: float = 0.016) -> Body:
    """Starts standing at the origin, qpos and qvel disturbed by U(-0.005, 0.005)."""

    def edit(spec: Any) -> None:
        spec.option.timestep = control_step / FRAME_SKIP

    return Body(
        name="walker",
        mjcf="walker2d.xml",
        frame_skip=FRAME_SKIP,
        obs_dim=17,
        action_dim=6,
        outcome=("x_velocity",),
        noise=parts.both_uniform(9, 9),
        start=parts.disturbed((0.0, 1.25) + (0.0,) * 7, 0.005),
        torso=parts.planar_torso(),
        observe=observe,
        measure=parts.root_x_velocity,
        edit=edit,
        healthy=healthy,
        factors=factors,
        cartesian=cartesian,
        masses=masses,
    )
