"""The belief's model: what an update draws, the scales, and images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import belief, belief_nets
from pipelines.core.samplers import Trials
from pipelines.nets import convolutional
from tests.toys import SPACE, make_log, stacked

from .test_belief import IMAGES, configured, trial_of


def data_of(space=SPACE):
    logs = stacked(*(make_log(seed, (3,) * (4 + seed), (), space) for seed in range(3)))
    first = np.array([[0, 6, 12, 12], [0, 6, 12, 12], [0, 6, 12, 18]], np.int32)
    return jax.tree.map(np.asarray, belief.Data(logs, Trials(first, np.array([2, 2, 3], np.int32))))


def test_an_update_keeps_the_state_in_shape_and_learns():
    config, data = configured(tasks_per_update=None, scale_obs=True, learning_rate=0.01), data_of()
    model = belief.make(config, SPACE, 3)
    state = jax.jit(model.init)(jax.random.key(0), data)
    batch = jax.jit(model.sample)(data, jax.random.key(1))
    assert batch.valid.shape == (3, 2, 6)
    update, first = jax.jit(model.update), None
    for n in range(40):
        after, metrics = update(state, batch, jax.random.key(2), jnp.int32(n))
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype), state
        )
        state, first = after, metrics["loss"] if first is None else first
    assert metrics["loss"] < 0.9 * first
    assert update._cache_size() == 1


def test_tasks_of_an_update_differ_and_stand_with_their_own_rows():
    data, model = data_of(), belief.make(configured(tasks_per_update=2), SPACE, 3)
    owners = {float(reward): t for t in range(3) for reward in np.asarray(data.logs.reward[t])}
    seen, sample = set(), jax.jit(model.sample)
    for n in range(20):
        found = np.asarray(sample(data, jax.random.key(n)).row.reward)
        tasks = [{owners[float(reward)] for reward in task.ravel()} for task in found]
        assert all(len(one) == 1 for one in tasks)
        assert tasks[0] != tasks[1]
        seen |= {one.pop() for one in tasks}
    assert seen == {0, 1, 2}


@pytest.mark.parametrize("fields", [{"scale_obs": True, "scale_reward": True}, {"scale_reward": True}, {}], ids=str)
def test_scales_are_those_of_the_log_that_are_asked_for(fields):
    data, model = data_of(), belief.make(configured(**fields), SPACE, 3)
    norm = jax.jit(model.init)(jax.random.key(0), data).norm
    rewards = np.concatenate([np.asarray(data.logs.reward[t, : data.logs.size[t]]) for t in range(3)])
    want = (rewards.mean(), rewards.std()) if fields.get("scale_reward") else (0.0, 1.0)
    np.testing.assert_allclose((norm.reward_mean, norm.reward_std), want, rtol=1e-4)
    assert bool((norm.obs_mean != 0).all()) == fields.get("scale_obs", False)


def test_images_stay_bytes_until_the_net():
    data = data_of(IMAGES)
    data = data._replace(logs=data.logs._replace(obs=np.abs(60 * data.logs.obs).astype(np.uint8)))
    config = configured(scale_obs=True)
    batch = jax.jit(belief.make(config, IMAGES, 3).sample)(data, jax.random.key(0))
    assert batch.row.next_obs.dtype == jnp.uint8
    norm = jax.eval_shape(functools.partial(belief_nets.fit_norm, config, IMAGES), data.logs)
    assert norm.obs_mean.shape == ()  # there is nothing to scale: the net divides


def test_many_images_go_through_the_net_some_at_a_time(monkeypatch):
    """And nothing else about them differs."""
    net = convolutional((20, 20, 1), 3)
    params, images = jax.jit(net.init)(jax.random.key(0)), trial_of(space=IMAGES).row.obs

    def total(params):
        seen = belief_nets.some_at_once(net, params, images, 3)
        return (seen**2).sum(), seen

    one = jax.jit(jax.grad(total, has_aux=True))(params)
    monkeypatch.setattr(belief_nets, "IMAGES", 4)
    other = jax.jit(jax.grad(total, has_aux=True))(params)
    assert one[1].shape == (2, 3, 3)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), one, other)
