import signal
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pipelines.core.errors import StageFailed, WrongKind
from pipelines.store.checkpoint import DiskCheckpoint
from pipelines.store.disk import files_under

from .making import Shelf, State, file_limit, recipe, start, state


class Everything(NamedTuple):
    params: dict
    optimiser: object
    key: jax.Array
    keys: jax.Array
    raw_key: jax.Array
    cursor: int
    rate: float
    done: bool
    replay: np.ndarray
    nothing: None
    empty: dict
    pair: tuple


def everything(seed=0):
    params = {
        "dense.0/w": jnp.arange(6.0).reshape(2, 3) + seed,
        "b": jnp.zeros((0, 2)),
        "half": jnp.ones(2, "bfloat16"),
    }
    key = jax.random.key(seed)
    return Everything(
        params,
        optax.chain(optax.clip(1.0), optax.adam(1e-3)).init(params),
        key,
        jax.random.split(jax.random.key(seed, impl="rbg"), (2, 3)),
        jax.random.PRNGKey(seed),
        2**40,
        0.1,
        True,
        np.arange(4, dtype=np.float64),
        None,
        {},
        (np.uint8(3), [np.float32(np.nan)]),
    )


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if hasattr(other, "dtype") and jax.dtypes.issubdtype(other.dtype, jax.dtypes.prng_key):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        elif hasattr(other, "dtype"):
            assert type(one) is np.ndarray
        else:
            assert type(one) is type(other)
        one, other = np.asarray(one), np.asarray(other)
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def test_everything_a_stage_keeps_comes_back_to_the_bit(tmp_path):
    checkpoint = DiskCheckpoint(tmp_path)
    assert checkpoint.load(everything()) is None
    checkpoint.save(7, everything(3))
    cursor, found = DiskCheckpoint(tmp_path).load(everything(0))
    assert cursor == 7
    assert_same(found, everything(3))
    jax.jit(lambda key, params: jax.random.normal(key) + params["dense.0/w"])(found.key, found.params)


def test_a_target_of_shapes_is_enough(tmp_path):
    def init():
        return {"w": jnp.ones((2, 3)), "key": jax.random.key(1)}

    DiskCheckpoint(tmp_path).save(1, init())
    _, found = DiskCheckpoint(tmp_path).load(jax.eval_shape(init))
    assert_same(found, init())


@pytest.mark.parametrize("tree", [{}, (), np.float32(2), [np.zeros((0,))]], ids=repr)
def test_small_trees(tmp_path, tree):
    DiskCheckpoint(tmp_path).save(0, tree)
    cursor, found = DiskCheckpoint(tmp_path).load(tree)
    assert cursor == 0
    assert_same(found, tree)


def test_the_two_newest_stay(tmp_path):
    checkpoint = DiskCheckpoint(tmp_path)
    for cursor in (2, 9, 10, 100):
        checkpoint.save(cursor, state(cursor))
    assert checkpoint.cursors() == [10, 100]
    assert checkpoint.load(state(0))[0] == 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000000010", "000000000100"]


def test_parts_keep_their_own(tmp_path):
    checkpoint = DiskCheckpoint(tmp_path)
    assert checkpoint.reached() is None
    for number, cursors in ((0, (5, 20)), (3, (7,))):
        for cursor in cursors:
            checkpoint.part(number).save(cursor, state(100 * number + cursor))
    assert checkpoint.reached() == 27
    assert checkpoint.cursors() == []
    for number, cursor in ((0, 20), (3, 7)):
        at, found = DiskCheckpoint(tmp_path).part(number).load(state(0))
        assert at == cursor
        assert_same(found, state(100 * number + cursor))
    assert checkpoint.part(1).load(state(0)) is None


def test_a_damaged_part_is_told_of_by_the_whole(tmp_path):
    checkpoint = DiskCheckpoint(tmp_path)
    checkpoint.part(2).save(4, state(4))
    (newest,) = (tmp_path / "part-0002").iterdir()
    (newest / "checkpoint.json").write_bytes(b"{")
    assert checkpoint.part(2).load(state(0)) is None
    assert checkpoint.ignored == [newest]


def test_every_damaged_file_makes_the_one_before_be_used(tmp_path):
    checkpoint = DiskCheckpoint(tmp_path)
    checkpoint.save(1, state(1))
    checkpoint.save(2, state(2))
    newest = tmp_path / f"{2:012d}"
    for path in files_under(newest).values():
        whole = path.read_bytes()
        for damaged in (whole[:-1] + bytes([whole[-1] ^ 4]) if whole else b"x", whole[: len(whole) // 2], None):
            if damaged == whole:
                continue
            path.unlink() if damaged is None else path.write_bytes(damaged)
            fresh = DiskCheckpoint(tmp_path)
            cursor, found = fresh.load(state(0))
            assert cursor == 1, path
            assert_same(found, state(1))
            assert fresh.ignored == [newest]
            path.write_bytes(whole)
    assert checkpoint.load(state(0))[0] == 2


def test_a_resumed_line_replaces_the_damaged_one(tmp_path):
    checkpoint = DiskCheckpoint(tmp_path)
    for cursor in (1, 2):
        checkpoint.save(cursor, state(cursor))
    (tmp_path / f"{2:012d}" / "checkpoint.json").write_bytes(b"{")
    assert checkpoint.load(state(0))[0] == 1
    checkpoint.save(2, state(22))
    assert checkpoint.cursors() == [1, 2]
    assert_same(checkpoint.load(state(0))[1], state(22))
    (tmp_path / f"{2:012d}" / "checkpoint.json").write_bytes(b"{")
    checkpoint.save(1, state(11))
    assert checkpoint.cursors() == [1]


def test_all_damaged_is_a_fresh_start(tmp_path):
    checkpoint = DiskCheckpoint(tmp_path)
    checkpoint.save(1, state(1))
    (tmp_path / f"{1:012d}" / "checkpoint.json").unlink()
    assert checkpoint.load(state(0)) is None


@pytest.mark.parametrize(
    "target",
    [
        State({"w": np.zeros((4, 4), np.float32)}, np.int32(0)),
        State({"w": np.zeros((4, 3), np.float64)}, np.int32(0)),
        State({"v": np.zeros((4, 3), np.float32)}, np.int32(0)),
        State({"w": np.zeros((4, 3), np.float32)}, 0),
        State({}, np.int32(0)),
        {"a": np.zeros(2)},
    ],
    ids=repr,
)
def test_another_structure_is_refused(tmp_path, target):
    checkpoint = DiskCheckpoint(tmp_path)
    checkpoint.save(1, state(1))
    with pytest.raises(WrongKind, match="written by other code") as refused:
        checkpoint.load(target)
    assert "--resume" in refused.value.hint


def test_due_follows_the_wall_clock(tmp_path):
    assert DiskCheckpoint(tmp_path, every_s=0).due()
    patient = DiskCheckpoint(tmp_path, every_s=3600)
    assert not patient.due()
    patient.save(1, state(1))
    assert not patient.due()


@pytest.mark.parametrize("limit", [100, 5_000, 200_000])
def test_a_full_disk_keeps_the_checkpoints_that_are_there(tmp_path, limit):
    checkpoint = DiskCheckpoint(tmp_path)
    checkpoint.save(1, state(1))
    large = {"w": np.random.default_rng(0).normal(size=(200, 200))}
    with (
        file_limit(limit),
        pytest.raises(StageFailed, match=f"needs {320_000 + 1024 + 65536} bytes, {limit} free at {tmp_path}"),
    ):
        checkpoint.save(2, large)
    assert [path.name for path in tmp_path.iterdir()] == [f"{1:012d}"]
    assert checkpoint.load(state(0))[0] == 1


@pytest.mark.parametrize("point", ["before-checkpoint", "in-checkpoint"])
def test_a_kill_keeps_the_checkpoint_before(tmp_path, point):
    shelf = Shelf(tmp_path)
    with shelf.claim(recipe()) as claim:
        DiskCheckpoint(claim.checkpoint).save(1, state(1))
    killed = start("checkpoint", tmp_path, fault=point)
    _, errors = killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL, errors
    with shelf.claim(recipe()) as claim:
        checkpoint = DiskCheckpoint(claim.checkpoint)
        cursor, found = checkpoint.load(state(0))
        assert cursor == 1
        assert_same(found, state(1))
        checkpoint.save(3, state(3))
        assert sorted(path.name for path in claim.checkpoint.iterdir()) == [f"{1:012d}", f"{3:012d}"]
