import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.taskmap import TaskAxis

COLLECTIVE = re.compile(r"all-reduce|all-gather|all-to-all|collective-\w+|reduce-scatter")
needs_devices = pytest.mark.skipif("len(__import__('jax').local_devices()) < 2", reason="one device: nothing to cross")


def square(step, x):
    """One task: x [3] -> (x^2 + step, its sum)."""
    return x**2 + step, x.sum()


def rows(num_tasks):
    return np.arange(3 * num_tasks, dtype=np.float32).reshape(num_tasks, 3)


@pytest.mark.parametrize("num_tasks", [1, 2, 3, 5])
@pytest.mark.parametrize("how", ["map", "vmap", "auto"])
def test_every_task_gets_its_own_row(num_tasks, how):
    axis, x = TaskAxis(num_tasks, how), rows(num_tasks)
    squares, sums = axis.get(axis.over_tasks(square)(7, axis.put(x)))
    np.testing.assert_array_equal(squares, x**2 + 7)
    np.testing.assert_array_equal(sums, x.sum(1))


def test_tasks_are_padded_to_the_devices_and_cut_again():
    count = len(jax.local_devices())
    for num_tasks in range(1, 2 * count + 2):
        axis = TaskAxis(num_tasks)
        assert len(axis.devices) == min(count, num_tasks)
        assert axis.padded % len(axis.devices) == 0
        assert num_tasks <= axis.padded < num_tasks + len(axis.devices)
        held = axis.put(rows(num_tasks))
        assert held.shape == (axis.padded, 3)
        np.testing.assert_array_equal(held[num_tasks:], np.tile(rows(1), (axis.padded - num_tasks, 1)))  # task 0
        np.testing.assert_array_equal(axis.get(held), rows(num_tasks))
        assert len(held.sharding.device_set) == len(axis.devices)


def test_keys_are_put_like_any_leaf():
    axis, keys = TaskAxis(3), jax.random.split(jax.random.key(0), 3)
    drawn = axis.over_tasks(lambda step, key: jax.random.uniform(key))(0, axis.put(keys))
    np.testing.assert_array_equal(axis.get(drawn), jax.vmap(jax.random.uniform)(keys))


def test_a_checkpoint_goes_back_padded():
    axis = TaskAxis(3)
    held = axis.put(rows(3))
    back = axis.put_padded(np.asarray(held))
    assert back.sharding == held.sharding
    np.testing.assert_array_equal(axis.get(back), rows(3))


def test_unknown_mapping():
    with pytest.raises(ValueError, match="pmap"):
        TaskAxis(3, "pmap")


def test_donated_states_are_given_away_and_others_stay():
    axis = TaskAxis(3)
    state, data = axis.put(rows(3)), axis.put(rows(3))
    step = axis.over_tasks(lambda n, state, data: state + data, donate=(1,))
    after = step(0, state, data)
    assert state.is_deleted()
    assert not data.is_deleted()
    np.testing.assert_array_equal(axis.get(step(1, after, data)), 3 * rows(3))


def executables():
    """Every compiled program that is alive, by identity."""
    return {id(one): one for one in jax.local_devices()[0].client.live_executables()}


def compiled_by(function, *args):
    """The programs that calling `function`, which must stay alive meanwhile, compiled."""
    before = executables()
    function(*args)
    return [program for key, program in executables().items() if key not in before]


def text(program):
    return "".join(module.to_string() for module in program.hlo_modules())


def test_fed_with_its_own_output_it_compiles_once():
    """Once per device, and not again in the second call or the third."""
    axis = TaskAxis(3)
    step = axis.over_tasks(lambda n, x: x * 0.5 + n, donate=(1,))
    held = [axis.put(rows(3))]

    def again():
        held.append(step(len(held), held[-1]))

    assert len(compiled_by(again)) == len(jax.local_devices())
    assert not compiled_by(again)
    assert not compiled_by(again)


@pytest.mark.parametrize("how", ["map", "vmap"])
def test_step_is_shared_so_a_condition_on_it_stays_a_branch(how):
    """Mapped over tasks, the predicate would be an array and `cond` a `select` that computes both sides."""
    axis = TaskAxis(3, how)
    x = axis.put(rows(3))

    def heavy(x):
        return jax.lax.fori_loop(0, 9, lambda i, x: jnp.sin(x), x)

    def one(step, x):
        return jax.lax.cond(step > 2, heavy, lambda x: x, x)

    def own(step, x):
        return jax.lax.cond(x[0] > 2, heavy, lambda x: x, x)

    branches = [["conditional(" in text(p) for p in compiled_by(axis.over_tasks(f), 0, x)] for f in (one, own)]
    assert branches[0] == [True] * len(jax.local_devices())
    if how == "vmap":
        assert branches[1] == [False] * len(jax.local_devices())  # the control


@needs_devices
@pytest.mark.parametrize("how", ["map", "vmap"])
def test_no_device_waits_for_another(how):
    axis = TaskAxis(3, how)
    x = axis.put(rows(3))
    programs = compiled_by(axis.over_tasks(square), 0, x)
    assert len(programs) == len(jax.local_devices())
    assert all(len(program.local_devices()) == 1 and not COLLECTIVE.findall(text(program)) for program in programs)
    across = jax.jit(lambda x: x.sum()).lower(x).compile().as_text()  # the control: a sum over tasks must cross
    assert COLLECTIVE.findall(across)
