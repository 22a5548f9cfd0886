"""The loop driver against the scan driver: one family behind both kinds of engine."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines import rollouts
from pipelines.core.taskmap import TaskAxis
from pipelines.core.types import Policy
from tests.lines import hosted, line
from tests.rollouts.test_scan import counting

TASKS = 3


def both(family, policy, num_episodes=4, **host):
    """(scan's episodes, loop's episodes), leaves [T, P, ...], of the same acting states and keys."""
    tasks = family.tasks("train")
    axis = TaskAxis(len(tasks))
    keys = axis.put(jax.random.split(jax.random.key(5), len(tasks)))
    acting = axis.put(np.linspace(0.1, 0.3, len(tasks), dtype=np.float32))
    rows = axis.put(np.stack([task.row() for task in tasks]))
    one = rollouts.zero_shot(family, policy, family.discount, num_episodes)
    scanned = axis.get(axis.over_tasks(lambda step, *args: one(*args))(0, acting, rows, keys))
    run = rollouts.host_zero_shot(
        hosted(family, **host), policy, family.discount, num_episodes, rollouts.Lineup(axis, tasks)
    )
    return scanned, run(acting, keys)


def assert_same(scanned, looped, names):
    for name in names:
        np.testing.assert_allclose(getattr(looped, name), getattr(scanned, name), rtol=1e-5, atol=1e-6, err_msg=name)


def test_both_drivers_play_the_same_episodes():
    scanned, looped = both(line(horizon=7, discount=0.3, num_tasks=TASKS), counting())
    assert len(np.unique(scanned.path[:, :, 0])) == 2  # the starts differ
    assert_same(scanned, looped, rollouts.Episodes._fields)


def test_both_drivers_stop_at_a_terminal_state():
    """The path is not compared: behind a simulator nobody moves a fallen body on."""
    policy = counting()
    walks = Policy(policy.begin, policy.start, lambda *a: jnp.full(1, 0.3), policy.observe, policy.value)
    scanned, looped = both(line(horizon=9, discount=0.3, ends_at=1.0, num_tasks=TASKS), walks)
    assert (scanned.rewards[..., -1] == 0).all()
    assert_same(scanned, looped, ("returns", "discounted", "value", "rewards"))
    ended = (looped.rewards != 0).sum(-1)
    for task in range(TASKS):
        for episode in range(4):
            last = ended[task, episode]
            assert (looped.path[task, episode, last:] == looped.path[task, episode, last]).all()


def test_a_return_that_needs_more_steps_than_the_horizon_is_unknown():
    scanned, looped = both(line(horizon=7, discount=0.9, num_tasks=TASKS), counting())
    assert np.isfinite(scanned.discounted).all()
    assert np.isnan(looped.discounted).all()
    assert_same(scanned, looped, ("returns", "value", "rewards"))


def test_many_episodes_are_the_same_whichever_are_played_together(monkeypatch):
    family = line(horizon=5, discount=0.3, num_tasks=TASKS)
    together = both(family, counting(), 6)[1]
    monkeypatch.setattr(rollouts.loop, "MOST_ENVIRONMENTS", 2 * TASKS)
    in_parts = both(family, counting(), 6)[1]
    for a, b in zip(together, in_parts, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_episode_whose_physics_failed_pays_nothing_more():
    family = line(horizon=6, discount=0.3, num_tasks=TASKS)
    scanned, looped = both(family, counting(), breaks_at=3)
    assert (looped.rewards[0, 0, 4:] == 0).all()
    assert (scanned.rewards[0, 0, 4:] != 0).any()
    np.testing.assert_allclose(looped.rewards[1:], scanned.rewards[1:], rtol=1e-5)  # the others go on


def test_a_policy_remembers_nothing_of_what_came_before():
    """The control: without `start` the memory of 7 rows that `begin` gave moves the first step."""
    policy = counting()
    forgetful = Policy(policy.begin, lambda acting, memory, obs, key: memory, policy.act, policy.observe, policy.value)
    _, looped = both(line(horizon=5, discount=0.3, num_tasks=TASKS), counting())
    _, spoilt = both(line(horizon=5, discount=0.3, num_tasks=TASKS), forgetful)
    np.testing.assert_array_equal(looped.path[:, :, 1], looped.path[:, :, 0])
    assert (spoilt.path[:, :, 1] != spoilt.path[:, :, 0]).any()


@pytest.mark.parametrize("ended", [False, True])
def test_cutting_an_episode_keeps_its_rows(ended):
    """3 rows written, of an episode that runs on or has just ended; then a new one begins at 9."""
    family = line(horizon=3 if ended else 5)
    rec = rollouts.recorder(family, 6, jnp.zeros(1))
    policy = counting()
    live = rollouts.begin(
        family, policy, jnp.float32(0.1), jnp.array([2.0]), policy.begin(None, None), jax.random.key(0)
    )
    for n in range(3):
        live, row = rollouts.step(family, policy, 0.1, jnp.array([2.0]), live, jnp.array([0.25]), jax.random.key(n))
        rec = rollouts.record(rec, row, live.step - 1, jnp.int32(0), jnp.array([5.0]))
    rec = rollouts.cut(rec, jnp.array([9.0]))
    assert rec.log.truncated.tolist()[:3] == [False, False, True]
    assert int(rec.episode) == 1
    assert rec.log.obs[4, 0] == 9.0  # rows 0..2 took the slots 0..3
    np.testing.assert_allclose(np.diff(rec.log.obs[:4, 0]), 0.25, rtol=1e-6)


def test_a_log_has_room_for_as_many_episodes_as_there_may_be():
    """12 rows at horizon 5: 3 episodes, or one each row wherever an episode may be cut."""
    family = line(horizon=5)
    room = [
        rollouts.recorder(one, 12, jnp.zeros(1)).log.obs.shape[0] - 12
        for one in (family, dataclasses.replace(family, may_fail=True), line(horizon=5, ends_at=1.0), hosted(family))
    ]
    assert room == [3, 12, 12, 12]


# ---- trials of several episodes --------------------------------------------------------------------------------------


def patient():
    """Counts the rows it has seen in all episodes, and how many episodes were begun; moves by both."""

    def act(acting, memory, obs, key, explore):
        return (acting * memory.rows + 0.01 * memory.paid)[None]

    policy = counting()
    return Policy(
        begin=lambda acting, key: type(policy.begin(acting, key))(jnp.float32(0), jnp.float32(0)),
        start=lambda acting, memory, obs, key: memory._replace(paid=memory.paid + 1),
        act=act,
        observe=lambda acting, memory, row: memory._replace(rows=memory.rows + 1),
        value=None,
    )


def both_trials(family, num_trials=4, num_episodes=3):
    tasks = family.tasks("train")
    axis = TaskAxis(len(tasks))
    keys = axis.put(jax.random.split(jax.random.key(5), len(tasks)))
    acting = axis.put(np.linspace(0.01, 0.03, len(tasks), dtype=np.float32))
    rows = axis.put(np.stack([task.row() for task in tasks]))
    one = rollouts.trials(family, patient(), num_trials, num_episodes)
    scanned = axis.get(axis.over_tasks(lambda step, *args: one(*args))(0, acting, rows, keys))
    run = rollouts.host_trials(hosted(family), patient(), num_trials, num_episodes, rollouts.Lineup(axis, tasks))
    return scanned, run(acting, keys)


def test_a_trial_carries_its_memory_over_the_episodes():
    """By hand: step n of episode e (from 0) moves by a (n + e H) + (e + 1) / 100; starts differ."""
    for played in both_trials(line(horizon=5, num_tasks=2)):
        assert played.rewards.shape == (2, 4, 3, 5)
        moves = np.diff(played.path[..., 0], axis=-1)
        count = np.arange(15).reshape(3, 5)
        for task, gain in enumerate((0.01, 0.03)):
            want = gain * count + 0.01 * np.arange(1, 4)[:, None]
            np.testing.assert_allclose(moves[task], np.broadcast_to(want, (4, 3, 5)), atol=1e-5)
        np.testing.assert_allclose(played.returns, played.rewards.sum(-1), rtol=1e-6)


def test_both_drivers_play_the_same_trials_also_where_episodes_end_early():
    """An ended episode adds its last row to the memory and nothing after it, or the next one would move otherwise."""
    scanned, looped = both_trials(line(horizon=12, ends_at=0.9, num_tasks=3))
    ended = (scanned.rewards != 0).sum(-1)
    assert ended.min() < 12
    for name in rollouts.Trials._fields:
        np.testing.assert_allclose(getattr(looped, name), getattr(scanned, name), rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_trial_of_one_episode_is_a_zero_shot_episode():
    family = line(horizon=6, num_tasks=2)
    tasks, key = family.tasks("train"), jax.random.key(3)
    single = rollouts.zero_shot(family, counting(), 0.0, 16)(jnp.float32(0.1), tasks[1].row(), key)
    trial = rollouts.trials(family, counting(), 16, 1)(jnp.float32(0.1), tasks[1].row(), key)
    assert trial.returns.shape == (16, 1)
    kinds = [np.unique(path[..., 0].round(4), axis=0) for path in (single.path, trial.path[:, 0])]
    assert len(kinds[0]) == 2  # one for each start
    np.testing.assert_allclose(kinds[0], kinds[1], atol=1e-3)


# ---- who plays -------------------------------------------------------------------------------------------------------


def lucky():
    """As `patient`, and each action has a random part, so that luck shows; values are of what was seen."""
    policy = patient()

    def act(acting, memory, obs, key, explore):
        return policy.act(acting, memory, obs, key, explore) + 0.1 * jax.random.normal(key)

    return dataclasses.replace(policy, act=act, value=lambda acting, memory, obs, action: acting + action[0])


def played(kind, gains, num_runs=4, *, shared=False, beside=None):
    """Episodes, or trials, on a line behind a simulator; `gains` are laid over the tasks as a `Lineup` says."""
    family = hosted(line(horizon=5, discount=0.3, num_tasks=TASKS))
    tasks = family.tasks("train")
    axis = TaskAxis(len(tasks))
    keys = axis.put(jax.random.split(jax.random.key(5), len(tasks)))
    sizes = (0.3, num_runs) if kind == "episodes" else (num_runs, 2)
    make = rollouts.host_zero_shot if kind == "episodes" else rollouts.host_trials
    lay, lineup = axis.replicate if shared else axis.put, rollouts.Lineup(axis, tasks, shared, beside)
    return make(family, lucky(), *sizes, lineup)(lay(np.asarray(gains, np.float32)), keys)


KINDS = pytest.mark.parametrize("kind", ["episodes", "trials"])


@KINDS
def test_tasks_may_share_a_policy(kind):
    """To the bit what a copy for each of them gives."""
    one, copies = played(kind, 0.02, shared=True), played(kind, [0.02] * TASKS)
    assert len(np.unique(one.returns)) > TASKS
    for name, a, b in zip(one._fields, one, copies, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


@KINDS
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("most", [256, 2 * TASKS * 2])
def test_policies_beside_each_other_have_the_same_luck(kind, shared, most, monkeypatch):
    """Two policies for each task, which all share or have for themselves; all runs at once, or two by two."""
    monkeypatch.setattr(rollouts.loop, "MOST_ENVIRONMENTS", most)
    gains = np.array([0.01, 0.05]) if shared else np.arange(1, 2 * TASKS + 1).reshape(TASKS, 2) / 100
    beside = played(kind, gains, shared=shared, beside=2)
    assert beside.returns.shape[:3] == (2, TASKS, 4)
    for s in range(2):
        alone = played(kind, gains[..., s], shared=shared)
        for name, a, b in zip(alone._fields, beside, alone, strict=True):
            np.testing.assert_allclose(a[s], b, rtol=1e-5, atol=1e-6, err_msg=name)
    assert (beside.returns[0] != beside.returns[1]).all()


def test_policies_beside_each_other_may_remember_nothing():
    """A memory of no numbers, as TD3's without a context."""
    family = hosted(line(horizon=5, num_tasks=TASKS))
    none = jnp.zeros((0,))
    policy = Policy(
        begin=lambda acting, key: none,
        start=lambda acting, memory, obs, key: memory,
        act=lambda acting, memory, obs, key, explore: acting[None],
        observe=lambda acting, memory, row: memory,
        value=None,
    )
    axis, tasks = TaskAxis(TASKS), family.tasks("train")
    keys = axis.put(jax.random.split(jax.random.key(5), TASKS))
    run = rollouts.host_zero_shot(family, policy, 0.0, 2, rollouts.Lineup(axis, tasks, shared=True, beside=2))
    moves = np.diff(run(axis.replicate(np.float32([0.1, 0.2])), keys).path[..., 0], axis=-1)
    np.testing.assert_allclose(moves[0], 0.1, rtol=1e-4)
    np.testing.assert_allclose(moves[1], 0.2, rtol=1e-4)


def test_the_value_is_that_of_the_first_action():
    found = played("trials", [0.02] * TASKS)
    moves = np.diff(found.path[..., 0], axis=-1)
    np.testing.assert_allclose(found.value, 0.02 + moves[..., 0], atol=1e-6)
