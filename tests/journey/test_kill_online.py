"""`omrl metatrain --online` and what adapts afterwards are killed on their way, and come to the same bits."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .driving import Running, Whole, chain_of, kill_again, say
from .test_kill import draw

FAMILY, NUM_KILLS = {"family": "point-semicircle/spread"}, 2
LITTLE = {"protocol": "adapt", "episodes": 2, "curve_episodes": 1, "adapt": {"old_batch": 16, "new_batch": 16}}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", params=["mql", "pearl", "borel"])
def chain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Whole]:
    """The two artifacts of one command; of MQL an evaluation, too."""
    name = request.param
    longer = {**FAMILY, "algorithm": name, "iterations": 24, "block_iterations": 2}
    steps: dict[str, dict[str, Any]] = {
        "log": {"stage": "online", "config": longer},
        "policy": {"stage": "metatrain", "inputs": {"log": "log"}, "config": {"algorithm": name, "online": True}},
    }
    if name == "mql":
        steps["adapted"] = {"stage": "eval", "inputs": {"policy": "policy", "log": "log"}, "config": LITTLE}
    return chain_of(tmp_path_factory.mktemp(name), steps)


def test_collecting_and_learning_that_is_killed_again_and_again(
    chain: tuple[Path, Whole], start: Callable[..., Running], tmp_path: Path
) -> None:
    chance = draw(f"online {chain[0].parent.name}")
    kill_again(*chain, start, "log", [chance.randint(2, 4) for _ in range(NUM_KILLS)], tmp_path / "store")


def test_a_policy_whose_log_alone_was_there_when_the_command_was_killed(
    chain: tuple[Path, Whole], tmp_path: Path
) -> None:
    recipe, whole = chain
    store = whole.copy(tmp_path / "store", whole.above("policy"))
    said = say(store, "run", recipe, "--only", "policy", "--json", "--resume")
    assert said.code == 0, said.err
    whole.assert_same(store, "policy")


@pytest.mark.parametrize("chain", ["mql"], indirect=True)
def test_an_evaluation_that_adapts_begins_anew(
    chain: tuple[Path, Whole], start: Callable[..., Running], tmp_path: Path
) -> None:
    recipe, whole = chain
    store = whole.copy(tmp_path / "store", whole.above("adapted"))
    command = ("run", recipe, "--only", "adapted", "--json", "--resume")
    running = start(store, *command)
    running.until_claimed()
    assert running.end(signal.SIGKILL).code == -signal.SIGKILL
    said = say(store, *command)
    assert said.code == 0, said.err
    whole.assert_same(store, "adapted")
