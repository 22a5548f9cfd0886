"""Contextual BCQ: what its encoder learns from, what z reaches, and what its policy and its heirs make of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import bcq, context
from pipelines.core.configs.algorithms import ContextualBcqConfig
from pipelines.core.learn import block
from pipelines.core.types import Space, transitions
from pipelines.stages import learners
from tests.toys import AGENTS, SPACE, data_of, make, make_log, stacked

FIELDS = {"learning_rate": 0.01}


@pytest.fixture(scope="module")
def learned():
    """(algorithm, state, batch) fitted to three logs."""
    algorithm, data = make("contextual-bcq", **FIELDS), jax.tree.map(jnp.asarray, data_of("contextual-bcq"))
    state = jax.jit(algorithm.init)(jax.random.key(0), data)
    return algorithm, state, algorithm.sample(data, jax.random.key(3))


@functools.cache
def update_of(encoder_loss):
    return jax.jit(make("contextual-bcq", **FIELDS, encoder_loss=encoder_loss).update)


def updated(state, batch, encoder_loss="value"):
    """The state after one update."""
    return update_of(encoder_loss)(state, batch, jax.random.key(4), jnp.int32(0))[0]


def kernels(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def deaf(params, width=SPACE.obs_dim, z=3):
    """The nets with nothing on the way from z."""
    first = params["Dense_0"]
    kernel = first["kernel"].at[..., width : width + z, :].set(0.0)
    return params | {"Dense_0": first | {"kernel": kernel}}


def test_the_encoder_learns_through_the_critics_alone(learned):
    """With critics that do not hear z it stays as it is, to the bit: neither the VAE nor xi moves it. The code's way,
    the VAE does."""
    _, state, batch = learned
    quiet = state._replace(bcq=state.bcq._replace(critics=deaf(state.bcq.critics)))
    assert kernels(updated(quiet, batch).encoder) == kernels(state.encoder)
    assert kernels(updated(quiet, batch, encoder_loss="value+vae").encoder) != kernels(state.encoder)
    assert kernels(updated(state, batch).encoder) != kernels(state.encoder)


def test_the_codes_way_changes_the_encoder_and_nothing_else(learned):
    _, state, batch = learned
    paper, code = updated(state, batch), updated(state, batch, encoder_loss="value+vae")
    assert kernels(paper.encoder) != kernels(code.encoder)
    for name in ("vae", "critics", "perturbation"):
        for one, other in zip(*(jax.tree.leaves(getattr(made.bcq, name)) for made in (paper, code)), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7, err_msg=name)


def test_every_net_sees_the_identity_of_its_own_task(learned):
    """Contexts moved on by one task teach all three otherwise."""
    _, state, batch = learned
    swapped = batch._replace(context=jax.tree.map(lambda leaf: jnp.roll(leaf, 1, 0), batch.context))
    own, other = updated(state, batch), updated(state, swapped)
    for name in ("vae", "critics", "perturbation"):
        assert kernels(getattr(own.bcq, name)) != kernels(getattr(other.bcq, name)), name


def test_rows_are_beside_their_own_tasks_identity(learned):
    """The VAE's step on the T B rows by BCQ's own function, z of each row looked up by hand."""
    _, state, batch = learned
    config = ContextualBcqConfig(**{**AGENTS["contextual-bcq"], **FIELDS})
    nets = bcq.make_nets(config, SPACE, extra=3)
    encoder = context.gaussian_encoder(SPACE, (8,), 3)
    keys = jax.random.split(jax.random.key(4), 4)
    q = context.posterior(encoder, state.encoder, state.bcq.normaliser, batch.context)
    z = q.mean + jnp.sqrt(q.variance) * jax.random.normal(keys[0], (3, 3))
    rows = [jax.tree.map(lambda leaf, t=t: leaf[t], batch.row) for t in range(3)]
    features = [
        jnp.concatenate([state.bcq.normaliser.obs(row.obs), jnp.tile(z[t], (6, 1))], 1) for t, row in enumerate(rows)
    ]
    features, action = jnp.concatenate(features), jnp.concatenate([row.action for row in rows])
    noise = jax.random.normal(keys[1], (18, algorithm_latent(config)))
    imitate = jax.jit(functools.partial(bcq.imitate, config, nets, bcq.optax.adam(0.01)))
    want, _ = imitate(state.bcq, features, action, noise)
    for one, other in zip(jax.tree.leaves(want.vae), jax.tree.leaves(updated(state, batch).bcq.vae), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def algorithm_latent(config):
    return bcq.latent_dim(config, SPACE)


# ---- the policy ------------------------------------------------------------------------------------------------------


def row(n):
    return jax.tree.map(jnp.asarray, transitions(make_log(0), np.array(n)))


def remembering(learned, rows, **fields):
    """The memory after `rows` of one episode."""
    algorithm, state, _ = learned
    policy, acting = make("contextual-bcq", **FIELDS, **fields).policy, algorithm.acting(state)
    memory = policy.start(acting, policy.begin(acting, jax.random.key(1)), row(0).obs, jax.random.key(2))
    for n in rows:
        memory = policy.observe(acting, memory, row(n))
    return policy, acting, memory


def test_z_is_drawn_for_an_episode_from_what_was_seen_before_it(learned):
    """From the prior at first, then from the posterior of everything, in any order."""
    noise = jax.random.normal(jax.random.key(2), (3,))
    policy, acting, memory = remembering(learned, [2, 5, 8])
    np.testing.assert_array_equal(memory.z, noise)
    _, state, _ = learned
    encoder = context.gaussian_encoder(SPACE, (8,), 3)
    q = context.posterior(encoder, state.encoder, state.bcq.normaliser, row([8, 2, 5]))
    later = policy.start(acting, memory, row(0).obs, jax.random.key(2))
    np.testing.assert_allclose(later.z, q.mean + jnp.sqrt(q.variance) * noise, rtol=1e-4, atol=1e-5)
    latent = policy.latent(acting, memory)
    np.testing.assert_allclose(latent.mean, q.mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(latent.spread, jnp.sqrt(q.variance), rtol=1e-4)
    _, _, each = remembering(learned, [2, 5, 8], resample="step")
    np.testing.assert_array_equal(each.z, later.z)


def test_it_acts_by_the_candidate_that_its_first_critic_likes_best(learned):
    policy, acting, memory = remembering(learned, [2])
    config = ContextualBcqConfig(**AGENTS["contextual-bcq"])
    key, obs = jax.random.key(5), row(0).obs
    noise = bcq.clipped_noise(config, key, (1, 3, algorithm_latent(config)))
    features = jnp.concatenate([acting.bcq.normaliser.obs(obs), memory.z])[None]
    tried = bcq.candidates(config, acting.bcq.generator, acting.bcq.perturbation, features, noise)[0]
    values = [policy.value(acting, memory, obs, action) for action in tried]
    np.testing.assert_array_equal(policy.act(acting, memory, obs, key, 0.0), tried[int(np.argmax(values))])
    assert np.ptp(values) > 0


# ---- learning --------------------------------------------------------------------------------------------------------

ONE = Space((1,), (1,), (-1.0,), (1.0,))
PAID = np.array([-1.0, 0.0, 1.0], np.float32)


def paid(num_rows=200):
    """Three tasks of one-step episodes that differ in what they pay, whatever is done."""

    def log(task):
        rng = np.random.default_rng(task)
        return make_log(task, [1] * num_rows, range(num_rows), ONE)._replace(
            reward=np.full(num_rows, PAID[task]),
            obs=np.zeros((2 * num_rows, 1), np.float32),
            action=rng.uniform(-1, 1, (num_rows, 1)).astype(np.float32),
        )

    return stacked(*(log(task) for task in range(3)))


@pytest.mark.optimised
def test_values_follow_the_context():
    """A probe: states and actions tell nothing, the rewards of the context tell all. The control has not learned."""
    fields = {"hidden": (32,), "vae_hidden": (32,), "encoder_hidden": (32,), "batch_size": 32, "context_size": 8}
    algorithm = learners.make("contextual-bcq", {**AGENTS["contextual-bcq"], **fields, "learning_rate": 3e-3}, ONE, 0.9)
    logs = jax.tree.map(jnp.asarray, paid())
    begun = jax.jit(algorithm.init)(jax.random.key(0), logs)
    state, _ = jax.jit(block(algorithm, 600))(jnp.int32(0), begun, logs, jax.random.key(1))

    @jax.jit
    def value(acting, rows, key):
        policy = algorithm.policy
        memory = policy.begin(acting, key)
        memory, _ = jax.lax.scan(lambda memory, row: (policy.observe(acting, memory, row), None), memory, rows)
        return policy.value(acting, policy.start(acting, memory, rows.obs[0], key), rows.obs[0], rows.action[0])

    def values(state):
        each = [transitions(jax.tree.map(lambda leaf, t=t: leaf[t], logs), jnp.arange(8)) for t in range(3)]
        return np.array([value(algorithm.acting(state), rows, jax.random.key(2)) for rows in each])

    assert np.abs(values(state) - PAID).max() < 0.2
    assert np.abs(values(begun) - PAID).max() > 0.5
