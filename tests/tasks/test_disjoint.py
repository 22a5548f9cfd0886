"""Two goals whose logs hardly overlap (MBML Fig. 1), held against goals whose logs do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import cKDTree

from pipelines.core.types import memoryless
from pipelines.tasks import point, registry
from tests.tasks.device import keeps_its_promises, random_rows

DISJOINT = registry.find("point-semicircle/disjoint")
NOISE = 0.3  # of an agent that reaches its goal, as SAC's is: per axis, in units of the box
NEAR = 0.5  # a row is shared if the other log has one as near, in every coordinate of state and action


def noisy_log(family, task, seed, episodes=400, noise=NOISE):
    """Rows `[N, 4]` (x, y, dx, dy) of an agent that goes to its goal with Gaussian noise on its moves."""
    oracle = family.scripted["oracle"]

    def act(task, obs, key, explore):
        told = oracle.act(task, None, obs, key, 0.0)
        return jnp.clip(told + noise * jax.random.normal(key, (2,)), -1, 1)

    policy, row = memoryless(act, None), jnp.asarray(task.row())

    def episode(key):
        state, _ = family.reset(row, key)

        def one(carry, key):
            action = policy.act(row, None, carry, key, 0.0)
            return family.step(row, carry, action, key)[0], jnp.concatenate([carry, action])

        return jax.lax.scan(one, state, jax.random.split(key, family.horizon))[1]

    return np.asarray(jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(seed), episodes))).reshape(-1, 4)


def shared(log, other):
    """The share of `log`'s rows that have a neighbour in `other`."""
    return (cKDTree(other).query(log, p=np.inf)[0] <= NEAR).mean()


@pytest.fixture(scope="module")
def logs():
    """Two logs of each pair: opposite goals, tiMe's neighbours, the spread variant's neighbours, the same goal."""
    time, spread = registry.find("point-semicircle/time"), registry.find("point-semicircle/spread")
    pairs = {
        "disjoint": [(DISJOINT, task) for task in DISJOINT.tasks("train")],
        "time": [(time, task) for task in time.tasks("train")[:2]],
        "spread": [(spread, task) for task in spread.tasks("train")[:2]],
        "same": [(DISJOINT, DISJOINT.tasks("train")[0])] * 2,
    }
    return {name: [noisy_log(*who, seed) for seed, who in enumerate(pair)] for name, pair in pairs.items()}


def test_opposite_goals_share_hardly_a_row(logs):
    """Under 0.2%, against more than 1.5% of tiMe's goals, more of neighbouring ones, and all of one goal's two logs."""
    found = {name: shared(*pair) for name, pair in logs.items()}
    assert found["disjoint"] < 0.002
    assert found["disjoint"] < 0.015 < found["time"] < found["spread"]
    assert found["same"] > 0.99


def test_a_row_without_its_reward_tells_the_task(logs):
    """What Fig. 1 warns of: the nearest row of training logs names the task from (s, a) alone, and hardly ever errs."""

    def right(name):
        (one, other), half = logs[name], len(logs[name][0]) // 2
        own = cKDTree(one[:half]).query(one[half:])[0]
        foreign = cKDTree(other[:half]).query(one[half:])[0]
        return (own < foreign).mean()

    assert right("disjoint") > 0.9999
    assert right("same") < 0.6  # the control: nothing to tell
    assert right("spread") < right("disjoint")


def test_agents_that_have_not_learned_share_what_they_tried():
    """The control: uniform actions of both tasks do overlap, so it is the goals that keep the logs apart."""
    rows = [random_rows(DISJOINT, 4_000, seed=seed) for seed in (0, 1)]
    one, other = (np.concatenate([part.obs, part.action], -1) for part in rows)
    assert shared(one, other) > 0.5


def test_it_is_the_same_point():
    for split in ("train", "test"):
        assert [task.id for task in DISJOINT.tasks(split)] == [0, 180_000]
    assert DISJOINT.tasks("ood") == ()
    assert (DISJOINT.step, DISJOINT.reward, DISJOINT.horizon) == (point.TIME.step, point.TIME.reward, 20)
    keeps_its_promises(DISJOINT, random_rows(DISJOINT, 2_000))
    for task in DISJOINT.tasks("test"):
        assert DISJOINT.references(task)["oracle"] == pytest.approx(-45)
