"""How scores of several training seeds become one number and an honest interval.

The interquartile mean and the stratified percentile bootstrap of Agarwal et al. 2021 (arXiv:2108.13264), tasks being
the strata. Differs: they have runs that know nothing of each other on each task, and draw those of each task apart.
Here one policy plays all tasks of a seed, so that a seed is drawn whole, with all its tasks, and counts as the mean
over them: a seed that failed is not thinned out among tasks, nor is a task that nobody solves cut off as an outlier.
jax-free; S seeds, T tasks, R replicates.
"""

import math
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

REPLICATES = 2000
LEVEL = 0.95
NOTHING = "–"  # what a missing number is written as


class Interval(NamedTuple):
    """A point estimate and the interval around it. `low` and `high` are NaN where `n` seeds cannot give one (n = 1)."""

    point: float
    low: float
    high: float
    n: int

    @property
    def known(self) -> bool:
        """Whether there is an interval at all."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def bounds(self, digits: int = 2) -> str:
        """`[0.88, 0.93]`, or nothing."""
        return f"[{number(self.low, digits)}, {number(self.high, digits)}]" if self.known else ""

    def brief(self, digits: int = 2) -> str:
        """`0.91 [0.88, 0.93]`; `0.91` where there is no interval."""
        return f"{number(self.point, digits)} {self.bounds(digits)}".strip()

    def __str__(self) -> str:
        """`0.91 [0.88, 0.93] (n=5)`."""
        return f"{self.brief()} (n={self.n})"


def number(value: float, digits: int = 2) -> str:
    """`value` with fixed digits, never `-0.00`; a dash where it is not finite."""
    if not math.isfinite(value):
        return NOTHING
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def iqm(scores: Array, axis: int = -1) -> Array:
    """Mean of the middle half along `axis`: a quarter of the values, rounded down, is cut from each end.

    The same as `scipy.stats.trim_mean(scores, 0.25, axis)`, without the second that importing scipy.stats takes.
    """
    ordered = np.sort(np.asarray(scores, float), axis=axis)
    size = ordered.shape[axis]
    cut = size // 4
    middle: Array = np.mean(np.take(ordered, np.arange(cut, size - cut), axis=axis), axis=axis)
    return middle


def bootstrap(scores: Array, seed: int = 0, replicates: int = REPLICATES) -> Array:
    """The IQM of `replicates` stratified resamples. [S, T] -> [R]. Each task draws its own S seeds: for agents that
    learn one task each."""
    num_seeds, num_tasks = scores.shape
    drawn = np.random.default_rng(seed).integers(num_seeds, size=(replicates, num_seeds, num_tasks))
    resampled = np.take_along_axis(scores[None], drawn, axis=1)
    return iqm(resampled.reshape(replicates, num_seeds * num_tasks))


def interval(scores: Array, seed: int = 0, replicates: int = REPLICATES, level: float = LEVEL) -> Interval:
    """IQM over seeds with its percentile interval. `scores` is [S], or [S, T], of which it takes the means over tasks.

    One seed has no interval: low and high are NaN. A score that is not finite makes everything NaN, for a statistic
    over the rest would quietly be one of fewer runs. Raises ValueError without scores.
    """
    table = np.asarray(scores, float)
    if table.size == 0:
        raise ValueError("no scores to summarise")
    each = table.reshape(len(table), -1).mean(1)
    if not np.isfinite(each).all():
        return Interval(math.nan, math.nan, math.nan, len(each))
    point = float(iqm(each))
    if len(each) == 1:
        return Interval(point, math.nan, math.nan, 1)
    tail = (1 - level) / 2
    low, high = np.quantile(bootstrap(each[:, None], seed, replicates), [tail, 1 - tail])
    return Interval(point, float(low), float(high), len(each))


def band(curves: Array, seed: int = 0) -> tuple[Array, Array, Array]:
    """(point, low, high), each [N], of `curves` [S, N]: an interval at every point of a curve."""
    columns = np.array([interval(column, seed)[:3] for column in np.asarray(curves).T], float).reshape(-1, 3)
    return columns[:, 0], columns[:, 1], columns[:, 2]
