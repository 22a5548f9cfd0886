"""The losses of SAC on three rows, with the numbers worked out here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from pipelines.algos import sac
from pipelines.algos.sac import actor_loss, critic_loss, sample_action, soft_target, temperature_loss
from pipelines.core.normaliser import fit
from pipelines.core.types import transitions
from tests.toys import AGENTS, DISCOUNT, SPACE, make, make_log

REWARD = jnp.array([1.0, 2.0, 3.0])
NEXT_Q = jnp.array([[10.0, 20.0, 30.0], [12.0, 18.0, 33.0]])  # minima 10, 18, 30
NEXT_LOG_PROB = jnp.array([-2.0, 4.0, 0.0])


def test_soft_target_by_hand():
    """r + 0.9 (min Q' - 0.5 log pi): 1 + 0.9 (10 + 1), 2 + 0.9 (18 - 2), 3 + 0.9 * 30; the terminal row keeps its r."""
    alive = jnp.zeros(3, bool)
    target = soft_target(REWARD, alive, NEXT_Q, NEXT_LOG_PROB, 0.9, jnp.float32(0.5))
    np.testing.assert_allclose(target, [10.9, 16.4, 30.0], rtol=1e-6)
    dead = jnp.array([False, True, False])
    target = soft_target(REWARD, dead, NEXT_Q, NEXT_LOG_PROB, 0.9, jnp.float32(0.5))
    np.testing.assert_allclose(target, [10.9, 2.0, 30.0], rtol=1e-6)


def test_a_terminal_row_ignores_even_a_next_value_that_is_no_number():
    target = soft_target(REWARD, jnp.array([True, False, True]), NEXT_Q * jnp.nan, NEXT_LOG_PROB, 0.9, jnp.float32(1))
    np.testing.assert_array_equal(target, [1, np.nan, 3])


def test_critic_loss_by_hand():
    """Halves of mean squares, summed over the two critics: (0 + 1 + 4) / 6 + (9 + 0 + 0) / 6."""
    q = jnp.array([[1.0, 2.0, 3.0], [4.0, 1.0, 5.0]])
    np.testing.assert_allclose(critic_loss(q, jnp.array([1.0, 1.0, 5.0])), 14 / 6, rtol=1e-6)


def test_actor_loss_by_hand():
    """Mean of 0.5 log pi - min Q: (-1 - 10 + 2 - 18 + 0 - 30) / 3."""
    np.testing.assert_allclose(actor_loss(NEXT_Q, NEXT_LOG_PROB, jnp.float32(0.5)), -57 / 3, rtol=1e-6)


def test_temperature_loss_by_hand():
    """-exp(log 2) times the mean of log pi - 2, which is (-4 + 2 - 2) / 3; the gradient has the same value."""
    loss, slope = jax.value_and_grad(temperature_loss)(jnp.log(2.0), NEXT_LOG_PROB, -2.0)
    np.testing.assert_allclose([loss, slope], [8 / 3, 8 / 3], rtol=1e-6)


def test_temperature_rises_when_the_entropy_is_too_low():
    """A step is down the loss: with log pi above minus the target, log-temperature must have a negative slope."""
    slope = jax.grad(temperature_loss)
    assert slope(0.0, jnp.array([5.0]), -2.0) < 0
    assert slope(0.0, jnp.array([1.0]), -2.0) > 0


# ---- the density of a tanh-squashed Gaussian -------------------------------------------------------------------------


def exact_log_density(u, mean, std):
    """log N(u; mean, std) - log (1 - tanh(u)^2) in float64: 1 - tanh(u)^2 = 4 / (e^u + e^-u)^2."""
    log_det = np.log(4.0) - 2 * np.logaddexp(u, -u)
    return stats.norm.logpdf(u, mean, std) - log_det


@pytest.mark.parametrize("mean", [0.0, -3.0, 8.0, -15.0, 60.0])
@pytest.mark.parametrize("log_std", [-4.0, 0.0, 1.5])
def test_log_density_is_exact_however_far_out(mean, log_std):
    """At |u| > 9 tanh rounds to 1 in float32 and log(1 - tanh^2) to -inf; the stable form stays exact."""
    key = jax.random.key(0)
    out = jnp.concatenate([jnp.full((500, 2), mean), jnp.full((500, 2), log_std)], -1)
    action, log_prob = sample_action(out, key)
    noise = np.asarray(jax.random.normal(key, (500, 2)), np.float64)
    u = mean + np.exp(log_std) * noise
    np.testing.assert_allclose(action, np.tanh(u), atol=1e-5)
    want = exact_log_density(u, mean, np.exp(log_std)).sum(-1)
    np.testing.assert_allclose(log_prob, want, rtol=1e-5, atol=1e-4)


def test_log_density_is_that_of_the_samples():
    """Against counting: the share of actions in each bin is the integral of the density over it."""
    out = jnp.broadcast_to(jnp.array([0.4, -0.5]), (200_000, 2))
    action, log_prob = sample_action(out, jax.random.key(3))
    share, edges = np.histogram(action[:, 0], bins=40, range=(-0.95, 0.99), density=False)
    share = share / len(action)
    std = np.exp(-0.5)
    want = np.diff(stats.norm.cdf(np.arctanh(edges), 0.4, std))
    np.testing.assert_allclose(share, want, atol=5 * np.sqrt(0.06 / len(action)))
    middle = (edges[:-1] + edges[1:]) / 2
    density = np.interp(middle, *(np.sort(x) for x in (action[:, 0],)), np.exp(log_prob)[np.argsort(action[:, 0])])
    np.testing.assert_allclose(density * np.diff(edges), want, rtol=0.05)


def test_the_gradient_stays_finite_far_out():
    out = jnp.array([[50.0, -80.0, 1.0, 2.0], [9.5, -12.0, -10.0, 0.0]])
    slope = jax.grad(lambda out: sample_action(out, jax.random.key(0))[1].sum())(out)
    assert np.isfinite(slope).all()


def test_log_std_is_held():
    mean, log_std = sac.gaussian(jnp.array([0.1, 0.2, -50.0, 50.0]))
    np.testing.assert_allclose(mean, [0.1, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(log_std, [sac.LOG_STD_MIN, sac.LOG_STD_MAX])


def test_explore_scales_the_noise():
    nets = sac.make_nets(SPACE, (8,))
    params, obs = nets.actor.init(jax.random.key(0)), jnp.ones(3)
    mean, log_std = sac.gaussian(nets.actor.apply(params, obs))
    noise = jax.random.normal(jax.random.key(1), mean.shape)
    for explore in (0.0, 0.5, 1.0):
        action = sac.act(nets.actor, params, obs, jax.random.key(1), explore)
        np.testing.assert_allclose(action, jnp.tanh(mean + explore * jnp.exp(log_std) * noise), rtol=1e-5)


# ---- the update ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned():
    """An algorithm, a state fitted to a log, and a batch of three rows of which the second is terminal."""
    log = make_log(0, (4, 3, 5), terminal=(1,))
    algorithm = make("batch-sac", learning_rate=0.01, init_temperature=0.3, target_rate=0.25)
    state = jax.jit(algorithm.init)(jax.random.key(0), log)
    return algorithm, state, transitions(jax.tree.map(jnp.asarray, log), np.array([3, 6, 8])), log


def test_targets_are_in_units_of_the_reward_deviation(learned):
    _, state, batch, log = learned
    nets = sac.make_nets(SPACE, AGENTS["batch-sac"]["hidden"])
    key = jax.random.key(5)
    next_obs = state.normaliser.obs(batch.next_obs)
    action, log_prob = sample_action(nets.actor.apply(state.actor, next_obs), key)
    low = np.minimum(*nets.critics.apply(state.critics_target, next_obs, action))
    want = np.asarray(batch.reward) / log.reward.std() + 0.9 * np.array([1, 0, 1]) * (low - 0.3 * log_prob)
    found = sac.next_value_target(DISCOUNT, nets, state, batch, next_obs, key)
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_values_are_reported_in_units_of_the_reward(learned):
    algorithm, state, batch, log = learned
    nets, norm = sac.make_nets(SPACE, AGENTS["batch-sac"]["hidden"]), fit(log)
    scaled = nets.critics.apply(state.critics, norm.obs(batch.obs), batch.action)
    want = scaled.mean(0) * log.reward.std()
    np.testing.assert_allclose(algorithm.q(algorithm.acting(state), batch.obs, batch.action), want, rtol=1e-5)


def test_the_target_critics_follow_at_their_rate(learned):
    algorithm, state, batch, _ = learned
    after, _ = jax.jit(algorithm.update)(state, batch, jax.random.key(1), jnp.int32(0))
    leaf = lambda tree: np.asarray(tree["Dense_1"]["kernel"])  # noqa: E731
    old, new = leaf(state.critics_target), leaf(after.critics)
    np.testing.assert_allclose(leaf(after.critics_target), 0.75 * old + 0.25 * new, rtol=1e-5, atol=1e-7)
    assert (old != new).any()
    np.testing.assert_array_equal(after.normaliser.obs_mean, state.normaliser.obs_mean)  # fitted once


def test_the_discount_is_the_familys_unless_the_config_names_one(learned):
    """The programs are compared, not their results: nothing needs to compile."""
    _, state, batch, _ = learned
    programs = {}
    for discount in (None, 0.0, DISCOUNT):
        update = make("batch-sac", discount=discount).update
        programs[discount] = str(jax.make_jaxpr(update)(state, batch, jax.random.key(1), jnp.int32(0)))
    assert programs[None] == programs[DISCOUNT] != programs[0.0]


def test_online_it_starts_from_fixed_scales():
    state = make("sac", obs_scale=10.0, reward_scale=4.0).init(jax.random.key(0), None)
    np.testing.assert_array_equal(state.normaliser.obs_std, [10, 10, 10])
    assert state.normaliser.reward_std == 4
