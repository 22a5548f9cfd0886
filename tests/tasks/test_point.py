"""The point family: task lists of the paper, one reward, references that are what they claim."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.errors import UsageError
from pipelines.core.types import task_rows
from pipelines.tasks import point, registry
from tests.toys import run

RNG = np.random.default_rng(0)


def test_the_papers_three_goals_divide_the_semicircle() -> None:
    for split in ("train", "test"):
        tasks = point.TIME.tasks(split)
        assert [task.params["angle"] for task in tasks] == [0.0, 90.0, 180.0]
        np.testing.assert_allclose(task_rows(tasks)[:, 1:], [[10, 0], [0, 10], [-10, 0]], atol=1e-5)
    assert point.TIME.tasks("ood") == ()


def test_the_spread_variants_test_goals_are_midpoints_of_its_training_goals() -> None:
    train = np.array([task.params["angle"] for task in point.SPREAD.tasks("train")])
    test = np.array([task.params["angle"] for task in point.SPREAD.tasks("test")])
    np.testing.assert_allclose(train, np.linspace(0, 180, 15), atol=1e-5)
    np.testing.assert_allclose(test, (train[1:] + train[:-1]) / 2, atol=1e-5)
    every = [*point.SPREAD.tasks("train"), *point.SPREAD.tasks("test")]
    assert len({task.id for task in every}) == 29
    np.testing.assert_allclose(np.linalg.norm(task_rows(tuple(every))[:, 1:], axis=1), 10, rtol=1e-6)


def test_an_id_is_the_goals_own_whatever_the_list() -> None:
    assert [task.id for task in point.TIME.tasks("train")] == [0, 90_000, 180_000]
    assert point.SPREAD.tasks("train")[7].id == 90_000


def test_a_move_is_clipped_and_paid_by_the_distance_after_it() -> None:
    task = jnp.asarray(point.TIME.tasks("train")[0].row())
    state, obs = point.reset(task, jax.random.key(0))
    assert obs.tolist() == [0, 0]
    state, obs, reward, terminal, outcome = point.step(task, state, jnp.array([3.0, -0.5]), jax.random.key(1))
    assert obs.tolist() == [1, -0.5]
    assert float(reward) == pytest.approx(-np.hypot(9, 0.5))
    assert not terminal
    assert outcome.shape == (0,)


def test_the_logs_reward_is_the_familys_from_what_the_log_keeps() -> None:
    log = run("collect")
    for index, task in enumerate(point.TIME.tasks("train")):
        rows = log.tree[f"task_{index:04d}"]
        slot = np.arange(len(rows["reward"])) + rows["episode"]
        again = point.reward(
            jnp.asarray(task.row()), rows["obs"][slot], rows["action"], rows["obs"][slot + 1], rows["outcome"]
        )
        np.testing.assert_allclose(again, rows["reward"], rtol=3e-7)  # one rounding: the other was fused into a scan


def _returns(actions: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Undiscounted returns of action sequences [P, H, 2] from the origin."""
    return -np.linalg.norm(np.cumsum(np.clip(actions, -1, 1), axis=1) - goal, axis=-1).sum(-1)


@pytest.mark.parametrize("angle", [0.0, 37.0, 90.0, 141.4])
def test_no_disturbance_of_the_oracles_moves_does_better(angle: float) -> None:
    goal = point.tasks_at([angle], "test")[0].row()[1:].astype(float)
    position, moves = np.zeros(2), []
    for _ in range(point.HORIZON):
        moves.append(point.optimal_action(position, goal))
        position = position + moves[-1]
    best = np.asarray(moves)
    noise = RNG.normal(size=(4_000, *best.shape)) * RNG.choice([0.01, 0.1, 1.0], (4_000, 1, 1))
    assert (_returns(best + noise, goal) <= _returns(best[None], goal) + 1e-9).all()


@pytest.mark.parametrize("goal", [(10.0, 0.0), (-3.0, 7.5)])
def test_exact_q_is_the_discounted_return_of_the_move_and_optimal_moves_after_it(goal: tuple[float, float]) -> None:
    target, start, action = np.asarray(goal), np.array([1.2, -0.7]), np.array([-0.4, 0.9])
    position, total = start + action, 0.0
    for t in range(600):
        total -= point.DISCOUNT**t * float(np.linalg.norm(position - target))
        position = position + point.optimal_action(position, target)
    assert point.exact_q(start, action, target) == pytest.approx(total, rel=1e-9)


def test_references_are_deterministic_and_the_ceiling_is_where_the_facts_put_it() -> None:
    for task in point.TIME.tasks("test"):
        found = point.references(task)
        point._references.cache_clear()
        assert point.references(task) == found
        assert found["oracle"] == pytest.approx(-45)
        assert found["random"] == pytest.approx(-203.5, abs=1)
        assert 0.90 < (found["ceiling"] - found["random"]) / (found["oracle"] - found["random"]) < 0.94


def test_an_unknown_family_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown family 'point-semicircle/tim'") as caught:
        registry.find("point-semicircle/tim")
    assert "point-semicircle/time" in caught.value.hint
