import io

import matplotlib.image
import numpy as np
import pytest

from pipelines import figures
from pipelines.figures import Band, Dots, Goal, Learning
from pipelines.figures.latents import latents, plane

GOALS = [Goal("0°", 10, 0), Goal("90°", 0, 10), Goal("180°", -10, 0)]
NOWHERE = np.full(4, np.nan)


def pixels(png):
    """[height, width, 3] in 0..255"""
    return np.round(matplotlib.image.imread(io.BytesIO(png))[..., :3] * 255).astype(int)


def count(png, colour):
    """Pixels within 3 of `colour`, a hex code."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(pixels(png) - wanted).max(-1) <= 3).sum())


def paths_to(ends, episodes=4, steps=5):
    """Straight walks from the origin. ends [T, 2] -> [T, P, H + 1, 2]"""
    straight = np.linspace(0, 1, steps + 1)[:, None] * np.asarray(ends, float)[:, None, None]
    return np.repeat(straight, episodes, axis=1)


def dots(label="tiMe", hue=0, point=(0.9, 0.8, 0.7, 0.8), half=0.1):
    point = np.array(point)
    return Dots(label, hue, point, point - half, point + half)


def learning(label="tiMe", hue=0, half=3.0, gap=10.0):
    steps = np.arange(0, 5000, 500)
    returns = -200 + 0.03 * steps

    def around(values):
        return Band(values, values - half, values + half)

    return Learning(label, hue, steps, around(returns), around(returns / 2), around(returns / 2 + gap))


def draw_learning(**options):
    return figures.learning([learning(**options)], {"oracle": -45.0, "random": -200.0})


def test_the_same_picture_has_the_same_bytes():
    assert draw_learning() == draw_learning() != draw_learning(half=4.0)


def test_every_picture_is_a_sharp_png():
    every = {
        "paths": lambda: figures.paths(paths_to([(10, 0), (0, 10), (-10, 0)]), GOALS, np.zeros(2), True),
        "scores": lambda: figures.scores([dots()], ["0°", "90°", "180°", "all"], np.full(4, 0.92)),
        "profile": lambda: figures.profile([dots()], list("abcd"), np.full(4, 0.92)),
        "latents": lambda: latents(np.random.default_rng(0).normal(size=(5, 3, 3, 4)), ["0°", "90°", "180°"]),
        "proposition": lambda: figures.proposition(np.array([1, 10, 100]), np.ones(3), np.ones((3, 2))),
        "sweep": lambda: figures.sweep(np.array([0.1, 0.2, 0.3, 0.4]), [dots()], "share", {"oracle": 1.0}),
    }
    for name, draw in every.items():
        png = draw()
        assert png.startswith(b"\x89PNG"), name
        assert pixels(png).shape[1] >= 1040, name  # at least 520 page pixels at twice the density


def test_the_pooled_agents_ends_are_red_and_every_goal_of_the_method_has_its_colour():
    walks = paths_to([(9, 1), (1, 9), (-9, 1)])
    apart = figures.paths(walks, GOALS, np.zeros(2), by_goal=True)
    together = figures.paths(walks, GOALS, np.zeros(2), by_goal=False)
    colours = ["#5B3A96", "#1B9E77", "#E08A00"]
    assert all(count(apart, colour) > 200 for colour in colours)
    assert not any(count(together, colour) > 20 for colour in colours)
    red = (pixels(together) * [1, -1, -1]).sum(-1) > 60
    assert red.sum() > 200
    assert not ((pixels(apart)[..., 0] > 180) & (pixels(apart)[..., 1:].max(-1) < 70)).any()


def test_ends_are_drawn_where_they_are():
    """A lone agent ends left of the start: the red lies in the left half of the picture, right for the right."""
    for x in (-8.0, 8.0):
        image = pixels(figures.paths(paths_to([(x, 4)] * 3), GOALS, np.zeros(2), by_goal=False))
        red = np.nonzero((image * [1, -1, -1]).sum(-1)[200:] > 60)[1].mean()  # below the legend
        assert (red < image.shape[1] / 2) == (x < 0)


def test_many_goals_and_strays_fit():
    angles = np.radians(np.linspace(6, 174, 14))
    ends = 10 * np.stack([np.cos(angles), np.sin(angles)], -1)
    goals = [Goal(str(i), float(x), float(y)) for i, (x, y) in enumerate(ends)]
    straying = pixels(figures.paths(paths_to(ends * 2), goals, np.zeros(2), True))
    near = pixels(figures.paths(paths_to(ends), goals, np.zeros(2), True))
    assert straying.shape[1] == near.shape[1]
    assert not np.array_equal(straying, near)


def test_one_seed_has_no_band():
    """The band's tint is there with bounds, and gone without."""
    tint = "#D6E7F3"
    assert count(draw_learning(half=9.0), tint) > 10_000
    assert count(draw_learning(half=np.nan), tint) < 1_000  # soft edges of lines
    bare = figures.scores([dots(half=np.nan)], list("abcd"), NOWHERE)
    barred = figures.scores([dots(half=0.3)], list("abcd"), NOWHERE)
    assert (pixels(barred) < 250).sum() > (pixels(bare) < 250).sum() + 1000


def test_a_method_without_a_value_estimate_is_drawn_without_it():
    with_value = draw_learning(gap=30.0)
    without = draw_learning(gap=np.nan)
    assert count(with_value, figures.PALETTE[0]) > count(without, figures.PALETTE[0]) > 1000


def test_colours_follow_the_method_not_its_place():
    both = [learning("tiMe", 0), learning("pooled", 1, gap=60)]
    one = figures.learning(both, {})
    assert min(count(one, figures.PALETTE[0]), count(one, figures.PALETTE[1])) > 1000
    alone = figures.learning(both[1:], {})
    assert count(alone, figures.PALETTE[0]) < 20
    assert count(alone, figures.PALETTE[1]) > 1000


def test_no_two_methods_look_alike():
    looks = [figures._look(hue) for hue in range(40)]
    assert len(set(looks)) == len(looks)


@pytest.mark.parametrize("places", [[0.5, 0.5, 0.5], [0.9, 0.1, 0.12], [0.0, 0.04, 1.0]])
def test_names_of_levels_keep_their_distance_and_order(places):
    places = np.array(places)
    moved = figures._spread(places, room=0.08)
    assert np.diff(np.sort(moved)).min() >= 0.08 - 1e-6
    order = np.argsort(places, kind="stable")
    assert (np.diff(moved[order]) > 0).all()
    assert moved.mean() == pytest.approx(places.mean())


def test_names_that_are_apart_stay():
    places = np.array([0.9, 0.1, 0.5])
    np.testing.assert_array_equal(figures._spread(places, room=0.08), places)


# ---- posteriors in the plane -----------------------------------------------------------------------------------------


def test_the_plane_of_the_two_directions_that_vary_most():
    """Points on a line (3, 0, -4) t, and a fifth as much off it along y."""
    t = np.linspace(-1, 1, 21)
    points = np.stack([3 * t, np.where(np.arange(21) % 2, 1.0, -1.0) * 0.2, -4 * t], -1)
    points = points + np.array([5, 6, 7])
    middle, directions, share = plane(points)
    np.testing.assert_allclose(middle, points.mean(0))
    np.testing.assert_allclose(directions[:, 0], (-0.6, 0, 0.8), atol=0.02)  # its greatest entry is positive
    np.testing.assert_allclose(np.abs(directions[:, 1]), (0, 1, 0), atol=0.02)
    assert share[0] > 0.9 > 0.1 > share[1] > 0
    assert share.sum() == pytest.approx(1)


@pytest.mark.parametrize("points", [np.zeros((4, 3)), np.ones((4, 1)), np.arange(4.0)[:, None]])
def test_a_plane_of_less_than_two_directions(points):
    middle, directions, share = plane(points)
    assert np.isfinite(directions).all()
    np.testing.assert_allclose(((points - middle) @ directions)[:, 1], 0, atol=1e-12)
    assert share[1] == 0


def test_latents_have_the_colour_of_rewards_and_of_rows():
    """Of the swapped contexts only those with task 0's rewards are known: in the middle all have its colour, on the
    right none has."""
    mean = np.full((40, 3, 3, 2), np.nan)
    mean[:, 0] = np.random.default_rng(0).normal(size=(40, 3, 2))
    mean[:, 1, 1], mean[:, 2, 2] = (9, 0), (0, 9)
    drawn = pixels(latents(mean, ["a", "b", "c"]))
    first = np.array([int(figures._goal_colours(3)[0][i : i + 2], 16) for i in (1, 3, 5)])
    dots = 0.75 * first + 0.25 * 255  # they let a quarter of the white shine through
    mine = (np.abs(drawn[drawn.shape[0] // 4 :] - dots).max(-1) <= 8).sum(0)  # below the legend
    third = drawn.shape[1] // 3
    assert mine[third : 2 * third].sum() > 200
    assert mine[2 * third :].sum() < 20
