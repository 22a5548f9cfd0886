"""The machine that a figure belongs to, and the fastest it multiplies dense float32 matrices."""

import os
import platform as system
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib

from pipelines.core import platform


def cpu_model() -> str:
    """The processor's name as Linux gives it, else as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else system.processor() or system.machine()


def memory_gb() -> float | None:
    """Physical memory in GB (10^9 bytes), None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):
        return None


def load() -> float:
    """Processes that wanted a core over the last minute; 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def describe() -> dict[str, Any]:
    """What must stand beside a figure: processor, cores, memory, versions, devices, and how busy the machine was."""
    return {
        "cpu": cpu_model(),
        "memory_gb": memory_gb(),
        "load": load(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    } | platform.describe()


def matmul_peak(sizes: Sequence[int], repeats: int) -> dict[str, Any]:
    """The fastest square product of all `sizes` on all devices, in GFLOP/s: {"gflops", "size", "layout"}.

    Tried as one product whose work the device's thread pool shares, and as one product on every device at once: the
    better one is the ceiling that a share of the peak is a share of.
    """
    product = jax.jit(jnp.matmul)
    best: dict[str, Any] = {"gflops": 0.0, "size": 0, "layout": ""}
    for size in sizes:
        ones = [jax.device_put(jnp.ones((size, size)), device) for device in jax.local_devices()]
        for layout, operands in (("one product", ones[:1]), ("one per device", ones)):
            jax.block_until_ready([product(x, x) for x in operands])
            for _ in range(repeats):
                begin = time.perf_counter()
                jax.block_until_ready([product(x, x) for x in operands])
                gflops = 2 * size**3 * len(operands) / (time.perf_counter() - begin) / 1e9
                if gflops > best["gflops"]:
                    best = {"gflops": gflops, "size": size, "layout": layout}
    return best
