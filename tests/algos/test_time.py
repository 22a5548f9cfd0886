"""tiMe's loss on three rows with the numbers worked out here, and how its policy gathers a context."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import time
from pipelines.algos.distilled import Actor, Lesson
from pipelines.algos.time import Acting, Batch, Nets, Scales, imitation_terms, regression_terms, term_weights
from pipelines.core.configs.algorithms import TimeConfig
from pipelines.core.normaliser import Normaliser
from pipelines.core.types import Transition, transitions
from pipelines.nets import Net
from tests.toys import AGENTS, SPACE, data_of, make, make_log, teachers_of


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


# ---- with teachers that generate and perturb -------------------------------------------------------------------------

TAUGHT = {"act": "generator", "noise_dim": 4, "noise_clip": 0.5, "perturbation_scale": 0.05, "num_candidates": 3}


@pytest.fixture(scope="module")
def taught(learner):
    """(algorithm, state, batch, metrics of one update, the state after it)"""
    algorithm, data = make("time", **TAUGHT), learner[1]
    data = jax.tree.map(jnp.asarray, data._replace(teachers=teachers_of(data.logs)))

    def run(data):
        state, batch = algorithm.init(jax.random.key(0), data), algorithm.sample(data, jax.random.key(1))
        after, metrics = algorithm.update(state, batch, jax.random.key(2), jnp.int32(0))
        return state, batch, metrics, after

    return algorithm, *jax.jit(run)(data)


def test_imitation_terms_by_hand():
    """M = 1.75 as above. G = tanh(s + noise + M) of s = (0, 1, 2) and noise (1, 0, -1) is the tanh of 2.75; xi =
    tanh(s + a + M) at a = (0, -1, -2) that of 1.75. Shown were 0 and 1."""
    lesson = Lesson(jnp.array([[[1.0], [0], [-1]]]), ROW._replace(action=jnp.array([[[0.0], [-1], [-2]]])), 0.0)
    lesson = lesson._replace(xi=jnp.ones((1, 3, 1)))
    adding = ADDING._replace(actor=Actor(ADDING.q, ADDING.q))
    params, batch = {**NO_PARAMS, "generator": {}, "perturbation": {}}, Batch(ROW, CONTEXT, TEACHER_Q, lesson)
    made, xi = imitation_terms(adding, TimeConfig(**TAUGHT), Acting(params, UNITS), batch)
    np.testing.assert_allclose(made, np.mean((np.tanh(2.75) - np.array([0, -1, -2])) ** 2), rtol=1e-6)
    np.testing.assert_allclose(xi, (np.tanh(1.75) - 1) ** 2, rtol=1e-5)
    config = TimeConfig(**{**TAUGHT, "perturbation_scale": 0.0})
    assert imitation_terms(adding, config, Acting(params, UNITS), batch)[1] == 0


def test_what_is_sampled_besides_is_as_without_them(learner, taught):
    """The same rows and contexts, and the same nets to begin with; more terms to scale."""
    algorithm, data, state, _ = learner
    plain, batch = jax.jit(algorithm.sample)(data, jax.random.key(1)), taught[2]
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(batch._replace(lesson=())), strict=True):
        np.testing.assert_array_equal(one, other)
    assert set(taught[1].params) == set(state.params) | {"generator", "perturbation"}
    for name in state.params:
        np.testing.assert_allclose(*(one.params[name]["Dense_0"]["kernel"] for one in (state, taught[1])), atol=1e-6)
    assert taught[1].sizes.shape == (5,)
    names = ("q_loss", "reward_loss", "next_obs_loss", "generator_loss", "perturbation_loss")
    np.testing.assert_allclose(taught[4].sizes, [taught[3][name] for name in names], rtol=1e-6)
    assert all(taught[3][name] > 0 for name in names if name != "next_obs_loss")


def test_f_learns_from_imitation_too(taught):
    """One optimiser and no stop, unlike MBML's."""
    _, state, batch, *_ = taught
    config = TimeConfig(**{**AGENTS["time"], **TAUGHT})
    nets = time.make_nets(config, SPACE)

    def term(params):
        return imitation_terms(nets, config, Acting(params, state.scales), batch).sum()

    slope = jax.jit(jax.grad(term))(state.params)
    for name in ("f", "generator", "perturbation"):
        assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope[name])), name
    assert not any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope["q"]))


def test_the_best_candidate_acts(taught):
    algorithm, state, batch, *_ = taught
    acting, policy, key = algorithm.acting(state), algorithm.policy, jax.random.key(3)
    row = jax.tree.map(lambda leaf: leaf[0, 0], batch.row)
    memory = policy.observe(acting, policy.begin(acting, key), row)
    nets = time.make_nets(TimeConfig(**{**AGENTS["time"], **TAUGHT}), SPACE).actor
    features, tried = acting.scales.inputs.obs(row.obs), []
    for noise in np.clip(jax.random.normal(key, (3, 4)), -0.5, 0.5):
        action = jnp.tanh(nets.generator.apply(acting.params["generator"], features, noise, memory.total))
        xi = jnp.tanh(nets.perturbation.apply(acting.params["perturbation"], features, action, memory.total))
        tried.append(jnp.clip(action + 0.05 * xi, -1, 1))
    values = [policy.value(acting, memory, row.obs, action) for action in tried]
    assert np.ptp(values) > 0
    np.testing.assert_allclose(policy.act(acting, memory, row.obs, key, 0.0), tried[np.argmax(values)], rtol=1e-4)


def test_cross_entropy_search_finds_what_the_value_likes():
    """Five rounds come three times as near to (0.3, -0.7) as the best of 40 uniform draws; and the box has an end."""
    config, space = TimeConfig(act="cem", num_shots=40, cem_elites=8), SPACE._replace(action_shape=(2,))

    def search(goal):
        def value(actions):
            return -((actions - goal[None]) ** 2).sum(-1)

        keys = jax.random.split(jax.random.key(0), 20)
        return jax.vmap(lambda key: time.cross_entropy_search(config, space, value, key))(keys)

    found = np.asarray(jax.jit(jax.vmap(search))(jnp.array([[0.3, -0.7], [3.0, 3.0]])))
    assert found[1].mean() > 0.98
    assert (found <= 1).all()
    once = np.random.default_rng(0).uniform(-1, 1, (20, 40, 2)) - [0.3, -0.7]
    nearest = np.linalg.norm(once, axis=-1).min(1).mean()
    assert 3 * np.linalg.norm(found[0] - [0.3, -0.7], axis=-1).mean() < nearest


def test_the_critic_that_others_go_on_with_is_the_value(learner):
    algorithm, _, state, _ = learner
    acting, policy = algorithm.acting(state), algorithm.policy
    row = transitions(jax.tree.map(jnp.asarray, make_log(0)), jnp.int32(4))
    memory = policy.observe(acting, policy.begin(acting, jax.random.key(0)), row)
    held = algorithm.critic.take(acting, memory)
    found = algorithm.critic.q(held.params, held.held, held.normaliser.obs(row.obs), row.action)
    np.testing.assert_allclose(found, policy.value(acting, memory, row.obs, row.action), rtol=1e-5)
