"""Learning rates that fall to zero: what learns goes on until then, and stays as it is afterwards."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import belief, dqn, sac
from pipelines.core.configs.algorithms import DqnConfig, SacConfig
from pipelines.core.learn import falling
from pipelines.core.normaliser import fixed
from tests.algos.test_belief import configured, trial_of
from tests.algos.test_dqn import chain
from tests.toys import GRID, SPACE, make, make_log

UPDATES = 6


def test_a_rate_falls_along_a_cosine():
    rate = falling(0.4, 10)
    assert callable(rate)
    np.testing.assert_allclose([rate(n) for n in (0, 5, 10, 20)], [0.4, 0.2, 0.0, 0.0], atol=1e-8)
    assert falling(0.4, None) == 0.4


def of_dqn(decay):
    space = GRID._replace(obs_shape=(1,), num_actions=2)
    algorithm = dqn.make(DqnConfig(hidden=(4,), batch_size=8, decay_updates=decay), space, 0.9)
    log = chain(True)
    return algorithm.init(jax.random.key(0), log), algorithm.sample(log, jax.random.key(1)), algorithm.update, "critics"


def of_sac(decay, part="actor"):
    algorithm = sac.make(SacConfig(hidden=(4,), batch_size=8, decay_updates=decay), SPACE, 0.9)
    log = jax.tree.map(jnp.asarray, make_log(0, (4, 3, 5)))
    return algorithm.init(jax.random.key(0), log), algorithm.sample(log, jax.random.key(1)), algorithm.update, part


def of_cql(decay):
    algorithm = make("cql", batch_size=8, lagrange_gap=1.0, decay_updates=decay)
    log = jax.tree.map(jnp.asarray, make_log(0, (4, 3, 5)))
    state, batch = algorithm.init(jax.random.key(0), log), algorithm.sample(log, jax.random.key(1))
    return state, batch, algorithm.update, "log_weight"


def of_belief(decay):
    model = belief.make(configured(decay_updates=decay, trial_episodes=1), SPACE, 3)
    batch = jax.tree.map(lambda leaf: leaf[None], trial_of())  # of one task
    return model.begin(jax.random.key(0), fixed(SPACE, 1.0, 1.0)), batch, model.update, "params"


LEARNERS = {
    "dqn": of_dqn,
    "sac, actor": of_sac,
    "sac, critics": lambda decay: of_sac(decay, "critics"),
    "sac, temperature": lambda decay: of_sac(decay, "log_temperature"),
    "cql, weight": of_cql,
    "belief": of_belief,
}


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("decay", [UPDATES, None])
def test_it_stands_still_once_the_rate_is_zero(name, decay):
    state, batch, update, part = LEARNERS[name](decay)
    states, update = [state], jax.jit(update)
    for n in range(UPDATES + 2):
        states.append(update(states[-1], batch, jax.random.key(n), jnp.int32(n))[0])
    leaves = [jax.tree.leaves(jax.tree.map(np.asarray, getattr(state, part))) for state in states]
    moved = [any((a != b).any() for a, b in zip(*pair, strict=True)) for pair in itertools.pairwise(leaves)]
    assert all(moved[:UPDATES])
    assert moved[UPDATES:] == [decay is None] * 2
