"""Tasks in groups: which go together, and that nobody's result depends on it."""

import dataclasses

import numpy as np
import pytest

from pipelines.core.crew import Crew, Dismissed
from pipelines.stages.parts import divide, in_parts, joined
from pipelines.stages.registry import STAGES
from tests.toys import AGENTS, Memory, Stored, Talk, bits, log_artifact, stored, work

pytestmark = pytest.mark.optimised  # a loop of one turn is compiled otherwise, and only then rounds as the others do


@pytest.mark.parametrize(
    ("sizes", "at_once", "least", "want"),
    [
        ([9, 9, 9], None, 1, [[0, 1, 2]]),
        ([9, 9, 9, 9, 9], 2, 1, [[0, 1], [2, 3], [4]]),
        ([9] * 10, 4, 1, [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]),  # four, three, three: not four, four, two
        ([9] * 10, 100, 1, [list(range(10))]),
        ([5, 9, 5, 9], 2, 1, [[1, 3], [0, 2]]),  # like sizes together, the longest first
        ([100, 1, 100, 1, 1, 1], None, 1, [[0, 2], [1, 3, 4, 5]]),  # or two thirds would be padding
        ([10, 8, 9], None, 1, [[0, 1, 2]]),  # a little padding is cheaper than another program
        ([9, 9, 9, 9], None, 2, [[0, 1], [2, 3]]),  # something for each of two processes
        ([9], 3, 2, [[0]]),
    ],
)
def test_who_goes_together(sizes, at_once, least, want):
    assert divide(sizes, at_once, least) == want


def test_joined_is_in_the_order_of_the_tasks():
    groups = [[1, 3], [0, 2]]
    parts = [
        {"a": np.array([[1], [3]]), "s": np.array([[10, 30]])},
        {"a": np.array([[0], [2]]), "s": np.array([[0, 20]])},
    ]
    np.testing.assert_array_equal(joined(groups, [part["a"] for part in parts]), [[0], [1], [2], [3]])
    np.testing.assert_array_equal(joined(groups, [part["s"] for part in parts], axis=1), [[0, 10, 20, 30]])


class Three(Crew):
    """Process `number` of three that never wait."""

    def meet(self, word=0):
        self.met = getattr(self, "met", 0) + 1
        return word


def shared_out(number, groups):
    """What process `number` of three does, in order, and what it hands back (None: it is dismissed)."""
    done, crew = [], Three(number, 3)
    order = dataclasses.replace(work("train", {}, {}, checkpoint=Memory()), crew=crew)

    def one(part, tasks):
        done.append((part.part[0], tasks, getattr(crew, "met", 0)))
        return sum(tasks)

    try:
        return done, in_parts(order, groups, one)
    except Dismissed:
        assert crew.met == 1
        return done, None


def test_processes_share_the_groups_and_the_leader_takes_up_the_rest():
    groups = [[0], [1], [2], [3, 4]]
    # the third entry: whether they had met; only then are the others' parts finished
    assert shared_out(0, groups) == ([(0, [0], 0), (3, [3, 4], 0), (1, [1], 1), (2, [2], 1)], [0, 1, 2, 7])
    assert shared_out(1, groups) == ([(1, [1], 0)], None)
    assert shared_out(2, groups) == ([(2, [2], 0)], None)


def test_one_group_is_the_leaders():
    assert shared_out(0, [[0, 1]]) == ([(0, [0, 1], 0)], [1])
    assert shared_out(2, [[0, 1]]) == ([], None)


class Kill(BaseException):
    """As a signal that nobody handles."""


class Watched(Stored):
    """Notes which of its arrays were read."""

    def arrays(self, only=None):
        self.tree.setdefault("read", []).append(None if only is None else sorted(only))
        return {name: leaf for name, leaf in super().arrays(only).items() if name != "read"}


FIELDS = {"updates": 6, "block_updates": 2, "num_snapshots": 2, "algorithm": "batch-sac", "agent": AGENTS["batch-sac"]}


def trained(log, at_once, checkpoint=None, tell=None):
    order = work("train", {"log": log}, FIELDS, checkpoint=checkpoint, tell=tell)
    return stored("train", STAGES["train"].load()(dataclasses.replace(order, tasks_at_once=at_once)), order.config)


@pytest.fixture(scope="module")
def whole():
    return trained(log_artifact(5), None)


SLOW = pytest.mark.slow


@pytest.mark.parametrize("at_once", [pytest.param(1, marks=SLOW), 2, pytest.param(4, marks=SLOW)])
def test_training_in_groups_gives_the_same_bits(whole, at_once):
    """And each group reads the logs of its own tasks only."""
    plain = log_artifact(5)
    log, tell = Watched(plain.card, plain.tree), Talk()
    found = trained(log, at_once, tell=tell)
    read = log.tree.pop("read")
    assert bits(found.tree) == bits(whole.tree)
    assert max(map(len, read)) <= at_once
    assert sorted(leaf for leaves in read for leaf in leaves) == [f"task_{n:04d}" for n in range(5)]
    groups = -(-5 // at_once)
    assert [note.partition(":")[0] for note in tell.notes] == [f"part {n + 1} of {groups}" for n in range(groups)]
    assert [step for step, _ in tell.rows] == list(range(2, 6 * groups + 1, 2))


def test_the_control_other_seeds_give_other_bits(whole):
    order = work("train", {"log": log_artifact(5)}, FIELDS, seed=1)
    assert bits(STAGES["train"].load()(order).arrays) != bits(whole.tree)


@pytest.mark.slow
def test_killed_in_the_second_group_it_goes_on_there(whole):
    memory = Memory(every=1)

    class Dies(Talk):
        def metrics(self, step, values):
            super().metrics(step, values)
            if step == 10:  # the second block of the second group
                raise Kill

    with pytest.raises(Kill):
        trained(log_artifact(5), 2, memory, Dies())
    tell = Talk()
    found = trained(log_artifact(5), 2, memory, tell)
    assert bits(found.tree) == bits(whole.tree)
    assert [step for step, _ in tell.rows] == [10, 12, 14, 16, 18]
    assert [note for note in tell.notes if "resumed" in note] == [
        "resumed at update 6 of 6",
        "resumed at update 2 of 6",
    ]


@pytest.mark.parametrize("family", [pytest.param("point-semicircle/time", marks=SLOW), "hopper-vel/time"])
def test_collecting_in_groups_gives_the_same_bits(family):
    """On both kinds of engine, the second group resumed."""
    fields = {"family": family, "steps": 40, "random_steps": 20, "block_steps": 10, "num_snapshots": 2}
    layers = (fields, {"agent": AGENTS["sac"]})

    def collected(at_once, checkpoint=None, tell=None):
        order = dataclasses.replace(
            work("collect", {}, *layers, checkpoint=checkpoint, tell=tell), tasks_at_once=at_once
        )
        return bits(STAGES["collect"].load()(order).arrays)

    class Dies(Talk):
        def metrics(self, step, values):
            if step == 60:
                raise Kill

    whole, memory, tell = collected(None), Memory(every=1), Talk()
    with pytest.raises(Kill):
        collected(2, memory, Dies())
    assert collected(2, memory, tell) == whole
    assert "resumed at step 10 of 40" in tell.notes
