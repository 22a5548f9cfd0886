"""Relabelling on the point family, where the reward of every row under every task is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.configs.base import resolve
from pipelines.core.configs.relabel import RelabelConfig
from pipelines.core.errors import InputMissing, UsageError
from pipelines.core.types import Log, Relabelled, Task, transitions
from pipelines.stages import relabel_summary
from pipelines.stages.registry import STAGES
from pipelines.stages.relabel import gathered
from pipelines.stages.relabel_pairs import measure
from pipelines.tasks.checks import NoReward
from tests.lines import line
from tests.toys import Memory, Talk, log_artifact, run, work

from .relabelling import found_as, log_of, rows_of

LOG = {"steps": 300, "random_steps": 300, "block_steps": 100, "num_snapshots": 1}
LEARNED = {"updates": 600, "block_updates": 100, "model": {"members": 5, "hidden": [32], "learning_rate": 3e-3}}


@pytest.fixture(scope="module")
def log():
    return run("collect", {}, LOG)


@pytest.fixture(scope="module")
def known(log):
    return run("relabel", {"log": log}, {"reward": "known", "rows_per_pair": 50})


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


@pytest.fixture(scope="module")
def learned(log):
    return run("relabel", {"log": log}, LEARNED, {"rows_per_pair": 40, "threshold": 0.7})


def test_learned_rewards_are_near_the_known_ones_on_rows_that_pass(log, learned):
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
    assert "only 0 rows of task 90deg pass under the reward of task 0deg" in order.tell.notes
    assert product.arrays["task_0000"]["row"].shape == (0,)


def test_only_some_rows_are_tried(log, known):
    found = run("relabel", {"log": log}, {"reward": "known", "rows_tried": 30})
    assert (found.tree["pair_size"] == 30 * (1 - np.eye(3))).all()
    np.testing.assert_array_equal(found.tree["calibration_rows"].sum(-1), 30 + 270 * np.eye(3))
    np.testing.assert_allclose(rows_of(found, 0).reward, paid(log, rows_of(found, 0), 0), rtol=1e-5)
    rows = rows_of(found, 0).row
    assert (rows[:30] != rows_of(known, 0).row[:30]).any()
    assert rows.max() > 240  # not the first ones


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
    assert_unknown(log)


def assert_unknown(log, note=""):
    """Rewards are learned, and nothing is compared with what nobody knows."""
    order = work("relabel", {"log": log}, {"threshold": 1e9})
    found = STAGES["relabel"].load()(order)
    assert found.arrays["pair_size"].sum() > 0
    assert np.isnan(found.arrays["foreign_error"][~np.eye(3, dtype=bool)]).all()
    assert not {"foreign_error", "passed_error", "within_two_spreads"} & found.metrics.keys()
    assert all(np.isfinite(value) for value in found.metrics.values())
    assert [line for line in order.tell.notes if note in line]


def test_a_family_without_a_known_reward_is_learned_from_all_the_same(monkeypatch):
    found_as(dataclasses.replace(line(num_tasks=3), reward=NoReward("family line/toy has none", "say it")), monkeypatch)
    log = log_of(line(num_tasks=3))
    assert_unknown(log, "line/toy has none")
    with pytest.raises(UsageError, match="line/toy has none") as caught:
        run("relabel", {"log": log}, {"reward": "known"})
    assert "reward=model" in caught.value.hint


def test_a_log_that_lacks_an_outcome_names_it(monkeypatch):
    found_as(line(num_tasks=3), monkeypatch)
    log = log_of(line(num_tasks=3))
    for task in range(3):
        log.tree[f"task_{task:04d}"]["outcome"] = np.zeros((100, 0), np.float32)
    assert_unknown(log, "the log lacks place, move, which the reward of line/toy needs")
    with pytest.raises(UsageError, match="the log lacks place, move"):
        run("relabel", {"log": log}, {"reward": "known"})


def test_a_family_that_is_not_here_is_not_compared_with():
    log = log_artifact(family="gone.py:FAMILY")
    assert_unknown(log, "gone.py:FAMILY is not here (there is no file gone.py)")
    with pytest.raises(InputMissing, match=r"there is no file gone\.py"):
        run("relabel", {"log": log}, {"reward": "known"})


def test_a_log_that_was_paid_otherwise_is_told_of(monkeypatch):
    found_as(line(num_tasks=3), monkeypatch)
    log = log_of(line(num_tasks=3))
    for wrong in (False, True):
        log.tree["task_0001"]["reward"] += np.float32(2.0 * wrong)
        order = work("relabel", {"log": log}, {"reward": "known"})
        found = STAGES["relabel"].load()(order)
        said = [text for text in order.tell.notes if "not the family's" in text]
        assert bool(said) == wrong
        np.testing.assert_allclose(found.arrays["held_out_error"], [0, 2 * wrong, 0], atol=1e-5)
    assert "differ by 2 " in said[0]


def test_rewards_that_are_all_the_same_are_told_of():
    log = log_artifact()
    log.tree["task_0001"]["reward"][:] = 3.0
    order = work("relabel", {"log": log})
    found = STAGES["relabel"].load()(order)
    assert not found.arrays["pair_size"][1].any()
    said = "all logged rewards are the same in task toy 1: no row passes a threshold of 0"
    assert said in order.tell.notes


# ---- calibration -----------------------------------------------------------------------------------------------------


def test_errors_by_hand():
    """Four rows, of which one is not looked at: spreads of a quarter, of one and a half, and of twenty limits."""
    error, spread = jnp.array([[1.0], [3.0], [4.0], [100.0]]), jnp.array([[0.5], [3.0], [40.0], [1.0]])
    mask = jnp.array([True, True, True, False])
    found = measure(error, spread, jnp.float32(2.0), mask)
    np.testing.assert_allclose(found.error, np.sqrt((1 + 9 + 16) / 3), rtol=1e-6)
    np.testing.assert_allclose(found.of_passed, 1.0, rtol=1e-6)
    np.testing.assert_allclose(found.spread, np.sqrt((0.25 + 9 + 1600) / 3), rtol=1e-6)
    np.testing.assert_allclose(found.covered, 1.0)
    np.testing.assert_array_equal(found.rows, [0, 0, 1, 0, 1, 0, 0, 1])
    np.testing.assert_allclose(found.by_spread, [np.nan, np.nan, 1, np.nan, 3, np.nan, np.nan, 4], rtol=1e-6)
    half = measure(error, spread / 2.5, jnp.float32(2.0), mask)
    np.testing.assert_allclose(half.covered, 1 / 3)  # 1 > 0.4, 3 > 2.4, 4 < 32


def test_errors_of_several_numbers_are_means_over_them():
    error, spread = jnp.array([[1.0, 3.0], [1.0, 5.0]]), jnp.array([[0.5, 1.5], [2.0, 4.0]])
    found = measure(error, spread, jnp.float32(2.0), jnp.ones(2, bool))
    np.testing.assert_allclose(found.error, (1 + np.sqrt(17)) / 2, rtol=1e-6)
    np.testing.assert_allclose(found.of_passed, (1 + 3) / 2, rtol=1e-6)  # the first row's spread is 1, the other's 3
    np.testing.assert_allclose(found.covered, 1.0)


def test_what_is_not_known_is_no_number():
    unknown, spread = jnp.full((3, 1), jnp.nan), jnp.ones((3, 1))
    found = measure(unknown, spread, jnp.float32(2.0), jnp.ones(3, bool))
    assert np.isnan([found.error, found.of_passed, found.covered, *found.by_spread]).all()
    np.testing.assert_array_equal(found.rows, [0, 0, 0, 3, 0, 0, 0, 0])
    none = measure(jnp.ones((3, 1)), spread, jnp.float32(2.0), jnp.zeros(3, bool))
    assert np.isnan(none.error)


def test_spreads_tell_errors_apart_and_the_artifact_says_how_well(learned):
    """Wider spread, greater error: over all pairs, in those ranges of the spread that have rows enough."""
    rows, error = learned.tree["calibration_rows"], learned.tree["calibration_error"]
    assert rows.shape == error.shape == (3, 3, len(learned.tree["calibration_edges"]) + 1)
    other = ~np.eye(3, dtype=bool)
    np.testing.assert_array_equal(rows[other].sum(-1), 300)
    np.testing.assert_array_equal(rows.diagonal().sum(0), 20)  # one episode of fifteen is held out
    total = np.nansum((rows * error**2)[other], 0)
    counts = rows[other].sum(0)
    mean = np.sqrt(total / np.maximum(counts, 1))[counts >= 30]
    assert len(mean) >= 3
    assert mean[-1] > 1.5 * mean[0]
    passed = learned.tree["passed_error"][other]
    assert (passed <= learned.tree["foreign_error"][other] + 1e-6).all()
    share = rows[:, :, :4].sum(-1) / rows.sum(-1)  # the ranges below the threshold
    np.testing.assert_allclose(share[other], learned.tree["pass_rate"][other], atol=1e-6)


def test_the_table_by_hand():
    tasks = [Task(n, f"task {n}", "train", {}) for n in range(12)]
    rate = np.full((12, 12), 0.5)
    rate[3, 7], rate[0] = 0.1, 0.9
    numbers = np.arange(12.0)
    arrays = {"pass_rate": rate, "held_out_error": numbers, "foreign_error": np.full((12, 12), np.nan)}
    assert relabel_summary.table(tasks, arrays)[0].split() == ["under", "task", "passes", "least"]
    arrays["error_per_spread"] = np.full(12, np.nan)  # learned, and how well is not known
    arrays["passed_error"] = arrays["foreign_error"]
    lines = relabel_summary.table(tasks, arrays)
    assert lines[0].split() == ["under", "task", "passes", "least", "own", "error"]
    assert len(lines) == 1 + 10 + 1
    assert next(text for text in lines if text.startswith("task 3 ")).split()[2:] == [
        "46%",
        "10%",
        "of",
        "task",
        "7",
        "3",
    ]
    assert not any(text.startswith("task 0 ") for text in lines)  # of which most passes
    assert lines[-1] == "and 2 more, of which more passes"


def test_one_task_is_too_few(log):
    card = type(log.card)(**(vars(log.card) | {"tasks": log.card.tasks[:1]}))
    with pytest.raises(UsageError, match="relabel needs at least 2 tasks"):
        run("relabel", {"log": type(log)(card, log.tree)})


def test_the_artifact_says_what_it_is(log, known):
    assert known.card.extra["unit"] == "row"
    assert known.card.extra["reward"] == "known"
    assert [task["name"] for task in known.card.tasks] == ["0deg", "90deg", "180deg"]


# ---- tasks in groups -------------------------------------------------------------------------------------------------


@pytest.mark.slow  # a loop of one turn is compiled otherwise, and only then rounds as the others do
@pytest.mark.parametrize("layer", [LEARNED, {"reward": "known", "unit": "episode"}], ids=["rows", "episodes"])
def test_whatever_the_groups_of_tasks_the_bits_are_the_same(log, layer):
    layers = layer, {"threshold": 0.7}
    whole = STAGES["relabel"].load()(work("relabel", {"log": log}, *layers))
    order, kept = work("relabel", {"log": log}, *layers), Memory(every=1)
    order = dataclasses.replace(order, tasks_at_once=2, checkpoint=kept)
    parts = STAGES["relabel"].load()(order)
    assert parts.metrics == whole.metrics
    assert jax.tree.structure(parts.arrays) == jax.tree.structure(whole.arrays)
    for one, other in zip(jax.tree.leaves(parts.arrays), jax.tree.leaves(whole.arrays), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    if layer is LEARNED:
        resumed = Memory(parts={0: kept.parts[0], 1: Memory(kept=kept.parts[1].kept[2:3])})
        order = dataclasses.replace(order, checkpoint=resumed, tell=Talk())
        again = STAGES["relabel"].load()(order)
        assert order.tell.notes[1] == "resumed at update 600 of 600"
        assert order.tell.notes[3] == "resumed at update 300 of 600"
        assert again.arrays["task_0002"]["reward"].tobytes() == whole.arrays["task_0002"]["reward"].tobytes()


def test_what_groups_found_is_put_together_in_the_order_of_the_tasks():
    groups = [[1], [0, 2]]
    parts = [
        {f"task_{i:04d}": {"row": np.array([i])} for i in group}
        | {"threshold": np.array(group), "ensembles": {"reward": {"mean": 10 * np.array(group)}}}
        for group in groups
    ]
    found = gathered(groups, parts)
    assert [name for name in found if name.startswith("task_")] == ["task_0000", "task_0001", "task_0002"]
    assert all(found[f"task_{i:04d}"]["row"] == [i] for i in range(3))
    assert found["threshold"].tolist() == [0, 1, 2]
    assert found["ensembles"]["reward"]["mean"].tolist() == [0, 10, 20]


def test_fields_that_came_later_leave_what_identifies_an_artifact():
    names = {"reward", "model", "updates", "block_updates", "threshold", "rows_per_pair", "rows_tried", "least_rows"}
    assert resolve(RelabelConfig).identity().keys() == names | {"mapping"}
    changed = resolve(RelabelConfig, {"unit": "episode", "transition": {"members": 3}}).identity()
    assert changed.keys() - names == {"mapping", "unit", "transition"}
    assert resolve(RelabelConfig, {"transition": {"members": 3}}).transition.hidden == (256,) * 6
