"""A belief learned from logs names the goal cell of tasks, once a trial has come to it.

Logs are uniform walks on the grid. The control: the rewards of each task stand beside another task's walk, so that what
is seen has nothing to do with where it was seen, and nothing can be known.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import belief
from pipelines.core.configs.base import resolve
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.learn import block
from pipelines.core.samplers import logged_trials
from pipelines.core.types import task_rows
from pipelines.stages.belief import located
from pipelines.tasks import registry
from pipelines.tasks.gridworld import MOVES, SIZE
from tests.toys import make_log, stacked

pytestmark = pytest.mark.optimised
FAMILY = registry.find("gridworld/borel")
TASKS = FAMILY.tasks("train")[::4]  # six goals
TRIALS, HELD_OUT, UPDATES = 120, 30, 450
CONFIG = {
    "tasks_per_update": None,
    "trials_per_task": 8,
    "width": 32,
    "embed_action": 0,
    "embed_reward": 8,
    "reward_head": "cells",
    "learning_rate": 3e-3,
    "decode_state": False,
}


def walks(task, seed):
    """A log of uniform actions; episodes begin anywhere."""
    rng, num = np.random.default_rng(seed), 2 * TRIALS
    action = rng.integers(0, 5, (num, FAMILY.horizon))
    obs = np.zeros((num, FAMILY.horizon + 1, 2), np.float32)
    obs[:, 0] = rng.integers(0, SIZE, (num, 2))
    for t in range(FAMILY.horizon):
        obs[:, t + 1] = np.clip(obs[:, t] + np.array(MOVES)[action[:, t]], 0, SIZE - 1)
    log = make_log(seed, (FAMILY.horizon,) * num, (), FAMILY.space)
    reward = FAMILY.reward(task, None, None, obs[:, 1:], None).reshape(-1).astype(np.float32)
    return log._replace(obs=obs.reshape(-1, 2), action=action.reshape(-1).astype(np.int32), reward=reward)


def share_known(rewards):
    """Of held-out trials that came to the goal, those after which the likeliest cell is the goal's."""
    config = resolve(BeliefConfig, CONFIG)
    data = belief.Data(rewards, located(rewards, TASKS, 2, FAMILY.horizon))
    learn_from = data._replace(where=data.where._replace(size=data.where.size - HELD_OUT))
    model, nets = belief.make(config, FAMILY.space, FAMILY.horizon), belief.make_nets(config, FAMILY.space)
    data, learn_from = jax.tree.map(jnp.asarray, (data, learn_from))
    state = jax.jit(model.init)(jax.random.key(0), learn_from)
    state, _ = jax.jit(block(model, UPDATES))(jnp.int32(0), state, learn_from, jax.random.key(1))
    task, number = jnp.divmod(jnp.arange(len(TASKS) * HELD_OUT), HELD_OUT)
    trial = jax.jit(logged_trials, static_argnums=4)(data.logs, data.where, task, TRIALS - HELD_OUT + number, 30)
    coder = model.acting(state).coder
    q = jax.jit(functools.partial(belief.beliefs, nets.encoder))(coder, trial)
    cell = np.asarray(nets.reward.apply(state.params["reward"], q.mean[:, -1]).argmax(-1))
    goal = np.array([5 * one.params["x"] + one.params["y"] for one in TASKS])[np.asarray(task)]
    met = np.asarray((trial.row.reward > 0.5).any(1))
    assert met.sum() > 30
    return (cell == goal)[met].mean()


def test_a_trial_that_met_the_goal_knows_it_and_permuted_rewards_do_not():
    own = stacked(*(walks(row, n) for n, row in enumerate(task_rows(TASKS))))
    permuted = own._replace(reward=np.roll(own.reward, 1, axis=0))
    known, control = share_known(own), share_known(permuted)
    assert known > 0.8, (known, control)
    assert control < 0.4, (known, control)
