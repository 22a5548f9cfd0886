"""Cloning: the density by scipy's, and a behaviour that is found again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from pipelines.algos import bc
from pipelines.core.learn import block
from pipelines.core.types import Log, Space
from pipelines.stages import learners

SPACE = Space((1,), (2,), (-1.0, -1.0), (1.0, 1.0))


def test_the_density_is_a_normal_one():
    mean, action = np.array([[0.1, 0.2], [0.0, -0.5], [0.9, 0.0]]), np.array([[0.0, 0.0], [1.0, -1.0], [0.9, 0.0]])
    log_std = np.array([-1.0, 0.5])
    want = stats.norm.logpdf(action, mean, np.exp(log_std)).sum(-1)
    found = bc.log_prob(*(jnp.asarray(one, jnp.float32) for one in (mean, log_std, action)))
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_the_squared_error_by_hand():
    found = bc.cloning_loss(jnp.array([[0.0, 1.0], [0.5, 0.5]]), jnp.array([[1.0, 1.0], [0.0, 1.0]]))
    np.testing.assert_allclose(found, (1 + 0 + 0.25 + 0.25) / 4, rtol=1e-6)


def behaviour(seed: int, rows: int = 600) -> Log:
    """a ~ N((s, -s), (0.1, 0.3)), s in {-0.5, 0.5}, within the box; episodes of one row."""
    rng = np.random.default_rng(seed)
    sign = rng.choice([-0.5, 0.5], rows)
    action = np.stack([sign, -sign], 1) + rng.normal(size=(rows, 2)) * [0.1, 0.3]
    number = np.arange(rows, dtype=np.int32)
    return Log(
        obs=np.stack([sign, sign], 1).reshape(-1, 1).astype(np.float32),
        action=action.astype(np.float32),
        reward=np.zeros(rows, np.float32),
        terminal=np.zeros(rows, bool),
        truncated=np.ones(rows, bool),
        outcome=np.zeros((rows, 0), np.float32),
        episode=number,
        step=np.zeros(rows, np.int32),
        behaviour=np.zeros(rows, np.int32),
        size=np.int32(rows),
    )


@pytest.mark.parametrize("kind", ["gaussian", "deterministic"])
def test_the_behaviour_is_found_again(kind):
    """Its means, and for the Gaussian its deviations; the control is the policy that the weights begin with."""
    agent = {"hidden": (32,), "batch_size": 64, "learning_rate": 3e-3, "kind": kind}
    algorithm, log = learners.make("bc", agent, SPACE, 0.9), jax.tree.map(jnp.asarray, behaviour(0))
    begun = jax.jit(algorithm.init)(jax.random.key(0), log)
    state, _ = jax.jit(block(algorithm, 1_000))(jnp.int32(0), begun, log, jax.random.key(1))

    def away(state) -> float:
        acting = algorithm.acting(state)
        acts = [algorithm.policy.act(acting, None, jnp.array([sign]), jax.random.key(0), 0.0) for sign in (-0.5, 0.5)]
        return float(np.abs(np.array(acts) - [[-0.5, 0.5], [0.5, -0.5]]).max())

    assert away(state) < 0.1 < 0.3 < away(begun)
    if kind == "gaussian":
        np.testing.assert_allclose(np.exp(state.actor.log_std), [0.1, 0.3], rtol=0.15)
    else:
        assert algorithm.policy.value is None
