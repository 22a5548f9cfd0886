"""A chain of other stages, killed again and again: relabelling, MBML and its baselines, trials, fine-tuning."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipelines.store.shelf import Shelf

from .driving import Running, Whole, say, sets
from .test_kill import draw

NUM_KILLS = 12
SHORT = {"updates": 200, "block_updates": 20}
TRIALS = {"protocol": "episodes", "trial_episodes": 3, "counted": "2-3"}
LOG, TAUGHT = {"log": "log"}, {"log": "log", "teachers": "teachers"}
STEPS = {
    "log": {"stage": "collect", "config": {"family": "point-semicircle/disjoint"}},
    "teachers": {"stage": "train", "inputs": LOG, "config": {"algorithm": "bcq", **SHORT}},
    "relabelled": {"stage": "relabel", "inputs": LOG},
    "mbml": {
        "stage": "distill",
        "inputs": TAUGHT | {"relabelled": "relabelled"},
        "config": {"method": "mbml", **SHORT},
    },
    "contextual": {"stage": "metatrain", "inputs": LOG, "config": {"algorithm": "contextual-bcq", **SHORT}},
    "ddpg": {"stage": "train", "inputs": LOG, "config": {"algorithm": "ddpg", **SHORT}},
    "trials": {"stage": "eval", "inputs": {"policy": "mbml", "probe": "log"}, "label": "MBML", "config": TRIALS},
    "fine-tuned": {"stage": "finetune", "inputs": {"policy": "mbml"}},
    "page": {
        "stage": "report",
        "each_seed": False,
        "inputs": {"reports": ["trials"]},
        "config": {"proposition": False},
    },
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_a_chain_that_is_killed_again_and_again(start: Callable[..., Running], tmp_path: Path) -> None:
    """Every artifact has the bits of a chain that nobody disturbed, and nothing is left over."""
    recipe = tmp_path / "chain.yaml"
    recipe.write_text(yaml.safe_dump({"name": "chain", "help": "all of it", "presets": ["tiny"], "steps": STEPS}))
    command = ("run", recipe, *sets("page.title=all of it"), "--json")
    for store in ("cold", "whole"):  # the second compiles nothing, as those that are killed
        begin = time.monotonic()
        said = say(tmp_path / store, *command, OMRL_CHECKPOINT_S=3600)
        seconds = time.monotonic() - begin
        assert said.code == 0, said.err
    whole = Whole(tmp_path / "whole", {step["step"]: step["id"] for step in json.loads(said.out)["steps"]})

    chance, store, kills = draw("again and again"), tmp_path / "store", 0
    for _ in range(NUM_KILLS):
        running = start(store, *command, "--resume")
        time.sleep(chance.uniform(2, seconds / 3))
        kills += running.end(signal.SIGKILL).code == -signal.SIGKILL
    assert kills >= NUM_KILLS // 3  # or nothing was seen
    said = say(store, *command, "--resume")
    assert said.code == 0, said.err
    assert {step["step"]: step["id"] for step in said.json["steps"]} == whole.ids
    for step in whole.ids:
        whole.assert_same(store, step)
    assert not Shelf(store).damaged
