"""Damaged files, full disks, two writers, losses that are not finite: a clear error, and nothing lost."""

import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.core import platform
from pipelines.core.trees import task_leaf
from pipelines.store.shelf import Shelf

from .driving import (
    LOG,
    STAGES,
    Running,
    Tasks,
    Tree,
    Whole,
    assert_refused,
    assert_tidy,
    bits,
    finished,
    flip,
    say,
    sets,
)

CALM = {"PYTHONWARNINGS": "ignore::UserWarning"}  # jax tells of each program that does not fit into its cache

pytestmark = pytest.mark.timeout(900)


# ------------------------------------------------------------------------------------------------------ damage
@pytest.mark.parametrize("what", ["card.json", "arrays"])
def test_a_damaged_parent_is_named_and_the_rest_is_listed(whole: Whole, what: str, tmp_path: Path) -> None:
    store, chance = whole.copy(tmp_path / "store"), random.Random(f"flip {what}")
    parent = whole.card("log")
    folder = Shelf(store).folder(parent.id, 1)
    victim = folder / chance.choice([name for name in sorted([*parent.files, "card.json"]) if name.startswith(what)])
    flip(victim, chance.random())

    train = say(store, "train", "--log", LOG if what == "arrays" else parent.id, "--seed", "1")
    assert_refused(train, 5, f"{victim} is damaged", "make the artifact again with --force")
    listed = say(store, "ls", "--json")
    assert listed.code == 0
    ids = {card["id"] for card in listed.json["artifacts"]}
    if what == "card.json":
        assert ids == set(whole.ids.values()) - {parent.id}
        assert listed.err == f"damaged: {victim} is damaged\n"
    else:
        assert ids == set(whole.ids.values())
    assert not Shelf(store).work_dirs()  # the refused run left nothing


@pytest.mark.slow
def test_any_flipped_bit_of_an_artifact_is_noticed(whole: Whole, tmp_path: Path) -> None:
    chance, log = random.Random("flip"), whole.card("log")
    for trial, name in enumerate(sorted([*log.files, "card.json"])):
        store = whole.copy(tmp_path / str(trial), {log.id})
        victim = Shelf(store).folder(log.id, 1) / name
        if victim.stat().st_size:
            flip(victim, chance.random())
            assert_refused(say(store, "verify", log.id), 5, f"{victim} is damaged", "--force")


# ------------------------------------------------------------------------------------------------------ a full disk
# Odd numbers of bytes, by which a compiled program is known that did not fit into jax's cache and was cut off there.
CLAIM, METRICS, EVENTS, CHECKPOINT = 3_001, 5_003, 12_007, 60_013


@pytest.fixture
def mended_cache(whole: Whole) -> Iterator[None]:
    """jax neither notices nor replaces such a program: each later process would compile it, and complain."""
    yield
    for path in platform.cache_dir().glob("*-cache"):
        if path.stat().st_size in (METRICS, EVENTS, CHECKPOINT):
            path.unlink(missing_ok=True)


@pytest.mark.usefixtures("mended_cache")
def test_a_full_disk_at_a_checkpoint(whole: Whole, tmp_path: Path) -> None:
    """The first checkpoint does not fit: nothing that was there is touched, and with room it works."""
    stage = STAGES["collect"]
    store = whole.copy(tmp_path / "store", {whole.ids["pooled"], whole.ids["log"]})
    before = bits(store, whole.ids["pooled"])

    said = say(store, *stage.arguments, "--seed", "1", limit=CHECKPOINT, **CALM)
    work = store / "work"
    assert_refused(said, 1, "no room for the checkpoint at 20: it needs ", "choose another --store")
    assert f" bytes, {CHECKPOINT} free at {work}" in said.err
    assert bits(store, whole.ids["pooled"]) == before
    for id in Shelf(store).ids():
        Shelf(store).verify(id)

    said = say(store, *stage.arguments, "--seed", "1", "--resume", "--json")
    assert said.code == 0, said.err
    Shelf(store).verify(said.json["id"])
    assert_tidy(store)


@pytest.mark.usefixtures("mended_cache")
@pytest.mark.parametrize(
    "limit", [0, CLAIM, *(pytest.param(late, marks=pytest.mark.slow) for late in (METRICS, EVENTS))]
)
def test_a_full_disk_at_any_file(limit: int, tmp_path: Path) -> None:
    """Whatever is written first does not fit: the claim, the metrics, their TensorBoard events."""
    store = tmp_path / "store"
    said = say(store, *STAGES["collect"].arguments, limit=limit, OMRL_CHECKPOINT_S=3600, **CALM)
    assert_refused(said, 1, "bytes, ", "choose another --store")
    assert f"{limit} free at {store}" in said.err


@pytest.mark.slow
@pytest.mark.xfail(reason="jax neither writes a compiled program at once nor replaces one that it cannot read")
def test_a_compiled_program_that_a_kill_tore_is_made_again(whole: Whole, tmp_path: Path) -> None:
    stage, cache = STAGES["eval"], tmp_path / "cache"
    store = whole.copy(tmp_path / "store", whole.above(stage.step))
    for more in ((), ("--force",)):
        said = say(store, *stage.arguments, *more, OMRL_CACHE=cache)
        assert said.code == 0 and "Warning" not in said.err, said.err
        sizes = {path: path.stat().st_size for path in cache.glob("*-cache")}
        if not more:
            whole.assert_same(store, stage.step)
            torn = sizes
            for path, size in torn.items():
                os.truncate(path, size // 2)
    assert torn and sizes == torn


# ------------------------------------------------------------------------------------------------------ two at once
def test_two_processes_make_one_artifact(whole: Whole, start: Callable[..., Running], tmp_path: Path) -> None:
    stage = STAGES["train"]
    store = whole.copy(tmp_path / "store", whole.above(stage.step))
    both = [start(store, *stage.arguments) for _ in range(2)]
    loser = finished(both)
    (winner,) = (one for one in both if one is not loser)
    assert winner.process.poll() is None  # the loser did not wait for it
    who = f"is being written by process {winner.process.pid}"
    assert_refused(loser.end(), 1, who, "wait until it is done, or stop that process")
    listed = say(store, "ls")
    assert (listed.code, listed.err.startswith("running: ")) == (0, True)
    assert say(store, "gc", "--unfinished", "--json").json["removed"] == []

    # Nor can it be talked out of it while it stands still.
    winner.process.send_signal(signal.SIGSTOP)
    for more in ("--resume", "--force"):
        assert_refused(say(store, *stage.arguments, more), 1, who, "stop that process")
    winner.process.send_signal(signal.SIGCONT)
    assert winner.end().code == 0
    whole.assert_same(store, stage.step)


def test_a_writer_is_named_after_its_first_checkpoint_too(
    whole: Whole, start: Callable[..., Running], tmp_path: Path
) -> None:
    stage = STAGES["batch-sac"]
    store = whole.copy(tmp_path / "store", whole.above(stage.step))
    writer = start(store, *stage.arguments)
    writer.until_blocks(2)
    writer.process.send_signal(signal.SIGSTOP)
    who = f"is being written by process {writer.process.pid}"
    assert_refused(say(store, *stage.arguments), 1, who, "stop that process")


# ------------------------------------------------------------------------------------------------------ not finite
def test_the_task_whose_loss_is_not_finite_is_named(whole: Whole, tmp_path: Path) -> None:
    def spoil(arrays: Tree, tasks: Tasks) -> tuple[Tree, Tasks]:
        log = arrays[task_leaf(1)]
        log["reward"] = np.full_like(log["reward"], 1e30)
        return arrays, tasks

    log = whole.log_like(spoil, tmp_path / "store")
    said = say(tmp_path / "store", "train", "--log", log.id, *sets("updates=200"))
    assert_refused(said, 1, f"is not finite in task {log.tasks[1]['name']} between update 0 and 20", "learning rate")


def test_the_last_good_checkpoint_stays(whole: Whole, tmp_path: Path) -> None:
    store = whole.copy(tmp_path / "store", {whole.ids["log"]})
    arguments = "train", "--log", LOG, *sets("block_updates=1", "agent.learning_rate=1e6")
    said = say(store, *arguments)
    assert_refused(said, 1, "critic_loss is not finite in task 0deg, 90deg, 180deg between update 1 and 2", "learning")
    (work,) = Shelf(store).work_dirs()
    assert (work.cursor, work.pid) == (1, None)
    assert say(store, "ls").err == f"unfinished, --resume continues it: {work.id} at 1\n"
