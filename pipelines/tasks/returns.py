"""Returns of simple policies on host families: references, anchors."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from pipelines.core.names import SPLITS
from pipelines.core.types import HostFamily, Stepped, Task

NUM_RANDOM = 32  # episodes behind a random reference
Choose = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


class Played(NamedTuple):
    """B episodes."""

    returns: np.ndarray  # [B] undiscounted, to the end of the episode or the horizon
    lengths: np.ndarray  # [B] control steps
    diverged: np.ndarray  # [B] bool, cut short because physics failed


def nothing(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Zero actions."""
    return np.zeros(shape)


def anything(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Actions uniform in [-1, 1]."""
    return rng.uniform(-1, 1, shape)


def play(family: HostFamily, tasks: np.ndarray, choose: Choose, seed: int) -> Played:
    """One episode under each row of `tasks` [B, P]; `choose(rng, [B, A]) -> action`. `seed` fixes starts, actions."""
    tasks = np.asarray(tasks, np.float64)
    returns, *ends = _played(family, tasks, choose, seed, lambda stepped, *row: stepped.reward)
    return Played(returns, *ends)


def paid_as(family: HostFamily, tasks: np.ndarray, choose: Choose, seed: int, count: int) -> np.ndarray:
    """`count` episodes, the same for all `tasks` [K, P], which differ in nothing but what they pay. -> returns [K, B],
    to the bit those of `play` under `count` times the same task."""
    rows = np.asarray(tasks, np.float64)[:, None]

    def rewards(stepped: Stepped, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        seen = (obs, action, stepped.obs, stepped.outcome)
        return np.asarray(family.reward(rows, *(leaf[None] for leaf in seen)))

    return _played(family, np.repeat(rows[0], count, axis=0), choose, seed, rewards)[0]


def _played(
    family: HostFamily, tasks: np.ndarray, choose: Choose, seed: int, rewards: Callable[..., np.ndarray]
) -> tuple[Any, np.ndarray, np.ndarray]:
    """An episode under each row; `rewards(stepped, obs, action)` [..., B]. -> (returns [..., B], lengths, diverged)"""
    rng, count = np.random.default_rng(seed), len(tasks)
    noise = np.asarray(jax.vmap(family.noise)(jax.random.split(jax.random.key(seed), count)))
    returns: Any = 0.0
    lengths, alive, diverged = np.zeros(count, int), np.ones(count, bool), np.zeros(count, bool)
    with family.simulate(tasks) as simulator:
        obs = simulator.reset(alive, noise)
        for _ in range(family.horizon):
            action = choose(rng, (count, *family.space.action_shape))
            stepped = simulator.step(action)
            diverged |= alive & stepped.diverged
            alive &= ~stepped.diverged
            returns = returns + np.where(alive, rewards(stepped, obs, action), 0.0)
            lengths += alive
            alive &= ~stepped.terminal
            obs = stepped.obs
            if not alive.any():
                break
    return returns, lengths, diverged


def random_only(family: Callable[[], HostFamily]) -> Callable[[Task], dict[str, float]]:
    """References of a family whose best is not known: the mean of NUM_RANDOM episodes of uniform actions, NaN else.

    Those of a whole split are found together where its tasks differ in rewards alone, by the same episodes.
    """

    @functools.cache
    def alike() -> dict[tuple[float, ...], str]:
        built = family()
        # reversed: a task of several splits counts as one of the first
        found = {} if built.dynamics else {split: built.tasks(split) for split in reversed(SPLITS)}
        return {tuple(task.params.values()): split for split, tasks in found.items() for task in tasks}

    @functools.cache
    def of_split(split: str) -> dict[tuple[float, ...], float]:
        rows = [row for row, own in alike().items() if own == split]
        found = paid_as(family(), np.asarray(rows), anything, 0, NUM_RANDOM)
        return {row: float(returns.mean()) for row, returns in zip(rows, found, strict=True)}

    @functools.cache
    def of(row: tuple[float, ...]) -> float:
        if row in alike():
            return of_split(alike()[row])[row]
        return float(play(family(), np.tile(row, (NUM_RANDOM, 1)), anything, 0).returns.mean())

    return lambda task: {
        "random": of(tuple(task.params.values())),
        "oracle": math.nan,
        "ceiling": math.nan,
    }
