"""The bodies: against Gymnasium's environments, against the model, and what the papers' versions have otherwise."""

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from benchmarks import parity
from pipelines.core.errors import StageFailed
from pipelines.tasks import body as bodies
from pipelines.tasks import mujoco_engine, registry
from pipelines.tasks.bodies import ant, cheetah, hopper, humanoid, walker
from pipelines.tasks.body import View, load
from pipelines.tasks.task_lists import parameter_names

MADE = {
    "cheetah": cheetah.make(),
    "hopper": hopper.make(),
    "walker": walker.make(),
    "walker modern": walker.make("exact", "modern", 0.008),
    "ant by velocity": ant.make("velocity", False, "exact", "computed"),
    "ant by velocity, contacts": ant.make("velocity", True),
    "ant by place, lagged": ant.make("place", True, "lagged", "computed", "old"),
    "ant still": ant.make("place", False, places=lambda key: jnp.zeros(2)),
    "humanoid": humanoid.make(),
    "humanoid lagged": humanoid.make("lagged", "computed", "old"),
}


@pytest.fixture(params=MADE)
def made(request):
    return MADE[request.param]


def views(body, steps=3, count=4, seed=0):
    """What the engine shows of `count` bodies before and after the last of `steps` random control steps."""
    model = mujoco_engine.model_of(body)
    rng = np.random.default_rng(seed)
    noise = np.stack([np.asarray(body.noise(jax.random.key(n)), np.float64) for n in range(count)])
    state = np.zeros((count, mujoco.mj_stateSize(model, mujoco_engine.PHYSICS)))
    state[:, 1 : 1 + model.nq + model.nv] = np.concatenate(body.start(noise), -1)
    mover = mujoco_engine.physics(body, [model] * count, 2)
    after = mover.look(state, np.arange(count))
    for _ in range(steps):
        before = after
        low, high = model.actuator_ctrlrange.T
        state, after = mover.advance(state, rng.uniform(low, high, (count, model.nu)))
    mover.close()
    return before, after


# ---- Gymnasium v5 ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=parity.RIVALS)
def rivalry(request):
    """A rival and 1,000 random transitions of its environment."""
    rival = parity.RIVALS[request.param]
    return request.param, rival, parity.record(rival, 1_000)


def test_our_formulas_agree_with_gymnasium_on_its_own_data(rivalry):
    """Observation, reward terms, reward: to 1e-9. Termination: always."""
    name, _, seen = rivalry
    found = parity.formulas(parity.RIVALS[name], seen)
    assert found.pop("ended") == 0
    assert max(found.values()) < 1e-9
    assert len(found) == (5 if name in ("ant", "humanoid") else 3)
    assert seen.terminated.any() == (name != "halfcheetah")  # both outcomes were seen
    assert not seen.terminated.all()


def test_one_control_step_agrees_with_gymnasiums_without_a_warm_start(rivalry):
    """qpos and qvel: to 1e-9."""
    _, rival, seen = rivalry
    assert max(parity.one_step(rival, seen).values()) < 1e-9


def test_whole_transitions_agree_but_for_the_warm_start(rivalry):
    """Lagged as Gymnasium shows them: half of the observations to 1e-12, all to 2e-3 (PGS stops short: humanoid)."""
    name, rival, seen = rivalry
    found = parity.transitions(rival, seen, "lagged")
    assert found["obs"].median < 1e-12
    assert found["obs"].most < (2e-3 if name == "humanoid" else 1e-9)
    assert found["reward"].most < (1e-5 if name == "humanoid" else 1e-9)


def test_a_whole_transition_shows_the_exact_quantities_deviation(rivalry):
    """Where the reward or the observation is Cartesian, exact differs from lagged, by no more than results/parity.md
    says: 0.07 m/s of an ant's velocity, 0.7 of a humanoid's cvel."""
    name, rival, seen = rivalry
    found = parity.transitions(rival, seen, "exact")
    assert (found["reward"].most > 1e-4) == (name in ("ant", "humanoid"))
    assert (found["obs"].most > 0.1) == (name == "humanoid")
    assert found["reward"].most < 0.1
    assert found["obs"].most < 1.0


def test_the_listed_deviations_are_there(rivalry):
    """Each line of `deviations` and of SHARED, looked for in Gymnasium's own model, observations and rewards."""
    name, rival, seen = rivalry
    ours, lines = rival.body("exact"), " ".join(rival.deviations)
    assert (f"({ours.obs_dim} for {seen.obs.shape[-1]})" in lines) == (ours.obs_dim != seen.obs.shape[-1])
    extra = np.setdiff1d(np.arange(ours.obs_dim), rival.columns)
    shown = rival.body("lagged").observe(seen.after)[:, extra]
    if "always zero" in lines:
        np.testing.assert_array_equal(shown, 0)
    elif len(extra):
        np.testing.assert_array_equal(shown, seen.after.torso)
    if name == "halfcheetah":
        paid = registry.find("halfcheetah-dir/mql").reward(
            np.ones((1, 1)), seen.obs, seen.action, seen.obs, ours.measure(seen.before, seen.after, seen.dt)
        )
        np.testing.assert_allclose(paid - seen.reward, 0.05 * (seen.action**2).sum(-1), atol=1e-9)
    if name == "hopper":
        fast = seen.after._replace(qvel=np.full_like(seen.after.qvel, 12.0))
        np.testing.assert_array_equal(ours.observe(fast)[:, 5:11], 12)
    if name == "walker":
        paper = load(walker.make())
        assert (paper.geom_friction[4, 0], seen.model.geom_friction[4, 0]) == (0.9, 1.9)
        assert (paper.opt.timestep, seen.model.opt.timestep) == (0.004, 0.002)
        assert paper.body_mass[1] < seen.model.body_mass[1]
    if seen.terminated.any():  # the fallen are paid for being alive here, and not there
        tasks = np.tile(rival.task, (len(seen.action), 1))
        outcome = rival.body("lagged").measure(seen.before, seen.after, seen.dt)
        gap = rival.reward(tasks, seen.obs, seen.action, seen.obs, outcome) - seen.reward
        np.testing.assert_allclose(gap, rival.alive * seen.terminated, atol=1e-9)


def test_the_lag_is_of_the_size_that_is_listed(rivalry):
    """Metres, the largest: cheetah 0.03 (a sub-step of 0.01 s at 3 m/s), RK4 bodies a hundredth of that and less."""
    name, rival, seen = rivalry
    found = parity.lag(rival, seen)
    most = {"halfcheetah": 0.05, "hopper": 1e-4, "ant": 0.02, "walker": 2e-4, "humanoid": 2e-4}[name]
    assert most / 20 < found["torso"].most < most
    assert set(found) == ({"torso", "com", "cinert", "cvel"} if name == "humanoid" else {"torso"})


def test_a_lagged_cheetah_shows_the_torso_of_one_sub_step_earlier():
    body = cheetah.make("lagged")
    model = mujoco_engine.model_of(body)
    state = np.zeros((1, mujoco.mj_stateSize(model, mujoco_engine.PHYSICS)))
    state[0, 10:] = 1.0
    late = mujoco_engine.physics(body, [model], 1).advance(state, np.full((1, 6), 0.3))[1]
    short = dataclasses.replace(body, cartesian="exact", frame_skip=body.frame_skip - 1)
    early = mujoco_engine.physics(short, [model], 1).advance(state, np.full((1, 6), 0.3))[1]
    np.testing.assert_allclose(late.torso, early.torso, atol=1e-14)
    assert np.abs(late.torso - body.torso(late.qpos)).max() > 5e-3


# ---- what the papers' versions have otherwise ------------------------------------------------------------------------


def test_capsules_are_weighed_as_mujoco_1_31_weighed_them():
    """facts (mbml 1.4): torso, thigh, leg, foot; inertia m (3 r^2 + (L + r)^2) / 12 across, m r^2 / 2 along."""
    old, modern = load(walker.make()), load(walker.make(masses="modern"))
    np.testing.assert_allclose(old.body_mass[1:], [3.534, 3.927, 2.714, 2.941, 3.927, 2.714, 2.941], atol=5e-4)
    np.testing.assert_allclose(modern.body_mass[1:], [3.665, 4.058, 2.781, 3.167, 4.058, 2.781, 3.167], atol=5e-4)
    for row, radius, length in ((1, 0.05, 0.4), (2, 0.05, 0.45), (3, 0.04, 0.5), (4, 0.06, 0.2)):
        mass = 1000 * np.pi * radius**2 * (length + radius)
        across, along = mass * (3 * radius**2 + (length + radius) ** 2) / 12, mass * radius**2 / 2
        np.testing.assert_allclose(old.body_mass[row], mass, rtol=1e-12)
        np.testing.assert_allclose(np.sort(old.body_inertia[row]), np.sort([across, across, along]), rtol=1e-9)
    for field in ("geom_size", "geom_type", "geom_pos", "geom_friction", "jnt_range", "body_pos", "qpos0"):
        np.testing.assert_array_equal(getattr(old, field), getattr(modern, field))
    assert (old.body_invweight0[1:] != modern.body_invweight0[1:]).any()  # derived constants follow


@pytest.mark.parametrize("make", [ant.make, humanoid.make])
def test_old_masses_of_many_capsules_keep_spheres(make):
    """Every capsule loses pi r^3 rho / 3 of its mass, and only that."""
    arguments = ("velocity", False) if make is ant.make else ()
    modern, old = load(make(*arguments)), load(make(*arguments, masses="old"))
    capsules = modern.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE
    density = 5.0 if make is ant.make else 1000.0
    lost = np.zeros(modern.nbody)
    np.add.at(lost, modern.geom_bodyid[capsules], density * np.pi * modern.geom_size[capsules, 0] ** 3 / 3)
    np.testing.assert_allclose(old.body_mass, modern.body_mass - lost, rtol=1e-9)
    np.testing.assert_allclose(old.body_ipos[1], modern.body_ipos[1], atol=0.02)


def test_models_are_the_papers():
    """facts: totals, time steps, gears, frictions."""
    assert load(cheetah.make()).body_mass.sum() == pytest.approx(14)
    assert load(ant.make("place", True)).body_mass.sum() == pytest.approx(0.911, abs=5e-4)
    assert set(load(ant.make("place", True)).actuator_gear[:, 0]) == {150}
    steps = {"cheetah": 0.05, "hopper": 0.008, "walker": 0.016, "walker modern": 0.008, "humanoid": 0.015}
    for name, control_step in (steps | {"ant still": 0.05}).items():
        assert load(MADE[name]).opt.timestep * MADE[name].frame_skip == pytest.approx(control_step)
    friction = load(walker.make()).geom_friction
    np.testing.assert_allclose(friction[:, 0], [0.7, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 1.9])
    np.testing.assert_allclose(friction[:, 1:], 0.1)
    np.testing.assert_allclose(load(walker.make()).dof_damping, [0, 0, 0] + [0.1] * 6)


# ---- the model -------------------------------------------------------------------------------------------------------


def test_starts_are_disturbances_of_the_models_own_pose(made):
    model = load(made)
    qpos, qvel = made.start(np.zeros(np.shape(made.noise(jax.random.key(0)))))
    np.testing.assert_allclose(qpos, model.qpos0, atol=1e-15)
    np.testing.assert_array_equal(qvel, np.zeros(model.nv))


@pytest.mark.parametrize("name, size", [("cheetah", 0.1), ("hopper", 0.005), ("walker", 0.005), ("humanoid", 0.01)])
def test_starts_are_as_large_as_published(name, size):
    """Uniform qpos; qvel normal (cheetah) or uniform. 2,000 draws: standard deviations to 3%."""
    made, nq = MADE[name], load(MADE[name]).nq
    noise = np.asarray(jax.vmap(made.noise)(jax.random.split(jax.random.key(0), 2_000)), np.float64)
    qpos, qvel = made.start(noise)
    away = qpos - load(made).qpos0
    assert np.abs(np.delete(away, range(3, 7), 1) if nq == 24 else away).max() <= size
    np.testing.assert_allclose(away[:, -1].std(), size / np.sqrt(3), rtol=0.03)
    np.testing.assert_allclose(qvel.std(), size if name == "cheetah" else size / np.sqrt(3), rtol=0.03)


def test_a_disturbed_quaternion_is_a_unit_one():
    for name in ("ant by velocity", "humanoid"):
        noise = np.asarray(MADE[name].noise(jax.random.key(3)), np.float64)
        qpos, _ = MADE[name].start(noise)
        assert np.linalg.norm(qpos[3:7]) == pytest.approx(1, abs=1e-12)
        assert np.abs(qpos[4:7]).max() > 1e-4


def test_the_torso_is_where_the_model_has_it(made):
    model = load(made)
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    for _ in range(5):
        data.qpos[:] = model.qpos0 + rng.normal(0, 0.3, model.nq)
        mujoco.mj_kinematics(model, data)
        np.testing.assert_allclose(made.torso(data.qpos), data.xpos[1], atol=1e-12)


def test_a_body_says_how_much_it_shows(made):
    before, after = views(made)
    assert made.observe(after).shape == (4, made.obs_dim)
    assert made.measure(before, after, 0.05).shape == (4, len(made.outcome))
    assert load(made).nu == made.action_dim
    assert np.isfinite(made.observe(after)).all()


def test_contact_forces_are_zero_or_computed():
    seen = [made.observe(views(made, steps=20)[1]) for made in (ant.make("velocity", True), _computed_ant())]
    np.testing.assert_array_equal(seen[0][:, 27:], 0)
    assert np.abs(seen[1][:, 27:]).max() == 1  # cut
    np.testing.assert_array_equal(seen[0][:, :27], seen[1][:, :27])  # what is shown does not move the body
    quiet, loud = (humanoid.make(contact_forces=forces) for forces in ("zero", "computed"))
    seen = [made.observe(views(made, steps=20)[1]) for made in (quiet, loud)]
    np.testing.assert_array_equal(seen[0][:, 292:], 0)
    assert np.abs(seen[1][:, 292:]).max() > 1
    np.testing.assert_array_equal(seen[0][:, :292], seen[1][:, :292])


def _computed_ant():
    return ant.make("velocity", True, contact_forces="computed")


def test_factors_reach_the_elements_that_their_names_say():
    names = parameter_names()
    task = np.ones(65)
    for name, value in (("mass/3", 2.0), ("inertia/4/y", 3.0), ("damping/7", 4.0), ("friction/0/roll", 5.0)):
        task[names.index(name)] = value
    found = walker.factors(np.stack([task, np.ones(65)]))
    assert {name: array.shape[1:] for name, array in found.items()} == {
        name: getattr(load(walker.make()), name).shape for name in found
    }
    assert (found["body_mass"][0, 3], found["body_inertia"][0, 4, 1]) == (2, 3)
    assert (found["dof_damping"][0, 7], found["geom_friction"][0, 0, 2]) == (4, 5)
    assert sum(np.sum(array != 1) for array in found.values()) == 4


# ---- the same functions on jax ---------------------------------------------------------------------------------------


def test_what_is_seen_and_measured_is_the_same_on_jax_in_float32(made):
    """Relative to 1 + size: 1e-5 seen; velocities divide float32 places by the control step, 1e-3."""
    before, after = views(made)
    small_before, small_after = (
        View(*(None if x is None else jnp.asarray(x) for x in view)) for view in (before, after)
    )
    seen = jax.jit(made.observe)(small_after)
    want = made.observe(after)
    assert np.max(np.abs(np.asarray(seen) - want) / (1 + np.abs(want)), initial=0) < 1e-5
    measured = jax.jit(made.measure, static_argnums=2)(small_before, small_after, 0.05)
    want = made.measure(before, after, 0.05)
    assert np.max(np.abs(np.asarray(measured) - want) / (1 + np.abs(want)), initial=0) < 1e-3
    if made.healthy is not None:
        np.testing.assert_array_equal(jax.jit(made.healthy)(small_after), made.healthy(after))
    one = View(*(None if x is None else x[0] for x in after))
    np.testing.assert_array_equal(made.observe(one), made.observe(after)[0])  # no leading axis at all


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [None, "<mujoco><worldbody><geom type='bal'/></worldbody></mujoco>", "no xml"])
def test_a_refused_model_names_the_file_and_what_mujoco_said(tmp_path, monkeypatch, text):
    path = tmp_path / "half_cheetah.xml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(bodies, "asset", lambda name: path)
    with pytest.raises(StageFailed) as caught:
        load(cheetah.make())
    assert str(path) in caught.value.cause
    assert mujoco.__version__ in caught.value.cause
    assert "\n" not in caught.value.cause
    if text is not None and "bal" in text:
        assert "bal" in caught.value.cause.split(": ", 1)[1]
