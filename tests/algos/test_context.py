"""What set encoders share, with the numbers worked out here: products of Gaussians, masks, divergences, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import context
from pipelines.algos.context import Factors, Gaussian, product_of_gaussians
from pipelines.core.normaliser import fit
from pipelines.core.types import transitions
from pipelines.nets import Net
from tests.toys import SPACE, make_log


def numbers(*values):
    return jnp.array(values, jnp.float32)


# ---- products of Gaussians -------------------------------------------------------------------------------------------


def test_product_of_gaussians_by_hand():
    """N(1, 1/2) N(4, 1/4): precision 2 + 4, mean (2 * 1 + 4 * 4) / 6 = 3. The prior adds 1 to the precision."""
    seen = context.gathered(Factors(numbers(2, 4)[:, None], numbers(2 * 1, 4 * 4)[:, None]))
    np.testing.assert_allclose(product_of_gaussians(seen), [[3], [1 / 6]], rtol=1e-6)
    np.testing.assert_allclose(product_of_gaussians(seen, prior=True), [[18 / 7], [1 / 7]], rtol=1e-6)


@pytest.mark.parametrize("prior", [False, True])
def test_product_of_gaussians_is_the_product(prior):
    """Against multiplying the densities on a grid."""
    mean, variance = np.array([-1.0, 0.5, 2.0]), np.array([0.3, 2.0, 0.9])
    grid = np.linspace(-8, 8, 20_001)
    density = np.exp(-((grid[:, None] - mean) ** 2 / (2 * variance)).sum(1) - prior * grid**2 / 2)
    density /= density.sum()
    want = [(grid * density).sum(), ((grid - (grid * density).sum()) ** 2 * density).sum()]
    seen = Factors(jnp.float32((1 / variance).sum()), jnp.float32((mean / variance).sum()))
    np.testing.assert_allclose(product_of_gaussians(seen, prior), want, rtol=1e-4)


@pytest.mark.parametrize("prior", [False, True])
def test_no_factors_are_the_prior(prior):
    found = product_of_gaussians(context.nothing_seen(3), prior)
    np.testing.assert_array_equal(found.mean, np.zeros(3))
    np.testing.assert_array_equal(found.variance, np.ones(3))
    slope = jax.grad(lambda p: sum(x.sum() for x in product_of_gaussians(Factors(p, p), prior)))(jnp.zeros(3))
    assert np.isfinite(slope).all()


def test_a_mask_leaves_rows_out_and_an_empty_one_leaves_the_prior():
    """Three sets of the same three factors: all of them, the last two, none. Masked rows may hold anything."""
    each = Factors(numbers(1, 2, 4), numbers(3, 2 * 1, 4 * 4))
    each = Factors(*(jnp.broadcast_to(leaf[:, None], (3, 3, 1)) for leaf in each))
    mask = jnp.array([[True, True, True], [False, True, True], [False, False, False]])
    found = product_of_gaussians(context.gathered(each, mask))
    np.testing.assert_allclose(found.mean[:, 0], [3, 3, 0], rtol=1e-6)
    np.testing.assert_allclose(found.variance[:, 0], [1 / 7, 1 / 6, 1], rtol=1e-6)
    spoilt = Factors(*(leaf.at[1:, 0].set(jnp.nan) for leaf in each))
    again = product_of_gaussians(context.gathered(spoilt, mask))
    np.testing.assert_array_equal(again.mean, found.mean)

    def total(each):
        return sum(leaf.sum() for leaf in product_of_gaussians(context.gathered(each, mask)))

    slope = jax.grad(total)(each)
    assert all(np.isfinite(leaf).all() for leaf in slope)
    assert all((np.asarray(leaf)[..., 0] != 0).tolist() == mask.tolist() for leaf in slope)


def encoder_of(mean, raw):
    """A net whose factor has a given mean and raw variance for the sum of all that it sees."""

    def apply(params, *inputs):
        total = sum(x.sum(-1, keepdims=True) for x in inputs)
        return jnp.concatenate([mean(total), raw(total)], -1)

    return Net(lambda key: {}, apply)


def test_variances_are_softplus_and_held_above_the_least():
    """softplus(log(e - 1)) = 1; softplus(-100) is 0 to float32."""
    log, rows = make_log(0), jnp.arange(4)
    norm, batch = fit(log), transitions(jax.tree.map(jnp.asarray, log), rows)
    one = encoder_of(lambda x: x, lambda x: 0 * x + np.log(np.e - 1))
    found = context.factors(one, {}, norm, batch)
    seen = sum(np.asarray(x).sum(-1) for x in context.inputs(norm, batch))
    np.testing.assert_allclose(found.precision[:, 0], np.ones(4), rtol=1e-6)
    np.testing.assert_allclose(found.weighted[:, 0], seen, rtol=1e-5)
    narrow = context.factors(encoder_of(lambda x: x, lambda x: 0 * x - 100), {}, norm, batch)
    np.testing.assert_allclose(narrow.precision[:, 0], np.full(4, 1e7), rtol=1e-6)


def test_an_encoder_sees_standard_units_and_the_successor_only_if_asked():
    log = make_log(0)
    norm, batch = fit(log), transitions(jax.tree.map(jnp.asarray, log), jnp.arange(12))
    for with_next in (True, False):
        found = context.inputs(norm, batch, with_next)
        assert [x.shape[-1] for x in found] == context.input_sizes(SPACE, with_next)
        np.testing.assert_allclose(found[0].mean(0), np.zeros(3), atol=1e-6)
        np.testing.assert_allclose(found[2][:, 0].std(), 1, rtol=1e-5)
        net = context.gaussian_encoder(SPACE, (8,), 3, with_next)
        params = net.init(jax.random.key(0))
        moved = batch._replace(next_obs=batch.next_obs + 1)
        here, there = (context.factors(net, params, norm, one, with_next).precision for one in (batch, moved))
        assert here.shape == (12, 3)
        assert bool((here != there).any()) == with_next


def test_seen_one_by_one_is_the_posterior_of_the_set():
    """In any order; a set of one and a latent of one work as well."""
    log = make_log(0)
    norm, batch = fit(log), transitions(jax.tree.map(jnp.asarray, log), jnp.array([5, 2, 8]))
    net = context.gaussian_encoder(SPACE, (8,), 1)
    params = net.init(jax.random.key(0))
    each = context.factors(net, params, norm, batch)
    for count in (1, 3):
        cut = jax.tree.map(lambda leaf, count=count: leaf[:count], batch)
        whole = context.posterior(net, params, norm, cut)
        seen = context.nothing_seen(1)
        for n in reversed(range(count)):
            seen = context.together(seen, Factors(each.precision[n], each.weighted[n]))
        one_by_one = product_of_gaussians(seen)
        np.testing.assert_allclose(one_by_one.mean, whole.mean, rtol=1e-5)
        np.testing.assert_allclose(one_by_one.variance, whole.variance, rtol=1e-5)
    mask = jnp.array([True, False, False])
    masked = context.posterior(net, params, norm, batch, mask=mask)
    alone = context.posterior(net, params, norm, jax.tree.map(lambda leaf: leaf[:1], batch))
    np.testing.assert_allclose(masked.mean, alone.mean, rtol=1e-6)


def test_a_draw_has_the_gradient_of_mean_and_deviation():
    """z = mean + sqrt(variance) noise: dz/dmean = 1, dz/dvariance = noise / (2 sqrt(variance))."""
    q, noise = Gaussian(numbers(1, 2), numbers(4, 0.25)), numbers(0.5, -2)
    np.testing.assert_allclose(context.drawn(q, noise), [2, 1], rtol=1e-6)
    slope = jax.grad(lambda q: context.drawn(q, noise).sum())(q)
    np.testing.assert_allclose(slope.mean, [1, 1], rtol=1e-6)
    np.testing.assert_allclose(slope.variance, [0.5 / 4, -2 / 1], rtol=1e-6)


# ---- divergences -----------------------------------------------------------------------------------------------------


def test_kl_by_hand():
    """KL(N(1, 2) || N(3, 4)) = (log(4 / 2) + (2 + 4) / 4 - 1) / 2; KL(N(0, 1) || N(0, 1)) = 0; summed over Z."""
    q, p = Gaussian(numbers(1, 0), numbers(2, 1)), Gaussian(numbers(3, 0), numbers(4, 1))
    np.testing.assert_allclose(context.kl(q, p), (np.log(2) + 0.5) / 2, rtol=1e-6)
    np.testing.assert_allclose(context.kl(p, q), (-np.log(2) + (4 + 4) / 2 - 1) / 2, rtol=1e-6)
    assert context.kl(q, q) == 0


def test_kl_to_the_prior_by_hand_and_by_counting():
    """KL(N(1, 2) || N(0, 1)) = (2 + 1 - 1 - log 2) / 2; 0 at the prior; the same as `kl` to N(0, I)."""
    one = Gaussian(numbers(1), numbers(2))
    np.testing.assert_allclose(context.kl_to_prior(one), (2 - np.log(2)) / 2, rtol=1e-6)
    assert context.kl_to_prior(product_of_gaussians(context.nothing_seen(4))) == 0
    mean, variance = np.array([0.3, -1.0]), np.array([0.5, 1.7])
    z = mean + np.sqrt(variance) * np.random.default_rng(0).normal(size=(400_000, 2))
    log_ratio = -((z - mean) ** 2) / (2 * variance) - np.log(variance) / 2 + z**2 / 2
    found = Gaussian(numbers(*mean), numbers(*variance))
    np.testing.assert_allclose(context.kl_to_prior(found), log_ratio.sum(1).mean(), rtol=0.01)
    prior = product_of_gaussians(context.nothing_seen(2))
    np.testing.assert_allclose(context.kl(found, prior), context.kl_to_prior(found), rtol=1e-6)


def test_no_product_of_variances_overflows():
    """Twenty ratios of 1e7 have a product of 1e140; their logs have a sum."""
    wide, narrow = (Gaussian(jnp.zeros(20), jnp.full(20, size)) for size in (1.0, 1e-7))
    np.testing.assert_allclose(context.kl(narrow, wide), 10 * (7 * np.log(10) - 1), rtol=1e-5)
    assert np.isfinite(context.kl(wide, narrow))


# ---- deterministic sets ----------------------------------------------------------------------------------------------


def test_the_mean_of_a_set_by_hand():
    np.testing.assert_array_equal(context.mean_of(numbers(4, 6), jnp.float32(2)), [2, 3])
    np.testing.assert_array_equal(context.mean_of(numbers(0, 0), jnp.float32(0)), [0, 0])
