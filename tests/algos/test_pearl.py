"""Batch PEARL's inference by hand, and what its policy does with a posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos.context import gaussian_encoder, posterior
from pipelines.core.types import transitions
from tests.toys import SPACE, data_of, make, make_log


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
    encoder = gaussian_encoder(SPACE, (8,), 3)
    context = transitions(jax.tree.map(jnp.asarray, make_log(0)), np.array([5, 2, 8]))
    mean, variance = posterior(encoder, state.encoder, acting.sac.normaliser, context)
    for order in ([2, 5, 8], [8, 5, 2]):
        memory = remembering(learned, order)
        np.testing.assert_allclose(memory.z, mean + jnp.sqrt(variance) * memory.noise, rtol=1e-4, atol=1e-5)
    assert not np.allclose(remembering(learned, [2, 5, 9]).z, memory.z)


def test_drawn_once_an_episode_if_asked(learned):
    episode = make("batch-pearl", resample="episode")
    first = remembering(learned, [], episode)
    later = remembering(learned, [2, 5], episode)
    np.testing.assert_array_equal(first.z, later.z)
    assert (later.seen.precision > 0).all()  # but it has seen them, for the next episode
    policy, acting = episode.policy, learned[2]
    again = policy.start(acting, later, row(0).obs, jax.random.key(2))
    assert not np.allclose(again.z, later.z)


def test_a_new_task_forgets_and_a_new_episode_does_not(learned):
    policy, acting = learned[0].policy, learned[2]
    later = remembering(learned, [2, 5])
    assert (policy.start(acting, later, row(0).obs, jax.random.key(9)).seen.precision == later.seen.precision).all()
    assert not policy.begin(acting, jax.random.key(9)).seen.precision.any()


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
    """What acting has seen of a row that ended elsewhere."""
    for with_next in (True, False):
        algorithm = make("batch-pearl", context_next_obs=with_next)
        acting = (
            learned[2] if with_next else algorithm.acting(algorithm.init(jax.random.key(0), data_of("batch-pearl")))
        )
        memory = algorithm.policy.begin(acting, jax.random.key(1))
        moved = row(2)._replace(next_obs=row(2).next_obs + 1)
        here, there = (algorithm.policy.observe(acting, memory, one).seen.precision for one in (row(2), moved))
        assert bool((here != there).any()) == with_next
