"""MBML's Fig. 1: two goals on opposite sides, two logs that hardly share a state.

Where what is shown has states of both logs, only its rewards tell the task. MBML goes where they say; distilled without
relabelling and without the triplet loss ("Neither"), from the same log and the same teachers, a policy does not. The
teachers are written down, not learned.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos.distilled import teaching
from pipelines.algos.mbml_batch import Data
from pipelines.core.learn import block, stage_key
from pipelines.core.samplers import Pool
from pipelines.core.types import Algorithm, Relabelled, memoryless, task_rows, transitions
from pipelines.stages import learners
from pipelines.tasks import registry
from tests.lines import play
from tests.toys import stacked

pytestmark = pytest.mark.optimised
FAMILY = registry.find("point-semicircle/disjoint")
GOALS = task_rows(FAMILY.tasks("train"))  # [2, 3] angle, x, y
ROWS, UPDATES, CONTEXT, EPISODES = 2_000, 1_000, 64, 32
NETS = {"q_hidden": (64, 64), "encoder_hidden": (64, 64), "batch_size": 64, "learning_rate": 1e-3, "latent_dim": 5}
NEAR = 2.0  # of a goal; goals are 20 apart
NOISE = 0.3  # of the agents that made the logs


def toward(goal: Any, obs: Any) -> Any:
    return jnp.clip(goal[..., 1:3] - obs, -1.0, 1.0)


def teacher() -> Algorithm:
    """Acting state: the task's row. It goes straight to its goal, and values an action by how far that leaves it."""

    def q(goal: Any, obs: Any, action: Any) -> Any:
        return -10 * jnp.linalg.norm(obs + action - jnp.broadcast_to(goal[1:3], obs.shape), axis=-1)

    def nothing(*args: Any) -> Any:
        raise AssertionError

    policy = memoryless(lambda goal, obs, key, explore: toward(goal, obs), q)
    return Algorithm(nothing, nothing, nothing, nothing, tuple, policy, q=q)


@functools.cache
def logs() -> Any:
    def act(goal: Any, obs: Any, key: Any) -> Any:
        return jnp.clip(toward(goal, obs) + NOISE * jax.random.normal(key, (2,)), -1, 1)

    keys = jax.random.split(jax.random.key(0), 2)
    each = [play(FAMILY, functools.partial(act, goal), ROWS, goal, key) for goal, key in zip(GOALS, keys, strict=True)]
    return stacked(*each)


def paid(i: int, j: int) -> Any:
    """All rows of task j's log, paid as in task i."""
    rows = transitions(jax.tree.map(lambda leaf: jnp.asarray(leaf[j]), logs()), jnp.arange(ROWS))
    return rows._replace(reward=FAMILY.reward(GOALS[i], rows.obs, rows.action, rows.next_obs, rows.outcome))


def pool() -> Pool:
    """Every row of the other task's log, with the family's own reward."""
    number, nothing = np.tile(np.arange(ROWS, dtype=np.int32), (2, 1)), np.zeros((2, ROWS), np.int32)
    reward = np.stack([paid(0, 1).reward, paid(1, 0).reward])
    other = nothing + np.array([[1], [0]], np.int32)
    rows = Relabelled(nothing, other, number, reward, nothing + 0.0, np.zeros((2, ROWS, 0)), nothing - 1)
    return Pool(rows, np.zeros((2, 2), np.int32), np.array([[0, ROWS], [ROWS, 0]], np.int32))


@functools.cache
def right(**fields: Any) -> np.ndarray:
    """Shares `[2, 2]` of EPISODES that end at goal i, of policies that were shown rows paid as in task i: of its
    own log; half of each log."""
    one = teacher()
    algorithm = learners.make("mbml", {**NETS, **fields}, FAMILY.space, 0.95, teach=teaching(one))
    values = jnp.stack([one.q(GOALS[i], paid(i, i).obs, paid(i, i).action) for i in range(2)])
    data = jax.tree.map(jnp.asarray, Data(logs(), values, GOALS, pool() if fields.get("relabel") != "none" else ()))
    state = jax.jit(algorithm.init)(jax.random.key(1), data)
    state, _ = jax.jit(block(algorithm, UPDATES))(0, state, data, stage_key(0, "mbml"))
    acting, policy = algorithm.acting(state), algorithm.policy

    def episode(goal: Any, own: Any, other: Any, key: Any) -> Any:
        pick, begin, start, steps = jax.random.split(key, 4)
        number = jax.random.randint(pick, (CONTEXT,), 0, ROWS)
        parts = [jax.tree.map(lambda leaf, half=half: leaf[half], rows)
                 for rows, half in zip((own, other), jnp.split(number, 2), strict=True)]  # fmt: skip
        shown = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
        memory = policy.begin(acting, begin)
        memory, _ = jax.lax.scan(lambda memory, row: (policy.observe(acting, memory, row), None), memory, shown)
        _, obs = FAMILY.reset(goal, start)
        memory = policy.start(acting, memory, obs, start)

        def step(obs: Any, key: Any) -> Any:
            return FAMILY.step(goal, obs, policy.act(acting, memory, obs, key, 0.0), key)[0], None

        end, _ = jax.lax.scan(step, obs, jax.random.split(steps, FAMILY.horizon))
        return jnp.linalg.norm(end - goal[1:3]) < NEAR

    many = jax.jit(jax.vmap(episode, (None, None, None, 0)))
    keys = jax.random.split(jax.random.key(2), EPISODES)
    shown = [(paid(i, i), paid(i, other)) for i in range(2) for other in (i, 1 - i)]
    goals = jnp.asarray(GOALS).repeat(2, 0)
    return np.array([many(goal, *rows, keys).mean() for goal, rows in zip(goals, shown, strict=True)]).reshape(2, 2).T


def test_mbml_goes_where_the_rewards_say() -> None:
    """Shown both logs' states, as the contexts that it learned from."""
    assert (right()[1] > 0.9).all()


def test_neither_does_not() -> None:
    """The control has learned its two tasks, and loses both where states of the other come in."""
    own, half = right(relabel="none", triplet=False)
    assert (own > 0.9).all()
    assert (half < 0.5).all()
