"""The task lists against the numbers of the facts (mql 1.3, 9; mbml 1.4; borel 1)."""

import math

import numpy as np
import pytest

from pipelines.core.families import FAMILIES
from pipelines.tasks import navigation
from pipelines.tasks.task_lists import MAKERS, PARAMETERS, lists, parameter_names


def values(family, split, name="velocity"):
    return np.array([task.params[name] for task in lists(family)[split]])


def points(family, split):
    return np.array([[task.params["x"], task.params["y"]] for task in lists(family)[split]])


# ---- all of them -----------------------------------------------------------------------------------------------------


def test_every_locomotion_family_has_a_list_of_the_announced_size():
    announced = {name: entry for name, entry in FAMILIES.items() if entry.module == "locomotion"}
    assert set(MAKERS) == set(announced)
    for name, entry in announced.items():
        found = lists(name)
        sizes = tuple(len(found.get(split, ())) for split in ("train", "test", "ood"))
        assert sizes == (entry.num_train, entry.num_test, entry.num_ood), name


@pytest.mark.parametrize("name", MAKERS)
def test_ids_and_names_tell_the_tasks_of_a_split_apart(name):
    for split, tasks in lists(name).items():
        assert len({task.id for task in tasks}) == len({task.name for task in tasks}) == len(tasks)
        assert all(task.split == split and 0 <= task.id < 2**31 for task in tasks)
        assert len({tuple(task.params) for task in tasks}) == 1


@pytest.mark.parametrize("name", MAKERS)
def test_unseen_tasks_share_no_id_with_training_tasks(name):
    if name.endswith(("-dir/mql", "-fwd-back/mql")) and not name.startswith("humanoid"):
        assert lists(name)["train"][0].id == lists(name)["test"][0].id  # the very same tasks, as published
        return
    train = {task.id for task in lists(name)["train"]}
    assert all(task.id not in train for split, tasks in lists(name).items() if split != "train" for task in tasks)


# ---- velocities ------------------------------------------------------------------------------------------------------


def test_cheetah_mql_is_the_list_of_seed_1337():
    train, test = values("halfcheetah-vel/mql", "train"), values("halfcheetah-vel/mql", "test")
    np.testing.assert_allclose(train[:3], [0.78607, 0.47605, 0.83438], atol=5e-6)
    np.testing.assert_allclose(test[:3], [2.05096, 0.08307, 0.70153], atol=5e-6)
    assert train.mean() == pytest.approx(1.5246, abs=5e-5)
    assert test.mean() == pytest.approx(1.4177, abs=5e-5)
    assert -200 * test.mean() == pytest.approx(-283.5, abs=0.05)


def test_cheetah_mbml_is_the_hard_list():
    train = [0.689, 0.778, 1.099, 1.184, 1.191, 0.542, 1.005, 0.749, 1.249, 1.436]
    np.testing.assert_allclose(values("halfcheetah-vel/mbml", "train"), train, atol=5e-4)
    by_size = [0.5419, 0.6890, 0.7495, 0.7776, 1.0053, 1.0992, 1.1843, 1.1912, 1.2486, 1.4360]
    np.testing.assert_allclose(sorted(values("halfcheetah-vel/mbml", "train")), by_size, atol=5.1e-5)
    test = [0.925, 1.004, 1.010, 0.516, 1.232, 1.493, 0.663, 0.627]
    np.testing.assert_allclose(values("halfcheetah-vel/mbml", "test"), test, atol=5.1e-4)
    by_size = [0.5158, 0.6266, 0.6629, 0.9254, 1.0040, 1.0105, 1.2317, 1.4933]
    np.testing.assert_allclose(sorted(values("halfcheetah-vel/mbml", "test")), by_size, atol=5.1e-5)
    assert values("halfcheetah-vel/mbml", "test").mean() * -1000 == pytest.approx(-934, abs=0.5)
    ood = values("halfcheetah-vel/mbml", "ood")
    assert ((ood > 1.5) & (ood < 2.5)).all()


def test_cheetah_time_leaves_its_tests_midway():
    train, test = values("halfcheetah-vel/time", "train"), values("halfcheetah-vel/time", "test")
    np.testing.assert_allclose(train, [0.05 * k for k in range(1, 30)])
    np.testing.assert_allclose(test, [0.475, 1.075, 1.475])
    for velocity in test[:2]:  # the third is midway to the end of the interval
        assert np.sort(np.abs(train - velocity))[:2] == pytest.approx([0.025, 0.025])


def test_hopper_time_spans_its_interval():
    train = values("hopper-vel/time", "train")
    assert (train[0], train[-1]) == (0, 2.35)
    np.testing.assert_allclose(np.diff(train), 2.35 / 15)
    np.testing.assert_allclose(values("hopper-vel/time", "test"), [0.2, 1.1, 2.0])


def test_cheetah_borel_draws_from_0_to_3():
    drawn = np.concatenate([values("halfcheetah-vel/borel", split) for split in ("train", "test")])
    assert ((drawn > 0) & (drawn < 3)).all()
    assert 1.3 < drawn.mean() < 1.7  # standard error 0.08


# ---- directions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["ant-dir/mbml", "humanoid-dir/mbml-m", "humanoid-dir/mbml"])
def test_mbmls_directions(family):
    train = [1.235, 0.748, 1.513, 1.820, 0.589, 2.089, 1.702, 0.885, 1.947, 0.939]
    np.testing.assert_allclose(values(family, "train", "angle"), train, atol=5.1e-4)
    by_size = [33.77, 42.84, 50.71, 53.78, 70.75, 86.67, 97.54, 104.29, 111.55, 119.67]
    np.testing.assert_allclose(np.degrees(sorted(values(family, "train", "angle"))), by_size, atol=5.1e-3)
    test = [51.05, 60.48, 61.26, 1.90, 87.80, 119.20, 19.55, 15.20]
    np.testing.assert_allclose(np.degrees(values(family, "test", "angle")), test, atol=6e-3)
    ood = np.degrees(values(family, "ood", "angle"))
    assert ((ood > 120) & (ood < 180)).all()


def test_forward_and_backward():
    np.testing.assert_array_equal(values("halfcheetah-dir/mql", "train", "direction"), [-1, 1])  # backward first
    np.testing.assert_array_equal(values("ant-fwd-back/mql", "train", "angle"), [0, math.pi])


def test_humanoid_mql_begins_as_seed_0_does():
    np.testing.assert_allclose(values("humanoid-dir/mql", "train", "angle")[:2], [3.4483, 4.4937], atol=5e-5)
    drawn = values("humanoid-dir/mql", "train", "angle")
    assert ((drawn > 0) & (drawn < 2 * math.pi)).all()


# ---- goals -----------------------------------------------------------------------------------------------------------


def test_ant_goal_mql_begins_as_seed_0_does():
    np.testing.assert_allclose(points("ant-goal/mql", "train")[0], [-1.1607, -0.3676], atol=5e-5)
    np.testing.assert_allclose(points("ant-goal/mql", "test")[0], [0.7541, 1.0304], atol=5e-5)
    test = points("ant-goal/mql", "test")
    assert -200 * np.abs(test).sum(-1).mean() == pytest.approx(-487, abs=0.5)


def test_ant_goal_mbml_is_a_sector():
    train = [
        *((1.591, 0.973), (2.248, 0.776), (0.886, 0.584), (1.701, 2.441), (1.563, 1.244)),
        *((1.243, 2.358), (2.281, 1.394), (-0.822, 1.605), (0.070, 1.934), (2.227, 0.548)),
    ]
    np.testing.assert_allclose(points("ant-goal/mbml", "train"), train, atol=6e-4)
    test = [
        *((-0.047, 2.187), (2.528, 1.049), (1.063, 0.733), (0.488, 2.894)),
        *((0.980, 1.694), (1.983, 0.778), (1.390, 1.632), (0.345, 0.153)),
    ]
    np.testing.assert_allclose(points("ant-goal/mbml", "test"), test, atol=6e-4)
    for split, low, high in (("train", 0, 120), ("test", 0, 120), ("ood", 120, 180)):
        x, y = points("ant-goal/mbml", split).T
        angle = np.degrees(np.arctan2(y, x))
        assert ((angle >= low) & (angle <= high) & (np.hypot(x, y) <= 3)).all()
    radii = np.hypot(*points("ant-goal/mbml", "train").T)
    np.testing.assert_allclose([radii.min(), radii.max()], [1.06, 2.98], atol=5e-3)
    gaps = points("ant-goal/mbml", "test")[:, None] - points("ant-goal/mbml", "train")
    nearest = np.linalg.norm(gaps, axis=-1).min(-1)
    np.testing.assert_allclose([nearest.min(), nearest.max()], [0.23, 0.93], atol=5.1e-3)


def test_ant_semicircle_borel_has_the_point_robots_goals():
    for split in ("train", "test"):
        found = points("ant-semicircle/borel", split)
        np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1)
        assert (found[:, 1] >= 0).all()
        assert lists("ant-semicircle/borel")[split] == navigation.semicircle_tasks(split)


# ---- walkers ---------------------------------------------------------------------------------------------------------


def exponents(task):
    """By group, e of the multipliers base^e."""
    row, found, at = task.row(np.float64), {}, 0
    for name, shape, base in PARAMETERS:
        count = shape[0] * shape[1]
        found[name] = np.log(row[at : at + count]) / math.log(base)
        at += count
    return found


@pytest.mark.parametrize("family, most", [("walker-params/mbml", 2.0), ("walker-params/mql", 3.0)], ids=str)
def test_walkers_multiply_every_element_within_the_published_range(family, most):
    drawn = [exponents(task) for split in ("train", "test") for task in lists(family)[split]]
    for name, shape, _ in PARAMETERS:
        group = np.stack([one[name] for one in drawn])
        assert group.shape[1] == shape[0] * shape[1]
        assert np.abs(group).max() < most
        assert np.abs(group).max() > 0.97 * most  # the whole range is used


def test_mbmls_walkers_are_those_of_its_seeds_in_its_order():
    for split, seed, count in (("train", 1337, 30), ("test", 2337, 8)):
        rng = np.random.RandomState(seed)
        for task in lists("walker-params/mbml")[split]:
            want = {name: rng.uniform(-2, 2, shape).ravel() for name, shape, _ in PARAMETERS}
            for name, drawn in exponents(task).items():
                np.testing.assert_allclose(drawn, want[name], atol=1e-12)
        assert len(lists("walker-params/mbml")[split]) == count


def test_mbmls_ood_walkers_lie_outside_group_by_group():
    """Every group of a task is wholly in (-3, -2) or wholly in (2, 3)."""
    signs = set()
    for task in lists("walker-params/mbml")["ood"]:
        for drawn in exponents(task).values():
            assert ((np.abs(drawn) >= 2) & (np.abs(drawn) <= 3)).all()
            assert len(set(np.sign(drawn))) == 1
            signs.add(np.sign(drawn)[0])
    assert signs == {-1, 1}


def test_walker_parameters_are_named_in_the_order_of_the_draws():
    names = parameter_names()
    assert len(names) == len(set(names)) == 65
    assert names[:2] == ("mass/0", "mass/1")
    assert names[8:11] == ("inertia/0/x", "inertia/0/y", "inertia/0/z")
    assert (names[32], names[41], names[-1]) == ("damping/0", "friction/0/slide", "friction/7/roll")
    assert tuple(lists("walker-params/mql")["test"][0].params) == names
