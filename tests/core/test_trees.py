from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.errors import WrongKind
from pipelines.core.trees import from_dict, stack, stack_logs, task_leaf, to_dict
from pipelines.core.types import Log, transitions
from tests.toys import make_log


class Inner(NamedTuple):
    mean: np.ndarray
    params: dict


class Outer(NamedTuple):
    inner: Inner
    scale: np.ndarray


TREE = Outer(Inner(jnp.arange(3.0), {"Dense_0": {"bias": jnp.ones(2), "kernel": jnp.zeros((2, 2))}}), jnp.int32(4))


def test_records_become_dicts_of_numpy_and_come_back():
    plain = to_dict(TREE)
    assert type(plain["inner"]) is dict
    assert type(plain["inner"]["params"]["Dense_0"]["bias"]) is np.ndarray
    assert plain["scale"].shape == ()
    back = from_dict(Outer, plain)
    assert type(back) is Outer
    assert type(back.inner) is Inner
    np.testing.assert_array_equal(back.inner.params["Dense_0"]["bias"], [1, 1])


def test_a_missing_field_is_named():
    plain = to_dict(TREE)
    del plain["inner"]["mean"]
    with pytest.raises(WrongKind, match=r"no Inner\.mean"):
        from_dict(Outer, plain)


def test_stack_gives_a_leading_axis():
    both = stack([TREE, TREE._replace(scale=jnp.int32(5))])
    np.testing.assert_array_equal(both.scale, [4, 5])
    assert both.inner.params["Dense_0"]["kernel"].shape == (2, 2, 2)


def test_shorter_logs_are_padded_past_their_size():
    logs = [make_log(0, (2, 1)), make_log(1, (4, 3, 2))]
    both = stack_logs([log._asdict() for log in logs])
    assert isinstance(both, Log)
    np.testing.assert_array_equal(both.size, [3, 9])
    assert both.obs.shape[:2] == (2, 12)
    assert both.reward.shape == (2, 9)
    for task, log in enumerate(logs):
        count = int(log.size)
        mine, own = (
            transitions(Log(*(column[task] for column in both)), np.arange(count)),
            transitions(log, np.arange(count)),
        )
        for found, want in zip(mine, own, strict=True):
            np.testing.assert_array_equal(found, want)


def test_task_leaves_sort_like_their_numbers():
    names = [task_leaf(index) for index in range(120)]
    assert names == sorted(names)
