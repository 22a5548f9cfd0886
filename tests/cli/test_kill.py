"""`kill -9`, then --resume: the artifact has the bits of a run that nobody disturbed. The real command line."""

import functools
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pipelines.store.faults import POINTS, Point
from pipelines.store.shelf import Shelf

from .conftest import Said, environment
from .test_journey import CHAIN, command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

NUM_TIMES = 20
LOG, POLICIES = "replay-log/point-semicircle-time", "policy-set/batch-sac-point-semicircle-time"
LOOP = ("--set", "updates=2000", "--set", "num_snapshots=4")
STAGES = {
    "collect": ("collect", "--set", "steps=2000", "--seed", "5"),
    "train": ("train", "--log", LOG, *LOOP),
    "pooled": ("metatrain", "--log", LOG, "--algorithm", "batch-sac", *LOOP),
    "pearl": ("metatrain", "--log", LOG, "--algorithm", "batch-pearl", *LOOP),
    "distill": ("distill", "--log", LOG, "--teachers", POLICIES, *LOOP),
    "eval": ("eval", "--policy", POLICIES, "--episodes", "200"),
    "report": ("report", "--reports", "report/tiMe", "--reports", "report/batch-PEARL"),
}
SAVES: tuple[Point, ...] = ("before-checkpoint", "in-checkpoint")
NO_CHECKPOINT = ("eval", "report")


class Whole(NamedTuple):
    """What an undisturbed run makes."""

    id: str
    digest: str
    seconds: float


def say(store: Path, stage: str, *more: str, kill_after_s: float | None = None, **env: str) -> Said:
    """Runs a stage; kills it after some seconds."""
    env = environment(OMRL_STORE=str(store), OMRL_PRESET="tiny", OMRL_CHECKPOINT_S="0.1", **env)
    arguments = command(*STAGES[stage], "--json", *more)
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        out, err = process.communicate(timeout=kill_after_s or 900)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    return Said(process.returncode, out, err)


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with everything a stage can want."""
    store = tmp_path_factory.mktemp("kill") / "store"
    subprocess.run(command(*CHAIN), env=environment(OMRL_STORE=str(store)), check=True, capture_output=True)
    return store


def copy(parents: Path, to: Path) -> Path:
    """A store of its own; what never changes is shared."""
    shutil.copytree(parents, to, copy_function=os.link, ignore=shutil.ignore_patterns("*lock", "work"))
    return to


@pytest.fixture(scope="module")
def undisturbed(parents: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Whole]:
    """Stage -> what a run that nobody disturbed makes, and how long it takes once its programs are compiled."""

    @functools.cache
    def of(stage: str) -> Whole:
        for attempt in ("cold", "warm"):
            store = copy(parents, tmp_path_factory.mktemp(stage) / attempt)
            start = time.monotonic()
            said = say(store, stage)
            assert said.code == 0, said.err
            card = json.loads(said.out)
            whole = Whole(card["id"], card["digest"], time.monotonic() - start)
        return whole

    return of


def finish(store: Path, stage: str, wanted: Whole) -> None:
    """Resumes, and compares the bits."""
    said = say(store, stage, "--resume")
    assert said.code == 0, said.err
    card = json.loads(said.out)
    assert (card["id"], card["digest"]) == (wanted.id, wanted.digest)
    shelf = Shelf(store)
    assert shelf.generations(card["id"]) == [1]
    assert shelf.verify(card["id"]).digest == card["digest"]
    assert say(store, stage).code == 0
    assert not shelf.work_dirs()


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_any_time(parents: Path, undisturbed: Callable[[str], Whole], stage: str, tmp_path: Path) -> None:
    draw, whole = random.Random(f"kill {stage}"), undisturbed(stage)
    resumed = 0
    for trial in range(NUM_TIMES):
        store = copy(parents, tmp_path / str(trial))
        said = say(store, stage, kill_after_s=draw.uniform(0.1, whole.seconds))
        assert said.code in (0, -signal.SIGKILL), said.err
        resumed += any(work.cursor is not None for work in Shelf(store).work_dirs())
        finish(store, stage, whole)
        shutil.rmtree(store)
    assert resumed or stage in NO_CHECKPOINT  # else the kills proved nothing about checkpoints


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_a_fault_point(
    parents: Path, undisturbed: Callable[[str], Whole], stage: str, point: Point, tmp_path: Path
) -> None:
    store = copy(parents, tmp_path / "store")
    said = say(store, stage, OMRL_FAULT=point)
    assert said.code == (0 if point in SAVES and stage in NO_CHECKPOINT else -signal.SIGKILL), said.err
    finish(store, stage, undisturbed(stage))
