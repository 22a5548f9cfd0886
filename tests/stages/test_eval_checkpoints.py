"""Which snapshot is evaluated, and which are played along the way, on a line where everything is known."""

import dataclasses

import jax
import numpy as np
import pytest

from pipelines.core.configs.base import resolve
from pipelines.core.configs.eval import EvalConfig
from pipelines.core.errors import UsageError
from pipelines.stages import protocols
from pipelines.stages.seating import Bench, evenly, tasks_of
from pipelines.tasks import registry
from tests.lines import hosted
from tests.stages.on_a_line import EPISODES, WAY, agent, evaluate, family, finder, searcher, task


@pytest.fixture
def known(monkeypatch):
    return finder(monkeypatch)


UP, DOWN = {"train": (task(1, 1), task(2, 2)), "test": (task(3, -1, "test"),)}, (0.5, 1.0, -1.0, -0.5)


def chosen(known, **fields):
    """Going up is right on the training tasks and wrong on the test task."""
    known(family(UP), searcher(forgets=True))
    return evaluate(agent(DOWN, final=-0.5), {"curve_episodes": 2, **fields})


def test_the_last_one_plays_by_default(known):
    found = chosen(known)
    np.testing.assert_allclose(found.tree["returns"], np.full((1, 3), 0.5 * WAY), rtol=1e-6)
    assert "checkpoint" not in found.card.extra


def test_the_best_on_the_training_tasks(known):
    found = chosen(known, checkpoint="best-on-train")
    np.testing.assert_allclose(found.tree["returns"], np.full((1, 3), -WAY), rtol=1e-6)
    np.testing.assert_allclose(found.tree["checkpoint_return"], 1.5 * WAY * np.array(DOWN), rtol=1e-6)
    said = found.card.extra["checkpoint"]
    assert (said["rule"], said["step"], said["episodes"]) == ("best-on-train", 20, 2)
    assert found.card.extra["protocol"] == "zero-shot, checkpoint chosen on the training tasks"


def test_the_best_on_the_test_tasks_says_so(known):
    found = chosen(known, checkpoint="best-on-test")
    np.testing.assert_allclose(found.tree["returns"], np.full((1, 3), WAY), rtol=1e-6)
    assert found.card.extra["checkpoint"]["step"] == 30
    assert found.card.extra["checkpoint"]["said"] == "checkpoint chosen on the test tasks"
    assert found.card.extra["protocol"] == "zero-shot, checkpoint chosen on the test tasks"
    on_train = chosen(known, checkpoint="best-on-test", split="train")
    assert on_train.card.extra["checkpoint"]["step"] == 30  # whatever is evaluated, the test tasks chose


def test_each_protocol_chooses_by_itself(known):
    """By the last episode of a trial, who goes down at first has found out, and the fastest is best."""
    known(family(UP), searcher())
    snapshots = agent((0.5, -1.0, 0.75))
    few = {"curve_episodes": 1, "checkpoint": "best-on-train"}
    zero_shot, later = (evaluate(snapshots, few, more).card.extra for more in ({}, {**EPISODES, "counted": "last"}))
    assert (zero_shot["checkpoint"]["step"], later["checkpoint"]["step"]) == (30, 20)


def test_some_of_the_snapshots_are_played(known):
    """Evenly spaced, the last among them; also where one is chosen."""
    known(family(UP), searcher(forgets=True))
    found = evaluate(agent(DOWN), {"curve_episodes": 2, "curve_points": 2})
    np.testing.assert_array_equal(found.tree["curve_step"], [20, 40])
    np.testing.assert_allclose(found.tree["curve_return"], [[-WAY], [0.5 * WAY]], rtol=1e-6)
    best = chosen(known, checkpoint="best-on-test", curve_points=2)
    assert best.card.extra["checkpoint"]["step"] == 40
    assert [evenly(10, wanted).tolist() for wanted in (1, 3, 12)] == [[9], [2, 6, 9], [*range(10)]]
    assert evenly(0, 3).tolist() == evenly(0, None).tolist() == []


def test_there_is_nothing_to_choose_from(known):
    known(family(UP), searcher())
    with pytest.raises(UsageError, match="no snapshots") as caught:
        evaluate(agent(), {"curve_episodes": 2, "checkpoint": "best-on-train"})
    assert "num_snapshots" in caught.value.hint
    with pytest.raises(UsageError, match="needs curve_episodes"):
        evaluate(agent(DOWN), {"checkpoint": "best-on-test"})
    known(family({"test": UP["test"]}), searcher())
    with pytest.raises(UsageError, match="no train tasks"):
        evaluate(agent(DOWN), {"curve_episodes": 2, "checkpoint": "best-on-train"})


def test_the_first_of_equals():
    found = protocols.best([[1.0, 5.0], [4.0, 4.0], [2.0, 6.0]], [10, 20, 30])
    assert (found.number, found.step, found.returns.tolist()) == (1, 20, [3.0, 4.0, 4.0])


def test_the_training_tasks_are_those_that_a_policy_was_trained_on():
    family = registry.find("point-semicircle/time")
    train, test = family.tasks("train"), family.tasks("test")
    ids = [task.id for task in train]
    assert tasks_of(family, "train", ids[:2]) == train[:2]
    assert tasks_of(family, "train", ids) == train
    assert tasks_of(family, "train", [12345]) == train  # of another family's tasks: the policy is tried on all of these
    assert tasks_of(family, "test", ids[:1]) == test


@pytest.mark.parametrize("protocol", [{}, EPISODES])
def test_a_simulators_snapshots_play_beside_each_other_as_they_would_alone(known, protocol):
    """In one call for all, with each one's own luck, and with what each was shown."""
    host = hosted(family(UP))

    def act(acting, memory, obs, key, explore):
        return (acting.speed + 0.1 * jax.random.normal(key) + 0.01 * memory.paid)[None]

    known(host, dataclasses.replace(searcher(), act=act))
    tasks, key = UP["train"], jax.random.key(3)
    bench = Bench(resolve(EvalConfig, {"curve_episodes": 2, **protocol}), 0, agent(DOWN), host)
    beside = bench.along(tasks, 2, key)
    alone = bench.seat(tasks, 2, key).along(bench.snapshots, bench.steps)
    assert len(beside) == len(DOWN)
    for one, other in zip(beside, alone, strict=True):
        leaves = jax.tree.leaves(one), jax.tree.leaves(other)
        assert len(leaves[0]) == len(leaves[1]) > 3
        for a, b in zip(*leaves, strict=True):
            np.testing.assert_array_equal(a, b)
    assert len({float(value) for one in beside for value in one.returns.ravel()}) == 2 * 2 * len(DOWN)
