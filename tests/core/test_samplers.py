import jax
import numpy as np
import pytest
from scipy import stats

from pipelines.core.samplers import contexts, pooled, row_numbers, rows
from pipelines.core.types import transitions
from tests.toys import SPACE, make_log, stacked

DRAWS = 20_000


def numbered(lengths, terminal=()):
    """A log whose observation slots, rewards and actions are their own numbers."""
    log = make_log(0, lengths, terminal)
    slots, count = len(log.obs), int(log.size)
    return log._replace(
        obs=np.repeat(np.arange(slots, dtype=np.float32)[:, None], SPACE.obs_dim, 1),
        reward=np.arange(count, dtype=np.float32),
        action=np.repeat(np.arange(count, dtype=np.float32)[:, None], SPACE.action_dim, 1),
    )


def padded(log, longest):
    """`log` beside one of `longest` rows, so that it has rows past its size; they hold NaN."""
    pair = stacked(log, make_log(1, (longest,)))
    mine = jax.tree.map(lambda leaf: np.array(leaf[0]), pair)
    mine.reward[int(log.size) :] = np.nan
    mine.obs[len(log.obs) :] = np.nan
    return mine


def uniform(counts):
    """p-value of a chi-square test that `counts` come from a uniform draw."""
    return stats.chisquare(counts).pvalue


def test_transitions_find_their_slots_across_episodes():
    log = numbered((2, 1, 3), terminal=(1,))
    batch = transitions(log, np.arange(6))
    np.testing.assert_array_equal(batch.obs[:, 0], [0, 1, 3, 5, 6, 7])
    np.testing.assert_array_equal(batch.next_obs[:, 0], [1, 2, 4, 6, 7, 8])  # the true successor, never the reset
    np.testing.assert_array_equal(batch.reward, np.arange(6))
    np.testing.assert_array_equal(batch.terminal, [0, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(batch.truncated, [0, 1, 0, 0, 0, 1])


def test_transitions_take_any_shape_of_rows():
    log = numbered((2, 1, 3))
    batch = transitions(log, np.array([[5, 0], [2, 3]]))
    assert batch.obs.shape == (2, 2, SPACE.obs_dim)
    np.testing.assert_array_equal(batch.next_obs[..., 0], [[8, 1], [4, 6]])


def test_rows_are_uniform_and_never_padding():
    log = padded(numbered((2, 1, 3)), longest=40)
    batch = rows(log, jax.random.key(0), DRAWS)
    counts = np.bincount(np.asarray(batch.reward).astype(int), minlength=6)
    assert len(counts) == 6
    assert np.isfinite(batch.next_obs).all()
    assert uniform(counts) > 0.01
    assert uniform(counts + np.array([0, 0, 0, 0, 0, 500])) < 1e-6  # the test of uniformity can fail


def test_a_growing_log_is_drawn_from_what_it_holds():
    log = numbered((9,))._replace(size=np.int32(3))
    assert set(np.asarray(row_numbers(log, jax.random.key(0), 500)).tolist()) == {0, 1, 2}


def test_contexts_never_hold_the_excluded_row():
    log = padded(numbered((2, 1, 3)), longest=40)
    excluded = np.tile(np.arange(6), DRAWS // 6)
    held = np.asarray(contexts(log, jax.random.key(1), excluded, 3).reward)
    assert held.shape == (len(excluded), 3)
    assert not (held == excluded[:, None]).any()
    for row in range(6):
        counts = np.bincount(held[excluded == row].astype(int).ravel(), minlength=6)
        assert counts[row] == 0
        assert uniform(np.delete(counts, row)) > 1e-3


def test_the_context_of_an_only_row_is_that_row():
    """There is nothing else to take; a stage that wanted another one would have to refuse such a log."""
    log = numbered((1,))
    np.testing.assert_array_equal(contexts(log, jax.random.key(0), np.array([0]), 2).reward, [[0, 0]])


def test_pooled_is_uniform_over_the_rows_of_unequal_logs():
    single = [numbered((1,)), numbered((2, 1, 3)), numbered((20, 30))]
    logs = stacked(*single)
    logs = logs._replace(outcome=np.broadcast_to(np.arange(3.0)[:, None, None], (*logs.reward.shape, 1)))  # whose row
    batch = jax.tree.map(np.asarray, pooled(logs, jax.random.key(2), DRAWS))
    task, row = batch.outcome[:, 0].astype(int), batch.reward.astype(int)
    counts = np.bincount(np.array([0, 1, 7])[task] + row, minlength=57)
    assert counts.shape == (57,)
    assert uniform(counts) > 0.01
    for number, log in enumerate(single):
        mine = task == number
        want = transitions(log, row[mine])
        for name in ("obs", "action", "next_obs", "terminal", "truncated"):
            np.testing.assert_array_equal(getattr(batch, name)[mine], getattr(want, name), err_msg=name)


@pytest.mark.parametrize("draw", [rows, pooled])
def test_same_key_same_rows(draw):
    log = numbered((2, 1, 3)) if draw is rows else stacked(numbered((2, 1, 3)), numbered((4,)))
    first, second, other = (draw(log, jax.random.key(seed), 50).reward for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert (np.asarray(first) != np.asarray(other)).any()
