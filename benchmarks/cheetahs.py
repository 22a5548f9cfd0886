"""Three cheetahs of halfcheetah-vel/mql as a family of their own, `benchmarks/cheetahs.py:family`: what collectors and
batch-RL algorithms are compared on. The training tasks whose velocities are nearest to WANTED, in m/s."""

import dataclasses
import functools
from typing import cast

import numpy as np

from pipelines.core.types import HostFamily, Task
from pipelines.tasks import registry

ORIGIN = "halfcheetah-vel/mql"
WANTED = (0.5, 1.5, 2.5)


@functools.cache
def chosen() -> tuple[Task, ...]:
    """With the ids that they have among the hundred."""
    everyone = registry.find(ORIGIN).tasks("train")
    at = np.array([velocity(task) for task in everyone])
    return tuple(everyone[int(np.abs(at - wanted).argmin())] for wanted in WANTED)


def velocity(task: Task) -> float:
    """In m/s."""
    (value,) = task.params.values()
    return value


@functools.cache
def family() -> HostFamily:
    origin = cast(HostFamily, registry.find(ORIGIN))
    return dataclasses.replace(origin, tasks=lambda split: chosen() if split == "train" else ())
