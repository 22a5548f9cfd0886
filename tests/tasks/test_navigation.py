"""BOReL's point robots: task lists, starts, the wall, and the reference returns of the facts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.types import task_rows
from pipelines.tasks import navigation, registry
from pipelines.tasks.searches import semicircle, sweep_path
from tests.tasks.device import keeps_its_promises, random_rows, trial_returns

SEMICIRCLE, WIND, ROOM = "point-semicircle-sparse/borel", "point-wind/borel", "escape-room/borel"


def rows_at(angles):
    return np.stack([angles, np.cos(angles), np.sin(angles)], -1)


def scripted(name, which, rows, episodes):
    family = registry.find(name, evaluation=True)
    return trial_returns(family, family.scripted[which], rows, episodes)


# ---- task lists and starts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, train, test", [(SEMICIRCLE, 80, 20), (WIND, 40, 10), (ROOM, 60, 5)])
def test_task_lists(name, train, test):
    family = registry.find(name)
    assert (len(family.tasks("train")), len(family.tasks("test")), family.tasks("ood")) == (train, test, ())
    both = [*family.tasks("train"), *family.tasks("test")]
    assert len({task.id for task in both}) == len({task.name for task in both}) == train + test


def test_the_lists_are_the_seeds():
    """The first draws of RandomState(0) and RandomState(73), typed."""
    goals = registry.find(SEMICIRCLE)
    np.testing.assert_allclose(
        [task.params["angle"] for task in goals.tasks("train")[:3]],
        np.pi * np.array([0.5488135, 0.71518937, 0.60276338]),
        rtol=1e-7,
    )
    np.testing.assert_allclose(
        np.degrees([task.params["angle"] for task in goals.tasks("test")[:3]]),
        [115.68418484, 96.95176757, 92.14163684],
        rtol=1e-9,
    )
    doors = registry.find(ROOM)
    for split in ("train", "test"):
        assert [t.params for t in doors.tasks(split)] == [
            t.params for t in goals.tasks(split)[: len(doors.tasks(split))]
        ]
    for task in goals.tasks("train"):
        assert task.id == round(1e6 * task.params["angle"])
        np.testing.assert_allclose([task.params["x"], task.params["y"]], rows_at(task.params["angle"])[1:])
    wind = registry.find(WIND).tasks("train")[0].params
    np.testing.assert_allclose([wind["x"], wind["y"]], [0.1 * 0.5488135 - 0.05, 0.1 * 0.71518937 - 0.05], rtol=1e-6)
    assert np.abs(task_rows(registry.find(WIND).tasks("train"))).max() <= 0.05


def starts(name, num=20_000):
    family = registry.find(name)
    keys = jax.random.split(jax.random.key(0), num)
    return np.asarray(jax.vmap(family.reset, in_axes=(None, 0))(jnp.asarray(family.tasks("train")[0].row()), keys)[1])


def test_starts_of_the_semicircle():
    uniform, excluding = starts(SEMICIRCLE), starts(f"{SEMICIRCLE},start=excluding")
    for places in (uniform, excluding):
        assert (places >= [-1.5, -0.5]).all() and (places <= [1.5, 1.5]).all()
    np.testing.assert_allclose(uniform.mean(0), [0, 0.5], atol=0.03)
    np.testing.assert_allclose(uniform.std(0), np.array([3, 2]) / np.sqrt(12), rtol=0.02)
    radius = np.linalg.norm(excluding, axis=1)
    assert not ((radius >= 0.8) & (radius <= 1.2)).any()
    # what is left keeps its weight: the share inside r < 0.8 is that of uniform starts outside the annulus, to 2%
    kept = uniform[~((lambda r: (r >= 0.8) & (r <= 1.2))(np.linalg.norm(uniform, axis=1)))]
    inner = [(np.linalg.norm(places, axis=1) < 0.8).mean() for places in (excluding, kept)]
    assert inner[0] == pytest.approx(inner[1], abs=0.02)
    assert not excluding[(excluding == 0).all(1)].size
    assert not starts(f"{SEMICIRCLE},start=fixed", 100).any()


def test_starts_of_the_room_and_the_wind():
    room = starts(ROOM)
    radius = np.linalg.norm(room, axis=1)
    np.testing.assert_allclose([radius.mean(), radius.std(), radius.max()], [0.5, 1 / np.sqrt(12), 1], atol=0.01)
    np.testing.assert_allclose(np.arctan2(room[:, 1], room[:, 0]).std(), 2 * np.pi / np.sqrt(12), rtol=0.02)
    assert not starts(f"{ROOM},start=fixed", 100).any()
    assert not starts(WIND, 100).any()


@pytest.mark.parametrize("name", [SEMICIRCLE, ROOM])
def test_evaluation_begins_at_the_origin_whatever_the_log_began_at(name):
    assert registry.find(name, evaluation=True).about.start == "(0, 0)" != registry.find(name).about.start


# ---- dynamics and rewards --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [SEMICIRCLE, f"{SEMICIRCLE},start=excluding", WIND, ROOM])
def test_they_keep_the_promises_of_a_family(name):
    family = registry.find(name)
    rows = random_rows(family, 10_000)
    keeps_its_promises(family, rows)
    assert set(np.unique(rows.reward)) <= {0.0, 1.0}
    assert family.dynamics == (name in (WIND, ROOM))
    if name != WIND:  # where random moves from the origin seldom arrive
        assert 0 < rows.reward.mean() < 0.5


def test_a_move_is_clipped_and_the_wind_is_added_after():
    family = registry.find(WIND)
    after = family.step(jnp.asarray([0.03, -0.02]), jnp.asarray([0.0, 0.9]), jnp.asarray([0.5, 0.05]), None)
    np.testing.assert_allclose(after[1], [0.13, 0.93], rtol=1e-6)
    assert after[2] == 1
    family = registry.find(SEMICIRCLE)
    row = jnp.asarray(rows_at(np.pi / 2), jnp.float32)
    after = family.step(row, jnp.asarray([0.0, 0.65]), jnp.asarray([0.0, 9.0]), None)
    np.testing.assert_allclose(after[1], [0, 0.75], rtol=1e-6)
    assert after[2] == 0
    assert family.step(row, after[1], jnp.asarray([0.0, 0.06]), None)[2] == 1


def by_hand(state, action, angle):
    """The wall's rule by a fine walk along the segment: where it first is in the ring, else the free move."""
    t = np.linspace(0, 1, 20_001)[:, None]
    path = state + t * action
    radius = np.linalg.norm(path, axis=1)
    met = np.flatnonzero((radius >= 0.999) & (radius <= 1.0))
    ahead = state + action
    if not len(met):
        return ahead, np.inf
    hit = np.arctan2(path[met[0], 1], path[met[0], 0])
    off = abs((hit - angle + np.pi) % (2 * np.pi) - np.pi)
    return (ahead if off <= np.pi / 16 else 0.99 * ahead / np.linalg.norm(ahead)), abs(off - np.pi / 16)


def test_the_wall_is_the_rule_walked_along_the_segment():
    """1,500 moves from inside, from the ring and from outside; those within 1e-4 rad of the door's edge may go either
    way. To 1e-5."""
    rng = np.random.default_rng(0)
    num = 1_500
    place, angle = rng.uniform(-np.pi, np.pi, num), rng.uniform(0, np.pi, num)
    angle[:400] = np.clip(place[:400] + rng.uniform(-0.3, 0.3, 400), 0, np.pi)  # doors near by
    angle[400:420], place[400:420] = np.pi, -np.pi + rng.uniform(0, 0.3, 20)  # and across the cut at pi
    radius = np.where(rng.random(num) < 0.8, rng.uniform(0.88, 1.1, num), rng.uniform(0, 1, num))
    radius[::10] = rng.uniform(0.9991, 0.9999, len(radius[::10]))  # in the ring itself
    state = (radius * np.stack([np.cos(place), np.sin(place)])).T.astype(np.float32)
    action = rng.uniform(-0.1, 0.1, (num, 2)).astype(np.float32)
    action[::97] = 0
    found = np.asarray(jax.vmap(navigation.walled)(rows_at(angle).astype(np.float32), state, action))
    want, margin = zip(*(by_hand(*case) for case in zip(state, action, angle, strict=True)), strict=True)
    sure = np.array(margin) > 1e-4
    # a segment that grazes the ring between two samples, or ends on it to rounding, is not judged
    ends = np.linalg.norm(state + action, axis=1)
    sure &= (np.abs(ends - 0.999) > 1e-5) & (np.abs(ends - 1.0) > 1e-5)
    assert sure.mean() > 0.97
    np.testing.assert_allclose(found[sure], np.array(want)[sure], atol=1e-5)
    moved = np.abs(found - (state + action)).max(1) > 1e-6
    assert 0.1 < moved.mean() < 0.6  # blocked and free moves, both


def test_nothing_leaves_but_through_the_door():
    """20,000 random moves that push outward: what got out crossed the wall within the door, to 0.1 rad of a step."""
    family = registry.find(ROOM)
    rows = random_rows(family, 20_000, seed=4)
    before, after = np.linalg.norm(rows.obs, axis=1), np.linalg.norm(rows.next_obs, axis=1)
    out = (before < 0.999) & (after > 1)
    assert out.sum() >= 20
    crossing = (rows.obs + rows.next_obs)[out] / 2
    cosine = (crossing * rows.task[out, 1:]).sum(1) / np.linalg.norm(crossing, axis=1)
    assert (np.arccos(np.clip(cosine, -1, 1)) < np.pi / 16 + 0.1).all()
    stopped = np.isclose(after, 0.99, atol=1e-6)
    assert stopped.sum() > 100


# ---- references of the facts -----------------------------------------------------------------------------------------


def test_semicircle_oracle_and_sweep():
    """53.60 an episode (53 to 55); a sweep that finds every goal, 41.64 then 53.60, 95.25 in sum: here within 0.2, as
    it must guess the goal from where it was paid."""
    rows = rows_at(np.linspace(0, np.pi, 721))
    oracle = scripted(SEMICIRCLE, "oracle", rows, 1)
    assert oracle.mean() == pytest.approx(53.60, abs=0.01)
    assert (oracle.min(), oracle.max()) == (53, 55)
    sweep = scripted(SEMICIRCLE, "search", rows, 2)
    assert sweep.min() > 0
    np.testing.assert_allclose(sweep.mean(0), [41.64, 53.60], atol=0.15)
    assert sweep.sum(1).mean() == pytest.approx(95.25, abs=0.2)


def test_the_sweep_moves_within_the_box():
    path = np.concatenate([np.zeros((1, 2)), sweep_path(60)])
    steps = np.abs(np.diff(path, axis=0)).max(1)
    assert steps.max() <= 0.1 + 1e-9
    np.testing.assert_allclose(np.linalg.norm(path[12:], axis=1), 0.88, atol=1e-9)


def test_a_sweep_that_is_never_told_finds_nothing():
    """The control: memory that never hears of a reward follows its path to the end and on."""
    deaf = semicircle(60)["search"]
    deaf = type(deaf)(deaf.begin, deaf.start, deaf.act, lambda s, m, row: m._replace(step=m.step + 1), None)
    rows = rows_at(np.linspace(0, np.pi, 73))
    returns = trial_returns(registry.find(SEMICIRCLE, evaluation=True), deaf, rows, 2)
    assert returns.sum(1).mean() < 30


def test_wind_oracle_and_feedback():
    """16.74 told, 16.74 by feedback, 16.72 blind, over 4,000 winds, to 0.005: this family hardly needs inference."""
    rows = np.random.default_rng(1).uniform(-0.05, 0.05, (4_000, 2))
    means = [scripted(WIND, which, rows, 1).mean() for which in ("oracle", "search", "blind")]
    np.testing.assert_allclose(means, [16.74, 16.74, 16.72], atol=0.005)


def test_room_with_a_known_door_and_sliding_along_its_wall():
    """51.6 with the door known; a slide takes 37.2 in its first episode (both to 0.1) and then goes straight out."""
    rows = rows_at(np.linspace(0, np.pi, 181))
    known = scripted(ROOM, "oracle", rows, 1)
    assert known.mean() == pytest.approx(51.6, abs=0.1)
    slide = scripted(ROOM, "search", rows, 2)
    assert slide.min() > 0
    np.testing.assert_allclose(slide.mean(0), [37.2, 51.6], atol=0.1)


@pytest.mark.parametrize("name", [SEMICIRCLE, WIND, ROOM])
def test_references_are_the_scripts_and_of_the_fixed_start(name):
    family = registry.find(name)
    tasks = family.tasks("test")[:3]
    found = [family.references(task) for task in tasks]
    assert found == [family.references(task) for task in tasks]
    episodes = 1 if name == WIND else 2
    for which, key, count in (("oracle", "oracle", 1), ("search", "ceiling", episodes)):
        np.testing.assert_allclose([f[key] for f in found], scripted(name, which, task_rows(tasks), count).mean(1))
    for f in found:
        assert f["random"] < f["ceiling"] <= f["oracle"]


# ---- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [SEMICIRCLE, WIND, ROOM])
def test_pictures(name):
    family = registry.find(name)
    for task in family.tasks("test"):
        found = family.scene(task)
        assert [shape.role for shape in found.shapes].count("goal") == 1
        for shape in found.shapes:
            points = np.reshape(shape.numbers if shape.kind == "line" else shape.numbers[:2], (-1, 2))
            assert (points >= found.low).all() and (points <= found.high).all()
    if name == ROOM:
        wall, door = (np.reshape(shape.numbers, (-1, 2)) for shape in found.shapes)
        np.testing.assert_allclose(np.linalg.norm(wall, axis=1), 1)
        np.testing.assert_allclose([wall[0], wall[-1]], [door[-1], door[0]], atol=1e-12)
        assert np.arccos(np.clip(door[0] @ door[-1], -1, 1)) == pytest.approx(np.pi / 8)
