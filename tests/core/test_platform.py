import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.core import platform
from pipelines.core.errors import CheckFailed, InputMissing, OmrlError, StageFailed, UsageError, WrongKind


@pytest.mark.parametrize("devices", [0, -2])
def test_fewer_than_one_device_is_refused(devices):
    with pytest.raises(UsageError, match=f"--devices {devices}"):
        platform.prepare(devices)


def test_nproc_overrides_the_cores(monkeypatch):
    monkeypatch.setenv("NPROC", "7")
    assert platform.num_cores() == 7
    for nonsense in ("", "0", "-1", "many"):
        monkeypatch.setenv("NPROC", nonsense)
        assert platform.num_cores() == len(os.sched_getaffinity(0))


def test_a_process_that_is_moved_to_other_cores_keeps_its_devices(monkeypatch):
    """Every stage of a recipe prepares anew, and jax refuses another number of devices once there are some."""
    before = platform.num_cores()
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(before + 1)))
    assert platform.num_cores() == before
    platform.prepare()
    assert platform.describe()["devices"] == before


def test_where_compiled_programs_are_kept(monkeypatch):
    monkeypatch.setenv("OMRL_CACHE", "/somewhere/else")
    assert platform.cache_dir() == Path("/somewhere/else")
    monkeypatch.delenv("OMRL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert platform.cache_dir() == Path("/xdg/omrl/xla")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert platform.cache_dir() == Path.home() / ".cache/omrl/xla"


def test_the_platform_says_what_changes_bits():
    said = platform.describe()
    assert said["devices"] == said["thread_pool"] == said["cores"]  # as `prepare` sets it up
    assert said["matmul_precision"] == "highest"
    assert {"device", "kind", "nproc", "machine", "python"} <= set(said)


@pytest.mark.parametrize(
    ("kind", "code"), [(StageFailed, 1), (UsageError, 2), (InputMissing, 3), (WrongKind, 4), (CheckFailed, 5)]
)
def test_errors_carry_their_exit_code_and_a_hint(kind, code):
    error = kind("cause", "hint")
    assert isinstance(error, OmrlError)
    assert (error.exit_code, error.cause, error.hint, str(error)) == (code, "cause", "hint", "cause")


def test_importing_starts_no_device():
    """Or `prepare`, which says how many devices there are, would come too late for whoever imports first."""
    program = """
import importlib, pkgutil
import pipelines
from jax._src import xla_bridge
for found in pkgutil.walk_packages(pipelines.__path__, "pipelines."):
    if found.name.startswith("pipelines.tasks."):  # what simulators do when they load is theirs
        continue
    importlib.import_module(found.name)
    assert not xla_bridge._backends, found.name
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
