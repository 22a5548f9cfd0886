"""Logs of test tasks: how they are made, who may play them, and that nothing learns from them unnoticed."""

import dataclasses

import numpy as np
import pytest

from pipelines.core.configs.base import resolve
from pipelines.core.configs.stages import CollectConfig, TrainConfig
from pipelines.core.errors import UsageError
from pipelines.core.families import entry_of
from pipelines.stages import estimates, learners, seating
from pipelines.tasks import point, registry
from tests.toys import AGENTS, log_artifact, log_of, run

TINY = {"steps": 60, "random_steps": 30, "block_steps": 30, "num_snapshots": 2, "agent": AGENTS["sac"]}
LEARNERS = [("train", {}), ("distill", {}), ("metatrain", {"algorithm": "batch-sac"})]


def unseen(split):
    """Two training goals and three others to be tested on."""
    return point.tasks_at({"train": [0.0, 90.0], "test": [30.0, 60.0, 150.0], "ood": []}[split], split)


@pytest.fixture(scope="module")
def family():
    with pytest.MonkeyPatch.context() as patch:
        found = dataclasses.replace(point.TIME, tasks=unseen)
        patch.setattr(registry, "find", lambda name, evaluation=False: found)
        yield found


@pytest.fixture(scope="module")
def tested(family):
    """The log of two of the three test tasks."""
    return run("collect", {}, TINY, {"split": "test", "num_tasks": 2})


def test_the_log_says_whose_tasks_it_is_of(tested, family):
    assert [(task["name"], task["split"]) for task in tested.card.tasks] == [("30deg", "test"), ("60deg", "test")]
    assert tested.card.extra["split"] == "test"
    assert "split" not in run("collect", {}, TINY).card.extra
    goal, log = tested.card.tasks[1]["params"], log_of(tested, 1)
    away = np.hypot(*(log.obs[1:20] - [goal["x"], goal["y"]]).T)
    np.testing.assert_allclose(log.reward[:19], -away, rtol=1e-5)


def test_its_agents_are_evaluated_in_those_tasks(tested):
    """A curve over interactions, which a page draws beside a zero-shot return."""
    found = run("eval", {"policy": tested}, {"episodes": 2, "curve_episodes": 1})
    assert [task["name"] for task in found.card.tasks] == ["30deg", "60deg"]
    np.testing.assert_array_equal(found.tree["curve_step"], [30, 60])
    assert found.tree["curve_return"].shape == (2, 2)
    assert found.card.extra["split"] == "test"
    with pytest.raises(UsageError, match="no policy for task 0deg"):
        run("eval", {"policy": tested}, {"split": "train"})


def test_of_a_split_those_that_were_trained_on(family):
    ids = [task.id for task in unseen("test")[:2]]
    assert [task.name for task in seating.tasks_of(family, "test", ids, "test")] == ["30deg", "60deg"]
    assert len(seating.tasks_of(family, "test", ids)) == 3
    assert [task.name for task in seating.tasks_of(family, "train", [unseen("train")[1].id])] == ["90deg"]


@pytest.mark.parametrize(("stage", "layer"), LEARNERS, ids=str)
def test_nothing_learns_from_test_tasks_unnoticed(stage, layer):
    log = log_artifact()
    log.card.extra["split"] = "test"
    with pytest.raises(UsageError, match="is of test tasks, learn_from=train") as error:
        run(stage, {"log": log, "teachers": log}, layer)
    assert "learn_from=test" in error.value.hint
    fine = log_artifact()
    with pytest.raises(UsageError, match="is of train tasks, learn_from=test"):
        run(stage, {"log": fine, "teachers": fine}, layer, {"learn_from": "test"})


def test_what_is_meant_is_done_and_said():
    log = log_artifact()
    log.card.extra["split"] = "test"
    loop = {"updates": 2, "block_updates": 1, "num_snapshots": 1, "learn_from": "test"}
    made = run("train", {"log": log}, loop, {"algorithm": "bc", "agent": {"hidden": [4], "batch_size": 4}})
    assert made.card.extra["split"] == "test"
    assert "split" not in learners.model_card("bc", made_config(), log_artifact().card)


def made_config():
    return resolve(TrainConfig, {"algorithm": "bc"}).agent


def test_tasks_are_counted_in_their_split():
    name = "hopper-vel/time"
    assert resolve(CollectConfig, {"family": name, "num_tasks": 3, "split": "test"}).num_tasks == 3
    with pytest.raises(UsageError, match="num_tasks=4: hopper-vel/time has 3 test tasks") as error:
        resolve(CollectConfig, {"family": name, "num_tasks": 4, "split": "test"})
    assert error.value.hint == "--set num_tasks=3 takes them all"
    with pytest.raises(UsageError, match="hopper-vel/time has no ood tasks"):
        resolve(CollectConfig, {"family": name, "split": "ood"})
    assert not {"split"} & set(resolve(CollectConfig).identity())
    assert "learn_from" not in resolve(TrainConfig).identity()


def test_fewer_tasks_are_expected_to_cost_less():
    config, entry = CollectConfig, entry_of("hopper-vel/time")
    assert entry
    costs = [
        estimates.estimate("collect", resolve(config, {"family": "hopper-vel/time", "split": split}), entry)
        for split in ("train", "test")
    ]
    assert (costs[0]["disk_bytes"] - 4e4) * 3 == pytest.approx((costs[1]["disk_bytes"] - 4e4) * 16)
