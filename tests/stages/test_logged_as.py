"""Logs whose rewards are another family's than the one that their agents learned in."""

import dataclasses

import numpy as np
import pytest

from pipelines.core.errors import UsageError
from pipelines.stages import logged_as
from pipelines.tasks import registry
from tests.lines import line
from tests.toys import log_of, make_log, run

TINY = {"steps": 40, "random_steps": 20, "block_steps": 20, "num_snapshots": 1, "agent": {"hidden": [4]}}
DENSE, SPARSE = "ant-semicircle/borel,reward=dense", "ant-semicircle/borel"


@pytest.mark.slow
def test_the_log_holds_the_other_rewards_and_says_so(monkeypatch):
    ten = lambda task, obs, action, next_obs, outcome: 10 * task[..., 0] + 0 * next_obs[..., 0]  # noqa: E731
    known = {"line/toy": line(num_tasks=2), "line/ten": dataclasses.replace(line(num_tasks=2), name="line/ten")}
    known["line/ten"] = dataclasses.replace(known["line/ten"], reward=ten)
    monkeypatch.setattr(registry, "find", lambda name, evaluation=False: known[name])
    made = run("collect", None, {**TINY, "family": "line/toy", "log_as": "line/ten"})
    for number in range(2):
        log = log_of(made, number)
        np.testing.assert_array_equal(log.reward, np.full(40, 10.0 * (number + 1)))
        assert np.ptp(log.obs) > 0
    assert (made.card.extra["family"], made.card.extra["learned_in"]) == ("line/ten", "line/toy")


def test_the_ants_sparse_rewards_are_those_of_its_evaluation():
    """1 within 0.2 of the goal after the step, less a tenth of the squared action (facts 1)."""
    dense, sparse = registry.find(DENSE), registry.find(SPARSE)
    task = dense.tasks("train")[3]
    goal = np.array([task.params["x"], task.params["y"]], np.float32)
    log = make_log(0, space=dense.space)
    log = log._replace(obs=log.obs * 0.2 + np.pad(goal, (0, 27)))
    found = logged_as.paid(logged_as.find(dense, SPARSE, [task]), task, log)
    after = log.obs[np.arange(12) + log.episode + 1, :2]
    there = np.linalg.norm(after - goal, axis=-1) <= 0.2
    assert 0 < there.sum() < 12
    np.testing.assert_allclose(found.reward, there - 0.1 * (log.action**2).sum(-1), atol=1e-5)
    np.testing.assert_array_equal(found.obs, log.obs)
    assert sparse.goal_reward == 0.0 and dense.goal_reward is None


@pytest.mark.parametrize("other", ["gridworld/borel", "point-wind/borel"])
def test_another_body_is_refused(other):
    family = registry.find("point-semicircle-sparse/borel")
    with pytest.raises(UsageError, match=f"log_as={other}: its tasks, observations or actions"):
        logged_as.find(family, other, family.tasks("train")[:1])
