"""Peers in environments and processes of their own that wait for their turn: see peers/turns.py for the other end.

python -m benchmarks.rivals        installs all of them (some minutes; torch is large)
"""

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import peer

ENVIRONMENTS = ("learners", "d3rlpy")  # peers/NAME.txt -> peers/.venv-NAME; their dependencies do not go together


def python_of(environment: str) -> Path:
    """The environment's python, made where it is missing. Raises PeerMissing."""
    return peer.install(peer.FOLDER / f"{environment}.txt", peer.FOLDER / f".venv-{environment}")


def command(environment: str, script: str, flags: Mapping[str, Any]) -> list[str]:
    """`peers/script` in that environment. Raises PeerMissing where it cannot be had."""
    return [str(python_of(environment)), str(peer.FOLDER / script), *(f"--{name}={flags[name]}" for name in flags)]


def surroundings(threads: int) -> dict[str, str]:
    """The variables that a peer sees: `threads` threads, and nothing that was set for omrl's own jax."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XLA_", "JAX_", "OMRL_"))}
    return kept | {"OMP_NUM_THREADS": str(threads), "NPROC": str(threads)}


class Rival:
    """A process that answers questions. `facts` is what it said when it was ready. A context manager.

    Raises PeerMissing with the last line that the process said if it does not answer.
    """

    def __init__(self, words: list[str], threads: int, env: dict[str, str] | None = None) -> None:
        self._talk = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._talk,
            text=True,
            env=surroundings(threads) if env is None else env,
        )
        try:
            self.facts = self._heard()
        except BaseException:
            self.close()
            raise

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            print(json.dumps(question), file=self._process.stdin, flush=True)
        except BrokenPipeError as error:
            raise self._gone() from error
        return self._heard()

    def turn(self) -> float:
        """Updates a second, measured now."""
        return float(self.ask({})["updates_per_s"])

    def _heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._gone()
        found: dict[str, Any] = json.loads(line)
        return found

    def _gone(self) -> peer.PeerMissing:
        code = self._process.wait()
        self._talk.seek(0)
        said = [line.strip() for line in self._talk if line.strip()]
        return peer.PeerMissing(said[-1] if said else f"the peer exited with {code}")

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()  # what it waits for: it ends
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._talk.close()

    def __enter__(self) -> "Rival":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def main() -> None:
    missing = []
    for environment in ENVIRONMENTS:
        try:
            print(python_of(environment))
        except peer.PeerMissing as error:
            missing.append(f"{environment}: {error}")
    if missing:
        raise SystemExit("\n".join(missing))


if __name__ == "__main__":
    main()
