"""Batch PEARL's inference by hand, and what its policy does with a posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import pearl
from pipelines.algos.pearl import kl_to_prior, product_of_gaussians
from pipelines.core.types import transitions
from tests.toys import data_of, make, make_log


def test_product_of_gaussians_by_hand():
    """N(1, 1/2) N(4, 1/4): precision 2 + 4, mean (2 * 1 + 4 * 4) / 6 = 3."""
    precision, mean = jnp.array([2.0, 4.0]), jnp.array([1.0, 4.0])
    found = product_of_gaussians(precision.sum(), (precision * mean).sum())
    np.testing.assert_allclose(found, [3, 1 / 6], rtol=1e-6)


def test_product_of_gaussians_is_the_product():
    """Against multiplying the densities on a grid."""
    mean, variance = np.array([-1.0, 0.5, 2.0]), np.array([0.3, 2.0, 0.9])
    grid = np.linspace(-8, 8, 20_001)
    density = np.exp(-((grid[:, None] - mean) ** 2 / (2 * variance)).sum(1))
    density /= density.sum()
    want = [(grid * density).sum(), ((grid - (grid * density).sum()) ** 2 * density).sum()]
    found = product_of_gaussians(jnp.float32((1 / variance).sum()), jnp.float32((mean / variance).sum()))
    np.testing.assert_allclose(found, want, rtol=1e-4)


def test_no_factors_are_the_prior():
    mean, variance = product_of_gaussians(jnp.zeros(3), jnp.zeros(3))
    np.testing.assert_array_equal(mean, np.zeros(3))
    np.testing.assert_array_equal(variance, np.ones(3))
    slope = jax.grad(lambda p: sum(x.sum() for x in product_of_gaussians(p, p)))(jnp.zeros(3))
    assert np.isfinite(slope).all()


def test_kl_by_hand_and_by_counting():
    """KL(N(1, 2) || N(0, 1)) = (2 + 1 - 1 - log 2) / 2; summed over Z; 0 at the prior."""
    np.testing.assert_allclose(kl_to_prior(jnp.array([1.0]), jnp.array([2.0])), (2 - np.log(2)) / 2, rtol=1e-6)
    assert kl_to_prior(jnp.zeros(4), jnp.ones(4)) == 0
    mean, variance = np.array([0.3, -1.0]), np.array([0.5, 1.7])
    z = mean + np.sqrt(variance) * np.random.default_rng(0).normal(size=(400_000, 2))
    log_ratio = -((z - mean) ** 2) / (2 * variance) - np.log(variance) / 2 + z**2 / 2
    np.testing.assert_allclose(kl_to_prior(jnp.array(mean), jnp.array(variance)), log_ratio.sum(1).mean(), rtol=0.01)


@pytest.fixture(scope="module")
def learned():
    """(algorithm, state, acting) fitted to three logs."""
    algorithm = make("batch-pearl")
    state = jax.jit(algorithm.init)(jax.random.key(0), data_of("batch-pearl"))
    return algorithm, state, algorithm.acting(state)


def row(n, log=None):
    return jax.tree.map(jnp.asarray, transitions(log or make_log(0), np.array(n)))


def remembering(learned, rows, algorithm=None):
    """The memory after `rows` of one episode that started with a given noise."""
    policy, acting = (algorithm or learned[0]).policy, learned[2]
    memory = policy.start(acting, policy.begin(acting, jax.random.key(1)), row(0).obs, jax.random.key(2))
    for n in rows:
        memory = policy.observe(acting, memory, row(n))
    return memory


def test_z_starts_as_a_draw_from_the_prior(learned):
    noise = jax.random.normal(jax.random.key(2), (3,))
    np.testing.assert_array_equal(remembering(learned, []).z, noise)


def test_seen_one_by_one_is_the_posterior_of_the_set(learned):
    """What acting gathers step by step is what training infers from a whole context, in any order."""
    _, state, acting = learned
    encoder = pearl.mlp([3, 2, 1, 3], (8,), 6)
    context = transitions(jax.tree.map(jnp.asarray, make_log(0)), np.array([5, 2, 8]))
    mean, variance = pearl.posterior(encoder, state.encoder, acting.sac.normaliser, context, with_next=True)
    for order in ([2, 5, 8], [8, 5, 2]):
        memory = remembering(learned, order)
        np.testing.assert_allclose(memory.z, mean + jnp.sqrt(variance) * memory.noise, rtol=1e-4, atol=1e-5)
    assert not np.allclose(remembering(learned, [2, 5, 9]).z, memory.z)


def test_drawn_once_an_episode_if_asked(learned):
    episode = make("batch-pearl", resample="episode")
    first = remembering(learned, [], episode)
    later = remembering(learned, [2, 5], episode)
    np.testing.assert_array_equal(first.z, later.z)
    assert (later.precision > 0).all()  # but it has seen them, for the next episode
    policy, acting = episode.policy, learned[2]
    again = policy.start(acting, later, row(0).obs, jax.random.key(2))
    assert not np.allclose(again.z, later.z)


def test_a_new_task_forgets_and_a_new_episode_does_not(learned):
    policy, acting = learned[0].policy, learned[2]
    later = remembering(learned, [2, 5])
    assert (policy.start(acting, later, row(0).obs, jax.random.key(9)).precision == later.precision).all()
    assert not policy.begin(acting, jax.random.key(9)).precision.any()


def leaf(params):
    return np.asarray(params["Dense_0"]["kernel"])


def test_the_encoder_learns_through_the_critic_and_each_task_from_its_own_context(learned):
    """There is no KL here, and still the encoder moves; contexts moved on by one task teach the critics otherwise."""
    algorithm, state, _ = learned
    batch = algorithm.sample(jax.tree.map(jnp.asarray, data_of("batch-pearl")), jax.random.key(3))
    update = jax.jit(make("batch-pearl", kl_weight=0.0).update)
    own, metrics = update(state, batch, jax.random.key(4), jnp.int32(0))
    assert metrics["kl"] > 0
    assert (leaf(state.encoder) != leaf(own.encoder)).any()
    swapped = batch._replace(context=jax.tree.map(lambda leaf: jnp.roll(leaf, 1, 0), batch.context))
    other, _ = update(state, swapped, jax.random.key(4), jnp.int32(0))
    assert (leaf(own.sac.critics) != leaf(other.sac.critics)).any()


def test_the_encoder_sees_the_next_observation_only_if_asked(learned):
    norm = learned[2].sac.normaliser
    rows = row([1, 2])
    moved = rows._replace(next_obs=rows.next_obs + 1)
    for with_next, sizes in ((True, [3, 2, 1, 3]), (False, [3, 2, 1])):
        encoder = pearl.mlp(sizes, (8,), 6)
        params = encoder.init(jax.random.key(0))
        here, there = (pearl.factors(encoder, params, norm, one, with_next)[0] for one in (rows, moved))
        assert bool((here != there).any()) == with_next
