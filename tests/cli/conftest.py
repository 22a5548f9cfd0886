"""The command line, called in this process or in one of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from omrl_cli import main
from pipelines.stages.presets import PRESETS
from pipelines.stages.registry import STAGES, Role

from .counting import RECIPE, CountConfig, Counting, SumConfig, TestSpec


@dataclass(frozen=True)
class Said:
    """What a command line answered."""

    code: int
    out: str
    err: str


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, which OMRL_STORE names."""
    monkeypatch.setenv("OMRL_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def omrl(store: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Said]]:
    """`omrl("ls", "--json")` in this process."""
    before = signal.getsignal(signal.SIGTERM)

    def call(*arguments: object) -> Said:
        capsys.readouterr()
        code = main.main([str(argument) for argument in arguments])
        seen = capsys.readouterr()
        return Said(code, seen.out, seen.err)

    yield call
    signal.signal(signal.SIGTERM, before)


def environment(**more: str) -> dict[str, str]:
    """That of a child process."""
    return {**os.environ, "CI": "1", **more}


@pytest.fixture
def shell(store: Path) -> Callable[..., Said]:
    """`shell("ls", OMRL_FAULT="...")` in a process of its own."""

    def call(*arguments: object, **more: str) -> Said:
        command = [sys.executable, "-m", "omrl_cli.main", *map(str, arguments)]
        found = subprocess.run(
            command, capture_output=True, text=True, env=environment(**more), timeout=300, check=False
        )
        return Said(found.returncode, found.stdout, found.stderr)

    return call


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """Registers the stages `count` and `sum`."""
    stages = Counting()
    count = TestSpec("count", "counts", CountConfig, "count", runner=stages.count)
    consumes = {"counts": Role(("count",), many=True)}
    total = TestSpec("sum", "adds", SumConfig, "total", consumes, runner=stages.sum)
    for spec in (count, total):
        monkeypatch.setitem(STAGES, spec.name, spec)
        monkeypatch.setitem(PRESETS, spec.name, {"small": {}, "tiny": {"upto": 2} if spec is count else {}})
    return stages


@pytest.fixture
def recipe(tmp_path: Path, counting: Counting) -> Path:
    """A recipe of the test stages."""
    path = tmp_path / "counting.yaml"
    path.write_text(RECIPE)
    return path
