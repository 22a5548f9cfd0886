"""The bodies on brax: the C engine's observations, rewards, starts and, under mjx, steps; what is refused or fails."""

import dataclasses
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from pipelines.core.errors import UsageError
from pipelines.tasks import brax_engine, registry
from pipelines.tasks.bodies import cheetah
from tests.tasks.beside import BATCH, CHEETAH, KEYS, Both, built, c_step, lift


@pytest.fixture(scope="module")
def both():
    return Both(CHEETAH, engine="brax")


# ---- the same family -------------------------------------------------------------------------------------------------


def test_space_tasks_outcome_and_reward_are_the_c_engines(both):
    device, host = both.device, both.host
    for field in ("space", "horizon", "discount", "outcome", "terminates", "dynamics"):
        assert getattr(device, field) == getattr(host, field)
    assert [device.tasks(split) for split in ("train", "test", "ood")] == [
        host.tasks(s) for s in ("train", "test", "ood")
    ]
    assert (device.engine, host.engine) == ("brax", "mujoco")
    assert device.about.differs[:-1] == host.about.differs  # and what the engine does otherwise
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, BATCH, 20))
    outcome = rng.normal(size=(BATCH, 1))
    args = (both.rows, obs, both.actions, next_obs, outcome)
    np.testing.assert_array_equal(device.reward(*args), host.reward(*args))


def test_the_same_noise_begins_the_same_episode(both):
    """To float32's rounding."""
    first, _ = c_step(both.host, both.rows, both.noise, both.actions)
    state, obs = both.begin()
    np.testing.assert_allclose(obs, first, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(state.obs, obs)
    assert (np.ptp(np.asarray(obs), axis=0) > 0).tolist() == [n != 18 for n in range(20)]  # y is always 0


def test_a_step_in_the_air_is_the_c_engines(both, monkeypatch):
    """qpos, qvel and the outcome after one control step (5 x 0.01 s), in float32, to 1e-5 (absolute and relative)."""
    lift(monkeypatch)
    first, want = c_step(built(CHEETAH), both.rows, both.noise, both.actions)
    state, obs = jax.jit(jax.vmap(built(CHEETAH, engine="brax").reset))(both.tasks, KEYS)
    np.testing.assert_allclose(obs, first, rtol=1e-6, atol=1e-6)
    _, obs, reward, terminal, outcome = both.step(both.tasks, state, jnp.asarray(both.actions, jnp.float32), KEYS)
    np.testing.assert_allclose(obs, want.obs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outcome, want.outcome, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(reward, want.reward, rtol=1e-5, atol=1e-5)
    assert not terminal.any() and not want.terminal.any()
    assert np.abs(want.obs - first).max() > 1  # the control: much moved


def test_a_step_on_the_ground_is_close_to_the_c_engines(both):
    """With contacts, whose solver stops at a tolerance: to 2e-3."""
    _, want = c_step(both.host, both.rows, both.noise, both.actions)
    _, obs, reward, *_ = both.go(both.actions)
    np.testing.assert_allclose(obs, want.obs, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(reward, want.reward, rtol=2e-3, atol=2e-3)


def test_actions_beyond_the_space_are_clipped(both):
    at_bound, beyond = both.go(np.sign(both.actions)), both.go(np.sign(both.actions) * 3)
    np.testing.assert_array_equal(at_bound[1], beyond[1])


def test_tasks_are_mapped_and_do_not_touch_each_other(both):
    """Another task changes the reward and nothing else; another order of the batch changes nothing."""
    state, _ = both.begin()
    action = jnp.asarray(both.actions, jnp.float32)
    _, obs, reward, _, outcome = both.step(both.tasks, state, action, KEYS)
    other = both.step(both.tasks[::-1], state, action, KEYS)
    np.testing.assert_array_equal(other[1], obs)
    assert (np.asarray(other[2]) != reward).all()
    np.testing.assert_allclose(reward, both.host.reward(both.rows, state.obs, both.actions, obs, outcome), atol=1e-5)
    mixed = np.random.default_rng(1).permutation(BATCH)
    again = both.step(both.tasks[mixed], jax.tree.map(lambda leaf: leaf[mixed], state), action[mixed], KEYS[mixed])
    np.testing.assert_array_equal(again[1], np.asarray(obs)[mixed])


def test_an_episode_does_not_recompile(both):
    state, _ = both.begin()
    for _ in range(3):
        state, *_ = both.step(both.tasks, state, jnp.asarray(both.actions, jnp.float32), KEYS)
    assert both.step._cache_size() == both.reset._cache_size() == 1


# ---- failed physics --------------------------------------------------------------------------------------------------


def test_physics_that_fail_hold_the_last_finite_state(both):
    """One environment is driven by NaN: it stands still for good, is not terminal, and no other is touched."""
    state, first = both.begin()
    action = jnp.asarray(both.actions, jnp.float32)
    sound = both.step(both.tasks, state, action, KEYS)
    after, obs, reward, terminal, outcome = both.step(both.tasks, state, action.at[2].set(jnp.nan), KEYS)
    assert list(after.diverged) == [n == 2 for n in range(BATCH)]
    np.testing.assert_array_equal(obs[2], first[2])
    np.testing.assert_array_equal(jax.tree.leaves(after.anchor)[0][2], jax.tree.leaves(state.anchor)[0][2])
    assert not terminal[2] and outcome[2] == 0
    others = np.arange(BATCH) != 2
    np.testing.assert_array_equal(np.asarray(obs)[others], np.asarray(sound[1])[others])
    later, obs, reward, _, _ = both.step(both.tasks, after, action, KEYS)
    assert later.diverged[2] and not later.diverged[others].any()
    np.testing.assert_array_equal(obs[2], first[2])
    want = both.host.reward(both.rows[2], np.asarray(first[2]), both.actions[2], np.asarray(first[2]), np.zeros(1))
    np.testing.assert_allclose(reward[2], want, rtol=1e-5)
    again, _ = both.begin()
    assert not again.diverged.any()


def test_speeds_beyond_the_limit_count_as_failed(both):
    state, _ = both.begin()
    fast = state._replace(anchor=state.anchor._replace(qvel=state.anchor.qvel.at[0].set(9e5)))
    after, obs, *_ = both.step(both.tasks, fast, jnp.asarray(both.actions, jnp.float32), KEYS)
    assert after.diverged[0] and np.isfinite(obs).all()


# ---- what is refused, and what is not noticed ------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["brax-spring", "brax-positional", "brax-generalized"])
def test_what_a_pipeline_cannot_show_is_refused_by_option_and_engine(engine):
    with pytest.raises(UsageError) as caught:
        registry.find(f"{CHEETAH},engine={engine},cartesian=lagged")
    assert "cartesian=lagged" in caught.value.cause and f"engine={engine}" in caught.value.cause
    assert "engine=brax" in caught.value.hint


@pytest.mark.parametrize("engine", ["brax-spring", "brax-positional", "brax-generalized"])
def test_computed_contact_forces_are_refused_where_there_are_none(engine):
    with pytest.raises(UsageError) as caught:
        registry.find(f"ant-goal/mql,engine={engine}")
    assert "contact_forces=computed" in caught.value.cause and f"engine={engine}" in caught.value.cause
    assert "contact_forces=zero" in caught.value.hint


def test_a_model_that_a_pipeline_refuses_is_refused_with_its_reason():
    def tendons(spec):
        spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC

    body = dataclasses.replace(cheetah.make(), edit=tendons)
    with pytest.raises(UsageError, match=r"engine=brax-spring cannot load half_cheetah.xml: Only pyramidal"):
        brax_engine.load(body, "brax-spring")


@pytest.mark.parametrize("engine", sorted(brax_engine.ENGINES))
def test_every_pipeline_keeps_shapes_and_dtypes_where_ranks_may_not_be_promoted(engine):
    family = registry.find(f"{CHEETAH},engine={engine}")
    task, key = jnp.asarray(family.tasks("train")[0].row()), jax.random.key(0)
    with jax.numpy_rank_promotion("raise"):
        state, obs = jax.eval_shape(family.reset, task, key)
        after = jax.eval_shape(family.step, task, state, jax.ShapeDtypeStruct((6,), "float32"), key)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (state, obs)) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), after[:2]
    )
    assert [(leaf.shape, leaf.dtype) for leaf in after[2:]] == [((), "float32"), ((), "bool"), ((1,), "float32")]


def test_importing_it_prints_nothing():
    code = "import pipelines.tasks.brax_engine"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""


# ---- every body ------------------------------------------------------------------------------------------------------

BODIES = (
    "hopper-vel/time",
    "walker-params/mql",  # a model per task
    "ant-goal/mql",  # contact forces computed
    "ant-dir/mbml,cartesian=lagged",
    "humanoid-dir/mql",  # contact forces computed
    "humanoid-dir/mbml,cartesian=lagged",
)


def split(name):
    family, *options = name.split(",")
    return family, dict(option.split("=") for option in options)


def state_of(simulator, device_state):
    """A brax state where the C engine is: its rows are time, qpos, qvel, torso, (com,) obs."""
    anchor, rows = device_state.anchor, np.asarray(simulator.state(), np.float32)
    nq, nv, num_obs = anchor.qpos.shape[1], anchor.qvel.shape[1], device_state.obs.shape[1]
    places = rows[:, -num_obs - (6 if anchor.com is not None else 3) : -num_obs]
    moved = anchor._replace(
        qpos=rows[:, 1 : 1 + nq],
        qvel=rows[:, 1 + nq : 1 + nq + nv],
        torso=places[:, :3],
        com=None if anchor.com is None else places[:, 3:],
    )
    return jax.tree.map(jnp.asarray, device_state._replace(anchor=moved, obs=rows[:, -num_obs:]))


def agree(found, want, tolerance):
    """`found` of brax's step, `want` of the C engine's; relative and absolute tolerance."""
    _, obs, reward, terminal, outcome = found
    np.testing.assert_allclose(obs, want.obs, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(outcome, want.outcome, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(reward, want.reward, rtol=tolerance, atol=tolerance * 10)
    np.testing.assert_array_equal(terminal, want.terminal)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", BODIES)
def test_every_body_moves_as_on_the_c_engine(name, monkeypatch):
    """One control step in the air to 1e-4 (in float32; RK4, joint limits, one model per task where dynamics differ).

    Where the C engine is after 12 random steps, in contact or fallen, to 2e-3; but not the ant: mjx turns the friction
    pyramid of a capsule steeper than 60 degrees on a plane, whose feet are such.
    """
    family, options = split(name)
    both = Both(family, engine="brax", **options)
    first, _ = c_step(both.host, both.rows, both.noise, both.actions)
    state, obs = both.begin()
    np.testing.assert_allclose(obs, first, rtol=1e-5, atol=1e-5)
    with both.host.simulate(both.rows) as simulator:
        simulator.reset(np.ones(BATCH, bool), both.noise)
        for _ in range(12):
            simulator.step(both.actions)
        down = state_of(simulator, state)
        fallen = simulator.step(both.actions)
    actions = jnp.asarray(both.actions, jnp.float32)
    if not family.startswith("ant"):
        agree(both.step(both.tasks, down, actions, KEYS), fallen, 2e-3)
    lift(monkeypatch)
    with built(family, **options).simulate(both.rows) as simulator:
        first = simulator.reset(np.ones(BATCH, bool), both.noise)
        state = state_of(simulator, state)
        want = simulator.step(both.actions)
    agree(both.step(both.tasks, state, actions, KEYS), want, 1e-4)
    assert np.abs(want.obs - first).max() > 0.1  # the control: much moved


@pytest.mark.slow
def test_tasks_whose_dynamics_differ_move_differently():
    """The same start and action under other masses, inertias, damping and friction; the same task the same way."""
    both = Both("walker-params/mql", engine="brax")
    state, first = both.reset(both.tasks, jnp.broadcast_to(KEYS[:1], KEYS.shape))
    np.testing.assert_array_equal(first, np.broadcast_to(first[:1], first.shape))
    action = jnp.broadcast_to(jnp.asarray(both.actions[:1], jnp.float32), both.actions.shape)
    speeds = np.asarray(both.step(both.tasks, state, action, KEYS)[1])[:, 8:]
    gaps = np.abs(speeds[:, None] - speeds[None]).max(-1)
    assert gaps[~np.eye(BATCH, dtype=bool)].min() > 0.1
    same = np.asarray(both.step(jnp.broadcast_to(both.tasks[:1], both.tasks.shape), state, action, KEYS)[1])
    np.testing.assert_array_equal(same, np.broadcast_to(same[:1], same.shape))


@pytest.mark.slow
def test_in_float64_a_step_is_the_c_engines_to_rounding():
    """The difference above is float32's: under x64 the cheetah's step agrees to 1e-12, on the ground too."""
    code = """
        import jax, numpy as np
        jax.config.update("jax_enable_x64", True)
        from pipelines.core.types import task_rows
        from pipelines.tasks import registry
        device, host = (registry.find(f"halfcheetah-vel/mql{more}") for more in (",engine=brax", ""))
        keys = jax.random.split(jax.random.key(1), 8)
        rows = task_rows(host.tasks("train")[:8], np.float64)
        actions = np.random.default_rng(0).uniform(-1, 1, (8, 6))
        with host.simulate(rows) as simulator:
            simulator.reset(np.ones(8, bool), np.asarray(jax.vmap(host.noise)(keys)))
            want = simulator.step(actions)
        state, _ = jax.jit(jax.vmap(device.reset))(rows, keys)
        _, obs, reward, _, _ = jax.jit(jax.vmap(device.step))(rows, state, actions, keys)
        np.testing.assert_allclose(obs, want.obs, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(reward, want.reward, rtol=1e-12, atol=1e-12)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
