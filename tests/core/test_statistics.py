import math

import numpy as np
import pytest
from scipy import stats

from pipelines.core.statistics import Interval, band, bootstrap, interval, iqm, number


@pytest.mark.parametrize("size", [*range(1, 10), 20])
def test_iqm_is_scipys_trimmed_mean(size):
    values = np.random.default_rng(size).normal(size=(3, size))
    np.testing.assert_allclose(iqm(values), stats.trim_mean(values, 0.25, axis=1), rtol=1e-12)


def test_iqm_by_hand():
    assert iqm(np.array([5.0, -100.0, 1.0, 2.0, 100.0])) == pytest.approx((1 + 2 + 5) / 3)  # one is cut from each end
    assert iqm(np.array([1.0, 2.0, 9.0])) == pytest.approx(4)  # a quarter of three, rounded down, is none
    np.testing.assert_allclose(iqm(np.array([[1.0, 2.0], [3.0, 8.0]]), axis=0), [2, 5])


def test_tasks_are_strata():
    """Tasks that differ and seeds that do not: only a resample that mixed tasks would vary."""
    scores = np.tile([0.0, 0.2, 1.0], (5, 1))
    assert interval(scores)[:3] == pytest.approx((0.4, 0.4, 0.4))
    assert np.ptp(bootstrap(scores)) == 0
    assert np.ptp(bootstrap(scores.reshape(-1, 1))) > 0.1  # the control: strata ignored


def test_a_seed_is_drawn_whole():
    """Against a slow bootstrap in plain Python with its own random numbers. The control: a seed that fails in every
    task is one run of five and makes the interval wide; drawn task by task it would hide among the others."""
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(5, 3)) + np.array([0, 2, 5])
    scores[4] -= 10
    slow = [stats.trim_mean([scores[rng.integers(5)].mean() for _ in range(5)], 0.25) for _ in range(2000)]
    found = interval(scores)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=0.4)
    assert found.point == pytest.approx(stats.trim_mean(scores.mean(1), 0.25))
    apart = np.quantile(bootstrap(scores), [0.025, 0.975])
    assert found.high - found.low > 1.3 * np.ptp(apart)


def test_a_task_that_nobody_solves_counts():
    """Of eight tasks one is failed by all seeds: a trimmed mean over seeds and tasks would not see it."""
    scores = np.ones((4, 8))
    scores[:, 0] = -1.0
    assert interval(scores).point == pytest.approx(0.75)
    assert iqm(scores.ravel()) == 1


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [interval(rng.normal(7, 1, size=(24, 1)), seed, replicates=400) for seed in range(300)]
    share = np.mean([low <= 7 <= high for _, low, high, _ in found])
    assert 0.88 <= share <= 0.98  # the percentile bootstrap is known to be somewhat short for few seeds


def test_same_scores_same_interval():
    scores = np.random.default_rng(1).normal(size=(20, 3))
    assert interval(scores) == interval(scores)
    assert interval(scores, seed=1).low != interval(scores, seed=2).low


def test_one_seed_has_no_interval():
    found = interval(np.array([[0.9, 0.7]]))
    assert found.point == pytest.approx(0.8)
    assert (math.isnan(found.low), math.isnan(found.high), found.n) == (True, True, 1)
    assert str(found) == "0.80 (n=1)"


def test_a_missing_score_is_not_left_out():
    found = interval(np.array([0.9, np.nan, 0.7]))
    assert math.isnan(found.point)
    assert str(found) == "– (n=3)"


def test_no_scores_are_refused():
    with pytest.raises(ValueError, match="no scores"):
        interval(np.zeros((0, 3)))


def test_writing():
    assert str(Interval(0.912, 0.88, 0.931, 5)) == "0.91 [0.88, 0.93] (n=5)"
    assert Interval(-151.26, -160, -150.04, 3).brief(1) == "-151.3 [-160.0, -150.0]"
    assert [number(value) for value in (-0.001, 0.005001, math.nan, -1.5)] == ["0.00", "0.01", "–", "-1.50"]


def test_band_is_an_interval_at_every_point():
    curves = np.random.default_rng(2).normal(size=(4, 6))
    point, low, high = band(curves)
    assert (point[3], low[3], high[3], 4) == interval(curves[:, 3])
    assert np.isnan(band(curves[:1])[1]).all()
