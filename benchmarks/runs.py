"""Long comparisons in pieces: a record per run, made where it is missing, so that a broken comparison goes on."""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.results import ROOT, git, omrl

BUILD = ROOT / "build"  # not in git
FAMILY = "benchmarks/cheetahs.py:family"


class Runs:
    """Records in a folder, one JSON file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, name: str) -> dict[str, Any] | None:
        path = self.folder / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def ensure(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The record of that name; `make()` gives what it says if there is none."""
        held = self.find(name)
        if held is not None:
            return held
        print(f"run {name}", file=sys.stderr, flush=True)
        record = make() | {"commit": git("rev-parse", "HEAD")}
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.json"
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps(record) + "\n")
        draft.replace(path)  # a killed run leaves no half record
        return record


def stage(store: Path, *words: str) -> dict[str, Any]:
    """One omrl stage in `store`. -> what `--json` says of the artifact. Exits with its code where it fails."""
    found: dict[str, Any] = json.loads(
        omrl(*words, "--store", str(store), "--json", "--quiet", "--resume", "--accept-stale")
    )
    return found


def sets(fields: dict[str, Any], prefix: str = "") -> list[str]:
    """{field: value} -> --set flags; nested dicts become dotted names."""
    flags = []
    for name, value in fields.items():
        if isinstance(value, dict):
            flags += sets(value, f"{prefix}{name}.")
        else:
            flags += ["--set", f"{prefix}{name}={json.dumps(value)}"]
    return flags


@contextlib.contextmanager
def cold_cache() -> Iterator[None]:
    """Inside, stages compile as on a fresh machine: the first run of a program is a cold one, the next ones are not."""
    before = os.environ.get("OMRL_CACHE")
    with tempfile.TemporaryDirectory(prefix="omrl-bench-") as cache:
        os.environ["OMRL_CACHE"] = cache
        try:
            yield
        finally:
            if before is None:
                del os.environ["OMRL_CACHE"]
            else:
                os.environ["OMRL_CACHE"] = before


def seeds_of(text: str) -> list[int]:
    """`0-2,5` -> [0, 1, 2, 5]"""
    found = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        found += range(int(low), int(high or low) + 1)
    return found
