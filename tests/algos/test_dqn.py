"""DQN's target and loss by hand, and a chain whose values are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import dqn
from pipelines.core.configs.algorithms import DqnConfig
from pipelines.core.configs.base import resolve
from pipelines.core.errors import UsageError
from pipelines.core.learn import block
from pipelines.core.types import Log, Space
from pipelines.stages import learners
from tests.toys import GRID, SPACE

REWARD, TERMINAL = jnp.array([1.0, 2.0, 3.0]), jnp.array([False, False, True])
NEXT_Q = jnp.array([[1.0, 5.0], [4.0, 2.0], [9.0, 9.0]])


def test_the_target_takes_the_chosen_actions_value():
    found = dqn.td_target(REWARD, TERMINAL, NEXT_Q, jnp.array([0, 0, 1]), 0.5)
    np.testing.assert_allclose(found, [1 + 0.5 * 1, 2 + 0.5 * 4, 3])


def test_the_loss_reads_the_taken_actions_only():
    q = jnp.array([[1.0, 100.0], [100.0, 2.0], [3.0, 100.0]])
    np.testing.assert_allclose(dqn.q_loss(q, jnp.array([0, 1, 0]), jnp.array([2.0, 2.0, 6.0])), (1 + 0 + 9) / 3)


def test_exploration_falls_in_a_line_and_stays():
    config = DqnConfig(explore_start=1.0, explore_end=0.2, explore_steps=100)
    found = [jnp.float32(1.0)]
    for _ in range(150):
        found.append(dqn.less_epsilon(config, found[-1]))
    np.testing.assert_allclose([found[step] for step in (0, 50, 100, 150)], [1.0, 0.6, 0.2, 0.2], rtol=1e-5)


def test_epsilon_is_the_share_of_uniform_actions():
    algorithm = dqn.make(DqnConfig(hidden=(8,), explore_start=0.5, explore_end=0.5), GRID, 0.9)
    acting = algorithm.acting(algorithm.init(jax.random.key(0), None))
    act = jax.jit(
        jax.vmap(lambda key, explore: algorithm.policy.act(acting, None, jnp.ones(3), key, explore), (0, None))
    )
    keys = jax.random.split(jax.random.key(1), 4_000)
    greedy = np.asarray(act(keys, 0.0))
    assert len(np.unique(greedy)) == 1
    others = [np.mean(np.asarray(act(keys, explore)) != greedy) for explore in (1.0, 0.5)]
    # a uniform action is another one in 3 of 4 cases; four standard errors
    np.testing.assert_allclose(others, [0.375, 0.1875], atol=4 * np.sqrt(0.25 / 4_000))


def chain(terminal: bool) -> Log:
    """States 0 and 1, actions 0 (stay) and 1 (go on); going on from 1 pays 1 and ends, or is cut. 400 episodes."""
    rng = np.random.default_rng(0)
    state = rng.integers(0, 2, 400)
    action = rng.integers(0, 2, 400).astype(np.int32)
    after = np.where(action == 1, state + 1, state)
    pays = after == 2
    obs = np.stack([state, np.minimum(after, 1)], 1).reshape(-1, 1).astype(np.float32)
    rows = np.arange(400)
    return Log(
        obs=jnp.asarray(obs),
        action=jnp.asarray(action),
        reward=jnp.asarray(pays, jnp.float32),
        terminal=jnp.asarray(pays & terminal),
        truncated=jnp.asarray(~(pays & terminal)),
        outcome=jnp.zeros((400, 0)),
        episode=jnp.asarray(rows, jnp.int32),
        step=jnp.zeros(400, jnp.int32),
        behaviour=jnp.zeros(400, jnp.int32),
        size=jnp.int32(400),
    )


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_chains_values_are_found(double, terminal):
    """Discount 0.5. Ended: Q(1, go) = 1, Q(1, stay) = Q(0, go) = 1/2, Q(0, stay) = 1/4. Cut: going on pays for ever, 2,
    1, 1 and 1/2."""
    space = Space(obs_shape=(1,), action_shape=(), num_actions=2, action_dtype="int32")
    config = resolve(
        DqnConfig,
        {"hidden": (32,), "batch_size": 64, "learning_rate": 3e-3, "target_rate": 0.05, "double": double},
    )
    algorithm = dqn.make(config, space, 0.5)
    log = chain(terminal)
    state = algorithm.init(jax.random.key(0), log)
    before = algorithm.acting(state)
    state, _ = jax.jit(block(algorithm, 1_500))(jnp.int32(0), state, log, jax.random.key(1))
    obs, action = jnp.array([[0.0], [0.0], [1.0], [1.0]]), jnp.array([0, 1, 0, 1])
    want = np.array([0.25, 0.5, 0.5, 1.0]) * (1 if terminal else 2)
    assert np.abs(algorithm.q(algorithm.acting(state), obs, action) - want).max() < 0.05
    assert np.abs(algorithm.q(before, obs, action) - want).max() > 0.2  # the control: nothing learned
    greedy = [int(algorithm.policy.act(algorithm.acting(state), None, one, jax.random.key(0), 0.0)) for one in obs[::2]]
    assert greedy == [1, 1]


@pytest.mark.parametrize("name, space", [("dqn", SPACE), ("sac", GRID), ("batch-sac", GRID)])
def test_actions_of_the_other_kind_are_refused(name, space):
    with pytest.raises(UsageError, match="cannot act in a family with"):
        learners.make(name, {}, space, 0.9)
