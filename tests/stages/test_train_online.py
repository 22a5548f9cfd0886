"""Online evaluation during training, and policies that are chosen by it."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from pipelines.core.errors import UsageError
from pipelines.stages import judging
from pipelines.stages.registry import STAGES
from tests.toys import AGENTS, Memory, Stored, Talk, bits, log_artifact, run, stored, work

FIELDS = {
    "algorithm": "bc",
    "updates": 12,
    "block_updates": 4,
    "num_snapshots": 3,
    "agent": AGENTS["bc"],
    "eval_every": 4,
    "eval_episodes": 2,
}


@pytest.fixture(scope="module")
def log() -> Stored:
    return run("collect")


def train(log, *layers, checkpoint=None, tell=None) -> Stored:
    order = work("train", {"log": log}, FIELDS, *layers, checkpoint=checkpoint, tell=tell)
    return stored("train", STAGES["train"].load()(order), order.config)


def said(tell: Talk, log: Stored) -> np.ndarray:
    """`[evaluations, T]` returns that were told of."""
    names = [f"online_return/{task['name']}" for task in log.card.tasks]
    return np.array([[row[name] for name in names] for _, row in tell.rows if names[0] in row])


def test_the_best_of_each_task_is_kept(log, monkeypatch):
    """The first of equals. `seen` is scripted, so that the best is the last, the first and the second."""
    seen = [[1.0, 3.0, 2.0], [2.0, 1.0, 5.0], [3.0, 3.0, 4.0]]
    plays = iter(seen)

    def player(family, policy, discount, num_episodes, lineup):
        assert (num_episodes, len(lineup.tasks)) == (2, 3)
        return lambda acting, keys: SimpleNamespace(returns=np.array(next(plays))[:, None] + [[-0.5, 0.5]] * 3)

    monkeypatch.setattr(judging, "player", player)
    tell = Talk()
    policies = train(log, {"select": "online"}, tell=tell)
    np.testing.assert_allclose(said(tell, log), seen)
    acting, snapshots = policies.tree["acting"], policies.tree["snapshots"]
    for leaf, kept in zip(jax.tree.leaves(acting), jax.tree.leaves(snapshots), strict=True):
        for task, evaluation in enumerate((2, 0, 1)):
            np.testing.assert_array_equal(leaf[task], kept[evaluation, task])
    for one, other in ((0, 1), (1, 2)):
        assert any((kept[one] != kept[other]).any() for kept in jax.tree.leaves(snapshots))
    names = [task["name"] for task in log.card.tasks]
    assert policies.card.extra["select"] == "online"
    assert policies.card.extra["online"] == {
        "family": "point-semicircle/time",
        "every": 4,
        "episodes": 2,
        "update": dict(zip(names, (12, 4, 8), strict=True)),
        "return": dict(zip(names, (3.0, 3.0, 5.0), strict=True)),
    }
    assert any("played" in note for note in tell.notes)


def test_looking_changes_nothing(log):
    """With `select=last` online evaluation is told of, on the card too, and the policies keep their bits."""
    tell = Talk()
    looked, blind = train(log, tell=tell), train(log, {"eval_every": None})
    assert bits(looked.tree) == bits(blind.tree)
    assert said(tell, log).shape == (3, 3)
    assert (said(tell, log) < 0).all()  # minus distances
    assert looked.card.extra["select"] == "last"
    assert looked.card.extra["online"] == {"family": "point-semicircle/time", "every": 4, "episodes": 2}
    assert not {"select", "online"} & blind.card.extra.keys()


def test_the_returns_are_those_that_eval_finds(log):
    """Episodes of the same policies by `eval`: other starts, but these do not differ here."""
    tell = Talk()
    policies = train(log, {"select": "online"}, tell=tell)
    report = run("eval", {"policy": policies}, {"episodes": 2, "curve_episodes": 2, "split": "train"})
    np.testing.assert_allclose(report.tree["curve_return"], said(tell, log), rtol=1e-4)
    np.testing.assert_allclose(report.tree["returns"].mean(1), said(tell, log).max(0), rtol=1e-4)


def test_it_is_played_at_the_end_too(log):
    tell = Talk()
    train(log, {"eval_every": 8}, tell=tell)
    assert [step for step, row in tell.rows if "online_return" in row] == [8, 12]


def test_resumed_it_chooses_the_same(log):
    kept = Memory(every=1)
    whole = train(log, {"select": "online"}, checkpoint=kept)
    assert [cursor for cursor, _ in kept.kept] == [4, 8]
    for held in list(kept.kept):
        again = train(log, {"select": "online"}, checkpoint=Memory(kept=[held]))
        assert bits(again.tree) == bits(whole.tree)
        assert again.card.extra == whole.card.extra


def test_without_an_environment_there_is_nothing_to_play():
    tell = Talk()
    with pytest.raises(UsageError, match="imported log without a family"):
        train(log_artifact(family=""), tell=tell)
    assert not tell.rows
