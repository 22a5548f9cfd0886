"""Discrete BCQ: which actions are admitted, its losses by hand, and a chain that overestimation would lead astray."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos.discrete_bcq import admitted, behaviour_loss, best, q_loss
from pipelines.core.learn import block
from pipelines.core.types import Log, Space
from pipelines.stages import learners

LOGITS = jnp.log(jnp.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6], [1 / 3, 1 / 3, 1 / 3]]))


def test_actions_are_admitted_by_their_share_of_the_likeliest():
    """Shares 1, 1/2, 1/6; 1/3, 1/3, 1; and 1 each."""
    np.testing.assert_array_equal(admitted(LOGITS, 0.4), [[1, 1, 0], [0, 0, 1], [1, 1, 1]])
    np.testing.assert_array_equal(admitted(LOGITS, 1.0), [[1, 0, 0], [0, 0, 1], [1, 1, 1]])  # cloning
    assert admitted(LOGITS, 0.0).all()  # Q-learning


def test_the_best_is_the_best_of_the_admitted():
    q = jnp.array([[1.0, 2.0, 9.0], [5.0, 4.0, 0.0], [1.0, 3.0, 2.0]])
    np.testing.assert_array_equal(best(q, LOGITS, 0.4), [1, 2, 1])
    np.testing.assert_array_equal(best(q, LOGITS, 0.0), [2, 0, 1])


def test_losses_by_hand():
    """Huber: 0.5 * 0.5^2, 3 - 0.5, 0. Cloning: the mean of -log p of the taken, and 0.01 of the mean square logit."""
    q = jnp.array([[1.0, 50.0], [50.0, 5.0], [7.0, 50.0]])
    np.testing.assert_allclose(q_loss(q, jnp.array([0, 1, 0]), jnp.array([1.5, 2.0, 7.0])), (0.125 + 2.5) / 3)
    want = -np.log([0.3, 0.6, 1 / 3]).mean() + 0.01 * (np.asarray(LOGITS) ** 2).mean()
    np.testing.assert_allclose(behaviour_loss(LOGITS, jnp.array([1, 2, 0]), 0.01), want, rtol=1e-5)


def rare(rows: int = 600) -> Log:
    """One state, three actions worth 0, 1 and 5; the last is taken in 1 of 60 rows. Each row ends."""
    action = np.array([0, 1] * 29 + [0, 2], np.int32)
    action = np.tile(action, rows // 60)
    number = np.arange(rows, dtype=np.int32)
    return Log(
        obs=np.ones((2 * rows, 1), np.float32),
        action=action,
        reward=np.array([0.0, 1.0, 5.0], np.float32)[action],
        terminal=np.ones(rows, bool),
        truncated=np.zeros(rows, bool),
        outcome=np.zeros((rows, 0), np.float32),
        episode=number,
        step=np.zeros(rows, np.int32),
        behaviour=np.zeros(rows, np.int32),
        size=np.int32(rows),
    )


@pytest.mark.parametrize("threshold, greedy", [(0.3, 1), (0.0, 2)])
def test_a_rare_action_is_taken_only_without_a_threshold(threshold, greedy):
    """Its value is learned all the same (0, 1 and 5); exploring draws admitted actions in the log's proportions."""
    space = Space((1,), (), num_actions=3, action_dtype="int32")
    agent = {"hidden": (32,), "batch_size": 64, "learning_rate": 3e-3, "threshold": threshold, "scale_obs": False}
    algorithm, log = learners.make("discrete-bcq", agent, space, 0.9), jax.tree.map(jnp.asarray, rare())
    begun = jax.jit(algorithm.init)(jax.random.key(0), log)
    state, _ = jax.jit(block(algorithm, 1_500))(jnp.int32(0), begun, log, jax.random.key(1))
    acting = algorithm.acting(state)
    values = algorithm.q(acting, np.ones((3, 1), np.float32), jnp.arange(3))
    np.testing.assert_allclose(values, [0, 1, 5], atol=0.1)
    untrained = algorithm.q(algorithm.acting(begun), np.ones((3, 1), np.float32), jnp.arange(3))
    assert np.abs(untrained - np.array([0, 1, 5])).max() > 1
    act = jax.jit(
        jax.vmap(lambda key, explore: algorithm.policy.act(acting, None, jnp.ones(1), key, explore), (0, None))
    )
    keys = jax.random.split(jax.random.key(2), 2_000)
    assert (np.asarray(act(keys, 0.0)) == greedy).all()
    drawn = np.bincount(np.asarray(act(keys, 1.0)), minlength=3) / 2_000
    np.testing.assert_allclose(drawn[:2], 0.5, atol=0.06)  # the logit penalty and four standard errors
    assert (drawn[2] > 0) == (threshold == 0)
