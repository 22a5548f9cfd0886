"""A body: an MJCF model, and what is observed and measured of it, whatever engine moves it.

Everything here but `edit` is Array-API code on a View with free leading axes: the C engine runs it in float64 on numpy
for a whole batch, the brax engine on jax inside a scan.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple


class View(NamedTuple):
    """What can be seen of a moving body after a control step. B: free leading axes; None: not in `Body.needs`."""

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


@dataclass(frozen=True, kw_only=True)
class Body:
    """One body in one configuration. The control step is `frame_skip` steps of the model.

    edit(spec) changes the MjSpec in memory; torso(qpos) -> [B, 3] exact; start(noise [B, N]) -> (qpos, qvel);
    observe(view) -> [B, O]; measure(before, after, dt) -> [B, F], named by `outcome`; healthy(view) -> [B] bool
    """

    name: str
    mjcf: str  # file among gymnasium's assets
    frame_skip: int
    obs_dim: int
    outcome: tuple[str, ...]
    edit: Callable[[Any], None]
    noise: Callable[[Any], Any]  # key -> [N], by jax
    start: Callable[[Any], tuple[Any, Any]]
    torso: Callable[[Any], Any]
    observe: Callable[[View], Any]
    measure: Callable[[View, View, float], Any]
    healthy: Callable[[View], Any] | None = None  # None: never ends early
    needs: frozenset[str] = frozenset()  # fields of View beyond qpos, qvel and torso
    cartesian: str = "exact"  # lagged: torso, com, cinert, cvel as mj_step leaves them, as old mujoco-py showed them
