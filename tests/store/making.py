"""Small artifacts for the tests, made in this process or, run as a program, in one that may be killed:
`python making.py put|many|checkpoint|fill|hold|race ROOT`."""

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipelines.core.errors import StageFailed
from pipelines.core.work import Product
from pipelines.store.card import Card, recipe_id
from pipelines.store.checkpoint import DiskCheckpoint
from pipelines.store.disk import room_for
from pipelines.store.shelf import Claim, Shelf

ROOT = Path(__file__).parents[2]
CONFIG = {"family": "point", "steps": 20}


class State(NamedTuple):
    weights: dict[str, Any]
    step: Any


def arrays(scale: float = 1.0) -> dict[str, Any]:
    """A tree with every dtype that stages use, nesting, and what is empty."""
    return {
        "obs": (scale * np.arange(12, dtype=np.float32)).reshape(3, 4),
        "terminal": np.array([True, False, True]),
        "image": np.arange(6, dtype=np.uint8).reshape(1, 2, 3),
        "policy": {"mean": np.float64(0.5), "count": np.int32(7), "nothing": {}},
        "curve": np.zeros((0, 3), np.float32),
    }


def product(scale: float = 1.0, name: str = "point/time") -> Product:
    return Product(
        arrays(scale),
        metrics={"return": -3.5, "none": float("nan")},
        tasks=[{"id": 0, "name": "east", "params": {"angle": 0.0}}],
        extra={"family": "point"},
        files={"page.html": b"<html></html>", "figures/left.png": b"\x89PNG"},
        name=name,
    )


def recipe(seed: int = 0, parents: Any = None) -> str:
    ids = {
        role: [one.id for one in cards] if isinstance(cards, list) else cards.id
        for role, cards in (parents or {}).items()
    }
    return recipe_id("collect", 1, CONFIG, seed, ids)


def put(
    shelf: Shelf, claim: Claim, made: Product, seed: int = 0, parents: Any = None, kind: str = "replay-log"
) -> Card:
    recipe = {"stage": "collect", "version": 1, "config": CONFIG, "seed": seed, "parents": parents or {}}
    return shelf.put(claim, made, kind=kind, platform={"cores": 2}, seconds=1.5, **recipe)


def make(shelf: Shelf, seed: int = 0, scale: float = 1.0, parents: Any = None, **names: Any) -> Card:
    """Claims and puts one artifact of stage `collect`, with live metrics. `names`: kind, name."""
    with shelf.claim(recipe(seed, parents)) as claim:
        (claim.folder / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
        (claim.folder / "tb").mkdir(exist_ok=True)
        (claim.folder / "tb" / "events").write_bytes(b"\x00\x01")
        made = product(scale, names.pop("name", "point/time"))
        return put(shelf, claim, made, seed, parents, **names)


def state(step: int) -> State:
    return State({"w": np.full((4, 3), step, np.float32)}, np.int32(step))


@contextlib.contextmanager
def file_limit(size: int) -> Iterator[None]:
    """A disk on which no file may grow past `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def start(task: str, root: Path, fault: str = "") -> "subprocess.Popen[str]":
    """This file as a process of its own, with a fault point armed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMRL_FAULT": fault, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, __file__, task, str(root)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, text=True, stdin=pipe, stdout=pipe, stderr=pipe)


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def run(task: str, root: Path) -> None:
    shelf = Shelf(root)
    if task == "put":
        make(shelf)
    elif task == "many":
        for seed in range(5):
            make(shelf, seed)
    elif task == "checkpoint":
        with shelf.claim(recipe()) as claim:
            DiskCheckpoint(claim.checkpoint).save(3, state(3))
    elif task == "fill":
        from pipelines.store.arrays import flatten, save

        leaves = flatten({f"x{index}": np.float32(index) for index in range(3000)})
        try:
            with file_limit(2000), room_for(100, root, "3000 leaves"):
                save(root / "arrays", leaves)
        except StageFailed as failure:
            say(failure.cause)
    elif task == "hold":
        with shelf.claim(recipe()):
            say("held")
            sys.stdin.readline()
    elif task == "race":
        say("ready")
        sys.stdin.readline()
        with shelf.claim(recipe()):
            say("won")
            sys.stdin.readline()


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]))
