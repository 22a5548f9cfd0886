"""export: a replay-log in a layout that others read. Makes no artifact."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines import formats
from pipelines.core.trees import task_leaf

ABOUT = ("family", "family_code", "space", "horizon", "discount", "algorithm")


def export(log: Any, target: Path, format: str, force: bool) -> Iterator[str]:
    """Writes the log to the folder `target`, whole or not at all; gives the name of each task when it is written.

    Raises UsageError for a target that is there, StageFailed for a disk that refuses.
    """
    formats.check_target(target, force)
    arrays = log.arrays()
    about = {name: log.card.extra[name] for name in ABOUT if name in log.card.extra}
    return formats.write(formats.Exported(log.card.tasks, about, lambda i: arrays[task_leaf(i)]), target, format, force)
