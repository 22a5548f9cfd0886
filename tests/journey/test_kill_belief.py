"""`omrl replay`, `omrl belief` and BOReL's `omrl metatrain` are killed on their way, and go on to the same bits."""

from collections.abc import Callable
from pathlib import Path

import pytest

from .driving import Running, Whole, chain_of, kill_again
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
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Whole]:
    return chain_of(tmp_path_factory.mktemp("chain"), STEPS)


@pytest.mark.parametrize("step", NUM_KILLS)
def test_a_step_that_is_killed_again_and_again(
    chain: tuple[Path, Whole], start: Callable[..., Running], step: str, tmp_path: Path
) -> None:
    """At block ends that are drawn."""
    chance = draw(step)
    kill_again(*chain, start, step, [chance.randint(2, 5) for _ in range(NUM_KILLS[step])], tmp_path / "store")
