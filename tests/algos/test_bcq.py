"""BCQ's losses and target by hand, and what it lets others distil."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from pipelines.algos import bcq
from pipelines.algos.bcq import next_value, perturbed, posterior, vae_loss
from pipelines.core.configs.algorithms import BcqConfig
from pipelines.core.types import transitions
from tests.toys import DISCOUNT, SPACE, make, make_log


def test_the_vae_loss_by_hand():
    """Squares 1, 0, 4, 1 over 4; KL entries against N(0, 1): (e^0.4 + 1 - 1 - 0.4) / 2 and (1 + 0 - 1 - 0) / 2."""
    action, rebuilt = jnp.array([[1.0, 0.0], [2.0, 1.0]]), jnp.array([[0.0, 0.0], [0.0, 0.0]])
    mean, log_std = jnp.array([[1.0], [0.0]]), jnp.array([[0.2], [0.0]])
    want = 6 / 4 + 0.5 * ((np.exp(0.4) - 0.4) / 2 + 0) / 2
    np.testing.assert_allclose(vae_loss(action, rebuilt, mean, log_std, 0.5), want, rtol=1e-6)


def test_the_kl_is_that_of_two_normals():
    """By quadrature, for one latent."""
    mean, log_std = 0.7, -0.4
    grid = np.linspace(-8, 8, 20_001)
    density = stats.norm.pdf(grid, mean, np.exp(log_std))
    want = np.trapezoid(density * (stats.norm.logpdf(grid, mean, np.exp(log_std)) - stats.norm.logpdf(grid)), grid)
    nothing = jnp.zeros((1, 1))
    found = vae_loss(nothing, nothing, jnp.array([[mean]]), jnp.array([[log_std]]), 1.0)
    np.testing.assert_allclose(found, want, rtol=1e-4)


def test_the_next_value_by_hand():
    """Two critics, three states, two candidates: 0.75 min + 0.25 max of each, and the better."""
    q = jnp.array([[[0.0, 4.0], [1.0, 1.0], [-8.0, 0.0]], [[4.0, 0.0], [1.0, 5.0], [0.0, -4.0]]])
    np.testing.assert_allclose(next_value(q, 0.75), [1.0, 2.0, -2.0 + -1.0])
    np.testing.assert_allclose(next_value(q, 1.0), [0.0, 1.0, -4.0])


def test_perturbations_are_small_and_stay_in_the_box():
    action, xi = jnp.array([0.0, 0.99, -1.0]), jnp.array([-1.0, 1.0, 0.5])
    np.testing.assert_allclose(perturbed(action, xi, 0.05), [-0.05, 1.0, -0.975], rtol=1e-6)


def test_the_posteriors_deviation_is_held():
    mean, log_std = posterior(jnp.array([0.1, 0.2, -50.0, 50.0]))
    np.testing.assert_allclose(mean, [0.1, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(log_std, [bcq.LOG_STD_MIN, bcq.LOG_STD_MAX])


# ---- the update ------------------------------------------------------------------------------------------------------

FIELDS = {"num_candidates": 4, "perturbation_scale": 0.3, "learning_rate": 0.01, "target_rate": 0.25}


@pytest.fixture(scope="module")
def learned():
    """An algorithm, its acting state after three updates, and three rows."""
    log = jax.tree.map(jnp.asarray, make_log(0))
    algorithm = make("bcq", **FIELDS)
    state, update = jax.jit(algorithm.init)(jax.random.key(0), log), jax.jit(algorithm.update)
    rows = transitions(log, np.array([3, 6, 8]))
    for step in range(3):
        state, _ = update(state, rows, jax.random.key(step), jnp.int32(step))
    return algorithm, state, rows


def test_the_bootstrap_tries_every_candidate(learned):
    """Candidates and target by loops over single rows, with what is to be distilled and the target nets."""
    _, state, rows = learned
    config = BcqConfig(hidden=(8,), vae_hidden=(8,), **FIELDS)
    noise = jnp.clip(jax.random.normal(jax.random.key(9), (3, 4, 4)), -0.5, 0.5)
    features = state.normaliser.obs(rows.next_obs)
    nets = bcq.make_nets(config, SPACE)
    want = []
    for row in range(3):
        values = []
        for one in noise[row]:
            action = jnp.tanh(nets.generator.apply(state.vae.generator, features[row], one))
            xi = jnp.tanh(nets.perturbation.apply(state.perturbation_target, features[row], action))
            q = nets.critics.apply(state.critics_target, features[row], jnp.clip(action + 0.3 * xi, -1, 1))
            values.append(0.75 * q.min() + 0.25 * q.max())
        want.append(max(values))
    np.testing.assert_allclose(bcq.bootstrap(config, state, features, noise), np.array(want), rtol=1e-4)


def test_it_acts_by_the_candidate_that_its_first_critic_likes_best(learned):
    """Made from what others distil: G, xi and Q. Another key proposes others."""
    algorithm, state, rows = learned
    acting, key = algorithm.acting(state), jax.random.key(5)
    obs = jnp.broadcast_to(rows.obs[0], (4, 3))
    noise = jnp.clip(jax.random.normal(key, (1, 4, algorithm.noise_dim)), -0.5, 0.5)[0]
    proposed = algorithm.propose(acting, obs, noise)
    tried = jnp.clip(proposed + 0.3 * algorithm.perturb(acting, obs, proposed), -1, 1)
    values = algorithm.q(acting, obs, tried)
    action = algorithm.policy.act(acting, None, rows.obs[0], key, 0.0)
    np.testing.assert_allclose(action, tried[values.argmax()], rtol=1e-4, atol=1e-5)
    assert np.ptp(values) > 0
    assert (algorithm.policy.act(acting, None, rows.obs[0], jax.random.key(6), 0.0) != action).any()


def test_the_latent_is_twice_the_action_unless_named():
    assert make("bcq").noise_dim == 2 * SPACE.action_dim
    assert make("bcq", latent_dim=3).noise_dim == 3


def test_targets_follow_at_their_rate(learned):
    algorithm, before, rows = learned
    after, _ = jax.jit(algorithm.update)(before, rows, jax.random.key(1), jnp.int32(0))
    for name in ("critics", "perturbation"):
        old, online, new = (
            np.asarray(tree["Dense_1"]["kernel"])
            for tree in (getattr(before, f"{name}_target"), getattr(after, name), getattr(after, f"{name}_target"))
        )
        np.testing.assert_allclose(new, 0.75 * old + 0.25 * online, rtol=1e-5, atol=1e-7)
        assert (old != new).any()


def test_the_discount_is_the_familys_unless_the_config_names_one(learned):
    _, state, rows = learned
    programs = {}
    for discount in (None, 0.0, DISCOUNT):
        update = make("bcq", discount=discount, **FIELDS).update
        programs[discount] = str(jax.make_jaxpr(update)(state, rows, jax.random.key(1), jnp.int32(0)))
    assert programs[None] == programs[DISCOUNT] != programs[0.0]
