import jax
import numpy as np
import pytest

from pipelines.core.normaliser import Normaliser, fit, fixed, moments
from pipelines.core.types import transitions
from tests.toys import SPACE, make_log, stacked


def by_numpy(*logs):
    """Moments over the rows of all logs: observations weigh once per row, as batches draw them."""
    batches = [transitions(log, np.arange(int(log.size))) for log in logs]
    obs, reward = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("obs", "reward"))
    return obs.mean(0), obs.std(0), reward.mean(), reward.std()


def test_fit_to_one_log():
    log = make_log(0, (4, 3, 5))
    for found, want in zip(fit(log), by_numpy(log), strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-5)


def test_padding_counts_for_nothing_and_logs_are_one():
    logs = [make_log(0, (2, 1)), make_log(1, (40, 3)), make_log(2, (7,))]
    stack = jax.tree.map(np.array, stacked(*logs))
    for task, log in enumerate(logs):  # whatever lies past the end of a log
        stack.reward[task, int(log.size) :] = np.nan
        stack.obs[task, len(log.obs) :] = np.nan
    for found, want in zip(fit(stack), by_numpy(*logs), strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-5)
    mean_of_means = np.mean([log.reward.mean() for log in logs])
    assert abs(mean_of_means - fit(stack).reward_mean) > 1  # the control: tasks weighed equally


def test_standard_units():
    log = make_log(3, (30, 20))
    norm, batch = fit(log), transitions(log, np.arange(50))
    for values in (norm.obs(batch.obs), norm.reward(batch.reward)):
        np.testing.assert_allclose(np.mean(values, 0), 0, atol=1e-5)
        np.testing.assert_allclose(np.std(values, 0), 1, rtol=1e-4)


def test_a_column_that_never_moves_keeps_its_size():
    """A constant reward of 1, divided by a tiny deviation, would ask the critics for thousands."""
    log = make_log(0)
    log = log._replace(reward=np.ones_like(log.reward), obs=log.obs * np.array([1.0, 0.0, 1.0], np.float32))
    norm = fit(log)
    assert norm.reward_std == 1
    assert norm.obs_std[1] == 1
    np.testing.assert_array_equal(norm.obs(np.array([0.0, 0.5, 0.0], np.float32))[1], 0.5)


def test_fixed_scales():
    norm = fixed(SPACE, 10.0, 4.0)
    np.testing.assert_allclose(norm.obs(np.array([10.0, -5.0, 0.0], np.float32)), [1, -0.5, 0])
    assert norm.reward_mean == 0
    assert norm.reward_std == 4


def test_moments_by_hand():
    values = np.array([[1.0, 10.0], [3.0, 10.0], [np.nan, 7.0]], np.float32)
    mean, std = moments(values, np.array([True, True, False]))
    np.testing.assert_allclose(mean, [2, 10])
    np.testing.assert_allclose(std[0], 1)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_log_of_one_row_gives_finite_scales(rows):
    norm = fit(make_log(0, (1,) * rows))
    assert isinstance(norm, Normaliser)
    assert all(np.isfinite(leaf).all() for leaf in norm)
