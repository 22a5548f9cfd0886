"""The peer of the same run: stable-baselines3's SAC in an environment of its own, made on demand."""

import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

from benchmarks.spread import Spread
from benchmarks.work import ROWS, Size

FOLDER = Path(__file__).resolve().parent / "peers"
REQUIREMENTS = FOLDER / "requirements.txt"
ENVIRONMENT = FOLDER / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


class PeerMissing(Exception):
    """The peer cannot be installed or run; the message is one line."""


def call(command: list[str]) -> str:
    """stdout. Raises PeerMissing with the last line that the command said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise PeerMissing(str(error)) from error
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise PeerMissing(said[-1].strip() if said else f"{command[0]} exited with {done.returncode}")
    return done.stdout


def install(requirements: Path = REQUIREMENTS, environment: Path = ENVIRONMENT) -> Path:
    """Makes the environment where it is missing or older than its requirements. -> its python. Raises PeerMissing.

    torch, where it is wanted, comes first and alone: that way pip may take a build for CPUs from a local index or
    --find-links, where one is configured, before a dependency of something else pulls in the CUDA build.
    """
    python = environment / PYTHON.relative_to(ENVIRONMENT)
    stamp = environment / ".installed"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"installing a peer into {environment} (some minutes the first time)", file=sys.stderr, flush=True)
    try:
        venv.create(environment, clear=True, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PeerMissing(f"no environment at {environment}: {error}") from error
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for torch in [line for line in requirements.read_text().splitlines() if line.startswith("torch==")]:
        call([*pip, torch])
    call([*pip, "-r", str(requirements)])
    stamp.write_text(wanted)
    return python


def measure(size: Size, threads: int, repeats: int, repeat_s: float) -> dict[str, Any]:
    """Gradient steps a second at `size`: {"updates_per_s": Spread, "threads", versions}. Raises PeerMissing.

    With one thread and with `threads`, whichever is faster: small nets lose by more threads.
    """
    found = []
    for count in sorted({1, threads}):
        numbers = {
            "width": size.width,
            "batch": size.batch,
            "obs": size.obs,
            "action": size.action,
            "rows": ROWS,
            "repeats": repeats,
            "seconds": repeat_s,
            "threads": count,
        }
        flags = [f"--{name}={value}" for name, value in numbers.items()]
        lines = call([str(PYTHON), str(FOLDER / "sac_sb3.py"), *flags]).splitlines()
        one = json.loads(lines[-1])
        found.append(one | {"updates_per_s": Spread.of(one["updates_per_s"])})
    return max(found, key=lambda one: one["updates_per_s"].median)
