"""DDPG's update by hand. That its values and actions come out right is the probes' business."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.learn import block
from pipelines.core.types import Space, transitions
from pipelines.nets import member, mlp
from pipelines.stages import learners
from tests.toys import DISCOUNT, make, make_log

FIELDS = {"learning_rate": 0.01, "target_rate": 0.25}


@pytest.fixture(scope="module")
def learned():
    """(algorithm, state after three updates, compiled update, five rows): online nets and targets differ."""
    log = jax.tree.map(jnp.asarray, make_log(0))
    algorithm = make("ddpg", **FIELDS)
    state, update = jax.jit(algorithm.init)(jax.random.key(0), log), jax.jit(algorithm.update)
    rows = transitions(log, np.array([3, 6, 8, 10, 11]))
    for step in range(3):
        state, _ = update(state, rows, jax.random.key(step), jnp.int32(step))
    return algorithm, state, update, rows


def test_the_losses_by_hand(learned):
    """Row by row: (Q(s, a) - r - gamma (1 - d) Q'(s', pi'(s')))^2, and -Q(s, pi(s)) of the critic a step later."""
    _, state, update, rows = learned
    actor, critic = mlp([3], (8,), 2), mlp([3, 2], (8,), 1)
    after, metrics = update(state, rows, jax.random.key(9), jnp.int32(0))
    squares, values = [], []
    for n in range(5):
        row = jax.tree.map(lambda leaf, n=n: leaf[n], rows)
        seen, following = state.normaliser.obs(row.obs), state.normaliser.obs(row.next_obs)
        then = jnp.tanh(actor.apply(state.actor_target, following))
        bootstrap = critic.apply(member(state.critics_target, 0), following, then)[0]
        target = row.reward / state.normaliser.reward_std + DISCOUNT * (0.0 if row.terminal else bootstrap)
        squares.append((critic.apply(member(state.critics, 0), seen, row.action)[0] - target) ** 2)
        values.append(critic.apply(member(after.critics, 0), seen, jnp.tanh(actor.apply(state.actor, seen)))[0])
    np.testing.assert_allclose(metrics["critic_loss"], np.mean(squares), rtol=1e-4)
    np.testing.assert_allclose(metrics["actor_loss"], -np.mean(values), rtol=1e-4)
    assert rows.terminal.any()
    assert not rows.terminal.all()


def test_both_targets_follow_at_their_rate(learned):
    _, before, update, rows = learned
    after, _ = update(before, rows, jax.random.key(1), jnp.int32(0))
    for old, online, new in (
        (before.critics_target, after.critics, after.critics_target),
        (before.actor_target, after.actor, after.actor_target),
    ):
        old, online, new = (np.asarray(tree["Dense_1"]["kernel"]) for tree in (old, online, new))
        np.testing.assert_allclose(new, 0.75 * old + 0.25 * online, rtol=1e-5, atol=1e-7)
        assert (old != new).any()


# ---- Fig. 5 of MBML --------------------------------------------------------------------------------------------------

ONE = Space((2,), (1,), (-1.0,), (1.0,))
REACH = 0.2  # of the log's actions
GAMMA = 0.9


def paid(action):
    """More for more, as far as the log reaches; beyond it lies a cliff that the log knows nothing of."""
    return action - 8 * np.maximum(0.0, np.abs(action) - REACH)


def narrow_log():
    rng = np.random.default_rng(0)
    log = make_log(0, [25] * 40, (), ONE)
    action = rng.uniform(-REACH, REACH, (1000, 1)).astype(np.float32)
    obs = rng.normal(size=log.obs.shape).astype(np.float32)
    return jax.tree.map(jnp.asarray, log._replace(action=action, obs=obs, reward=paid(action[:, 0])))


@pytest.mark.optimised
def test_it_leaves_the_log_and_believes_its_critic():
    """It values what it does at more than any action of the log is worth, and gets less than the worst of them. BCQ,
    on the same log, gets more than the log's mean of 0 and does not boast."""
    log, found = narrow_log(), {}
    for name, fields in (("ddpg", {}), ("bcq", {"vae_hidden": (32,), "num_candidates": 10})):
        nets = {"hidden": (32, 32), "batch_size": 64, "learning_rate": 3e-3, "target_rate": 0.02}
        algorithm = learners.make(name, {**nets, **fields}, ONE, GAMMA)
        begun = jax.jit(algorithm.init)(jax.random.key(0), log)
        state, _ = jax.jit(block(algorithm, 1500))(jnp.int32(0), begun, log, jax.random.key(1))
        acting, obs = algorithm.acting(state), log.obs[:100]
        nothing, key = jnp.zeros(0), jax.random.key(2)
        acted = jax.jit(jax.vmap(lambda one: algorithm.policy.act(acting, nothing, one, key, 0.0)))(obs)  # noqa: B023
        found[name] = paid(np.asarray(acted)).mean(), np.asarray(algorithm.q(acting, obs, acted)).mean()
    best = REACH / (1 - GAMMA)
    (paid_ddpg, promised_ddpg), (paid_bcq, promised_bcq) = found["ddpg"], found["bcq"]
    assert paid_ddpg < -REACH
    assert promised_ddpg > 1.5 * best
    assert paid_bcq > REACH / 8
    assert promised_bcq < 1.5 * best
