"""Families by name. Listing them costs nothing: a family is built when it is asked for."""

from pipelines.core.configs.base import nearest
from pipelines.core.errors import UsageError
from pipelines.core.families import FAMILIES
from pipelines.core.types import TaskFamily


def find(name: str) -> TaskFamily:
    """The family `family/variant`. Raises UsageError with the nearest name."""
    if name not in FAMILIES:
        raise UsageError(f"unknown family {name!r}", nearest(name, list(FAMILIES), "families"))
    from pipelines.tasks import point

    return {"point-semicircle/time": point.TIME, "point-semicircle/spread": point.SPREAD}[name]
