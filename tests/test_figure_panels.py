"""What is in a figure of panels: lines, levels, labels and numbers, not pixels."""

import math

import numpy as np
import pytest
from matplotlib.colors import to_hex

from pipelines.figures import PALETTE, Band, Dots, fitting
from pipelines.figures.panels import Level, Line, Panel, Rungs, curves, curves_of, ladder, ladder_of

X = np.array([0, 500, 1000, 1500])


def line(label="MBML", hue=0, rise=1.0):
    point = rise * X / 500 + 1
    return Line(label, hue, X, Band(point, point - 0.5, point + 0.5))


def panels(count=6):
    level = Level("tiMe", 1, 2.5, 2.0, 3.0)
    return [Panel(f"task {n}", [line(rise=n + 1)], [level], "interactions") for n in range(count)]


def solid(axes):
    return [one for one in axes.get_lines() if len(one.get_xdata()) == len(X)]


def test_six_panels_hold_their_curves_and_levels():
    figure = curves_of(panels())
    assert len(figure.axes) == 6
    for n, axes in enumerate(figure.axes):
        (curve,) = solid(axes)
        np.testing.assert_allclose(curve.get_ydata(), (n + 1) * X / 500 + 1)
        assert (curve.get_label(), to_hex(curve.get_color())) == ("MBML", PALETTE[0].lower())
        (level,) = (one for one in axes.get_lines() if one is not curve)
        assert list(level.get_ydata()) == [2.5, 2.5]
        assert (level.get_label(), to_hex(level.get_color())) == ("tiMe", PALETTE[1].lower())
        assert axes.get_title() == f"task {n}"
        assert len(axes.collections) + len(axes.patches) == 2  # the band, and the level's
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["MBML", "tiMe"]
    assert [axes.get_xlabel() for axes in figure.axes] == [""] * 3 + ["interactions"] * 3
    assert [axes.get_ylabel() for axes in figure.axes] == ["return", "", ""] * 2


def test_a_level_of_one_seed_has_no_band():
    figure = curves_of([Panel("x", [line()], [Level("tiMe", 1, 2.5, math.nan, math.nan)])])
    assert not figure.axes[0].patches
    assert figure.axes[0].get_lines()[1].get_label() == "tiMe"


def test_panels_of_different_measures_say_so():
    loss = Panel("loss", [line()], (), "updates", "loss of Q", log=True)
    figure = curves_of([loss, Panel("returns", [line()], (), "updates"), loss, loss])
    first, second, third, fourth, *rest = figure.axes
    assert [axes.get_yscale() for axes in (first, second)] == ["log", "linear"]
    assert [axes.get_ylabel() for axes in (first, second, third, fourth)] == [
        "loss of Q",
        "return",
        "loss of Q",
    ] * 1 + ["loss of Q"]
    assert not any(axes.get_visible() for axes in rest)
    assert len(rest) == 2


def test_the_mark_of_a_crossing():
    (axes,) = curves_of([Panel("x", [line()], mark=(500.0, 2.0), words="50% saved")]).axes
    dot = axes.get_lines()[-1]
    assert (list(dot.get_xdata()), list(dot.get_ydata()), dot.get_marker()) == ([500.0], [2.0], "o")
    assert [text.get_text() for text in axes.texts] == ["50% saved"]


def test_rungs_are_methods_with_their_bounds():
    dots = [Dots(name, hue, *np.array([hue, hue - 0.5, hue + 1.0])) for hue, name in enumerate(["MBML", "Neither"])]
    figure = ladder_of([Rungs("umaze", dots, "return"), Rungs("ant", dots[1:], "return", zero=True)])
    upper, lower = figure.axes
    assert [label.get_text() for label in upper.get_yticklabels()] == ["MBML", "Neither"]
    assert [float(np.squeeze(one.get_xdata())) for one in upper.get_lines()] == [0.0, 1.0]
    bars = [one.get_segments()[0] for one in upper.collections]
    np.testing.assert_allclose(bars, [[[-0.5, 0], [1, 0]], [[0.5, 1], [2, 1]]])
    assert [axes.get_xlabel() for axes in (upper, lower)] == ["", "return"]
    assert upper.get_xlim()[0] < 0 == lower.get_xlim()[0]
    assert upper.get_ylim()[0] > upper.get_ylim()[1]  # the first is on top


def test_the_same_numbers_give_the_same_bytes():
    assert curves(panels(2)) == curves(panels(2)) != curves(panels(3))
    rungs = [Rungs("x", [Dots("a", 0, np.array(1.0), np.array(0.5), np.array(2.0))], "return")]
    assert ladder(rungs) == ladder(rungs)
    assert ladder(rungs).startswith(b"\x89PNG")


@pytest.mark.parametrize(("labels", "count"), [(["MBML"], 1), (["a" * 40, "b" * 40], 1), (["a" * 30] * 4, 2)])
def test_legends_are_no_wider_than_the_figure(labels, count):
    assert fitting(labels) == count
