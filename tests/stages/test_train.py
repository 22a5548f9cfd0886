"""Every per-task algorithm through its stages: the log, the policy-set, the evaluation."""

import numpy as np
import pytest

from pipelines.core.configs.base import resolve
from pipelines.core.configs.stages import TrainConfig
from pipelines.core.errors import UsageError, WrongKind
from pipelines.stages import learners
from pipelines.stages.eval import LABELS
from pipelines.stages.presets import PRESETS
from pipelines.stages.registry import STAGES
from tests.toys import AGENTS, Stored, Talk, run, stored, work

GRID = {"family": "gridworld/borel", "steps": 90, "random_steps": 60, "block_steps": 30, "num_snapshots": 0}


@pytest.fixture(scope="module")
def logs() -> dict[bool, Stored]:
    """Tiny ones, by whether actions are discrete."""
    return {False: run("collect"), True: run("collect", {}, GRID, {"agent": AGENTS["dqn"]})}


FAST = ("bcq", "bc", "discrete-bcq")  # all kinds of states, values and actions


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in TrainConfig.AGENTS]
)
def test_every_algorithm_trains_and_is_evaluated(logs, name):
    discrete = name in learners.DISCRETE
    tell, log = Talk(), logs[discrete]
    fields = {"algorithm": name, "updates": 8, "block_updates": 4, "num_snapshots": 1}
    order = work("train", {"log": log}, fields, {"agent": AGENTS[name]}, tell=tell)
    policies = stored("train", STAGES["train"].load()(order), order.config)
    assert policies.card.extra["algorithm"] == name
    assert [step for step, _ in tell.rows] == [4, 8]
    assert all("actor_loss" in row if name == "bc" else "critic_loss" in row for _, row in tell.rows)
    report = run("eval", {"policy": policies}, {"episodes": 2, "curve_episodes": 0, "split": "train"})
    assert report.card.extra["label"] == LABELS[name]
    assert report.tree["returns"].shape == (len(log.card.tasks), 2)
    assert np.isfinite(report.tree["returns"]).all()
    assert np.isnan(report.tree["value"]).all() == (name == "bc")


def test_actions_of_the_other_kind_are_refused(logs):
    for discrete, name in ((True, "bcq"), (False, "discrete-bcq")):
        with pytest.raises(UsageError, match=f"{name} cannot act in a family with"):
            run("train", {"log": logs[discrete]}, {"algorithm": name})


def test_teachers_without_values_cannot_be_distilled(logs):
    fields = {"algorithm": "bc", "updates": 4, "block_updates": 4, "num_snapshots": 0}
    clones = run("train", {"log": logs[False]}, fields)
    with pytest.raises(WrongKind, match="no value function to distil"):
        run("distill", {"log": logs[False], "teachers": clones})


def test_a_preset_has_a_row_for_each_algorithm_that_wants_one():
    """Under the fields that the user gives."""
    paper = PRESETS["train"]["paper"]
    bcq = resolve(TrainConfig, paper, {"algorithm": "bcq"}).agent
    assert (bcq.hidden, bcq.vae_hidden, bcq.batch_size) == ((400, 300), (750, 750), 100)
    mine = resolve(TrainConfig, paper, {"algorithm": "bcq", "agent": {"batch_size": 7}}).agent
    assert (mine.vae_hidden, mine.batch_size) == ((750, 750), 7)
    assert resolve(TrainConfig, paper).agent == TrainConfig().agent
    assert "agents" not in resolve(TrainConfig, paper).model_dump()
    with pytest.raises(UsageError, match=r"agents\.td3cb: no such algorithm") as caught:
        resolve(TrainConfig, {"agents": {"td3cb": {}}})
    assert "did you mean td3bc?" in caught.value.hint


@pytest.mark.slow
def test_td3_learns_while_it_collects():
    """Its last 20 episodes are nearer to the optimum (-45) than the uniform actions it began with (about -203), by
    50 of return in every task; the control is what the same run did before its first update."""
    nets = {"hidden": (64, 64), "batch_size": 64, "learning_rate": 1e-3, "explore_noise": 0.3}
    steps = {"algorithm": "td3", "steps": 2_000, "random_steps": 500, "block_steps": 500, "num_snapshots": 0}
    log = run("collect", {}, steps, {"agent": {**nets, "obs_scale": 10.0, "reward_scale": 10.0}})
    for task in ("task_0000", "task_0001", "task_0002"):
        returns = log.tree[task]["returns"]
        assert returns[:25].mean() < -150
        assert returns[-20:].mean() > returns[:25].mean() + 50
