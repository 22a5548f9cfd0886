"""Ensembles of models: the loss by hand, who is held out, and how far they know what they do not know."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines import nets
from pipelines.algos import models
from pipelines.algos.models import Batch
from pipelines.core.configs.models import ModelConfig
from pipelines.core.learn import block
from pipelines.core.types import transitions
from tests.toys import GRID, SPACE, make_log

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


@pytest.mark.parametrize("target", ["next_obs", "change"])
def test_successors_are_predicted_in_their_own_units(target):
    """s' = s + (10, 20, 30), and an outcome of minus the first action: learned from rows whose reward says nothing."""
    log = make_log(2, [1] * 400)
    first = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    obs = np.stack([first, first + np.float32([10, 20, 30])], 1).reshape(-1, 3)
    log = log._replace(obs=obs, outcome=-log.action[:, :1])
    data = models.hold_out(jax.tree.map(jnp.asarray, log))
    model = models.make(CONFIG, SPACE, target, outcome_dim=1)
    state, metrics = jax.jit(block(model, 1_500))(
        jnp.int32(0), model.init(jax.random.key(0), data), data, jax.random.key(1)
    )
    assert set(metrics) == {"transition_loss"}
    rows = transitions(data.log, np.arange(400))
    found, spread = model.predict(model.fitted(state), rows.obs, rows.action)
    assert found.shape == spread.shape == (400, 4)
    held = np.asarray(models.held_out(data))
    assert np.abs(found[:, :3] - rows.next_obs)[held].mean() < 0.3
    assert np.abs(first - rows.next_obs)[held].mean() > 5  # the control: staying where one is
    assert np.abs(found[:, 3:] - rows.outcome)[held].mean() < 0.2
    assert np.abs(rows.outcome[held]).mean() > 0.4  # the control


def test_each_member_learns_from_rows_of_its_own_and_each_seed_from_others():
    """As published all members see all rows of a minibatch; bootstrapped, a member's rows depend on the key."""
    data = models.hold_out(smooth(1.0))
    model = models.make(CONFIG.model_copy(update={"bootstrap": True}), SPACE)
    coins = [model.init(jax.random.key(seed), data).coins for seed in (0, 0, 1)]
    weights = [models.double_or_nothing(jax.random.wrap_key_data(one), jnp.arange(200), 5) for one in coins]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).mean() > 0.4
    state = model.init(jax.random.key(0), data)
    row = Batch(transitions(data.log, jnp.zeros(32, int)), jnp.zeros(32, int))  # one row alone
    after, _ = jax.jit(model.update)(state, row, jax.random.key(1), jnp.int32(0))
    moved = np.asarray((after.members["Dense_1"]["bias"] != state.members["Dense_1"]["bias"]).any(-1))
    np.testing.assert_array_equal(moved, np.asarray(weights[0])[0] > 0)
    plain = models.make(CONFIG, SPACE)
    after, _ = jax.jit(plain.update)(state, row, jax.random.key(1), jnp.int32(0))
    assert (after.members["Dense_1"]["bias"] != state.members["Dense_1"]["bias"]).all()


# ---- actions ---------------------------------------------------------------------------------------------------------


def test_discrete_actions_are_seen_one_by_one():
    """Rewards 0, 5, -3, 2 of the four actions: no order of theirs says which is which."""
    paid = np.float32([0, 5, -3, 2])
    log = make_log(0, [10] * 40, space=GRID)
    data = models.hold_out(jax.tree.map(jnp.asarray, log._replace(reward=paid[log.action])))
    model = models.make(CONFIG, GRID)
    state = model.init(jax.random.key(0), data)
    assert state.members["Dense_0"]["kernel"].shape == (3 + 4, 5, 16)
    state, _ = jax.jit(block(model, 1_000))(jnp.int32(0), state, data, jax.random.key(1))
    mean, _ = model.predict(model.fitted(state), jnp.zeros((4, 3)), jnp.arange(4))
    np.testing.assert_allclose(mean[:, 0], paid, atol=0.5)


def test_actions_are_seen_in_the_box_of_one():
    """A model of a space ten times as narrow, on actions a tenth as great, is the same model."""
    narrow = SPACE._replace(low=(-0.1, -0.1), high=(0.1, 0.1))
    log = jax.tree.map(jnp.asarray, make_log(0, [10] * 10))
    found = []
    for space, size in ((SPACE, 1.0), (narrow, 0.1)):
        data, model = models.hold_out(log._replace(action=size * log.action)), models.make(CONFIG, space)
        state = model.init(jax.random.key(0), data)
        state, _ = jax.jit(block(model, 20))(jnp.int32(0), state, data, jax.random.key(1))
        found.append(model.predict(model.fitted(state), log.obs[:50], size * log.action[:50])[0])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-3)
    unscaled, _ = model.predict(model.fitted(state), log.obs[:50], log.action[:50])
    assert np.abs(unscaled - found[0]).max() > 0.1  # the control: actions matter


# ---- other tasks' rows -----------------------------------------------------------------------------------------------


def constant(value: float, spread: float) -> models.Model:
    """Whatever is asked, `value` with `spread`."""

    def predict(fitted, obs, action):
        return jnp.full((len(obs), 1), value) + fitted, jnp.full((len(obs), 1), spread)

    return models.Model(*[None] * 4, predict)


@pytest.mark.parametrize("spread, next_spread, passes", [(0.5, 0.5, True), (1.0, 0.5, False), (0.5, 1.0, False)])
def test_rows_are_judged_by_both_ensembles_and_pass_strictly_below_the_limits(spread, next_spread, passes):
    space = SPACE._replace(obs_shape=(1,))
    rows = transitions(make_log(0, [4], space=space), np.arange(4))
    judge = models.judge(space, constant(2.0, spread), constant(7.0, next_spread), None)
    limits = models.Limits(jnp.float32(1.0), jnp.float32(1.0))
    found = judge(models.Ensembles(jnp.float32(0.5), jnp.float32(1.0)), jnp.zeros(1), limits, rows)
    np.testing.assert_array_equal(found.reward, [2.5] * 4)
    np.testing.assert_array_equal(found.next_obs, [[8.0]] * 4)
    assert found.passed.tolist() == [passes] * 4


def test_a_known_reward_is_of_the_row_as_it_was_where_the_dynamics_are_the_same():
    rows = transitions(make_log(0, [4]), np.arange(4))
    judge = models.judge(SPACE, None, None, lambda task, obs, action, next_obs, outcome: task[0] * next_obs[:, 0])
    found = judge(models.Ensembles((), ()), jnp.array([3.0]), models.Limits(jnp.zeros(()), jnp.zeros(())), rows)
    np.testing.assert_allclose(found.reward, 3 * rows.next_obs[:, 0], rtol=1e-6)
    assert found.passed.all()
    assert found.next_obs.shape == (4, 0)


def test_predicted_images_are_bytes():
    pixels = SPACE._replace(obs_shape=(2, 1), obs_dtype="uint8")
    seen = models.as_seen(pixels, jnp.array([[-3.0, 12.4], [254.6, 300.0]]))
    assert seen.dtype == jnp.uint8
    np.testing.assert_array_equal(seen[..., 0], [[0, 12], [255, 255]])


@pytest.mark.parametrize("size", [3, 8, 11])
def test_many_rows_are_predicted_a_few_at_a_time(size):
    model, log = models.make(CONFIG, SPACE), jax.tree.map(jnp.asarray, make_log(0, [10] * 3))
    fitted = model.fitted(model.init(jax.random.key(0), models.hold_out(log)))
    whole = model.predict(fitted, log.obs[:size], log.action[:size])
    parts = models.chunked(model, 4)(fitted, log.obs[:size], log.action[:size])
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
