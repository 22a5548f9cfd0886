"""How much sooner one learning curve is where another ends, with an interval from resampled pairs of curves.

Fine-tuning's number in MBML (section 5.3), made one of several seeds: curves are averaged over seeds and tasks, then
compared. A seed is drawn whole, both its curves in all tasks, so that what makes a task hard does not count as a
difference. jax-free; S seeds, K points of a curve, T tasks, R replicates.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from pipelines.core.statistics import LEVEL, REPLICATES, Interval

Array = np.ndarray[Any, np.dtype[Any]]


class Reach(NamedTuple):
    """After how many steps a curve is where the other one ends; infinite: not within its steps."""

    needed: Interval
    drawn: str  # what was resampled: seeds, or tasks where there is one seed
    reached: float  # share of the replicates that get there

    def share(self, steps: float, before: float = 0.0, other_before: float = 0.0) -> Interval:
        """`needed` as a share of the other curve's `steps`; `before`: what each of the two took before its curve."""
        most = other_before + steps
        point, low, high = ((before + value) / most for value in self.needed[:3])
        return Interval(point, low, high, self.needed.n)


def first(steps: Array, curves: Array, level: Array) -> Array:
    """The first of `steps` [K] at which `curves` [..., K] are at `level` [...] or above; infinite where none is."""
    above = np.asarray(curves) >= np.asarray(level)[..., None]
    found: Array = np.where(above.any(-1), np.asarray(steps, float)[above.argmax(-1)], math.inf)
    return found


def weights(num_seeds: int, num_tasks: int, seed: int, replicates: int) -> Array:
    """How often each pair counts in each resample, summing to 1. [R, S, T]

    Seeds are drawn with replacement, with all their tasks; of one seed, tasks are.
    """
    rng = np.random.default_rng(seed)
    if num_seeds == 1:
        chosen = rng.integers(num_tasks, size=(replicates, num_tasks))
        counts = (chosen[..., None] == np.arange(num_tasks)).sum(1)[:, None]
    else:
        chosen = rng.integers(num_seeds, size=(replicates, num_seeds))
        counts = np.repeat((chosen[..., None] == np.arange(num_seeds)).sum(1)[..., None], num_tasks, -1)
    return counts / (num_seeds * num_tasks)


def reach(
    steps: Array, curves: Array, others: Array, seed: int = 0, replicates: int = REPLICATES, level: float = LEVEL
) -> Reach:
    """When the mean of `curves` [S, K, T] first is where the mean of `others` [S, K, T] ends; `steps` [K].

    Of one seed and one task there is no interval: low and high are NaN.
    """
    num_seeds, _, num_tasks = curves.shape
    drawn = "seeds" if num_seeds > 1 else "tasks"
    point = float(first(steps, curves.mean((0, 2)), others.mean((0, 2))[-1]))
    if num_seeds * num_tasks == 1:
        return Reach(Interval(point, math.nan, math.nan, 1), drawn, float(math.isfinite(point)))
    share = weights(num_seeds, num_tasks, seed, replicates)
    mean, end = (np.einsum("rst,skt->rk", share, each, optimize=True) for each in (curves, others))
    found = first(steps, mean, end[:, -1])
    tail = (1 - level) / 2
    low, high = np.quantile(found, [tail, 1 - tail], method="inverted_cdf")  # of values: infinity is no number to mix
    return Reach(Interval(point, float(low), float(high), num_seeds), drawn, float(np.isfinite(found).mean()))
