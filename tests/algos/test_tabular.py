"""Proposition 1 of tiMe, judged against exact value iteration, with controls that must fail."""

import jax
import numpy as np
import pytest

from pipelines.algos import tabular
from pipelines.algos.tabular import Batch

DISCOUNT = 0.8
TARGET = 1e-2
UPDATES = np.array([1_000, 8_000_000])


def rows(*table):
    state, action, reward, arrived = (np.array(column) for column in zip(*table, strict=True))
    return Batch(state.astype(np.int32), action.astype(np.int32), reward.astype(np.float32), arrived.astype(np.int32))


def test_value_iteration_by_hand():
    """s0 -a0-> s0 for -1, s0 -a1-> s1 for -3; s1 stays for 0. For ever staying costs 2 at discount 0.5, 10 at 0.9."""
    transition = np.zeros((2, 2, 2))
    transition[0, 0, 0] = transition[0, 1, 1] = transition[1, :, 1] = 1
    reward = np.zeros((2, 2, 2))
    reward[0, 0, 0], reward[0, 1, 1] = -1, -3
    np.testing.assert_allclose(tabular.value_iteration(transition, reward, 0.5), [[-2, -3], [0, 0]], atol=1e-9)
    np.testing.assert_allclose(tabular.value_iteration(transition, reward, 0.9), [[-3.7, -3], [0, 0]], atol=1e-9)


def test_empirical_mdp_by_hand():
    batch = rows((0, 0, -1.0, 1), (0, 0, -2.0, 1), (0, 0, -9.0, 0), (1, 1, -4.0, 0))
    transition, reward = tabular.empirical_mdp(batch, 2, 2)
    np.testing.assert_allclose(transition[0, 0], [1 / 3, 2 / 3])
    np.testing.assert_allclose(reward[0, 0], [-9, -1.5])
    np.testing.assert_allclose(transition[1, 1], [1, 0])
    assert (transition[0, 1, 0], transition[1, 0, 1]) == (1, 1)  # never seen: they stay where they are
    assert not reward[0, 1].any()
    assert not reward[1, 0].any()


def test_the_update_by_hand():
    """One row, s0 to itself for -1 under the only action: Q becomes -1, then moves 6/7 of the way to -1.5."""
    q = tabular.q_learning(rows((0, 0, -1.0, 0)), (1, 1), 0.5, np.array([1, 2]), jax.random.key(0))
    np.testing.assert_allclose(q.ravel(), [-1, -1 + 6 / 7 * -0.5], rtol=1e-6)


def test_step_sizes_are_robbins_monro():
    alpha = np.asarray(tabular.step_size(np.arange(1, 10_001)))
    assert alpha[0] == 1
    assert (np.diff(alpha) < 0).all()
    np.testing.assert_allclose(alpha[-1] * 10_000, 6, rtol=1e-3)  # like 1 / n: of infinite sum, but not its squares


@pytest.mark.parametrize("seed", range(4))
def test_pooled_q_learning_finds_the_optimum_of_an_mdp_that_is_no_task(seed):
    proof = tabular.prove(seed)
    assert proof.max_error <= TARGET
    assert proof.pooled[0] > 0.5  # it was not there from the start
    assert proof.mistaken > 10 * TARGET
    assert (proof.single[-1] > 10 * TARGET).all()
    assert (proof.num_rows, proof.num_unseen) == (600, 2)


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    family = tabular.random_family(rng)
    return family, tabular.collect(rng, family)


def distance(q, batch):
    return np.abs(q - tabular.value_iteration(*tabular.empirical_mdp(batch, *q.shape), DISCOUNT)).max()


def test_controls(world):
    """The same run, without learning, and held against what else the pooled batch might have stood for."""
    family, batches = world
    pooled = tabular.pool(batches)
    shape = family.reward.shape[1:3]
    learn = [pooled, shape, DISCOUNT, UPDATES, jax.random.key(1)]
    q = tabular.q_learning(*learn)[-1]
    assert distance(q, pooled) <= TARGET
    still = tabular.q_learning(*learn, rate=lambda visits: 0.0 * visits)[-1]
    assert distance(still, pooled) > 0.5
    mean = family.transition.mean(0)
    reward = (family.transition * family.reward).mean(0) / mean
    assert np.abs(q - tabular.value_iteration(mean, reward, DISCOUNT)).max() > 10 * TARGET  # the tasks' true average
    other = tabular.pool([batches[0], batches[0], batches[1], batches[2]])  # the same tasks in other shares
    assert distance(q, other) > 2 * TARGET


def test_on_one_tasks_rows_it_finds_that_task(world):
    family, batches = world
    shape = family.reward.shape[1:3]
    q = tabular.q_learning(batches[1], shape, DISCOUNT, UPDATES, jax.random.key(2))[-1]
    assert distance(q, batches[1]) <= TARGET


def test_where_the_statement_needs_rewards_that_are_not_positive(world):
    """With rewards in [0, 1] a self-loop at an unseen pair is worth discount * V(s), but Q-learning leaves it at 0."""
    family, batches = world
    pooled = tabular.pool(batches)
    pooled = pooled._replace(reward=pooled.reward + 1)
    shape = family.reward.shape[1:3]
    q = tabular.q_learning(pooled, shape, DISCOUNT, UPDATES, jax.random.key(3))[-1]
    best = tabular.value_iteration(*tabular.empirical_mdp(pooled, *shape), DISCOUNT)
    seen = np.zeros(shape, bool)
    seen[pooled.state, pooled.action] = True
    assert np.abs(q - best)[seen].max() <= TARGET
    assert not q[~seen].any()
    assert (best[~seen] > 1).all()


def test_batches_follow_the_family(world):
    family, batches = world
    for k, batch in enumerate(batches):
        where = (k, batch.state, batch.action, batch.next_state)
        np.testing.assert_allclose(batch.reward, family.reward[where], rtol=1e-6)
    long = tabular.collect(np.random.default_rng(1), family, num_rows=200_000)[0]
    transition, _ = tabular.empirical_mdp(long, *family.reward.shape[1:3])
    seen = np.zeros(transition.shape[:2], bool)
    seen[long.state, long.action] = True
    np.testing.assert_allclose(transition[seen], family.transition[0][seen], atol=0.03)
