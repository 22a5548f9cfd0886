"""Batch PEARL as MBML's code runs it: some tasks an update, the KL summed, rewards scaled by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.types import transitions
from tests.toys import data_of, make


@pytest.fixture(scope="module")
def logs():
    return jax.tree.map(jnp.asarray, data_of("batch-pearl"))


def test_an_update_may_see_some_tasks_drawn_with_repetition(logs):
    """Rows and contexts of one place are of one task: a reward tells its row, and no task's column is another's."""
    algorithm = make("batch-pearl", tasks_per_update=16, batch_size=5, context_size=4)
    batch = jax.jit(algorithm.sample)(logs, jax.random.key(0))
    assert batch.row.reward.shape == (16, 5)
    assert batch.context.obs.shape == (16, 4, 3)
    of = {float(logs.reward[task, n]): task for task in range(3) for n in range(int(logs.size[task]))}
    drawn = []
    for row, context in zip(batch.row.reward, batch.context.reward, strict=True):
        tasks = {of[float(reward)] for reward in [*row, *context]}
        assert len(tasks) == 1
        drawn.append(tasks.pop())
    assert set(drawn) == {0, 1, 2}  # sixteen draws of three
    others = jax.jit(algorithm.sample)(logs, jax.random.key(1))
    assert (others.row.reward != batch.row.reward).any()


def test_the_kl_may_be_summed_over_tasks(logs):
    """Three tasks: three times the mean, in the metric and in the encoder's gradient."""
    mean, summed = (make("batch-pearl", kl_over_tasks=over) for over in ("mean", "sum"))
    state = jax.jit(mean.init)(jax.random.key(0), logs)
    batch = mean.sample(logs, jax.random.key(1))
    found = [jax.jit(one.update)(state, batch, jax.random.key(2), jnp.int32(0)) for one in (mean, summed)]
    np.testing.assert_allclose(found[1][1]["kl"], 3 * found[0][1]["kl"], rtol=1e-5)
    first, second = (np.asarray(after.encoder["Dense_0"]["kernel"]) for after, _ in found)
    assert (first != second).any()


def test_rewards_may_be_scaled_as_the_config_says(logs):
    scaled = make("batch-pearl", scale_reward=False, reward_scale=0.2)
    norm = jax.jit(scaled.init)(jax.random.key(0), logs).sac.normaliser
    assert (norm.reward_mean, norm.reward_std) == (0.0, np.float32(0.2))
    fitted = jax.jit(make("batch-pearl").init)(jax.random.key(0), logs).sac.normaliser
    np.testing.assert_array_equal(norm.obs_std, fitted.obs_std)
    assert fitted.reward_std > 10  # the toys' rewards count up by 10


def test_unequal_logs_give_no_rows_that_they_lack(logs):
    batch = jax.jit(make("batch-pearl", tasks_per_update=64).sample)(logs, jax.random.key(0))
    held = {float(logs.reward[task, n]) for task in range(3) for n in range(int(logs.size[task]))}
    assert len(set(np.asarray(logs.size).tolist())) > 1
    assert {float(reward) for reward in np.ravel(batch.row.reward)} <= held


@pytest.mark.parametrize("resample", ["episode", "step"])
def test_first_episodes_may_draw_from_the_prior(logs, resample):
    """z of the first two is the noise itself, whatever was seen; that of the third is of the posterior of all of it."""
    policy = {n: make("batch-pearl", prior_episodes=n, resample=resample) for n in (0, 2)}
    acting = policy[0].acting(jax.jit(policy[0].init)(jax.random.key(0), logs))
    one = jax.tree.map(lambda leaf: leaf[0], logs)

    def played(algorithm):
        memory, told = algorithm.policy.begin(acting, jax.random.key(1)), []
        for episode in range(3):
            memory = algorithm.policy.start(acting, memory, one.obs[0], jax.random.key(2 + episode))
            told.append(memory)
            memory = algorithm.policy.observe(acting, memory, transitions(one, jnp.int32(episode)))
            told.append(memory)
        return told, algorithm.policy.latent(acting, memory)

    (exploring, known), (heeding, same) = played(policy[2]), played(policy[0])
    np.testing.assert_array_equal(known.mean, same.mean)
    for n in range(4):
        np.testing.assert_array_equal(exploring[n].z, exploring[n].noise)
    np.testing.assert_array_equal(exploring[4].z, heeding[4].z)
    assert (heeding[2].z != heeding[2].noise).any() and (exploring[4].z != exploring[4].noise).any()
