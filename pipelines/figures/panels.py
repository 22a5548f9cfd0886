"""Panels side by side: curves over training with levels across them, and dots of many methods.

`curves_of` and `ladder_of` put together what is drawn, and a test can ask them; `curves` and `ladder` are their bytes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipelines.figures import INK, STYLE, Array, Band, Dots, _band, _look, _png, _thousands, fitting

COLUMNS = 3
LEVEL_DASHES = (0, (4, 2))


class Line(NamedTuple):
    """A curve at `x` [N]; `hue` picks its colour, the same in every panel."""

    label: str
    hue: int
    x: Array
    band: Band


class Level(NamedTuple):
    """A value that is not over time, with bounds that may be NaN: a dashed line across the panel."""

    label: str
    hue: int
    point: float
    low: float
    high: float


class Panel(NamedTuple):
    """Curves and levels. `mark`: a point to show, as where a curve reaches a level; `words` stand in a corner."""

    title: str
    lines: Sequence[Line]
    levels: Sequence[Level] = ()
    xlabel: str = ""
    ylabel: str = "return"
    log: bool = False
    mark: tuple[float, float] | None = None
    words: str = ""


class Rungs(NamedTuple):
    """Methods one below the other; each has one dot. `zero`: the axis begins there, as for errors."""

    title: str
    dots: Sequence[Dots]
    xlabel: str
    zero: bool = False


def curves(panels: Sequence[Panel]) -> bytes:
    """The panels, at most three in a row."""
    with matplotlib.rc_context(STYLE):
        return _png(curves_of(panels))


def curves_of(panels: Sequence[Panel]) -> Figure:
    """The figure that `curves` makes bytes of."""
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(7.0, 0.75 + (2.3 if columns > 1 else 3.0) * rows), layout="constrained")
    every = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, (axes, panel) in enumerate(zip(every, panels, strict=False)):
        _draw(axes, panel)
        left = panels[place - 1] if place % columns else None
        below = panels[place + columns] if place + columns < len(panels) else None
        if left is None or left.ylabel != panel.ylabel:
            axes.set_ylabel(panel.ylabel)
        if below is None or below.xlabel != panel.xlabel:
            axes.set_xlabel(panel.xlabel)
    for axes in every[len(panels) :]:
        axes.set_visible(False)
    named = {handle.get_label(): handle for axes in every for handle in axes.get_legend_handles_labels()[0]}
    if named:
        figure.legend(handles=list(named.values()), loc="outside upper left", ncols=fitting(list(named)))
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    for line in panel.lines:
        _band(axes, line.x, line.band, _look(line.hue)[0], "-", label=line.label)
    for level in panel.levels:
        colour = _look(level.hue)[0]
        axes.axhline(level.point, color=colour, ls=LEVEL_DASHES, lw=1.5, label=level.label, zorder=3)
        if np.isfinite([level.low, level.high]).all():
            axes.axhspan(level.low, level.high, color=colour, alpha=0.12, lw=0, zorder=1)
    if panel.mark:
        end = max(float(line.x[-1]) for line in panel.lines)
        axes.hlines(panel.mark[1], panel.mark[0], end, color=INK, lw=1.0, ls=LEVEL_DASHES, zorder=4)
        axes.plot(*panel.mark, "o", color=INK, ms=5, zorder=5)
    if panel.log:
        axes.set_yscale("log")
    if panel.words:
        axes.text(0.98, 0.04, panel.words, transform=axes.transAxes, ha="right", va="bottom", fontsize=8)
    axes.set_title(panel.title)
    axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))


def ladder(panels: Sequence[Rungs]) -> bytes:
    """Dots with intervals, methods as rows; the panels below each other."""
    with matplotlib.rc_context(STYLE):
        return _png(ladder_of(panels))


def ladder_of(panels: Sequence[Rungs]) -> Figure:
    """The figure that `ladder` makes bytes of."""
    sizes = [len(panel.dots) for panel in panels]
    height = sum(0.85 + 0.27 * size for size in sizes)
    figure = Figure(figsize=(7.0, height), layout="constrained")
    every = figure.subplots(len(panels), 1, squeeze=False, height_ratios=[0.6 + size for size in sizes]).ravel()
    for place, (axes, panel) in enumerate(zip(every, panels, strict=True)):
        for row, method in enumerate(panel.dots):
            colour, marker = _look(method.hue)
            axes.hlines(row, method.low, method.high, color=colour, lw=2.6, alpha=0.55, zorder=3)
            axes.plot(method.point, row, marker, color=colour, ms=5.5, zorder=4)
        if panel.zero:
            axes.set_xlim(left=0)
        axes.set_title(panel.title)
        axes.set_yticks(range(len(panel.dots)), [method.label for method in panel.dots])
        axes.set_ylim(len(panel.dots) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        if place + 1 == len(panels) or panels[place + 1].xlabel != panel.xlabel:
            axes.set_xlabel(panel.xlabel)
    return figure
