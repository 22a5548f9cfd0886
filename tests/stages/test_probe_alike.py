"""The probe where all tasks pay alike: a context cannot contradict itself."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.errors import UsageError
from pipelines.core.trees import task_leaf
from pipelines.core.types import Algorithm
from pipelines.stages import learners
from pipelines.stages.registry import STAGES
from tests.stages.reading import TASKS, Acting, apart, encoder, known, probed, reader, relabelled
from tests.stages.relabelling import drifting, found_as, log_of
from tests.toys import work


@pytest.fixture
def family(monkeypatch):
    return known(monkeypatch)


def test_tasks_that_differ_in_dynamics_alone_have_no_rewards_to_swap(family, monkeypatch):
    """Whatever a relabelled-log learned of the one reward; the control pays by task."""
    one = found_as(drifting(TASKS), monkeypatch)
    log = log_of(one)
    learned = relabelled(log, [range(9)] * TASKS)
    for more in ({}, {"relabelled": learned}):
        with pytest.raises(UsageError, match="line/toy: tasks differ in their dynamics and pay") as caught:
            probed(encoder(1.0, 0.0), log, **more)
        assert "leave out --probe" in caught.value.hint

    def pays(task, obs, action, next_obs, outcome):
        return task[..., 0] * outcome[..., 0]

    found_as(dataclasses.replace(one, reward=pays), monkeypatch)
    assert np.isfinite(probed(encoder(1.0, 0.0), log)["mean"]).all()
    assert np.isfinite(probed(encoder(1.0, 0.0), log, relabelled=learned)["mean"]).all()


def test_rows_that_all_tasks_pay_alike_are_nothing_to_swap(family, monkeypatch):
    """By the family, where goals are far, and by a relabelled-log; one that says otherwise of one pair is."""
    log = apart(family)
    held = relabelled(log, [range(9)] * TASKS)
    for i in range(TASKS):
        leaf = held.tree[task_leaf(i)]
        leaf["reward"] = np.float32((leaf["task"] + 1) * (1 + leaf["row"]))
    with pytest.raises(UsageError, match="all tasks pay the rows drawn of log alike") as caught:
        probed(encoder(1.0, 0.0), log, relabelled=held)
    assert "--context-rows" in caught.value.hint
    held.tree[task_leaf(2)]["reward"][:9] += 5
    assert np.isfinite(probed(encoder(1.0, 0.0), log, relabelled=held)["mean"]).all()
    found_as(dataclasses.replace(family, reward=lambda task, obs, *rest: 0 * task[..., 0] * obs[..., 0]), monkeypatch)
    with pytest.raises(UsageError, match="pay the rows drawn of log alike"):
        probed(encoder(1.0, 0.0), log)


def test_beside_an_evaluation_it_is_left_out_with_a_note(monkeypatch):
    one, none = found_as(drifting(TASKS), monkeypatch), None
    still = {"start": lambda acting, memory, obs, key: memory, "act": lambda *args: jnp.zeros(1)}
    acting = dataclasses.replace(reader(), **still)
    monkeypatch.setattr(learners, "make", lambda *args: Algorithm(none, none, none, none, Acting, acting))
    order = work("eval", {"policy": encoder(1.0, 0.0), "probe": log_of(one)}, {"context_rows": 5, "episodes": 2})
    made = STAGES["eval"].load()(order)
    assert made.arrays["returns"].shape == (TASKS, 2)
    assert not {"probe"} & {*made.arrays, *made.extra}
    assert order.tell.notes == [
        "line/toy: tasks differ in their dynamics and pay rows of log alike, nothing to swap: the probe is left out"
    ]
    order.inputs["probe"].card.extra["family"] = ""  # what else is wrong is told
    with pytest.raises(UsageError, match="names no family"):
        STAGES["eval"].load()(order)
