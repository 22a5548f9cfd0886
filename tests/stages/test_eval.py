"""What eval measures, on policies whose every step is known."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from pipelines.core.errors import UsageError
from pipelines.core.types import Space
from pipelines.stages import eval as evaluation
from pipelines.stages import learners
from pipelines.stages.eval import assign, scores, spread_over
from pipelines.tasks.point import SPREAD, TIME, references
from tests.toys import Stored, run

AGENT = {"hidden": [], "batch_size": 1}  # nets without a hidden layer: a bias is all there is
SPACE = Space.to_json(TIME.space)
FAR = 9.0  # tanh of it is 1 to seven digits


def walker(direction, worth):
    """Acting state of a policy that always moves by `direction` (entries -1, 0, 1) and values that at `worth`."""
    return {
        "actor": {"Dense_0": {"kernel": np.zeros((2, 4)), "bias": np.array([*(FAR * np.array(direction)), -10, -10])}},
        "critics": {"Dense_0": {"kernel": np.zeros((2, 4, 1)), "bias": np.array([[worth - 1.0], [worth + 1.0]]) / 2}},
        "normaliser": {
            "obs_mean": np.zeros(2),
            "obs_std": np.ones(2),
            "reward_mean": np.array(0.0),
            "reward_std": np.array(2.0),
        },
    }


def stacked(trees):
    """[tree, ...] -> float32 tree with a leading axis."""
    if isinstance(trees[0], dict):
        return {name: stacked([tree[name] for tree in trees]) for name in trees[0]}
    return np.stack(trees).astype(np.float32)


def artifact(final, along=(), algorithm="batch-sac"):
    """A policy-set of `final`, one walker per trained task, with `along` as its snapshots [S][T]."""
    extra = {"family": TIME.name, "algorithm": algorithm, "agent": AGENT, "space": SPACE}
    card = SimpleNamespace(tasks=[task.to_json() for task in TIME.tasks("train")], extra=extra)
    snapshots = {"snapshots": stacked([stacked(moment) for moment in along])} if along else {}
    steps = np.arange(1, len(along) + 1, dtype=np.int32) * 100
    return Stored(card, {"acting": stacked(final), **snapshots, "snapshot_step": steps})


def walked(direction, goal, steps=20):
    """Rewards [steps] on the way."""
    places = np.arange(1, steps + 1)[:, None] * np.asarray(direction, float)
    return -np.linalg.norm(places - [goal.params["x"], goal.params["y"]], axis=1)


EAST, NORTH, WEST, STAY = (1, 0), (0, 1), (-1, 0), (0, 0)
GOALS = TIME.tasks("test")


@pytest.fixture(scope="module")
def found():
    """Each goal's own policy walks towards it; of the snapshots the first stands still and the second walks north."""
    final = [walker(EAST, -10), walker(NORTH, -20), walker(WEST, -30)]
    along = [[walker(STAY, -1)] * 3, [walker(NORTH, -2)] * 3]
    return run("eval", {"policy": artifact(final, along)}, {"episodes": 3, "curve_episodes": 2})


def test_each_task_is_played_by_its_own_policy(found):
    want = [walked(way, goal).sum() for way, goal in zip((EAST, NORTH, WEST), GOALS, strict=True)]
    np.testing.assert_allclose(found.tree["returns"], np.repeat(want, 3).reshape(3, 3), rtol=1e-4)
    assert found.tree["obs"].shape == (3, 3, 21, 2)
    np.testing.assert_allclose(found.tree["obs"][2, 0, -1], [-20, 0], atol=1e-3)


def test_values_and_discounted_returns(found):
    np.testing.assert_allclose(found.tree["value"], [-10, -20, -30], rtol=1e-5)
    length = 135  # 0.95 ** 135 is just below a thousandth
    discounts = 0.95 ** np.arange(length)
    want = [(walked(way, goal, length) * discounts).sum() for way, goal in zip((EAST, NORTH, WEST), GOALS, strict=True)]
    np.testing.assert_allclose(found.tree["discounted_return"], want, rtol=1e-4)


def test_snapshots_are_played_on_every_task(found):
    np.testing.assert_array_equal(found.tree["curve_step"], [100, 200])
    stay = [walked(STAY, goal).sum() for goal in GOALS]
    north = [walked(NORTH, goal).sum() for goal in GOALS]
    np.testing.assert_allclose(found.tree["curve_return"], [stay, north], rtol=1e-4)
    np.testing.assert_allclose(found.tree["curve_value"], [[-1] * 3, [-2] * 3], rtol=1e-5)
    assert found.tree["curve_discounted"].shape == (2, 3)


def test_references_stand_beside(found):
    for name in ("random", "oracle", "ceiling"):
        np.testing.assert_array_equal(found.tree[f"{name}_return"], [references(goal)[name] for goal in GOALS])


def test_what_the_report_reads_is_on_the_card(found):
    extra = found.card.extra
    assert (extra["label"], extra["split"], extra["protocol"]) == ("batch SAC", "test", "zero-shot")
    assert (extra["family"], extra["episodes"], extra["horizon"], extra["discount"]) == (TIME.name, 3, 20, 0.95)
    assert [task["name"] for task in found.card.tasks] == ["0deg", "90deg", "180deg"]


def test_one_meta_policy_plays_all_tasks():
    shared = artifact([walker(NORTH, -5)], algorithm="pooled-batch-sac")
    shared.tree["acting"] = jax.tree.map(lambda leaf: leaf[0], shared.tree["acting"])
    found = run("eval", {"policy": shared}, {"episodes": 2, "curve_episodes": 0, "label": "mine"})
    want = [walked(NORTH, goal).sum() for goal in GOALS]
    np.testing.assert_allclose(found.tree["returns"].mean(1), want, rtol=1e-4)
    assert found.tree["curve_return"].shape == (0, 3)
    assert found.card.extra["label"] == "mine"


# ---- who plays what --------------------------------------------------------------------------------------------------


def test_own_policies_are_found_by_id():
    trained = tuple(reversed(TIME.tasks("train")))
    assert assign(TIME.tasks("test"), trained, "own") == [2, 1, 0]
    with pytest.raises(UsageError, match=r"no policy for task 6\.42857deg \(and 13 more\)") as caught:
        assign(SPREAD.tasks("test"), SPREAD.tasks("train"), "own")
    assert "match=nearest" in caught.value.hint


def test_the_nearest_policy_is_of_the_nearest_goal():
    """A midpoint lies between two goals that are equally near: one of them is taken."""
    midpoints = np.array(assign(SPREAD.tasks("test"), SPREAD.tasks("train"), "nearest"))
    assert np.isin(midpoints - np.arange(14), [0, 1]).all()
    assert assign(SPREAD.tasks("train"), TIME.tasks("train"), "nearest") == [0] * 4 + [1] * 7 + [2] * 4


def test_states_are_spread_over_the_tasks():
    tree = {"bias": np.array([[1.0], [2.0], [3.0]])}
    np.testing.assert_array_equal(spread_over(tree, [2, 0, 2, 1], 4)["bias"], [[3], [1], [3], [2]])
    np.testing.assert_array_equal(spread_over(tree, None, 2)["bias"], [tree["bias"]] * 2)


# ---- scores ----------------------------------------------------------------------------------------------------------


def measured(**arrays):
    return {
        "returns": np.array([[-60.0, -80.0], [-45.0, -45.0]]),
        "random_return": np.array([-120.0, -145.0]),
        "oracle_return": np.array([-20.0, -45.0]),
        "value": np.array([-10.0, -30.0]),
        "discounted_return": np.array([-40.0, -40.0]),
        **arrays,
    }


def test_scores_by_hand():
    """(-70 + 120) / 100 and (-45 + 145) / 100; the gap is the mean of 30 and 10, by 40."""
    found = scores(measured(), TIME.tasks("test")[:2])
    assert found == pytest.approx(
        {"score": 0.75, "return": -57.5, "score/0deg": 0.5, "score/90deg": 1.0, "value_gap": 0.5}
    )


def test_a_policy_without_a_value_has_no_gap():
    assert "value_gap" not in scores(measured(value=np.array([np.nan, np.nan])), TIME.tasks("test")[:2])


def test_every_label_belongs_to_an_algorithm():
    assert set(evaluation.LABELS) == set(learners.PER_TASK) | learners.SHARED
