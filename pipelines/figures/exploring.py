"""How a policy searches: returns of its arms as bars, episodes of a trial from above, what is believed as it narrows.

`bars_of`, `narrowing_of` and `density_of` put together what is drawn, and a test can ask them; `bars`, `narrowing` and
`density` are their bytes. K episodes, H steps, L = K H, N moments, X x Y places of a map, first x and then y.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Wedge

from pipelines.core.types import Scene
from pipelines.figures import HALO, INK, MUTED, PALETTE, STYLE, Array, Dots, _levels, _look, _png
from pipelines.figures.scenes import FILM_DPI, FILM_INCHES, episode_lines, paths_apart, surroundings

FEW_PLACES = 40  # a map of no more has its numbers written in
GREYS = "Greys"
WIDE = 11  # letters of an arm's name in a line
RING = (1.08, 1.5)  # radii between which doors are drawn, outside a wall of radius 1


class Arms(NamedTuple):
    """One task family: a bar for each arm, and values across all of them by name."""

    title: str
    arms: Sequence[Dots]
    levels: Mapping[str, float]
    ylabel: str = "return"


class Map(NamedTuple):
    """What a belief expects to be paid where: `values [N, X, Y]` at `moments [N]` of a trial's steps, between the
    corners `low` and `high`."""

    values: Array
    moments: Array
    low: tuple[float, float]
    high: tuple[float, float]


class Doors(NamedTuple):
    """What a belief expects to be paid for steps out of a round room of radius 1: `values [N, W]` of W directions,
    counted from the x axis, at `moments [N]`."""

    values: Array
    moments: Array
    low: tuple[float, float] = (-1.6, -1.6)
    high: tuple[float, float] = (1.6, 1.6)


class Trial(NamedTuple):
    """A trial in one task: `paths [K, H + 1, 2]`, and what was believed."""

    title: str
    scene: Scene
    paths: Array
    belief: Map | Doors | None = None


class Visits(NamedTuple):
    """Where the agents of a log were: `points [n, 2]`."""

    title: str
    scene: Scene
    points: Array


# ---- bars ------------------------------------------------------------------------------------------------------------


def bars(panels: Sequence[Arms]) -> bytes:
    """A panel for each family, two in a row."""
    with matplotlib.rc_context(STYLE):
        return _png(bars_of(panels))


def bars_of(panels: Sequence[Arms]) -> Figure:
    """The figure that `bars` makes bytes of."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(7.0 if columns > 1 else 4.6, 0.3 + 2.6 * rows), layout="constrained")
    every = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(every, panels, strict=False):
        for place, arm in enumerate(panel.arms):
            point, low, high = (float(value) for value in (arm.point, arm.low, arm.high))
            axes.bar(place, point, 0.66, color=_look(arm.hue)[0], alpha=0.85, zorder=2)
            axes.vlines(place, low, high, color=INK, lw=1.4, zorder=4)
        axes.axhline(0.0, color=MUTED, lw=0.8, zorder=3)
        axes.set_xticks(range(len(panel.arms)), ["\n".join(textwrap.wrap(arm.label, WIDE)) for arm in panel.arms])
        axes.tick_params(axis="x", length=0, labelsize=8)
        axes.grid(axis="x", visible=False)
        axes.set_xlim(-0.6, len(panel.arms) - 0.4)
        axes.set_title(panel.title)
        axes.set_ylabel(panel.ylabel)
        _include(axes, panel)
        _levels(axes, panel.levels)
    for axes in every[len(panels) :]:
        axes.set_visible(False)
    return figure


def _include(axes: Axes, panel: Arms) -> None:
    """Room for every bar, bound and level."""
    numbers = [value for arm in panel.arms for value in (arm.point, arm.low, arm.high)]
    every = np.array([0.0, *map(float, numbers), *panel.levels.values()])
    low, high = np.nanmin(every), np.nanmax(every)
    pad = 0.06 * max(high - low, 1e-9)
    axes.set_ylim(low - pad * (low < 0), high + pad)


# ---- the belief as it narrows ----------------------------------------------------------------------------------------


def narrowing(trials: Sequence[Trial], parts: Mapping[str, float]) -> bytes:
    """A row for each trial, a column for each part of it that `parts` names (name -> share of its steps)."""
    with matplotlib.rc_context(STYLE):
        return _png(narrowing_of(trials, parts))


def narrowing_of(trials: Sequence[Trial], parts: Mapping[str, float]) -> Figure:
    """The figure that `narrowing` makes bytes of."""
    side = 6.6 / len(parts)
    tall = max(_tall(trial) for trial in trials)
    figure = Figure(figsize=(7.0, (side * tall + 0.05) * len(trials) + 0.25), layout="constrained")
    grid = figure.subplots(len(trials), len(parts), squeeze=False)
    for row, (line, trial) in enumerate(zip(grid, trials, strict=True)):
        for axes, (name, part) in zip(line, parts.items(), strict=True):
            assert trial.belief is not None
            number = int(np.abs(trial.belief.moments - part * trial.belief.moments[-1]).argmin())
            _believed(axes, trial, number)
            if row == 0:
                axes.set_title(name, loc="center")
        line[0].set_ylabel("\n".join(textwrap.wrap(trial.title, 15)), fontsize=8.5)
    return figure


def _tall(trial: Trial) -> float:
    assert trial.belief is not None
    width, height = np.subtract(trial.belief.high, trial.belief.low)
    return float(height / width)


def _believed(axes: Axes, trial: Trial, number: int) -> None:
    """Map, goal and the way so far at one moment."""
    assert trial.belief is not None
    _under(axes, trial.belief, number, write=True)
    surroundings(axes, trial.scene._replace(low=trial.belief.low, high=trial.belief.high), outlined=True)
    for episode, path in enumerate(_so_far(trial.paths, int(trial.belief.moments[number]))):
        axes.plot(*path.T, color=PALETTE[episode % len(PALETTE)], lw=1.4, zorder=4)
        axes.plot(*path[-1:].T, "o", color=PALETTE[episode % len(PALETTE)], ms=3.5, mec="white", mew=0.6, zorder=5)


def _under(axes: Axes, belief: Map | Doors, number: int, write: bool) -> Any:
    """What was believed at one moment; the artist, for a film to `_renew`."""
    return _ring(axes, belief, number) if isinstance(belief, Doors) else _map(axes, belief, number, write)


def _renew(artist: Any, belief: Map | Doors, number: int) -> None:
    values = np.asarray(belief.values[number], float)
    artist.set_array(values if isinstance(belief, Doors) else values.T)


def _ring(axes: Axes, belief: Doors, number: int) -> PatchCollection:
    """A wedge for each direction, outside the wall."""
    wide = 360 / len(belief.values[number])
    wedges = [Wedge((0, 0), RING[1], (n - 0.5) * wide, (n + 0.5) * wide, width=RING[1] - RING[0])
              for n in range(len(belief.values[number]))]  # fmt: skip
    ring = PatchCollection(wedges, cmap=GREYS, edgecolors="face", linewidths=0.4, zorder=0.5)
    ring.set_clim(0.0, 1.0)
    _renew(ring, belief, number)
    axes.add_collection(ring)
    for radius in RING:
        axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor=MUTED, linewidth=0.5, zorder=0.6))
    return ring


def _map(axes: Axes, belief: Map, number: int, write: bool) -> object:
    (x0, y0), (x1, y1) = belief.low, belief.high
    values = np.asarray(belief.values[number], float)
    image = axes.imshow(
        values.T, cmap=GREYS, vmin=0.0, vmax=1.0, origin="lower", extent=(x0, x1, y0, y1), interpolation="nearest"
    )
    if write and values.size <= FEW_PLACES:
        wide, tall = (x1 - x0) / values.shape[0], (y1 - y0) / values.shape[1]
        for (i, j), value in np.ndenumerate(values):
            ink = "white" if value > 0.55 else INK
            text = f"{value:.2f}".removeprefix("0") if value < 0.995 else "1"
            place = x0 + (i + 0.5) * wide, y0 + (j + 0.5) * tall
            axes.text(*place, text, ha="center", va="center", color=ink, fontsize=5.5, zorder=6)
    return image


def _so_far(paths: Array, steps: int) -> list[Array]:
    """Those episodes of `paths [K, H + 1, 2]` that have begun after so many steps, as far as they are."""
    length = paths.shape[1] - 1
    apart = paths_apart(paths)
    return [apart[e, : min(steps - e * length, length) + 1] for e in range(len(paths)) if e == 0 or steps > e * length]


def search_film(trial: Trial, captions: Mapping[int, str]) -> Iterator[Array]:
    """Frames `[height, width, 3]` uint8 of a trial, after each step of L that has a caption: the way so far, a colour
    for each episode, over what is believed, if that is known."""
    low, high = (trial.belief.low, trial.belief.high) if trial.belief else (trial.scene.low, trial.scene.high)
    scene = trial.scene._replace(low=low, high=high)
    width, height = np.subtract(high, low)
    with matplotlib.rc_context(STYLE):
        figure = Figure((FILM_INCHES, FILM_INCHES * min(max(float(height / width), 0.4), 2.0) + 0.3), FILM_DPI)
        figure.subplots_adjust(0.02, 0.02, 0.98, 0.9)
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots()
        image = _under(axes, trial.belief, 0, write=False) if trial.belief else None
        surroundings(axes, scene, outlined=True)
        trails = [
            axes.plot([], [], color=PALETTE[e % len(PALETTE)], lw=1.8, zorder=4)[0] for e in range(len(trial.paths))
        ]
        (agent,) = axes.plot([], [], "o", color=INK, ms=8, mec="white", mew=1.2, zorder=6)
        caption = axes.set_title("", path_effects=HALO)
        for step, text in captions.items():
            if trial.belief is not None:
                number = int(np.abs(trial.belief.moments - step).argmin())
                _renew(image, trial.belief, number)
            walked = _so_far(trial.paths, step)
            for trail, path in zip(trails, walked, strict=False):
                trail.set_data(*path.T)
            agent.set_data(*walked[-1][-1:].T)
            caption.set_text(text)
            canvas.draw()
            yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


# ---- where logs went -------------------------------------------------------------------------------------------------


def density(panels: Sequence[Visits]) -> bytes:
    """How often each place was visited, a panel for each log, three in a row."""
    with matplotlib.rc_context(STYLE):
        return _png(density_of(panels))


def density_of(panels: Sequence[Visits], squares: int = 60) -> Figure:
    """The figure that `density` makes bytes of."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    width, height = np.max([np.subtract(panel.scene.high, panel.scene.low) for panel in panels], axis=0)
    side = 6.6 / max(columns, 2)
    figure = Figure(
        figsize=(side * columns + 0.5, (side * min(max(float(height / width), 0.4), 2.0) + 0.4) * rows),
        layout="constrained",
    )
    every = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(every, panels, strict=False):
        (x0, y0), (x1, y1) = panel.scene.low, panel.scene.high
        whole = np.array_equal(panel.points, np.round(panel.points))  # a grid's: a square is a cell
        sides = 1.0 if whole else max(x1 - x0, y1 - y0) / squares
        bounds = ((np.floor(x0) + 0.5, x1), (np.floor(y0) + 0.5, y1)) if whole else ((x0, x1), (y0, y1))
        edges: Any = [np.arange(low, high + sides, sides) for low, high in bounds]
        found, *_ = np.histogram2d(panel.points[:, 0], panel.points[:, 1], bins=edges)
        seen = np.ma.masked_equal(found.T / max(found.sum(), 1), 0)
        axes.pcolormesh(*edges, seen, cmap="viridis", norm=LogNorm(), zorder=1, rasterized=True)
        surroundings(axes, panel.scene, outlined=True)
        axes.set_title(panel.title)
    for axes in every[len(panels) :]:
        axes.set_visible(False)
    return figure


# ---- from above ------------------------------------------------------------------------------------------------------


def above(trials: Sequence[Trial]) -> bytes:
    """A PNG with a panel for each trial, all to one scale: a colour for each episode, a dot where it began, a ring
    where it ended."""
    with matplotlib.rc_context(STYLE):
        return _png(above_of(trials))


def above_of(trials: Sequence[Trial]) -> Figure:
    """The figure that `above` makes bytes of."""
    columns = min(len(trials), 4)
    rows = -(-len(trials) // columns)
    low = np.min([trial.scene.low for trial in trials], axis=0)
    high = np.max([trial.scene.high for trial in trials], axis=0)
    width, height = high - low
    side = 7.0 / max(columns, 2)
    tall = min(max(float(height / width), 0.4), 2.0)
    figure = Figure(figsize=(side * columns, (side * tall + 0.35) * rows + 0.4), layout="constrained")
    every = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, trial in zip(every, trials, strict=False):
        surroundings(axes, trial.scene._replace(low=tuple(low), high=tuple(high)))
        axes.set_title("\n".join(textwrap.wrap(trial.title, 26 if columns < 4 else 20)))
        episode_lines(axes, trial.paths)
    for axes in every[len(trials) :]:
        axes.set_visible(False)
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), handletextpad=0.4)
    return figure
