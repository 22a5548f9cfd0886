"""A body: an MJCF model, and what is observed and measured of it, whatever engine moves it.

Everything here but `edit` and `load` is Array-API code on a View with free leading axes: the C engine runs it in
float64 on numpy for a whole batch, the brax engine on jax inside a scan.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import mujoco
import numpy as np

from pipelines.core.errors import StageFailed


class View(NamedTuple):
    """What can be seen of a moving body after a control step. B: free leading axes; None: not in `Body.needs`.

    qfrc_actuator and cfrc_ext are forces of the last sub-step: they led to qpos and qvel.
    """

    qpos: Any  # [B, nq]
    qvel: Any  # [B, nv]
    torso: Any  # [B, 3] position of the torso's frame
    com: Any = None  # [B, 3] centre of mass of all bodies
    cinert: Any = None  # [B, nbody, 10] inertia and mass about the centre of mass
    cvel: Any = None  # [B, nbody, 6] velocity about the centre of mass
    qfrc_actuator: Any = None  # [B, nv]
    cfrc_ext: Any = None  # [B, nbody, 6] external contact forces


def flatten(array: Any) -> Any:
    """`[B, nbody, K]` -> `[B, nbody K]`."""
    return array.reshape(*array.shape[:-2], array.shape[-2] * array.shape[-1])


def namespace(array: Any) -> Any:
    """numpy or jax.numpy, whatever `array` is of."""
    return array.__array_namespace__()


@dataclass(frozen=True, kw_only=True)
class Body:
    """One body in one configuration. The control step is `frame_skip` steps of the model.

    edit(spec) changes the MjSpec in memory; torso(qpos) -> [B, 3] exact; start(noise [B, N]) -> (qpos, qvel);
    observe(view) -> [B, O]; measure(before, after, dt) -> [B, F], named by `outcome`, where `before` has only qpos,
    qvel, torso and (if needed) com, and dt is the control step in seconds; healthy(view) -> [B] bool;
    factors(task [B, P]) -> {field of the MjModel: [B, *its shape]}, by which the nominal values are multiplied.
    Actions in [-1, 1] are mapped affinely to the actuators' control range, then clipped.
    """

    name: str
    mjcf: str  # file among gymnasium's assets
    frame_skip: int
    obs_dim: int
    action_dim: int
    outcome: tuple[str, ...]
    noise: Callable[[Any], Any]  # key -> [N], by jax
    start: Callable[[Any], tuple[Any, Any]]
    torso: Callable[[Any], Any]
    observe: Callable[[View], Any]
    measure: Callable[[View, View, float], Any]
    edit: Callable[[Any], None] = lambda spec: None
    healthy: Callable[[View], Any] | None = None  # None: never ends early
    factors: Callable[[Any], dict[str, Any]] | None = None  # None: one model for all tasks
    needs: frozenset[str] = frozenset()  # fields of View beyond qpos, qvel and torso
    # lagged: torso, com, cinert, cvel as mj_step leaves them, as mujoco-py and Gymnasium show them; by how much they
    # differ, body by body: benchmarks/results/parity.md
    cartesian: str = "exact"
    masses: str = "modern"  # old: capsules as MuJoCo 1.31 weighed them


def asset(name: str) -> Path:
    """The path of one of gymnasium's MJCF files."""
    import gymnasium

    return Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / name


def specify(body: Body) -> mujoco.MjSpec:
    """The specification of `body`, edited and weighed, in memory. Raises StageFailed like `load`."""
    path = asset(body.mjcf)

    def read() -> mujoco.MjSpec:
        spec = mujoco.MjSpec.from_file(str(path))
        body.edit(spec)
        return spec

    with _refusals(path):
        return weighed_as_of_old(read(), read()) if body.masses == "old" else read()


def load(body: Body) -> mujoco.MjModel:
    """The model of `body`. Raises StageFailed where the installed mujoco refuses its MJCF, naming file and message."""
    with _refusals(asset(body.mjcf)):
        return specify(body).compile()


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*settotalmass.*")
            yield
    except (ValueError, RuntimeError, OSError, mujoco.FatalError) as error:
        said = " ".join(str(error).split())
        hint = "install the mujoco and gymnasium versions that this package pins"
        raise StageFailed(f"mujoco {mujoco.__version__} refuses {path}: {said}", hint) from error


def weighed_as_of_old(spec: mujoco.MjSpec, fresh: mujoco.MjSpec) -> mujoco.MjSpec:
    """`spec` with the masses and inertias that MuJoCo 1.31 computed; `fresh` is the same one, used up.

    It weighed a capsule of cylinder length L and radius r as a cylinder of length L + r: mass rho pi r^2 (L + r),
    transverse inertia m (3 r^2 + (L + r)^2) / 12, axial m r^2 / 2 (facts: mbml 1.4).
    """
    modern = spec.compile()
    frames = zip(fresh.geoms, modern.geom_size, modern.geom_pos, modern.geom_quat, strict=True)
    for geom, (radius, half, _), pos, quat in frames:
        if geom.type == mujoco.mjtGeom.mjGEOM_CAPSULE:
            geom.type, geom.fromto = mujoco.mjtGeom.mjGEOM_CYLINDER, np.full(6, np.nan)
            geom.size, geom.pos, geom.quat = [radius, half + radius / 2, 0], pos, quat
    old = fresh.compile()
    spec.compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_FALSE
    for body in spec.bodies[1:]:
        body.mass, body.inertia = old.body_mass[body.id], old.body_inertia[body.id]
        body.ipos, body.iquat = old.body_ipos[body.id], old.body_iquat[body.id]
        body.explicitinertial = True
    return spec
