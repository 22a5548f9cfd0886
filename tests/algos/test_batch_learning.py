"""Batch RL beats the behaviour that its log was made with, from the log only, and cloning does not.

The behaviour walks away from the start in whatever direction it drifts, on tiMe's three goals. Scores are 0 for uniform
actions and 1 for the optimum. The controls: the same algorithm where rewards change places within each log, judged in
the same run as tasks of the same axis, and behaviour cloning, which has nothing to be better by.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.learn import block, stage_key, task_keys
from pipelines.core.taskmap import TaskAxis
from pipelines.core.types import Log, task_rows
from pipelines.rollouts import zero_shot
from pipelines.stages import learners
from pipelines.tasks.point import HORIZON, TIME, references
from tests.lines import play
from tests.toys import stacked

pytestmark = pytest.mark.slow  # compiles for minutes where nothing is cached

TASKS = TIME.tasks("train")
EPISODES = 250  # of each log
MARGIN = 0.6  # over the behaviour's mean score, which is about -0.2
UPDATES = 800
NETS = {"hidden": (64, 64), "batch_size": 64, "learning_rate": 1e-3}
AGENTS: dict[str, dict[str, object]] = {
    "bc": {},
    "bcq": {"vae_hidden": (64, 64), "target_rate": 0.01},
    "cql": {"num_actions": 4, "conservative_weight": 1.0, "target_rate": 0.01},
    "td3bc": {"target_rate": 0.01},
    "iql": {"target_rate": 0.01},
}


def wander(obs: jax.Array, key: jax.Array) -> jax.Array:
    """Uniform, and 0.7 on along the way that it has come."""
    away = obs / jnp.maximum(jnp.linalg.norm(obs), 1e-6)
    return jnp.clip(jax.random.uniform(key, (2,), minval=-1, maxval=1) + 0.7 * away, -1, 1)


def scores(returns: np.ndarray) -> float:
    """Returns [T] in the order of the tasks -> their mean score."""
    known = [references(task) for task in TASKS]
    low, high = (np.array([one[name] for one in known]) for name in ("random", "oracle"))
    return float(((returns - low) / (high - low)).mean())


class Logs(NamedTuple):
    whole: list[Log]
    shuffled: list[Log]
    behaviour: float  # its mean score


@pytest.fixture(scope="module")
def logs() -> Logs:
    keys = task_keys(stage_key(0, "log"), range(len(TASKS)))
    made = [play(TIME, wander, EPISODES * HORIZON, row, key) for row, key in zip(task_rows(TASKS), keys, strict=True)]
    rng = np.random.default_rng(0)
    shuffled = [log._replace(reward=rng.permutation(log.reward)) for log in made]
    return Logs(made, shuffled, scores(np.array([log.reward.sum() / EPISODES for log in made])))


def learned(name: str, logs: Logs) -> tuple[float, float]:
    """Mean scores of the greedy policies, learned from the whole logs and from the shuffled ones."""
    algorithm = learners.make(name, {**NETS, **AGENTS[name]}, TIME.space, TIME.discount)
    count = 2 * len(TASKS)
    axis, keys = TaskAxis(count), task_keys(stage_key(0, name), range(count))
    data, own = axis.put(stacked(*logs.whole, *logs.shuffled)), axis.put(keys)
    state = axis.over_tasks(lambda step, key, log: algorithm.init(key, log))(0, own, data)
    state, _ = axis.over_tasks(block(algorithm, UPDATES), donate=(1,))(0, state, data, own)
    play_one = zero_shot(TIME, algorithm.policy, 0.0, 32)
    mapped = axis.over_tasks(lambda step, acting, row, key: play_one(acting, row, key).returns.mean())
    rows = axis.put(np.tile(task_rows(TASKS), (2, 1)))
    returns = axis.get(mapped(0, algorithm.acting(state), rows, own))
    return scores(returns[: len(TASKS)]), scores(returns[len(TASKS) :])


@pytest.mark.parametrize("name", [name for name in AGENTS if name != "bc"])
def test_it_beats_the_behaviour_and_falls_when_rewards_are_shuffled(logs, name):
    whole, shuffled = learned(name, logs)
    assert whole > logs.behaviour + MARGIN
    assert shuffled < logs.behaviour + MARGIN


def test_cloning_does_not_beat_what_it_clones(logs):
    assert logs.behaviour < -0.1
    whole, _ = learned("bc", logs)
    assert whole < logs.behaviour + MARGIN
