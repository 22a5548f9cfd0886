"""Ctrl-C and SIGTERM: 130, a line that says how to go on, and then the same bits."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.store.shelf import Shelf

from .driving import STAGES, Running, Whole, assert_refused, assert_tidy, die_and_end, say

EATEN = pytest.mark.xfail(strict=False, reason="native code turns the interrupt into an ImportError, or crashes of it")

pytestmark = pytest.mark.timeout(900)


@pytest.mark.slow
def test_interrupted_then_terminated_then_killed(whole: Whole, start: Callable[..., Running], tmp_path: Path) -> None:
    stage = STAGES["batch-sac"]
    store = whole.copy(tmp_path / "store", whole.above(stage.step))

    running = start(store, *stage.arguments)
    running.until_blocks(3)
    said = running.end(signal.SIGINT)
    (work,) = Shelf(store).work_dirs()
    assert work.cursor is not None and work.cursor >= 60  # the block that ran was ended, and kept
    how = "the same command with --resume continues there"
    assert_refused(said, 130, f"interrupted with a checkpoint at {work.cursor}", how)
    listed = say(store, "ls")
    assert (listed.code, listed.err) == (0, f"unfinished, --resume continues it: {work.id} at {work.cursor}\n")
    assert_refused(say(store, *stage.arguments), 1, f"a checkpoint at {work.cursor}", "--resume continues it")

    running = start(store, *stage.arguments, "--resume")
    running.until_blocks(2)
    said = running.end(signal.SIGTERM)
    assert_refused(said, 130, "interrupted with a checkpoint at", how)
    (later,) = Shelf(store).work_dirs()
    assert later.cursor is not None and later.cursor > work.cursor

    talk = die_and_end(whole, store, "batch-sac")
    assert f"resumed at update {later.cursor} of 200" in talk


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_where_there_is_no_checkpoint(
    whole: Whole, start: Callable[..., Running], number: signal.Signals, tmp_path: Path
) -> None:
    stage = STAGES["eval"]
    store = whole.copy(tmp_path / "store", whole.above(stage.step))
    running = start(store, *stage.arguments)
    running.until_claimed()
    assert_refused(running.end(number), 130, "interrupted before its first checkpoint", "run it again")
    assert say(store, "gc").code == 0
    assert_tidy(store)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux alone says which libraries a process has")
@pytest.mark.parametrize("library", ["_multiarray_umath", "_ml_dtypes_ext", "_jax.so"])
def test_interrupted_while_it_imports(
    whole: Whole, start: Callable[..., Running], library: str, tmp_path: Path
) -> None:
    """The first second of every stage, in which whoever sees a typing error presses Ctrl-C."""
    stage = STAGES["eval"]
    store = whole.copy(tmp_path / "store", whole.above(stage.step))
    running = start(store, *stage.arguments)
    running.until_loaded(library)
    assert_refused(running.end(signal.SIGINT), 130, "interrupted before its first checkpoint", "run it again")


@EATEN
@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_interrupted_at_any_time(whole: Whole, start: Callable[..., Running], name: str, tmp_path: Path) -> None:
    """At every tenth of a run, imports and the storing of the result included."""
    stage = STAGES[name]
    store = whole.copy(tmp_path / "store", whole.above(stage.step))
    begin = time.monotonic()
    assert say(store, *stage.arguments).code == 0
    seconds = time.monotonic() - begin
    for tenth in range(1, 10):
        running = start(store, *stage.arguments, "--force")
        time.sleep(seconds * tenth / 10)
        said = running.end(signal.SIGINT)
        if said.code not in (0, -signal.SIGINT):  # it was done, and perhaps just leaving
            assert_refused(said, 130, "interrupted", "")
        assert "Traceback" not in said.err
