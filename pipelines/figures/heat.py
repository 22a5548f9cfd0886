"""Heat maps: one square per pair of tasks."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from pipelines.figures import FAINT, INK, MUTED, STYLE, Array, _png

MOST_NUMBERS = 8  # tasks, for squares that have their number in them
MOST_NAMES = 24


class Map(NamedTuple):
    """`values` [T, T], row i column j; NaN stays empty. Drawn from `low` to `high`."""

    title: str
    values: Array
    low: float = 0.0
    high: float = 1.0


def heat_maps(maps: Sequence[Map], names: Sequence[str]) -> bytes:
    """Side by side, two in a row. Rows ask, columns are asked."""
    columns = min(2, len(maps))
    rows = -(-len(maps) // columns)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(7.0, 0.3 + 3.3 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        colours = matplotlib.colormaps["cividis"].with_extremes(bad="white")
        for axes, one in zip(panels, maps, strict=False):
            values = np.ma.masked_invalid(one.values)
            image = axes.imshow(values, cmap=colours, vmin=one.low, vmax=one.high, interpolation="nearest")
            axes.set_title(one.title)
            every = max(1, -(-len(names) // MOST_NAMES))
            ticks = list(range(0, len(names), every))
            axes.set_xticks(ticks, [names[t] for t in ticks], rotation=90 if len(names) > 4 else 0)
            axes.set_yticks(ticks, [names[t] for t in ticks])
            axes.tick_params(length=0, labelsize=8 if len(names) <= MOST_NUMBERS else 6)
            figure.colorbar(image, ax=axes, shrink=0.8).outline.set_edgecolor(FAINT)
            if len(names) <= MOST_NUMBERS:
                middle = (one.low + one.high) / 2
                for i, j in np.ndindex(*one.values.shape):
                    if np.isfinite(one.values[i, j]):
                        ink = INK if one.values[i, j] > middle else "white"
                        axes.text(j, i, f"{one.values[i, j]:.2f}", ha="center", va="center", color=ink, fontsize=8)
        for axes in panels[len(maps) :]:
            axes.set_visible(False)
        figure.supxlabel(
            "share of the rows of the task down the side; the other task is across", fontsize=8, color=MUTED
        )
        return _png(figure)
