"""What is in the pictures of exploration: bars, maps and ways so far, read from the figures before they are bytes."""

import numpy as np
import pytest

from pipelines.core.types import Scene, Shape
from pipelines.figures import PALETTE, Dots, exploring, scenes
from pipelines.figures.exploring import Arms, Doors, Map, Trial, Visits

GOAL = Scene((-1.0, -1.0), (3.0, 3.0), (Shape("circle", (1.0, 0.0, 0.2), "goal"),))
PATHS = np.stack(
    [np.stack([np.linspace(0, e + 0.5, 4), np.zeros(4)], -1) for e in (1, 2)]
)  # two episodes of three steps


def belief():
    values = np.zeros((7, 4, 2))
    values[:, 3, 1] = np.arange(7) / 6
    return Map(values, np.arange(7), (-2.0, 0.0), (2.0, 2.0))


def test_bars_have_their_heights_and_levels():
    arms = [
        Dots("one", 0, np.array(2.0), np.array(1.0), np.array(3.0)),
        Dots("two", 1, np.array(-1.0), *[np.array(np.nan)] * 2),
    ]
    figure = exploring.bars_of([Arms("family", arms, {"best": 5.0}), Arms("another", arms[:1], {})])
    first, second = figure.axes
    assert [patch.get_height() for patch in first.patches] == [2.0, -1.0]
    assert "best" in [text.get_text() for text in first.texts]
    low, high = first.get_ylim()
    assert low < -1 and high > 5
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["one", "two"]
    assert (first.get_title(), second.get_title()) == ("family", "another")


def test_a_map_is_drawn_x_to_the_right_at_its_moment():
    parts = {"prior": 0.0, "half": 0.5, "the end": 1.0}
    figure = exploring.narrowing_of([Trial("mine", GOAL, PATHS, belief())], parts)
    assert [axes.get_title(loc="center") for axes in figure.axes] == list(parts)
    for axes, wanted in zip(figure.axes, (0, 0.5, 1), strict=True):
        (image,) = axes.get_images()
        assert image.get_array().shape == (2, 4) and image.get_extent() == [-2.0, 2.0, 0.0, 2.0]
        assert image.get_array()[1, 3] == pytest.approx(wanted) and image.origin == "lower"
    lengths = [[len(one.get_xdata()) for one in axes.lines if len(one.get_xdata()) > 1] for axes in figure.axes]
    assert lengths == [[], [4], [4, 4]]  # nothing, the first episode, both


def test_doors_are_wedges_around_the_room():
    """Of four directions, counted from the x axis; the one to the left is believed in as time goes on."""
    values = np.zeros((7, 4))
    values[:, 2] = np.arange(7) / 6
    trial = Trial("mine", GOAL, PATHS, Doors(values, np.arange(7)))
    figure = exploring.narrowing_of([trial], {"prior": 0.0, "half": 0.5, "the end": 1.0})
    for axes, wanted in zip(figure.axes, (0, 0.5, 1), strict=True):
        (ring,) = axes.collections
        np.testing.assert_allclose(ring.get_array(), [0, 0, wanted, 0])
        assert ring.get_clim() == (0, 1) and len(ring.get_paths()) == 4
        left = ring.get_paths()[2].get_extents()
        assert (left.x0, left.y0) == pytest.approx((-1.5, -1.5 * np.sin(np.pi / 4)), abs=1e-6)
        assert axes.get_xlim() == (-1.6, 1.6)
    assert len(list(exploring.search_film(trial, {0: "begin", 6: "end"}))) == 2


def test_few_places_have_their_numbers():
    figure = exploring.narrowing_of([Trial("mine", GOAL, PATHS, belief())], {"the end": 1.0})
    assert sorted({text.get_text() for text in figure.axes[0].texts}) == [".00", "1"]


def test_each_episode_has_its_colour():
    figure = exploring.above_of([Trial("a", GOAL, PATHS), Trial("b", GOAL, PATHS)])
    for axes in figure.axes:
        ways = [one for one in axes.lines if len(one.get_xdata()) == 4]
        assert [one.get_color() for one in ways] == list(PALETTE[:2])
        np.testing.assert_allclose(ways[1].get_xdata(), PATHS[1, :, 0])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["episode 1", "episode 2"]


def test_ways_of_a_grid_are_moved_apart():
    whole = np.round(PATHS)
    apart = scenes.paths_apart(whole)
    np.testing.assert_allclose(apart[1] - whole[1], scenes.APART / 2)
    np.testing.assert_allclose(apart[0] - whole[0], -scenes.APART / 2)
    assert scenes.paths_apart(PATHS) is PATHS


def test_a_film_has_a_frame_for_each_caption():
    captions = {0: "begin", 3: "half", 6: "end"}
    frames = list(exploring.search_film(Trial("mine", GOAL, PATHS, belief()), captions))
    assert len(frames) == 3 and frames[0].shape == frames[2].shape and frames[0].dtype == np.uint8
    assert (frames[0] != frames[1]).any() and (frames[1] != frames[2]).any()
    again = list(exploring.search_film(Trial("mine", GOAL, PATHS), captions))
    assert len(again) == 3


@pytest.mark.parametrize(("points", "count"), [([[0, 0], [2, 1], [2, 1]], 2), ([[0.1, 0.1], [2.1, 1.3]], 2)])
def test_a_log_is_seen_where_it_was(points, count):
    """In a grid a square is a cell, around its middle."""
    figure = exploring.density_of(
        [Visits("log", GOAL._replace(low=(-0.5, -0.5), high=(2.5, 2.5)), np.array(points, float))]
    )
    (mesh,) = figure.axes[0].collections
    share = np.ma.filled(mesh.get_array(), 0)
    assert (share > 0).sum() == count and share.sum() == pytest.approx(1)
    if points[0] == [0, 0]:
        assert share.reshape(3, 3)[1, 2] == pytest.approx(2 / 3)
