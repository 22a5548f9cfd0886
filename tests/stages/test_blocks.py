"""The loop of every stage that learns, on a carry that needs no compiling."""

import dataclasses
import signal
import threading
from typing import Any, NamedTuple

import numpy as np
import pytest

from pipelines.core.configs.base import Config
from pipelines.core.errors import StageFailed
from pipelines.core.work import Work
from pipelines.stages.blocks import Plan, deferred_interrupt, run_blocks, snapshot_arrays
from tests.toys import Memory, Talk

PLAN = Plan(total=12, block=2, snapshots=3, unit="update", headline="loss", tasks=("0deg", "90deg"))


class Carry(NamedTuple):
    """A sum that any lost or repeated step would change."""

    total: np.ndarray  # [T]
    steps: np.ndarray


def advance(step: int, carry: Carry) -> tuple[Carry, dict[str, Any]]:
    total = carry.total
    for n in range(step, step + PLAN.block):
        total = np.sin(total * 3 + n).astype(np.float32)
    carry = Carry(total, carry.steps + PLAN.block)
    return carry, {"loss": total.copy(), "size": np.float32(step)}


def start() -> Carry:
    return Carry(np.array([0.1, 0.2], np.float32), np.int32(0))


def acting(carry: Carry) -> dict[str, np.ndarray]:
    return {"net": carry.total.copy()}


def going(checkpoint=None, tell=None, advance=advance, plan=PLAN):
    """(carry, snapshots) of the loop."""
    work = Work(Config(), 0, {}, checkpoint or Memory(), tell or Talk())
    return run_blocks(work, plan, start(), advance, acting)


def assert_same(found, want):
    (carry, snapshots), (whole, kept) = found, want
    np.testing.assert_array_equal(carry.total, whole.total)
    np.testing.assert_array_equal(carry.steps, whole.steps)
    np.testing.assert_array_equal(snapshots["step"], kept["step"])
    np.testing.assert_array_equal(snapshots["acting"]["net"], kept["acting"]["net"])


# ---- a whole run -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "block", "snapshots", "want"),
    [
        (12, 2, 3, [4, 8, 12]),
        (12, 2, 4, [4, 6, 8, 12]),  # blocks 1.5, 3, 4.5 and 6 of 6, rounded to even
        (12, 2, 99, [2, 4, 6, 8, 10, 12]),
        (12, 2, 1, [12]),
        (12, 2, 0, []),
        (5, 5, 2, [5]),
    ],
)
def test_snapshots_are_taken_at_block_ends_and_at_the_end(total, block, snapshots, want):
    assert Plan(total, block, snapshots, "update", "loss").snapshot_steps() == want


@pytest.mark.parametrize("blocks", range(1, 40))
def test_snapshot_steps_never_coincide(blocks):
    for kept in range(1, blocks + 1):
        steps = Plan(blocks, 1, kept, "update", "loss").snapshot_steps()
        assert len(set(steps)) == kept
        assert steps[-1] == blocks


def test_what_is_kept_along_the_way():
    tell = Talk()
    carry, snapshots = going(tell=tell)
    assert carry.steps == 12
    state, seen = start(), {}
    for step in range(0, 12, 2):
        state, _ = advance(step, state)
        seen[step + 2] = state.total
    np.testing.assert_array_equal(snapshots["step"], [4, 8, 12])
    np.testing.assert_array_equal(snapshots["acting"]["net"], [seen[4], seen[8], seen[12]])
    assert list(snapshot_arrays(snapshots)) == ["snapshots", "snapshot_step"]
    assert [step for step, _ in tell.rows] == [2, 4, 6, 8, 10, 12]
    last = tell.rows[-1][1]
    assert last == {
        "loss": pytest.approx(state.total.mean()),
        "loss/0deg": state.total[0],
        "loss/90deg": state.total[1],
        "size": 10,
    }


def test_nothing_is_saved_unless_it_is_due():
    checkpoint = Memory()
    going(checkpoint)
    assert not checkpoint.kept


# ---- resuming --------------------------------------------------------------------------------------------------------


class Power(Exception):
    """The machine went away."""


@pytest.mark.parametrize("every", [1, 2, 5])
@pytest.mark.parametrize("lost_at", range(0, 12, 2))
def test_resumed_it_gives_the_bits_of_an_uninterrupted_run(every, lost_at):
    def falters(step, carry):
        if step == lost_at:
            raise Power
        return advance(step, carry)

    checkpoint, tell = Memory(every), Talk()
    with pytest.raises(Power):
        going(checkpoint, advance=falters)
    saved = [cursor for cursor, _ in checkpoint.kept]
    assert saved == list(range(2 * every, lost_at + 1, 2 * every))
    assert_same(going(checkpoint, tell), going())
    assert tell.notes == ([f"resumed at update {saved[-1]} of 12"] if saved else [])
    assert [step for step, _ in tell.rows] == list(range((saved or [0])[-1] + 2, 13, 2))


def test_any_checkpoint_will_do():
    checkpoint = Memory(1)
    whole = going(checkpoint)
    assert [cursor for cursor, _ in checkpoint.kept] == [2, 4, 6, 8, 10]  # at the end there is nothing left to keep
    for kept in checkpoint.kept:
        assert_same(going(Memory(kept=[kept])), whole)


def test_a_checkpoint_is_put_back_on_the_devices():
    checkpoint = Memory(1)
    going(checkpoint)
    restored = []

    def restore(carry):
        restored.append(carry)
        return carry

    work = Work(Config(), 0, {}, checkpoint, Talk())
    run_blocks(work, PLAN, start(), advance, acting, restore)
    assert [int(carry.steps) for carry in restored] == [10]
    assert isinstance(restored[0], Carry)


# ---- losses that are no numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_no_number_names_its_task_and_stops(bad):
    """The last good checkpoint stays the last one, and no row of metrics tells of the bad block."""

    def breaks(step, carry):
        carry, metrics = advance(step, carry)
        return carry, metrics if step < 6 else metrics | {"loss": np.array([0.1, bad], np.float32)}

    checkpoint, tell = Memory(1), Talk()
    with pytest.raises(StageFailed) as caught:
        going(checkpoint, tell, breaks)
    assert caught.value.cause == "loss is not finite in task 90deg between update 6 and 8"
    assert "learning_rate" in caught.value.hint
    assert [cursor for cursor, _ in checkpoint.kept] == [2, 4, 6]
    assert all(np.isfinite(leaf).all() for leaf in checkpoint.kept[-1][1])
    assert [step for step, _ in tell.rows] == [2, 4, 6]


def test_several_spoilt_tasks_are_all_named():
    with pytest.raises(StageFailed, match=r"in task 0deg, 90deg between update 0 and 2"):
        going(advance=lambda step, carry: (carry, {"loss": np.full(2, np.nan)}))


def test_a_loss_over_all_tasks_names_none():
    with pytest.raises(StageFailed, match=r"critic_loss is not finite in all tasks together"):
        going(advance=lambda step, carry: (carry, {"critic_loss": np.float32(np.nan)}))


def test_a_sparse_metric_is_told_of_those_that_have_it():
    """An episode need not end in a block."""
    nothing = np.nan
    returns = iter([[nothing, nothing], [3.0, nothing], [1.0, 2.0]] * 2)
    plan, tell = dataclasses.replace(PLAN, headline="return", sparse=frozenset({"return"})), Talk()
    going(tell=tell, advance=lambda step, carry: (carry, {"return": np.array(next(returns))}), plan=plan)
    assert [values for _, values in tell.rows][:3] == [
        {},
        {"return": 3.0, "return/0deg": 3.0},
        {"return": 1.5, "return/0deg": 1.0, "return/90deg": 2.0},
    ]
    assert tell.headlines[:3] == ["", "return 3", "return 1.5"]


# ---- Ctrl-C ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def handlers():
    """Whoever asks before and after finds the same handlers."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_block_saves_and_then_strikes(number):
    def interrupted(step, carry):
        if step == 4:
            signal.raise_signal(number)
        return advance(step, carry)

    checkpoint, tell = Memory(), Talk()
    with pytest.raises(KeyboardInterrupt):
        going(checkpoint, tell, interrupted)
    assert [cursor for cursor, _ in checkpoint.kept] == [6]  # the block during which it came is whole
    assert [step for step, _ in tell.rows] == [2, 4, 6]
    assert_same(going(checkpoint), going())


@pytest.mark.usefixtures("handlers")
def test_a_second_interrupt_strikes_at_once():
    def impatient(step, carry):
        if step == 4:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("still going")
        return advance(step, carry)

    checkpoint = Memory()
    with pytest.raises(KeyboardInterrupt):
        going(checkpoint, advance=impatient)
    assert not checkpoint.kept


@pytest.mark.usefixtures("handlers")
def test_an_interrupt_in_the_last_block_is_saved_too():
    """The artifact is not written yet: without this, a run that saved nothing before would start all over."""

    def late(step, carry):
        if step == 10:
            signal.raise_signal(signal.SIGINT)
        return advance(step, carry)

    checkpoint, tell = Memory(), Talk()
    with pytest.raises(KeyboardInterrupt):
        going(checkpoint, advance=late)
    assert [cursor for cursor, _ in checkpoint.kept] == [12]
    assert_same(going(checkpoint, tell), going())
    assert tell.rows == []


def test_outside_the_main_thread_signals_are_left_alone():
    seen = []

    def inside():
        with deferred_interrupt() as asked:
            seen.append(asked())

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [False]
