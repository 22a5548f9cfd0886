from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pipelines.core.learn import block, descend, polyak, stage_key, task_keys
from pipelines.core.types import Algorithm


def test_descend_by_hand():
    """d/dp (p - 3)^2 = -4 at p = 1; a step of 0.1 down gives 1.4."""

    def loss(p, goal):
        return (p - goal) ** 2, {"gap": goal - p}

    sgd = optax.sgd(0.1)
    p, _, metrics = descend(sgd, loss, jnp.float32(1), sgd.init(jnp.float32(1)), jnp.float32(3))
    np.testing.assert_allclose(p, 1.4, rtol=1e-6)
    assert metrics["gap"] == 2  # of the parameters before the step


def test_polyak_by_hand():
    found = polyak({"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([3.0, 4.0])}, 0.25)
    np.testing.assert_allclose(found["w"], [1.5, 1.0])


class Walk(NamedTuple):
    """A state that remembers every number it was updated with."""

    place: jax.Array
    seen: jax.Array


def walker():
    """An algorithm whose sample and update both use their key."""

    def update(state, batch, key, step):
        moved = Walk(state.place + batch + jax.random.normal(key), state.seen.at[step].add(1))
        return moved, {"step": jnp.float32(step)}

    return Algorithm(
        init=lambda key, data: Walk(jnp.float32(0), jnp.zeros(12, int)),
        sample=lambda data, key: data * jax.random.normal(key),
        update=update,
        acting=lambda state: state,
        acting_type=Walk,
        policy=None,
    )


def walk(sizes, key):
    """The state after blocks of `sizes`, and the last block's metrics."""
    algorithm, step = walker(), 0
    state, metrics = algorithm.init(key, None), {}
    for size in sizes:
        state, metrics = jax.jit(block(algorithm, size))(np.int32(step), state, jnp.float32(2), key)
        step += size
    return state, metrics


def test_blocks_of_any_size_make_the_same_draws():
    key = jax.random.key(0)
    whole, mean = walk([12], key)
    parts, last = walk([6, 2, 4], key)
    assert whole.place == parts.place
    np.testing.assert_array_equal(whole.seen, np.ones(12))
    np.testing.assert_array_equal(parts.seen, np.ones(12))
    assert mean["step"] == np.arange(12).mean()
    assert last["step"] == np.arange(8, 12).mean()
    assert walk([12], jax.random.key(1))[0].place != whole.place


def test_every_update_has_draws_of_its_own():
    places = [float(walk([size], jax.random.key(0))[0].place) for size in range(1, 6)]
    assert len(set(np.diff(places))) == 4


def test_stages_and_seeds_have_streams_of_their_own():
    pairs = [(seed, stage) for seed in range(3) for stage in ("collect", "train", "distill time")]
    drawn = {float(jax.random.uniform(stage_key(*pair))) for pair in pairs}
    assert len(drawn) == len(pairs)
    assert jnp.array_equal(jax.random.key_data(stage_key(1, "train")), jax.random.key_data(stage_key(1, "train")))


def test_a_task_more_disturbs_no_other_stream():
    key = stage_key(0, "collect")
    three, four = task_keys(key, [0, 90_000, 180_000]), task_keys(key, [0, 45_000, 90_000, 180_000])
    data = jax.random.key_data(four)
    np.testing.assert_array_equal(jax.random.key_data(three), data[np.array([0, 2, 3])])
    assert len(np.unique(data, axis=0)) == 4
