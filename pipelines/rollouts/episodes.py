"""What both drivers give: episodes of one policy on one task."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from pipelines.core.taskmap import TaskAxis
from pipelines.core.types import Array, Policy, Task, TaskFamily, Transition

DISCOUNT_FLOOR = 1e-3  # a discounted return is followed until the discount falls below this
DRAWN = 4  # an observation of no more numbers than this is its own place in a picture


class Episodes(NamedTuple):
    """Zero-shot episodes of one acting state on one task. P episodes, H horizon."""

    returns: Array  # [P] undiscounted, over the horizon
    discounted: Array  # [P] followed until the discount falls below 1e-3; NaN where a host family's horizon is shorter
    value: Array  # [P] Q(s0, a0); NaN where the policy has none
    path: Array  # [P, H + 1, 2] where the agent was, see `places`
    rewards: Array  # [P, H]
    length: Array  # [P] control steps until it ended


class Trials(NamedTuple):
    """Trials of k consecutive episodes of one acting state on one task. P trials, H horizon."""

    returns: Array  # [P, k] undiscounted
    path: Array  # [P, k, H + 1, 2] where the agent was, see `places`
    rewards: Array  # [P, k, H], 0 past an episode's end
    discounted: Array  # [P, k] of an episode alone; NaN where the horizon is too short for the discount
    value: Array  # [P, k] Q(s0, a0) of each episode; NaN where the policy has none
    length: Array  # [P, k] control steps until an episode ended


class Lineup(NamedTuple):
    """Which policies play in T tasks, and where: each has one of its own `[T, ...]` unless something else is said."""

    axis: TaskAxis
    tasks: tuple[Task, ...]
    shared: bool = False  # all tasks have the same: acting states without a task axis, a copy on each device
    beside: int | None = None  # S in each task, `[S, ...]` or `[T, S, ...]`, at once and with the same luck


def begin_task(policy: Policy, acting: Any, key: Array, context: Transition | None) -> Any:
    """A memory for a new task, shown the rows of `context` [C, ...] as if they had just been seen, if there is one."""
    memory = policy.begin(acting, key)
    if context is None:
        return memory
    return jax.lax.scan(lambda memory, row: (policy.observe(acting, memory, row), None), memory, context)[0]


def discounted_return(rewards: Any, discount: float) -> Any:
    """Of episodes that end with the horizon [..., H] -> [...]; NaN where it is too short for the discount."""
    if rewards.shape[-1] < tail_steps(discount):
        return rewards[..., 0] * math.nan
    powers = np.broadcast_to(discount ** np.arange(rewards.shape[-1]), rewards.shape)
    return (rewards * powers).sum(-1)


def tail_steps(discount: float) -> int:
    """Steps until a discounted return is all there."""
    return math.ceil(math.log(DISCOUNT_FLOOR) / math.log(discount)) if 0 < discount < 1 else 0


def places(family: TaskFamily) -> Callable[[Any], Any]:
    """`obs [..., O] -> [..., K]`, what a picture from above needs: the family's position, else a short observation
    itself, else nothing (K = 0)."""
    if family.position is not None:
        return family.position
    if family.space.obs_dim <= DRAWN:
        return lambda obs: obs
    return lambda obs: obs.reshape(*obs.shape[: obs.ndim - len(family.space.obs_shape)], -1)[..., :0]
