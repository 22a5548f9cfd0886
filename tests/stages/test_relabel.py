"""Relabelling on the point family, where the reward of every row under every task is known."""

import numpy as np
import pytest

from pipelines.core.errors import UsageError
from pipelines.core.trees import from_dict
from pipelines.core.types import Log, Relabelled, transitions
from pipelines.stages.registry import STAGES
from tests.toys import Memory, log_artifact, run, work

LOG = {"steps": 300, "random_steps": 300, "block_steps": 100, "num_snapshots": 1}
LEARNED = {"updates": 600, "block_updates": 100, "model": {"members": 5, "hidden": [32], "learning_rate": 3e-3}}


@pytest.fixture(scope="module")
def log():
    return run("collect", {}, LOG)


@pytest.fixture(scope="module")
def known(log):
    return run("relabel", {"log": log}, {"reward": "known", "rows_per_pair": 50})


def rows_of(artifact, task):
    return from_dict(Relabelled, artifact.tree[f"task_{task:04d}"])


def paid(log, found, index):
    """What the point family pays task `index` for the rows that `found` names, by hand."""
    goal = log.card.tasks[index]["params"]
    out = []
    for task, row in zip(found.task, found.row, strict=True):
        columns = log.tree[f"task_{task:04d}"]
        one = transitions(Log(**{name: columns[name] for name in Log._fields}), np.array([row]))
        out.append(-np.hypot(*(one.next_obs[0] - [goal["x"], goal["y"]])))
    return np.array(out)


def test_known_rewards_are_the_familys_own(log, known):
    for index in range(3):
        found = rows_of(known, index)
        np.testing.assert_allclose(found.reward, paid(log, found, index), rtol=1e-5)
        assert not found.spread.any()
        assert set(found.task) == {0, 1, 2} - {index}
    assert known.tree["pair_size"].tolist() == (50 * (1 - np.eye(3, dtype=int))).tolist()
    np.testing.assert_array_equal(known.tree["pass_rate"], 1.0)


def test_rows_are_drawn_uniformly_without_repetition_and_in_order(known):
    found = rows_of(known, 0)
    for source in (1, 2):
        rows = found.row[found.task == source]
        assert (np.diff(rows) > 0).all()
        assert rows.min() < 60
        assert rows.max() > 240
    assert (found.row[found.task == 1] != found.row[found.task == 2]).any()


def test_another_task_in_the_log_disturbs_no_pair(log, known):
    """Pairs draw from keys of their own."""
    fewer = type(log)(log.card, {name: log.tree[name] for name in ("task_0000", "task_0001")})
    card = vars(log.card) | {"tasks": log.card.tasks[:2]}
    fewer = type(log)(type(log.card)(**card), fewer.tree)
    found = rows_of(run("relabel", {"log": fewer}, {"reward": "known", "rows_per_pair": 50}), 0)
    before = rows_of(known, 0)
    np.testing.assert_array_equal(found.row, before.row[before.task == 1])


def test_learned_rewards_are_near_the_known_ones_on_rows_that_pass(log):
    learned = run("relabel", {"log": log}, LEARNED, {"rows_per_pair": 40, "threshold": 0.7})
    untrained = run("relabel", {"log": log}, LEARNED, {"updates": 100, "model": {"learning_rate": 1e-9}})
    for index in range(3):
        found = rows_of(learned, index)
        error = np.abs(found.reward - paid(log, found, index))
        assert (found.spread < 0.7).all()
        assert error.mean() < 0.5
    assert np.isfinite(learned.tree["foreign_error"]).all()
    other = ~np.eye(3, dtype=bool)
    assert (learned.tree["held_out_error"] < 0.7).all()
    assert learned.tree["foreign_error"][other].mean() < 0.5 * untrained.tree["foreign_error"][other].mean()


def test_a_pair_that_passes_too_few_rows_is_reported_and_no_crash(log):
    order = work("relabel", {"log": log}, LEARNED, {"threshold": 1e-9})
    product = STAGES["relabel"].load()(order)
    assert product.metrics["thin_pairs"] == 6
    assert product.metrics["rows"] == 0
    assert len(product.extra["thin_pairs"]) == 6
    assert "only 0 rows of task 90deg pass under the reward of task 0deg" in order.tell.notes
    assert product.arrays["task_0000"]["row"].shape == (0,)


def test_only_some_rows_are_tried(log):
    found = run("relabel", {"log": log}, {"reward": "known", "rows_tried": 30})
    assert (found.tree["pair_size"] == 30 * (1 - np.eye(3))).all()


def test_a_resumed_relabelling_has_the_same_bits(log):
    kept = Memory(every=1)
    whole = STAGES["relabel"].load()(work("relabel", {"log": log}, LEARNED, checkpoint=kept))
    assert len(kept.kept) == 5
    again = STAGES["relabel"].load()(work("relabel", {"log": log}, LEARNED, checkpoint=Memory(kept=kept.kept[1:2])))
    for name in ("task_0000", "task_0002"):
        for column in Relabelled._fields:
            assert again.arrays[name][column].tobytes() == whole.arrays[name][column].tobytes()


def test_a_log_of_no_family_has_no_known_reward_but_a_learned_one():
    log = log_artifact(family="")
    with pytest.raises(UsageError, match="names no family"):
        run("relabel", {"log": log}, {"reward": "known"})
    found = run("relabel", {"log": log}, {"threshold": 1e9})
    assert found.tree["pair_size"].sum() > 0
    assert np.isnan(found.tree["foreign_error"]).all()


def test_one_task_is_too_few(log):
    card = type(log.card)(**(vars(log.card) | {"tasks": log.card.tasks[:1]}))
    with pytest.raises(UsageError, match="relabel needs at least 2 tasks"):
        run("relabel", {"log": type(log)(card, log.tree)})


def test_the_artifact_says_what_it_is(log, known):
    assert known.card.extra["unit"] == "row"
    assert known.card.extra["reward"] == "known"
    assert [task["name"] for task in known.card.tasks] == ["0deg", "90deg", "180deg"]
