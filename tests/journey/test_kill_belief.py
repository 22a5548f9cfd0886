"""`omrl replay`, `omrl belief` and BOReL's `omrl metatrain` are killed on their way, and go on to the same bits."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipelines.store.shelf import Shelf

from .driving import Running, Whole, say
from .test_kill import draw

STEPS = {
    "log": {"stage": "collect", "config": {"family": "gridworld/borel", "num_tasks": 8, "steps": 600}},
    "guests": {"stage": "replay", "inputs": {"policies": "log"}},
    "mixed": {"stage": "relabel", "inputs": {"log": "log"}, "config": {"reward": "known", "unit": "episode"}},
    "belief": {
        "stage": "belief",
        "inputs": {"log": "log", "relabelled": "mixed"},
        "config": {"reward_head": "cells", "updates": 200},
    },
    "explorer": {
        "stage": "metatrain",
        "inputs": {"log": "log", "belief": "belief"},
        "config": {"algorithm": "borel", "updates": 400},
    },
}
NUM_KILLS = {"guests": 1, "belief": 3, "explorer": 3}  # of 7 policies, of 20 blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chain") / "chain.yaml"
    path.write_text(yaml.safe_dump({"name": "chain", "help": "a belief", "presets": ["tiny"], "steps": STEPS}))
    return path


@pytest.fixture(scope="module")
def chain(recipe: Path) -> Whole:
    """All of it, undisturbed."""
    store = recipe.parent / "whole"
    said = say(store, "run", recipe, "--json", OMRL_CHECKPOINT_S=3600)
    assert said.code == 0, said.err
    return Whole(store, {step["step"]: step["id"] for step in json.loads(said.out)["steps"]})


@pytest.mark.parametrize("step", NUM_KILLS)
def test_a_step_that_is_killed_again_and_again(
    recipe: Path, chain: Whole, start: Callable[..., Running], step: str, tmp_path: Path
) -> None:
    """At block ends that are drawn; it never begins anew."""
    command = ("run", recipe, "--only", step, "--json", "--resume")
    chance, cursor = draw(step), 0
    store = chain.copy(tmp_path / "store", chain.above(step))
    for _ in range(NUM_KILLS[step]):
        running = start(store, *command)
        running.until_blocks(chance.randint(2, 5))
        assert running.end(signal.SIGKILL).code == -signal.SIGKILL
        (work,) = Shelf(store).work_dirs()
        assert work.cursor is not None and work.cursor > cursor
        cursor = work.cursor
    said = say(store, *command)
    assert said.code == 0, said.err
    assert "resumed at" in said.err
    chain.assert_same(store, step)
