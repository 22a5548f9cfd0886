"""The U maze: its goals, and its closed-form contact against MuJoCo models built in memory."""

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from pipelines.core.types import task_rows
from pipelines.tasks import registry, umaze
from pipelines.tasks.scripted import uniform
from tests.tasks.device import keeps_its_promises, random_rows, trial_returns

FAMILY = registry.find("umaze-goal/mbml-m")
CELLS = ("#####", "#GOO#", "###O#", "#OOO#", "#####")
TEST_GOALS = [
    *((0.609, 1.519), (1.123, 1.583), (1.128, 1.829), (0.861, 1.223), (0.639, 1.557)),
    *((2.855, 1.546), (2.714, 1.071), (2.452, 1.480), (2.535, 1.694), (2.727, 1.634)),
]

# ---- tasks, starts, rewards ------------------------------------------------------------------------------------------


def test_the_goals_are_the_facts():
    train, test = task_rows(FAMILY.tasks("train"), float), task_rows(FAMILY.tasks("test"), float)
    np.testing.assert_allclose(test, TEST_GOALS, atol=5.1e-4)
    extremes = [train[:5, 0].min(), train[:5, 0].max(), train[5:, 0].min(), train[5:, 0].max()]
    np.testing.assert_allclose(extremes, [0.447, 1.017, 2.436, 3.003], atol=5.1e-4)
    np.testing.assert_allclose([train[:, 1].min(), train[:, 1].max()], [1.164, 1.680], atol=5.1e-4)
    assert [task.id for task in FAMILY.tasks("test")] == list(range(10_000, 10_010))
    assert FAMILY.tasks("ood") == ()


def test_it_keeps_the_promises_of_a_family():
    rows = random_rows(FAMILY, 10_000)
    keeps_its_promises(FAMILY, rows)
    assert ((rows.reward > 0) & (rows.reward < 1)).all()
    assert (FAMILY.horizon, FAMILY.space.obs_dim, FAMILY.space.action_dim) == (300, 4, 2)


def test_episodes_begin_around_the_bend():
    keys = jax.random.split(jax.random.key(0), 5_000)
    first = np.asarray(jax.vmap(FAMILY.reset, in_axes=(None, 0))(jnp.zeros((2,)), keys)[1])
    assert (np.abs(first[:, :2] - [2, 3]) <= 0.1).all()
    np.testing.assert_allclose(first.std(0), [0.2 / np.sqrt(12)] * 2 + [0.1] * 2, rtol=0.05)
    np.testing.assert_allclose(first.mean(0), [2, 3, 0, 0], atol=0.006)


def test_the_reward_is_by_hand():
    place = np.array([0.6, 1.2, 9.0, 9.0])
    assert umaze.reward(np.array([0.9, 1.6]), None, None, place, None) == pytest.approx(np.exp(-0.5))


# ---- against MuJoCo --------------------------------------------------------------------------------------------------


@functools.cache
def model() -> mujoco.MjModel:
    """The maze in MuJoCo, a box for each wall cell."""
    spec = mujoco.MjSpec()
    spec.option.timestep, spec.option.gravity = 0.01, [0, 0, 0]
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_EULER
    for w, row in enumerate(CELLS):
        for h in np.flatnonzero(np.array(list(row)) == "#"):
            # two geoms' margins add up since MuJoCo 3 (the larger one counted before): the walls alone carry it
            box = {"type": mujoco.mjtGeom.mjGEOM_BOX, "size": [0.5] * 3, "margin": 0.002, "condim": 1}
            spec.worldbody.add_geom(pos=[w + 1, h + 1, 0.5], **box)
    ball = spec.worldbody.add_body(pos=[1.2, 1.2, 0.5])
    for name, axis in (("x", [1, 0, 0]), ("y", [0, 1, 0])):
        ball.add_joint(type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis, damping=1, name=name)
        motor = spec.add_actuator(target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.gear[0], motor.ctrlrange, motor.ctrllimited = 100, [-1, 1], True
    ball.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.1, 0, 0], density=1000, condim=1)
    return spec.compile()


def by_mujoco(start, actions):
    """States `[K, 4]` after each action, speeds cut to 5 before each step, and how many contacts each step had."""
    data, states, contacts = mujoco.MjData(model()), [], []
    data.qpos, data.qvel = start[:2], start[2:]
    for action in actions:
        data.qvel, data.ctrl = np.clip(data.qvel, -5, 5), action
        mujoco.mj_step(model(), data)
        states.append([*data.qpos, *data.qvel])
        contacts.append(data.ncon)
    return np.array(states), np.array(contacts)


@jax.jit
def by_us(start, actions):
    return jax.lax.scan(lambda state, action: (umaze.move(state, action),) * 2, start, actions)[1]


def both(start, actions):
    """Our states and MuJoCo's `[K, 4]`, from the same float32 numbers; the number of contacts `[K]`."""
    start, actions = np.asarray(start, np.float32), np.clip(np.asarray(actions, np.float32), -1, 1)
    return np.asarray(by_us(start, actions)), *by_mujoco(start, actions)


def wander(seed, num=300, held=10):
    """A start, and random actions held for `held` steps each."""
    rng = np.random.default_rng(seed)
    return np.array([2, 3, 0, 0]) + 0.1 * rng.normal(size=4), np.repeat(rng.uniform(-1, 1, (num // held, 2)), held, 0)


def test_the_ball_weighs_what_it_does_there():
    assert model().body_mass[1] == pytest.approx(umaze.MASS)
    assert pytest.approx(4.189, abs=5e-4) == umaze.MASS


def test_free_motion_is_mujocos():
    """To 1e-5, at full push up to the speed's bound (x), and coasting (y)."""
    ours, theirs, contacts = both([0.6, 2.9, 0.0, -0.3], np.tile([1.0, 0.0], (25, 1)))
    assert theirs[:, 2].max() > 5 and not contacts.any()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


CONTACTS = {
    "pressed": ([2, 3.0, 0, 0], [0.0, 1.0]),
    "hit at full speed": ([0.8, 2.8, 5, 0.0], [1.0, 0.0]),
    "slides over seams": ([1.8, 3.0, 0, 0], [0.05, 1.0]),
    "into an inner corner": ([1.8, 3.0, 0, 0], [1.0, 1.0]),
    "round the block's corner": ([1.8, 2.6, 0, 0], [-0.3, -1.0]),
    "along the block": ([0.8, 2.6, 0, 0], [0.2, -0.5]),
}


@pytest.mark.parametrize("name", CONTACTS)
def test_contact_is_mujocos(name):
    """To 1e-4 m and 1e-3 m/s over 200 steps."""
    start, action = CONTACTS[name]
    ours, theirs, contacts = both(start, np.tile(action, (200, 1)))
    assert contacts.max() >= (2 if "seam" in name or "inner" in name else 1)
    np.testing.assert_allclose(ours[:, :2], theirs[:, :2], atol=1e-4)
    np.testing.assert_allclose(ours[:, 2:], theirs[:, 2:], atol=1e-3)


def test_every_step_is_mujocos():
    """One step from each state of 24 MuJoCo episodes, on walls, edges, seams and corners: to 1e-6 m, 1e-4 m/s."""
    worst, several = np.zeros(4), 0
    for seed in range(24):
        start, actions = wander(seed, held=(1, 10, 30)[seed % 3])
        states, contacts = by_mujoco(np.asarray(start, np.float32), actions.astype(np.float32))
        before = states[:-1].astype(np.float32)
        after = np.asarray(jax.vmap(umaze.move)(before, actions[1:].astype(np.float32)))
        worst = np.maximum(worst, np.abs(after - states[1:]).max(0))
        several += (contacts > 1).sum()
    assert several > 100
    assert worst[:2].max() < 1e-6 and worst[2:].max() < 1e-4


def test_whole_episodes_are_mujocos():
    """24 episodes of 300 steps: the half to 1e-4 m, nine in ten to 5 mm; a corner hit head on spreads rounding."""
    pairs = [both(*wander(seed, held=(1, 10, 30)[seed % 3])) for seed in range(24)]
    assert np.mean([contacts.any() for _, _, contacts in pairs]) > 0.9
    errors = [np.abs(ours - theirs)[:, :2].max() for ours, theirs, _ in pairs]
    assert np.quantile(errors, 0.5) < 1e-4 and np.quantile(errors, 0.9) < 5e-3


def test_without_its_walls_it_would_part(monkeypatch):
    """The control: the same episodes without contact end elsewhere."""
    monkeypatch.setattr(umaze, "contact", lambda place, speed, free: jnp.zeros((2,)))
    start, actions = wander(0, held=30)
    alone = jax.lax.scan(lambda s, a: (umaze.move(s, a),) * 2, jnp.asarray(start, jnp.float32), jnp.asarray(actions))
    assert np.abs(alone[1] - by_mujoco(start, actions)[0])[:, :2].max() > 0.1


def test_it_stays_in_the_maze():
    """Full pushes in random directions for 40 episodes: never deeper in a wall than 6 cm (a fast step), and at rest
    against one by no more than 1 mm."""
    rng = np.random.default_rng(0)
    depths, deepest = [], 0.0
    for _ in range(40):
        actions = np.sign(np.repeat(rng.normal(size=(15, 2)), 20, 0))
        ours = np.asarray(by_us(jnp.asarray([2.0, 3, 0, 0]), jnp.asarray(actions, jnp.float32)))
        x, y = ours[:, 0], ours[:, 1]
        near = np.stack([np.clip(x, 1.3, 2.3), np.minimum(y, 2.3)])
        clear = np.stack([x - 0.4, 3.2 - x, y - 0.4, 3.2 - y, np.hypot(x - near[0], y - near[1]) - 0.1]).min(0)
        deepest = max(deepest, -clear.min())
        depths.append(clear[19::20][np.abs(ours[19::20, 2:]).max(1) < 1e-2])
    assert 0.005 < deepest < 0.06
    rest = np.concatenate(depths)
    assert len(rest) > 20 and rest.min() > -1e-3


# ---- references and pictures -----------------------------------------------------------------------------------------


def test_the_steered_ball_stays_at_its_goal():
    """All 20 goals: within 2 cm of the goal for the last 100 steps, so at least 100 x exp(-0.02) there."""
    rows = task_rows((*FAMILY.tasks("train"), *FAMILY.tasks("test")))

    def end(row, key):
        def one(carry, _):
            state, obs = carry
            state, obs, *_ = FAMILY.step(row, state, umaze.steer(row, obs), key)
            return (state, obs), obs

        return jax.lax.scan(one, FAMILY.reset(row, key), None, FAMILY.horizon)[1][-100:, :2]

    ends = np.asarray(jax.vmap(end)(rows, jax.random.split(jax.random.key(2), len(rows))))
    assert np.linalg.norm(ends - rows[:, None], axis=-1).max() < 0.02


def test_references_are_the_scripts():
    task = FAMILY.tasks("test")[0]
    found = FAMILY.references(task)
    oracle = trial_returns(FAMILY, FAMILY.scripted["oracle"], task_rows((task,)), 1)[0, 0]
    assert found["oracle"] == pytest.approx(oracle)
    assert 250 < oracle < 300
    random = trial_returns(FAMILY, uniform(FAMILY.space), task_rows((task,)), 400)[0]
    assert abs(found["random"] - random.mean()) < 4.5 * random.std() * np.sqrt(1 / 400 + 1 / 2_000)
    assert np.isnan(found["ceiling"])


def test_the_picture_shows_the_walls_that_are_there():
    found = FAMILY.scene(FAMILY.tasks("train")[0])
    walls = np.array([shape.numbers for shape in found.shapes if shape.role == "wall"])

    def in_wall(x, y):
        return ((np.abs(walls[:, 0] - x) < walls[:, 2]) & (np.abs(walls[:, 1] - y) < walls[:, 3])).any()

    assert in_wall(1.8, 1.3) and in_wall(0.2, 2) and in_wall(3.4, 3.4) and in_wall(1.8, 2.25)
    assert not in_wall(1.8, 2.4) and not in_wall(0.8, 0.4) and not in_wall(2.8, 3.2)
    (goal,) = (shape for shape in found.shapes if shape.role == "goal")
    assert goal.numbers[:2] == tuple(FAMILY.tasks("train")[0].params.values())
