"""BOReL online learns to find out which way is paid, and in a second episode to know it."""

import dataclasses

import pytest

from pipelines.core.types import Task
from tests.lines import line
from tests.stages.relabelling import found_as
from tests.toys import run

BOTH = tuple(Task(n, f"times {times:+.0f}", "train", {"times": times}) for n, times in enumerate((-1.0, 1.0)))
# in ten steps of a trial: a place further in the way that is paid with each; nothing but the reward says which it is
FIELDS = {
    "family": "line/toy",
    "algorithm": "borel",
    "iterations": 80,
    "block_iterations": 20,
    "trials": 4,
    "trial_episodes": 2,
    "random_steps": 100,
    "updates": 25,
    "num_snapshots": 1,
}
AGENT = {
    "hidden": [32, 32],
    "batch_size": 32,
    "tasks_per_update": 4,
    "trials_per_task": 4,
    "belief_every": 2,
    "init_temperature": 0.1,
    "learn_temperature": False,
    "reward_scale": 3.0,
}
BELIEF = {"width": 16, "decoder_hidden": [16]}


@pytest.mark.optimised
def test_the_second_episode_knows_the_way(monkeypatch):
    """Best is 15 from 0 in each way, 17.5 and 12.5 from 0.5. A policy that does not learn earns next to nothing, and
    none that is blind to rewards can earn in both tasks."""
    found_as(dataclasses.replace(line(horizon=5, num_tasks=2), tasks=lambda split: BOTH), monkeypatch)
    seconds = {}
    for rate in (3e-3, 1e-9):
        agent = {**AGENT, "learning_rate": rate, "belief": {**BELIEF, "learning_rate": rate}}
        log = run("online", {}, FIELDS, {"agent": agent})
        policy = run("metatrain", {"log": log}, {"algorithm": "borel", "online": True})
        played = {"protocol": "episodes", "trial_episodes": 2, "episodes": 16, "curve_episodes": 0}
        seconds[rate] = run("eval", {"policy": policy}, played).tree["episode_returns"][..., 1].mean(1)  # [tasks]
    assert seconds[3e-3].min() > 10, seconds
    assert seconds[1e-9].min() < 4, seconds
