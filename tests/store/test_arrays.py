import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.errors import CheckFailed
from pipelines.store.arrays import described, disk_size, flatten, load, save, table
from pipelines.store.card import Leaf, content_digest
from pipelines.store.disk import size_of

from .making import start

DTYPES = ["bool", "uint8", "int8", "uint16", "int32", "uint32", "int64", "float16", "float32", "float64", "bfloat16"]


def through_the_disk(folder, tree):
    leaves = flatten(tree)
    save(folder, leaves)
    return load(folder, table(leaves))


def assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in expected:
            assert_same(found[name], expected[name])
    else:
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tobytes() == expected.tobytes()


def test_every_dtype_shape_and_emptiness_comes_back(tmp_path):
    tree = {dtype: np.arange(6).reshape(2, 3).astype(jnp.dtype(dtype)) for dtype in DTYPES}
    tree |= {
        "scalars": {dtype: np.asarray(1, jnp.dtype(dtype)) for dtype in DTYPES},
        "zero size": {"flat": np.zeros(0, np.float32), "tall": np.zeros((4, 0, 2), np.uint8)},
        "empty": {},
        "deep": {"empty": {"er": {}}, "x": np.array([np.nan, -0.0, np.inf], np.float32)},
    }
    assert_same(through_the_disk(tmp_path / "a", tree), tree)


@pytest.mark.parametrize("tree", [{}, {"a": {}}, {"a": np.zeros((0, 2), bool)}, {"a": np.float32(1.5)}], ids=str)
def test_trees_of_next_to_nothing(tmp_path, tree):
    expected = {name: leaf if isinstance(leaf, dict) else np.asarray(leaf) for name, leaf in tree.items()}
    assert_same(through_the_disk(tmp_path / "a", tree), expected)


def test_names_cannot_be_mistaken_for_one_another(tmp_path):
    names = ["a/b", "a.b", "a%2Fb", "a", "%", "", " ", "é", "a b", "..", "/", "A"]
    tree = {name: {"b": np.full(2, index, np.int32)} for index, name in enumerate(names)}
    assert_same(through_the_disk(tmp_path / "a", tree), tree)


def test_some_of_it_is_read_alone(tmp_path):
    """What is not asked for is not touched: its bytes may even be another table's."""
    tree = {name: {"x": np.full(3, index, np.int32), "none": np.zeros(0), "e": {}} for index, name in enumerate("abc")}
    tree |= {"odd/name": np.arange(4.0), "d": {}}
    leaves = flatten(tree)
    save(tmp_path / "a", leaves)
    for only in ({"b"}, {"a", "odd/name"}, {"d"}, set(), {"absent"}):
        found = load(tmp_path / "a", table(leaves), only)
        assert_same(found, {name: tree[name] for name in tree if name in only})
    other = table(leaves) | {"c/x": Leaf(dtype="int64", shape=(9,))}
    assert_same(load(tmp_path / "a", other, {"b"}), {"b": tree["b"]})
    with pytest.raises(CheckFailed, match="holds other arrays"):
        load(tmp_path / "a", other, {"c"})


def test_jax_arrays_scalars_and_odd_layouts_become_plain_numpy(tmp_path):
    grid = np.arange(6.0).reshape(2, 3)
    tree = {"jax": jnp.ones(2), "int": 3, "yes": np.True_, "strided": np.arange(10)[::3]}
    tree |= {"fortran": np.asfortranarray(grid), "big": grid.astype(">f4")}
    found = through_the_disk(tmp_path / "a", tree)
    assert all(type(leaf) is np.ndarray and leaf.dtype.isnative for leaf in found.values())
    assert found["jax"].dtype == np.float32
    np.testing.assert_array_equal(found["fortran"], grid)
    np.testing.assert_array_equal(found["big"], grid.astype(np.float32))
    np.testing.assert_array_equal(found["strided"], [0, 3, 6, 9])
    assert (found["int"].item(), found["yes"].item()) == (3, True)


@pytest.mark.parametrize("leaf", [[1, 2], (1,), "text", None, np.array(["x"]), np.array([object()]), np.complex64(1)])
def test_what_is_no_array_is_refused_by_name(leaf):
    with pytest.raises(TypeError, match="policy/mean"):
        flatten({"policy": {"mean": leaf}})


def test_typed_keys_are_refused_with_a_hint_and_names_must_be_strings():
    with pytest.raises(TypeError):
        flatten({"key": jax.random.key(0)})
    with pytest.raises(TypeError, match="not a string"):
        flatten({0: np.ones(2)})


def test_another_table_than_the_stored_one_is_noticed(tmp_path):
    leaves = flatten({"a": np.ones(3, np.float32), "b": np.ones(2)})
    save(tmp_path / "a", leaves)
    right = table(leaves)
    for wrong in (
        {"a": right["a"]},
        right | {"c": right["b"]},
        right | {"b": Leaf(dtype="float32", shape=(2,))},
        right | {"b": Leaf(dtype="float64", shape=(2, 1))},
        right | {"b": Leaf(dtype="dict")},
    ):
        with pytest.raises(CheckFailed):
            load(tmp_path / "a", wrong)
    with pytest.raises(CheckFailed, match="cannot be read"):
        load(tmp_path / "nowhere", right)


def random_tree(seed):
    rng = np.random.default_rng(seed)
    shapes = [tuple(rng.integers(1, 4, rng.integers(0, 4))) for _ in range(rng.integers(1, 6))]
    dtypes = [("f4", "f8", "i4", "u1")[rng.integers(4)] for _ in shapes]
    pairs = enumerate(zip(shapes, dtypes, strict=True))
    return {f"x{i}": {"leaf": np.asarray(rng.integers(0, 200, shape)).astype(dtype)} for i, (shape, dtype) in pairs}


def digest(tree):
    return content_digest(described(flatten(tree)), [], {})


@pytest.mark.parametrize("seed", range(20))
def test_digest_is_of_the_content(seed):
    tree = random_tree(seed)
    assert digest(random_tree(seed)) == digest(tree)
    assert digest(jax.tree.map(lambda leaf: np.asarray(leaf, order="F"), tree)) == digest(dict(reversed(tree.items())))
    name = sorted(tree)[seed % len(tree)]
    leaf = tree[name]["leaf"].copy()
    leaf[np.unravel_index(seed % leaf.size, leaf.shape)] += 1
    assert digest(tree | {name: {"leaf": leaf}}) != digest(tree)
    assert digest(tree | {name: {"leaf": leaf[None]}}) != digest(tree)
    assert digest(tree | {"more": {}}) != digest(tree)


def test_digest_tells_bits_not_values():
    assert digest({"x": np.float32([0.0])}) != digest({"x": np.float32([-0.0])})
    assert digest({"x": np.float32([1])}) != digest({"x": np.int32([1])})
    assert digest({"x": np.float32([1])}) == digest({"x": jnp.ones(1)})


@pytest.mark.parametrize("count, size", [(0, 0), (1, 0), (1, 1), (1, 100_000), (700, 10)])
def test_disk_size_is_enough(tmp_path, count, size):
    leaves = flatten({f"layer{index}": {"weight": np.ones(size, np.float32)} for index in range(count)})
    save(tmp_path / "a", leaves)
    rows = sum(len(path) + 250 for path in leaves)  # what a card says of them
    assert size_of(tmp_path) + rows <= disk_size(leaves) <= 4 * size * count + 1024 * count + 65536


def test_a_disk_that_fills_while_orbax_writes_is_one_error_and_no_noise(tmp_path):
    full = start("fill", tmp_path)
    out, errors = full.communicate(timeout=60)
    assert out == f"no room for 3000 leaves: it needs 100 bytes, 2000 free at {tmp_path}\n"
    assert (full.returncode, errors) == (0, "")
