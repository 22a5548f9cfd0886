"""Collection around a simulator, against collection inside a scan: one toy family behind both kinds of engine."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.errors import StageFailed
from pipelines.core.types import transitions
from pipelines.stages import learners
from pipelines.stages.registry import STAGES
from pipelines.tasks import registry
from tests.lines import hosted, line
from tests.toys import AGENTS, Memory, Stored, Talk, log_of, run, stored, work

TINY = {
    "family": "line/toy",
    "steps": 45,
    "random_steps": 20,
    "block_steps": 5,
    "num_snapshots": 3,
    "agent": AGENTS["sac"],
}
FAMILY = line(horizon=7, ends_at=0.9, num_tasks=3)


def collect(monkeypatch, family, *layers, checkpoint=None, tell=None) -> Stored:
    monkeypatch.setattr(registry, "find", lambda name: family)
    order = work("collect", {}, TINY, *layers, checkpoint=checkpoint, tell=tell)
    return stored("collect", STAGES["collect"].load()(order), order.config)


def leaves(artifact: Stored) -> dict[str, bytes]:
    def flat(tree, prefix=""):
        for name, value in tree.items():
            yield from flat(value, f"{prefix}{name}/") if isinstance(value, dict) else [(prefix + name, value)]

    return {name: np.asarray(value).tobytes() for name, value in flat(artifact.tree)}


def test_in_blocks_of_one_step_a_simulator_gives_the_log_of_a_scan(monkeypatch):
    """25 updates after the 20 random steps: nets that are fed the same rows, in the same order, from the same keys."""
    device = collect(monkeypatch, FAMILY, {"block_steps": 1})
    host = collect(monkeypatch, hosted(FAMILY), {"block_steps": 1})
    assert host.tree["snapshot_step"].tolist() == device.tree["snapshot_step"].tolist()
    for task in range(3):
        mine, own = log_of(host, task), log_of(device, task)
        for name in ("terminal", "truncated", "episode", "step", "behaviour", "size"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(own, name), err_msg=name)
        for name in ("obs", "action", "reward", "outcome"):
            np.testing.assert_allclose(getattr(mine, name), getattr(own, name), rtol=1e-3, atol=1e-4, err_msg=name)
    ends = [(log_of(device, task).terminal.any(), log_of(device, task).truncated.any()) for task in range(3)]
    assert np.any(ends, axis=0).all()


def test_longer_blocks_act_with_the_parameters_that_they_began_with(monkeypatch):
    log = log_of(collect(monkeypatch, hosted(FAMILY)), 0)
    np.testing.assert_array_equal(log.behaviour, np.maximum(np.arange(45) // 5 * 5 - 20, 0))
    rows = transitions(log, np.arange(45))
    np.testing.assert_allclose(rows.next_obs, rows.obs + rows.action, atol=1e-6)
    np.testing.assert_array_equal(log.step == 0, np.append(True, (rows.terminal | rows.truncated)[:-1]))


def test_a_resumed_collection_has_the_bits_of_an_uninterrupted_one(monkeypatch):
    """Killed after every checkpoint in turn, 8 of them; each resumed run goes on in a simulator of its own."""
    whole = leaves(collect(monkeypatch, hosted(FAMILY)))
    kept = Memory(every=1)
    collect(monkeypatch, hosted(FAMILY), checkpoint=kept)
    assert len(kept.kept) == 8
    for held in list(kept.kept):
        again = collect(monkeypatch, hosted(FAMILY), checkpoint=Memory(kept=[held]))
        assert leaves(again) == whole


def test_where_the_simulator_cannot_be_restored_the_episode_is_cut_and_the_card_says_so(monkeypatch):
    kept = Memory(every=1)
    family = hosted(line(horizon=7, num_tasks=3), restorable=False)
    whole = collect(monkeypatch, family, checkpoint=kept)
    assert "boundary" in whole.card.extra["resume"]
    held = next(one for one in kept.kept if one[0] == 10)
    log = log_of(collect(monkeypatch, family, checkpoint=Memory(kept=[held])), 1)
    np.testing.assert_array_equal(np.flatnonzero(log.truncated[:20]), [6, 9, 16])
    rows = transitions(log, np.arange(45))
    np.testing.assert_allclose(rows.next_obs, rows.obs + rows.action, atol=1e-6)
    assert rows.obs[10, 0] in (0.0, 0.5)  # a start
    assert "resume" not in collect(monkeypatch, hosted(FAMILY)).card.extra


def test_failed_physics_are_marked_named_and_counted(monkeypatch):
    artifact = collect(monkeypatch, hosted(line(horizon=7, num_tasks=3), breaks_at=3))
    assert artifact.card.extra["diverged"] == {"times 1": 11}  # 45 rows in episodes of 4: environment 0 is task 0's
    log = log_of(artifact, 0)
    np.testing.assert_array_equal(np.flatnonzero(log.truncated), [*range(3, 45, 4), 44])
    rows = transitions(log, np.arange(45))
    np.testing.assert_array_equal(rows.next_obs[3::4], rows.obs[3::4])  # the last place that was known
    assert not log.terminal.any()
    assert "diverged" not in collect(monkeypatch, hosted(FAMILY)).card.extra


def test_a_fourth_task_leaves_the_other_logs_their_bits(monkeypatch):
    three = collect(monkeypatch, hosted(line(horizon=7, num_tasks=3)))
    four = collect(monkeypatch, hosted(line(horizon=7, num_tasks=4)))
    for task in range(3):
        for name, column in three.tree[f"task_{task:04d}"].items():
            assert column.tobytes() == four.tree[f"task_{task:04d}"][name].tobytes(), (task, name)


def test_what_was_collected_behind_a_simulator_is_trained_on_and_evaluated(monkeypatch):
    family = hosted(line(horizon=7, discount=0.3, num_tasks=3))
    log = collect(monkeypatch, family)
    monkeypatch.setattr(registry, "find", lambda name, evaluation=False: family)
    policies = run("train", {"log": log})
    report = run("eval", {"policy": policies}, {"split": "train"})
    assert report.tree["returns"].shape == (3, 4)
    assert report.tree["curve_return"].shape == (2, 3)
    assert np.isfinite(report.tree["curve_return"]).all()
    _, tasks, _, _ = learners.read_log(log)
    assert [task.name for task in tasks] == ["times 1", "times 2", "times 3"]


class Placed(NamedTuple):
    """A device engine's state that can say that its physics failed."""

    place: jax.Array
    steps: jax.Array
    diverged: jax.Array


def failing(family, may_fail=True):
    """The line on a device engine whose physics fail at each episode's fourth step, in task 1 only."""

    def reset(task, key):
        place, obs = family.reset(task, key)
        return Placed(place, jnp.int32(0), jnp.zeros((), bool)), obs

    def step(task, state, action, key):
        after, _, _, terminal, outcome = family.step(task, state.place, action, key)
        diverged = (state.steps == 3) & (task[0] == 1.0)
        place = jnp.where(diverged, state.place, after)
        reward = family.reward(task, state.place, action, place, outcome)
        return Placed(place, state.steps + 1, diverged), place, reward, terminal, outcome

    return dataclasses.replace(family, reset=reset, step=step, may_fail=may_fail)


def test_failed_physics_of_a_device_engine_are_marked_named_and_counted(monkeypatch):
    talk = Talk()
    artifact = collect(monkeypatch, failing(line(horizon=7, num_tasks=3)), tell=talk)
    assert artifact.card.extra["diverged"] == {"times 1": 11}
    assert talk.notes == ["the physics failed in 11 episode(s) of task times 1; they are truncated there"]
    np.testing.assert_array_equal(np.flatnonzero(log_of(artifact, 0).truncated), [*range(3, 45, 4), 44])
    np.testing.assert_array_equal(np.flatnonzero(log_of(artifact, 1).truncated), [6, 13, 20, 27, 34, 41, 44])
    assert [len(log_of(artifact, task).obs) for task in (0, 1)] == [45 + 12, 45 + 7]


def test_observations_that_have_no_room_are_not_lost_in_silence(monkeypatch):
    with pytest.raises(StageFailed, match="episodes of task times 1 end before the horizon") as caught:
        collect(monkeypatch, failing(line(horizon=7, num_tasks=3), may_fail=False))
    assert "may_fail=True" in caught.value.hint
