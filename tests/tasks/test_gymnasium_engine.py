"""Any Gymnasium environment as a family: Gymnasium's own, and small ones that do what theirs do not."""

import dataclasses

import gymnasium
import jax
import numpy as np
import pytest

from pipelines.core.errors import CheckFailed, StageFailed, UsageError
from pipelines.core.types import task_rows
from pipelines.tasks import gymnasium_engine, registry

GRAVITIES = {"train": [4.0, 8.0, 12.0], "test": [6.0]}


def pendulum_reward(task, obs, action, next_obs, outcome):
    xp = obs.__array_namespace__()
    angle = xp.atan2(obs[..., 1], obs[..., 0])
    return -(angle**2 + 0.1 * obs[..., 2] ** 2 + 0.001 * xp.clip(action[..., 0], -2.0, 2.0) ** 2)


def pendulum(**fields):
    given = {"attribute": "g", "values": GRAVITIES, "horizon": 30, "reward": pendulum_reward, "terminates": False}
    return gymnasium_engine.family("Pendulum-v1", **(given | fields))


class Slider(gymnasium.Env):
    """x moves by the action; pays the speed, which it does not show; ends beyond 3. `push` disturbs every step."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))
    action_space = gymnasium.spaces.Discrete(3, start=-1)

    def __init__(self, cuts: bool = False, breaks: bool = False) -> None:
        self.push, self.x, self.cuts, self.breaks = 0.5, 0.0, cuts, breaks

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = float(self.np_random.uniform(-0.5, 0.5))
        return self._obs(), {}

    def step(self, action):
        assert action in (-1, 0, 1)
        before, self.x = self.x, self.x + action + self.push
        speed = self.x - before
        obs = np.full(1, np.nan, np.float32) if self.breaks and self.x > 1 else self._obs()
        return obs, 2 * speed, abs(self.x) > 3, self.cuts, {"speed": speed}

    def _obs(self):
        return np.asarray([self.x], np.float32)


class Restorable(Slider):
    def get_state(self):
        return np.asarray([self.x])

    def set_state(self, state):
        self.x = float(state[0])


def slider(kind=Slider, **fields):
    given = {
        "attribute": "push",
        "values": {"train": [0.5, -0.25]},
        "horizon": 12,
        "outcome": ("speed",),
        "reward": lambda task, obs, action, next_obs, outcome: 2 * outcome[..., 0],
    }
    return gymnasium_engine.family(kind, **(given | fields))


def simulated(family, split="train", seed=0):
    rows = task_rows(family.tasks(split), np.float64)
    noise = np.asarray(jax.vmap(family.noise)(jax.random.split(jax.random.key(seed), len(rows))))
    simulator = family.simulate(rows)
    return simulator, simulator.reset(np.ones(len(rows), bool), noise), noise


def test_gymnasiums_own_pass_the_checks() -> None:
    registry.check(pendulum())
    cartpole = gymnasium_engine.family(
        "CartPole-v1", attribute=("gravity", "length"), values={"train": [(9.8, 0.5), (5.0, 0.7)]}, horizon=40
    )
    registry.check(cartpole)
    assert cartpole.space == ((4,), (), (), (), 2, "float32", "int32")
    assert [task.name for task in cartpole.tasks("train")] == ["gravity=9.8,length=0.5", "gravity=5,length=0.7"]
    assert cartpole.tasks("test") == ()


def test_it_is_gymnasium_that_is_stepped() -> None:
    """Seed, attribute and actions given to Gymnasium directly: the same numbers, past its TimeLimit."""
    family = pendulum()
    simulator, obs, noise = simulated(family)
    env = gymnasium.make("Pendulum-v1", max_episode_steps=-1)
    env.unwrapped.g = GRAVITIES["train"][2]
    seen, _ = env.reset(seed=int(noise[2, 0]))
    np.testing.assert_array_equal(obs[2], seen)
    rng = np.random.default_rng(0)
    for _ in range(210):  # Gymnasium's own limit is 200
        action = rng.uniform(-2, 2, (3, 1)).astype(np.float32)
        stepped = simulator.step(action)
        seen, reward, *_ = env.step(action[2])
        np.testing.assert_array_equal(stepped.obs[2], seen)
        assert stepped.reward[2] == reward
    assert not np.array_equal(stepped.obs[0], stepped.obs[2])  # the control: another gravity


def test_task_ids_survive_other_lists() -> None:
    first = {task.name: task.id for task in pendulum().tasks("train")}
    other = {task.name: task.id for task in pendulum(values={"train": [1.0, 12.0, 4.0]}).tasks("train")}
    assert first["g=4"] == other["g=4"]
    assert first["g=12"] == other["g=12"]
    assert len(set(first.values())) == 3


def test_outcome_comes_from_info_and_discrete_actions_may_start_below_zero() -> None:
    family = slider()
    assert family.space.num_actions == 3
    registry.check(family)
    simulator, obs, _ = simulated(family)
    stepped = simulator.step(np.asarray([2, 0], np.int32))  # +1 and -1
    np.testing.assert_allclose(stepped.outcome[:, 0], [1.5, -1.25], rtol=1e-6)
    np.testing.assert_allclose(stepped.obs[:, 0], obs[:, 0] + [1.5, -1.25], rtol=1e-6)
    with pytest.raises(StageFailed, match="info has no 'sped'") as caught:
        simulated(slider(outcome=("sped",)))[0].step(np.asarray([2, 0]))
    assert caught.value.hint == "did you mean speed?"


def test_an_ended_environment_stands_still_until_it_is_reset() -> None:
    simulator, _, noise = simulated(slider())
    ended = [simulator.step(np.asarray([2, 1], np.int32)) for _ in range(4)]
    assert [bool(one.terminal[0]) for one in ended].count(True) == 1
    last = ended[-1].obs[0]
    assert last > 3
    after = simulator.step(np.asarray([2, 1], np.int32))
    assert (after.obs[0], after.reward[0], after.terminal[0]) == (last, 0.0, False)
    fresh = simulator.reset(np.asarray([True, False]), noise)
    assert abs(fresh[0, 0]) <= 0.5
    assert fresh[1] == after.obs[1]


def test_numbers_that_stop_being_numbers_are_a_failure_of_the_physics() -> None:
    simulator, _, _ = simulated(slider(make={"breaks": True}))
    stepped = [simulator.step(np.asarray([2, 1], np.int32)) for _ in range(2)]
    broken = [one for one in stepped if one.diverged[0]]
    assert len(broken) == 1
    assert np.isfinite(broken[0].obs).all()
    assert (broken[0].reward[0], broken[0].outcome[0, 0], broken[0].terminal[0]) == (0.0, 0.0, False)
    assert not any(one.diverged[1] for one in stepped)


def test_an_environment_that_truncates_itself_is_refused() -> None:
    simulator, _, _ = simulated(slider(make={"cuts": True}))
    with pytest.raises(StageFailed, match="truncated an episode itself"):
        simulator.step(np.asarray([2, 0]))


def test_restoring() -> None:
    family = slider(Restorable)
    assert family.restorable
    registry.check(family)
    simulator, _, _ = simulated(family)
    simulator.step(np.asarray([2, 0]))
    held = simulator.state()
    expected = [simulator.step(np.asarray([1, 0])).obs for _ in range(5)]
    other, _, _ = simulated(family, seed=7)
    other.restore(held)
    for obs in expected:
        np.testing.assert_array_equal(other.step(np.asarray([1, 0])).obs, obs)
    plain, _, _ = simulated(slider())
    assert not slider().restorable
    assert plain.state().shape == (2, 2)
    with pytest.raises(UsageError, match="has no set_state"):
        plain.restore(plain.state())


def test_without_a_formula_there_is_no_known_reward() -> None:
    family = pendulum(reward=None)
    registry.check(family)
    with pytest.raises(UsageError) as caught:
        family.reward(None, None, None, None, None)
    assert caught.value.cause == "family Pendulum-v1 has no known reward"
    assert "reward=..." in caught.value.hint


def test_a_formula_that_disagrees_is_refused() -> None:
    wrong = pendulum(reward=lambda *rows: 0.9 * pendulum_reward(*rows))
    with pytest.raises(CheckFailed, match=r"reward and step disagree in task 'g=4' at step 0: step paid -"):
        registry.check(wrong)
    with pytest.raises(CheckFailed, match="reward raised AttributeError"):
        registry.check(slider(reward=lambda task, obs, action, next_obs, outcome: outcome.speed))


@pytest.mark.parametrize(
    ("call", "cause", "hint"),
    [
        (
            lambda: gymnasium_engine.family("Pendulm-v1", attribute="g", values={}, horizon=1),
            "doesn't exist",
            "Pendulum-v1",
        ),
        (lambda: pendulum(attribute="gg"), "has no attribute 'gg'", "did you mean g?"),
        (lambda: pendulum(values={"trian": [1.0]}), "split 'trian'", "train, test, ood"),
        (lambda: pendulum(values={"train": [(1.0, 2.0)]}), "is not 1 number(s)", "one for each of"),
        (lambda: pendulum(make={"gravity": 3}), "gymnasium.make('Pendulum-v1')", ""),
        (
            lambda: gymnasium_engine.family("Blackjack-v1", attribute="sab", values={"train": [1.0]}, horizon=1),
            "observations of Tuple",
            "FlattenObservation",
        ),
    ],
)
def test_what_is_refused(call, cause: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        call()
    assert cause in caught.value.cause
    assert hint in caught.value.hint


def test_a_picture_in_floats_is_refused() -> None:
    family = slider()
    wrong = dataclasses.replace(family, space=family.space._replace(obs_dtype="uint8"))
    with pytest.raises(CheckFailed, match=r"reset's observations is float64\[8, 1\]"):
        registry.check(wrong)
