"""`omrl belief` is killed while it learns, and goes on to the same bits."""

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
    "log": {"stage": "collect", "config": {"family": "gridworld/borel", "num_tasks": 3, "steps": 600}},
    "mixed": {"stage": "relabel", "inputs": {"log": "log"}, "config": {"reward": "known", "unit": "episode"}},
    "belief": {
        "stage": "belief",
        "inputs": {"log": "log", "relabelled": "mixed"},
        "config": {"reward_head": "cells", "updates": 200},
    },
}
NUM_KILLS = 3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_belief_that_is_killed_again_and_again(start: Callable[..., Running], tmp_path: Path) -> None:
    """At block ends that are drawn; it never begins anew."""
    recipe = tmp_path / "chain.yaml"
    recipe.write_text(yaml.safe_dump({"name": "chain", "help": "a belief", "presets": ["tiny"], "steps": STEPS}))
    command = ("run", recipe, "--json")
    said = say(tmp_path / "whole", *command, OMRL_CHECKPOINT_S=3600)
    assert said.code == 0, said.err
    whole = Whole(tmp_path / "whole", {step["step"]: step["id"] for step in json.loads(said.out)["steps"]})

    chance, cursor = draw("belief"), 0
    store = whole.copy(tmp_path / "store", whole.above("belief"))
    for _ in range(NUM_KILLS):
        running = start(store, *command, "--resume")
        running.until_blocks(chance.randint(2, 5))
        assert running.end(signal.SIGKILL).code == -signal.SIGKILL
        (work,) = Shelf(store).work_dirs()
        assert work.cursor is not None and work.cursor > cursor
        cursor = work.cursor
    said = say(store, *command, "--resume")
    assert said.code == 0, said.err
    assert "resumed at update" in said.err
    whole.assert_same(store, "belief")
