"""IQL's losses by hand, and the expectile that its value converges to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos.iql import actor_loss, expectile_loss, weights

ADVANTAGE = jnp.array([1.0, -2.0, 3.0])


def test_expectile_loss_by_hand():
    """0.7 * 1, 0.3 * 4 and 0.7 * 9, over 3; at 1/2 it is half the mean square."""
    np.testing.assert_allclose(expectile_loss(ADVANTAGE, 0.7), (0.7 + 1.2 + 6.3) / 3, rtol=1e-6)
    np.testing.assert_allclose(expectile_loss(ADVANTAGE, 0.5), 14 / 6, rtol=1e-6)


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.9, 0.99])
def test_the_loss_is_least_at_the_expectile(expectile):
    """The v with tau E[(x - v)+] = (1 - tau) E[(v - x)+], found by bisection."""
    values = np.random.default_rng(0).normal(size=2_000)
    low, high = values.min(), values.max()
    for _ in range(60):
        middle = (low + high) / 2
        excess = (
            expectile * np.maximum(values - middle, 0).mean() - (1 - expectile) * np.maximum(middle - values, 0).mean()
        )
        low, high = (middle, high) if excess > 0 else (low, middle)
    slope = jax.grad(lambda v: expectile_loss(jnp.float32(values) - v, expectile))
    assert abs(slope(jnp.float32(low))) < 1e-4
    assert slope(jnp.float32(low - 0.2)) < -0.01
    assert slope(jnp.float32(low + 0.2)) > 0.01


def test_weights_by_hand_and_cut():
    np.testing.assert_allclose(weights(ADVANTAGE, 2.0, 100.0), [np.exp(2), np.exp(-4), 100], rtol=1e-6)
    np.testing.assert_allclose(weights(ADVANTAGE, 0.0, 100.0), np.ones(3))
    np.testing.assert_array_equal(weights(jnp.array([1e4]), 3.0, 100.0), [100])  # exp overflows; the weight does not


def test_actor_loss_by_hand():
    """-(2 * -1 + 0 * 5 + 1 * 3) / 3"""
    found = actor_loss(jnp.array([-1.0, 5.0, 3.0]), jnp.array([2.0, 0.0, 1.0]))
    np.testing.assert_allclose(found, -1 / 3, rtol=1e-6)
