"""What every family promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.errors import UsageError
from pipelines.core.families import FAMILIES
from pipelines.core.types import transitions
from pipelines.tasks import registry
from tests.toys import play, uniform


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request):
    return registry.find(request.param)


@pytest.fixture(scope="module")
def logs(family):
    """(task, log) of uniform actions on the first and the last training task, to the middle of a third episode."""
    rows = int(2.5 * family.horizon)
    ends = (family.tasks("train")[0], family.tasks("train")[-1])
    return [(task, play(family, uniform(family.space), rows, task.row(), jax.random.key(3))) for task in ends]


def test_the_listing_tells_the_truth(family):
    entry = FAMILIES[family.name]
    assert (entry.num_train, entry.num_test) == (len(family.tasks("train")), len(family.tasks("test")))
    assert (entry.obs_dim, entry.action_dim) == (family.space.obs_dim, family.space.action_dim)
    assert entry.horizon == family.horizon


def test_tasks_are_told_apart(family):
    for split in ("train", "test"):
        tasks = family.tasks(split)
        assert len({task.id for task in tasks}) == len({task.name for task in tasks}) == len(tasks)
        assert all(list(task.params) == list(tasks[0].params) for task in tasks)
    assert family.tasks("no-such-split") == ()


def test_the_environment_pays_what_relabelling_computes(family, logs):
    """The one reward function on the stored float32 rows gives the stored rewards, to the last bit but one."""
    for task, log in logs:
        rows = transitions(log, np.arange(int(log.size)))
        paid = jax.vmap(family.reward, in_axes=(None, 0, 0, 0, 0))
        again = paid(jnp.asarray(task.row()), rows.obs, rows.action, rows.next_obs, rows.outcome)
        np.testing.assert_array_max_ulp(np.asarray(again), rows.reward, maxulp=2)
    (first, _), (_, other) = logs
    rows = transitions(other, np.arange(int(other.size)))
    again = paid(jnp.asarray(first.row()), rows.obs, rows.action, rows.next_obs, rows.outcome)
    assert np.abs(again - rows.reward).max() > 0.1  # the control: another task's rewards


def test_a_step_keeps_shapes_and_dtypes(family):
    task, space = jnp.asarray(family.tasks("train")[0].row()), family.space
    state, obs = jax.eval_shape(family.reset, task, jax.random.key(0))
    action = jax.ShapeDtypeStruct(space.action_shape, space.action_dtype)
    after = jax.eval_shape(family.step, task, state, action, jax.random.key(0))
    shapes = [(leaf.shape, leaf.dtype) for leaf in (obs, *after[1:])]
    assert shapes == [
        (space.obs_shape, space.obs_dtype),
        (space.obs_shape, space.obs_dtype),
        ((), "float32"),
        ((), "bool"),
        ((family.outcome_dim,), "float32"),
    ]
    kept = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), state, after[0])
    assert all(jax.tree.leaves(kept))


def test_episodes_end_at_the_horizon_or_at_a_terminal_row(family, logs):
    for _, log in logs:
        lengths = np.bincount(log.episode[: int(log.size)])
        assert (lengths <= family.horizon).all()
        if not family.terminates:
            assert not log.terminal.any()
            assert (lengths[:-1] == family.horizon).all()


def test_references_are_ordered(family):
    for task in family.tasks("test"):
        found = family.references(task)
        assert set(found) == {"random", "oracle", "ceiling"}
        assert found["random"] < found["oracle"]


def test_an_unknown_family_is_refused_with_the_nearest():
    with pytest.raises(UsageError) as caught:
        registry.find("point-semicircle/tiem")
    assert caught.value.hint == "did you mean point-semicircle/time?"
    assert "'point-semicircle/tiem'" in caught.value.cause


def test_every_listed_family_is_found_by_its_name():
    assert [registry.find(name).name for name in FAMILIES] == list(FAMILIES)
