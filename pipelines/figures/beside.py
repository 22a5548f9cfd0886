"""Panels in one row that have methods and scale in common: the same methods under several protocols."""

from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

from pipelines.figures import STYLE, _look, _png
from pipelines.figures.panels import Rungs

ROW = 0.3  # inches of a method


def beside(panels: Sequence[Rungs]) -> bytes:
    """Dots with intervals, methods as rows, a panel for each protocol."""
    with matplotlib.rc_context(STYLE):
        return _png(beside_of(panels))


def beside_of(panels: Sequence[Rungs]) -> Figure:
    """The figure that `beside` makes bytes of. All panels hold the same methods in the same order; one that has no
    number under a protocol has an empty line there."""
    names = [dots.label for dots in panels[0].dots]
    figure = Figure(figsize=(7.0, 1.1 + ROW * len(names)), layout="constrained")
    every = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True).ravel()
    for axes, panel in zip(every, panels, strict=True):
        for row, method in enumerate(panel.dots):
            colour, marker = _look(method.hue)
            axes.hlines(row, method.low, method.high, color=colour, lw=2.6, alpha=0.55, zorder=3)
            axes.plot(method.point, row, marker, color=colour, ms=5.5, zorder=4)
        axes.set_title(panel.title)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
    every[0].set_yticks(range(len(names)), names)
    every[0].set_ylim(len(names) - 0.4, -0.6)
    figure.supxlabel(panels[0].xlabel, fontsize="medium")
    return figure
