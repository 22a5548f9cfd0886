"""Every picture that `omrl` draws, as PNG bytes: the only importer of matplotlib.

Functions take numbers that are ready to draw and know nothing of artifacts. Same input, same bytes (one matplotlib
version). 200 dots per inch over at most 7 inches: sharp on a page 700 pixels wide at twice the density, and in print.
T goals, E episodes, H steps, N points of a curve, M methods.
"""

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

Array = np.ndarray[Any, np.dtype[Any]]

INK, MUTED, FAINT = "#1f2430", "#6b7280", "#d9dde3"
# Okabe & Ito 2008: told apart under every common colour blindness. The first two are the method and its reference.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#555555")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HALO = [withStroke(linewidth=4, foreground="white")]  # keeps words and crosses readable on top of dots
LETTERS = 80  # of tick labels that have room beside each other
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "text.color": INK,
    "savefig.dpi": 200,
}


class Band(NamedTuple):
    """A line and the interval around it, each [N]; `low` and `high` are NaN where there is no interval."""

    point: Array
    low: Array
    high: Array


class Learning(NamedTuple):
    """One method over training: `steps` [N] updates, and bands of return, discounted return and value estimate.
    `hue` picks its colour, the same in every picture."""

    label: str
    hue: int
    steps: Array
    returns: Band
    discounted: Band
    value: Band


class Goal(NamedTuple):
    """Where a task wants the agent: `name`, and position in the plane."""

    name: str
    x: float
    y: float


class Dots(NamedTuple):
    """One method's estimates per column, each [C], with bounds that may be NaN. `hue` picks colour and marker."""

    label: str
    hue: int
    point: Array
    low: Array
    high: Array


def learning(methods: Sequence[Learning], references: Mapping[str, float]) -> bytes:
    """Figure 2, left. Above: return over training beside `references` (name -> return). Below: what the critic
    promises for the first step (dashed) beside the discounted return that the same policy gets (solid); left out where
    no discounted return is known."""
    known = any(np.isfinite(method.discounted.point).any() for method in methods)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 5.6 if known else 3.4), layout="constrained")
        upper, *rest = figure.subplots(1 + known, 1, sharex=True, squeeze=False).ravel()
        for method in methods:
            colour, _ = _look(method.hue)
            _band(upper, method.steps, method.returns, colour, "-")
            for lower in rest:
                _band(lower, method.steps, method.discounted, colour, "-")
                _band(lower, method.steps, method.value, colour, _dashes(method.hue))
        _levels(upper, references)
        upper.set_title("Return, mean over tasks")
        upper.set_ylabel("return")
        handles = [Line2D([], [], color=_look(m.hue)[0], label=m.label) for m in methods]
        for lower in rest:
            lower.set_title("Value estimate and the discounted return behind it")
            lower.set_ylabel("discounted return")
            handles.append(Line2D([], [], color=INK, label="return"))
            handles.append(Line2D([], [], color=INK, ls=_dashes(0), label="value estimate"))
        lowest = [upper, *rest][-1]
        lowest.set_xlabel("training: updates, or steps where it learned online")
        lowest.xaxis.set_major_formatter(FuncFormatter(_thousands))
        lowest.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        figure.legend(handles=handles, loc="outside upper left", ncols=4)
        return _png(figure)


def paths(trajectories: Array, goals: Sequence[Goal], start: Array, by_goal: bool) -> bytes:
    """Figure 2, middle and right: where agents go and end. `trajectories` [T, E, H + 1, 2], in the task of each goal.

    `by_goal` gives each goal, and the episodes of its task, a colour; otherwise every end is red, as for an agent that
    cannot tell tasks apart.
    """
    with matplotlib.rc_context(STYLE):
        low, high = _frame(trajectories, goals)
        width, height = high - low
        figure = Figure(figsize=(5.2, 0.85 + 4.6 * float(height / width)), layout="constrained")
        axes = figure.subplots()
        size = 18 if trajectories[:, :, 0, 0].size <= 1000 else 8
        colours = _goal_colours(len(goals)) if by_goal else ["#C1272D"] * len(goals)
        for episodes, colour in zip(trajectories, colours, strict=True):
            walk = colour if by_goal else MUTED
            for episode in episodes[:: max(1, trajectories[:, :, 0, 0].size // 120)]:
                axes.plot(*episode.T, color=walk, lw=0.7, alpha=0.35, zorder=2)
            x, y = episodes[:, -1].T
            axes.scatter(x, y, s=size, color=colour, alpha=0.7, linewidths=0.3, edgecolors="white", zorder=3)
        _draw_goals(axes, goals, colours if by_goal else [INK] * len(goals))
        axes.scatter(start[0], start[1], s=55, color=INK, zorder=5)
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xlabel="x", ylabel="y")
        end = Line2D([], [], color=MUTED if by_goal else colours[0], marker="o", ls="", ms=5, label="end of an episode")
        handles = [Line2D([], [], color=INK, marker="o", ls="", ms=7, label="start"), end]
        handles.append(Line2D([], [], color=INK, marker="x", ls="", ms=7, mew=2, label="goal"))
        figure.legend(handles=handles, loc="outside upper center", ncols=3, handletextpad=0.2)
        return _png(figure)


def scores(methods: Sequence[Dots], columns: Sequence[str], ceiling: Array) -> bytes:
    """Dots and intervals, one panel per column of `columns`, methods as rows. `ceiling` [C] may be NaN.

    Draw at most five columns; `profile` is for more tasks.
    """
    with matplotlib.rc_context(STYLE):
        height = 1.15 + 0.34 * len(methods)
        figure = Figure(figsize=(7.0, height), layout="constrained")
        panels = figure.subplots(1, len(columns), sharex=True, sharey=True, squeeze=False)[0]
        rows = np.arange(len(methods))
        for c, (axes, column) in enumerate(zip(panels, columns, strict=True)):
            _reference_lines(axes, float(ceiling[c]), vertical=True)
            for row, method in enumerate(methods):
                colour, marker = _look(method.hue)
                axes.hlines(row, method.low[c], method.high[c], color=colour, lw=2.6, alpha=0.55, zorder=3)
                axes.plot(method.point[c], row, marker, color=colour, ms=5.5, zorder=4)
            axes.set_title(column, loc="center")
            axes.grid(axis="y", visible=False)
            axes.set_yticks(rows, [m.label for m in methods])
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
        panels[0].set_ylim(len(methods) - 0.5, -0.5)
        _score_limits(panels[0], methods, "x")
        figure.supxlabel("score: 0 random, 1 oracle; dashed: ceiling", fontsize=9)
        return _png(figure)


def profile(methods: Sequence[Dots], columns: Sequence[str], ceiling: Array) -> bytes:
    """Score over many tasks, in the order given: one line of dots with intervals per method. `ceiling` [C]."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 3.8), layout="constrained")
        axes = figure.subplots()
        x = np.arange(len(columns))
        _reference_lines(axes, math.nan, vertical=False)
        axes.plot(x, ceiling, color=MUTED, ls=(0, (4, 2)), lw=1.0, zorder=2)
        spread = 0.5 / max(1, len(methods))
        for i, method in enumerate(methods):
            at = x + spread * (i - (len(methods) - 1) / 2)
            colour, marker = _look(method.hue)
            axes.vlines(at, method.low, method.high, color=colour, lw=2.2, alpha=0.55, zorder=3)
            axes.plot(at, method.point, marker, color=colour, ms=4.5, label=method.label, zorder=4)
        crowded = sum(map(len, columns)) > LETTERS
        axes.set_xticks(x, list(columns), rotation=35 if crowded else 0, ha="right" if crowded else "center")
        dashed = "; dashed: ceiling" if np.isfinite(ceiling).any() else ""
        axes.set_ylabel(f"score: 0 random, 1 oracle{dashed}")
        axes.grid(axis="x", visible=False)
        _score_limits(axes, methods, "y")
        figure.legend(loc="outside upper left", ncols=3)
        return _png(figure)


def proposition(updates: Array, pooled: Array, single: Array, target: float = 1e-2) -> bytes:
    """Proposition 1: distance of pooled Q-learning from Q* of the pooled batch's MDP, `pooled` [C], and from that of
    each task's own rows, `single` [C, K], over `updates` [C], both axes logarithmic."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.loglog(updates, single, color=PALETTE[1], lw=1.3, alpha=0.8)
        axes.loglog(updates, pooled, color=PALETTE[0], lw=2.2)
        axes.axhline(target, color=MUTED, lw=1.0, ls=(0, (4, 2)))
        axes.text(updates[0], target * 0.93, f"target {target:g}", color=MUTED, va="top", fontsize=8.5)
        axes.set_xlabel("updates of tabular Q-learning on the pooled batch")
        axes.set_ylabel("max |Q − Q*| over state-action pairs")
        axes.grid(which="minor", visible=False)
        axes.yaxis.set_minor_formatter(NullFormatter())
        handles = [Line2D([], [], color=PALETTE[0], lw=2.2, label="to Q* of the pooled batch's MDP")]
        handles.append(Line2D([], [], color=PALETTE[1], lw=1.3, label="to Q* of each task's own rows"))
        figure.legend(handles=handles, loc="outside upper left", ncols=2)
        return _png(figure)


def sweep(x: Array, methods: Sequence[Dots], axis: str, levels: Mapping[str, float]) -> bytes:
    """Score against a quantity that was varied: `x` [C], each method's dots [C], horizontal `levels` by name."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 3.6), layout="constrained")
        axes = figure.subplots()
        for method in methods:
            colour, marker = _look(method.hue)
            band = Band(method.point, method.low, method.high)
            _band(axes, x, band, colour, "-", label=method.label, marker=marker)
        axes.set_xlabel(axis)
        axes.set_ylabel("score: 0 random, 1 oracle")
        axes.set_xticks(x, [f"{value:.3g}" for value in x])
        _score_limits(axes, methods, "y", [value for value in levels.values() if math.isfinite(value)])
        _levels(axes, levels)
        figure.legend(loc="outside upper left", ncols=3)
        return _png(figure)


def _look(hue: int) -> tuple[str, str]:
    """(colour, marker) of a method. Past the end of the palette colours return with other markers."""
    return PALETTE[hue % len(PALETTE)], MARKERS[(hue + hue // len(PALETTE)) % len(MARKERS)]


def _dashes(hue: int) -> Any:
    """Dashes that begin elsewhere for every method, so that two lines on top of each other both show."""
    return (2.6 * hue, (3.4, 1.8))


def _band(axes: Axes, x: Array, band: Band, colour: str, style: Any, **line: Any) -> None:
    axes.plot(x, band.point, color=colour, ls=style, ms=5, zorder=3, **line)
    axes.fill_between(x, band.low, band.high, color=colour, alpha=0.16, lw=0, zorder=2)


def _levels(axes: Axes, levels: Mapping[str, float]) -> None:
    """Horizontal lines with their names at the right end, outside the axes; names that would meet are moved apart."""
    known = {name: value for name, value in levels.items() if math.isfinite(value)}
    for value in known.values():
        axes.axhline(value, color=MUTED, lw=1.0, ls=(0, (1, 1.6)), zorder=1)
    low, high = axes.get_ylim()
    at = _spread(np.array([(value - low) / (high - low) for value in known.values()]), room=0.085)
    for name, place in zip(known, at, strict=True):
        axes.text(1.01, place, name, transform=axes.transAxes, color=MUTED, va="center", fontsize=8.5)


def _spread(places: Array, room: float) -> Array:
    """`places` moved apart, as little as needed and in their order, until neighbours are `room` apart."""
    order, moved = np.argsort(places), np.sort(places)
    for _ in range(200):
        missing = np.maximum(room - np.diff(moved), 0) / 2
        moved[:-1] -= missing
        moved[1:] += missing
    out = np.empty_like(moved)
    out[order] = moved
    return out


def _reference_lines(axes: Axes, ceiling: float, vertical: bool) -> None:
    draw = axes.axvline if vertical else axes.axhline
    for value in (0.0, 1.0):
        draw(value, color=MUTED, lw=0.9, zorder=1)
    if math.isfinite(ceiling):
        draw(ceiling, color=MUTED, lw=1.0, ls=(0, (4, 2)), zorder=1)


def _score_limits(axes: Axes, methods: Sequence[Dots], axis: str, levels: Sequence[float] = ()) -> None:
    """Room for every bound and level, and always for 0 and 1."""
    every = np.concatenate([*(np.ravel([m.point, m.low, m.high]) for m in methods), [0.0, 1.0], levels])
    low, high = np.nanmin(every), np.nanmax(every)
    pad = 0.06 * (high - low)
    (axes.set_xlim if axis == "x" else axes.set_ylim)(low - pad, high + pad)


def _goal_colours(count: int) -> list[Any]:
    """Distinct for three, a smooth scale along the arc for many. The bright end of viridis fades on white: cut off."""
    if count <= 3:
        return ["#5B3A96", "#1B9E77", "#E08A00"][:count]
    return list(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, count)))


def _draw_goals(axes: Axes, goals: Sequence[Goal], colours: Sequence[Any]) -> None:
    """A cross per goal, and its name on the outer side where there is room for names."""
    for goal, colour in zip(goals, colours, strict=True):
        axes.plot(goal.x, goal.y, "x", color=colour, ms=9, mew=2.4, path_effects=HALO, zorder=5)
        if len(goals) <= 8:
            away = max(math.hypot(goal.x, goal.y), 1e-9) / 19
            out = goal.x / away, goal.y / away
            text = axes.annotate(goal.name, (goal.x, goal.y), out, textcoords="offset points", zorder=6)
            text.set(ha="center", va="center", path_effects=HALO, fontweight="bold")


def _frame(trajectories: Array, goals: Sequence[Goal]) -> tuple[Array, Array]:
    """(low, high), each [2]: around the goals and the start with room for names, wider if an agent strays further."""
    fixed = np.array([*((goal.x, goal.y) for goal in goals), trajectories[0, 0, 0]])
    pad = 0.14 * float(np.ptp(fixed, axis=0).max())
    walked = trajectories.reshape(-1, 2)
    low = np.minimum(fixed.min(0) - pad, walked.min(0) - 0.2 * pad)
    return low, np.maximum(fixed.max(0) + pad, walked.max(0) + 0.2 * pad)


def fitting(labels: Sequence[str], room: int = 92) -> int:
    """Columns of a legend that is as wide as the figure: `room` letters, of which a handle takes seven."""
    for count in range(len(labels), 1, -1):
        rows = itertools.zip_longest(*[iter(labels)] * count, fillvalue="")
        widths = [max(len(label) + 7 for label in column) for column in zip(*rows, strict=True)]
        if sum(widths) <= room:
            return count
    return 1


def _thousands(value: float, _: Any = None) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _png(figure: Figure) -> bytes:
    """The figure's bytes. matplotlib's version stays out of them, so that they depend on the picture alone."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
