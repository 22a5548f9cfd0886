"""Relabelling where tasks differ in their dynamics: a point on a line that drifts, by how much the task says."""

import jax
import numpy as np
import pytest

from pipelines.algos import models
from pipelines.core.errors import UsageError
from pipelines.core.types import Relabelled, transitions
from pipelines.stages import relabelled
from pipelines.stages.registry import STAGES
from tests.toys import Memory, run, stored, work

from .relabelling import drift, drifting, found_as, log_of, logged, logs_of, rows_of

QUICK = {"members": 4, "hidden": [32], "learning_rate": 3e-3}
LEARNED = {"updates": 300, "block_updates": 100, "transition_updates": 300, "model": QUICK, "transition": QUICK}
LAX = {"threshold": 2.0, "next_threshold": 0.2}


@pytest.fixture(autouse=True)
def family(monkeypatch):
    return found_as(drifting(), monkeypatch)


@pytest.fixture(scope="module")
def log():
    return log_of(drifting())


@pytest.fixture(scope="module")
def made(log):
    """(the artifact, the checkpoints on the way to it)"""
    kept = Memory(every=1)
    with pytest.MonkeyPatch.context() as patch:
        found_as(drifting(), patch)
        order = work("relabel", {"log": log}, LEARNED, LAX, checkpoint=kept)
        return stored("relabel", STAGES["relabel"].load()(order), order.config), kept.kept


@pytest.fixture(scope="module")
def learned(made):
    return made[0]


def true_successors(log, found, index):
    rows = logged(log, found)
    return rows.obs + rows.action + drift(index + 1)


def test_successors_are_where_this_task_would_have_led(log, learned):
    for index in range(3):
        found = rows_of(learned, index)
        assert len(found.row) > 50
        want = true_successors(log, found, index)
        assert found.next_obs.shape == want.shape
        assert np.abs(found.next_obs - want).mean() < 0.1
        assert np.abs(logged(log, found).next_obs - want).mean() > 0.4  # the control: as they were logged
        assert np.corrcoef(found.reward, want[:, 0])[0, 1] > 0.95
    assert (learned.tree["unexplained"] < 0.2).all()


def test_both_ensembles_must_agree(learned):
    for index in range(3):
        found = rows_of(learned, index)
        assert (found.spread < 2.0).all()
        assert (learned.tree[f"task_{index:04d}"]["next_spread"] < 0.2).all()
    assert 0 < learned.tree["next_calibration_rows"].sum() == 3 * 10  # two episodes of twenty are held out
    assert learned.card.extra["dynamics"]


def test_a_strict_limit_of_successors_alone_lets_nothing_pass(log):
    """Ensembles that are asked on the fly, and what they say under another limit."""
    found = relabelled.asked(run("relabel", {"log": log}, LEARNED, LAX, {"apply": "on-the-fly"}))
    one = jax.tree.map(lambda leaf: leaf[0], (found.ensembles, found.tasks, found.limits))
    rows = transitions(logs_of(log)[1], np.arange(60))
    judge = jax.jit(found.judge)
    judged = judge(*one, rows)
    assert judged.passed.mean() > 0.3
    strict = judge(*one[:2], one[2]._replace(next_obs=1e-9), rows)
    assert not strict.passed.any()
    assert not judge(*one[:2], one[2]._replace(reward=1e-9), rows).passed.any()
    foreign = models.on_the_fly(judged, rows)
    np.testing.assert_array_equal(foreign.relabelled.next_obs, judged.next_obs)
    np.testing.assert_array_equal(foreign.logged.next_obs, rows.next_obs)


def test_what_other_rows_would_have_been_paid_is_not_known(learned):
    """Their successors did not happen: the family's reward of them as they were logged says nothing."""
    other = ~np.eye(3, dtype=bool)
    assert np.isnan(learned.tree["foreign_error"][other]).all()
    assert np.isfinite(learned.tree["held_out_error"]).all()


def test_a_known_reward_is_that_of_the_predicted_successor_and_outcome(log):
    found = run("relabel", {"log": log}, LEARNED, {"reward": "known", "next_threshold": 0.2})
    for index in range(3):
        rows = rows_of(found, index)
        assert len(rows.row) > 50
        want = true_successors(log, rows, index)
        assert np.abs(rows.reward - 3 * want[:, 0]).mean() < 0.5
        assert np.abs(logged(log, rows).reward - 3 * want[:, 0]).mean() > 1.2  # the control
        assert not rows.spread.any()


def test_who_says_that_the_dynamics_are_the_same_gets_rewards_alone(log):
    found = run("relabel", {"log": log}, LEARNED, {"dynamics": "same", "threshold": 1e9})
    assert rows_of(found, 0).next_obs.shape == (len(rows_of(found, 0).row), 0)
    assert "next_threshold" not in found.tree


def test_without_a_family_and_with_successors_themselves_learned_as_published(log, learned):
    card = type(log.card)(**(vars(log.card) | {"extra": log.card.extra | {"family": ""}}))
    layers = LEARNED, LAX, {"dynamics": "differ", "transition": {"change": False}}
    found = run("relabel", {"log": type(log)(card, log.tree)}, *layers)
    rows = rows_of(found, 0)
    assert len(rows.row)
    assert np.abs(rows.next_obs - true_successors(log, rows, 0)).mean() < 0.3
    assert (found.tree["held_out_next_error"] != learned.tree["held_out_next_error"]).all()


def test_episodes_of_other_dynamics_are_refused_with_the_way_out(log):
    with pytest.raises(UsageError, match="differ in their dynamics") as caught:
        run("relabel", {"log": log}, LEARNED, {"unit": "episode"})
    assert "omrl replay" in caught.value.hint


def test_updates_that_fill_no_whole_blocks_are_refused_where_they_are_made(log):
    with pytest.raises(UsageError, match="transition_updates=300 is not a multiple of block_updates=200"):
        run("relabel", {"log": log}, LEARNED, {"updates": 200, "block_updates": 200})


@pytest.mark.parametrize("at", [0, 3], ids=["in the rewards", "in the dynamics"])
def test_a_resumed_relabelling_has_the_same_bits(log, made, at):
    whole, kept = made
    assert [cursor for cursor, _ in kept] == [100, 200, 300, 400, 500]
    resumed = Memory(kept=kept[at : at + 1])
    again = STAGES["relabel"].load()(work("relabel", {"log": log}, LEARNED, LAX, checkpoint=resumed))
    for index in range(3):
        for column in Relabelled._fields:
            name = f"task_{index:04d}"
            assert again.arrays[name][column].tobytes() == whole.tree[name][column].tobytes()
