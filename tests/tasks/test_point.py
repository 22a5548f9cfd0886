"""The point family: its task lists, its exact references, and what they are exact about."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.tasks import point
from pipelines.tasks.point import DISCOUNT, HORIZON, SPREAD, TIME, exact_q, optimal_action, references

GOALS = [np.array([task.params["x"], task.params["y"]]) for task in (*TIME.tasks("train"), *SPREAD.tasks("test")[::4])]


def angles(family, split):
    return [task.params["angle"] for task in family.tasks(split)]


# ---- task lists ------------------------------------------------------------------------------------------------------


def test_the_papers_three_goals_divide_the_semicircle():
    for split in ("train", "test"):
        assert angles(TIME, split) == [0, 90, 180]
        assert [task.name for task in TIME.tasks(split)] == ["0deg", "90deg", "180deg"]
        where = np.array([[task.params["x"], task.params["y"]] for task in TIME.tasks(split)])
        np.testing.assert_allclose(where, [[10, 0], [0, 10], [-10, 0]], atol=1e-12)
        assert all(task.split == split for task in TIME.tasks(split))
    assert TIME.tasks("ood") == SPREAD.tasks("ood") == ()


def test_the_spread_variants_test_goals_are_midpoints_of_its_training_goals():
    train, test = angles(SPREAD, "train"), angles(SPREAD, "test")
    np.testing.assert_allclose(train, np.linspace(0, 180, 15), atol=1e-5)
    np.testing.assert_allclose(test, (np.array(train)[1:] + train[:-1]) / 2, atol=1e-5)
    for task in (*SPREAD.tasks("train"), *SPREAD.tasks("test")):
        assert np.hypot(task.params["x"], task.params["y"]) == pytest.approx(10)


def test_an_id_is_the_goals_own_whatever_the_list():
    """A goal keeps its id, and so its random streams; no two goals share one."""
    tasks = [*SPREAD.tasks("train"), *SPREAD.tasks("test")]
    assert len({task.id for task in tasks}) == 29
    assert all(task.id == round(task.params["angle"] * 1000) for task in tasks)
    assert [task.id for task in TIME.tasks("train")] == [0, 90_000, 180_000]
    assert SPREAD.tasks("train")[7].id == 90_000
    assert point.tasks_at([90.0], "train")[0] == point.tasks_at([30.0, 90.0], "train")[1]


def test_a_row_is_what_the_reward_reads():
    np.testing.assert_allclose(TIME.tasks("train")[1].row(), [90, 0, 10], atol=1e-6)


# ---- dynamics and reward ---------------------------------------------------------------------------------------------


def test_a_move_is_clipped_and_paid_by_the_distance_after_it():
    """From (0, 0) by (0.5, 3) with the second cut to 1: to (0.5, 1), which is sqrt(0.25 + 81) from (0, 10)."""
    row = jnp.asarray(TIME.tasks("train")[1].row())
    state, obs = TIME.reset(row, jax.random.key(0))
    np.testing.assert_array_equal(obs, [0, 0])
    state, obs, reward, terminal, outcome = TIME.step(row, state, jnp.array([0.5, 3.0]), jax.random.key(1))
    np.testing.assert_array_equal(obs, [0.5, 1])
    np.testing.assert_allclose(reward, -np.sqrt(81.25), rtol=1e-6)
    assert not terminal
    assert outcome.shape == (0,)
    assert (TIME.horizon, TIME.discount, TIME.terminates) == (20, 0.95, False)


# ---- what is exact ---------------------------------------------------------------------------------------------------


def returns(goal, choose, episodes=1, steps=HORIZON, discount=1.0, start=(0.0, 0.0)):
    """Returns [episodes] of choose(t, position [episodes, 2]) -> action, written out."""
    position, total = np.tile(np.asarray(start, float), (episodes, 1)), np.zeros(episodes)
    for t in range(steps):
        position = position + np.clip(choose(t, position), -1, 1)
        total -= discount**t * np.hypot(*(position - goal).T)
    return total


@pytest.mark.parametrize("goal", GOALS)
def test_no_disturbance_of_the_oracles_moves_does_better(goal):
    """Disturbed a little or a lot, now and then or from what was reached, no plan pays more; small ones come close."""
    rng = np.random.default_rng(0)
    best = returns(goal, lambda t, p: optimal_action(p, goal))[0]
    for size in (1e-3, 0.05, 0.3, 2.0):
        noise = rng.normal(0, size, (HORIZON, 4_000, 2)) * (rng.random((HORIZON, 4_000, 1)) < 0.3)
        tried = returns(goal, lambda t, p, n=noise: optimal_action(p, goal) + n[t], episodes=4_000)
        assert (tried <= best + 1e-9).all()
        assert tried.max() > best - 40 * size


@pytest.mark.parametrize("start", [(0.0, 0.0), (-4.3, 2.2)])
def test_the_oracle_attains_a_bound_on_every_plan(start):
    """After t moves no plan can have closed an axis by more than t, and the oracle has closed both by that, always."""
    goal = np.array([6.5, -1.2])
    gap = np.abs(goal - start)
    nearest = [np.hypot(*np.maximum(gap - t - 1, 0)) for t in range(HORIZON)]
    assert returns(goal, lambda t, p: optimal_action(p, goal), start=start)[0] == pytest.approx(-sum(nearest))


@pytest.mark.parametrize("goal", GOALS[:2])
def test_exact_q_is_the_discounted_return_of_the_move_and_optimal_moves_after_it(goal):
    rng = np.random.default_rng(1)
    positions, actions = rng.uniform(-12, 12, (20, 2)), rng.uniform(-1.3, 1.3, (20, 2))

    def rollout(position, action):
        def choose(t, p):
            return action if t == 0 else optimal_action(p, goal)

        return returns(goal, choose, steps=600, discount=DISCOUNT, start=position)[0]

    want = [rollout(*pair) for pair in zip(positions, actions, strict=True)]
    np.testing.assert_allclose(exact_q(positions, actions, goal), want, rtol=1e-9)


def test_exact_q_is_greatest_at_the_optimal_action():
    goal, position = GOALS[1], np.array([-3.0, 9.6])
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 41), np.linspace(-1, 1, 41)), -1).reshape(-1, 2)
    found = exact_q(np.broadcast_to(position, grid.shape), grid, goal)
    np.testing.assert_allclose(grid[found.argmax()], optimal_action(position, goal), atol=0.05)
    best = exact_q(position[None], optimal_action(position, goal)[None], goal)[0]
    assert (found <= best + 1e-12).all()


# ---- references ------------------------------------------------------------------------------------------------------


def normalised(found):
    return (found["ceiling"] - found["random"]) / (found["oracle"] - found["random"])


@pytest.mark.parametrize("task", TIME.tasks("test"), ids=lambda task: task.name)
def test_references_are_deterministic_and_the_ceiling_is_where_the_facts_put_it(task):
    found = references(task)
    point._references.cache_clear()
    assert references(task) == found
    assert found["oracle"] == pytest.approx(-45)  # 9 + 8 + ... + 1
    assert 0.90 < normalised(found) < 0.94


def test_references_of_unseen_goals_are_ordered():
    for task in SPREAD.tasks("test")[::3]:
        found = references(task)
        assert found["random"] < found["ceiling"] < found["oracle"]
        assert 0.88 < normalised(found) < 0.96


def test_random_is_the_mean_of_uniform_actions():
    """To four standard errors of the difference of two means over 5,000 episodes."""
    rng = np.random.default_rng(5)
    for task, goal in zip(TIME.tasks("test"), GOALS[:3], strict=True):
        own = returns(goal, lambda t, p: rng.uniform(-1, 1, p.shape), episodes=5_000)
        assert abs(references(task)["random"] - own.mean()) < 4 * own.std() * np.sqrt(2 / 5_000)


def test_the_reward_is_one_function_for_numpy_and_jax():
    """numpy in float64, jax in float32, a task for each row or one for all."""
    rng = np.random.default_rng(0)
    rows, places = rng.normal(size=(7, 3)), rng.normal(size=(7, 2))
    want = -np.hypot(*(places - rows[:, 1:]).T)
    found = point.reward(rows, None, None, places, None)
    assert isinstance(found, np.ndarray) and found.dtype == np.float64
    np.testing.assert_allclose(found, want, rtol=1e-14)
    np.testing.assert_allclose(point.reward(jnp.asarray(rows), None, None, jnp.asarray(places), None), want, rtol=1e-5)
    np.testing.assert_allclose(point.reward(rows[3], None, None, places, None)[3], want[3])


def test_the_picture_shows_the_goal_where_it_is():
    for task in TIME.tasks("test"):
        found = TIME.scene(task)
        (goal,) = (shape for shape in found.shapes if shape.role == "goal")
        assert goal.numbers[:2] == (task.params["x"], task.params["y"])
        assert all(low <= place <= high for low, place, high in zip(found.low, goal.numbers, found.high, strict=False))
    np.testing.assert_array_equal(TIME.position(np.ones((4, 2))), np.ones((4, 2)))
