"""Ensembles of models: the loss by hand, who is held out, and how far they know what they do not know."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines import nets
from pipelines.algos import models
from pipelines.core.configs.models import ModelConfig
from pipelines.core.learn import block
from pipelines.core.types import transitions
from tests.toys import SPACE, make_log

CONFIG = ModelConfig(members=5, hidden=(16,), batch_size=32, learning_rate=3e-3)


def test_the_loss_sums_over_the_members():
    predicted = jnp.array([[[1.0], [2.0]], [[3.0], [5.0]]])  # 2 rows, 2 members
    target, weight = jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 1.0], [1.0, 2.0]])
    np.testing.assert_allclose(models.ensemble_loss(predicted, target, weight), 0.0 + (1 + 2 * 4) / 2)


def test_many_nets_are_that_many_nets():
    """Each member is an `mlp` of its own on the same rows."""
    wide, one = nets.many([3, 2], (8, 7), 4, 5), nets.mlp([3, 2], (8, 7), 4)
    params = wide.init(jax.random.key(0))
    obs, action = jax.random.normal(jax.random.key(1), (6, 3)), jax.random.normal(jax.random.key(2), (6, 2))
    found = wide.apply(params, obs, action)
    assert found.shape == (6, 5, 4)
    own = jax.vmap(one.init)(jax.random.split(jax.random.key(0), 5))
    for e in range(5):
        want = one.apply(jax.tree.map(lambda leaf, e=e: leaf[e], own), obs, action)
        np.testing.assert_allclose(found[:, e], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lengths", [[5] * 23, [50, 45]])
def test_what_is_held_out_is_never_drawn(lengths):
    """Episodes 9 and 19 of 23; or the last tenth of the rows of two episodes."""
    log = jax.tree.map(jnp.asarray, make_log(0, lengths))
    data = models.hold_out(log)
    held = np.flatnonzero(models.held_out(data))
    want = np.flatnonzero(np.isin(log.episode, [9, 19])) if len(lengths) == 23 else np.arange(86, 95)
    np.testing.assert_array_equal(held, want)
    model = models.make(CONFIG, SPACE)
    drawn = np.concatenate([np.asarray(model.sample(data, jax.random.key(n)).number) for n in range(40)])
    assert not set(drawn) & set(held)
    assert len(set(drawn)) > 0.9 * (sum(lengths) - len(held))


def test_a_bootstrapped_member_learns_from_half_of_the_rows_always_the_same():
    rows = jnp.arange(2_000)
    weight = np.asarray(models.double_or_nothing(jax.random.key(0), rows, 5))
    assert set(np.unique(weight)) == {0.0, 2.0}
    np.testing.assert_allclose(weight.mean(0), 1.0, atol=4 / np.sqrt(2_000))
    again = np.asarray(models.double_or_nothing(jax.random.key(0), rows[::-1], 5))[::-1]
    np.testing.assert_array_equal(weight, again)
    assert (weight[:, 0] != weight[:, 1]).any()


def smooth(width: float) -> tuple:
    """A log whose reward is sin(3 x) of a place x in [-width, width], one of three observed numbers."""
    log = make_log(1, [10] * 60)
    obs = np.random.default_rng(0).uniform(-width, width, log.obs.shape).astype(np.float32)
    log = log._replace(obs=obs)
    rows = transitions(log, np.arange(600))
    return jax.tree.map(jnp.asarray, log._replace(reward=np.sin(3 * rows.obs[:, 0]).astype(np.float32)))


@pytest.mark.parametrize("bootstrap", [False, True])
def test_they_agree_where_they_have_seen_rows_and_disagree_elsewhere(bootstrap):
    model = models.make(CONFIG.model_copy(update={"bootstrap": bootstrap}), SPACE)
    data = models.hold_out(smooth(1.0))
    state = model.init(jax.random.key(0), data)
    before, _ = model.predict(model.fitted(state), *asked(0.8))
    state, _ = jax.jit(block(model, 1_500))(jnp.int32(0), state, data, jax.random.key(1))
    near, spread_near = model.predict(model.fitted(state), *asked(0.8))
    _, spread_far = model.predict(model.fitted(state), *asked(4.0))
    want = np.sin(3 * asked(0.8)[0][:, :1])
    assert np.sqrt(((near - want) ** 2).mean()) < 0.15
    assert np.sqrt(((before - want) ** 2).mean()) > 0.4  # the control: nothing learned
    assert spread_far.mean() > 3 * spread_near.mean()


def asked(width: float) -> tuple:
    """Rows `[50]` with a place in [-width, width], nearer to its ends where the width is great."""
    place = jnp.linspace(-width, width, 50)
    return jnp.stack([place, jnp.zeros(50), jnp.zeros(50)], 1), jnp.zeros((50, 2))


def test_successors_are_predicted_in_their_own_units():
    """s' = s + (10, 20, 30): learned from rows whose reward says nothing."""
    log = make_log(2, [1] * 400)
    first = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    obs = np.stack([first, first + np.float32([10, 20, 30])], 1).reshape(-1, 3)
    data = models.hold_out(jax.tree.map(jnp.asarray, log._replace(obs=obs)))
    model = models.make(CONFIG, SPACE, "next_obs")
    state, _ = jax.jit(block(model, 1_500))(jnp.int32(0), model.init(jax.random.key(0), data), data, jax.random.key(1))
    rows = transitions(data.log, np.arange(400))
    found, spread = model.predict(model.fitted(state), rows.obs, rows.action)
    assert found.shape == spread.shape == (400, 3)
    held = np.asarray(models.held_out(data))
    assert np.abs(found - rows.next_obs)[held].mean() < 0.3
    assert np.abs(first - rows.next_obs)[held].mean() > 5  # the control: staying where one is
