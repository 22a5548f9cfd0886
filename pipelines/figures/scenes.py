"""Families drawn from above: what surrounds a task, and where agents went. E episodes, H steps."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Rectangle

from pipelines.core.types import Scene, Shape
from pipelines.figures import FAINT, HALO, INK, MUTED, PALETTE, STYLE, Array, _png

MOST_PANELS = 12  # tasks in one picture
COLOURS = {"goal": PALETTE[2], "wall": INK, "floor": FAINT}
FILM_INCHES, FILM_DPI = 3.6, 100


class Panel(NamedTuple):
    """One task: what it looks like, and the paths of its episodes [E, H + 1, 2]."""

    title: str
    scene: Scene
    paths: Array


def around(paths: Array, scene: Scene | None) -> Scene:
    """The scene, made larger where the paths `[..., 2]` leave it; without one, a scene with nothing in it."""
    points = paths.reshape(-1, 2)
    low, high = points.min(0), points.max(0)
    pad = 0.08 * max(float((high - low).max()), 1e-6)
    low, high = low - pad, high + pad
    if scene is not None:
        low, high = np.minimum(points.min(0) - pad / 2, scene.low), np.maximum(points.max(0) + pad / 2, scene.high)
    return Scene((float(low[0]), float(low[1])), (float(high[0]), float(high[1])), scene.shapes if scene else ())


def above(panels: Sequence[Panel]) -> bytes:
    """A PNG with a panel for each of the first MOST_PANELS tasks, all to one scale: every episode's path, a dot where
    it began, a ring where it ended."""
    panels = panels[:MOST_PANELS]
    columns = min(len(panels), 4 if len(panels) > 4 else 3)
    rows = -(-len(panels) // columns)
    low = np.min([panel.scene.low for panel in panels], axis=0)
    high = np.max([panel.scene.high for panel in panels], axis=0)
    width, height = high - low
    side = 7.0 / columns if columns > 1 else 4.6
    tall = min(max(float(height / width), 0.4), 2.0)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(side * columns, (side * tall + 0.35) * rows + 0.45), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            surroundings(axes, panel.scene._replace(low=tuple(low), high=tuple(high)))
            axes.set_title(panel.title)
            alpha = max(0.25, 0.9 / math.sqrt(len(panel.paths)))
            for path in panel.paths:
                axes.plot(*path.T, color=PALETTE[0], lw=1.1, alpha=alpha, zorder=3)
            axes.scatter(*panel.paths[:, 0].T, s=22, color=INK, zorder=4)
            axes.scatter(
                *panel.paths[:, -1].T, s=26, facecolors="none", edgecolors=PALETTE[1], linewidths=1.4, zorder=5
            )
        handles = [
            Line2D([], [], color=INK, marker="o", ls="", ms=5, label="begin"),
            Line2D([], [], color=PALETTE[1], marker="o", mfc="none", mew=1.4, ls="", ms=5, label="end"),
        ]
        if any(shape.role == "goal" for panel in panels for shape in panel.scene.shapes):
            handles.append(Line2D([], [], color=COLOURS["goal"], marker="o", ls="", ms=7, alpha=0.5, label="goal"))
        figure.legend(handles=handles, loc="outside upper center", ncols=3, handletextpad=0.2)
        return _png(figure)


def film(scene: Scene, path: Array, captions: Mapping[int, str]) -> Iterator[Array]:
    """Frames `[height, width, 3]` uint8 of one episode's path `[H + 1, 2]`: after each step that has a caption."""
    width, height = np.subtract(scene.high, scene.low)
    with matplotlib.rc_context(STYLE):
        figure = Figure((FILM_INCHES, FILM_INCHES * min(max(float(height / width), 0.4), 2.0) + 0.3), FILM_DPI)
        figure.subplots_adjust(0.02, 0.02, 0.98, 0.9)
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots()
        surroundings(axes, scene)
        (trail,) = axes.plot([], [], color=PALETTE[0], lw=1.6, zorder=3)
        (agent,) = axes.plot([], [], "o", color=PALETTE[1], ms=9, mec="white", mew=1.2, zorder=5)
        caption = axes.set_title("", path_effects=HALO)
        for step, text in captions.items():
            trail.set_data(*path[: step + 1].T)
            agent.set_data(*path[step : step + 1].T)
            caption.set_text(text)
            canvas.draw()
            yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


APART = 0.14  # of a cell, from one episode's line to the next


def paths_apart(paths: Array) -> Array:
    """`[K, H + 1, 2]`; in a grid, whose places are whole numbers, moved apart a little so that each episode shows."""
    if not np.array_equal(paths, np.round(paths)):
        return paths
    shift = APART * (np.arange(len(paths)) - (len(paths) - 1) / 2)
    return np.asarray(paths + shift[:, None, None])


def episode_lines(axes: Axes, paths: Array) -> None:
    """A colour for each episode of `paths [K, H + 1, 2]`, a dot where it began, a ring where it ended."""
    for episode, path in enumerate(paths_apart(paths)):
        colour = PALETTE[episode % len(PALETTE)]
        axes.plot(*path.T, color=colour, lw=1.4, alpha=0.85, zorder=3, label=f"episode {episode + 1}")
        axes.plot(*path[:1].T, "o", color=colour, ms=4, zorder=4)
        axes.plot(*path[-1:].T, "o", mfc="none", mec=colour, ms=6, mew=1.4, zorder=5)


def surroundings(axes: Axes, scene: Scene, outlined: bool = False) -> None:
    """The scene, and axes that are as large as it; `outlined`: goals do not hide what lies under them."""
    for shape in scene.shapes:
        _shape(axes, shape, outlined)
    (x0, y0), (x1, y1) = scene.low, scene.high
    axes.set(xlim=(x0, x1), ylim=(y0, y1), aspect="equal")
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(FAINT)


def _shape(axes: Axes, shape: Shape, outlined: bool) -> None:
    colour = COLOURS.get(shape.role, MUTED)
    goal = shape.role == "goal"
    numbers = shape.numbers
    if shape.kind == "line":
        axes.plot(numbers[::2], numbers[1::2], color=colour, lw=1.0 if shape.role == "floor" else 2.0, zorder=1)
        return
    style: dict[str, Any] = {
        "facecolor": colour if (shape.solid or goal) and not (goal and outlined) else "none",
        "edgecolor": colour,
        "alpha": 0.4 if goal and not outlined else 1.0,
        "linewidth": 1.6 if goal and outlined else 1.0,
        "zorder": 2 if goal else 1,
    }
    if shape.kind == "circle":
        axes.add_patch(Circle((numbers[0], numbers[1]), numbers[2], **style))
    elif shape.kind == "box":
        x, y, half_width, half_height = numbers
        axes.add_patch(Rectangle((x - half_width, y - half_height), 2 * half_width, 2 * half_height, **style))
    else:
        raise ValueError(f"a shape of kind {shape.kind!r}")
