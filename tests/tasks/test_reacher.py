"""The arm seen from above: its mechanics against MuJoCo, its pictures against its joints."""

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from pipelines.core.types import task_rows
from pipelines.tasks import reacher, registry
from pipelines.tasks.reacher import PIXEL, SIZE, WRIST_LIMIT, Arm, draw, joints, position, swing
from tests.tasks.device import keeps_its_promises, random_rows, trial_returns

FAMILY = registry.find("reacher-image/borel")
HALF = PIXEL / 2

# ---- tasks and promises ----------------------------------------------------------------------------------------------


def test_targets_lie_on_the_quarter_circle():
    for split, first, num in (("train", 0.5488135, 40), ("test", 115.68418484 / 180, 10)):
        tasks = FAMILY.tasks(split)
        assert len(tasks) == len({task.id for task in tasks}) == num
        assert tasks[0].params["angle"] == pytest.approx(np.pi / 2 * (1 + first), rel=1e-7)
        rows = task_rows(tasks, float)
        assert ((rows[:, 0] >= np.pi / 2) & (rows[:, 0] <= np.pi)).all()
        np.testing.assert_allclose(np.linalg.norm(rows[:, 1:], axis=1), 0.13)
        np.testing.assert_allclose(np.arctan2(rows[:, 2], rows[:, 1]), rows[:, 0])
    assert FAMILY.tasks("ood") == ()


def test_it_keeps_the_promises_of_a_family():
    rows = random_rows(FAMILY, 1_000, envs=10)
    keeps_its_promises(FAMILY, rows)
    assert FAMILY.space.obs_dim == 12_288 and FAMILY.space.obs_dtype == "uint8"
    assert (FAMILY.outcome, FAMILY.horizon) == (("fingertip_x", "fingertip_y"), 100)


def test_the_reward_is_the_distance_by_hand():
    task = np.array([[2.0, -0.1, 0.05], [2.0, 0.2, 0.0]])
    found = FAMILY.reward(task, None, None, None, np.array([[-0.1, 0.09], [0.17, -0.04]]))
    np.testing.assert_allclose(found, [-0.04, -0.05])


# ---- mechanics -------------------------------------------------------------------------------------------------------


@functools.cache
def model() -> mujoco.MjModel:
    """The same arm in MuJoCo, without the wrist's stop."""
    spec = mujoco.MjSpec()
    spec.option.timestep, spec.option.integrator = 0.02, mujoco.mjtIntegrator.mjINT_EULER
    spec.option.gravity = [0, 0, 0]
    spec.option.disableflags = mujoco.mjtDisableBit.mjDSBL_CONTACT
    body, names = spec.worldbody, ("shoulder", "wrist")
    for name, length, place in zip(names, (0.12, 0.1), ([0, 0, 0], [0.12, 0, 0]), strict=True):
        body = body.add_body(pos=place)
        body.add_joint(type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 0, 1], damping=0.01, name=name)
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=[0, 0, 0, length, 0, 0], size=[0.01, 0, 0])
        spec.add_actuator(target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT).gear[0] = 0.05
    finger = body.add_body(pos=[0.12, 0, 0])
    finger.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.01, 0, 0])
    return spec.compile()


def by_mujoco(angles, speeds, actions):
    """`[K, 4]` angles and speeds after each control step of four steps; the fingertip `[K, 2]`."""
    data, rows, tips = mujoco.MjData(model()), [], []
    data.qpos, data.qvel = angles, speeds
    for action in actions:
        data.ctrl = action
        mujoco.mj_step(model(), data, 4)
        rows.append([*data.qpos, *data.qvel])
        mujoco.mj_kinematics(model(), data)
        tips.append(data.xpos[3, :2].copy())
    return np.array(rows), np.array(tips)


@jax.jit
def by_us(angles, speeds, actions):
    def one(arm, action):
        arm = swing(arm, action)
        return arm, (jnp.concatenate([*arm]), joints(arm.angles)[2])

    return jax.lax.scan(one, Arm(angles, speeds), actions)[1]


def test_the_mass_matrix_is_mujocos():
    for wrist in (0.0, 1.1, -2.5):
        data, full = mujoco.MjData(model()), np.zeros((2, 2))
        data.qpos[1] = wrist
        mujoco.mj_forward(model(), data)
        mujoco.mj_fullM(model(), data, full)
        a, b, d = reacher.A, reacher.B * np.cos(wrist), reacher.D
        np.testing.assert_allclose(full, [[a + 2 * b, d + b], [d + b, d]], rtol=1e-9)


def test_the_arm_swings_as_mujocos():
    """20 control steps of random torques from 30 random states, where the wrist stays off its stop: to 1e-4."""
    rng, kept, fastest = np.random.default_rng(0), 0, 0.0
    for _ in range(30):
        angles, speeds = rng.uniform(-1, 1, 2), rng.uniform(-4, 4, 2)
        actions = rng.uniform(-1, 1, (20, 2))
        theirs, tips = by_mujoco(angles, speeds, actions)
        if np.abs(theirs[:, 1]).max() > WRIST_LIMIT - 0.3:
            continue
        ours, our_tips = by_us(*(np.asarray(part, np.float32) for part in (angles, speeds, actions)))
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
        np.testing.assert_allclose(our_tips, tips, atol=1e-5)
        kept, fastest = kept + 1, max(fastest, np.abs(theirs[:, 2:]).max())
    assert kept > 20 and fastest > 4


def test_the_wrist_stops():
    states, _ = by_us(np.zeros(2, np.float32), np.zeros(2, np.float32), np.tile(np.float32([0, 1]), (30, 1)))
    assert np.asarray(states)[:, 1].max() == pytest.approx(WRIST_LIMIT, rel=1e-6)
    assert np.asarray(states)[-1, 3] == 0
    back, _ = by_us(states[-1][:2], states[-1][2:], np.tile(np.float32([0, -1]), (5, 1)))
    assert back[-1][1] < WRIST_LIMIT - 0.5


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_the_fingertip_is_where_the_picture_is_brightest():
    """400 poses: to 2 mm, a fifth of a pixel (the hand covers part of the tip's edge), half of them to 0.6 mm."""
    angles = np.random.default_rng(0).uniform([-np.pi, -2.7], [np.pi, 2.7], (400, 2)).astype(np.float32)
    frames = np.asarray(jax.jit(jax.vmap(draw))(angles))
    tips = np.asarray(jax.vmap(lambda q: joints(q)[2])(angles))
    assert frames.dtype == np.uint8 and frames.max() == 255
    found = position(np.repeat(frames[..., None], 3, -1))
    apart = np.abs(found - tips).max(1)
    assert np.median(apart) < 6e-4 and apart.max() < 2e-3


def test_a_link_covers_what_it_should():
    """Stretched along x: a link's grey adds up to its width, above and below are symmetric, the rest is dark."""
    frame = np.asarray(draw(jnp.zeros((2,)))).astype(float)
    np.testing.assert_array_equal(frame, frame[::-1])
    x = (np.arange(SIZE) + 0.5) * PIXEL - 0.3
    column = frame[:, np.abs(x - 0.06).argmin()]
    assert column.sum() / reacher.LINK_GREY * PIXEL == pytest.approx(0.02, rel=0.02)
    bright = np.clip(frame - reacher.LINK_GREY, 0, None)
    assert (bright.sum(0)[x < 0.1] == 0).all()
    assert (frame[:, x < -0.011 - HALF] == 0).all() and (frame[:, x > 0.25 + HALF] == 0).all()
    assert frame[0].sum() == 0


def test_up_is_up():
    """The arm along y is in the upper half of the picture."""
    frame = np.asarray(draw(jnp.asarray([np.pi / 2, 0.0]))).astype(float)
    assert frame[: SIZE // 2].sum() > 5 * frame[SIZE // 2 :].sum()


def test_frames_move_up_the_stack():
    row = jnp.asarray(FAMILY.tasks("train")[0].row())
    state, first = FAMILY.reset(row, jax.random.key(0))
    first = np.asarray(first)
    np.testing.assert_array_equal(first[..., 0], first[..., 2])
    seen = [first]
    for action in ([1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]):
        state, obs, *_ = FAMILY.step(row, state, jnp.asarray(action), jax.random.key(0))
        seen.append(np.asarray(obs))
        np.testing.assert_array_equal(seen[-1][..., :2], seen[-2][..., 1:])
        np.testing.assert_array_equal(seen[-1][..., 2], draw(state.arm.angles))
        assert (seen[-1][..., 2] != seen[-2][..., 2]).sum() > 20


def test_the_target_is_not_seen():
    """The same play under two tasks looks the same, and pays differently."""
    one, other = (jnp.asarray(FAMILY.tasks("train")[n].row()) for n in (0, 1))
    state, _ = FAMILY.reset(one, jax.random.key(0))
    found = [FAMILY.step(task, state, jnp.asarray([0.4, 0.9]), jax.random.key(0)) for task in (one, other)]
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert abs(float(found[0][2] - found[1][2])) > 1e-3


# ---- references ------------------------------------------------------------------------------------------------------


def test_the_oracle_rests_on_its_target():
    """All 50 targets: 100 steps cost less than 1.5, of which all but the way there is less than 1e-3."""
    rows = task_rows((*FAMILY.tasks("train"), *FAMILY.tasks("test")))
    returns = trial_returns(FAMILY, FAMILY.scripted["oracle"], rows, 1)[:, 0]
    assert returns.min() > -1.5
    longer = type(FAMILY)(**{**vars(FAMILY), "horizon": 120})
    further = trial_returns(longer, FAMILY.scripted["oracle"], rows, 1)[:, 0]
    np.testing.assert_allclose(further, returns, atol=1e-3)


def test_references_are_ordered():
    task = FAMILY.tasks("test")[0]
    found = FAMILY.references(task)
    assert found["random"] < -10 < found["oracle"]
    assert found["oracle"] == pytest.approx(
        trial_returns(FAMILY, FAMILY.scripted["oracle"], task_rows((task,)), 1)[0, 0], abs=1e-4
    )
