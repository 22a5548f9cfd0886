"""Families by name. Listing them costs nothing: a family is built when it is asked for."""

import dataclasses
import functools
import importlib
from typing import cast

from pipelines.core.families import FAMILIES, parse
from pipelines.core.types import TaskFamily


def find(name: str, evaluation: bool = False) -> TaskFamily:
    """The family `family/variant,option=value,...`. Raises UsageError with the nearest name, option or value.

    `evaluation` applies what the protocol says of evaluation: BOReL's tests begin at a fixed place whatever the logs
    began at. The module that the listing names has `build(variant name, options) -> TaskFamily`.
    """
    return _build(str(parse(name, evaluation)))


@functools.cache
def _build(name: str) -> TaskFamily:
    named = parse(name)
    module = importlib.import_module(f"pipelines.tasks.{FAMILIES[named.family].module}")
    return cast(TaskFamily, dataclasses.replace(module.build(named.family, named.options), name=name))
