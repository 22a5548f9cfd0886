"""CQL(H)'s estimator against an integral that is known, its losses by hand, and that it is conservative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos.cql import conservative_gap, drawn, log_integral, uniform, weight_loss
from pipelines.core.learn import block
from pipelines.core.types import Log, Space
from pipelines.stages import learners
from tests.toys import make, make_log

COUNT = 20_000


def known(action):
    """Q(a) = 3 sum(a) - 1: the log of the integral of exp Q over the box is A log(2 sinh(3) / 3) - 1."""
    return 3 * action.sum(-1) - 1


def test_the_log_integral_by_hand():
    """log of (e^1 / 0.5 + e^0 / 0.25) / 2; densities divide inside the logarithm."""
    q, density = jnp.array([[[1.0, 0.0]]]), jnp.array([[0.5, 0.25]])
    np.testing.assert_allclose(log_integral(q, jnp.log(density)), np.log([[(2 * np.e + 4) / 2]]), rtol=1e-6)


def test_every_proposal_finds_the_integral():
    """Uniform actions and the policy's, each alone and together: 1% of the integral at 20,000 actions.

    The control: Q divided by the density and averaged, with the exponential forgotten, as one release has it.
    """
    want = 2 * np.log(2 * np.sinh(3) / 3) - 1
    out = jnp.array([[0.8, 0.8, -0.3, -0.3]])  # mean and log-deviation of a wide policy near the optimum
    flat, policy = uniform(jax.random.key(0), 1, COUNT, 2), drawn(out, jax.random.key(1), COUNT)
    both = [jnp.concatenate(parts, axis=1) for parts in zip(flat, policy, strict=True)]
    for action, log_density in (flat, policy, both):
        found = log_integral(known(action)[None], log_density)[0, 0]
        assert abs(found - want) < 0.05
        forgetful = jnp.log(jnp.abs((known(action) * jnp.exp(-log_density)).mean()))
        assert abs(forgetful - want) > 0.5


def test_the_gap_by_hand():
    """Two critics, two rows, one action of density 1/2: (1 + log 2 - 3 + 2 + log 2 - 2) / 2, and log 2."""
    q = jnp.array([[[1.0], [2.0]], [[0.0], [0.0]]])
    data_q = jnp.array([[3.0, 2.0], [0.0, 0.0]])
    found = conservative_gap(q, jnp.full((2, 1), -np.log(2.0)), data_q)
    np.testing.assert_allclose(found, -1 + 2 * np.log(2), rtol=1e-5)


def test_the_weight_grows_while_the_gap_is_above_the_wanted_one():
    loss, slope = jax.value_and_grad(weight_loss)(jnp.log(2.0), jnp.float32(5.0), 3.0)
    np.testing.assert_allclose([loss, slope], [-4, -4], rtol=1e-6)
    assert jax.grad(weight_loss)(jnp.float32(0.0), jnp.float32(1.0), 3.0) > 0


@pytest.mark.parametrize("wanted, grows", [(None, None), (-100.0, True), (100.0, False)])
def test_the_weight_is_learned_where_a_gap_is_wanted(wanted, grows):
    algorithm, log = make("cql", lagrange_gap=wanted), jax.tree.map(jnp.asarray, make_log(0))
    before = jax.jit(algorithm.init)(jax.random.key(0), log)
    batch = algorithm.sample(log, jax.random.key(1))
    after, _ = jax.jit(algorithm.update)(before, batch, jax.random.key(2), jnp.int32(0))
    np.testing.assert_allclose(np.exp(before.log_weight), 5.0, rtol=1e-6)
    assert grows is None or bool(after.log_weight > before.log_weight) is grows
    assert grows is not None or after.log_weight == before.log_weight


def half_logged() -> Log:
    """One state, actions in (0, 1) only, reward 1 whatever the action; each row ends."""
    rng = np.random.default_rng(0)
    number = np.arange(300, dtype=np.int32)
    return Log(
        obs=np.zeros((600, 1), np.float32),
        action=rng.uniform(0, 1, (300, 1)).astype(np.float32),
        reward=np.ones(300, np.float32),
        terminal=np.ones(300, bool),
        truncated=np.zeros(300, bool),
        outcome=np.zeros((300, 0), np.float32),
        episode=number,
        step=np.zeros(300, np.int32),
        behaviour=np.zeros(300, np.int32),
        size=np.int32(300),
    )


def test_actions_outside_the_log_are_worth_less():
    """With weight 1 the logged half is worth at least 1 more than the other; with weight 0 both are worth about 1."""
    space = Space((1,), (1,), (-1.0,), (1.0,))
    log, inside, outside = jax.tree.map(jnp.asarray, half_logged()), np.float32([[0.5]]), np.float32([[-0.8]])
    gaps = {}
    for weight in (1.0, 0.0):
        agent = {
            "hidden": (32,), "batch_size": 64, "learning_rate": 3e-3, "num_actions": 4, "conservative_weight": weight
        }  # fmt: skip
        algorithm = learners.make("cql", agent, space, 0.9)
        state, _ = jax.jit(block(algorithm, 500))(
            jnp.int32(0), jax.jit(algorithm.init)(jax.random.key(0), log), log, jax.random.key(1)
        )
        values = [float(algorithm.q(algorithm.acting(state), np.zeros((1, 1)), a)[0]) for a in (inside, outside)]
        gaps[weight] = values[0] - values[1]
    assert gaps[1.0] > 1.0
    assert abs(gaps[0.0]) < 0.5
