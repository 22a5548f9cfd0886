"""Imitation and SAC by two minibatches, by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from pipelines.algos import finetune, sac
from pipelines.algos.finetune import Pair, Start, log_likelihood, plain_loss
from pipelines.core.configs.finetune import ImitationConfig, WarmSacConfig
from pipelines.core.learn import block
from pipelines.core.normaliser import fit
from pipelines.core.types import Held, HeldCritic, Space, transitions
from pipelines.nets import member, mlp
from tests.toys import DISCOUNT, SPACE, make_log

LEAST = -10.0

# ---- imitation -------------------------------------------------------------------------------------------------------


def test_the_likelihood_is_that_of_a_squashed_gaussian():
    """The density of tanh(u), u ~ N(mu, sigma): N(artanh a) / (1 - a^2), the product over entries."""
    mean, std, action = np.array([0.3, -1.0]), np.array([0.5, 1.5]), np.array([[0.2, -0.9], [-0.5, 0.99]])
    want = (stats.norm.logpdf(np.arctanh(action), mean, std) - np.log1p(-(action**2))).sum(1)
    out = jnp.tile(jnp.concatenate([mean, np.log(std)]), (2, 1))
    np.testing.assert_allclose(log_likelihood(out, jnp.float32(action), LEAST), want, rtol=1e-4)


def test_actions_at_the_bounds_are_no_infinity():
    out, edges = jnp.zeros((2, 4)), jnp.array([[1.0, -1.0], [-1.0, 1.0]])
    found = log_likelihood(out, edges, LEAST)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, log_likelihood(out, 0.9995 * edges, LEAST))


def test_the_codes_loss_by_hand():
    """(a - mu)^2 / sigma^2 + log sigma^2: 4 / 4 + log 4 and 1 + 0 in the first row, 0 + log 4 and 0 in the second."""
    out = jnp.array([[0.0, 1.0, np.log(2.0), 0.0]] * 2)
    action = jnp.array([[2.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(plain_loss(out, action, LEAST), (1 + np.log(4) + 1 + np.log(4)) / 2, rtol=1e-6)


@pytest.mark.parametrize("likelihood", ["tanh", "plain"])
def test_the_imitator_descends_its_own_loss(likelihood):
    """One step of Adam goes down each gradient's sign by the learning rate."""
    config = ImitationConfig(batch_size=6, learning_rate=0.01, likelihood=likelihood)
    agent = WarmSacConfig(hidden=(8,))
    imitator, log = finetune.imitator(config, agent, SPACE), jax.tree.map(jnp.asarray, make_log(0))
    data = finetune.Examples(log, fit(log))
    state, batch = jax.jit(imitator.init)(jax.random.key(0), data), imitator.sample(data, jax.random.key(1))
    net = mlp([3], (8,), 4)

    @jax.jit
    def want(actor):
        out = net.apply(actor, data.normaliser.obs(batch.obs))
        return (
            plain_loss(out, batch.action, LEAST)
            if likelihood == "plain"
            else -log_likelihood(out, batch.action, LEAST).mean()
        )

    after, metrics = jax.jit(imitator.update)(state, batch, jax.random.key(2), jnp.int32(0))
    np.testing.assert_allclose(metrics["imitation_loss"], want(state.actor), rtol=1e-5)
    slope = jax.grad(want)(state.actor)
    for old, new, grad in zip(*(jax.tree.leaves(tree) for tree in (state.actor, after.actor, slope)), strict=True):
        known = np.abs(grad) > 1e-3
        np.testing.assert_allclose((new - old)[known], -0.01 * np.sign(grad)[known], rtol=1e-3)


# ---- SAC -------------------------------------------------------------------------------------------------------------

NET = mlp([3, 2, 2], (8,), 1)
HELD = {"z": jnp.array([0.5, -2.0]), "scale": jnp.float32(3.0)}


def q_of(params, held, features, action):
    """A meta-policy's value in the shape of tiMe's and MBML's: a net on (s, a, z), in standard units."""
    z = jnp.broadcast_to(held["z"], (*features.shape[:-1], 2))
    return NET.apply(params, features, action, z)[..., 0] * held["scale"]


CRITIC = HeldCritic(take=lambda acting, memory: Held(acting, memory, None), q=q_of)
CONFIG = WarmSacConfig(hidden=(8,), batch_size=6, learning_rate=0.01, target_rate=0.25, average_rate=0.3)


@functools.cache
def algorithm(**fields):
    return finetune.make(CONFIG.model_copy(update=fields), SPACE, DISCOUNT, CRITIC)


@functools.cache
def update_of(**fields):
    return jax.jit(algorithm(**fields).update)


@pytest.fixture(scope="module")
def start():
    norm = fit(jax.tree.map(jnp.asarray, make_log(0)))
    actor = mlp([3], (8,), 4).init(jax.random.key(5))
    return Start(actor, {"learned": NET.init(jax.random.key(6)), "held": HELD}, norm)


@pytest.fixture(scope="module")
def state(start):
    return jax.jit(algorithm().init)(jax.random.key(0), start)


def pair(seeds=(1, 2), **columns):
    """Minibatches A and B; `columns` of B are replaced."""
    first, second = (transitions(jax.tree.map(jnp.asarray, make_log(seed)), np.arange(6)) for seed in seeds)
    filled = {name: jnp.full_like(getattr(second, name), value) for name, value in columns.items()}
    return Pair(first, second._replace(**filled))


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def test_it_begins_with_the_meta_policys_value_exactly(state, start):
    rows = transitions(jax.tree.map(jnp.asarray, make_log(3)), np.arange(8))
    want = q_of(start.critic["learned"], HELD, start.normaliser.obs(rows.obs), rows.action)
    found = algorithm().q(sac.acting(state), rows.obs, rows.action)
    np.testing.assert_array_equal(found, want)
    assert bits(member(state.critics, 0)) == bits(member(state.critics, 1)) == bits(start.critic)
    assert bits(state.critics_target) == bits(state.critics)
    assert bits(state.actor) == bits(start.actor)
    scaled = finetune.make(CONFIG.model_copy(update={"reward_scale": 4.0}), SPACE, DISCOUNT, CRITIC)
    quarter = jax.jit(scaled.init)(jax.random.key(0), start)
    np.testing.assert_array_equal(scaled.q(sac.acting(quarter), rows.obs, rows.action), want)


def test_what_is_held_stays_and_what_is_learned_moves(state):
    for number in range(3):
        state, _ = update_of()(state, pair((number, number + 1)), jax.random.key(number), jnp.int32(number))
    for e in range(2):
        for params in (state.critics, state.critics_target):
            assert bits(member(params, e)["held"]) == bits(HELD)
    assert bits(member(state.critics, 0)) != bits(member(state.critics, 1))


def test_each_critic_learns_from_its_own_minibatch(state):
    """B is nothing to the first; where nothing follows its rows, A is nothing to the second."""
    key = jax.random.key(1)
    after, _ = update_of()(state, pair((1, 2)), key, jnp.int32(0))
    other, _ = update_of()(state, pair((1, 3)), key, jnp.int32(0))
    assert bits(member(after.critics, 0)) == bits(member(other.critics, 0))
    assert bits(member(after.critics, 1)) != bits(member(other.critics, 1))
    ends, _ = update_of()(state, pair((1, 2), terminal=True), key, jnp.int32(0))
    apart, _ = update_of()(state, pair((3, 2), terminal=True), key, jnp.int32(0))
    assert bits(member(ends.critics, 0)) != bits(member(apart.critics, 0))
    assert bits(member(ends.critics, 1)) == bits(member(apart.critics, 1))


def test_an_update_by_hand(state):
    """Critic and target of A, then those of B with the first target moved; the actor in between, averaged."""
    batch, opt, one = pair(), optax.adam(0.01), finetune.critic_net(CRITIC, 1.0)
    keys = jax.random.split(jax.random.key(7), 3)
    nets = sac.nets_of(CONFIG, SPACE)._replace(critics=finetune.ensemble(one, 2))
    norm = state.normaliser

    def target(state, rows, key):
        action, log_prob = sac.sample_action(nets.actor.apply(state.actor, norm.obs(rows.next_obs)), key)
        q = [one.apply(member(state.critics_target, e), norm.obs(rows.next_obs), action)[:, 0] for e in range(2)]
        follows = jnp.minimum(*q) - jnp.exp(state.log_temperature) * log_prob
        return rows.reward + DISCOUNT * jnp.where(rows.terminal, 0.0, follows)

    def stepped(params, rows, wanted):
        def loss(params):
            return 0.5 * ((one.apply(params, norm.obs(rows.obs), rows.action)[:, 0] - wanted) ** 2).mean()

        updates, _ = opt.update(jax.grad(loss)(params), opt.init(params))
        return optax.apply_updates(params, updates)

    @jax.jit
    def by_hand(state):
        first = stepped(member(state.critics, 0), batch.first, target(state, batch.first, keys[0]))
        old = member(state.critics, 1)
        behind = jax.tree.map(lambda online, target: 0.25 * online + 0.75 * target, first, member(state.critics, 0))
        moved = jax.tree.map(lambda *pair: jnp.stack(pair), behind, old)
        second = stepped(old, batch.second, target(state._replace(critics_target=moved), batch.second, keys[1]))
        last = jax.tree.map(lambda online, target: 0.25 * online + 0.75 * target, second, old)
        return jax.tree.map(lambda *pair: jnp.stack(pair), first, second), jax.tree.map(
            lambda *pair: jnp.stack(pair), behind, last
        )

    after, _ = update_of()(state, batch, jax.random.key(7), jnp.int32(0))
    for want, found in zip(by_hand(state), (after.critics, after.critics_target), strict=True):
        for one_leaf, other in zip(jax.tree.leaves(want), jax.tree.leaves(found), strict=True):
            np.testing.assert_allclose(one_leaf, other, rtol=1e-4, atol=1e-5)


def test_the_policy_is_averaged_with_what_it_was(state):
    """0.7 of the old weights and 0.3 of those that the same step gives; Adam's moments are the step's own."""
    batch, key = pair(), jax.random.key(7)
    after, _ = update_of()(state, batch, key, jnp.int32(0))
    whole, _ = update_of(average_rate=1.0)(state, batch, key, jnp.int32(0))
    for old, new, step in zip(*(jax.tree.leaves(one.actor) for one in (state, after, whole)), strict=True):
        np.testing.assert_allclose(new, 0.7 * old + 0.3 * step, rtol=1e-4, atol=1e-6)
    assert bits(after.actor) != bits(whole.actor)
    assert bits(after.actor_opt) == bits(whole.actor_opt)
    assert bits(after.log_temperature) == bits(whole.log_temperature) != bits(state.log_temperature)


def test_minibatches_are_two_draws():
    log = jax.tree.map(jnp.asarray, make_log(0))
    batch = algorithm().sample(log, jax.random.key(0))
    assert batch.first.reward.shape == batch.second.reward.shape == (6,)
    assert (batch.first.reward != batch.second.reward).any()


def test_at_random_it_begins_with_nets_as_the_config_says():
    plain = finetune.make(CONFIG.model_copy(update={"critic_hidden": (5,)}), SPACE, DISCOUNT)
    state = plain.init(jax.random.key(0), None)
    assert state.critics["Dense_0"]["kernel"].shape == (2, 5, 5)
    assert bits(member(state.critics, 0)) != bits(member(state.critics, 1))
    after, metrics = jax.jit(plain.update)(state, pair(), jax.random.key(1), jnp.int32(0))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert all(np.isfinite(value) for value in metrics.values())


# ---- learning --------------------------------------------------------------------------------------------------------

ONE = Space((1,), (1,), (-1.0,), (1.0,))


@pytest.mark.optimised
def test_it_learns_the_best_action():
    """Paid 1 - (a - 0.5)^2 at once: from a critic that knows nothing and a policy at 0. The control is the start."""
    rng, num = np.random.default_rng(0), 200
    action = rng.uniform(-1, 1, (num, 1)).astype(np.float32)
    log = make_log(0, [1] * num, range(num), ONE)._replace(action=action, reward=1 - (action[:, 0] - 0.5) ** 2)
    log = jax.tree.map(jnp.asarray, log)
    net = mlp([1, 1], (32,), 1)
    critic = HeldCritic(
        take=CRITIC.take, q=lambda params, held, features, action: net.apply(params, features, action)[..., 0]
    )
    config = WarmSacConfig(
        hidden=(32,), batch_size=64, learning_rate=3e-3, init_temperature=1e-3, learn_temperature=False
    )
    made = finetune.make(config, ONE, 0.5, critic)
    begun = made.init(
        jax.random.key(0),
        Start(
            mlp([1], (32,), 2).init(jax.random.key(1)), {"learned": net.init(jax.random.key(2)), "held": {}}, fit(log)
        ),
    )
    state, _ = jax.jit(block(made, 1500))(jnp.int32(0), begun, log, jax.random.key(3))

    def away(state):
        acts = [
            made.policy.act(sac.acting(state), None, jnp.array([obs]), jax.random.key(0), 0.0)[0] for obs in (-1.0, 1.0)
        ]
        return np.abs(np.array(acts) - 0.5).max()

    assert away(state) < 0.1
    assert away(begun) > 0.2
