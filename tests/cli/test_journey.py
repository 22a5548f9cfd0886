"""The real command line on the real stages, end to end, on the tiny preset."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.store.shelf import Shelf

from .conftest import Said, environment

pytestmark = pytest.mark.timeout(900)  # on a busy machine; none of this says how fast omrl is

CHAIN = ("run", "time-point", "--preset", "tiny", "--set", "page.proposition=false")
HEAVY = ("jax", "numpy", "orbax", "matplotlib", "rich")
# Long enough to be caught while it learns, short enough to wait for.
LONG = ("collect", "--preset", "tiny", "--set", "steps=3000", "--set", "random_steps=100", "--seed", "7")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "omrl_cli.main", *map(str, arguments)]


def say(store: Path, *arguments: object, **more: str) -> Said:
    """Runs the command line."""
    env = environment(OMRL_STORE=str(store), **more)
    found = subprocess.run(command(*arguments), capture_output=True, text=True, env=env, timeout=600, check=False)
    return Said(found.returncode, found.stdout, found.stderr)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """A store in which the tiny recipe ran, and what it said."""
    store = tmp_path_factory.mktemp("journey") / "store"
    return store, say(store, *CHAIN)


@pytest.fixture
def copy(made: tuple[Path, Said], tmp_path: Path) -> Path:
    """A copy of that store, to spoil."""
    shutil.copytree(made[0], tmp_path / "copy")
    return tmp_path / "copy"


def newest(store: Path, kind: str):
    return [card for card in Shelf(store).cards() if card.kind == kind][-1]


# ------------------------------------------------------------------------------------------------------ the good way
def test_the_chain_ends_in_a_table_and_a_page(made: tuple[Path, Said]) -> None:
    _, said = made
    assert said.code == 0, said.err
    assert all(label in said.out for label in ("batch SAC", "pooled batch SAC", "batch PEARL", "tiMe"))
    page = Path(said.out.rstrip().rsplit("report: ", 1)[1])
    assert page.read_text().lstrip().startswith("<!doctype html>")
    assert "made replay-log/" in said.err
    assert "Traceback" not in said.err and "Warning" not in said.err


def test_again_it_is_up_to_date_without_importing_jax(made: tuple[Path, Said]) -> None:
    store, first = made
    program = (
        "import sys; from omrl_cli.main import main\n"
        f"assert main({list(CHAIN)!r}) == 0\n"
        f"sys.exit(str([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    env = environment(OMRL_STORE=str(store))
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, check=False)
    *lines, took, modules = found.stderr.splitlines()
    assert modules == "[]"
    assert took.startswith("the seed took ")
    assert len(lines) == 10
    assert all("up to date" in line for line in lines)
    assert found.stdout == first.out


def test_single_stages_say_their_id_and_nothing_else(made: tuple[Path, Said]) -> None:
    store, _ = made
    log = newest(store, "replay-log")
    said = say(store, "train", "--log", log.id, "--preset", "tiny")
    assert (said.code, said.out) == (0, f"{newest(store, 'policy-set').id}\n")
    assert "up to date" in said.err
    said = say(store, "train", "--log", log.id, "--preset", "tiny", "--set", "updates=20", "--json", "--name", "mine")
    assert said.code == 0, said.err
    data = json.loads(said.out)
    assert (data["alias"], data["made"], data["seed"]) == ("policy-set/mine@1", True, 0)
    assert data["parents"]["log"] == {"id": log.id, "digest": log.digest}
    again = say(store, "train", "--log", log.id, "--preset", "tiny", "--set", "updates=20", "--name", "ours")
    assert again.out == f"{data['id']}\n"
    assert Shelf(store).find("policy-set/ours").id == Shelf(store).find("mine").id == data["id"]
    artifact = Shelf(store).artifact(data["id"])
    assert [json.loads(row)["step"] for row in artifact.file("metrics.jsonl").read_text().splitlines()] == [20]
    assert any(name.startswith("files/tb/") for name in artifact.card.files)
    assert artifact.card.platform["peak_memory_bytes"] > 50e6


# ------------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("arguments", "code", "cause", "hint"),
    [
        (
            ["train", "--log", "policy-set/batch-sac-point-semicircle-time"],
            4,
            "--log wants a replay-log",
            "there is replay-log/",
        ),
        (
            ["eval", "--policy", "report/tiMe"],
            4,
            "--policy wants a meta-policy or policy-set or replay-log",
            "there is",
        ),
        (["train"], 3, "train needs --log, a replay-log", "there is replay-log/"),
        (["train", "--log", "replay-log/point-semicircle-tim"], 3, "--log: no artifact", "did you mean replay-log/"),
        (
            ["distill", "--log", "replay-log/point-semicircle-time"],
            3,
            "distill needs --teachers",
            "there is policy-set/",
        ),
        (["collect", "--preset", "tiny", "--family", "point-semicircle/tim"], 2, "unknown family", "did you mean"),
        (["collect", "--preset", "tinny"], 2, "unknown preset", "did you mean tiny?"),
        (["collect", "--set", "agent.discont=1"], 2, "unknown field 'agent.discont'", "did you mean agent.discount?"),
        (["run", "time-piont"], 2, "unknown recipe", "did you mean time-point?"),
    ],
)
def test_bad_input(made: tuple[Path, Said], arguments: list[str], code: int, cause: str, hint: str) -> None:
    said = say(made[0], *arguments)
    assert (said.code, said.out) == (code, ""), said.err
    *_, first, second = said.err.splitlines()
    assert first.startswith("error: ") and cause in first
    assert second.startswith("hint: ") and hint in second


def test_a_loss_that_is_not_finite_names_the_task(made: tuple[Path, Said]) -> None:
    store, _ = made
    said = say(
        store, "train", "--log", newest(store, "replay-log").id, "--preset", "tiny", "--set", "agent.learning_rate=1e30"
    )
    assert said.code == 1
    assert "is not finite in task" in said.err


# ------------------------------------------------------------------------------------------------------ faults
def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_one_flipped_byte_in_an_array(copy: Path) -> None:
    log = newest(copy, "replay-log")
    folder = Shelf(copy).folder(log.id, log.generation)
    data = max(
        (path for path in (folder / "arrays").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    flip(data)
    for arguments in (["train", "--log", log.id, "--preset", "tiny", "--force"], CHAIN, ["verify", log.id]):
        said = say(copy, *arguments)
        assert said.code == 5, said.err
        assert f"{data} is damaged" in said.err and "hint: " in said.err


def test_one_flipped_byte_in_a_card(copy: Path) -> None:
    log = newest(copy, "replay-log")
    card = Shelf(copy).folder(log.id, log.generation) / "card.json"
    flip(card)
    for arguments in (["train", "--log", log.id], CHAIN, ["show", log.id]):
        said = say(copy, *arguments)
        assert (said.code, f"{card} is damaged" in said.err) == (5, True)


class Running:
    """A command line at work in the background."""

    def __init__(self, store: Path, *arguments: object) -> None:
        self.store = store
        self.before = self._rows()
        self.process = subprocess.Popen(
            command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(OMRL_STORE=str(store)),
        )

    def until_it_learns(self) -> None:
        """Waits for a row of metrics that was not there when this began."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and self.process.poll() is None:
            if (now := self._rows()) and now != self.before:
                return
            time.sleep(0.01)
        raise AssertionError(f"it did not learn: {self.process.communicate()}")

    def _rows(self) -> str:
        return "".join(path.read_text() for path in self.store.glob("work/*/metrics.jsonl"))

    def stop(self, number: signal.Signals) -> Said:
        """Sends a signal, and waits for the end."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=300)
        return Said(self.process.returncode, out, err)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts command lines; none of them outlives the test."""
    begun: list[Running] = []

    def begin(*arguments: object) -> Running:
        begun.append(Running(tmp_path / "store", *arguments))
        return begun[-1]

    yield begin
    for running in begun:
        if running.process.poll() is None:
            running.process.kill()
            running.process.communicate()


@pytest.mark.slow  # test_faults.py and test_interrupt.py do each of them faster
def test_two_writers_then_ctrl_c_then_resume_to_the_same_bits(start: Callable[..., Running], tmp_path: Path) -> None:
    first = start(*LONG)
    first.until_it_learns()
    second = say(first.store, *LONG)
    assert second.code == 1
    assert f"is being written by process {first.process.pid}" in second.err
    said = first.stop(signal.SIGINT)
    assert (said.code, said.out) == (130, ""), said.err
    assert "interrupted with a checkpoint at" in said.err and "--resume" in said.err
    refused = say(first.store, *LONG)
    assert (refused.code, "--resume continues it" in refused.err) == (1, True)
    again = start(*LONG, "--resume")
    again.until_it_learns()
    said = again.stop(signal.SIGTERM)
    assert said.code == 130, said.err
    whole = say(first.store, *LONG, "--resume", "--json")
    assert whole.code == 0, whole.err
    alone = say(tmp_path / "other", *LONG, "--json")
    assert json.loads(whole.out)["digest"] == json.loads(alone.out)["digest"]
    rows = [
        Shelf(store).artifact(json.loads(whole.out)["id"]).file("metrics.jsonl")
        for store in (first.store, tmp_path / "other")
    ]
    assert rows[0].read_text() == rows[1].read_text()
