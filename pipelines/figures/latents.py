"""Posterior means in the plane: contexts as they were logged, and contexts paid by another task's rewards."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipelines.figures import STYLE, Array, _goal_colours, _png, fitting

MOST_NAMES = 16  # in the legend
MOST_DOTS = 4_000  # in one panel; more are thinned


def plane(points: Array) -> tuple[Array, Array, Array]:
    """The two directions in which `points [N, Z]` vary most: (middle [Z], directions [Z, 2], shares of the variance
    [2]). A direction's greatest entry is positive; there may be fewer than two, the others are 0."""
    middle = points.mean(0)
    _, size, rows = np.linalg.svd(points - middle, full_matrices=False)
    found, share = np.zeros((points.shape[1], 2)), np.zeros(2)
    for n, (length, row) in enumerate(zip(size[:2], rows[:2], strict=True)):
        found[:, n] = row * (1 if row[np.abs(row).argmax()] > 0 else -1)
        share[n] = length**2 / max(float((size**2).sum()), 1e-30)
    return middle, found, share


def latents(mean: Array, names: Sequence[str]) -> bytes:
    """`mean [D, T, T, Z]`: with rewards of task i on rows of task j; [i, i] as they were logged. Left those, in the
    middle the others coloured by the rewards' task and right by that of the rows. NaN is not drawn."""
    num_tasks = len(names)
    rewards, rows = np.broadcast_arrays(np.arange(num_tasks)[:, None], np.arange(num_tasks)[None])
    there: Any = np.isfinite(mean).all(-1)
    middle, directions, share = plane(mean[there].reshape(-1, mean.shape[-1]).astype(float))
    flat = (np.where(there[..., None], mean, middle) - middle) @ directions  # [D, T, T, 2]
    colours = np.asarray([matplotlib.colors.to_rgb(one) for one in _goal_colours(num_tasks)])
    panels: list[tuple[str, Any, Any]] = [
        ("contexts\nas they were logged", rewards == rows, rows),
        ("rewards of another task,\ncoloured by it", rewards != rows, rewards),
        ("the same, coloured by\nstates and actions", rewards != rows, rows),
    ]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 3.5), layout="constrained")
        every = figure.subplots(1, 3, sharex=True, sharey=True)
        for axes, (title, shown, task) in zip(every, panels, strict=True):
            _dots(axes, flat, there & shown, colours[task])
            axes.set_title(title)
            axes.set_xlabel(f"first direction ({share[0]:.0%})")
        every[0].set_ylabel(f"second direction ({share[1]:.0%})")
        if num_tasks <= MOST_NAMES:
            marks = [
                Line2D([], [], color=colour, marker="o", ls="", ms=5, label=name)
                for colour, name in zip(colours, names, strict=True)
            ]
            columns = min(MOST_NAMES // 2, fitting(names))
            figure.legend(handles=marks, loc="outside upper center", ncols=columns, handletextpad=0)
        return _png(figure)


def _dots(axes: Axes, places: Array, shown: Array, colours: Array) -> None:
    """`places [D, T, T, 2]` where `shown [D, T, T]`, in `colours [T, T, 3]`."""
    at, colour = places[shown], np.broadcast_to(colours, (*shown.shape, 3))[shown]
    every = max(1, -(-len(at) // MOST_DOTS))
    x, y = at[::every].T
    axes.scatter(x, y, s=14, c=colour[::every], alpha=0.75, linewidths=0.2, edgecolors="white", zorder=3)
