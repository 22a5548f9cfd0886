"""Brax's own pipelines on every body; returns beside the C engine's, as benchmarks.brax_pipelines reports them."""

import json

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from benchmarks import brax_pipelines
from pipelines.tasks import registry, returns
from tests.tasks.beside import BATCH, CHEETAH, KEYS, Both, built, c_step, lift

pytestmark = pytest.mark.slow  # compiles for minutes where nothing is cached

OWN = ("brax-spring", "brax-positional", "brax-generalized")
PLAIN = ("halfcheetah-vel/mql", "hopper-vel/time", "walker-params/mql", "ant-goal/mbml", "humanoid-dir/mbml")


def mass_centre(family, row, qpos):
    """[B, 3], by the C library's kinematics under the task `row`"""
    model = family.solid.model(row)
    data, found = mujoco.MjData(model), []
    for one in np.asarray(qpos, np.float64):
        data.qpos[:] = one
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        found.append(data.subtree_com[0].copy())
    return np.stack(found)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", OWN)
@pytest.mark.parametrize("name", PLAIN)
def test_braxs_own_pipelines_begin_alike_stay_finite_and_fall_freely(name, engine, monkeypatch):
    """The first observation is the C engine's to 1e-4. In the air, without a control, the mass centre falls as on the C
    engine, to the g dt h by which a step of Euler's differs from RK4's; but not where the ant's ankles, which begin
    beyond their limits, are pushed by spring and positional, which weigh its links all the same."""
    both = Both(name, engine=engine)
    first, _ = c_step(both.host, both.rows, both.noise, both.actions)
    state, obs = both.begin()
    np.testing.assert_allclose(obs, first, rtol=1e-4, atol=1e-4)
    rng = np.random.default_rng(0)
    for _ in range(50):
        action = jnp.asarray(rng.uniform(-1, 1, both.actions.shape), jnp.float32)
        state, obs, reward, *_ = both.step(both.tasks, state, action, KEYS)
    assert not state.diverged.any() and np.isfinite(obs).all() and np.isfinite(reward).all()
    if name.startswith("ant") and engine != "brax-generalized":
        return
    lift(monkeypatch)
    still = np.zeros(both.actions.shape)
    host = built(name)
    with host.simulate(both.rows) as simulator:
        simulator.reset(np.ones(BATCH, bool), both.noise)
        ends = [simulator.state()]
        simulator.step(still)
        ends.append(simulator.state())
    want = np.subtract(*(mass_centre(host, both.rows[0], host.solid.qpos(rows)) for rows in reversed(ends)))
    high, _ = jax.jit(jax.vmap(built(name, engine=engine).reset))(both.tasks, KEYS)
    low = both.step(both.tasks, high, jnp.asarray(still, jnp.float32), KEYS)[0]
    found = np.subtract(*(mass_centre(host, both.rows[0], one.anchor.qpos) for one in (low, high)))
    timestep = host.solid.model(both.rows[0]).opt.timestep
    gap = 9.81 * timestep**2 * host.solid.substeps
    np.testing.assert_allclose(found[:, 2], want[:, 2], atol=gap)
    assert want[:, 2].min() < -gap  # the control: it falls by more than what is allowed


# ---- returns ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("policy", ["zero", "uniform"])
def test_returns_under_a_fixed_policy_are_the_c_engines(policy):
    """32 episodes of the cheetah with the C engine's starts and actions: the mean difference is within four standard
    errors of it, or of 0.1 where nothing but rounding differs. A control that must fail: another task's rewards."""
    device, host = registry.find(f"{CHEETAH},engine=brax"), registry.find(CHEETAH)
    tasks, choose = brax_pipelines.tasks_of(host, 32), brax_pipelines.POLICIES[policy]
    made = brax_pipelines.program(device)
    found = brax_pipelines.play(made, device.space, tasks, choose, 0)
    want = returns.play(host, tasks, choose, 0)
    assert not found.diverged.any() and (found.lengths == want.lengths).all()
    gap, error = brax_pipelines.mean_and_error(found.returns - want.returns)
    assert abs(gap) < 4 * error + 0.1
    wrong = brax_pipelines.play(made, device.space, tasks[::-1], choose, 0)
    assert np.abs(wrong.returns - want.returns).max() > 100


def test_the_committed_table_is_that_of_the_committed_figures():
    """Every body on every pipeline, and the page as it would be written again."""
    figures = json.loads((brax_pipelines.RESULTS / "brax-pipelines.json").read_text())
    rows = [brax_pipelines.Row.from_json(row) for row in figures["rows"]]
    lines = [(name, engine) for name in brax_pipelines.FAMILIES for engine in ("mujoco", *brax_pipelines.ENGINES)]
    assert [(row.family, row.engine) for row in rows] == lines
    page = brax_pipelines.page(figures["machine"], rows)
    assert (brax_pipelines.RESULTS / "brax-pipelines.md").read_text() == page
