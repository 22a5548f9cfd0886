"""The gridworld: its goals, its moves, and what is exactly known of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines import rollouts
from pipelines.core.types import task_rows
from pipelines.tasks import gridworld, registry, thompson
from pipelines.tasks.gridworld import DOWN, GOALS, LEFT, PLAN, RIGHT, STAY, UP
from pipelines.tasks.scripted import uniform
from tests.tasks.device import keeps_its_promises, random_rows, trial_returns

FAMILY = registry.find("gridworld/borel")
EVALUATED = registry.find("gridworld/borel", evaluation=True)
TASKS = FAMILY.tasks("train")


def test_the_goals_are_the_21_cells_that_are_not_next_to_the_start():
    want = {(x, y) for x in range(5) for y in range(5)} - {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert {(task.params["x"], task.params["y"]) for task in TASKS} == want
    assert len(TASKS) == 21
    assert [task.id for task in TASKS] == [5 * x + y for x, y in sorted(want)]
    assert [task.params for task in FAMILY.tasks("test")] == [task.params for task in TASKS]
    assert FAMILY.tasks("ood") == ()


def test_it_keeps_the_promises_of_a_family():
    rows = random_rows(FAMILY, 10_000)
    keeps_its_promises(FAMILY, rows)
    assert set(np.unique(rows.action)) == set(range(5))
    assert set(np.unique(rows.reward)) == {np.float32(-0.1), np.float32(1)}
    assert (FAMILY.space.num_actions, FAMILY.space.action_dim, FAMILY.horizon) == (5, 1, 15)


@pytest.mark.parametrize(
    "cell, action, after",
    [
        ((2, 3), STAY, (2, 3)),
        ((2, 3), UP, (2, 4)),
        ((2, 3), RIGHT, (3, 3)),
        ((2, 3), DOWN, (2, 2)),
        ((2, 3), LEFT, (1, 3)),
        ((0, 0), LEFT, (0, 0)),
        ((0, 0), DOWN, (0, 0)),
        ((4, 4), RIGHT, (4, 4)),
        ((4, 4), UP, (4, 4)),
    ],
)
def test_moves(cell, action, after):
    task = jnp.asarray([4.0, 4.0])
    moved = FAMILY.step(task, jnp.asarray(cell, jnp.float32), jnp.int32(action), jax.random.key(0))
    np.testing.assert_array_equal(moved[1], after)
    np.testing.assert_allclose(moved[2], 1.0 if after == (4, 4) else -0.1)


def test_logs_begin_anywhere_but_on_the_goal_and_evaluation_at_the_corner():
    """All other 24 cells, each as often: within 5 standard errors."""
    keys = jax.random.split(jax.random.key(0), 24_000)
    for task in (TASKS[0], TASKS[7], TASKS[-1]):
        row = jnp.asarray(task.row())
        cells = np.asarray(jax.vmap(FAMILY.reset, in_axes=(None, 0))(row, keys)[1]).astype(int)
        counts = np.bincount(5 * cells[:, 0] + cells[:, 1], minlength=25)
        assert counts[task.id] == 0
        assert (np.abs(np.delete(counts, task.id) - 1_000) < 5 * np.sqrt(1_000)).all()
        assert not np.asarray(jax.vmap(EVALUATED.reset, in_axes=(None, 0))(row, keys[:50])[1]).any()


# ---- what is exact ---------------------------------------------------------------------------------------------------


def test_the_bayes_optimal_plan_scores_what_the_facts_say():
    """37.2142857 over four episodes in the mean over the goals; 4 in the first, 11.0714 in the others, to 1e-5."""
    returns = trial_returns(EVALUATED, gridworld.BAYES, task_rows(TASKS), 4)
    np.testing.assert_allclose(returns.sum(1).mean(), 37.2142857, atol=1e-5)
    np.testing.assert_allclose(returns.mean(0), [4.0, 11.0714286, 11.0714286, 11.0714286], atol=1e-5)
    ceilings = [FAMILY.references(task)["ceiling"] for task in TASKS]
    np.testing.assert_allclose(returns.mean(1), ceilings, atol=1e-5)


def test_the_plan_without_memory_scores_less():
    """The control: the first episode's path again and again."""
    path = jnp.asarray(PLAN[0], jnp.int32)
    policy = type(gridworld.BAYES)(
        begin=lambda task, key: jnp.int32(0),
        start=lambda task, memory, obs, key: jnp.int32(0),
        act=lambda task, memory, obs, key, explore: path[memory],
        observe=lambda task, memory, row: memory + 1,
        value=None,
    )
    assert trial_returns(EVALUATED, policy, task_rows(TASKS), 4).sum(1).mean() < 10


def test_exact_thompson_sampling_earns_what_the_facts_say():
    """7.777240 strict, 11.743597 stopping at the goal (facts 8.1, to 1e-6); by episode as the family gives it."""
    for name, stops, total in (("thompson", False, 7.777240), ("thompson-stop", True, 11.743597)):
        exact = thompson.mean_returns(GOALS, gridworld.HORIZON, 4, stops)
        assert exact.sum() == pytest.approx(total, abs=1e-6)
        np.testing.assert_allclose(gridworld.THOMPSON[name], exact, atol=6e-7)


@pytest.mark.parametrize("name", ["thompson", "thompson-stop"])
def test_scripted_thompson_sampling_earns_as_much(name):
    """Each episode, to 4.5 standard errors of 300 trials on each goal; the other kind is further away."""
    run = rollouts.trials(EVALUATED, FAMILY.scripted[name], 300, 4)
    each = jax.jit(jax.vmap(lambda row, key: run(row, row, key).returns))
    returns = np.asarray(each(jnp.asarray(task_rows(TASKS)), jax.random.split(jax.random.key(0), 21)))
    mean, error = np.mean(returns, (0, 1)), np.std(returns, (0, 1)) / np.sqrt(returns[..., 0].size)
    assert (np.abs(mean - np.array(gridworld.THOMPSON[name])) < 4.5 * error).all()
    other = gridworld.THOMPSON["thompson" if name == "thompson-stop" else "thompson-stop"]
    assert abs(np.sum(returns, -1).mean() - sum(other)) > 1


def test_what_is_known_of_trials():
    """37.2142857 of four episodes, 15.0714286 of two, 4 of one; Thompson sampling of up to four."""
    known = [gridworld.trial_references(k) for k in (1, 2, 4, 5)]
    np.testing.assert_allclose([one["bayes"] for one in known], [4, 15.0714286, 37.2142857, 48.2857143], atol=1e-6)
    assert known[1]["thompson"] == pytest.approx(0.393949, abs=2e-6)
    assert known[1]["thompson-stop"] == pytest.approx(2.755570, abs=2e-6)
    assert set(known[3]) == {"bayes"}
    assert FAMILY.trial_references is gridworld.trial_references and FAMILY.goal_reward == 0.0


def test_a_known_goal_pays_16_1_less_1_1_a_step():
    returns = trial_returns(EVALUATED, FAMILY.scripted["oracle"], task_rows(TASKS), 1)[:, 0]
    distance = np.array([task.params["x"] + task.params["y"] for task in TASKS])
    np.testing.assert_allclose(returns, 16.1 - 1.1 * distance, atol=1e-5)
    assert returns.mean() == pytest.approx(11.0714286, abs=1e-5)
    np.testing.assert_allclose(returns, [FAMILY.references(task)["oracle"] for task in TASKS], atol=1e-5)


def test_random_is_the_mean_of_uniform_actions():
    """Exact against 4,000 episodes of the family's own, to 4.5 standard errors; -4.64 over four (facts, to 0.1)."""
    exact = np.array([FAMILY.references(task)["random"] for task in TASKS])
    assert 4 * exact.mean() == pytest.approx(-4.64, abs=0.1)
    for n in (0, 9, 20):
        returns = trial_returns(EVALUATED, uniform(FAMILY.space), task_rows(TASKS[n : n + 1]), 4_000)[0]
        assert abs(returns.mean() - exact[n]) < 4.5 * returns.std() / np.sqrt(4_000) + 1e-6


def test_the_picture_shows_25_cells_and_the_goal():
    found = FAMILY.scene(TASKS[3])
    assert [shape.role for shape in found.shapes].count("floor") == 25
    goal = found.shapes[-1]
    assert goal.numbers[:2] == (TASKS[3].params["x"], TASKS[3].params["y"]) and goal.solid
    np.testing.assert_array_equal(FAMILY.position(np.array([[1.0, 2.0]])), [[1, 2]])
