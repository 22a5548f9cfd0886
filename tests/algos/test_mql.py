"""MQL's losses, contexts and what their gradients reach, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import mql, td3
from pipelines.core.configs.algorithms import MqlConfig
from pipelines.core.configs.base import resolve
from pipelines.core.types import transitions
from pipelines.core.windows import after, before
from pipelines.nets import gru, last_hidden
from tests.toys import DISCOUNT, SPACE, make, make_log, spoiled, stacked

FIELDS = {"hidden": [8], "batch_size": 6, "context_dim": 3, "history": 3}


def core(**fields):
    return mql.Core(resolve(MqlConfig, FIELDS, fields), SPACE, DISCOUNT)


@pytest.fixture(scope="module")
def logs():
    return jax.tree.map(jnp.asarray, stacked(make_log(0, (5, 4)), make_log(1, (6,))))


@pytest.fixture(scope="module")
def begun(logs):
    one = core()
    return one, jax.jit(one.init)(jax.random.key(0), logs), one.batch(logs, jnp.array([0, 0, 1]), jnp.array([2, 6, 5]))


def moved(before, after):
    """Names of the parts of a tree that differ."""
    pairs = zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True)
    return {path[0].key for (path, a), b in pairs if (np.asarray(a) != np.asarray(b)).any()}


# ---- losses ----------------------------------------------------------------------------------------------------------


def test_weighted_losses_by_hand():
    """2 (0) + 1 (1) + 0 (4) over 3, and 2 (9) over 3; minus (2 1 + 1 2 + 0 6) over 3."""
    q, weight = jnp.array([[1.0, 2.0, 3.0], [4.0, 1.0, 5.0]]), jnp.array([2.0, 1.0, 0.0])
    np.testing.assert_allclose(mql.critic_loss(q, jnp.array([1.0, 1.0, 5.0]), weight), 1 / 3 + 18 / 3, rtol=1e-6)
    np.testing.assert_allclose(mql.actor_loss(jnp.array([1.0, 2.0, 6.0]), weight), -4 / 3, rtol=1e-6)


def test_weights_of_one_are_td3s_losses():
    q, target = jax.random.normal(jax.random.key(0), (2, 7)), jnp.arange(7.0)
    np.testing.assert_array_equal(mql.critic_loss(q, target, jnp.ones(7)), td3.critic_loss(q, target))
    np.testing.assert_array_equal(mql.actor_loss(q[0], jnp.ones(7)), td3.actor_loss(q[0], q, q))


def test_the_proximal_distance_by_hand():
    one, other = (
        {"a": jnp.array([1.0, 2.0]), "b": {"c": jnp.array(3.0)}},
        {"a": jnp.zeros(2), "b": {"c": jnp.array(1.0)}},
    )
    assert mql.distance(one, other) == 1 + 4 + 4


# ---- contexts --------------------------------------------------------------------------------------------------------


def test_whole_windows_at_once_are_the_grus_run():
    layer = gru(5, 3, "uniform")
    nets = [layer.init(key) for key in jax.random.split(jax.random.key(0), 3)]
    xs = jax.random.normal(jax.random.key(1), (4, 6, 5))

    def runs(nets, xs):
        return [layer.run(net, jnp.zeros((6, 3)), xs)[-1] for net in nets]

    def graded(make):
        """Hiddens, and gradients in parameters and inputs of a loss on which all entries have a weight of their own."""
        weights = jax.random.normal(jax.random.key(2), (3, 6, 3))
        loss = lambda nets, xs: (weights * jnp.stack(make(nets, xs))).sum()  # noqa: E731
        return jax.jit(lambda nets, xs: (make(nets, xs), jax.grad(loss, (0, 1))(nets, xs)))(nets, xs)

    for found, each in zip(jax.tree.leaves(graded(last_hidden)), jax.tree.leaves(graded(runs)), strict=True):
        np.testing.assert_allclose(found, each, rtol=1e-4, atol=1e-5)


def test_elements_by_hand(begun):
    """(u, r, x) in the nets' units; the opening one is (noise, 0, x_0), and there is none after a row."""
    one, state, batch = begun
    norm, noise = state.normaliser, jnp.array([[0.1, -0.2]] * 3)
    log = make_log(0, (5, 4))
    seen = one.seen(norm, before(batch.window), noise)  # [L, B, F]; row 2 is the third of its episode, row 6 the second

    def element(action, reward, obs):
        return np.concatenate([action, [norm.reward(reward)], norm.obs(obs)])

    np.testing.assert_allclose(seen[0, 0], element(noise[0], 0.0, log.obs[0]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen[2, 0], element(log.action[1], log.reward[1], log.obs[1]), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(seen[0, 1], np.zeros(6))
    np.testing.assert_allclose(seen[1, 1], element(noise[0], 0.0, log.obs[6]), rtol=1e-5, atol=1e-6)
    later = one.seen(norm, after(batch.window), noise)
    np.testing.assert_array_equal(later[0, 1], np.zeros(6))
    np.testing.assert_allclose(later[2, 0], element(log.action[2], log.reward[2], log.obs[2]), rtol=1e-5, atol=1e-6)


def test_the_target_by_hand(begun):
    """r + 0.9 min_E Q'(x', u'(x', z'), z') of the contexts after each row; no noise."""
    one, state, batch = core(target_noise=0.0), begun[1], begun[2]
    norm, seen = state.normaliser, one.seen(state.normaliser, after(batch.window), jnp.zeros((3, 2)))
    found = jax.jit(one.target)(state, batch.row, seen, jax.random.key(0))
    run = gru(6, 3, "uniform").run
    z, critic_z = (run(net["gru"], jnp.zeros((3, 3)), seen)[-1] for net in (state.actor_target, state.critics_target))
    next_obs = norm.obs(batch.row.next_obs)
    action = jnp.tanh(one.actor.apply(state.actor_target["head"], next_obs, z))
    q = one.heads.apply(state.critics_target["heads"], next_obs, action, critic_z).min(0)
    reward = batch.row.reward / norm.reward_std
    np.testing.assert_allclose(found, jnp.where(batch.row.terminal, reward, reward + 0.9 * q), rtol=1e-5)
    assert batch.row.terminal.tolist() == [False, False, False]


def test_each_loss_moves_its_own_gru(begun):
    """At an update that is not the actor's the critics and their GRU move and nothing else; at the actor's the actor's
    GRU moves, and the critics as if there had been none."""
    one, before_, batch = begun
    update = jax.jit(one.update)
    alone, _ = update(before_, batch, jax.random.key(1), jnp.int32(1))
    both, _ = update(before_, batch, jax.random.key(1), jnp.int32(0))
    assert moved(before_.critics, alone.critics) == {"gru", "heads"}
    for name in ("actor", "actor_target", "critics_target"):
        assert moved(getattr(before_, name), getattr(alone, name)) == set()
    assert moved(before_.actor, both.actor) == {"gru", "head"}
    assert moved(alone.critics, both.critics) == set()
    assert moved(before_.critics_target, both.critics_target) == {"gru", "heads"}


def test_weights_reach_the_update(begun):
    """Rows of weight 0 teach nothing: whatever they are paid, the bits are the same."""
    one, state, batch = begun
    update = jax.jit(one.update)
    key, weight = jax.random.key(1), jnp.array([1.0, 0.0, 2.0])
    row = batch.row._replace(reward=batch.row.reward.at[1].set(5.0))
    found, _ = update(state, batch, key, jnp.int32(0), weight)
    same, _ = update(state, batch._replace(row=row), key, jnp.int32(0), weight)
    assert moved(found.critics, same.critics) == moved(found.actor, same.actor) == set()
    other, _ = update(state, batch._replace(row=row), key, jnp.int32(0), jnp.ones(3))
    free, _ = update(state, batch, key, jnp.int32(0), jnp.ones(3))
    assert moved(other.critics, free.critics) == {"gru", "heads"}


def test_a_round_leaves_its_start_alone(begun):
    one, state, batch = begun
    start = mql.Adaptable(*(getattr(state, name) for name in mql.Adaptable._fields))
    kept = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(start)]
    adapting = mql.Core(one.config, SPACE, DISCOUNT, learning_rate=0.1)
    anchor = mql.Anchor(start.actor, start.critics)
    go = jax.jit(lambda state, pull: adapting.update(state, batch, jax.random.key(0), jnp.int32(0), None, anchor, pull))
    ends = []
    for pull in (0.0, 1e3):
        after_ = adapting.begin(start)
        for _ in range(20):
            after_, _ = go(after_, pull)
        ends.append(float(mql.distance(after_.actor, start.actor)))
    assert ends[1] < ends[0]
    assert [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(start)] == kept


def spoiled_from(logs, task, row):
    """The same logs: nothing of `task` is a number from `row` on but the state that `row` begins in."""

    def spoil(column, at):
        return column.at[task, at:].set(jnp.nan) if jnp.issubdtype(column.dtype, jnp.floating) else column

    slot = row + int(logs.episode[task, row])  # of its obs
    return logs._replace(action=spoil(logs.action, row), reward=spoil(logs.reward, row), obs=spoil(logs.obs, slot + 1))


@pytest.mark.parametrize("row", [0, 2, 6])
def test_a_rows_context_knows_nothing_of_the_row_nor_of_what_follows(begun, logs, row):
    """To the bit, where propensities are estimated; one row later it is spoilt."""
    one, state, _ = begun
    spoilt = spoiled_from(logs, 0, row)

    def z(logs, row):
        batch = one.batch(logs, jnp.array([0]), jnp.array([row]))
        return np.asarray(jax.jit(one.features)(state, batch, jax.random.key(1)))

    assert np.isfinite(z(logs, row)).all()
    assert z(spoilt, row).tobytes() == z(logs, row).tobytes()
    assert np.isnan(z(spoilt, row + 1)).all()


def test_an_update_gives_rows_the_context_of_what_led_to_them(begun):
    """Where nothing is bootstrapped the element of the row itself is in no context: another one leaves the bits."""
    one, state, batch = begun
    window = batch.window
    rows = window.rows._replace(
        action=window.rows.action.at[:, -1].set(0.7), reward=window.rows.reward.at[:, -1].set(9.0)
    )
    other = window._replace(rows=rows)
    update = jax.jit(one.update)

    def updated(window, terminal):
        row = batch.row._replace(terminal=jnp.full_like(batch.row.terminal, terminal))
        return update(state, batch._replace(row=row, window=window), jax.random.key(1), jnp.int32(0))[0]

    ended, same = updated(window, True), updated(other, True)
    assert moved(ended.critics, same.critics) == moved(ended.actor, same.actor) == set()
    assert moved(updated(window, False).critics, updated(other, False).critics) == {"gru", "heads"}


# ---- acting ----------------------------------------------------------------------------------------------------------


def lived(one, acting, log, steps):
    """The memory after `steps` rows of the log's first episode."""
    policy = one.policy()

    @jax.jit
    def live(acting, log):
        memory = policy.begin(acting, jax.random.key(0))
        memory = policy.start(acting, memory, log.obs[0], jax.random.key(5))
        for n in range(steps):
            memory = policy.observe(acting, memory, transitions(log, n))
        return memory

    return live(acting, jax.tree.map(jnp.asarray, log))


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_acting_sees_what_learning_saw(begun, logs, steps):
    """A padded window's context is the one that rows of the log are given, the opening noise the same."""
    one, state, _ = begun
    one = core(eval_window="padded")
    acting = mql.Adaptable(*(getattr(state, name) for name in mql.Adaptable._fields))
    memory = lived(one, acting, make_log(0, (5, 4)), steps)
    batch = one.batch(logs, jnp.array([0]), jnp.array([steps]))
    noise = one.opening(jax.random.key(5))[None]
    seen = one.seen(state.normaliser, before(batch.window), noise)
    z = jax.jit(one.contexts)([acting.actor], seen)[0][0]
    np.testing.assert_allclose(one.policy().latent(acting, memory).mean, z, rtol=1e-4, atol=1e-5)


def test_windows_that_pad_grow_and_never_forget(begun):
    """Young, a growing window is an unbounded one, and a padded one is not; past its length it is the padded one."""
    _, state, _ = begun
    acting = mql.Adaptable(*(getattr(state, name) for name in mql.Adaptable._fields))
    log = make_log(0, (5, 4))

    def z(kind, steps, **more):
        one = core(eval_window=kind, **more)
        return np.asarray(one.policy().latent(acting, lived(one, acting, log, steps)).mean)

    np.testing.assert_allclose(z("growing", 1), z("unbounded", 1), rtol=1e-4, atol=1e-5)
    assert np.abs(z("growing", 1) - z("padded", 1)).max() > 1e-3
    np.testing.assert_allclose(z("growing", 4), z("padded", 4), rtol=1e-4, atol=1e-5)
    assert np.abs(z("growing", 4) - z("unbounded", 4)).max() > 1e-4
    np.testing.assert_allclose(z("growing", 4, eval_history=9), z("unbounded", 4), rtol=1e-4, atol=1e-5)


def test_an_episode_forgets_the_one_before(begun):
    one, state, _ = begun
    policy, log = one.policy(), make_log(0, (5, 4))
    acting = mql.Adaptable(*(getattr(state, name) for name in mql.Adaptable._fields))
    obs, key = jnp.asarray(log.obs[6]), jax.random.key(9)
    fresh = policy.start(acting, policy.begin(acting, jax.random.key(0)), obs, key)
    later = policy.start(acting, lived(one, acting, log, 3), obs, key)
    for a, b in zip(fresh, later, strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_an_opening_element_an_episode_begins_with_nothing(begun):
    _, state, _ = begun
    one = core(first_element="none")
    acting = mql.Adaptable(*(getattr(state, name) for name in mql.Adaptable._fields))
    memory = lived(one, acting, make_log(0, (5, 4)), 0)
    assert not memory.held.any()
    np.testing.assert_array_equal(one.policy().latent(acting, memory).mean, np.zeros(3))


def test_td3_reads_no_history():
    """Its value and action are of the state alone, and spoilt histories leave its update's bits."""
    algorithm = make("pooled-td3")
    data = jax.tree.map(jnp.asarray, stacked(make_log(0, (5, 4)), make_log(1, (6,))))
    state = jax.jit(algorithm.init)(jax.random.key(0), data)
    batch = jax.jit(algorithm.sample)(data, jax.random.key(1))
    assert set(state.actor) == {"head"} and set(state.critics) == {"heads"}
    assert algorithm.policy.latent is None
    spoilt = batch._replace(window=jax.tree.map(jnp.asarray, spoiled(batch.window)))
    update = jax.jit(algorithm.update)
    one, other = (update(state, each, jax.random.key(2), jnp.int32(0))[0] for each in (batch, spoilt))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_rows_are_drawn_over_rows_or_over_tasks(logs):
    """Task 0 has 9 of 15 rows."""
    shares = []
    for draw in ("rows", "tasks"):
        one = core(draw=draw, batch_size=3_000)
        batch = jax.jit(one.sample)(logs, jax.random.key(0))
        own = np.isin(np.asarray(batch.row.reward), np.asarray(logs.reward[0, :9]))
        shares.append(own.mean())
    assert shares[0] == pytest.approx(0.6, abs=0.03)
    assert shares[1] == pytest.approx(0.5, abs=0.03)
