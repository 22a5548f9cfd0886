"""`kill -9`, then --resume: the same bits as if nothing had happened."""

import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.store.shelf import Shelf

from .driving import CHAIN, POINTS, STAGES, Running, Whole, assert_readable, die_and_end, flip, say

NUM_TIMES = 20
# test_interrupt.py has the other stage that learns.
LEARNING = [name for name, stage in STAGES.items() if stage.block and name != "batch-sac"]

pytestmark = pytest.mark.timeout(900)


def draw(name: str) -> random.Random:
    """The same numbers in every run of the tests."""
    return random.Random(f"kill {name}")


def pass_over(whole: Whole, store: Path, name: str, checkpoint: Path) -> str:
    """Damages a checkpoint, then runs to the end from the one before. -> what was said on stderr"""
    stage = STAGES[name]
    data = [path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.stat().st_size]
    flip(draw(name).choice(data), at=0.5)
    last = say(store, *stage.arguments, "--resume")
    assert (last.code, last.out) == (0, f"{whole.ids[stage.step]}\n"), last.err
    assert f"passed over the damaged checkpoint {checkpoint}" in last.err
    whole.assert_same(store, stage.step)
    return last.err


# ------------------------------------------------------------------------------------------------------ a sample
@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNING)
def test_killed_while_it_learns(whole: Whole, start: Callable[..., Running], name: str, tmp_path: Path) -> None:
    """And once more at a fault point, or a checkpoint is damaged. It never begins anew."""
    stage, chance = STAGES[name], draw(name)
    store = whole.copy(tmp_path / "store", whole.above(stage.step))

    first = start(store, *stage.arguments)
    first.until_blocks(blocks := chance.randint(3, 6))
    time.sleep(chance.uniform(0, 0.01))  # so that it dies in saving as often as in learning
    first.end(signal.SIGKILL)
    (work,) = Shelf(store).work_dirs()
    assert (work.id, work.pid) == (whole.ids[stage.step], None)
    assert work.cursor is not None and work.cursor >= (blocks - 1) * stage.block

    if name in POINTS:
        talk = die_and_end(whole, store, name)
        assert talk.count("resumed at") == 2
    else:
        assert_readable(store, work.id, there=False)
        talk = pass_over(whole, store, name, work.path / "checkpoint" / f"{work.cursor:012d}")
        work = replace(work, cursor=work.cursor - stage.block)
    assert f"resumed at {stage.unit} {work.cursor} of 200" in talk


@pytest.mark.slow
@pytest.mark.parametrize("name", ["eval", "report"])
def test_killed_where_there_are_no_checkpoints(whole: Whole, name: str, tmp_path: Path) -> None:
    die_and_end(whole, whole.copy(tmp_path / "store", whole.above(STAGES[name].step)), name)


def test_a_chain_that_was_killed_ends_as_one_that_was_not(
    whole: Whole, start: Callable[..., Running], tmp_path: Path
) -> None:
    """Same seed, another fresh store: every artifact of the chain has the same bits."""
    chance, store = draw("chain"), tmp_path / "store"
    running, number = start(store, *CHAIN), chance.randint(2, 4)
    while len(Shelf(store).ids()) < number:
        assert running.process.poll() is None, running.end()
        time.sleep(0.01)
    time.sleep(chance.uniform(0, 1))
    running.end(signal.SIGKILL)
    before = set(Shelf(store).ids())

    said = say(store, *CHAIN, "--resume", "--json")
    assert said.code == 0, said.err
    steps = said.json["steps"]
    assert {step["step"]: step["id"] for step in steps} == whole.ids
    assert {step["id"] for step in steps if not step["made"]} == before
    for step in whole.ids:
        whole.assert_same(store, step)


# ------------------------------------------------------------------------------------------------------ all of them
@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_killed_at_any_time(whole: Whole, start: Callable[..., Running], name: str, tmp_path: Path) -> None:
    stage, chance = STAGES[name], draw(f"{name} at any time")
    parents = whole.above(stage.step)
    begin = time.monotonic()
    alone = whole.copy(tmp_path / "alone", parents)
    assert say(alone, *stage.arguments).code == 0
    seconds = time.monotonic() - begin
    whole.assert_same(alone, stage.step)

    for trial in range(NUM_TIMES):
        store = whole.copy(tmp_path / str(trial), parents)
        running = start(store, *stage.arguments)
        time.sleep(chance.uniform(0, seconds))
        assert running.end(signal.SIGKILL).code in (-signal.SIGKILL, 0)  # 0: it was quicker this time
        said = say(store, *stage.arguments, "--resume")
        assert (said.code, said.out) == (0, f"{whole.ids[stage.step]}\n"), f"trial {trial}: {said.err}"
        whole.assert_same(store, stage.step)
        shutil.rmtree(store)
