"""What fields of SAC do: a temperature that is not learned, critics of their own width, a floor of the deviation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import sac
from pipelines.core.configs.algorithms import PearlConfig, SacConfig
from tests.toys import SPACE, make, make_log


def after(updates: int, name: str = "sac", **fields):
    """The state of SAC after some updates on a small log."""
    algorithm, log = make(name, **fields), jax.tree.map(jnp.asarray, make_log(0))
    state, update = algorithm.init(jax.random.key(0), log), jax.jit(algorithm.update)
    for number in range(updates):
        keys = jax.random.split(jax.random.key(number))
        state, metrics = update(state, algorithm.sample(log, keys[0]), keys[1], np.int32(number))
    return state, metrics


@pytest.mark.parametrize("name", ["sac", "cql"])
def test_a_temperature_that_is_not_learned_stays(name):
    kept, metrics = after(2, name, init_temperature=0.25, learn_temperature=False)
    learned, _ = after(2, name, init_temperature=0.25)
    kept, learned = getattr(kept, "sac", kept), getattr(learned, "sac", learned)
    np.testing.assert_allclose(kept.log_temperature, np.log(0.25), rtol=1e-6)
    assert learned.log_temperature != kept.log_temperature
    np.testing.assert_allclose(metrics["temperature"], 0.25, rtol=1e-6)
    assert metrics["entropy"] != 0


def test_critics_may_be_wider_than_the_actor():
    algorithm = make("sac", critic_hidden=(5, 6, 7))
    state = algorithm.init(jax.random.key(0), None)
    assert state.actor["Dense_0"]["kernel"].shape == (3, 8)
    shapes = [state.critics[f"Dense_{n}"]["kernel"].shape for n in range(4)]  # [E, in, out]
    assert shapes == [(2, 5, 5), (2, 5, 6), (2, 6, 7), (2, 7, 1)]
    assert np.isfinite(algorithm.q(algorithm.acting(state), jnp.zeros((4, 3)), jnp.zeros((4, 2)))).all()
    after(1, critic_hidden=(5, 6, 7))


def test_the_deviation_is_held_above_its_floor():
    """Acting, sampling and the config's own nets heed it."""
    out = jnp.array([0.0, 0.0, -50.0, -50.0])
    assert (sac.gaussian(out, -20.0)[1] == -20.0).all()
    assert (sac.gaussian(out)[1] == -10.0).all()
    nets = sac.nets_of(SacConfig(log_std_min=-1.0, hidden=(8,)), SPACE)
    assert nets.log_std_min == -1.0
    assert sac.nets_of(PearlConfig(), SPACE).log_std_min == -10.0
    action, log_prob = sac.sample_action(out, jax.random.key(0), -1.0)
    assert (jnp.abs(action) > 1e-3).all()
    assert log_prob < 10  # a density at a deviation of exp(-1)
    assert sac.sample_action(out, jax.random.key(0))[1] > 12
    params = jax.tree.map(jnp.zeros_like, nets.actor.init(jax.random.key(0)))
    params["Dense_1"]["bias"] = jnp.array([0.0, 0.0, -50.0, -50.0])
    acted = sac.act(nets.actor, params, jnp.zeros(3), jax.random.key(1), 1.0, -1.0)
    assert (jnp.abs(acted) > 1e-3).all()
    still = sac.act(nets.actor, params, jnp.zeros(3), jax.random.key(1), 1.0)
    assert (jnp.abs(still) < 1e-3).all()


def test_updates_heed_the_floor():
    """A floor that is above every deviation there is raises the noise, and so the loss of the actor."""
    assert after(1, log_std_min=1.9)[1]["entropy"] != after(1)[1]["entropy"]
