"""Return over the interactions while policies are fine-tuned (MBML's Figure 8)."""

import math
from collections.abc import Mapping

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipelines.figures import INK, STYLE, Array, Band, _band, _levels, _look, _png, _thousands


def interactions(steps: Array, curves: Mapping[str, Array], needed: float, levels: Mapping[str, float]) -> bytes:
    """Label -> returns `[S, T]` at `steps [S]`: means over tasks, and one deviation of tasks around them. `needed`: the
    interactions after which the first is where the last ends; NaN if it never is. `levels`: name -> return."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 3.6), layout="constrained")
        axes = figure.subplots()
        for hue, (label, returns) in enumerate(curves.items()):
            mean, spread = returns.mean(1), returns.std(1)
            _band(axes, steps, Band(mean, mean - spread, mean + spread), _look(hue)[0], "-", label=label)
        if math.isfinite(needed):
            level = float(list(curves.values())[-1][-1].mean())
            axes.hlines(level, needed, float(steps[-1]), color=INK, lw=1.0, ls=(0, (4, 2)), zorder=4)
            axes.plot(needed, level, "o", color=INK, ms=5, zorder=5)
        _levels(axes, levels)
        axes.set_title("Return, mean over tasks; shaded: one deviation of tasks")
        axes.set_ylabel("return")
        axes.set_xlabel("interactions while SAC learns, in each task")
        axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        figure.legend(loc="outside upper left", ncols=3)
        return _png(figure)
