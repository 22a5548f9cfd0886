"""One policy learned while its tasks are collected: its log, its policy, and what a killed run goes on to."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.configs.base import resolve
from pipelines.core.errors import StageFailed, UsageError, WrongKind
from pipelines.core.types import Log, Transition, memoryless, transitions
from pipelines.rollouts.exploring import Explored, explore
from pipelines.stages import online
from pipelines.stages.registry import STAGES
from pipelines.tasks import registry
from tests.lines import hosted, line
from tests.toys import Memory, Stored, Talk, bits, log_artifact, log_of, run, stored, work

POINT = {"family": "point-semicircle/time"}
LAYERS = (POINT, {"ramp_rows": 100, "updates": 3, "block_iterations": 1})


class Made(NamedTuple):
    log: Stored
    told: list[tuple[int, dict[str, float]]]
    kept: list[Any]  # checkpoints


@pytest.fixture(scope="module")
def made() -> Made:
    talk, kept = Talk(), Memory(every=1)
    order = work("online", {}, *LAYERS, checkpoint=kept, tell=talk)
    return Made(stored("online", STAGES["online"].load()(order), order.config), talk.rows, kept.kept)


# ---- logs ------------------------------------------------------------------------------------------------------------


def rows_of(values, lengths, terminal):
    """One task's episodes `[1, K, H]` of so many rows: rewards `values`, observations 10 times them, then 10 more."""
    reward = jnp.asarray(values, jnp.float32)[None]
    obs = 10 * reward[..., None]
    held = jnp.arange(reward.shape[2])[None, None] < jnp.asarray(lengths)[None, :, None]
    last = jnp.arange(reward.shape[2])[None, None] == jnp.asarray(lengths)[None, :, None] - 1
    dies = last & jnp.asarray(terminal)[None, :, None]
    row = Transition(obs, obs[..., :1], reward, obs + 10, dies, jnp.zeros_like(dies), obs[..., :0])
    return Explored(obs[:, :, 0], row, held)


def test_episodes_are_appended_where_the_last_ones_ended():
    """Task 1 of two: an episode of 2 that dies, one of 3 that is cut; then one of 1. Task 0 stays empty."""
    family = line()
    logs = online.empty_logs(family, 2, 12, 16)._replace(outcome=jnp.zeros((2, 12, 0)))
    none = jnp.zeros((2,), jnp.int32)
    found = rows_of([[1, 2, 9], [3, 4, 5]], [2, 3], [True, False])
    logs, episodes, lost = online.append(logs, none, jnp.array([1]), found, jnp.int32(7))
    logs, episodes, more = online.append(logs, episodes, jnp.array([1]), rows_of([[6, 9]], [1], [False]), jnp.int32(8))
    log = Log(*(np.asarray(leaf[1]) for leaf in logs))
    size = int(log.size)
    assert (size, logs.size.tolist(), episodes.tolist()) == (6, [0, 6], [0, 3])
    assert (lost.tolist(), more.tolist()) == ([0, 0], [0, 1])  # the last was cut before its horizon of 2
    assert log.reward.tolist() == [1, 2, 3, 4, 5, 6] + [0] * 6
    assert log.episode[:size].tolist() == [0, 0, 1, 1, 1, 2]
    assert log.step[:size].tolist() == [0, 1, 0, 1, 2, 0]
    assert log.terminal[:size].tolist() == [False, True, False, False, False, False]
    assert log.truncated[:size].tolist() == [False, False, False, False, True, True]
    assert log.behaviour[:size].tolist() == [7] * 5 + [8]
    rows = transitions(log, np.arange(size))
    np.testing.assert_array_equal(rows.obs[:, 0], 10 * rows.reward)
    np.testing.assert_array_equal(rows.next_obs[:, 0], 10 * rows.reward + 10)


def test_both_kinds_of_families_are_explored_alike():
    """Trials of two episodes, of which some end early: the same rows from the program and from a simulator, and the
    memory counts the steps of both episodes."""
    family = line(horizon=6, ends_at=2.0)

    def act(acting, obs, key, explore):
        return jax.random.uniform(key, (1,), minval=-0.2, maxval=1.0) * explore

    policy = memoryless(act, None)
    counting = policy.__class__(
        begin=lambda acting, key: jnp.zeros(()),
        start=lambda acting, memory, obs, key: memory,
        act=lambda acting, memory, obs, key, explore: act(acting, obs, key, explore) + 0.01 * memory,
        observe=lambda acting, memory, row: memory + 1,
        value=None,
    )
    tasks, keys = np.array([[1.0], [2.0], [1.0]]), jax.random.split(jax.random.key(3), 3)
    one, other = (explore(each, counting, 2, 5)((), tasks, keys) for each in (family, hosted(family)))
    np.testing.assert_array_equal(one.held, other.held)
    assert 1 < np.asarray(one.held).sum(-1).min() < np.asarray(one.held).sum(-1).max()
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        mask = np.asarray(one.held).reshape(3, 2, 5, *[1] * (np.ndim(a) - 3)) if np.ndim(a) > 2 else 1
        if np.shape(a)[:3] == (3, 2, 5):
            np.testing.assert_allclose(np.where(mask, a, 0), np.where(mask, b, 0), rtol=1e-6, atol=1e-6)
        else:
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


# ---- the stage -------------------------------------------------------------------------------------------------------


def test_a_log_and_the_policy_that_made_it(made):
    """Random episodes of a quarter of the horizon in all tasks, then one whole one an iteration. Before 100 rows were
    seen there are as many updates as the last episodes were long: 5 after the random ones, 20 after a whole one."""
    horizon = registry.find(POINT["family"]).horizon
    logs = [log_of(made.log, task) for task in range(3)]
    begun = [np.flatnonzero(log.step == 0) for log in logs]
    lengths = [np.diff(np.append(first, log.size)) for first, log in zip(begun, logs, strict=True)]
    assert all(length[:4].tolist() == [5] * 4 and set(length[4:]) <= {horizon} for length in lengths)
    assert sum(len(length) - 4 for length in lengths) == 4
    assert [row["updates"] for _, row in made.told] == [5, 25, 28, 31]
    assert sorted({int(n) for log in logs for n in log.behaviour}) == [0, 5, 25, 28, 31]
    assert made.log.card.extra["online"] == {"updates": 31, "chosen": "mql"}


def test_each_task_has_its_random_rows_however_soon_episodes_end(monkeypatch):
    """Uniform actions reach 0.6 after one step or some: episodes of one row or more, until each of three tasks has its
    20 of 60 rows, and not one episode more."""
    monkeypatch.setattr(registry, "find", lambda name, **more: line(num_tasks=3, horizon=12, ends_at=0.6))
    few = {"family": "line/toy", "algorithm": "td3", "random_steps": 60, "iterations": 1, "block_iterations": 1}
    made = run("online", {}, few, {"updates": 1})
    for log in (log_of(made, task) for task in range(3)):
        size = int(log.size)
        random = np.flatnonzero(log.behaviour[:size] == 0)
        starts = np.flatnonzero(log.step[:size] == 0)
        last = starts[starts < len(random)].max()
        assert last < 20 <= len(random) and len(starts) > 7
        assert (np.diff(log.episode[:size]) >= 0).all() and log.terminal[:size].any()
        rows = transitions(log, np.arange(size))
        np.testing.assert_array_equal(rows.obs[starts, 0] < 0.6, True)


def test_a_simulator_that_fails_at_once_is_named(monkeypatch):
    family = line(num_tasks=2)
    monkeypatch.setattr(registry, "find", lambda name, **more: family)
    monkeypatch.setattr(online, "explore", lambda *args: nothing_held(explore(*args)))
    with pytest.raises(StageFailed, match="physics failed in the first step"):
        run("online", {}, {"family": "line/toy", "algorithm": "td3", "iterations": 1, "block_iterations": 1})


def nothing_held(play):
    def played(*args):
        found = play(*args)
        return found._replace(held=jnp.zeros_like(found.held))

    return played


def test_rewards_are_the_familys(made):
    family = registry.find(POINT["family"])
    for number, task in enumerate(family.tasks("train")):
        log = log_of(made.log, number)
        rows = transitions(log, np.arange(int(log.size)))
        paid = family.reward(np.asarray(task.row()), rows.obs, rows.action, rows.next_obs, rows.outcome)
        np.testing.assert_allclose(paid, rows.reward, rtol=1e-5)


def test_the_meta_policy_is_the_last_snapshot(made):
    """It says that it was trained online, and plays."""
    policy = run("metatrain", {"log": made.log}, {"algorithm": "mql", "online": True})
    assert made.log.card.extra["algorithm"] == policy.card.extra["algorithm"] == "mql"
    assert policy.card.extra["trained"] == "online"
    pairs = zip(jax.tree.leaves(policy.tree["acting"]), jax.tree.leaves(made.log.tree["snapshots"]), strict=True)
    assert all(np.array_equal(mine, theirs[-1]) for mine, theirs in pairs)
    report = run("eval", {"policy": policy}, {"curve_episodes": 0})
    assert report.card.extra["label"] == "MQL"
    assert np.isfinite(report.tree["returns"]).all()


def test_a_killed_run_goes_on_to_the_same_bits(made):
    talk = Talk()
    order = work("online", {}, *LAYERS, checkpoint=Memory(kept=made.kept[1:2]), tell=talk)
    again = stored("online", STAGES["online"].load()(order), order.config)
    assert bits(again) == bits(made.log)
    assert talk.notes == ["resumed at step 40 of 80"]


def killed_and_whole(monkeypatch, family, layers):
    monkeypatch.setattr(registry, "find", lambda name, **more: family)
    kept = Memory(every=1)
    order = work("online", {}, layers, checkpoint=kept)
    whole = stored("online", STAGES["online"].load()(order), order.config)
    order = work("online", {}, layers, checkpoint=Memory(kept=kept.kept[1:2]))
    return stored("online", STAGES["online"].load()(order), order.config), whole


MANY = {"family": "line/toy", "iterations": 4, "block_iterations": 1, "trials": 2, "trial_episodes": 2,
        "random_steps": 8, "updates": 3}  # fmt: skip


def test_with_a_simulator_that_cannot_be_restored_too(monkeypatch):
    """Nothing is under way between iterations."""
    family = hosted(line(num_tasks=2, ends_at=3.0), restorable=False)
    again, whole = killed_and_whole(monkeypatch, family, MANY | {"algorithm": "td3"})
    assert bits(again) == bits(whole)
    assert "resume" not in again.card.extra


@pytest.mark.slow
def test_pearl_online(monkeypatch):
    again, whole = killed_and_whole(monkeypatch, line(num_tasks=2, ends_at=3.0), MANY | {"algorithm": "pearl"})
    assert bits(again) == bits(whole)
    assert whole.card.extra["algorithm"] == "batch-pearl"


@pytest.mark.slow
def test_mql_and_td3_context_are_the_same_policy(made):
    """Of one seed; the one keeps what adaptation goes on from."""
    other = run("online", {}, *LAYERS, {"algorithm": "td3-context"})
    logs = [{path: one for path, one in bits(made).items() if "task_" in path} for made in (made.log, other)]
    assert logs[0] == logs[1]
    more, acting = (set(one.tree["snapshots"]) for one in (made.log, other))
    assert more - acting == {"actor_target", "critics_target"}


def test_what_cannot_be(made):
    with pytest.raises(UsageError, match="num_tasks=4"):
        run("online", {}, POINT, {"num_tasks": 4})
    with pytest.raises(UsageError, match="cannot act in a family with"):
        run("online", {}, {"family": "gridworld/borel"})
    with pytest.raises(WrongKind, match="was made by mql, not by td3"):
        run("metatrain", {"log": made.log}, {"algorithm": "td3", "online": True})
    with pytest.raises(WrongKind, match="no policy shared by its tasks"):
        run("metatrain", {"log": log_artifact()}, {"algorithm": "mql", "online": True})
    with pytest.raises(UsageError, match="pearl learns online"):
        resolve(STAGES["metatrain"].config, {"algorithm": "pearl"})


def test_of_an_online_policy_nothing_else_decides_the_id():
    config = STAGES["metatrain"].config
    said = {"algorithm": "mql", "online": True}
    one, other = (resolve(config, layer, said) for layer in ({}, {"updates": 7, "agent": {"hidden": [3]}}))
    assert one.identity() == other.identity() == said
