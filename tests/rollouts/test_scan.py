"""Episodes against a loop written by hand, and logs against layouts written by hand."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.types import Policy, transitions
from pipelines.rollouts import zero_shot
from tests.lines import line, play

TASK = jnp.array([2.0])


class Seen(NamedTuple):
    """What the counting policy remembers of an episode."""

    rows: jax.Array
    paid: jax.Array


def counting(value=True):
    """Moves by a tenth of the rows it has seen, less a hundredth of what it was paid for them."""

    def start(acting, memory, obs, key):
        return Seen(jnp.float32(0), jnp.float32(0))

    def act(acting, memory, obs, key, explore):
        return (acting * memory.rows - 0.01 * memory.paid)[None]

    def observe(acting, memory, row):
        return Seen(memory.rows + 1, memory.paid + row.reward)

    return Policy(
        begin=lambda acting, key: Seen(jnp.float32(7), jnp.float32(7)),
        start=start,
        act=act,
        observe=observe,
        value=(lambda acting, memory, obs, action: 100 * memory.rows + obs[0]) if value else None,
    )


def by_hand(start, steps, times=2.0, gain=0.1):
    """(places [steps + 1], rewards [steps]) of the counting policy on the line."""
    place, paid, places, rewards = start, 0.0, [start], []
    for rows in range(steps):
        place += gain * rows - 0.01 * paid
        places.append(place)
        rewards.append(times * place)
        paid += rewards[-1]
    return np.array(places), np.array(rewards)


def episodes(family, policy=None, num=6, key=0):
    run = zero_shot(family, policy or counting(), family.discount, num)
    return jax.tree.map(np.asarray, jax.jit(run)(jnp.float32(0.1), TASK, jax.random.key(key)))


def test_returns_are_those_of_a_loop():
    family = line(horizon=5, discount=0.9)
    found = episodes(family)
    assert set(found.path[:, 0, 0].tolist()) == {0.0, 0.5}  # the starts differ
    length = math.ceil(math.log(1e-3) / math.log(0.9))
    for episode in range(6):
        places, rewards = by_hand(found.path[episode, 0, 0], length)
        np.testing.assert_allclose(found.path[episode, :, 0], places[:6], rtol=1e-5)
        np.testing.assert_allclose(found.rewards[episode], rewards[:5], rtol=1e-5)
        np.testing.assert_allclose(found.returns[episode], rewards[:5].sum(), rtol=1e-5)
        np.testing.assert_allclose(found.discounted[episode], (rewards * 0.9 ** np.arange(length)).sum(), rtol=1e-4)


def test_each_episode_begins_with_an_empty_memory():
    """The first move is a multiple of what the memory holds, so it is none; the value at the start sees no row."""
    found = episodes(line(horizon=3))
    np.testing.assert_array_equal(found.path[:, 1], found.path[:, 0])
    np.testing.assert_array_equal(found.value, found.path[:, 0, 0])


@pytest.mark.parametrize(("discount", "length"), [(0.5, 10), (0.9, 66), (0.1, 4), (0.0, 4)])
def test_the_discounted_return_is_followed_to_a_thousandth(discount, length):
    """A reward of 1 for ever is worth 1 / (1 - discount), less a thousandth; never is less than the horizon seen."""
    family = line(horizon=4, discount=discount)
    still = counting()
    still = Policy(still.begin, still.start, lambda *args: jnp.zeros(1), still.observe, still.value)
    found = episodes(family, still)
    reward = 2 * found.path[:, 0, 0]
    np.testing.assert_allclose(found.discounted, reward * (discount ** np.arange(length)).sum(), rtol=1e-5)
    np.testing.assert_allclose(found.discounted, reward / (1 - discount), rtol=1e-3)
    np.testing.assert_allclose(found.returns, 4 * reward, rtol=1e-6)


def test_nothing_is_paid_past_a_terminal_state():
    family = line(horizon=8, discount=0.9, ends_at=1.0)
    found = episodes(family)
    for episode in range(6):
        places, rewards = by_hand(found.path[episode, 0, 0], 66)
        last = int(np.argmax(places[1:] >= 1.0))
        assert 0 < last < 7
        paid = np.where(np.arange(66) <= last, rewards, 0)
        np.testing.assert_allclose(found.returns[episode], paid[:8].sum(), rtol=1e-5)
        np.testing.assert_allclose(found.discounted[episode], (paid * 0.9 ** np.arange(66)).sum(), rtol=1e-5)


def test_a_policy_without_a_value_has_none():
    assert np.isnan(episodes(line(), counting(value=False)).value).all()


def test_keys_decide_everything():
    first, second, other = (episodes(line(), num=16, key=key).path for key in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


# ---- recording -------------------------------------------------------------------------------------------------------


def steadily(obs, key):
    """Half a step to the right, so that starts of 0 and 0.5 stay apart from all that follow."""
    return jnp.array([0.5])


def check_contiguous(log):
    """What holds for every log: starts are 0 or 0.5, and each row leads to the next by its action."""
    count = int(log.size)
    batch = transitions(log, np.arange(count))
    np.testing.assert_allclose(batch.next_obs, batch.obs + batch.action)
    np.testing.assert_allclose(batch.reward, 2 * batch.next_obs[:, 0])
    np.testing.assert_array_equal(batch.outcome, np.concatenate([batch.next_obs, batch.action], 1))
    assert np.isin(batch.obs[log.step[:count] == 0], [0.0, 0.5]).all()
    inside = log.step[1:count] > 0
    np.testing.assert_array_equal(batch.next_obs[:-1][inside], batch.obs[1:][inside])
    ends = batch.terminal | batch.truncated
    np.testing.assert_array_equal(np.diff(log.episode[:count]), ends[:-1])
    assert not (batch.terminal & batch.truncated).any()
    assert ends[-1]


def test_a_log_cut_by_its_horizon():
    """Ten rows of horizon 4: episodes of 4, 4 and 2, the last one cut because recording stopped; 13 slots."""
    log = play(line(horizon=4), steadily, 10, TASK, jax.random.key(1))
    check_contiguous(log)
    assert int(log.size) == 10
    assert log.obs.shape == (13, 1)
    np.testing.assert_array_equal(log.episode, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
    np.testing.assert_array_equal(log.step, [0, 1, 2, 3, 0, 1, 2, 3, 0, 1])
    np.testing.assert_array_equal(log.truncated, [0, 0, 0, 1, 0, 0, 0, 1, 0, 1])
    assert not log.terminal.any()
    np.testing.assert_array_equal(log.behaviour, np.arange(10))
    first = log.obs[[0, 5, 10], 0]
    np.testing.assert_allclose(log.obs[:, 0], np.concatenate([start + 0.5 * np.arange(5) for start in first])[:13])


def test_a_log_that_ends_with_an_episode_has_no_slot_to_spare():
    log = play(line(horizon=4), steadily, 8, TASK, jax.random.key(1))
    check_contiguous(log)
    assert log.obs.shape == (10, 1)
    np.testing.assert_array_equal(log.truncated, [0, 0, 0, 1, 0, 0, 0, 1])


@pytest.mark.parametrize("num_rows", [9, 10, 11, 12])
def test_a_log_of_episodes_that_terminate(num_rows):
    """Beyond 2 after 3 or 4 moves from 0.5 or 0, before the horizon of 6."""
    log = play(line(horizon=6, ends_at=2.0), steadily, num_rows, TASK, jax.random.key(4))
    check_contiguous(log)
    assert log.obs.shape == (2 * num_rows, 1)
    lengths = np.bincount(log.episode)
    starts = log.obs[np.flatnonzero(log.step == 0) + np.arange(len(lengths)), 0]
    np.testing.assert_array_equal(lengths[:-1], np.where(starts == 0, 4, 3)[:-1])
    assert log.terminal[:-1].sum() == len(lengths) - 1
    assert log.truncated.sum() == (0 if log.terminal[-1] else 1)
    unused = num_rows + len(lengths)  # where the next episode would have begun
    assert not log.obs[unused + 1 :].any()


def test_both_kinds_of_end_in_one_log():
    """A horizon of 3 is reached from 0 before 2 is; from 0.5 both come at once, and then it is terminal."""
    log = play(line(horizon=3, ends_at=2.0), steadily, 30, TASK, jax.random.key(2))
    check_contiguous(log)
    starts = log.obs[np.flatnonzero(log.step == 0) + np.arange(10), 0]
    assert set(starts.tolist()) == {0.0, 0.5}
    np.testing.assert_array_equal(log.terminal[2::3], starts == 0.5)
    np.testing.assert_array_equal(log.truncated[2::3], starts == 0.0)
