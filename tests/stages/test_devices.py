"""The same bits on one, two and four host devices. XLA's thread pool changes rounding, so its size is fixed: NPROC."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import hashlib, json, sys
from pipelines.core import platform
platform.prepare(devices=int(sys.argv[1]))
import jax, numpy as np
from tests.toys import AGENTS, run

small = {"num_snapshots": 1, "agent": AGENTS["sac"]}
log = run("collect", {}, {"steps": 60, "random_steps": 30, "block_steps": 30} | small)
policies = run("train", {"log": log}, {"updates": 20, "block_updates": 10} | small)

def digests(tree):
    return {
        jax.tree_util.keystr(path): hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest()
        for path, leaf in jax.tree.leaves_with_path(tree)
    }

print(json.dumps({
    "devices": len(jax.local_devices()), "collect": digests(log.tree), "train": digests(policies.tree)
}))
"""


def on(devices: int, nproc: int = 4) -> dict[str, dict[str, str]]:
    """The hashes of every array of `collect` and `train`, made in a process with that many devices."""
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(devices)],
        cwd=ROOT,
        env={**os.environ, "NPROC": str(nproc)},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert found.returncode == 0, found.stderr
    said = json.loads(found.stdout)
    assert said.pop("devices") == devices
    return said


@pytest.fixture(scope="module")
def one() -> dict[str, dict[str, str]]:
    return on(1)


# each device compiles its own programs, so that four of them take a while
@pytest.mark.parametrize("devices", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_bits_do_not_depend_on_the_devices(one, devices):
    found = on(devices)
    for stage, digests in one.items():
        assert [name for name, digest in digests.items() if found[stage][name] != digest] == [], stage
    assert all(len(set(digests.values())) > 10 for digests in one.values())  # hashes do tell arrays apart
