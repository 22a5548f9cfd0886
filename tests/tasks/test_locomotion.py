"""The locomotion families: what is paid and when episodes end, on the C engine."""

import dataclasses
import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import anchors
from pipelines.core.families import FAMILIES
from pipelines.core.types import HostFamily, task_rows
from pipelines.tasks import locomotion, registry, returns

NAMES = [name for name, entry in FAMILIES.items() if entry.module == "locomotion"]
TOLERANCE = 1e-5  # of 1 + |reward|, between float64 on numpy and float32 on jax


@pytest.fixture(params=NAMES)
def family(request):
    return registry.find(request.param)


def spread_tasks(family, count):
    """`[count, P]`: tasks of all splits in turn."""
    rows = task_rows(sum((family.tasks(split) for split in ("train", "test", "ood")), ()), np.float64)
    return rows[np.arange(count) * 7 % len(rows)]


def noise_of(family, count, seed=0):
    return np.asarray(jax.vmap(family.noise)(jax.random.split(jax.random.key(seed), count)))


def with_steps(family, count, steps, seed=0):
    """`count` environments for `steps` random control steps, ended ones begun again: yields (state before, obs, action,
    Stepped), float64."""
    rng, tasks = np.random.default_rng(seed), spread_tasks(family, count)
    noise = noise_of(family, count * 4, seed)
    with family.simulate(tasks) as simulator:
        obs = simulator.reset(np.ones(count, bool), noise[:count])
        for step in range(steps):
            state = simulator.state()
            action = rng.uniform(-1.1, 1.1, (count, *family.space.action_shape)).astype(np.float32)
            stepped = simulator.step(action)
            yield state, obs, action, stepped
            ended = stepped.terminal | stepped.diverged | (step % 100 == 99)
            obs = simulator.reset(ended, noise[rng.integers(len(noise), size=count)])


# ---- one reward function ---------------------------------------------------------------------------------------------


def check_rewards(family, count, steps, every):
    """The stored float32 rows give the stored reward; another task's relabelled reward is what that task's engine pays
    from the same state (checked `every` few steps)."""
    tasks = spread_tasks(family, count)
    others = np.roll(tasks, 1, axis=0)
    paid = jax.jit(family.reward)
    worst, differed = 0.0, 0.0
    with family.simulate(others) as elsewhere:
        for step, (state, obs, action, stepped) in enumerate(with_steps(family, count, steps)):
            assert not stepped.diverged.any()
            rows = [jnp.asarray(x, jnp.float32) for x in (obs, action, stepped.obs, stepped.outcome)]
            again = np.asarray(paid(jnp.asarray(tasks, jnp.float32), *rows))
            reward = stepped.reward.astype(np.float32)
            worst = max(worst, np.max(np.abs(again - reward) / (1 + np.abs(reward))))
            if step % every == 0 and not family.dynamics:
                elsewhere.restore(state)
                there = elsewhere.step(action)
                np.testing.assert_array_equal(there.obs, stepped.obs)  # the task is in the reward alone
                relabelled = np.asarray(paid(jnp.asarray(others, jnp.float32), *rows))
                gap = np.abs(relabelled - there.reward) / (1 + np.abs(there.reward))
                worst = max(worst, gap.max())
                differed = max(differed, np.abs(there.reward - stepped.reward).max())
    assert worst < TOLERANCE
    assert family.dynamics or differed > 1e-2  # the control: another task pays otherwise


def test_rewards_are_recomputed_from_float32_rows_and_under_other_tasks(family):
    check_rewards(family, count=20, steps=25, every=5)


@pytest.mark.slow
def test_rewards_are_recomputed_from_10000_float32_rows(family):
    check_rewards(family, count=50, steps=200, every=10)


@pytest.mark.parametrize("options", ["cartesian=lagged", "reward=dense", "start=fixed,reward=dense,cartesian=lagged"])
def test_rewards_are_recomputed_with_other_options(options):
    check_rewards(registry.find(f"ant-semicircle/borel,{options}"), count=20, steps=20, every=5)


@pytest.mark.parametrize("name", ["ant-goal/mbml", "ant-goal/mql", "humanoid-dir/mql", "halfcheetah-vel/mbml"])
def test_rewards_are_recomputed_where_cartesian_quantities_lag(name):
    check_rewards(registry.find(f"{name},cartesian=lagged"), count=20, steps=20, every=5)


def test_where_dynamics_differ_other_tasks_move_otherwise():
    for name in ("walker-params/mbml", "walker-params/mql"):
        family = registry.find(name)
        assert family.dynamics
        tasks = spread_tasks(family, 6)
        with family.simulate(tasks) as here, family.simulate(np.roll(tasks, 1, axis=0)) as there:
            here.reset(np.ones(6, bool), noise_of(family, 6))
            there.restore(here.state())
            action = np.full((6, 6), 0.4)
            assert (here.step(action).obs != there.step(action).obs).any(-1).all()


# ---- rewards by hand -------------------------------------------------------------------------------------------------


def pay(name, task, action, next_obs=(), outcome=()):
    """The reward of one row written out."""
    numbers = [np.asarray(x, np.float64) for x in (task, np.zeros(3), action, next_obs, outcome)]
    return float(registry.find(name).reward(*numbers))


HALF = np.full(8, 0.5)  # |u|^2 = 2


def test_rewards_by_hand():
    assert pay("halfcheetah-vel/mql", [1.5], HALF[:6], outcome=[0.7]) == pytest.approx(-0.8 - 0.05 * 1.5)
    assert pay("halfcheetah-dir/mql", [-1], HALF[:6], outcome=[0.7]) == pytest.approx(-0.7 - 0.05 * 1.5)
    assert pay("hopper-vel/time", [2.0], [1, -1, 3], outcome=[1.5]) == pytest.approx(1 - 0.5 - 0.001 * 3)  # cut
    assert pay("walker-params/mql", np.ones(65), HALF[:6], outcome=[0.7]) == pytest.approx(1.7 - 0.0015)
    up = [math.pi / 2]
    assert pay("ant-dir/mbml", up, HALF, outcome=[5, 2, 0.25]) == pytest.approx(2 + 1 - 0.5 * 2 - 0.25)
    assert pay("ant-fwd-back/mql", [math.pi], HALF, outcome=[5, 2, 0]) == pytest.approx(-5 + 1 - 0.5 * 2)
    effort = 0.1 * 17 * 0.25 * 0.16  # controls are 0.4 times the action
    for name, weight in (("mql", 1.25), ("mbml", 1.25), ("mbml-m", 6.25)):
        found = pay(f"humanoid-dir/{name}", up, np.full(17, 0.5), outcome=[5, 2, 0.3])
        assert found == pytest.approx(weight * 2 + 5 - effort - 0.3)


def test_goal_rewards_by_hand():
    obs = np.zeros(113)
    obs[:2], obs[29:33] = (1.0, 2.0), (1, -1, 0.5, 3)  # the last is cut
    contact = 0.5e-3 * (1 + 1 + 0.25 + 1)
    assert pay("ant-goal/mql", [2, -1], HALF, obs) == pytest.approx(-(1 + 3) - 0.2 - contact)
    assert pay("ant-goal/mbml", [2, -1], HALF, obs * (np.arange(113) < 29)) == pytest.approx(-4 - 0.2)
    lagged = pay("ant-goal/mql,cartesian=lagged", [2, -1], HALF, obs, [2.0, 2.0])
    assert lagged == pytest.approx(-3 - 0.2 - contact)
    goal = [0.0, 1.0, 0.0]  # angle, x, y
    for x, y, inside in ((0.9, 0.1, True), (1.15, 0.1, True), (1.15, 0.2, False), (0.0, 0.0, False)):
        obs[:2] = x, y
        assert pay("ant-semicircle/borel", goal, HALF, obs[:29]) == pytest.approx(inside - 0.2)
        dense = pay("ant-semicircle/borel,reward=dense", goal, HALF, obs[:29])
        assert dense == pytest.approx(-(abs(x - 1) + abs(y)) - 0.2)


def test_the_velocity_paid_is_the_roots_over_the_control_step():
    family = registry.find("halfcheetah-vel/mql")
    for state, _, _, stepped in itertools.islice(with_steps(family, 4, 10), 1, None):
        np.testing.assert_allclose(stepped.outcome[:, 0], (stepped.obs[:, 17] - state[:, 1]) / 0.05, atol=1e-12)


# ---- what a listing says ---------------------------------------------------------------------------------------------


def test_families_say_what_they_are(family):
    assert isinstance(family, HostFamily)
    entry = FAMILIES[family.name]
    assert (family.space.obs_dim, family.space.action_dim) == (entry.obs_dim, entry.action_dim)
    assert family.horizon == entry.horizon
    assert family.discount == 0.99
    assert (family.space.low, family.space.high) == ((-1.0,) * entry.action_dim, (1.0,) * entry.action_dim)
    about = family.about
    assert about.reward and about.start and about.source
    assert (about.ends == "never before the horizon") == (not family.terminates)
    assert family.dynamics == family.name.startswith("walker")
    assert (
        (family.position is None) == (family.scene is None) == ("goal" not in family.name and "semi" not in family.name)
    )


def test_every_option_builds(family):
    """Each option's other values, one at a time: sizes stay, `outcome` is what is measured."""
    entry = FAMILIES[family.name]
    for option, values in entry.options.items():
        for value in values if option != "engine" else ():
            other = registry.find(f"{family.name},{option}={value}")
            assert other.space == family.space
            *_, (_, _, _, stepped) = with_steps(other, 3, 2)
            assert stepped.outcome.shape == (3, len(other.outcome))
            assert stepped.obs.shape == (3, entry.obs_dim)


def test_an_exact_observed_place_needs_no_outcome():
    """So that an imported log without one still has a known reward."""
    for name in ("ant-goal/mbml", "ant-goal/mql", "ant-semicircle/borel"):
        assert registry.find(name).outcome == ()
        assert registry.find(f"{name},cartesian=lagged").outcome == ("x", "y")


def test_a_goal_stands_where_the_task_has_it():
    family = registry.find("ant-goal/mql")
    (goal,) = family.scene(family.tasks("test")[0]).shapes
    assert goal.role == "goal"
    np.testing.assert_allclose(goal.numbers[:2], [0.7541, 1.0304], atol=5e-5)
    np.testing.assert_array_equal(family.position(np.arange(113.0)), [0, 1])


# ---- episodes --------------------------------------------------------------------------------------------------------


def test_the_semicircles_ants_start_still_where_the_option_says():
    """2,000 draws; evaluation begins at the origin whatever the name says."""
    places = {}
    for start in ("uniform", "excluding", "fixed"):
        family = registry.find(f"ant-semicircle/borel,start={start}")
        with family.simulate(spread_tasks(family, 2_000)) as simulator:
            obs = simulator.reset(np.ones(2_000, bool), noise_of(family, 2_000))
        np.testing.assert_array_equal(obs[:, 2:], np.tile([0.75, 1] + [0] * 25, (2_000, 1)))
        places[start] = obs[:, :2]
    np.testing.assert_allclose(places["uniform"].min(0), [-1.5, -0.5], atol=0.01)
    np.testing.assert_allclose(places["uniform"].max(0), [1.5, 1.5], atol=0.01)
    radius = np.linalg.norm(places["excluding"], axis=-1)
    assert not ((radius > 0.8) & (radius < 1.2)).any()
    assert (radius < 0.8).any() and (radius > 1.2).any()
    np.testing.assert_array_equal(places["fixed"], 0)
    evaluated = registry.find("ant-semicircle/borel,start=uniform,reward=dense", evaluation=True)
    assert evaluated.name == "ant-semicircle/borel,start=fixed"


def test_lagged_velocities_telescope():
    """Of whatever is shown: summed over an episode they give the way from first to last, exact and lagged alike, though
    each alone differs."""
    ways, steps = {}, {}
    for cartesian in ("exact", "lagged"):
        family = registry.find(f"humanoid-dir/mbml,cartesian={cartesian}")
        rows = list(with_steps(family, 3, 6))
        steps[cartesian] = np.stack([stepped.outcome[:, :2] for *_, stepped in rows])
        ways[cartesian] = 0.015 * steps[cartesian].sum(0)
    np.testing.assert_allclose(ways["exact"], ways["lagged"], atol=1e-4)
    assert np.abs(steps["exact"] - steps["lagged"]).max() > 1e-5


@pytest.mark.parametrize("name", ["walker-params/mbml", "halfcheetah-vel/time"])  # by episodes of its own, and shared
def test_random_references_are_the_mean_of_their_episodes(name):
    family = registry.find(name)
    task = family.tasks("test")[2]
    found = family.references(task)
    rows = np.tile(task.row(np.float64), (returns.NUM_RANDOM, 1))
    assert found["random"] == returns.play(family, rows, returns.anything, 0).returns.mean()
    assert math.isnan(found["oracle"]) and math.isnan(found["ceiling"])
    assert set(found) == {"random", "oracle", "ceiling"}


@pytest.mark.parametrize(
    "name",
    [
        "halfcheetah-vel/mbml",
        "halfcheetah-dir/mql",
        "ant-goal/mbml",
        "ant-dir/mbml",
        "ant-semicircle/borel",
        "humanoid-dir/mql",
        "hopper-vel/time",
    ],
)
def test_one_walk_is_paid_as_each_task(name):
    """To the bit what each task's own simulators pay."""
    family = dataclasses.replace(registry.find(name), horizon=30)
    rows = np.stack([task.row(np.float64) for task in family.tasks("train")[:3]])
    found = returns.paid_as(family, rows, returns.anything, 4, 5)
    own = [returns.play(family, np.tile(row, (5, 1)), returns.anything, 4).returns for row in rows]
    np.testing.assert_array_equal(found, own)
    assert len(np.unique(found)) > len(found[0]) or name.startswith("ant-semicircle")  # tasks do pay differently


def test_returns_stop_at_the_end_of_an_episode():
    """Written out, one environment at a time."""
    family = registry.find("hopper-vel/time")
    tasks = spread_tasks(family, 5)
    played = returns.play(family, tasks, returns.nothing, 3)
    noise = noise_of(family, 5, seed=3)
    for n in range(5):
        with family.simulate(tasks[n : n + 1]) as simulator:
            simulator.reset(np.ones(1, bool), noise[n : n + 1])
            total, length, ended = 0.0, 0, False
            while not ended and length < family.horizon:
                stepped = simulator.step(np.zeros((1, 3)))
                total, length, ended = total + stepped.reward[0], length + 1, bool(stepped.terminal[0])
        assert played.lengths[n] == length
        assert played.returns[n] == pytest.approx(total, abs=1e-9)
    assert not played.diverged.any()


def test_failed_physics_ends_what_is_played():
    """A family whose third environment starts beyond physics."""
    family = registry.find("halfcheetah-vel/time")
    spoiled = dataclasses.replace(family, simulate=lambda tasks: _Spoiled(family.simulate(tasks)))
    played = returns.play(spoiled, spread_tasks(family, 4), returns.nothing, 0)
    np.testing.assert_array_equal(played.diverged, [False, False, True, False])
    np.testing.assert_array_equal(played.lengths, [200, 200, 0, 200])
    assert played.returns[2] == 0


class _Spoiled:
    def __init__(self, inner):
        self.inner = inner

    def reset(self, mask, noise):
        self.inner.reset(mask, noise)
        state = self.inner.state()
        state[2, 12] = np.inf
        return self.inner.restore(state)

    def step(self, action):
        return self.inner.step(action)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.inner.__exit__(*exc)


# ---- anchors ---------------------------------------------------------------------------------------------------------

ANCHORS = json.loads((anchors.RESULTS / "anchors.json").read_text())["families"]


def check_anchor(name, num_episodes):
    """Zero actions to 3% (and 1, where nothing is paid); uniform actions to 3 standard errors of the difference."""
    for policy in anchors.POLICIES:
        want = ANCHORS[name][policy]
        found = anchors.measure(name, policy, num_episodes, seed=1)
        if policy == "zero":
            assert found["return"] == pytest.approx(want["return"], rel=0.03, abs=1.0)
        else:
            assert abs(found["return"] - want["return"]) < 3 * math.hypot(found["error"], want["error"])


def test_the_anchors_are_those_of_the_table():
    assert set(ANCHORS) == {anchor.family for anchor in anchors.ANCHORS}


@pytest.mark.parametrize("name", [name for name in ANCHORS if not name.startswith("ant")])
def test_anchors_are_measured_again(name):
    check_anchor(name, 60)  # two on each of 30 tasks


@pytest.mark.slow
@pytest.mark.parametrize("name", ANCHORS)
def test_anchors_are_measured_again_with_as_many_episodes(name):
    check_anchor(name, anchors.NUM_EPISODES)


def test_the_old_anchors_hold_where_physics_is_not_chaotic():
    """facts 1.5, measured on mujoco 4.0.0, zero actions: to 3%, or to 3 standard errors; and the falls' lengths."""
    for anchor in anchors.ANCHORS:
        found = ANCHORS[anchor.family]["zero"]
        assert abs(found["return"] - anchor.old[0]) < max(0.03 * abs(anchor.old[0]), 3 * found["error"], 0.5)
        if anchor.old_lengths[0] is not None:
            assert found["length"] == pytest.approx(anchor.old_lengths[0], abs=1)


def test_standing_still_is_worth_what_the_target_velocities_say():
    """-200 x the mean target, less what falling over costs: to 1%."""
    mean = np.mean([task.params["velocity"] for task in registry.find("halfcheetah-vel/mql").tasks("test")])
    assert ANCHORS["halfcheetah-vel/mql"]["zero"]["return"] == pytest.approx(-200 * mean, rel=0.01)


def test_every_family_of_the_listing_is_in_the_table():
    assert set(locomotion.TABLE) == set(NAMES)
