"""The two commands that a stranger types depend on these files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TARGETS = ("help", "setup", "demo", "check", "test", "learn", "slow", "smoke", "bench", "results")


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Whoever runs the tests through make must not hand its own flags down.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, env=env, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile beside a project that cannot be installed, and two Pythons that do not work."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").write_text('[build-system]\nrequires = []\nbuild-backend = "absent"\n')
    for name, body in {"shim": "echo shim: command not found >&2; exit 127", "old": "exit 1"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_help_lists_every_target() -> None:
    said = make(ROOT)
    assert said.returncode == 0
    assert [line.split()[1] for line in said.stdout.splitlines()] == list(TARGETS)


@pytest.mark.parametrize("target", TARGETS[2:])
def test_every_target_installs_first(checkout: Path, target: str) -> None:
    said = make(checkout, "--dry-run", target)
    assert said.returncode == 0
    assert "-m venv" in said.stdout
    assert "pip install" in said.stdout


def test_setup_says_what_is_missing(checkout: Path) -> None:
    said = make(checkout, "setup", "PYTHONS=./shim ./old ./absent")
    assert said.returncode != 0
    assert "error: no Python 3.11 to 3.13" in said.stderr
    assert "hint: " in said.stderr
    assert not (checkout / ".venv").exists()


def test_setup_passes_over_pythons_that_do_not_work(checkout: Path) -> None:
    said = make(checkout, "setup", f"PYTHONS=./shim ./old ./absent {sys.executable}")
    assert "making .venv with Python 3." in said.stdout
    assert (checkout / ".venv" / "bin" / "python").exists()
    assert said.returncode != 0  # the project cannot be installed ...
    assert not (checkout / ".venv" / ".installed").exists()  # ... and is not taken for installed


def test_ci_runs_on_a_clean_checkout() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert "make check test smoke" in script.read_text()
