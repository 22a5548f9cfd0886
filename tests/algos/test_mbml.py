"""What an update of MBML draws, what it learns from it, and how its policy gathers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import mbml, mbml_batch, models
from pipelines.algos import mbml_losses as losses
from pipelines.algos.context import posterior
from pipelines.algos.distilled import teaching
from pipelines.core.configs.algorithms import MbmlConfig
from pipelines.core.samplers import Pool
from pipelines.core.types import transitions
from tests.toys import AGENTS, SPACE, data_of, make, make_log, pool_of

# ---- what an update draws --------------------------------------------------------------------------------------------


def config_of(**fields):
    return MbmlConfig(**{**AGENTS["mbml"], **fields})


@pytest.fixture(scope="module")
def data():
    return jax.tree.map(jnp.asarray, data_of("mbml"))


@pytest.fixture(scope="module")
def batch(data):
    return jax.jit(make("mbml").sample)(data, jax.random.key(5))


def test_a_context_is_of_its_own_task_and_relabelled_rows_are_paid_by_it(batch):
    """The pool says 1000 (i + 1) + 100 (j + 1) + row; the toy logs pay 10 a row."""
    assert batch.own.reward.shape == (3, 1, 4)
    assert (np.asarray(batch.own.reward) < 200).all()
    paid = np.asarray(batch.foreign.relabelled.reward)
    assert batch.foreign.valid.all()
    np.testing.assert_array_equal(paid // 1_000, np.broadcast_to([[1], [2], [3]], (3, 5)))
    assert (paid // 100 % 10 != paid // 1_000).all()  # of others
    np.testing.assert_allclose(batch.foreign.logged.reward, 10 * (paid % 100), atol=1.01)


def test_pairs_are_of_task_j_under_task_i(batch):
    paid, valid = np.asarray(batch.pairs.relabelled.reward), np.asarray(batch.pairs.valid)
    assert paid.shape == (3, 3, 4)
    np.testing.assert_array_equal(valid.all(-1), ~np.eye(3, dtype=bool))
    np.testing.assert_array_equal(valid.any(-1), ~np.eye(3, dtype=bool))
    for i in range(3):
        for j in set(range(3)) - {i}:
            np.testing.assert_array_equal(paid[i, j] // 100, np.full(4, 10 * (i + 1) + j + 1))
    np.testing.assert_array_equal(batch.pairs.relabelled.obs, batch.pairs.logged.obs)


def test_a_lesson_is_what_each_tasks_own_teacher_would_do(data, batch):
    teacher, lesson = make("bcq"), batch.lesson
    assert (np.abs(lesson.noise) <= 0.5).all()
    assert (np.abs(lesson.noise) == 0.5).any()  # held there
    for i in range(3):
        acting = jax.tree.map(lambda leaf, i=i: leaf[i], data.teachers)
        action = teacher.propose(acting, batch.row.obs[i], lesson.noise[i])
        np.testing.assert_allclose(lesson.row.action[i], action, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            lesson.xi[i], teacher.perturb(acting, batch.row.obs[i], action), rtol=1e-4, atol=1e-5
        )


def test_other_teachers_show_the_action_that_they_take():
    """Noise has no place then, and nothing is perturbed."""
    teacher = make("batch-sac")
    rows = transitions(jax.tree.map(jnp.asarray, make_log(1)), jnp.arange(6))

    @jax.jit
    def run():
        acting = teacher.acting(teacher.init(jax.random.key(0), jax.tree.map(jnp.asarray, make_log(0))))
        act = jax.vmap(lambda obs: teacher.policy.act(acting, None, obs, jax.random.key(2), 0.0))
        return teaching(teacher)(acting, rows, jax.random.key(1)), act(rows.obs)

    lesson, taken = run()
    np.testing.assert_allclose(lesson.row.action, taken, rtol=1e-6)
    assert lesson.noise.shape == lesson.xi.shape == (6, 0)
    np.testing.assert_array_equal(lesson.row.obs, rows.obs)


def questions(limit):
    """The reward is known, and pays 1000 (i + 1) plus what was logged; a spread would be compared with `limit`."""

    def known(task, obs, action, next_obs, outcome):
        return 1_000 * task[0] + obs[:, 0]

    def judge(ensembles, task, limits, rows):
        found = models.judge(SPACE, None, None, known)(ensembles, task, limits, rows)
        return found._replace(passed=rows.reward < limits.reward)

    limits = models.Limits(jnp.float32(limit), jnp.zeros(3))
    return mbml_batch.Questions(models.Ensembles((), ()), jnp.arange(1.0, 4.0)[:, None], limits), judge


def asked(data, limit, **fields):
    found, judge = questions(limit)
    sample = mbml_batch.make_sample(config_of(**fields), teaching(make("bcq"), 0.5), judge)
    return jax.jit(sample)(data._replace(relabelled=found), jax.random.key(5))


def test_on_the_fly_the_contexts_themselves_are_relabelled(data):
    """Rows pass whose logged reward is below the limit of the judging task: none for the first, all for the last."""
    found = asked(data, [-5.0, 50.0, 1e6])
    own = np.asarray(found.own.reward[:, 0])
    np.testing.assert_array_equal(found.pairs.logged.reward, np.broadcast_to(own, (3, 3, 4)))
    want = (own[None] < np.array([-5.0, 50.0, 1e6])[:, None, None]) & ~np.eye(3, dtype=bool)[:, :, None]
    np.testing.assert_array_equal(found.pairs.valid, want)
    want = 1_000 * np.arange(1.0, 4)[:, None, None] + np.asarray(found.own.obs)[None, :, 0, :, 0]
    np.testing.assert_allclose(found.pairs.relabelled.reward, want, rtol=1e-6)
    np.testing.assert_array_equal(found.foreign.valid.sum(1), np.minimum(5, np.asarray(found.pairs.valid).sum((1, 2))))
    mine = np.asarray(found.foreign.logged.reward[2])
    assert not set(mine[np.asarray(found.foreign.valid[2])]) & set(own[2])
    assert len(set(mine.tolist())) == len(mine[np.asarray(found.foreign.valid[2])])  # without repetition


def test_more_rows_wanted_than_there_are(data):
    found = asked(data, [1e6] * 3, foreign_size=50)
    np.testing.assert_array_equal(found.foreign.valid.sum(1), [8, 8, 8])


def test_without_relabelling_contexts_are_as_large_and_batch_hard_wants_several(data):
    for triplet, sets in ((False, 1), (True, 2)):
        sample = make("mbml", relabel="none", triplet=triplet).sample
        found = jax.eval_shape(sample, data._replace(relabelled=()), jax.random.key(0))
        assert found.own.reward.shape == (3, sets, 9)
        assert found.foreign == found.pairs == ()


# ---- inference -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nets():
    return mbml.make_nets(config_of(), SPACE)


@pytest.fixture(scope="module")
def state(data):
    return jax.jit(make("mbml").init)(jax.random.key(0), data)


def test_the_context_is_the_union_of_own_and_relabelled_rows(batch, nets, state):
    """Those that are not valid are as if they were not there, whatever they hold."""
    some = batch.foreign.valid.at[0].set(False).at[1, 2:].set(False)
    foreign = batch.foreign._replace(valid=some)
    config = config_of(triplet=False)
    found, apart = mbml.inferred(config, nets, state.params, state.scales, batch._replace(foreign=foreign))
    assert apart == 0
    for i, count in enumerate((0, 2, 5)):
        own, more = ([leaf[i] for leaf in rows] for rows in (batch.own, batch.foreign.relabelled))
        union = type(batch.own)(*(jnp.concatenate([a[0], b[:count]]) for a, b in zip(own, more, strict=True)))
        want = posterior(nets.encoder, state.params["encoder"], state.scales.inputs, union)
        np.testing.assert_allclose(found.mean[i], want.mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.variance[i], want.variance, rtol=1e-4)


def test_triplets_are_made_of_anchor_own_and_logged_rows(batch, nets, state):
    """Against posteriors taken pair by pair, with the positive cut as the anchor is."""
    valid = batch.pairs.valid.at[0, 1, 2:].set(False).at[2, 0].set(False)
    cut, norm, params = batch._replace(pairs=batch.pairs._replace(valid=valid)), state.scales.inputs, state.params
    _, found = mbml.inferred(config_of(margin=30.0), nets, params, state.scales, cut)

    def of(rows, count):
        kept = jax.tree.map(lambda leaf: leaf[:count], rows)
        return posterior(nets.encoder, params["encoder"], norm, kept)

    hinges = []
    for i in range(3):
        for j in set(range(3)) - {i}:
            count = 2 if (i, j) == (0, 1) else 4
            pair, logged = (jax.tree.map(lambda leaf, i=i, j=j: leaf[i, j], rows) for rows in batch.pairs[1::-1])
            own = jax.tree.map(lambda leaf, i=i: leaf[i, 0], batch.own)
            anchor = of(pair, count)
            gap = losses.kl(anchor, of(own, count)) - losses.kl(anchor, of(logged, count))
            hinges.append(30.0 if (i, j) == (2, 0) else max(0.0, float(gap) + 30))
    np.testing.assert_allclose(found, np.mean(hinges), rtol=1e-4)


def test_batch_hard_is_made_of_all_contexts_and_z_of_the_first(data, nets, state):
    config = config_of(relabel="none", num_contexts=3)
    sample = mbml_batch.make_sample(config, teaching(make("bcq")), None)

    @jax.jit
    def run(data, state):
        drawn = sample(data, jax.random.key(2))
        each = posterior(nets.encoder, state.params["encoder"], state.scales.inputs, drawn.own)
        return mbml.inferred(config, nets, state.params, state.scales, drawn), each

    (found, apart), each = run(data, state)
    assert each.mean.shape == (3, 3, 3)
    np.testing.assert_allclose(apart, losses.batch_hard_loss(each, 2.0), rtol=1e-5)
    np.testing.assert_allclose(found.mean, each.mean[:, 0], rtol=1e-5)


def losses_of(batch, state, *variants):
    """-> a list of (loss, terms), one for each of the configs, in one program"""
    noise = jax.random.normal(jax.random.key(9), (3, 3))

    def one(params, fields):
        config = config_of(**fields)
        return mbml.total_loss(config, mbml.make_nets(config, SPACE), params, state.scales, batch, noise)

    return jax.jit(lambda params: [one(params, fields) for fields in variants])(state.params)


def test_the_total_is_the_sum_of_its_terms_with_beta_before_the_kl(batch, state):
    found = losses_of(batch, state, {"kl_weight": 0.25}, {"q_units": "standard"}, {"kl_over": "sum"})
    (total, terms), (_, standard), (_, summed) = found
    rest = sum(value for name, value in terms.items() if name != "kl_loss")
    assert set(terms) == {"q_loss", "kl_loss", "triplet_loss", "generator_loss", "perturbation_loss"}
    np.testing.assert_allclose(total, rest + 0.25 * terms["kl_loss"], rtol=1e-5)
    np.testing.assert_allclose(standard["q_loss"] * state.scales.q_std**2, terms["q_loss"], rtol=1e-5)
    np.testing.assert_allclose(summed["kl_loss"], 3 * terms["kl_loss"], rtol=1e-5)


def most(tree):
    return max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree))


def test_who_learns_from_what(batch, nets, state):
    """The encoder from Q's loss, the KL and the triplets, and not from the imitation of actions."""
    config, noise = config_of(), jax.random.normal(jax.random.key(9), (3, 3))

    def term(params, name):
        return mbml.total_loss(config, nets, params, state.scales, batch, noise)[1][name]

    slopes = jax.jit(jax.jacrev(lambda params: {name: term(params, name) for name in LEARNERS}))(state.params)
    for name, learners in LEARNERS.items():
        assert {net for net, slope in slopes[name].items() if most(slope)} == learners, name


LEARNERS = {
    "q_loss": {"encoder", "q"},
    "kl_loss": {"encoder"},
    "triplet_loss": {"encoder"},
    "generator_loss": {"generator"},
    "perturbation_loss": {"perturbation"},
}


def updated(algorithm, data):
    """-> (state, batch, metrics) of one update"""

    def run(data):
        batch = algorithm.sample(data, jax.random.key(1))
        state = algorithm.init(jax.random.key(0), data)
        after, metrics = algorithm.update(state, batch, jax.random.key(2), jnp.int32(0))
        return after, batch, metrics

    return jax.jit(run)(data)


@pytest.mark.parametrize(
    "fields",
    [
        {"context_size": 1, "foreign_size": 1, "latent_dim": 1},
        {"relabel": "none", "context_size": 1, "foreign_size": 0},
    ],
)
def test_a_context_of_one_a_latent_of_one_two_tasks(data, fields):
    algorithm = make("mbml", **fields)
    two = jax.tree.map(lambda leaf: leaf[:2], data._replace(relabelled=()))
    two = two._replace(relabelled=() if fields.get("relabel") == "none" else pool_of(two.logs))
    after, _, metrics = updated(algorithm, two)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after, metrics)))


def test_a_pool_without_any_row_of_one_task(data):
    """Its context is its own rows; its pairs cost the margin."""
    pool = data.relabelled
    bare = data._replace(relabelled=Pool(pool.rows, pool.start, pool.size.at[1].set(0)))
    after, found, metrics = updated(make("mbml"), bare)
    assert not found.foreign.valid[1].any()
    assert found.foreign.valid[0].all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after, metrics)))


# ---- the policy ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def acting(state):
    return make("mbml").acting(state)


def row(n):
    return transitions(jax.tree.map(jnp.asarray, make_log(0)), jnp.int32(n))


def test_z_is_drawn_before_an_episode_from_what_all_before_have_shown(acting, nets):
    policy = make("mbml").policy
    memory = policy.begin(acting, jax.random.key(0))
    np.testing.assert_array_equal(memory.z, jax.random.normal(jax.random.key(0), (3,)))  # the prior
    first = policy.start(acting, memory, row(0).obs, jax.random.key(1))
    np.testing.assert_array_equal(first.z, jax.random.normal(jax.random.key(1), (3,)))
    seen = first
    for n in (4, 7):
        seen = policy.observe(acting, seen, row(n))
    np.testing.assert_array_equal(seen.z, first.z)  # not within the episode
    second = policy.start(acting, seen, row(0).obs, jax.random.key(2))
    rows = jax.tree.map(lambda *leaves: jnp.stack(leaves), row(4), row(7))
    q = posterior(nets.encoder, acting.params["encoder"], acting.scales.inputs, rows)
    noise = jax.random.normal(jax.random.key(2), (3,))
    np.testing.assert_allclose(second.z, q.mean + jnp.sqrt(q.variance) * noise, rtol=1e-4, atol=1e-5)
    latent = policy.latent(acting, second)
    np.testing.assert_allclose(latent.mean, q.mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(latent.spread, jnp.sqrt(q.variance), rtol=1e-4)
    fresh = policy.begin(acting, jax.random.key(3))
    assert not fresh.seen.precision.any()


def test_z_may_follow_every_step(acting):
    policy = make("mbml", resample="step").policy
    memory = policy.start(acting, policy.begin(acting, jax.random.key(0)), row(0).obs, jax.random.key(1))
    assert not np.allclose(policy.observe(acting, memory, row(4)).z, memory.z)


def test_the_best_candidate_acts(acting, nets):
    """G_D's proposals of held noise, moved by Phi xi_D, of which Q_D takes its best; computed here one by one."""
    config, policy, obs, key = config_of(), make("mbml").policy, row(3).obs, jax.random.key(4)
    memory = policy.begin(acting, jax.random.key(0))
    features = acting.scales.inputs.obs(obs)
    noise = np.clip(jax.random.normal(key, (3, 4)), -0.5, 0.5)
    tried, values = [], []
    for one in noise:
        action = jnp.tanh(nets.actor.generator.apply(acting.params["generator"], features, one, memory.z))
        xi = jnp.tanh(nets.actor.perturbation.apply(acting.params["perturbation"], features, action, memory.z))
        tried.append(jnp.clip(action + config.perturbation_scale * xi, -1, 1))
        values.append(policy.value(acting, memory, obs, tried[-1]))
    assert np.ptp(values) > 0
    np.testing.assert_allclose(policy.act(acting, memory, obs, key, 0.0), tried[np.argmax(values)], rtol=1e-4)


def test_the_value_is_in_units_of_the_reward(acting, nets):
    policy = make("mbml").policy
    memory = policy.begin(acting, jax.random.key(0))
    features = acting.scales.inputs.obs(row(3).obs)
    standard = nets.q.apply(acting.params["q"], features, row(3).action, memory.z)[0]
    want = acting.scales.q_mean + acting.scales.q_std * standard
    np.testing.assert_allclose(policy.value(acting, memory, row(3).obs, row(3).action), want, rtol=1e-5)
    critic = make("mbml").critic
    held = critic.take(acting, memory)
    np.testing.assert_allclose(critic.q(held.params, held.held, features, row(3).action), want, rtol=1e-5)


def test_scales_are_those_of_the_values_that_are_there(data, state):
    size = np.asarray(data.logs.size)
    values = np.concatenate([np.asarray(data.teacher_q)[task, : size[task]] for task in range(3)])
    np.testing.assert_allclose([state.scales.q_mean, state.scales.q_std], [values.mean(), values.std()], rtol=1e-4)


def test_an_algorithm_made_to_act_cannot_sample(data):
    algorithm = mbml.make(config_of(), SPACE)
    with pytest.raises(AssertionError, match="no teachers"):
        algorithm.sample(data, jax.random.key(0))
