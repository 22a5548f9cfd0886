"""Learning curves of several learners, overlaid."""

import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from pipelines import figures

WINDOW = 5  # episodes that a point is the mean of


def smoothed(returns: Sequence[float], window: int = WINDOW) -> np.ndarray:
    """Mean of the last `window` episodes, fewer at the beginning. [E] -> [E]"""
    total = np.concatenate([[0.0], np.cumsum(returns)])
    end = np.arange(1, len(returns) + 1)
    begin = np.maximum(end - window, 0)
    return (total[end] - total[begin]) / (end - begin)


def mean_of(runs: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over runs of unequal length, at each point over those that are that long. [E of the longest]"""
    longest = max(len(run) for run in runs)
    return np.array([np.mean([run[at] for run in runs if len(run) > at]) for at in range(longest)])


def overlaid(learners: Mapping[str, Sequence[Sequence[Sequence[float]]]], tasks: Sequence[str], horizon: int) -> bytes:
    """PNG: a panel per task; each seed faint, their mean bold. `learners[label][seed][task]` are returns of episodes of
    `horizon` steps."""
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(7.0, 2.9), layout="constrained")
        panels = figure.subplots(1, len(tasks), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (index, task) in zip(panels, enumerate(tasks), strict=True):
            for colour, (label, seeds) in zip(figures.PALETTE, learners.items(), strict=False):
                runs = [smoothed(seed[index]) for seed in seeds]
                for run in runs:
                    axes.plot(horizon * np.arange(1, len(run) + 1), run, color=colour, lw=0.7, alpha=0.35)
                mean = mean_of(runs)
                axes.plot(horizon * np.arange(1, len(mean) + 1), mean, color=colour, label=label)
            axes.set_title(task)
        panels[0].set_ylabel(f"return, mean of {WINDOW} episodes")
        figure.supxlabel("environment steps", fontsize=9)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=len(learners))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        return buffer.getvalue()
