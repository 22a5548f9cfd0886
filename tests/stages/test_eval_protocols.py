"""Protocols on a line where everything is known: what is carried on, what counts, what is shown first."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines import rollouts
from pipelines.core.configs.base import resolve
from pipelines.core.configs.eval import EvalConfig
from pipelines.core.errors import UsageError, WrongKind
from pipelines.core.types import Task, transitions
from pipelines.rollouts.episodes import discounted_return
from pipelines.stages import contexts, protocols
from pipelines.stages.eval import scores
from pipelines.stages.results import Row, Run
from tests.lines import hosted, line
from tests.stages.on_a_line import (
    EMPTY,
    EPISODES,
    HORIZON,
    TASKS,
    WAY,
    Acting,
    agent,
    evaluate,
    family,
    finder,
    searcher,
    task,
    up,
)
from tests.toys import at, make_log


@pytest.fixture
def known(monkeypatch):
    return finder(monkeypatch)


@pytest.fixture(params=["device", "host"])
def engine(request):
    """Both drivers."""
    return (lambda family: family) if request.param == "device" else hosted


# ---- episodes in one task --------------------------------------------------------------------------------------------


def test_who_remembers_solves_the_second_episode(known, engine):
    known(engine(family()), searcher())
    found = evaluate(agent(), EPISODES).tree
    assert found["episode_returns"].shape == (2, 3, 3)
    want = np.array([[-WAY, WAY, WAY], [WAY, WAY, WAY]])
    np.testing.assert_allclose(found["episode_returns"], np.broadcast_to(want[:, None], (2, 3, 3)), rtol=1e-6)
    np.testing.assert_allclose(found["returns"], np.broadcast_to(want.mean(1)[:, None], (2, 3)), rtol=1e-6)


def test_who_forgets_at_the_start_of_an_episode_never_does(known, engine):
    """The control: what an episode's start does to the memory is the policy's own affair."""
    known(engine(family()), searcher(forgets=True))
    found = evaluate(agent(), EPISODES).tree["episode_returns"]
    np.testing.assert_allclose(found[0], np.full((3, 3), -WAY), rtol=1e-6)


def test_episodes_that_count(known):
    """Half a step at a time: the first goes up, where it does not pay in the first task, the later ones down."""
    known(family(), searcher())
    report = evaluate(agent(final=0.5), EPISODES, {"counted": "2-3"})
    found = report.tree
    want = np.array([-WAY / 2, WAY / 2, WAY / 2])
    np.testing.assert_allclose(found["episode_returns"][0], np.broadcast_to(want, (3, 3)), rtol=1e-6)
    np.testing.assert_allclose(found["returns"][0], np.full(3, WAY / 2), rtol=1e-6)
    np.testing.assert_allclose(found["obs"][0, :, -1, 0], np.full(3, -2.0), rtol=1e-6)
    extra = report.card.extra
    assert (extra["protocol"], extra["trial_episodes"], extra["counted"]) == ("episodes 2-3 of 3", 3, [2, 3])
    metrics = scores(found, TASKS["test"])
    assert [metrics[f"return/episode {n}"] for n in (1, 2, 3)] == pytest.approx([0, WAY / 2, WAY / 2])


def test_who_reaches_the_goal_in_which_episode(known, engine):
    """More than 3.5 is paid at place 4, or -4, alone: in the first task nobody is paid before the second episode. The
    best that there can be is said to be twice WAY an episode."""
    best = lambda k: {"bayes": 2.0 * WAY * k, "other": 1.0}  # noqa: E731
    known(engine(dataclasses.replace(family(), goal_reward=3.5, trial_references=best)), searcher())
    report = evaluate(agent(), EPISODES)
    want = np.array([[False, True, True], [True, True, True]])
    np.testing.assert_array_equal(report.tree["episode_success"], np.broadcast_to(want[:, None], (2, 3, 3)))
    card = report.card
    assert card.extra["trial_references"] == {"bayes": 6.0 * WAY, "other": 1.0}
    metrics = scores(report.tree, TASKS["test"])
    assert [metrics[f"success/episode {n}"] for n in (1, 2, 3)] == [0.5, 1.0, 1.0]
    assert metrics["return/sum"] == pytest.approx(2 * WAY)  # of 1 and 3 ways
    row = Row("searcher", (Run(card, report.tree),))
    assert row.exploring["episode_1_success"].point == 0.5
    assert row.exploring["bayes_fraction"].point == pytest.approx(1 / 3)
    # of some of the tasks, or of episodes one by one, nothing is known
    few = evaluate(agent(tasks=TASKS["train"][:1]), EPISODES, {"split": "train"})
    assert "trial_references" not in few.card.extra and "episode_success" in few.tree
    assert "trial_references" not in evaluate(agent()).card.extra


def test_where_rewards_do_not_say_nobody_counts_goals(known):
    known(family(), searcher())
    report = evaluate(agent(), EPISODES)
    assert "episode_success" not in report.tree and "trial_references" not in report.card.extra
    assert Row("searcher", (Run(report.card, report.tree),)).exploring == {}


@pytest.mark.parametrize(
    ("counted", "mean", "end", "words"),
    [
        ("all", 4.0, 30, "all 3 episodes of a trial"),
        ("last", 9.0, 30, "episode 3 of 3"),
        ("2-3", 6.0, 30, "episodes 2-3 of 3"),
        ("1-2", 1.5, 20, "episodes 1-2 of 3"),
        ("1", 0.0, 10, "episode 1 of 3"),
    ],
)
def test_what_counts_of_a_trial(monkeypatch, counted, mean, end, words):
    """Episodes of 0, 3 and 9 that end at 10, 20 and 30."""
    path = np.broadcast_to(np.array([10.0, 20.0, 30.0])[:, None, None], (1, 1, 3, 5, 2))
    each = np.array([[[0.0, 3.0, 9.0]]])
    made = rollouts.Trials(each, path, None, each + 1, each + 2, None)
    monkeypatch.setattr(protocols, "trial_player", lambda *args: lambda acting, keys: made)
    config = resolve(EvalConfig, EPISODES, {"counted": counted})
    none: Any = None
    found = protocols.play_of(config, line(), none, 1, none)(none, none)
    assert (found.returns.item(), found.path[0, 0, -1, 0]) == (mean, end)
    assert (found.discounted.item(), found.value.item()) == (1, 2)
    assert found.each is each
    assert protocols.in_words(config) == words


def test_value_and_discounted_return_are_of_the_first_episode(known):
    """Both are of a policy that has seen nothing yet, 0 rows. The discount is 0.1: a thousandth is 3 steps away."""
    known(family(), searcher())
    found = evaluate(agent(), EPISODES, {"counted": "last"}).tree
    np.testing.assert_allclose(found["value"], [0, 0])
    paid = (np.arange(1, 5) * 0.1 ** np.arange(4)).sum()
    np.testing.assert_allclose(found["discounted_return"], [-paid, paid], rtol=1e-5)
    assert np.isnan(discounted_return(np.ones((2, 4)), 0.9)).all()  # that would take 66 steps


def test_the_curve_and_the_metrics_follow_the_protocol(known):
    known(family(), searcher())
    report = evaluate(agent(speeds=(0.25, 0.5)), EPISODES, {"counted": "last", "curve_episodes": 2})
    np.testing.assert_allclose(report.tree["curve_return"], [[WAY / 4] * 2, [WAY / 2] * 2], rtol=1e-6)
    np.testing.assert_array_equal(report.tree["curve_step"], [10, 20])


def test_a_zero_shot_report_says_no_more_than_it_did(known):
    known(family(), searcher())
    report = evaluate(agent())
    known_before = {"label", "family", "split", "protocol", "episodes", "horizon", "discount"}
    assert set(report.card.extra) == known_before
    assert "episode_returns" not in report.tree
    assert resolve(EvalConfig).identity().keys() == {
        "label", "split", "protocol", "episodes", "curve_episodes", "match", "mapping",
    }  # fmt: skip


# ---- context that is given -------------------------------------------------------------------------------------------


def test_rows_that_are_given_fill_the_memory_as_if_they_had_been_seen(known, engine):
    """The first episode after the rows of an episode is the second one of a trial, to the bit."""
    there = family()
    known(engine(there), searcher())
    trial = evaluate(agent(final=0.5), EPISODES, {"counted": "2"}).tree
    given = {"context_rows": HORIZON, "context_pick": "first"}
    half = up(there)
    for leaf in half.tree.values():
        leaf["reward"] = leaf["reward"] / 2  # as moves of half a step are paid
        leaf["obs"] = leaf["obs"] / 2
    report = evaluate(agent(final=0.5), given, context=half)
    np.testing.assert_array_equal(report.tree["returns"], trial["returns"])
    np.testing.assert_array_equal(report.tree["obs"], trial["obs"])
    assert (report.tree["returns"] > 0).all()
    assert report.tree["value"].tolist() == [HORIZON, HORIZON]
    assert report.card.extra["protocol"] == "zero-shot, given the first 4 rows of its own log"
    assert report.card.extra["context"] == {"from": "own", "log": "log", "rows": 4, "pick": "first"}


def test_it_is_the_same_memory_row_by_row():
    log = jax.tree.map(jnp.asarray, make_log(0, space=line().space))
    rows = transitions(log, jnp.array([1, 4, 5, 9]))
    policy = searcher()
    found = rollouts.begin_task(policy, Acting(1.0), jax.random.key(0), rows)
    memory = policy.begin(Acting(1.0), jax.random.key(0))
    for n in range(4):
        memory = policy.observe(Acting(1.0), memory, at(rows, n))
    assert found == memory
    assert rollouts.begin_task(policy, Acting(1.0), jax.random.key(0), None) == EMPTY


def test_a_trial_goes_on_from_the_context(known, engine):
    known(engine(family()), searcher())
    found = evaluate(agent(), EPISODES, {"context_rows": 8}, context=up(family())).tree
    np.testing.assert_allclose(found["episode_returns"], np.full((2, 3, 3), WAY), rtol=1e-6)


def test_whose_context_it_is(known):
    known(family(), searcher())
    other = evaluate(agent(), {"context_rows": 8}, context=up(family(), id="other"))
    assert other.card.extra["protocol"] == "zero-shot, given 8 rows of another log"
    assert other.card.extra["context"]["from"] == "offline"


def drawn(log, tasks=TASKS["train"], runs=5, seed=0, **fields):
    config = resolve(EvalConfig, {"context_rows": 6, **fields})
    return contexts.Context(config, agent(), log, line().space, seed).draw(tasks, runs)


def test_which_rows_are_drawn():
    """The place after row n of an episode is n + 1: rows can be told by it and by their task's reward."""
    log = up(family(), rows=HORIZON * 3)
    found = drawn(log)
    assert found.reward.shape == (2, 5, 6)
    np.testing.assert_array_equal(found.reward, found.next_obs[..., 0] * np.array([-1, 1])[:, None, None])
    np.testing.assert_array_equal(found.next_obs, found.obs + 1)
    assert len({tuple(run) for run in found.next_obs[0, :, :, 0]}) > 1  # each run draws its own
    every = drawn(log, context_rows=12)
    np.testing.assert_array_equal(every.next_obs[..., 0], np.broadcast_to(np.tile([1, 2, 3, 4], 3), (2, 5, 12)))
    first, last = (drawn(log, context_rows=3, context_pick=end).next_obs[0, :, :, 0] for end in ("first", "last"))
    np.testing.assert_array_equal(first, np.broadcast_to([1, 2, 3], (5, 3)))
    np.testing.assert_array_equal(last, np.broadcast_to([2, 3, 4], (5, 3)))


def test_draws_follow_the_seed_and_the_task_alone():
    log = up(family())
    np.testing.assert_array_equal(drawn(log).reward, drawn(log).reward)
    assert (drawn(log).reward != drawn(log, seed=1).reward).any()
    np.testing.assert_array_equal(drawn(log, TASKS["train"][1:]).reward[0], drawn(log).reward[1])


def test_tasks_are_matched_by_their_numbers():
    logged = (task(7, 3), task(8, 1), task(9, 1))
    assert contexts.matched([task(9, 1), task(7, 1), task(1, 3.00001)], logged, own=False) == [2, 1, 0]
    with pytest.raises(UsageError, match=r"no rows of task times 5 \(and 1 more\)") as caught:
        contexts.matched([task(7, 3), task(7, 5), task(8, 6)], logged, own=True)
    assert "--split train" in caught.value.hint
    plain = (Task(3, "a", "train", {}), Task(4, "b", "train", {}))
    assert contexts.matched([Task(4, "c", "test", {})], plain, own=False) == [1]


def test_contexts_that_cannot_be_given(known):
    known(family(), searcher())
    with pytest.raises(UsageError, match="the log has 12 rows of task times -1") as caught:
        evaluate(agent(), {"context_rows": 13}, context=up(family()))
    assert caught.value.hint == "--context-rows 12 takes them all"
    strangers = (task(5, 4), task(6, 5))
    with pytest.raises(UsageError, match="no rows of task times -1"):
        evaluate(agent(), {"context_rows": 2}, context=up(family({"train": strangers}), tasks=strangers))
    wide = up(family())
    wide.card.extra["space"] = {**wide.card.extra["space"], "obs_shape": [2]}
    with pytest.raises(WrongKind, match="obs_shape"):
        evaluate(agent(), context=wide)


@pytest.mark.parametrize("forgets", [True, False])
def test_a_context_that_would_be_forgotten_is_refused(known, forgets):
    known(family(), searcher(forgets))
    if not forgets:  # the control
        assert evaluate(agent(), {"context_rows": 4}, context=up(family())).tree["returns"].min() == WAY
        return
    with pytest.raises(UsageError, match="tiMe keeps nothing of a context"):
        evaluate(agent(), {"context_rows": 4}, context=up(family()))
