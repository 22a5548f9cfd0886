"""BOReL's learner: beliefs beside a log are those that the policy has when it acts, and what it learns from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import dqn, sac
from pipelines.algos.belief import make_encoder
from pipelines.algos.borel import Data, learner_of, scales
from pipelines.core.configs.algorithms import BorelConfig, DqnConfig
from pipelines.core.configs.base import resolve
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.errors import UsageError
from pipelines.core.types import Log, Task, transitions
from pipelines.stages.belief import located
from pipelines.stages.belief_view import views
from tests.toys import AGENTS, GRID, SPACE, data_of, make, make_log, spoiled, stacked

K, HORIZON = 2, 3
NAMES = ["borel", "borel/dqn", "borel/end"]
BELIEF = resolve(BeliefConfig, AGENTS["borel"]["belief"])
ENCODER = make_encoder(BELIEF, SPACE)


def coder_of(seed=2):
    """An encoder whose heads are turned up: beliefs that move."""
    coder = ENCODER.init(jax.random.key(seed))
    return jax.tree.map(lambda leaf: 2 * leaf, coder)


def viewed(log):
    logs = stacked(log)
    where = located(logs, [Task(0, "one", "train", {})], K, HORIZON)
    return views(ENCODER, coder_of(), SPACE, logs, where, K * HORIZON)


@pytest.mark.parametrize("name", NAMES)
def test_the_view_is_what_the_policy_computes_step_by_step(name):
    """Every state of a trial, and its action's value, as the policy has them when it is led through that trial."""
    algorithm, data = make(name), jax.tree.map(jnp.asarray, data_of(name))
    state = algorithm.init(jax.random.key(0), data)
    acting, policy = algorithm.acting(state), algorithm.policy
    log = Log(*(column[1] for column in data.logs))
    memory = policy.begin(acting, jax.random.key(0))
    for n in range(K * HORIZON):
        row = transitions(log, jnp.int32(n))
        if log.step[n] == 0:
            memory = policy.start(acting, memory, row.obs, jax.random.key(1))
        place = n + int(log.episode[n]) // K
        np.testing.assert_allclose(policy.latent(acting, memory).mean, data.views.belief[1, place, :2], atol=1e-5)
        spread = np.exp(data.views.belief[1, place, 2:] / 2)
        np.testing.assert_allclose(policy.latent(acting, memory).spread, spread, rtol=1e-5)
        memory = policy.observe(acting, memory, row)
    np.testing.assert_allclose(policy.latent(acting, memory).mean, data.views.belief[1, K * HORIZON, :2], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_learned_on_is_what_is_acted_on(name):
    """The greedy action on a sampled state is that of the policy which was led there."""
    algorithm, data = make(name), jax.tree.map(jnp.asarray, data_of(name))
    acting, policy = algorithm.acting(algorithm.init(jax.random.key(0), data)), algorithm.policy
    batch = algorithm.sample(data, jax.random.key(5))
    for n in range(6):
        task, number = divmod(int(np.flatnonzero((data.logs.reward == batch.reward[n]).reshape(-1))[0]), 18)
        log = Log(*(column[task] for column in data.logs))
        first = number // (K * HORIZON) * K * HORIZON
        memory = policy.begin(acting, jax.random.key(0))
        for m in range(first, number + 1):
            row = transitions(log, jnp.int32(m))
            if log.step[m] == 0:
                memory = policy.start(acting, memory, row.obs, jax.random.key(1))
            if m < number:
                memory = policy.observe(acting, memory, row)
        np.testing.assert_allclose(
            policy.value(acting, memory, row.obs, row.action),
            algorithm_value(algorithm, acting, batch.obs[n], batch.action[n]),
            rtol=1e-4,
            atol=1e-4,
        )


def algorithm_value(algorithm, acting, state, action):
    """Of a state of the BAMDP, by the inner learner: a memory is made to hold it."""
    wide = state.shape
    if isinstance(acting.inner, dqn.Acting):
        inner = dqn.make(DqnConfig(hidden=(8,)), GRID._replace(obs_shape=wide), 0.9)
    else:
        inner = sac.make(BorelConfig(hidden=(8,)), SPACE._replace(obs_shape=wide), 0.9)
    return inner.q(acting.inner, state, action)


def test_an_episodes_boundary_changes_no_belief_and_sets_the_flag():
    algorithm, data = make("borel"), data_of("borel")
    acting, policy = algorithm.acting(algorithm.init(jax.random.key(0), data)), algorithm.policy
    row = transitions(jax.tree.map(jnp.asarray, make_log(0)), jnp.int32(2))
    begun = policy.begin(acting, jax.random.key(0))
    first = policy.start(acting, begun, row.obs, jax.random.key(1))
    seen = policy.observe(acting, first, row)
    second = policy.start(acting, seen, row.obs, jax.random.key(1))
    assert (begun.flag, first.flag, seen.flag, second.flag) == (0, 0, 0, 1)
    assert not np.array_equal(first.hidden, seen.hidden)
    np.testing.assert_array_equal(seen.hidden, second.hidden)
    np.testing.assert_array_equal(policy.begin(acting, jax.random.key(9)).hidden, begun.hidden)  # a new task
    assert policy.observe(acting, second, row).flag == 0


@pytest.mark.parametrize("lengths, dies, count", [((3, 3, 3, 3, 2), (), 2), ((2, 3, 1, 3, 3), (0, 2), 2)])
def test_beliefs_of_trials_of_any_length(lengths, dies, count):
    """Each trial alone through the encoder, step by step; the unfinished one has none."""
    log = make_log(1, lengths, dies)
    found, coder = viewed(log), coder_of()
    ends = np.cumsum(lengths)
    assert found.size[0] == ends[2 * count - 1]
    log = jax.tree.map(jnp.asarray, log)
    for trial in range(count):
        first, middle, last = (0, *ends)[2 * trial], ends[2 * trial], ends[2 * trial + 1]
        hidden = ENCODER.begin(coder)
        for n in range(first, last + 1):
            want = jnp.concatenate(ENCODER.belief(coder, hidden), -1)
            np.testing.assert_allclose(found.belief[0, n + trial], want, atol=1e-5)
            if n < last:
                flag = jnp.float32(n + 1 == middle)
                hidden = ENCODER.step(coder, hidden, transitions(log, jnp.int32(n)), flag)
    assert not found.belief[0, ends[2 * count - 1] + count :].any()


def test_beliefs_begin_alike_and_do_not_see_the_future():
    """Bits, not numbers: rows from 8 on are spoiled, all of trial 0 and the first of trial 1 stay as they are."""
    log = make_log(0, (3, 3, 3, 3))
    late = spoiled(log)
    mixed = [np.concatenate([a[:n], b[n:]]) for a, b, n in zip(log[:3], late[:3], (11, 8, 8), strict=True)]
    found, cut = viewed(log), viewed(log._replace(obs=mixed[0], action=mixed[1], reward=mixed[2]))
    np.testing.assert_array_equal(cut.belief[0, :10], found.belief[0, :10])  # row 8 of trial 1: slot 9 before it
    assert np.isnan(cut.belief[0, 10]).all()
    other = viewed(make_log(5, (3, 3)))
    np.testing.assert_array_equal(found.belief[0, 0], other.belief[0, 0])
    np.testing.assert_array_equal(found.belief[0, 0], found.belief[0, 7])
    assert not np.array_equal(found.belief[0, 1], other.belief[0, 1])


def test_rows_come_from_drawn_tasks_and_whole_trials():
    data = data_of("borel")
    logs = data.logs._replace(reward=np.arange(3 * 18, dtype=np.float32).reshape(3, 18))
    data = jax.tree.map(jnp.asarray, data._replace(logs=logs))
    draw = jax.jit(make("borel", batch_size=50).sample)
    rewards = [np.asarray(draw(data, jax.random.key(seed)).reward).reshape(2, 50) for seed in range(30)]
    tasks = [np.unique(one // 18, axis=1) for one in rewards]
    assert all(one.shape == (2, 1) for one in tasks)  # of one task each
    assert {len(set(one.ravel())) for one in tasks} == {1, 2}  # with replacement
    found = np.unique(np.concatenate(rewards))
    np.testing.assert_array_equal(found, [*range(12), *range(18, 30), *range(36, 54)])  # all rows of whole trials
    every = jax.jit(make("borel/end").sample)(data, jax.random.key(0)).reward.reshape(3, 6)
    np.testing.assert_array_equal(np.unique(every // 18, axis=1), [[0], [1], [2]])


def test_a_goal_may_be_an_end():
    """Rows that are paid more than paid_above (0.5) are terminal, the others what they were."""
    data = data_of("borel")
    reward = np.tile(np.float32([0.4, 0.5, 0.6]), (3, 6))
    data = jax.tree.map(jnp.asarray, data._replace(logs=data.logs._replace(reward=reward)))
    plain, ending = (make("borel", batch_size=50, paid_ends=which).sample for which in (False, True))
    as_logged, found = (jax.jit(draw)(data, jax.random.key(0)) for draw in (plain, ending))
    np.testing.assert_array_equal(found.terminal, as_logged.terminal | (found.reward > 0.55))
    assert found.terminal.sum() > as_logged.terminal.sum()
    np.testing.assert_array_equal(found.next_obs, as_logged.next_obs)


def test_scales_are_those_of_the_states():
    """Against all states of the view; flags as they are."""
    data = jax.tree.map(jnp.asarray, data_of("borel"))
    config = BorelConfig()
    norm = scales(config, data, K)
    filled = np.concatenate([one[:n] for one, n in zip(data.views.belief, (14, 14, 21), strict=True)])
    np.testing.assert_allclose(norm.obs_mean[-4:], filled.mean(0), atol=1e-5)
    np.testing.assert_allclose(norm.obs_std[-4:], filled.std(0), rtol=1e-4)
    assert (norm.obs_mean[3], norm.obs_std[3]) == (0, 1)
    plain = scales(config.model_copy(update={"scale_obs": False, "scale_reward": False, "reward_scale": 5.0}), data, K)
    assert not np.asarray(plain.obs_mean).any() and (np.asarray(plain.obs_std) == 1).all() and plain.reward_std == 5
    state = make("borel/cql").init(jax.random.key(0), data)
    np.testing.assert_array_equal(state.inner.sac.normaliser.obs_std, norm.obs_std)


def test_the_model_is_not_what_is_trained():
    algorithm, data = make("borel"), jax.tree.map(jnp.asarray, data_of("borel"))
    state = jax.jit(algorithm.init)(jax.random.key(0), data)
    batch = algorithm.sample(data, jax.random.key(1))
    after, _ = jax.jit(algorithm.update, donate_argnums=0)(state, batch, jax.random.key(2), np.int32(0))
    jax.tree.map(np.testing.assert_array_equal, after.coder, data.coder)  # and data's own was not donated
    assert isinstance(data, Data)


@pytest.mark.parametrize("learner, space", [("dqn", SPACE), ("cql", GRID), ("sac", GRID)])
def test_a_learner_for_other_actions_is_refused(learner, space):
    with pytest.raises(UsageError, match=f"learner={learner} cannot act"):
        learner_of(BorelConfig(learner=learner), space)
    assert learner_of(BorelConfig(), space) == ("sac" if space is SPACE else "dqn")
