"""Learners live in [-1, 1]^A, whatever the environment's bounds."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.types import Space, transitions
from pipelines.core.unit_box import from_unit, is_unit, rows_to_unit, to_unit, unit
from pipelines.stages import learners
from tests.toys import AGENTS, DISCOUNT, GRID, SPACE, data_of, make, make_log

TORQUES = Space(obs_shape=(3,), action_shape=(2,), low=(-2.0, 0.0), high=(2.0, 10.0))


def test_the_bounds_are_the_ends_of_the_box():
    box = np.array([[-1, -1], [1, 1], [0, 0], [0.5, -0.5]], np.float32)
    world = np.array([[-2, 0], [2, 10], [0, 5], [1, 2.5]], np.float32)
    np.testing.assert_array_equal(from_unit(TORQUES, box), world)
    np.testing.assert_array_equal(to_unit(TORQUES, world), box)
    assert unit(TORQUES) == TORQUES._replace(low=(-1.0, -1.0), high=(1.0, 1.0))


@pytest.mark.parametrize("space", [SPACE, GRID])
def test_what_needs_no_mapping_is_left_alone(space):
    action = jnp.arange(4)
    assert is_unit(space) and unit(space) is space
    assert from_unit(space, action) is action and to_unit(space, action) is action


def test_only_the_actions_of_logs_and_rows_are_mapped():
    log = jax.tree.map(jnp.asarray, make_log(0))
    rows = transitions(log, jnp.arange(3))
    seen = rows_to_unit(TORQUES, {"log": log, "pair": (rows, rows.action)})
    np.testing.assert_array_equal(seen["log"].action, to_unit(TORQUES, log.action))
    np.testing.assert_array_equal(seen["pair"][0].action, to_unit(TORQUES, rows.action))
    np.testing.assert_array_equal(seen["pair"][1], rows.action)
    np.testing.assert_array_equal(seen["log"].obs, log.obs)


EIGHTH = SPACE._replace(low=(-0.125, -0.125), high=(0.125, 0.125))


@pytest.mark.parametrize("name", ["td3", "bcq", "batch-pearl", "time"])
def test_a_log_in_other_units_teaches_the_same(name):
    """Learning, acting, observing and valuing, where all actions are an eighth as large."""

    def eighth(tree: Any) -> Any:
        return rows_to_unit(SPACE._replace(low=(-8.0, -8.0), high=(8.0, 8.0)), tree)

    def lived(algorithm: Any, data: Any, row: Any) -> Any:
        state = algorithm.init(jax.random.key(0), None if name == "td3" else data)
        state, _ = algorithm.update(state, algorithm.sample(data, jax.random.key(1)), jax.random.key(2), np.int32(0))
        acting, policy, key = algorithm.acting(state), algorithm.policy, jax.random.key(3)
        memory = policy.observe(acting, policy.start(acting, policy.begin(acting, key), row.obs, key), row)
        action = policy.act(acting, memory, row.obs, key, 1.0)
        made = ()
        if algorithm.propose is not None:
            proposed = algorithm.propose(acting, row.obs, jnp.ones(algorithm.noise_dim))
            made = (algorithm.perturb(acting, row.obs, proposed), 8 * proposed)
        worth = policy.value(acting, memory, row.obs, row.action)
        q = worth if algorithm.q is None else algorithm.q(acting, row.obs, row.action)
        return (state, memory, worth, q, made), action

    data = jax.tree.map(jnp.asarray, data_of(name))
    row = transitions(jax.tree.map(jnp.asarray, make_log(0)), jnp.int32(4))
    plain, action = jax.jit(lambda: lived(make(name), data, row))()
    other = learners.make(name, AGENTS[name], EIGHTH, DISCOUNT)
    small, small_action = jax.jit(lambda: lived(other, eighth(data), eighth(row)))()
    (*common, made), (*small_common, small_made) = plain, small
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), common, small_common)
    np.testing.assert_allclose(action, 8 * small_action, rtol=2e-5, atol=1e-6)
    if made:
        np.testing.assert_allclose(made[0], small_made[0], rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(made[1], 8 * small_made[1], rtol=2e-5, atol=1e-6)
