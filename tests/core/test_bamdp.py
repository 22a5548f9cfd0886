"""The belief-augmented view of a log, by hand: observations are numbers that say where they come from, and so are
beliefs: slot s of a task's beliefs holds (100 + s, -s)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.bamdp import View, augmented
from tests.core.test_trials import told


def seen(lengths, k=2, boundary="start", dies=(), row=None):
    """All rows of the log's whole trials, or some of them."""
    log = jax.tree.map(lambda leaf: leaf[None], told(lengths, dies))
    slots = jnp.arange(60.0)
    view = View(jnp.stack([100 + slots, -slots], -1)[None], jnp.zeros((1,), jnp.int32))
    size = sum(lengths[: len(lengths) // k * k])
    rows = jnp.arange(size) if row is None else jnp.asarray(row)
    found = jax.jit(augmented, static_argnums=(4, 5))(log, view, jnp.zeros_like(rows), rows, k, boundary)
    return jax.tree.map(np.asarray, found)


def test_three_steps_across_a_boundary():
    """Rows 1, 2, 3 of two episodes of three steps: the last but one of the first, its last, the first of the second."""
    found = seen([3, 3], row=[1, 2, 3])
    np.testing.assert_array_equal(found.obs, [[1, 0, 101, -1], [2, 0, 102, -2], [10, 1, 103, -3]])
    np.testing.assert_array_equal(found.next_obs, [[2, 0, 102, -2], [10, 1, 103, -3], [11, 0, 104, -4]])
    np.testing.assert_array_equal(found.reward, [1, 2, 3])
    assert not found.terminal.any()


def test_the_original_boundary_goes_on_from_the_terminal_state():
    found = seen([3, 3], row=[1, 2, 3], boundary="end")
    np.testing.assert_array_equal(found.obs, [[1, 0, 101, -1], [2, 0, 102, -2], [3, 1, 103, -3]])
    np.testing.assert_array_equal(found.next_obs, [[2, 0, 102, -2], [3, 1, 103, -3], [11, 0, 104, -4]])


def test_the_original_flag_is_at_the_end_of_a_trial_too():
    """And not where the next one begins."""
    for boundary, flag in (("start", 0), ("end", 1)):
        found = seen([3, 3, 3, 3], row=[5, 6], boundary=boundary)
        np.testing.assert_array_equal(found.next_obs[:, :2], [[13, flag], [21, 0]])
        np.testing.assert_array_equal(found.obs[:, :2], [[12, 0], [20, 0]])
        assert not found.terminal.any()


@pytest.mark.parametrize("boundary", ["start", "end"])
@pytest.mark.parametrize("lengths, dies", [([3] * 8, ()), ([2, 3, 1, 3, 3, 3], (0, 2))])
def test_what_is_seen_after_a_row_is_what_is_seen_before_the_next(boundary, lengths, dies):
    """Inside a trial; the next trial begins anew, without a flag."""
    found = seen(lengths, 2, boundary, dies)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    same = episode[1:] // 2 == episode[:-1] // 2
    np.testing.assert_array_equal(found.next_obs[:-1][same], found.obs[1:][same])
    assert not (found.obs[1:, 2] == found.next_obs[:-1, 2])[~same].any()
    flags = np.concatenate([np.arange(length) == 0 for length in lengths]) & (episode % 2 > 0)
    np.testing.assert_array_equal(found.obs[:, 1], flags)


def test_an_episode_that_dies_inside_a_trial_has_a_successor():
    """Episodes 0 and 1 die; the first inside its trial, the second at its end."""
    found = seen([2, 2, 3, 3], dies=(0, 1))
    np.testing.assert_array_equal(np.flatnonzero(found.terminal), [3])
    np.testing.assert_array_equal(found.next_obs[1, :2], [10, 1])
    np.testing.assert_array_equal(found.next_obs[3, :2], [12, 0])  # its own


def test_images_are_laid_flat():
    log = jax.tree.map(lambda leaf: leaf[None], told([3, 3]))
    log = log._replace(obs=jnp.arange(8 * 4, dtype=jnp.uint8).reshape(1, 8, 2, 2, 1))
    view = View(jnp.zeros((1, 8, 2)), jnp.zeros((1,), jnp.int32))
    found = augmented(log, view, jnp.zeros((2,), int), jnp.asarray([0, 3]), 2)
    np.testing.assert_array_equal(found.obs, [[0, 1, 2, 3, 0, 0, 0], [16, 17, 18, 19, 1, 0, 0]])
    assert found.obs.dtype == jnp.float32
