"""What the stages refuse, before they learn anything."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from pipelines.core.errors import StageFailed, UsageError, WrongKind
from pipelines.core.trees import to_dict
from pipelines.stages import distill, learners
from tests.toys import AGENTS, DISCOUNT, SPACE, Stored, log_artifact, make, run

LOGS_ALONE = ("batch-sac", "batch-pearl", "contextual-bcq")
META = [*(("metatrain", {"algorithm": name}) for name in LOGS_ALONE), ("distill", {})]


@pytest.fixture(scope="module")
def teachers():
    """Untrained batch SAC policies of the three toy tasks."""
    algorithm, log = make("batch-sac"), log_artifact()
    logs, *_ = learners.read_log(log)
    state = jax.jit(jax.vmap(algorithm.init))(jax.random.split(jax.random.key(0), 3), logs)
    extra = log.card.extra | {"algorithm": "batch-sac", "agent": AGENTS["batch-sac"]}
    card = SimpleNamespace(id="set", tasks=log.card.tasks, extra=extra)
    return Stored(card, {"acting": to_dict(algorithm.acting(state))})


@pytest.mark.parametrize(("stage", "layer"), META, ids=str)
def test_a_meta_method_needs_two_tasks(stage, layer, teachers):
    with pytest.raises(UsageError, match=f"{stage}.* needs at least 2 tasks, the log has 1"):
        run(stage, {"log": log_artifact(1), "teachers": teachers}, layer)


@pytest.mark.parametrize(("stage", "layer"), [*META, ("train", {})], ids=str)
def test_a_log_that_holds_no_numbers_names_the_task(stage, layer, teachers):
    log = log_artifact()
    log.tree["task_0001"]["reward"][2] = np.nan
    with pytest.raises(StageFailed, match="the log's reward is not finite in task toy 1"):
        run(stage, {"log": log, "teachers": teachers}, layer)


@pytest.mark.parametrize(
    "change",
    [lambda tasks: tasks[::-1], lambda tasks: tasks[:2], lambda tasks: [*tasks[:2], {**tasks[2], "id": 99}]],
    ids=["order", "number", "id"],
)
def test_teachers_of_other_tasks(change, teachers):
    card = SimpleNamespace(**{**vars(teachers.card), "tasks": change(teachers.card.tasks)})
    with pytest.raises(WrongKind, match="log log and policy-set set are of different tasks") as caught:
        run("distill", {"log": log_artifact(), "teachers": dataclasses.replace(teachers, card=card)})
    assert "train --log log" in caught.value.hint


def test_teachers_without_a_value():
    with pytest.raises(WrongKind, match="no value function to distil"):
        distill.teacher_values(make("time"), None, learners.read_log(log_artifact())[0])


def test_teachers_whose_values_are_no_numbers(teachers):
    tree = jax.tree.map(np.array, teachers.tree)
    tree["acting"]["critics"]["Dense_0"]["kernel"][2] = np.nan
    with pytest.raises(StageFailed, match="the teacher's values are not finite in task toy 2"):
        run("distill", {"log": log_artifact(), "teachers": dataclasses.replace(teachers, tree=tree)})


def test_an_unknown_family():
    with pytest.raises(UsageError, match=r"unknown family 'point-semicircel/time'") as caught:
        run("collect", {}, {"family": "point-semicircel/time"})
    assert caught.value.hint == "did you mean point-semicircle/time?"


def test_a_split_without_tasks(teachers):
    card = SimpleNamespace(**{**vars(teachers.card), "extra": {"family": "point-semicircle/time"}})
    with pytest.raises(UsageError, match="point-semicircle/time has no ood tasks"):
        run("eval", {"policy": dataclasses.replace(teachers, card=card)}, {"split": "ood"})


def test_each_row_is_valued_by_its_own_tasks_teacher(teachers):
    """What distill regresses on, against each teacher asked alone."""
    logs, *_ = learners.read_log(log_artifact())
    algorithm = learners.make("batch-sac", AGENTS["batch-sac"], SPACE, DISCOUNT)
    acting = distill.from_dict(algorithm.acting_type, teachers.tree["acting"])
    values = distill.teacher_values(algorithm, acting, logs)
    assert values.shape == logs.reward.shape
    q = jax.jit(algorithm.q)
    for task in range(3):
        own, log = (jax.tree.map(lambda leaf, task=task: leaf[task], tree) for tree in (acting, logs))
        rows = distill.transitions(log, np.arange(int(log.size)))
        np.testing.assert_allclose(values[task, : int(log.size)], q(own, rows.obs, rows.action), rtol=1e-4, atol=1e-5)
