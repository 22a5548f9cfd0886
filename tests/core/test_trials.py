"""The BAMDP view of a log, against a log whose observations are numbers that say where they come from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.samplers import trials
from pipelines.core.types import Log

HORIZON = 3


def told(lengths, dies=()):
    """Observation 10 e + t is the t-th of episode e, the reward of a row its number. Episodes shorter than HORIZON die
    unless they are the last."""
    episode = np.repeat(np.arange(len(lengths)), lengths)
    step = np.concatenate([np.arange(length) for length in lengths])
    end = step == np.repeat(lengths, lengths) - 1
    terminal = end & np.isin(episode, dies)
    size = len(episode)
    pad = lambda column: jnp.asarray(np.concatenate([column, np.zeros(4, column.dtype)]))  # noqa: E731
    return Log(
        obs=jnp.asarray(np.concatenate([10.0 * e + np.arange(n + 1) for e, n in enumerate(lengths)]))[:, None],
        action=pad(np.zeros((size, 1)).ravel())[:, None],
        reward=pad(np.arange(size, dtype=float)),
        terminal=pad(terminal),
        truncated=pad(end & ~terminal),
        outcome=jnp.zeros((size + 4, 0)),
        episode=pad(episode),
        step=pad(step),
        behaviour=pad(np.zeros(size, int)),
        size=jnp.int32(size),
    )


def drawn(log, num_episodes, boundary="start"):
    """Each trial of the log once, ordered: those that 64 draws found."""
    found = jax.tree.map(
        np.asarray,
        jax.jit(trials, static_argnums=(2, 3, 4, 5))(log, jax.random.key(0), 64, num_episodes, HORIZON, boundary),
    )
    _, index = np.unique(found.row.reward[:, 0], return_index=True)
    return jax.tree.map(lambda leaf: leaf[index], found)


def test_a_trial_goes_on_where_the_next_episode_begins():
    found = drawn(told([3, 3, 3, 3]), 2)
    np.testing.assert_array_equal(found.row.reward, [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]])
    np.testing.assert_array_equal(found.row.obs[0, :, 0], [0, 1, 2, 10, 11, 12])
    np.testing.assert_array_equal(found.row.next_obs[0, :, 0], [1, 2, 10, 11, 12, 13])
    np.testing.assert_array_equal(found.flag, [[0, 0, 0, 1, 0, 0]] * 2)
    np.testing.assert_array_equal(found.next_flag, [[0, 0, 1, 0, 0, 0]] * 2)
    # what is seen after a row is what is seen at the next one
    np.testing.assert_array_equal(found.row.next_obs[:, :-1], found.row.obs[:, 1:])
    np.testing.assert_array_equal(found.next_flag[:, :-1], found.flag[:, 1:])
    assert found.valid.all()


def test_the_original_boundary_shows_the_terminal_state_twice():
    found = drawn(told([3, 3, 3, 3]), 2, "end")
    np.testing.assert_array_equal(found.row.obs[0, :, 0], [0, 1, 2, 3, 11, 12])
    np.testing.assert_array_equal(found.row.next_obs[0, :, 0], [1, 2, 3, 11, 12, 13])
    np.testing.assert_array_equal(found.flag[0], [0, 0, 0, 1, 0, 0])
    np.testing.assert_array_equal(found.row.next_obs[:, :-1], found.row.obs[:, 1:])


def test_an_episode_that_dies_shortens_the_trial_and_ends_only_the_last():
    found = drawn(told([2, 3, 3, 1], dies=(0, 3)), 2)
    np.testing.assert_array_equal(found.valid, [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0]])
    np.testing.assert_array_equal(found.row.obs[0, :5, 0], [0, 1, 10, 11, 12])
    np.testing.assert_array_equal(found.row.next_obs[0, :5, 0], [1, 10, 11, 12, 13])
    ends = found.row.terminal & found.valid
    np.testing.assert_array_equal(ends, [[0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0]])


@pytest.mark.parametrize("lengths, trials_there", [([3, 3, 3], 1), ([3, 3, 3, 2], 1), ([3] * 5, 2), ([3, 3, 3, 3], 2)])
def test_only_whole_trials_are_drawn(lengths, trials_there):
    assert len(drawn(told(lengths), 2).flag) == trials_there


def test_one_episode_a_trial_has_no_flags():
    found = drawn(told([3, 3]), 1)
    assert not found.flag.any()
    assert not found.next_flag.any()
    np.testing.assert_array_equal(found.row.next_obs[:, :, 0], [[1, 2, 3], [11, 12, 13]])
