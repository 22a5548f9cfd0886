"""`omrl metatrain --online` and what adapts afterwards are killed on their way, and come to the same bits."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .driving import Running, Whole, chain_of, kill_again, say
from .test_kill import draw

FAMILY, NUM_KILLS = {"family": "point-semicircle/spread"}, 2
ONLINE = ("mql", "pearl", "borel")


def steps() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name in ONLINE:
        longer = {**FAMILY, "algorithm": name, "iterations": 24, "block_iterations": 2}
        found[f"{name}-log"] = {"stage": "online", "config": longer}
        found[name] = {
            "stage": "metatrain",
            "inputs": {"log": f"{name}-log"},
            "config": {"algorithm": name, "online": True},
        }
    little = {"protocol": "adapt", "episodes": 2, "curve_episodes": 1, "adapt": {"old_batch": 16, "new_batch": 16}}
    return found | {"adapted": {"stage": "eval", "inputs": {"policy": "mql", "log": "mql-log"}, "config": little}}


pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Whole]:
    return chain_of(tmp_path_factory.mktemp("chain"), steps())


@pytest.mark.parametrize("name", ONLINE)
def test_collecting_and_learning_that_is_killed_again_and_again(
    chain: tuple[Path, Whole], start: Callable[..., Running], name: str, tmp_path: Path
) -> None:
    chance = draw(f"online {name}")
    kill_again(*chain, start, f"{name}-log", [chance.randint(2, 4) for _ in range(NUM_KILLS)], tmp_path / "store")


def test_a_policy_whose_command_was_killed_when_only_its_log_was_there(
    chain: tuple[Path, Whole], tmp_path: Path
) -> None:
    recipe, whole = chain
    store = whole.copy(tmp_path / "store", whole.above("mql"))
    said = say(store, "run", recipe, "--only", "mql", "--json", "--resume")
    assert said.code == 0, said.err
    whole.assert_same(store, "mql")


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
