"""What a stage that learns from relabelled rows reads: by hand on a few rows, on the fly beside stored."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import models
from pipelines.core.errors import WrongKind
from pipelines.core.samplers import foreign_rows, pair_rows, relabelled, some_of
from pipelines.core.trees import task_leaf, to_dict
from pipelines.core.types import Log, Relabelled, transitions
from pipelines.stages import relabelled as reading
from tests.lines import line
from tests.toys import Stored, make_log, run, stacked

from .relabelling import found_as, log_of, logs_of, rows_of

LENGTHS = ((4, 3), (2, 5, 1), (6,))


def logs():
    return [make_log(seed, lengths) for seed, lengths in enumerate(LENGTHS)]


def found(task, row, reward, next_obs=None, place=None):
    """Rows as an artifact holds them."""
    count = len(row)
    return Relabelled(
        log=np.zeros(count, np.int32),
        task=np.array(task, np.int32),
        row=np.array(row, np.int32),
        reward=np.array(reward, np.float32),
        spread=np.zeros(count, np.float32),
        next_obs=np.zeros((count, 0), np.float32) if next_obs is None else np.array(next_obs, np.float32),
        place=np.full(count, -1, np.int32) if place is None else np.array(place, np.int32),
    )


def artifact(rows, pair_size, **extra):
    """A relabelled-log of three tasks."""
    said = {"unit": "row", "apply": "stored", "logs": ["log"], "horizon": 5, **extra}
    card = SimpleNamespace(id="found", tasks=[{}] * 3, extra=said, config={"unit": said["unit"]})
    tree = {task_leaf(index): to_dict(one) for index, one in enumerate(rows)}
    return Stored(card, tree | {"pair_size": np.array(pair_size, np.int32)})


EMPTY = found([], [], [])
ROWS = (found([1, 1, 2], [0, 6, 3], [100, 101, 102]), EMPTY, found([0, 0], [1, 5], [200, 201]))
SIZES = [[0, 2, 1], [0, 0, 0], [2, 0, 0]]


def test_rows_are_looked_up_and_paid_anew():
    logged, new = relabelled(stacked(*logs()), ROWS[0])
    for at, (task, row) in enumerate([(1, 0), (1, 6), (2, 3)]):
        want = transitions(logs()[task], np.array([row]))
        for name in ("obs", "action", "next_obs", "terminal", "truncated"):
            np.testing.assert_array_equal(getattr(logged, name)[at], getattr(want, name)[0], err_msg=name)
            np.testing.assert_array_equal(getattr(new, name)[at], getattr(want, name)[0], err_msg=name)
        assert logged.reward[at] == want.reward[0]
    np.testing.assert_array_equal(new.reward, [100, 101, 102])


def test_where_dynamics_differ_successors_are_new_too():
    moved = found([1, 2], [0, 3], [100, 101], next_obs=[[1, 2, 3], [4, 5, 6]])
    logged, new = relabelled(stacked(*logs()), moved)
    np.testing.assert_array_equal(new.next_obs, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(logged.next_obs[0], transitions(logs()[1], np.array([0])).next_obs[0])
    np.testing.assert_array_equal(new.obs, logged.obs)


def test_any_shape_of_rows_is_looked_up():
    one = jax.tree.map(lambda leaf: np.stack([leaf[:2], leaf[1:]]), ROWS[0])
    logged, new = relabelled(stacked(*logs()), one)
    assert logged.obs.shape == (2, 2, 3)
    np.testing.assert_array_equal(new.reward, [[100, 101], [101, 102]])


@pytest.fixture(scope="module")
def pool():
    return jax.tree.map(jnp.asarray, reading.pool(artifact(ROWS, SIZES)))


@pytest.fixture(scope="module")
def stack_of_logs():
    return jax.tree.map(jnp.asarray, stacked(*logs()))


def test_a_pairs_rows_are_its_own(pool, stack_of_logs):
    draw = jax.jit(pair_rows, static_argnums=5)
    drawn = {
        (i, j): draw(stack_of_logs, pool, i, j, jax.random.key(0), 64) for i, j in [(0, 1), (0, 2), (2, 0), (1, 0)]
    }
    assert {pair: set(np.asarray(one.relabelled.reward).tolist()) for pair, one in drawn.items() if pair[0] != 1} == {
        (0, 1): {100.0, 101.0},
        (0, 2): {102.0},
        (2, 0): {200.0, 201.0},
    }
    assert drawn[0, 1].valid.all()
    assert not drawn[1, 0].valid.any()  # nothing was kept, and nothing breaks
    want = {np.float32(logs()[1].reward[0]), np.float32(logs()[1].reward[6])}
    assert set(np.asarray(drawn[0, 1].logged.reward)) == want


def test_rows_of_all_other_tasks_are_drawn_alike(pool, stack_of_logs):
    drawn = foreign_rows(stack_of_logs, pool, jnp.int32(0), jax.random.key(1), 3_000)
    counts = np.bincount(np.asarray(drawn.relabelled.reward).astype(int) - 100)
    assert len(counts) == 3
    assert np.abs(counts / 3_000 - 1 / 3).max() < 4 * np.sqrt(0.25 / 3_000)
    assert not foreign_rows(stack_of_logs, pool, jnp.int32(1), jax.random.key(1), 4).valid.any()


def test_a_pool_without_any_rows(stack_of_logs):
    pool = reading.pool(artifact((EMPTY,) * 3, np.zeros((3, 3))))
    drawn = pair_rows(stack_of_logs, jax.tree.map(jnp.asarray, pool), 0, 1, jax.random.key(0), 5)
    assert not drawn.valid.any()
    assert np.isfinite(drawn.relabelled.obs).all()


def test_some_rows_where_a_mask_holds():
    mask = jnp.arange(50) % 3 == 0  # 17 of them
    chosen = np.asarray(some_of(mask, jax.random.key(0), 6))
    assert len(set(chosen.tolist())) == 6
    assert (np.diff(chosen) > 0).all()
    assert (chosen % 3 == 0).all()
    few = np.asarray(some_of(mask, jax.random.key(0), 20))
    np.testing.assert_array_equal(few, [*range(0, 50, 3), 50, 50, 50])  # all there are, and then none
    assert some_of(mask, jax.random.key(0), 80).shape == (50,)
    keys = jax.random.split(jax.random.key(1), 2_000)
    counts = np.bincount(np.asarray(jax.vmap(lambda key: some_of(mask, key, 6))(keys)).ravel(), minlength=50)
    share = counts[::3] / 2_000
    assert np.abs(share - 6 / 17).max() < 4 * np.sqrt(0.25 / 2_000)


def test_episodes_of_another_length_take_the_places_they_were_given():
    """Task 0's second episode, three rows, gives way to the second of task 1, which has five."""
    rows = found([1] * 5, [2, 3, 4, 5, 6], [100, 101, 102, 103, 104], place=[1] * 5)
    one = artifact((rows, EMPTY, EMPTY), SIZES, unit="episode")
    mixed = reading.spliced(one, [stacked(*logs())])
    mine = Log(*(column[0] for column in mixed))
    assert mine.size == 4 + 5
    got, own, other = transitions(mine, np.arange(9)), logs()[0], logs()[1]
    np.testing.assert_array_equal(got.reward, [*own.reward[:4], 100, 101, 102, 103, 104])
    np.testing.assert_array_equal(got.obs[:4], transitions(own, np.arange(4)).obs)
    np.testing.assert_array_equal(got.next_obs[4:], transitions(other, np.arange(2, 7)).next_obs)
    np.testing.assert_array_equal(mine.step[:9], [0, 1, 2, 3, 0, 1, 2, 3, 4])
    np.testing.assert_array_equal(mine.episode[:9], [0] * 4 + [1] * 5)
    np.testing.assert_array_equal(mixed.size, [9, 8, 6])


def test_episodes_may_come_from_the_second_parent():
    rows = found([2] * 6, range(6), range(6), place=[0] * 6)._replace(log=np.ones(6, np.int32))
    one = artifact((rows, EMPTY, EMPTY), SIZES, unit="episode", logs=["log", "replay"])
    again = stacked(*(make_log(10 + seed, lengths) for seed, lengths in enumerate(LENGTHS)))
    mixed = reading.spliced(one, [stacked(*logs()), again])
    mine = Log(*(column[0] for column in mixed))
    np.testing.assert_array_equal(mine.obs[:7], make_log(12, (6,)).obs)
    np.testing.assert_array_equal(mine.reward[: mine.size], [*range(6), *logs()[0].reward[4:]])


# ---- on the fly ------------------------------------------------------------------------------------------------------

LEARNED = {"updates": 200, "block_updates": 100, "threshold": 0.5}


@pytest.mark.parametrize("layer", [{"reward": "known"}, LEARNED], ids=["known", "learned"])
def test_on_the_fly_the_same_rows_get_the_stored_rewards(layer, monkeypatch):
    found_as(line(num_tasks=3), monkeypatch)
    log = log_of(line(num_tasks=3))
    stored = run("relabel", {"log": log}, layer)
    kept = run("relabel", {"log": log}, layer, {"apply": "on-the-fly"})
    assert not any(name.startswith("task_") for name in kept.tree)
    asked = reading.asked(kept)
    judge = jax.jit(asked.judge)
    for index in range(3):
        rows = rows_of(stored, index)
        assert len(rows.row)
        mine = jax.tree.map(lambda leaf: leaf[index], (asked.ensembles, asked.tasks, asked.limits))  # noqa: B023
        logged, new = relabelled(stacked(*logs_of(log)), rows)
        judged = judge(*mine, logged)
        assert judged.passed.all()
        np.testing.assert_allclose(judged.reward, rows.reward, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(judged.spread, rows.spread, rtol=1e-4, atol=1e-6)
        foreign = models.on_the_fly(judged, logged)
        np.testing.assert_allclose(foreign.relabelled.reward, new.reward, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(foreign.relabelled.next_obs, logged.next_obs)
        np.testing.assert_array_equal(foreign.logged.reward, logged.reward)
        assert np.abs(judged.reward - logged.reward).max() > 0.1  # the control: as they were logged
    np.testing.assert_array_equal(kept.tree["pass_rate"], stored.tree["pass_rate"])
    with pytest.raises(WrongKind, match="does not hold ensembles: unit=row, apply=stored"):
        reading.asked(stored)
    with pytest.raises(WrongKind, match="does not hold single rows: unit=row, apply=on-the-fly"):
        reading.pool(kept)
    with pytest.raises(WrongKind, match="does not hold whole episodes"):
        reading.spliced(stored, [])
