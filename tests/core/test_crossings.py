"""How much sooner one curve is where another ends, by hand and against what pairing is for."""

import math

import numpy as np
import pytest

from pipelines.core.crossings import first, reach, weights

STEPS = np.array([0, 10, 20, 30])


def test_the_first_step_at_a_level():
    curve = np.array([1.0, 3.0, 2.0, 5.0])
    for level, step in ((0.0, 0), (1.0, 0), (2.0, 10), (3.0, 10), (4.0, 30), (5.5, math.inf)):
        assert first(STEPS, curve, np.array(level)) == step
    np.testing.assert_array_equal(first(STEPS, np.stack([curve, curve + 3]), np.array([4.0, 6.0])), [30, 10])


def test_every_resample_weighs_as_much():
    """Of several seeds each task keeps its share; of one seed tasks are drawn, and only then does a task lose it."""
    several, one = weights(4, 3, 0, 50), weights(1, 3, 0, 50)
    np.testing.assert_allclose(several.sum(1), 1 / 3)
    np.testing.assert_allclose(one.sum((1, 2)), 1)
    assert several.shape == (50, 4, 3) and one.shape == (50, 1, 3)
    assert (one == 0).any() and (several == 0).any()


def test_the_point_is_of_the_mean_over_seeds_and_tasks():
    """Means 0, 4, 6, 9 of the curves and an end of (2 + 8 + 3 + 7) / 4 = 5: reached at 20 of 30."""
    curves = np.array([[[0, 0], [8, 0], [12, 4], [9, 9]], [[0, 0], [4, 4], [8, 0], [9, 9]]], float)
    others = np.zeros((2, 4, 2))
    others[:, -1] = [[2, 8], [3, 7]]
    found = reach(STEPS, curves, others)
    assert (found.needed.point, found.needed.n, found.drawn) == (20, 2, "seeds")
    assert found.needed.low <= 20 <= found.needed.high
    assert found.share(30.0).point == pytest.approx(2 / 3)
    whole = found.share(30.0, before=20.0, other_before=10.0)  # 40 of the other's 40
    assert whole.point == pytest.approx(1.0)
    assert whole.n == 2


def pairs(num_seeds=5, num_tasks=4):
    """Both curves of a pair rise from the same place, which differs from pair to pair by 100 times what they rise."""
    rng = np.random.default_rng(0)
    at = rng.normal(0, 300, (num_seeds, 1, num_tasks))
    return at + np.array([0.0, 2.5, 3, 3])[:, None], at + np.array([0.0, 1, 2, 2])[:, None]


def test_what_makes_a_task_hard_is_no_difference():
    """Every pair says 10; with the other curves of other seeds, the control, next to nothing is known."""
    curves, others = pairs()
    assert reach(STEPS, curves, others).needed == (10, 10, 10, 5)
    mixed = reach(STEPS, curves, others[[1, 2, 3, 4, 0]])
    assert mixed.needed.low == 0
    assert math.isinf(mixed.needed.high)
    assert 0 < mixed.reached < 1


def test_of_one_seed_tasks_are_drawn():
    curves, others = pairs(num_seeds=1)
    found = reach(STEPS, curves, others)
    assert (found.needed, found.drawn) == ((10, 10, 10, 1), "tasks")
    slow = np.array(others)
    slow[..., 0] -= 1  # one task is slower
    span = reach(STEPS, slow, others).needed
    assert span.low < span.high


def test_of_one_curve_there_is_no_interval():
    curves, others = pairs(1, 1)
    found = reach(STEPS, curves, others).needed
    assert found.point == 10
    assert np.isnan([found.low, found.high]).all()


def test_what_is_never_reached_has_no_end():
    curves, others = pairs()
    found = reach(STEPS, curves - 10, others)
    assert found.needed[:3] == (math.inf,) * 3
    assert found.reached == 0
    assert math.isinf(found.share(30.0).point)
