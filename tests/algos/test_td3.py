"""TD3's target and losses by hand, and what its update leaves for later."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import td3
from pipelines.algos.td3 import actor_loss, critic_loss, smoothed, td_target
from pipelines.core.types import transitions
from tests.toys import make, make_log


def test_the_target_by_hand():
    """r + 0.9 V(s'); the terminal row keeps its r, even if V is no number."""
    reward, dead = jnp.array([1.0, 2.0, 3.0]), jnp.array([False, True, False])
    found = td_target(reward, dead, jnp.array([10.0, jnp.nan, -20.0]), 0.9)
    np.testing.assert_allclose(found, [10, 2, -15], rtol=1e-6)


def test_smoothing_is_clipped_twice():
    """The noise to +-0.5, the sum to the box."""
    action, noise = jnp.array([[0.0, 0.9, -0.2]]), jnp.array([[0.3, 2.0, -4.0]])
    np.testing.assert_allclose(smoothed(action, noise, 0.5), [[0.3, 1.0, -0.7]], rtol=1e-6)


def test_losses_by_hand():
    """(0 + 1 + 4) / 3 + (9 + 0 + 0) / 3, and minus the mean of (1, 2, 6)."""
    q = jnp.array([[1.0, 2.0, 3.0], [4.0, 1.0, 5.0]])
    np.testing.assert_allclose(critic_loss(q, jnp.array([1.0, 1.0, 5.0])), 14 / 3, rtol=1e-6)
    np.testing.assert_allclose(actor_loss(jnp.array([1.0, 2.0, 6.0]), jnp.zeros((3, 2)), jnp.zeros((3, 2))), -3)


def kernels(tree):
    return [
        np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(tree) if "kernel" in jax.tree_util.keystr(path)
    ]


@pytest.fixture(scope="module")
def begun():
    algorithm, log = make("td3", actor_delay=3, target_rate=0.25, learning_rate=0.01), make_log(0)
    log = jax.tree.map(jnp.asarray, log)
    return algorithm, jax.jit(algorithm.init)(jax.random.key(0), log), transitions(log, np.array([3, 6, 8]))


def test_actor_and_targets_wait_for_their_turn(begun):
    """At updates 0, 3, 6, ... they move, and the targets by their rate; at the others the critics alone do."""
    algorithm, before, batch = begun
    update = jax.jit(algorithm.update)
    for step, turn in [(0, True), (1, False), (2, False), (3, True)]:
        after, metrics = update(before, batch, jax.random.key(1), jnp.int32(step))
        for name in ("actor", "actor_target", "critics_target"):
            old, new = getattr(before, name), getattr(after, name)
            assert all((a != b).any() for a, b in zip(kernels(old), kernels(new), strict=True)) == turn, (name, step)
        assert all((a != b).any() for a, b in zip(kernels(before.critics), kernels(after.critics), strict=True))
        assert (float(metrics["actor_loss"]) != 0) == turn
        for name in ("actor", "critics") if turn else ():
            old, online, new = getattr(before, f"{name}_target"), getattr(after, name), getattr(after, f"{name}_target")
            for a, b, c in zip(*map(kernels, (old, online, new)), strict=True):
                np.testing.assert_allclose(c, 0.75 * a + 0.25 * b, rtol=1e-5, atol=1e-7)


def test_the_skipped_update_is_a_branch(begun):
    """`cond` in the program, and not a `select` that computes both."""
    algorithm, state, batch = begun
    program = jax.make_jaxpr(algorithm.update)(state, batch, jax.random.key(1), jnp.int32(0))
    assert any(equation.primitive.name == "cond" for equation in program.eqns)


def test_exploring_adds_noise_of_its_deviation():
    algorithm = make("td3", explore_noise=0.3)
    acting = algorithm.acting(algorithm.init(jax.random.key(0), None))
    obs = jnp.array([0.1, -0.2, 0.3])
    act = jax.vmap(lambda key, explore: algorithm.policy.act(acting, None, obs, key, explore), (0, None))
    keys = jax.random.split(jax.random.key(1), 2_000)
    greedy = np.asarray(act(keys, 0.0))
    assert np.ptp(greedy, axis=0).max() == 0
    away = np.asarray(act(keys, 1.0)) - greedy
    assert np.abs(greedy).max() < 0.5  # so that the box cuts little off
    np.testing.assert_allclose(away.std(0), 0.3, rtol=0.1)


def test_online_it_starts_from_fixed_scales():
    state = make("td3", obs_scale=10.0, reward_scale=4.0).init(jax.random.key(0), None)
    assert isinstance(state, td3.State)
    np.testing.assert_array_equal(state.normaliser.obs_std, [10, 10, 10])
    assert state.normaliser.reward_std == 4
