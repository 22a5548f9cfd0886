"""Ant: gymnasium's ant.xml, gear 150, 5 x 0.01 s, RK4 (facts: mql 1.2, 9.2, 9.3; mbml 1.2; borel 1).

Observed: qpos (15, or 13 without the root's x and y), qvel (14), and, where `contacts`, the contact forces on 14 bodies
cut to +-1 (84): 27, 29, 111 or 113 numbers. Measured, by what is paid:
    "velocity"  the torso's velocity along x and y over the control step, and the contact cost
    "place"     nothing where qpos is exact and observed; the torso's x and y where they lag
"""

from collections.abc import Callable
from typing import Any

from pipelines.tasks.bodies import parts
from pipelines.tasks.body import Body, View, flatten, namespace

NUM_BODIES = 14
STANDING = (0.0, 0.0, 0.75, 1.0) + (0.0,) * 11
CONTACT_COST = 0.5e-3


def contact_cost(forces: Any) -> Any:
    """0.5e-3 |clip(cfrc_ext, -1, 1)|^2 of `[B, 84]`. -> [B]"""
    xp = namespace(forces)
    return CONTACT_COST * xp.sum(xp.clip(forces, -1.0, 1.0) ** 2, axis=-1)


def forces(view: View) -> Any:
    """`[B, 84]`, cut to +-1; zeros where they are not computed."""
    xp = namespace(view.qpos)
    if view.cfrc_ext is None:
        return xp.zeros((*view.qpos.shape[:-1], 6 * NUM_BODIES), dtype=view.qpos.dtype)
    return xp.clip(flatten(view.cfrc_ext), -1.0, 1.0)


def healthy(view: View) -> Any:
    """Torso's height within [0.2, 1]."""
    height = view.qpos[..., 2]
    return (height >= 0.2) & (height <= 1.0)


def velocity(before: View, after: View, dt: float) -> Any:
    """-> [B, 3] (x velocity, y velocity, contact cost)"""
    moved = (after.torso[..., :2] - before.torso[..., :2]) / dt
    return namespace(moved).concat([moved, contact_cost(forces(after))[..., None]], axis=-1)


def torso(qpos: Any) -> Any:
    return qpos[..., :3]


def observing(skipped: int, contacts: bool) -> Callable[[View], Any]:
    def observe(view: View) -> Any:
        seen = [view.qpos[..., skipped:], view.qvel] + ([forces(view)] if contacts else [])
        return namespace(view.qpos).concat(seen, axis=-1)

    return observe


def at_place(noise: Any) -> tuple[Any, Any]:
    """Standing still at `noise` [B, 2]."""
    xp = namespace(noise)
    rest = xp.asarray(STANDING[2:], dtype=noise.dtype)
    qpos = xp.concat([noise, xp.broadcast_to(rest, (*noise.shape[:-1], 13))], axis=-1)
    return qpos, xp.zeros((*noise.shape[:-1], 14), dtype=noise.dtype)


def make(
    paid: str,
    contacts: bool,
    cartesian: str = "exact",
    contact_forces: str = "zero",
    masses: str = "modern",
    places: Callable[[Any], Any] | None = None,
) -> Body:
    """Ants that are paid by velocity fall (their episodes end), those paid by place do not.

    Starts standing at the origin, qpos disturbed by U(-0.1, 0.1), qvel by N(0, 0.1^2); where `places(key) -> [2]` is
    given, standing still and undisturbed there.
    """
    by_velocity, lagged = paid == "velocity", cartesian == "lagged"
    skipped = 2 if by_velocity else 0

    def place(before: View, after: View, dt: float) -> Any:
        return after.torso[..., : 2 if lagged else 0]

    return Body(
        name="ant",
        mjcf="ant.xml",
        frame_skip=5,
        obs_dim=29 - skipped + 6 * NUM_BODIES * contacts,
        action_dim=8,
        outcome=("x_velocity", "y_velocity", "contact_cost") if by_velocity else ("x", "y") if lagged else (),
        noise=places or parts.uniform_and_normal(15, 14),
        start=at_place if places else parts.disturbed(STANDING, 0.1, free=True),
        torso=torso,
        observe=observing(skipped, contacts),
        measure=velocity if by_velocity else place,
        healthy=healthy if by_velocity else None,
        needs=frozenset({"cfrc_ext"} if contact_forces == "computed" else ()),
        cartesian=cartesian,
        masses=masses,
    )
