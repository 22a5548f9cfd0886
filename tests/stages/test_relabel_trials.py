"""Trials mixed with other tasks' episodes, on a line whose rewards are the task's number times the place."""

import jax
import numpy as np
import pytest

from pipelines.core.configs.base import resolve
from pipelines.core.configs.relabel import RelabelConfig
from pipelines.core.errors import UsageError, WrongKind
from pipelines.core.samplers import trials
from pipelines.core.types import Log, Task, transitions
from pipelines.stages import relabel_trials, relabelled
from pipelines.stages.belief import located
from pipelines.stages.registry import STAGES
from pipelines.stages.relabel_trials import Piece, of_replay, of_trials
from tests.lines import line
from tests.toys import make_log, run, stacked, work

from .relabelling import found_as, log_of, logged, logs_of, rows_of

KNOWN = {"reward": "known", "unit": "episode"}
NUM_EPISODES = 21  # ten trials of two, and one that is left over


@pytest.fixture(autouse=True)
def family(monkeypatch):
    return found_as(line(num_tasks=3), monkeypatch)


@pytest.fixture(scope="module")
def log():
    return log_of(line(num_tasks=3), NUM_EPISODES)


@pytest.fixture(scope="module")
def mixed(log):
    with pytest.MonkeyPatch.context() as patch:
        found_as(line(num_tasks=3), patch)
        return run("relabel", {"log": log}, KNOWN)


def read(log):
    """The logs as a stage reads them."""
    return stacked(*logs_of(log))


def places(artifact, index):
    """Each replaced episode once: (the own one, the task it comes from, its number there)."""
    found = rows_of(artifact, index)
    assert len(found.row) % 5 == 0
    return [(int(found.place[at]), int(found.task[at]), int(found.row[at]) // 5) for at in range(0, len(found.row), 5)]


# ---- which episodes --------------------------------------------------------------------------------------------------


def test_every_trial_has_one_half_of_another_task(mixed):
    halves, sources = [], []
    for index in range(3):
        found = places(mixed, index)
        assert [place // 2 for place, _, _ in found] == list(range(10))
        assert all(place % 2 == episode % 2 for place, _, episode in found)  # a slot keeps its number
        assert {task for _, task, _ in found} == {0, 1, 2} - {index}
        halves += [place % 2 for place, _, _ in found]
        sources += [episode for _, _, episode in found]
    assert 5 < sum(halves) < 25  # of thirty coins
    assert len(set(sources)) > 10


@pytest.mark.parametrize("half, slot", [("first", 0), ("last", 1)])
def test_the_half_may_be_chosen(log, half, slot):
    found = places(run("relabel", {"log": log}, KNOWN, {"half": half}), 0)
    assert [place % 2 for place, _, _ in found] == [slot] * 10


def test_both_halves_may_be_replaced_each_from_a_draw_of_its_own(log):
    found = places(run("relabel", {"log": log}, KNOWN, {"half": "both"}), 0)
    assert [place for place, _, _ in found] == list(range(20))
    assert {task for _, task, _ in found} == {1, 2}
    pairs = list(zip(found[::2], found[1::2], strict=True))
    assert 0 < sum(a[1] == b[1] for a, b in pairs) < 10  # of one task, or of two
    assert [slots.tolist() for slots in relabel_trials.halves(5, "both")] == [[0, 1], [2, 3, 4]]


def test_a_trial_may_lose_any_of_its_halves():
    """A third of the trials lose the first, a third the last, a third both."""
    able = [np.zeros(4, bool), np.ones(400, bool)]
    slots: dict[int, list[int]] = {}
    for piece in mixed_by(3_000, of_trials(able, 2), half="any"):
        slots.setdefault(piece.place // 2, []).append(piece.place % 2)
    for lost in ([0], [1], [0, 1]):
        share = np.mean([of_trial == lost for of_trial in slots.values()])
        assert abs(share - 1 / 3) < 4 * np.sqrt(2 / 9 / 3_000), lost
    assert len(slots) == 3_000


def mixed_by(num_trials, offers, **fields):
    """Pieces under a config of these fields."""
    config = resolve(RelabelConfig, KNOWN, fields)
    return list(relabel_trials.mix(config, jax.random.key(3), num_trials, offers))


def test_as_many_draws_as_trials_leave_a_third_as_they_were():
    """1 - 1/e of them are drawn at least once."""
    able = [np.zeros(2_000, bool), np.ones(2_000, bool)]
    drawn = {piece.place // 2 for piece in mixed_by(1_000, of_trials(able, 2), mixed="drawn")}
    assert abs(len(drawn) / 1_000 - (1 - np.exp(-1))) < 4 * np.sqrt(0.25 / 1_000)
    assert len({piece.place // 2 for piece in mixed_by(1_000, of_trials(able, 2))}) == 1_000


def test_a_half_of_two_episodes_comes_from_one_trial_or_from_two():
    able = [np.zeros(4, bool), np.ones(400, bool), np.ones(400, bool)]
    for sources in ("one", "each"):
        pieces = mixed_by(50, of_trials(able, 4), trial_episodes=4, half="first", sources=sources)
        assert [piece.place % 4 for piece in pieces] == [0, 1] * 50
        pairs = zip(pieces[::2], pieces[1::2], strict=True)
        together = [a.source == b.source and b.episode == a.episode + 1 for a, b in pairs]
        assert all(together) == (sources == "one")
        assert not (sources == "each" and sum(together) > 5)
        assert all(piece.episode % 4 == piece.place % 4 for piece in pieces)


def test_tasks_are_drawn_alike_whatever_they_have():
    able = [np.zeros(4, bool), np.ones(4, bool), np.ones(4_000, bool)]
    pieces = mixed_by(1_000, of_trials(able, 2))
    share = np.mean([piece.source == 1 for piece in pieces])
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / 1_000)


def test_what_does_not_pass_is_not_taken():
    able = [np.zeros(4, bool), np.array([True, False, True, True]), np.zeros(6, bool)]
    taken = {(piece.source, piece.episode) for piece in mixed_by(60, of_trials(able, 2))}
    assert taken == {(1, 0), (1, 2), (1, 3)}
    assert mixed_by(60, of_trials([np.zeros(4, bool)] * 3, 2)) == []
    assert mixed_by(0, of_trials(able, 2)) == []


def test_a_replayed_policys_episodes_are_all_taken_in_any_slot():
    offers = of_replay(np.array([1, 1, 1, 2, 2]), 3)
    taken = {(piece.source, piece.episode) for piece in mixed_by(60, offers, half="first")}
    assert taken == {(1, 0), (1, 1), (1, 2), (2, 3), (2, 4)}
    pairs = offers(np.array([0, 1]))
    assert [pair.tolist() for pair in pairs] == [[], [[0, 1]], [[3, 4]]]


def test_rows_of_pieces():
    bounds = [np.array([[0, 2], [2, 5]]), np.array([[0, 1]])]
    source, row, place = relabel_trials.rows_of([Piece(4, 0, 1), Piece(7, 1, 0)], bounds)
    assert [source.tolist(), row.tolist(), place.tolist()] == [[0, 0, 0, 1], [2, 3, 4, 0], [4, 4, 4, 7]]
    assert relabel_trials.rows_of([], bounds)[1].shape == (0,)


def test_where_episodes_begin_and_which_are_whole():
    log = make_log(0, (4, 3, 5), terminal=(1,))
    assert relabel_trials.spans(log).tolist() == [[0, 4], [4, 7], [7, 12]]
    assert relabel_trials.num_whole(log, 5) == 3
    assert relabel_trials.num_whole(log, 6) == 2  # recording stopped in the third
    assert relabel_trials.num_whole(make_log(0, (4, 3), terminal=(1,)), 6) == 2  # it died
    assert relabel_trials.num_whole(make_log(0, (3, 2), terminal=()), 4) == 0
    cut = make_log(0, (4, 4, 2, 3), terminal=())  # recording stopped in two environments
    assert relabel_trials.num_whole(cut, 4) == 2
    assert relabel_trials.num_whole(make_log(0, (4, 2, 4, 3), terminal=()), 4) == 3  # physics failed in the second
    padded = Log(*(column[1] for column in stacked(log, make_log(1, (2, 2)))))
    assert relabel_trials.spans(padded).tolist() == [[0, 2], [2, 4]]


# ---- what is stored, and how it is read ------------------------------------------------------------------------------


def test_rewards_are_those_of_the_trials_task(log, mixed):
    for index in range(3):
        found = rows_of(mixed, index)
        rows = logged(log, found)
        np.testing.assert_allclose(found.reward, (index + 1) * rows.next_obs[:, 0], rtol=1e-6)
        assert np.abs(found.reward - rows.reward).max() > 0.5  # the control: as they were logged
        assert not found.log.any()
    assert mixed.tree["pair_size"].sum() == 3 * 50
    assert mixed.card.extra["unit"] == "episode"
    assert mixed.card.extra["trial_episodes"] == 2
    assert relabel_trials.num_whole(logs_of(log)[0], 5) == NUM_EPISODES


def test_the_mixed_log_is_the_own_one_but_for_the_places(log, mixed):
    logs = read(log)
    spliced = relabelled.spliced(mixed, [logs])
    for index, own in enumerate(logs_of(log)):
        mine = Log(*(column[index] for column in spliced))
        taken = {place: (task, episode) for place, task, episode in places(mixed, index)}
        assert mine.size == own.size
        for episode in range(NUM_EPISODES):
            at = np.arange(5 * episode, 5 * episode + 5)
            task, other = taken.get(episode, (index, episode))
            got = transitions(mine, at)
            want = transitions(logs_of(log)[task], np.arange(5 * other, 5 * other + 5))
            for name in ("obs", "action", "next_obs", "terminal", "truncated", "outcome"):
                np.testing.assert_array_equal(getattr(got, name), getattr(want, name), err_msg=name)
            np.testing.assert_allclose(got.reward, (index + 1) * want.next_obs[:, 0], rtol=1e-5)
            np.testing.assert_array_equal(mine.episode[at], episode)
            np.testing.assert_array_equal(mine.step[at], np.arange(5))


def test_trials_are_drawn_from_a_mixed_log_as_from_any(log, mixed):
    spliced = relabelled.spliced(mixed, [read(log)])
    one = Log(*(column[0] for column in spliced))
    drawn = jax.tree.map(np.asarray, trials(one, jax.random.key(0), 16, 2, 5))
    assert drawn.valid.all()
    np.testing.assert_array_equal(drawn.row.next_obs[:, :-1], drawn.row.obs[:, 1:])
    ends = drawn.row.next_obs[:, [0, 1, 2, 3, 5, 6, 7, 8, 9], 0]  # but for what the second episode begins with
    np.testing.assert_allclose(drawn.row.reward[:, [0, 1, 2, 3, 5, 6, 7, 8, 9]], ends, rtol=1e-5)


def test_several_mixes_stand_one_behind_the_other(log):
    logs, found = read(log), run("relabel", {"log": log}, KNOWN, {"mixes": 3})
    taken = places(found, 1)
    assert [place // 2 for place, _, _ in taken] == list(range(30))  # each trial in each mix
    first, second, third = ([(place - 20 * n, *rest) for place, *rest in taken if place // 20 == n] for n in range(3))
    assert first != second != third != first
    assert sum(len(places(found, index)) for index in range(3)) == 90
    spliced = relabelled.spliced(found, [logs])
    mine = Log(*(column[1] for column in spliced))
    assert mine.size == (3 * 20 + 1) * 5  # the episode that is in no trial is there once, at the end
    in_place = {place: (task, episode) for place, task, episode in taken}
    for episode in range(61):
        own = episode % 20 if episode < 60 else 20
        task, other = in_place.get(episode, (1, own))
        got = transitions(mine, np.arange(5 * episode, 5 * episode + 5))
        want = transitions(logs_of(log)[task], np.arange(5 * other, 5 * other + 5))
        np.testing.assert_array_equal(got.next_obs, want.next_obs)
        np.testing.assert_allclose(got.reward, 2 * want.next_obs[:, 0], rtol=1e-5)
    where = located(spliced, [Task.from_json(task) for task in log.card.tasks], 2, 5, own=logs)
    assert where.size.tolist() == [30] * 3
    assert where.first[1].tolist() == [10 * trial for trial in range(31)]


def test_episodes_under_a_learned_reward_pass_by_their_mean_spread(log):
    learned = {"unit": "episode", "updates": 200, "block_updates": 100}
    found = run("relabel", {"log": log}, learned, {"threshold": 0.5})
    limit = 0.5
    for index in range(3):
        rows = rows_of(found, index)
        assert len(rows.row)
        assert (rows.spread.reshape(-1, 5).mean(1) < limit).all()
        assert (rows.spread > 0).all()
    other = ~np.eye(3, dtype=bool)
    assert np.isfinite(found.tree["foreign_error"]).all()
    assert 0 < found.tree["pass_rate"][other].mean() <= 1


def test_where_nothing_is_mixed_it_says_what_to_do(log):
    order = work("relabel", {"log": log}, {"unit": "episode", "threshold": 1e-9})
    with pytest.raises(UsageError, match="no trial is mixed: log would stay as it is") as caught:
        STAGES["relabel"].load()(order)
    assert "--set threshold=" in caught.value.hint
    assert "no episode of task times 2 passes under the reward of task times 1" in order.tell.notes
    with pytest.raises(UsageError, match="no trial is mixed") as caught:
        run("relabel", {"log": log}, KNOWN, {"trial_episodes": 22})
    assert "no task has 22 whole episodes: collect more steps" in caught.value.hint


def test_a_task_that_nothing_is_mixed_in_is_named(log):
    tasks = [Task.from_json(task) for task in log.card.tasks]
    some = {f"task_{n:04d}": {"place": np.zeros(n % 2)} for n in range(3)}
    order = work("relabel", {"log": log}, KNOWN)
    assert relabel_trials.unmixed(order, tasks, some) == ["no trial is mixed in task times 1, times 3"]


def test_the_same_bits_twice_and_others_with_another_seed(log, mixed):
    again, other = run("relabel", {"log": log}, KNOWN), run("relabel", {"log": log}, KNOWN, seed=1)
    for index in range(3):
        for column in ("task", "row", "reward", "place"):
            assert getattr(rows_of(again, index), column).tobytes() == getattr(rows_of(mixed, index), column).tobytes()
        assert places(other, index) != places(mixed, index)


def test_what_does_not_fit_together_is_refused(log, mixed):
    with pytest.raises(UsageError, match="on-the-fly is for single rows"):
        run("relabel", {"log": log}, KNOWN, {"apply": "on-the-fly"})
    with pytest.raises(UsageError, match="rows_tried is for single rows"):
        run("relabel", {"log": log}, KNOWN, {"rows_tried": 10})
    with pytest.raises(UsageError, match="mixes is for whole episodes"):
        run("relabel", {"log": log}, {"reward": "known", "mixes": 2})
    with pytest.raises(WrongKind, match="does not hold single rows: unit=episode"):
        relabelled.pool(mixed)
    with pytest.raises(WrongKind, match="made of 1 logs, here are 2"):
        relabelled.spliced(mixed, [read(log)] * 2)
