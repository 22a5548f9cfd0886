"""Inspect on logs whose answer is known: rewards and dynamics that differ, or not, where tasks meet, or do not."""

from typing import Any

import numpy as np
import pytest

from pipelines.core.trees import task_leaf
from pipelines.figures.heat import Map, heat_maps
from pipelines.stages import inspect
from pipelines.stages.inspect_pairs import compare
from pipelines.stages.sparks import sparkline
from tests.toys import SPACE, run

EPISODES, STEPS = 40, 20
EXTRA = {"space": SPACE._replace(obs_shape=(2,)).to_json(), "family": "", "lacks": []}


def columns(
    seed: int,
    goal: tuple[float, float],
    where: tuple[float, float] = (0, 0),
    push: float = 0.2,
    sparse: bool = False,
    episodes: int = EPISODES,
) -> dict[str, Any]:
    """A random walk around `where`, paid by its distance to `goal`, or 1 near it; `push` is the dynamics."""
    rng = np.random.default_rng(seed)
    count = episodes * STEPS
    action = rng.uniform(-1, 1, (count, 2)).astype(np.float32)
    path = np.cumsum(np.concatenate([np.zeros((episodes, 1, 2)), push * action.reshape(episodes, STEPS, 2)], 1), 1)
    path += np.asarray(where) + rng.normal(0, 0.3, (episodes, 1, 2))
    away = np.hypot(*(path[:, 1:] - goal).reshape(-1, 2).T)
    return {
        "obs": path.reshape(-1, 2).astype(np.float32),
        "action": action,
        "reward": (away < 0.3 if sparse else -away).astype(np.float32),
        "terminal": np.zeros(count, bool),
        "episode": np.repeat(np.arange(episodes), STEPS).astype(np.int32),
        "size": np.int32(count),
    }


def seen(*tasks: dict[str, Any], **extra: Any) -> inspect.Seen:
    table = [{"id": n, "name": f"t{n}", "split": "train", "params": {}} for n in range(len(tasks))]
    return inspect.look(table, {task_leaf(n): task for n, task in enumerate(tasks)}, {**EXTRA, **extra})


def fits(found: inspect.Seen, start: str) -> str:
    return next(one.fits for one in found.judgements if one.method.startswith(start))


RIGHT, LEFT = (1.0, 0.0), (-1.0, 0.0)


def test_the_same_task_twice_is_not_told_apart_and_two_tasks_are():
    """The control: only the goal of the second log differs."""
    same = seen(columns(0, RIGHT), columns(1, RIGHT))
    assert not same.pairs.identifiable[0, 1]
    assert same.pairs.both[0, 1] > 0.9
    assert fits(same, "BOReL without") == "no"
    assert fits(same, "pooled") == "yes"
    two = seen(columns(0, RIGHT), columns(1, LEFT))
    assert two.pairs.identifiable[0, 1]
    assert two.pairs.reward_evidence[0, 1] > 0.3
    assert same.pairs.reward_evidence.max() == 0
    assert two.pairs.change_evidence.max() < two.pairs.least
    assert fits(two, "BOReL without") == "yes"
    assert fits(two, "tiMe") == "yes"
    assert fits(two, "pooled") == "no"
    assert two.pairs.reward_gap[0, 1] > 3 * two.pairs.reward_gap[0, 0]


def test_tasks_that_do_not_meet_are_not_identifiable_however_much_they_differ():
    """BOReL Fig. 2, and MBML Fig. 1: each agent knows its own place. The control is the same pair in one place."""
    apart = seen(columns(0, RIGHT, where=(5, 0)), columns(1, LEFT, where=(-5, 0)))
    assert apart.pairs.both[0, 1] == apart.pairs.states[0, 1] == 0
    assert apart.pairs.actions[0, 1] > 0.9
    assert not apart.pairs.identifiable[0, 1]
    assert apart.pairs.told_late > 0.99
    assert fits(apart, "BOReL without") == "no"
    assert fits(apart, "MBML") == "no"
    assert fits(apart, "PEARL") == "care"
    assert fits(apart, "BOReL with reward") == "no"
    together = seen(columns(0, RIGHT), columns(1, LEFT))
    assert together.pairs.told_late < 0.65
    assert fits(together, "MBML") == fits(together, "PEARL") == "yes"


def test_sparse_rewards_are_seen_where_one_goal_lies_in_the_others_log():
    two = seen(*(columns(n, (x, 0.0), sparse=True, episodes=100) for n, x in ((0, 0.5), (1, -0.5))))
    assert two.pairs.identifiable[0, 1]
    same = seen(*(columns(n, (0.5, 0.0), sparse=True, episodes=100) for n in (0, 1)))
    assert not same.pairs.identifiable[0, 1]


def test_dynamics_that_differ_are_seen_and_rewards_that_do_not_are_not():
    found = seen(columns(0, RIGHT), columns(1, RIGHT, push=0.1))
    assert found.pairs.change_evidence[1, 0] > 0.3
    assert fits(found, "BOReL with reward") == "no"
    assert fits(found, "MBML") == "care"


def test_a_known_reward_and_a_simulator_come_with_a_family():
    tasks = columns(0, RIGHT, where=(5, 0)), columns(1, LEFT, where=(-5, 0))
    known = seen(*tasks, family="point-semicircle/time")
    assert fits(known, "BOReL with reward") == fits(known, "BOReL with policy") == "yes"
    assert fits(seen(*tasks, family="a/b", lacks=["velocity"]), "BOReL with reward") == "no"
    assert fits(seen(*tasks), "BOReL with policy") == "no"


def test_reproducible_and_one_task_more_changes_no_pair():
    tasks = columns(0, RIGHT), columns(1, LEFT), columns(2, (0, 1))
    first, again = (compare(list(tasks), [0, 1, 2], None) for _ in range(2))
    np.testing.assert_array_equal(first.both, again.both)
    np.testing.assert_array_equal(first.reward_evidence, again.reward_evidence)


def test_one_task_and_short_logs():
    one = seen(columns(0, RIGHT))
    assert one.pairs is None
    assert [one.fits for one in one.judgements] == ["care", "no"]
    for rows, episodes in ((1, [0]), (2, [0, 1]), (3, [0, 0, 0])):
        short = columns(0, RIGHT)
        short |= {name: short[name][:rows] for name in ("action", "reward", "terminal")}
        short |= {"episode": np.array(episodes, np.int32), "size": np.int32(rows)}
        assert seen(short, columns(1, LEFT)).pairs.rows >= 1


def test_histories_by_hand():
    task = columns(0, RIGHT)
    task["reward"] = np.repeat(np.arange(EPISODES), STEPS).astype(np.float32)
    row = seen(task).tasks[0]
    assert (row["transitions"], row["episodes"], row["length"]) == (800, 40, 20.0)
    assert (row["first_return"], row["last_return"]) == (20 * 1.5, 20 * 37.5)
    np.testing.assert_allclose(
        [row["return_5"], row["return_50"], row["return_95"]], 20 * np.quantile(range(40), [0.05, 0.5, 0.95])
    )
    assert abs(row["action_spread"] - 1) < 0.03
    assert len(row["over_time"]) == 16
    assert sparkline(row["over_time"], min(row["over_time"]), max(row["over_time"]))[0::15] == "▁█"


@pytest.mark.parametrize("family", ["point-semicircle/time", "point-semicircle/disjoint"])
def test_collected_logs_overlap_in_the_beginning(family: str):
    """Random agents share a place; the same rows cut to where an agent has gone alone do not."""
    log = run("collect", None, {"family": family})
    found = inspect.look(log.card.tasks, log.tree, log.card.extra)
    count = len(log.card.tasks)
    off = ~np.eye(count, dtype=bool)
    assert found.pairs.both[off].min() > 0.5
    assert found.pairs.identifiable[off].all()
    for number, task in enumerate(log.card.tasks):
        moved = log.tree[task_leaf(number)]
        moved["obs"] = moved["obs"] + 20 * np.array([np.cos(np.radians(task["params"]["angle"])), number], np.float32)
    apart = inspect.look(log.card.tasks, log.tree, log.card.extra)
    assert apart.pairs.both[off].max() < 0.05
    assert not apart.pairs.identifiable[off].any()


def test_the_picture_depends_on_the_numbers():
    maps = [Map("a", np.array([[1.0, np.nan], [0.2, 1.0]]))] * 3
    first = heat_maps(maps, ["one", "two"])
    assert first.startswith(b"\x89PNG")
    assert first == heat_maps(maps, ["one", "two"])
    assert first != heat_maps([Map("a", np.eye(2))] * 3, ["one", "two"])
