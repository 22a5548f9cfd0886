"""Returns of simple policies on host families: references, anchors."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from pipelines.core.types import HostFamily, Task

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
    rng, count = np.random.default_rng(seed), len(tasks)
    noise = np.asarray(jax.vmap(family.noise)(jax.random.split(jax.random.key(seed), count)))
    returns, lengths = np.zeros(count), np.zeros(count, int)
    alive, diverged = np.ones(count, bool), np.zeros(count, bool)
    with family.simulate(np.asarray(tasks, np.float64)) as simulator:
        simulator.reset(alive, noise)
        for _ in range(family.horizon):
            stepped = simulator.step(choose(rng, (count, *family.space.action_shape)))
            diverged |= alive & stepped.diverged
            alive &= ~stepped.diverged
            returns += np.where(alive, stepped.reward, 0.0)
            lengths += alive
            alive &= ~stepped.terminal
            if not alive.any():
                break
    return Played(returns, lengths, diverged)


def random_only(family: Callable[[], HostFamily]) -> Callable[[Task], dict[str, float]]:
    """References of a family whose best is not known: the mean of NUM_RANDOM episodes of uniform actions, NaN else."""

    @functools.cache
    def of(row: tuple[float, ...]) -> float:
        return float(play(family(), np.tile(row, (NUM_RANDOM, 1)), anything, 0).returns.mean())

    return lambda task: {
        "random": of(tuple(task.params.values())),
        "oracle": math.nan,
        "ceiling": math.nan,
    }
