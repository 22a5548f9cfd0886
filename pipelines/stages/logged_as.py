"""A log whose rewards are another family's than the one that its agents learned in: same body, same tasks.

BOReL's ants learn from dense rewards, and their logs hold the sparse ones of the family that is tested on.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.core.errors import UsageError
from pipelines.core.types import Log, Task, TaskFamily, transitions
from pipelines.tasks import registry


def find(family: TaskFamily, name: str, tasks: Sequence[Task]) -> TaskFamily:
    """The family called `name`. Raises UsageError where it is not `family` with other rewards."""
    other = registry.find(name)
    same = other.space == family.space and other.outcome == family.outcome and other.horizon == family.horizon
    known = {(task.id, tuple(task.params.items())) for split in ("train", "test", "ood") for task in other.tasks(split)}
    if not same or not all((task.id, tuple(task.params.items())) in known for task in tasks):
        cause = f"log_as={name}: its tasks, observations or actions are not those of {family.name}"
        raise UsageError(cause, "for example family=ant-semicircle/borel,reward=dense log_as=ant-semicircle/borel")
    return other


def paid(other: TaskFamily, task: Task, log: Log) -> Log:
    """One task's log, in numpy, with what `other` pays for its rows."""
    rows: Any = transitions(log, np.arange(len(log.reward)))  # type: ignore[arg-type]
    reward: Any = other.reward(task.row()[None], rows.obs, rows.action, rows.next_obs, rows.outcome)
    return log._replace(reward=reward.astype(log.reward.dtype))
