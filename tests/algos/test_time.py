"""tiMe's loss on three rows with the numbers worked out here, and how its policy gathers a context."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import time
from pipelines.algos.time import Acting, Batch, Nets, Scales, regression_terms, term_weights
from pipelines.core.configs.algorithms import TimeConfig
from pipelines.core.normaliser import Normaliser
from pipelines.core.types import Transition, transitions
from pipelines.nets import Net
from tests.toys import AGENTS, SPACE, data_of, make


def test_weights_bring_every_term_to_the_size_of_the_first():
    sizes = jnp.array([2.0, 0.5, 8.0])
    np.testing.assert_allclose(term_weights(sizes) * sizes, [2, 2, 2], rtol=1e-6)
    np.testing.assert_array_equal(jax.jacobian(term_weights)(sizes), np.zeros((3, 3)))  # detached
    assert np.isfinite(term_weights(jnp.zeros(3))).all()
    assert np.isfinite(term_weights(jnp.array([1.0, 0.0, 0.0]))).all()


# ---- the regression terms, with nets that can be computed in the head ------------------------------------------------

UNITS = Scales(
    Normaliser(jnp.array([1.0]), jnp.array([2.0]), jnp.float32(3.0), jnp.float32(4.0)),
    q_mean=jnp.float32(10.0),
    q_std=jnp.float32(5.0),
    change_std=jnp.array([0.5]),
)


def last_sum(params, *inputs):
    """A net that adds all its inputs up. -> [..., 1]"""
    return sum(x.sum(-1, keepdims=True) for x in inputs)


ADDING = Nets(
    f=Net(lambda key: {}, last_sum),
    embed=Net(lambda key: {}, last_sum),
    predictor=Net(lambda key: {}, lambda params, e, m: jnp.concatenate([e + m, e - m], -1)),
    q=Net(lambda key: {}, last_sum),
)
NO_PARAMS = {"f": {}, "embed": {}, "predictor": {}, "q": {}}


def rows(obs, action, reward, next_obs):
    """Transitions [T, B, ...] of one-number observations and actions."""
    flat = jnp.zeros(np.shape(reward), bool)
    columns = [jnp.asarray(x, jnp.float32)[..., None] for x in (obs, action)]
    return Transition(
        *columns,
        jnp.asarray(reward, jnp.float32),
        jnp.asarray(next_obs, jnp.float32)[..., None],
        flat,
        flat,
        jnp.zeros((*np.shape(reward), 0)),
    )


# standard obs are (0, 1, 2), standard next_obs (1, 2, 2), standard rewards (0, 1, -1), changes / 0.5 (4, 4, 0)
ROW = rows([[1, 3, 5]], [[0.5, -1, 0]], [[3, 7, -1]], [[3, 5, 5]])
# each row's context: two transitions whose sums in standard units are (0 + .5 + 1 + 1) and (1 + 0 + 0 + 0): M = 1.75
CONTEXT = rows([[[1, 3]] * 3], [[[0.5, 0]] * 3], [[[7, 3]] * 3], [[[3, 1]] * 3])
TEACHER_Q = jnp.array([[10.0, 20.0, 0.0]])  # standard (0, 2, -2)


def terms(**fields):
    config = TimeConfig(**fields)
    return regression_terms(ADDING, config, Acting(NO_PARAMS, UNITS), Batch(ROW, CONTEXT, TEACHER_Q))


def test_regression_terms_by_hand():
    """E = s + a = (.5, 0, 2) in standard units and M = 1.75, so Q_S = E + M = (2.25, 1.75, 3.75) = the predicted r,
    and the predicted change is E - M = (-1.25, -1.75, .25)."""
    q, reward, change = terms(predict_next_obs=True)
    np.testing.assert_allclose(q, np.mean([2.25**2, 0.25**2, 5.75**2]), rtol=1e-6)
    np.testing.assert_allclose(reward, np.mean([2.25**2, 0.75**2, 4.75**2]), rtol=1e-6)
    np.testing.assert_allclose(change, np.mean([5.25**2, 5.75**2, 0.25**2]), rtol=1e-6)


def test_terms_that_are_not_asked_for_are_zero():
    assert terms()[2] == 0
    assert terms(predict_reward=False)[1] == 0
    assert terms(predict_reward=False)[0] == terms()[0]


def test_the_policy_infers_the_latent_that_training_used():
    """M = 1.75 from the same two transitions, one by one; before the first one M is 0."""
    policy = time.policy(TimeConfig(latent_dim=1), SPACE._replace(obs_shape=(1,), action_shape=(1,)), ADDING)
    acting = Acting(NO_PARAMS, UNITS)
    memory = policy.start(acting, policy.begin(acting, None), None, None)
    zero = jnp.zeros(1)
    at = (jnp.array([1.0]), zero)  # standard s = 0 and a = 0, so that Q_S = M
    assert policy.value(acting, memory, *at) == 10
    for n in range(2):
        memory = policy.observe(acting, memory, jax.tree.map(lambda leaf, n=n: leaf[0, 0, n], CONTEXT))
    np.testing.assert_allclose(policy.value(acting, memory, *at), 10 + 5 * 1.75, rtol=1e-6)
    cleared = policy.start(acting, memory, None, None)
    assert policy.value(acting, cleared, *at) == 10


def test_random_shooting_takes_the_best_of_its_shots():
    """The adding Q grows with the action, so the chosen one is the largest of the draws."""
    config = TimeConfig(latent_dim=1, num_shots=50)
    policy = time.policy(config, SPACE._replace(obs_shape=(1,), action_shape=(2,)), ADDING)
    acting, key = Acting(NO_PARAMS, UNITS), jax.random.key(0)
    memory = policy.begin(acting, key)
    shots = np.asarray(jax.random.uniform(key, (50, 2), minval=-1.0, maxval=1.0))
    action = policy.act(acting, memory, jnp.zeros(1), key, 0.0)
    np.testing.assert_array_equal(action, shots[shots.sum(1).argmax()])


# ---- the algorithm ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learner():
    algorithm = make("time")
    data = jax.tree.map(jnp.asarray, data_of("time"))
    return algorithm, data, jax.jit(algorithm.init)(jax.random.key(0), data), jax.jit(algorithm.update)


def test_contexts_are_of_the_same_task_and_leave_the_row_out(learner):
    """Rewards tell rows apart (10 n + noise), and tasks here by a hundred thousand."""
    algorithm, data, *_ = learner
    apart = data.logs.reward + 1e5 * jnp.broadcast_to(jnp.arange(3.0)[:, None], data.logs.reward.shape)
    draw = jax.jit(lambda key: algorithm.sample(data._replace(logs=data.logs._replace(reward=apart)), key))
    for seed in range(20):
        batch = draw(jax.random.key(seed))
        task = np.round(np.asarray(batch.context.reward) / 1e5)
        np.testing.assert_array_equal(task, np.broadcast_to(np.arange(3.0)[:, None, None], task.shape))
        assert (batch.context.reward != batch.row.reward[..., None]).all()


def test_each_row_keeps_its_own_teachers_value(learner):
    algorithm, data, *_ = learner
    told = data._replace(teacher_q=data.logs.reward * 2)
    batch = algorithm.sample(told, jax.random.key(0))
    np.testing.assert_array_equal(batch.teacher_q, batch.row.reward * 2)


def test_scales_are_those_of_the_whole_batch(learner):
    data = learner[1]
    scales = time.fit_scales(data)
    size = np.asarray(data.logs.size)
    q = np.concatenate([np.asarray(data.teacher_q)[task, : size[task]] for task in range(3)])
    np.testing.assert_allclose([scales.q_mean, scales.q_std], [q.mean(), q.std()], rtol=1e-4)
    change = []
    for task in range(3):
        batch = transitions(jax.tree.map(lambda leaf, task=task: leaf[task], data.logs), np.arange(size[task]))
        change.append(batch.next_obs - batch.obs)
    np.testing.assert_allclose(scales.change_std, np.concatenate(change).std(0), rtol=1e-4)


def test_running_sizes_start_at_the_first_terms_and_follow_slowly(learner):
    algorithm, data, state, update = learner
    names = ("q_loss", "reward_loss", "next_obs_loss")
    after, first = update(state, algorithm.sample(data, jax.random.key(1)), jax.random.key(2), jnp.int32(0))
    np.testing.assert_allclose(after.sizes, [first[name] for name in names], rtol=1e-6)
    later, second = update(after, algorithm.sample(data, jax.random.key(3)), jax.random.key(4), jnp.int32(1))
    want = 0.99 * np.asarray(after.sizes) + 0.01 * np.asarray([second[name] for name in names])
    np.testing.assert_allclose(later.sizes, want, rtol=1e-5)


def test_the_reward_term_teaches_f_too(learner):
    """P needs M, and so f has a gradient without the term of Q."""
    algorithm, data, state, _ = learner
    config = TimeConfig(**AGENTS["time"])
    batch = algorithm.sample(data, jax.random.key(1))

    def reward_term(params):
        return regression_terms(time.make_nets(config, SPACE), config, Acting(params, state.scales), batch)[1]

    slope = jax.jit(jax.grad(reward_term))(state.params)
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope["f"]))
    assert not any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope["q"]))
