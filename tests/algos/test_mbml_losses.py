"""MBML's losses on a few rows, with the numbers worked out here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import mbml_losses as losses
from pipelines.algos.context import Gaussian
from pipelines.nets import Net


def last_sum(params, *inputs):
    """A net that adds all its inputs up. -> [..., 1]"""
    return sum(x.sum(-1, keepdims=True) for x in inputs)


ADDING = Net(lambda key: {}, last_sum)
triplet_loss, triplet_slope = jax.jit(losses.triplet_loss), jax.jit(jax.grad(losses.triplet_loss))
batch_hard_loss = jax.jit(losses.batch_hard_loss, static_argnums=2)


def numbers(*values):
    return jnp.array(values, jnp.float32)


def gaussians(mean, variance):
    """Of a latent of one number."""
    return Gaussian(jnp.float32(mean)[..., None], jnp.float32(variance)[..., None])


FEATURES = numbers([[1], [2]], [[3], [4]])  # [T, B, 1]
ACTION = numbers([[0.5], [0]], [[-1], [1]])
Z = numbers([10], [20])


def test_q_loss_by_hand():
    """Q_D = s + a + z = (11.5, 12), (22, 25)."""
    target = numbers([11, 12], [20, 24])
    found = losses.q_loss(ADDING, {}, FEATURES, ACTION, Z, target)
    np.testing.assert_allclose(found, (0.25 + 0 + 4 + 1) / 4, rtol=1e-6)
    slope = jax.jit(jax.grad(losses.q_loss, 4), static_argnums=0)(ADDING, {}, FEATURES, ACTION, Z, target)
    np.testing.assert_allclose(slope, [[2 * 0.5 / 4], [2 * (2 + 1) / 4]], rtol=1e-6)  # z learns from it


def test_kl_loss_is_a_mean_over_tasks_or_their_sum():
    """KL(N(1, 1) || N(0, 1)) = 1/2, of N(3, 1) 9/2."""
    q = gaussians([1, 3], [1, 1])
    np.testing.assert_allclose(losses.kl_loss(q), 2.5, rtol=1e-6)
    np.testing.assert_allclose(losses.kl_loss(q, "sum"), 5, rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.generator_loss, losses.perturbation_loss])
def test_imitation_by_hand_and_z_does_not_learn_from_it(loss):
    """tanh(s + noise + z) against what was shown, both entries of the action."""
    double = Net(lambda key: {}, lambda params, *inputs: jnp.concatenate([last_sum(params, *inputs)] * 2, -1))
    shown = jnp.zeros((2, 2, 2))
    z = numbers([-1], [-3])
    found = jax.jit(loss, static_argnums=0)(double, {}, FEATURES, ACTION, z, shown)
    np.testing.assert_allclose(found, np.mean(2 * np.tanh([0.5, 1, -1, 2]) ** 2), rtol=1e-6)
    biased = Net(lambda key: {}, lambda bias, *inputs: jnp.concatenate([last_sum({}, *inputs) + bias] * 2, -1))
    slopes = jax.jit(jax.grad(loss, (1, 4)), static_argnums=0)(biased, jnp.float32(0), FEATURES, ACTION, z, shown)
    assert slopes[0] != 0
    np.testing.assert_array_equal(slopes[1], np.zeros((2, 1)))


def pairs(*entries):
    """[2, 2] posteriors of variance 1 with these means off the diagonal; what is on it must not count."""
    return gaussians([[jnp.nan, entries[0]], [entries[1], jnp.nan]], np.ones((2, 2)))


FOUND = jnp.array([[False, True], [True, False]])


def test_triplet_loss_by_hand():
    """KL = (difference of means)^2 / 2. Pair (0, 1): 2^2 / 2 - 1^2 / 2 + 2 = 3.5; pair (1, 0): 1/2 - 8 + 2 < 0."""
    anchor, positive, negative = pairs(0, 0), pairs(2, 1), pairs(1, 4)
    np.testing.assert_allclose(triplet_loss(anchor, positive, negative, FOUND, 2.0), 3.5 / 2, rtol=1e-6)
    np.testing.assert_allclose(triplet_loss(anchor, positive, negative, FOUND, 8.0), (9.5 + 0.5) / 2, rtol=1e-6)
    slope = triplet_slope(gaussians([[0, 0], [0, 0]], np.ones((2, 2))), *(
        gaussians([[0, a], [b, 0]], np.ones((2, 2))) for a, b in [(2, 1), (1, 4)]
    ), FOUND, 2.0)  # fmt: skip
    np.testing.assert_allclose(slope.mean[..., 0], [[0, (-2 + 1) / 2], [0, 0]], atol=1e-6)


def test_triplets_compare_anchors_with_others_in_that_direction():
    """KL(N(0, 1) || N(0, 4)) = (log 4 + 1/4 - 1) / 2, which is not the KL the other way round."""
    one, wide = (gaussians([[0, 0], [0, 0]], np.full((2, 2), size)) for size in (1.0, 4.0))
    found = triplet_loss(one, wide, one, FOUND, 0.0)
    np.testing.assert_allclose(found, (np.log(4) - 0.75) / 2, rtol=1e-6)
    np.testing.assert_allclose(triplet_loss(wide, one, one, FOUND, 1.5), 1.5, rtol=1e-6)


def test_a_pair_without_rows_costs_the_margin_and_teaches_nothing():
    anchor, others = gaussians([[0, 0], [0, 0]], np.ones((2, 2))), gaussians([[0, 3], [3, 0]], np.ones((2, 2)))
    gone = FOUND.at[0, 1].set(False)

    np.testing.assert_allclose(triplet_loss(anchor, others, anchor, gone, 2.0), (2 + 4.5 + 2) / 2, rtol=1e-6)
    slope = triplet_slope(anchor, others, anchor, gone, 2.0)
    assert slope.mean[0, 1] == 0
    assert slope.mean[1, 0] != 0
    assert triplet_loss(anchor, others, anchor, jnp.zeros((2, 2), bool), 2.0) == 2


def test_batch_hard_by_hand():
    """Three tasks of two contexts, variance 1: task means (0, 1), (3, 5), (9, 9); KL = difference^2 / 2.

    Furthest of the same task 1/2, 2, 0; nearest of another 2, 2, 8. Of each anchor: nearest 4.5 2 | 2 8 | 8 8."""
    q = gaussians([[0, 1], [3, 5], [9, 9]], np.ones((3, 2)))
    np.testing.assert_allclose(batch_hard_loss(q, 2.0), (0.5 + 2 + 0) / 3, rtol=1e-6)
    by_anchor = [0, 0.5, 2, 0, 0, 0]
    np.testing.assert_allclose(batch_hard_loss(q, 2.0, "anchor"), sum(by_anchor), rtol=1e-6)
    slope = jax.jit(jax.grad(losses.batch_hard_loss))(q, 2.0)
    assert np.isfinite(slope.mean).all()
    assert not slope.mean[2].any()  # far from everybody


def test_batch_hard_of_one_context_each_has_nothing_to_pull_together():
    q = gaussians([[0], [1]], np.ones((2, 1)))
    np.testing.assert_allclose(batch_hard_loss(q, 2.0), 1.5, rtol=1e-6)
