"""The actor's loss of TD3+BC by hand, and what its weight does."""

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.algos.td3bc import actor_loss
from tests.toys import SPACE, make, make_log

Q = jnp.array([2.0, -4.0, 6.0])  # mean 4/3, mean size 4
ACTION, LOGGED = jnp.array([[0.5], [0.0], [1.0]]), jnp.array([[0.0], [0.0], [-1.0]])  # squares 1/4, 0, 4


def test_the_loss_by_hand():
    """lambda = 2.5 / 4; -lambda 4/3 + (1/4 + 0 + 4) / 3."""
    np.testing.assert_allclose(actor_loss(Q, ACTION, LOGGED, 2.5), -2.5 / 4 * 4 / 3 + 4.25 / 3, rtol=1e-6)


def test_values_of_another_size_weigh_the_same():
    np.testing.assert_allclose(
        actor_loss(1_000 * Q, ACTION, LOGGED, 2.5), actor_loss(Q, ACTION, LOGGED, 2.5), rtol=1e-5
    )


def test_lambda_has_no_gradient():
    """Each value's slope is -lambda / 3, as if lambda were a number; through |Q| it would be another."""
    np.testing.assert_allclose(jax.grad(actor_loss)(Q, ACTION, LOGGED, 2.5), [-2.5 / 4 / 3] * 3, rtol=1e-6)


def test_values_at_zero_do_not_blow_up():
    assert np.isfinite(jax.grad(actor_loss)(jnp.zeros(3), ACTION, LOGGED, 2.5)).all()


def test_observations_are_normalised_unless_told_otherwise():
    log = make_log(0)
    scaled = make("td3bc").init(jax.random.key(0), log).normaliser
    plain = make("td3bc", scale_obs=False, scale_reward=False).init(jax.random.key(0), log).normaliser
    held = np.delete(log.obs, [4, 8, 14], axis=0)  # the last observation of an episode begins no row
    np.testing.assert_allclose(scaled.obs_std, held.std(0), rtol=1e-5)
    np.testing.assert_allclose(scaled.reward_std, log.reward.std(), rtol=1e-5)
    np.testing.assert_array_equal(plain.obs_mean, np.zeros(SPACE.obs_shape))
    np.testing.assert_array_equal([*plain.obs_std, plain.reward_std], np.ones(4))
