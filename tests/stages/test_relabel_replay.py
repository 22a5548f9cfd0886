"""Policy replay: each task's agent in the other tasks, on the line and behind a simulator; and trials mixed with it."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from pipelines.core.configs.base import resolve
from pipelines.core.configs.relabel import ReplayConfig
from pipelines.core.errors import UsageError, WrongKind
from pipelines.core.trees import task_leaf, to_dict
from pipelines.core.types import Log, Task, transitions
from pipelines.rollouts import loop
from pipelines.stages import learners, relabelled, replay
from pipelines.stages.registry import STAGES
from tests.lines import hosted, line
from tests.toys import AGENTS, Memory, Stored, log_artifact, run, stacked, stored, work

from .relabelling import found_as, log_of, logs_of, rows_of

FAMILY = line(num_tasks=3, ends_at=1.0)  # episodes of at most five steps
EPISODES = 4


@pytest.fixture(autouse=True)
def family(monkeypatch):
    return found_as(FAMILY, monkeypatch)


@pytest.fixture(scope="module")
def log():
    """A log with two snapshots of untrained agents."""
    return with_agents(log_of(FAMILY))


def with_agents(log):
    space, tasks = FAMILY.space, FAMILY.tasks("train")
    algorithm = learners.make("sac", AGENTS["sac"], space, FAMILY.discount)
    keys = jax.random.split(jax.random.key(0), (2, len(tasks)))
    snapshots = jax.vmap(jax.vmap(lambda key: algorithm.acting(algorithm.init(key, None))))(keys)
    extra = log.card.extra | {"agent": AGENTS["sac"]}
    card = SimpleNamespace(**(vars(log.card) | {"extra": extra, "config": {"random_steps": 30}}))
    return Stored(card, log.tree | {"snapshots": to_dict(snapshots), "snapshot_step": np.array([40, 90], np.int32)})


@pytest.fixture(scope="module")
def made(log):
    """(the replay, the checkpoints on the way to it)"""
    kept = Memory(every=1)
    with pytest.MonkeyPatch.context() as patch:
        found_as(FAMILY, patch)
        order = work("replay", {"policies": log}, {"episodes": EPISODES}, checkpoint=kept)
        return stored("replay", STAGES["replay"].load()(order), order.config), kept.kept


@pytest.fixture(scope="module")
def played(made):
    return made[0]


def test_every_other_tasks_agent_plays_whole_episodes(played):
    for index, log in enumerate(logs_of(played)):
        rows = transitions(log, np.arange(int(log.size)))
        np.testing.assert_allclose(rows.next_obs, rows.obs + rows.action, atol=1e-6)
        np.testing.assert_allclose(rows.reward, (index + 1) * rows.next_obs[:, 0], rtol=1e-5)
        np.testing.assert_array_equal(rows.terminal, rows.next_obs[:, 0] >= 1.0)
        np.testing.assert_array_equal(rows.truncated, (log.step == 4) & ~rows.terminal)
        starts = log.step == 0
        assert starts.sum() == 2 * EPISODES == log.episode[-1] + 1
        assert np.isin(rows.obs[starts], [0.0, 0.5]).all()
        np.testing.assert_array_equal(
            np.flatnonzero(rows.terminal | rows.truncated)[:-1] + 1, np.flatnonzero(starts)[1:]
        )
        policy = played.tree[task_leaf(index)]["policy"]
        assert policy[starts].tolist() == sorted([*({0, 1, 2} - {index})] * EPISODES)
        assert (log.behaviour == 60).all()  # of 90 steps, 30 of them random
        assert len(played.tree[task_leaf(index)]["returns"]) == 2 * EPISODES
    assert any(log.terminal.any() for log in logs_of(played))
    assert any(log.truncated.any() for log in logs_of(played))


def test_it_is_a_replay_log_like_any_other(played):
    logs, tasks, space, _ = learners.read_log(played)
    assert (logs.reward.shape[0], len(tasks), space) == (3, 3, FAMILY.space)
    assert played.card.extra["replayed"] == "log"
    assert played.card.kind == "replay-log"
    with pytest.raises(WrongKind, match="kept no behaviour policy"):
        run("replay", {"policies": played})


def test_another_snapshot_and_greedy_actions(log, played):
    first = run("replay", {"policies": log}, {"episodes": EPISODES, "snapshot": 0, "explore": 0.0})
    one, other = logs_of(first)[0], logs_of(played)[0]
    assert (one.behaviour == 10).all()
    assert one.action[:5].tobytes() != other.action[:5].tobytes()
    rows = transitions(one, np.arange(int(one.size)))
    policy = first.tree[task_leaf(0)]["policy"]
    seen = {(int(p), float(obs)): action for p, obs, action in zip(policy, rows.obs[:, 0], rows.action, strict=True)}
    again = [seen[int(p), float(obs)] for p, obs in zip(policy, rows.obs[:, 0], strict=True)]
    np.testing.assert_array_equal(rows.action, np.stack(again))  # greedy: the same place, the same action
    with pytest.raises(UsageError, match="kept 2 policies of each task, none is number 2"):
        run("replay", {"policies": log}, {"snapshot": 2})


def test_a_simulator_plays_the_same_episodes(log, played, monkeypatch):
    """However many environments it has at once."""
    found_as(hosted(FAMILY), monkeypatch)
    for most in (256, 6):
        monkeypatch.setattr(loop, "MOST_ENVIRONMENTS", most)
        found = run("replay", {"policies": log}, {"episodes": EPISODES})
        for mine, want in zip(logs_of(found), logs_of(played), strict=True):
            np.testing.assert_array_equal(mine.episode, want.episode)
            for name in ("obs", "action", "reward"):
                np.testing.assert_allclose(getattr(mine, name), getattr(want, name), atol=1e-5, err_msg=name)
            np.testing.assert_array_equal(mine.terminal, want.terminal)
            np.testing.assert_array_equal(mine.truncated, want.truncated)


def test_failed_physics_truncates_the_episode(log, monkeypatch):
    found_as(hosted(line(num_tasks=3), breaks_at=2), monkeypatch)
    found = run("replay", {"policies": log}, {"episodes": 1})
    first, second = logs_of(found)[:2]
    np.testing.assert_array_equal(np.flatnonzero(first.truncated), [2, 5])
    np.testing.assert_array_equal(np.flatnonzero(second.truncated), [4, 9])


def test_a_resumed_replay_has_the_same_bits(log, made):
    whole, kept = made
    assert [cursor for cursor, _ in kept] == [1]
    order = work("replay", {"policies": log}, {"episodes": EPISODES}, checkpoint=Memory(kept=kept[:1]))
    again = STAGES["replay"].load()(order)
    assert order.tell.notes == ["resumed at policy 1 of 2"]
    for index in range(3):
        for name, column in whole.tree[task_leaf(index)].items():
            assert column.tobytes() == again.arrays[task_leaf(index)][name].tobytes(), name


def test_whatever_the_groups_of_tasks_the_episodes_are_the_same(log, played):
    order = dataclasses.replace(work("replay", {"policies": log}, {"episodes": EPISODES}), tasks_at_once=2)
    parts = STAGES["replay"].load()(order)
    for index in range(3):
        for name, column in played.tree[task_leaf(index)].items():
            assert column.tobytes() == parts.arrays[task_leaf(index)][name].tobytes(), name


# ---- whose agents ----------------------------------------------------------------------------------------------------


def drawn(num_tasks, seed=0, **fields):
    tasks = tuple(Task(10 * n, str(n), "train", {}) for n in range(num_tasks))
    whose, keys = replay.drawn(resolve(ReplayConfig, fields), tasks, seed)
    return whose, np.asarray(jax.random.key_data(keys))


def test_others_are_drawn_and_never_the_own_one():
    whose, _ = drawn(40, policies=20)
    assert whose.shape == (40, 20)
    assert (np.diff(whose, axis=1) > 0).all()
    assert not (whose == np.arange(40)[:, None]).any()
    counts = np.bincount(whose.ravel(), minlength=40)
    assert (counts > 5).all()
    assert (drawn(40, policies=20, seed=1)[0] != whose).any()
    assert (drawn(40, policies=20, own=True)[0] == np.arange(40)[:, None]).any()
    assert drawn(5, policies=20)[0].shape == (5, 4)
    assert drawn(5, policies=None, own=True)[0].tolist() == [list(range(5))] * 5


def test_another_task_disturbs_no_pair():
    whose, keys = drawn(4, policies=None)
    more, other = drawn(5, policies=None)
    for i in range(4):
        for at, j in enumerate(whose[i]):
            np.testing.assert_array_equal(keys[i, at], other[i, more[i].tolist().index(j)])
    assert len(np.unique(other.reshape(-1, other.shape[-1]), axis=0)) == 20


def test_what_cannot_be_played_again_says_why(log):
    imported = SimpleNamespace(**(vars(log.card) | {"extra": log.card.extra | {"algorithm": ""}}))
    with pytest.raises(WrongKind, match="an imported log has no policy of its own"):
        run("replay", {"policies": Stored(imported, log.tree)})
    with pytest.raises(WrongKind, match="kept no behaviour policy"):
        run("replay", {"policies": log_of(FAMILY)})
    one = SimpleNamespace(**(vars(log.card) | {"tasks": log.card.tasks[:1]}))
    with pytest.raises(UsageError, match="replay needs at least 2 tasks"):
        run("replay", {"policies": Stored(one, log.tree)})


def test_the_policies_of_a_policy_set_may_play(log):
    """It holds the last state of each, and perhaps no snapshot."""
    last = jax.tree.map(lambda leaf: leaf[1], log.tree["snapshots"])
    acting, updates = replay.agents(Stored(log.card, {"acting": last, "snapshot_step": np.zeros(0, np.int32)}), -1)
    assert updates == 0
    want, sixty = replay.agents(log, -1)
    assert sixty == 60
    for one, other in zip(jax.tree.leaves(acting), jax.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(one, other)


# ---- trials mixed with them ------------------------------------------------------------------------------------------

MIXED = {"unit": "episode", "half": "first"}


def test_trials_are_mixed_with_replayed_episodes_as_they_were_paid(log, played):
    found = run("relabel", {"log": log, "replay": played}, MIXED)
    again = logs_of(played)
    for index in range(3):
        rows = rows_of(found, index)
        assert (rows.log == 1).all()
        assert (rows.task == index).all()
        assert sorted(set(rows.place.tolist())) == list(range(0, 20, 2))
        np.testing.assert_array_equal(rows.reward, again[index].reward[rows.row])
        policy = played.tree[task_leaf(index)]["policy"][rows.row]
        np.testing.assert_array_equal(found.tree["pair_size"][index], np.bincount(policy, minlength=3))
        assert (found.tree["pair_size"][index] > 0).sum() == 2
    assert found.card.extra["logs"] == ["log", "replay"]
    mixed = relabelled.spliced(found, [stacked(*logs_of(log)), stacked(*again)])
    mine = Log(*(column[0] for column in mixed))
    rows = rows_of(found, 0)
    first = rows.row[rows.place == 0]
    np.testing.assert_array_equal(mine.action[: len(first)], again[0].action[first])
    np.testing.assert_array_equal(mine.action[len(first) : len(first) + 5], logs_of(log)[0].action[5:10])


def test_half_a_trial_wants_as_many_episodes_of_one_policy(log, played):
    few = {**MIXED, "trial_episodes": 10}
    with pytest.raises(UsageError, match="no trial is mixed") as caught:
        run("relabel", {"log": log, "replay": played}, few)
    assert "5 episode(s) of one policy: omrl replay --set episodes=5, or --set sources=each" in caught.value.hint
    assert rows_of(run("relabel", {"log": log, "replay": played}, few, {"sources": "each"}), 0).row.size


def found_like(artifact, **extra):
    """The same artifact, whose card says something else of it."""
    return Stored(SimpleNamespace(**(vars(artifact.card) | {"extra": artifact.card.extra | extra})), artifact.tree)


def test_a_replay_that_does_not_fit_is_refused(log, played):
    with pytest.raises(UsageError, match="replayed rows are a log of their own") as caught:
        run("relabel", {"log": log, "replay": played}, {"unit": "row"})
    assert "unit=episode" in caught.value.hint
    with pytest.raises(WrongKind, match="are of different tasks"):
        run("relabel", {"log": log_artifact(), "replay": played}, MIXED)
    elsewhere = found_like(played, family="disc/toy")
    with pytest.raises(WrongKind, match=r"log log is of line/.*, replay replay of disc/toy"):
        run("relabel", {"log": log, "replay": elsewhere}, MIXED)
    wider = found_like(played, space=FAMILY.space._replace(obs_shape=(5,)).to_json())
    with pytest.raises(WrongKind, match="replay replay is of other observations or actions than log log"):
        run("relabel", {"log": log, "replay": wider}, MIXED)
    with pytest.raises(WrongKind, match="does not say whose episodes it holds"):
        run("relabel", {"log": log, "replay": log}, MIXED)
