"""How jax is set up, in one place and before it is imported for the first time: devices, cache, precision."""

import functools
import os
import sys
from pathlib import Path
from typing import Any

from pipelines.core.crew import HINT, Crew, place
from pipelines.core.errors import StageFailed, UsageError

_LEAVE_S = 60  # how long a process of several waits for the others before it ends; they have met before


def cache_dir() -> Path:
    """Where compiled programs are kept: OMRL_CACHE, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("OMRL_CACHE") or Path(base) / "omrl" / "xla")


@functools.cache
def _given() -> int:
    """Asked once: a scheduler may move a process to other cores while it runs, but its devices stay as they are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def num_cores() -> int:
    """Cores this process was given when it began; NPROC, which fixes the size of XLA's thread pool, overrides."""
    stated = os.environ.get("NPROC", "")
    return int(stated) if stated.isdigit() and int(stated) > 0 else _given()


def prepare(devices: int | None = None) -> None:
    """One CPU device per core (or `devices`), and the persistent compilation cache. Call before any array exists.

    Raises UsageError for a count below one.
    """
    if devices is not None and devices < 1:
        raise UsageError(f"--devices {devices} is below 1", "leave it out for one device per core")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import jax

    jax.config.update("jax_num_cpu_devices", devices or num_cores())
    jax.config.update("jax_default_matmul_precision", "highest")
    directory = cache_dir()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # a cache is a convenience: without one every compile is cold
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def join(text: str, devices: int | None) -> Crew:
    """Joins the `jax.distributed` job that `text` names (`crew.place`), with that many host devices of its own; waits
    until all are there. Raises UsageError where there is no such job, StageFailed where the others do not come."""
    where = place(text)
    prepare(devices)
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from us
    try:
        job: Any = dict(zip(("coordinator_address", "num_processes", "process_id"), where or (), strict=False))
        jax.distributed.initialize(**job, shutdown_timeout_seconds=_LEAVE_S)
    except ValueError as error:
        raise UsageError(f"--cluster {text}: {str(error).splitlines()[0]}", HINT) from error
    except RuntimeError as error:
        raise StageFailed(f"--cluster {text}: {str(error).splitlines()[0]}", "is every process started?") from error

    def gather(word: int) -> list[int]:
        return [int(one) for one in multihost_utils.process_allgather(np.int32(word)).reshape(-1)]

    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)  # the first meeting sets up Gloo, which says so on stdout
    try:
        crew = Crew(jax.process_index(), jax.process_count(), gather)
        crew.meet()
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
    return crew


def describe() -> dict[str, Any]:
    """What the card says of the machine: whatever can change the bits."""
    import platform

    import jax

    devices = jax.local_devices()
    return {
        "device": devices[0].platform,
        "kind": devices[0].device_kind,
        "devices": len(devices),
        "cores": num_cores(),
        "nproc": os.environ.get("NPROC", ""),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "thread_pool": max(num_cores(), len(devices)),
        "processes": jax.process_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "matmul_precision": str(getattr(jax.config, "jax_default_matmul_precision", None)),
    }
