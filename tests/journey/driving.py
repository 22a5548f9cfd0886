"""The command line as its user has it: processes of their own, signals, stores on a disk."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.core.work import Product
from pipelines.store.card import Card, recipe_id
from pipelines.store.faults import Point
from pipelines.store.shelf import Shelf

Tree = dict[str, Any]
Tasks = list[dict[str, Any]]

LIMIT_S = 240  # a process that takes longer hangs
LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit},) * 2)\n"
LIMITED += "import sys; from omrl_cli.main import main; sys.exit(main())"

LOG = "replay-log/point-semicircle-time"
TEACHERS = "policy-set/batch-sac-point-semicircle-time"
TIME = "meta-policy/time-point-semicircle-time"
LABELS = ("tiMe", "batch SAC per task", "pooled batch SAC", "batch PEARL")
REPORTS = tuple(f"report/{label.replace(' ', '-')}" for label in LABELS)


def sets(*fields: str) -> tuple[str, ...]:
    """Each of `field=value` behind a --set."""
    return tuple(word for field in fields for word in ("--set", field))


# Ten blocks in each stage that learns; whatever shapes a program is as in the preset tiny.
TEN_BLOCKS = {"log": "block_steps=20"} | dict.fromkeys(("teachers", "pooled", "pearl", "time"), "updates=200")
CHAIN = ("run", "time-point", *sets("page.proposition=false", *(".".join(item) for item in TEN_BLOCKS.items())))


@dataclass(frozen=True)
class Stage:
    """A subcommand that makes what the step `step` of CHAIN makes; `block` is 0 where it keeps no checkpoints."""

    step: str
    arguments: tuple[str, ...]
    block: int = 0
    unit: str = "update"


STAGES = {
    "collect": Stage("log", ("collect", *sets(TEN_BLOCKS["log"])), 20, "step"),
    "train": Stage("teachers", ("train", "--log", LOG, *sets("updates=200")), 20),
    "distill": Stage("time", ("distill", "--log", LOG, "--teachers", TEACHERS, *sets("updates=200")), 20),
    "batch-sac": Stage("pooled", ("metatrain", "--log", LOG, *sets("updates=200")), 20),
    "batch-pearl": Stage("pearl", ("metatrain", "--log", LOG, "--algorithm", "batch-pearl", *sets("updates=200")), 20),
    "eval": Stage("eval-time", ("eval", "--policy", TIME, *sets("label=tiMe"))),
    "report": Stage(
        "page",
        (
            *("report", *sets("title=tiMe on three goals", "proposition=false")),
            *(word for report in REPORTS for word in ("--reports", report)),
        ),
    ),
}

# Each named point on a real stage; where there are checkpoints, in the process that resumes.
POINTS: dict[str, Point] = {
    "train": "in-checkpoint",
    "distill": "before-checkpoint",
    "batch-sac": "after-card",
    "batch-pearl": "arrays-no-card",
    "eval": "before-arrays",
    "report": "in-rename",
}


# ------------------------------------------------------------------------------------------------------ processes
@dataclass(frozen=True)
class Said:
    """What a process answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Running:
    """A command line at work."""

    def __init__(self, store: Path, *arguments: object, limit: int | None = None, **variables: object) -> None:
        """Starts it. No file may grow beyond `limit` bytes; `variables` are added to its environment."""
        self.store = store
        self._rows = {path: self._count(path) for path in self._live()}
        program = ("-m", "omrl_cli.main") if limit is None else ("-c", LIMITED.format(limit=limit))
        self.process = subprocess.Popen(
            [sys.executable, *program, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(store) | {name: str(value) for name, value in variables.items()},
        )

    def _live(self) -> list[Path]:
        return sorted(self.store.glob("work/*/metrics.jsonl"))

    def _count(self, path: Path) -> int:
        try:
            return path.read_text().count("\n")
        except FileNotFoundError:
            return 0

    def until_blocks(self, number: int) -> None:
        """Waits until this process has told of that many blocks."""
        self._until(lambda: sum(self._count(path) - self._rows.get(path, 0) for path in self._live()) >= number)

    def until_claimed(self) -> None:
        """Waits until this process holds what it is going to make."""
        self._until(lambda: any(work.pid == self.process.pid for work in Shelf(self.store).work_dirs()))

    def until_loaded(self, library: str) -> None:
        """Waits until this process has begun to load a library whose file's name contains `library`."""
        maps = Path(f"/proc/{self.process.pid}/maps")
        self._until(lambda: library in maps.read_text())

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if condition():
                return
            time.sleep(0.002)
        raise AssertionError(f"it ended too early: {self.end()}")

    def end(self, number: signal.Signals | None = None) -> Said:
        """Waits for its end, after sending it a signal if one is given."""
        if number is not None:
            self.process.send_signal(number)
        try:
            out, err = self.process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise AssertionError(f"it hung:\n{out}\n{err}") from None
        return Said(self.process.returncode, out, err)


def environment(store: Path) -> dict[str, str]:
    """That of a user who set nothing but where the store is, the preset, and that every block is to be checkpointed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OMRL_") or name == "OMRL_CACHE"}
    return clean | {"CI": "1", "OMRL_STORE": str(store), "OMRL_PRESET": "tiny", "OMRL_CHECKPOINT_S": "0"}


def say(store: Path, *arguments: object, limit: int | None = None, **variables: object) -> Said:
    """Runs a command line to its end."""
    return Running(store, *arguments, limit=limit, **variables).end()


def assert_refused(said: Said, code: int, cause: str, hint: str) -> None:
    """A failure as a person should see it: nothing on stdout; on stderr a cause and a hint last, and no traceback."""
    assert (said.code, said.out) == (code, ""), said
    *_, first, second = ["", "", *said.err.splitlines()]
    assert first.startswith("error: ") and cause in first, said.err
    assert second.startswith("hint: ") and hint in second, said.err
    assert "Traceback" not in said.err and "Warning" not in said.err, said.err


# ------------------------------------------------------------------------------------------------------ stores
@dataclass(frozen=True)
class Whole:
    """A store in which CHAIN ran undisturbed; `ids[step]` is what a step made."""

    store: Path
    ids: dict[str, str]

    def card(self, step: str) -> Card:
        return Shelf(self.store).find(self.ids[step])

    def above(self, step: str) -> set[str]:
        """The ids of everything that a step's artifact was made from."""
        direct = {parent.id for parent in self.card(step).all_parents()}
        steps = {id: step for step, id in self.ids.items()}
        return direct.union(*(self.above(steps[id]) for id in direct))

    def copy(self, to: Path, ids: set[str] | None = None) -> Path:
        """A new store with the artifacts `ids`, or all of them."""
        for id in self.ids.values() if ids is None else ids:
            shutil.copytree(self.store / "objects" / id, to / "objects" / id)
        to.mkdir(exist_ok=True)
        return to

    def log_like(self, change: Callable[[Tree, Tasks], tuple[Tree, Tasks]], store: Path) -> Card:
        """A log in `store` that is the chain's after `change(arrays, tasks)`."""
        log, shelf = self.card("log"), Shelf(store)
        arrays, tasks = change(Shelf(self.store).artifact(log).arrays(), list(log.tasks))
        recipe: dict[str, Any] = {"stage": "collect", "version": log.version, "config": log.config, "seed": 99}
        with shelf.claim(recipe_id(**recipe, parents={})) as claim:
            product = Product(arrays, tasks=tasks, extra=log.extra, name="by-hand")
            return shelf.put(claim, product, kind=log.kind, parents={}, platform={}, seconds=0.0, **recipe)

    def assert_same(self, store: Path, step: str) -> None:
        """The step's artifact in `store` has the bits of the undisturbed one, is whole, and nothing else is left."""
        assert bits(store, self.ids[step]) == bits(self.store, self.ids[step])
        Shelf(store).verify(self.ids[step])
        assert_tidy(store)


def chain_of(folder: Path, steps: dict[str, Any]) -> tuple[Path, Whole]:
    """(a recipe of these steps, what it made undisturbed)"""
    recipe = folder / "chain.yaml"
    recipe.write_text(yaml.safe_dump({"name": "chain", "help": "a chain", "presets": ["tiny"], "steps": steps}))
    said = say(folder / "whole", "run", recipe, "--json", OMRL_CHECKPOINT_S=3600)
    assert said.code == 0, said.err
    return recipe, Whole(folder / "whole", {step["step"]: step["id"] for step in json.loads(said.out)["steps"]})


def kill_again(
    recipe: Path, chain: Whole, start: Callable[..., Running], step: str, blocks: Sequence[int], store: Path
) -> None:
    """A step of the recipe is killed after each of so many blocks, never begins anew, and comes to the same bits."""
    command, cursor = ("run", recipe, "--only", step, "--json", "--resume"), 0
    chain.copy(store, chain.above(step))
    for number in blocks:
        running = start(store, *command)
        running.until_blocks(number)
        assert running.end(signal.SIGKILL).code == -signal.SIGKILL
        (work,) = Shelf(store).work_dirs()
        assert work.cursor is not None and work.cursor > cursor
        cursor = work.cursor
    said = say(store, *command)
    assert said.code == 0, said.err
    assert "resumed at" in said.err
    chain.assert_same(store, step)


def bits(store: Path, id: str) -> tuple[str, dict[str, float | None], dict[str, str]]:
    """Digest, metrics, and the sha256 of every file that holds neither a time of day nor a random name."""
    card = Shelf(store).find(id)
    names = [name for name in card.files if name.startswith("files/") and not name.startswith("files/tb/")]
    return card.digest, card.metrics, {name: card.files[name] for name in names}


def assert_tidy(store: Path) -> None:
    """Nothing but finished artifacts, one generation of each, and their names."""
    shelf = Shelf(store)
    assert not shelf.work_dirs()
    assert not shelf.garbage(dry_run=True)
    assert {path.name for path in store.iterdir()} <= {"objects", "work", "tmp", "aliases.json", "aliases.lock"}
    assert all(shelf.generations(id) == [1] for id in shelf.ids())
    assert not shelf.damaged


def flip(path: Path, at: float) -> None:
    """Changes one bit of a file, at that share of its length."""
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1
    path.write_bytes(content)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Lets one test process at a time in."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def finished(running: Sequence[Running]) -> Running:
    """The first of them that ends."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        for one in running:
            if one.process.poll() is not None:
                return one
        time.sleep(0.005)
    raise AssertionError("none of them ended")


# ------------------------------------------------------------------------------------------------------ kills
def assert_readable(store: Path, id: str, there: bool) -> None:
    """Right after a kill the listing works: it has what is whole and nothing else."""
    said = say(store, "ls", "--json")
    assert said.code == 0 and "damaged" not in said.err, said.err
    listed = [card["id"] for card in said.json["artifacts"]]
    assert (id in listed) == there
    assert set(listed) - {id} == set(Shelf(store).ids()) - {id}


def assert_swept(store: Path, to: Path) -> None:
    """`omrl gc` takes away everything that a kill left."""
    shutil.copytree(store, to)
    said = say(to, "gc", "--unfinished")
    assert said.code == 0, said.err
    assert_tidy(to)
    shutil.rmtree(to)


def die_and_end(whole: Whole, store: Path, name: str) -> str:
    """Dies at the stage's fault point, then runs to its end. -> what both processes said on stderr"""
    stage, there = STAGES[name], POINTS[name] == "in-rename"
    id = whole.ids[stage.step]
    died = say(store, *stage.arguments, "--resume", OMRL_FAULT=POINTS[name])
    assert (died.code, died.out) == (-signal.SIGKILL, ""), died
    assert_readable(store, id, there)
    assert_swept(store, store.with_name("swept"))
    last = say(store, *stage.arguments, "--resume")
    assert (last.code, last.out) == (0, f"{id}\n"), last.err
    assert ("up to date" in last.err) == there
    whole.assert_same(store, stage.step)
    return died.err + last.err
