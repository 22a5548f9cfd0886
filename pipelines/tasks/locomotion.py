"""The families of bodies that walk, run and hop, on either engine (facts: mql 1, 9; mbml 1, 8.3; borel 1)."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pipelines.core.families import FAMILIES
from pipelines.core.types import About, Space, Task, TaskFamily
from pipelines.tasks import task_lists
from pipelines.tasks.bodies import cheetah
from pipelines.tasks.body import Body, namespace

DISCOUNT = 0.99
Reward = Callable[[Any, Any, Any, Any, Any], Any]


def effort(action: Any, scale: float = 1.0) -> Any:
    """|u|^2 of the control that `action [..., A]` becomes. -> [...]"""
    xp = namespace(action)
    return xp.sum((scale * xp.clip(action, -1.0, 1.0)) ** 2, axis=-1)


def velocity_reward(alive: float, cost: float) -> Reward:
    """alive - |v - v*| - cost |u|^2; task [1] = (v*), outcome [1] = (v)"""

    def reward(task: Any, obs: Any, action: Any, next_obs: Any, outcome: Any) -> Any:
        gap = namespace(outcome).abs(outcome[..., 0] - task[..., 0])
        return alive - gap - cost * effort(action)

    return reward


def cheetah_dir_reward(task: Any, obs: Any, action: Any, next_obs: Any, outcome: Any) -> Any:
    """g v - 0.05 |u|^2; task [1] = (g), outcome [1] = (v)"""
    return task[..., 0] * outcome[..., 0] - 0.05 * effort(action)


class Kind(NamedTuple):
    """What the variants of a family share."""

    body: Callable[[Mapping[str, str]], Body]
    reward: Callable[[Mapping[str, str]], Reward]
    about: About


def _cheetah(options: Mapping[str, str]) -> Body:
    return cheetah.make(options["cartesian"])


NOISY = "standing at the origin, qpos disturbed by U(-0.1, 0.1), qvel by N(0, 0.1^2)"
KINDS = {
    "halfcheetah-vel": Kind(
        _cheetah,
        lambda options: velocity_reward(0.0, 0.05),
        About(reward="-|v - v*| - 0.05 |u|^2", start=NOISY),
    ),
    "halfcheetah-dir": Kind(
        _cheetah,
        lambda options: cheetah_dir_reward,
        About(reward="g v - 0.05 |u|^2", start=NOISY),
    ),
}


def build(name: str, options: Mapping[str, str]) -> TaskFamily:
    """The family `family/variant` on the engine that its options name."""
    kind, entry, lists = KINDS[name.partition("/")[0]], FAMILIES[name], task_lists.lists
    body = kind.body(options)
    act = body.action_dim

    def tasks(split: str) -> tuple[Task, ...]:
        return lists(name).get(split, ())

    common: dict[str, Any] = {
        "name": name,
        "space": Space((body.obs_dim,), (act,), low=(-1.0,) * act, high=(1.0,) * act),
        "horizon": entry.horizon,
        "discount": DISCOUNT,
        "tasks": tasks,
        "reward": kind.reward(options),
        "outcome": body.outcome,
        "terminates": body.healthy is not None,
        "dynamics": body.factors is not None,
        "about": kind.about,
    }
    if options["engine"] == "mujoco":
        from pipelines.tasks import mujoco_engine

        return mujoco_engine.family(common, body, options)
    from pipelines.tasks import brax_engine

    return brax_engine.family(common, body, options)
