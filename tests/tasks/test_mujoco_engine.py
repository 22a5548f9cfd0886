"""The C engine: the same bits however it is run, states that can be gone back to, physics that fails."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import mujoco
import numpy as np
import pytest

from pipelines.core.errors import StageFailed
from pipelines.core.types import task_rows
from pipelines.tasks import mujoco_engine, task_lists
from pipelines.tasks.bodies import ant, cheetah, hopper, humanoid, walker
from pipelines.tasks.mujoco_engine import Bodies, Pooled, Rolled, model_of, models

COUNT = 10


class Case(NamedTuple):
    body: object
    tasks: np.ndarray  # [COUNT, P]


def _walkers():
    return task_rows(task_lists.lists("walker-params/mql")["train"][:4], np.float64)[np.arange(COUNT) % 4]


PLAIN = np.linspace(0, 2, COUNT)[:, None]
CASES = {
    "cheetah": Case(cheetah.make(), PLAIN),
    "cheetah, lagged": Case(cheetah.make("lagged"), PLAIN),
    "hopper": Case(hopper.make(), PLAIN),
    "walkers of four tasks": Case(walker.make(), _walkers()),
    "ant": Case(ant.make("velocity", True), PLAIN),
    "ant, computed, lagged": Case(ant.make("place", True, "lagged", "computed"), PLAIN),
    "humanoid": Case(humanoid.make(), PLAIN),
    "humanoid, computed, lagged": Case(humanoid.make("lagged", "computed"), PLAIN),
}
ROLLED = ("cheetah", "hopper", "walkers of four tasks", "ant")


def pay(task, obs, action, next_obs, outcome):
    """Depends on everything that a reward is given."""
    return task[:, 0] + obs[:, 0] - action[:, 0] + 2 * next_obs[:, 1] + outcome.sum(-1)


def noise_of(body, count=COUNT, seed=0):
    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(jax.vmap(body.noise)(keys))


def made(case, threads=2, make=mujoco_engine.physics, order=slice(None)):
    return Bodies(case.body, model_of(case.body), case.tasks[order], pay, threads, make)


def driven(case, steps=15, order=slice(None), **how):
    """All that an engine gives over `steps` of random actions, in the order of the whole batch."""
    rng, everyone = np.random.default_rng(0), np.ones(COUNT, bool)
    with made(case, order=order, **how) as simulator:
        parts = [[simulator.reset(everyone, noise_of(case.body)[order])]]
        for step in range(steps):
            action = rng.uniform(-1.2, 1.2, (COUNT, case.body.action_dim))
            parts.append([*simulator.step(action[order])])
            if step == 7:
                parts.append([simulator.reset(np.arange(COUNT)[order] < 3, noise_of(case.body, seed=1)[order])])
        parts.append([simulator.state()])
    return [array for part in parts for array in part]


def same(one, other, order=slice(None)):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(np.asarray(a)[order], b)


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


# ---- bits ------------------------------------------------------------------------------------------------------------


def test_the_number_of_threads_changes_no_bit(case):
    want = driven(case, threads=1)
    for threads in (2, 3, 16):
        same(want, driven(case, threads=threads))


def test_the_order_of_the_batch_changes_no_bit(case):
    order = np.random.default_rng(1).permutation(COUNT)
    same(driven(case), driven(case, order=order), order)


@pytest.mark.parametrize("name", ROLLED)
def test_rollout_and_pool_agree_to_the_bit(name):
    case = CASES[name]
    assert isinstance(made(case)._physics, Rolled)
    same(driven(case), driven(case, make=Pooled))


def test_a_body_that_shows_more_than_its_place_is_pooled():
    for name in set(CASES) - set(ROLLED):
        assert isinstance(made(CASES[name])._physics, Pooled)


def test_a_step_depends_on_the_state_alone(case):
    """Whatever was simulated before: another simulator in mid-life and a fresh one go on alike."""
    rng, everyone = np.random.default_rng(2), np.ones(COUNT, bool)
    actions = rng.uniform(-1, 1, (12, COUNT, case.body.action_dim))
    with made(case) as first, made(case, threads=3) as second:
        first.reset(everyone, noise_of(case.body))
        for action in actions[:6]:
            before = first.step(action)
        kept = first.state()
        want = [first.step(action) for action in actions[6:]]
        second.reset(everyone, noise_of(case.body, seed=5))
        second.step(actions[0])
        np.testing.assert_array_equal(second.restore(kept), before.obs)
        for action, stepped in zip(actions[6:], want, strict=True):
            same(stepped, second.step(action))
        same([first.state()], [second.state()])
        first.restore(kept)  # the very simulator goes back, too
        same(want[0], first.step(actions[6]))
    assert kept.dtype == np.float64
    assert len(kept) == COUNT


def test_a_kept_state_does_not_change_under_the_simulator():
    with made(CASES["cheetah"]) as simulator:
        simulator.reset(np.ones(COUNT, bool), noise_of(CASES["cheetah"].body))
        kept = simulator.state()
        copy = kept.copy()
        simulator.step(np.ones((COUNT, 6)))
        simulator.reset(np.ones(COUNT, bool), noise_of(CASES["cheetah"].body, seed=3))
        np.testing.assert_array_equal(kept, copy)


# ---- what is simulated -----------------------------------------------------------------------------------------------


def test_a_reset_touches_only_what_it_is_asked_to(case):
    with made(case) as simulator:
        first = simulator.reset(np.ones(COUNT, bool), noise_of(case.body))
        mask = np.arange(COUNT) % 3 == 1
        second = simulator.reset(mask, noise_of(case.body, seed=1))
        assert ((first != second).any(-1) == mask).all()
        np.testing.assert_array_equal(simulator.reset(np.zeros(COUNT, bool), noise_of(case.body, seed=2)), second)


def test_actions_are_cut_to_the_box_and_span_the_actuators_range():
    for name in ("cheetah", "humanoid"):
        case = CASES[name]
        with made(case) as simulator:
            simulator.reset(np.ones(COUNT, bool), noise_of(case.body))
            kept = simulator.state()
            cut = simulator.step(np.full((COUNT, case.body.action_dim), 7.0))
            simulator.restore(kept)
            full = simulator.step(np.ones((COUNT, case.body.action_dim)))
            np.testing.assert_array_equal(cut.obs, full.obs)
    model = model_of(humanoid.make())
    forces = full.obs[:, 269:292][:, 6:]  # qfrc_actuator = gear x control for a motor on a hinge
    want = np.zeros(model.nv)
    want[model.jnt_dofadr[model.actuator_trnid[:, 0]]] = 0.4 * model.actuator_gear[:, 0]
    np.testing.assert_allclose(forces, np.tile(want[6:], (COUNT, 1)), rtol=1e-12)


def test_an_action_that_is_no_number_is_refused():
    with made(CASES["cheetah"]) as simulator:
        simulator.reset(np.ones(COUNT, bool), noise_of(CASES["cheetah"].body))
        action = np.zeros((COUNT, 6))
        action[4, 2] = np.nan
        with pytest.raises(StageFailed, match="environment 4 is not finite"):
            simulator.step(action)


def test_tasks_that_differ_in_dynamics_have_models_of_their_own():
    """Elements are multiplied; derived constants stay the nominal ones; equal tasks share a model."""
    case = CASES["walkers of four tasks"]
    nominal = model_of(case.body)
    own = models(case.body, nominal, case.tasks)
    assert len({id(model) for model in own}) == 4
    assert own[0] is own[4] is own[8]
    factors = case.body.factors(case.tasks[2])
    for field, factor in factors.items():
        np.testing.assert_array_equal(getattr(own[2], field), getattr(nominal, field) * factor)
    np.testing.assert_array_equal(own[2].body_invweight0, nominal.body_invweight0)
    np.testing.assert_array_equal(own[2].dof_M0, nominal.dof_M0)
    with made(case) as simulator:
        simulator.reset(np.ones(COUNT, bool), np.zeros_like(noise_of(case.body)))
        obs = simulator.step(np.full((COUNT, 6), 0.5)).obs
    assert (obs[0] != obs[1]).any()
    np.testing.assert_array_equal(obs[0], obs[4])


def test_terminal_is_what_the_body_calls_unhealthy():
    case = CASES["hopper"]
    with made(case) as simulator:
        simulator.reset(np.ones(COUNT, bool), noise_of(case.body))
        state = simulator.state()
        state[3, 3] = 0.5  # pitch
        simulator.restore(state)
        stepped = simulator.step(np.zeros((COUNT, 3)))
    np.testing.assert_array_equal(stepped.terminal, np.arange(COUNT) == 3)
    assert not stepped.diverged.any()


# ---- physics that fails ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e12, 1e8])
@pytest.mark.parametrize("name", ["cheetah", "humanoid, computed, lagged"])
def test_failed_physics_is_put_back_and_marked(name, bad, tmp_path, monkeypatch):
    """It keeps its state and observation, is paid for standing there, and disturbs no other environment."""
    monkeypatch.chdir(tmp_path)
    case = CASES[name]
    action = np.full((COUNT, case.body.action_dim), 0.3)
    with made(case) as simulator:
        simulator.reset(np.ones(COUNT, bool), noise_of(case.body))
        kept = simulator.state()
        want = simulator.step(action)
        spoiled = kept.copy()
        speed = 1 + model_of(case.body).nq + 4
        spoiled[6, speed] = bad
        obs = simulator.restore(spoiled)
        stepped = simulator.step(action)
        np.testing.assert_array_equal(stepped.diverged, np.arange(COUNT) == 6)
        np.testing.assert_array_equal(simulator.state()[6], spoiled[6])
        fresh = simulator.reset(stepped.diverged, noise_of(case.body))
        again = simulator.step(action)
    np.testing.assert_array_equal(stepped.obs[6], obs[6])
    np.testing.assert_array_equal(stepped.outcome[6], 0)
    assert not stepped.terminal[6]
    assert stepped.reward[6] == pay(case.tasks, obs, action, obs, np.zeros_like(stepped.outcome))[6]
    others = np.arange(COUNT) != 6
    for one, other in zip(want, stepped, strict=True):
        np.testing.assert_array_equal(one[others], other[others])
    assert np.isfinite(fresh).all()
    assert not again.diverged.any()  # a reset mends it
    assert list(tmp_path.iterdir()) == []  # no MUJOCO_LOG.TXT


def test_rollout_and_pool_call_the_same_physics_failed():
    """Speeds from fast to absurd: mujoco.rollout stops at a warning and a pool does not, yet both fail alike."""
    case = CASES["cheetah"]
    found = []
    for make in (Rolled, Pooled):
        with made(case, make=make) as simulator:
            simulator.reset(np.ones(COUNT, bool), noise_of(case.body))
            state = simulator.state()
            state[:, 10:19] *= 10.0 ** np.arange(COUNT)[:, None]
            simulator.restore(state)
            found.append([*simulator.step(np.zeros((COUNT, 6))), simulator.state()])
    same(*found)
    assert 0 < found[0][4].sum() < COUNT


# ---- what it costs ---------------------------------------------------------------------------------------------------

MEMORY = """
import re, numpy as np, jax
from pathlib import Path
from pipelines.tasks import registry
family = registry.find("humanoid-dir/mql")
tasks = np.zeros((64, 1))
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
noise = np.asarray(jax.vmap(family.noise)(jax.random.split(jax.random.key(0), 64)))
with family.simulate(tasks) as simulator:
    simulator.reset(np.ones(64, bool), noise)
    for _ in range(50):
        simulator.step(np.ones((64, 17)))
print(before, peak())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")
def test_64_humanoids_fit_in_a_gigabyte():
    """The whole process does, jax and mujoco included. (getrusage gives the forking process's peak.)"""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert 0 < after < 1_000_000
    assert after - before < 400_000


def test_a_simulator_counts_in_mujocos_own_layout():
    """qpos and qvel are read from the state by place: the first numbers after the time."""
    for case in CASES.values():
        model = model_of(case.body)
        assert mujoco.mj_stateSize(model, mujoco_engine.PHYSICS) == 1 + model.nq + model.nv


class Cut(Rolled):
    """As mujoco.rollout does at a warning: the fifth environment makes two sub-steps instead of five."""

    def advance(self, state, control):
        after, _ = super().advance(state, control)
        after[5] = self._states[5, 1]
        return after, self._view(after)


def test_a_control_step_that_was_cut_short_is_not_passed_off_as_a_whole_one():
    case = CASES["cheetah"]
    with made(case, make=Cut) as simulator:
        simulator.reset(np.ones(COUNT, bool), noise_of(case.body))
        before = simulator.state()
        stepped = simulator.step(np.zeros((COUNT, 6)))
        np.testing.assert_array_equal(simulator.state()[5], before[5])
    np.testing.assert_array_equal(stepped.diverged, np.arange(COUNT) == 5)
