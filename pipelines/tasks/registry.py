"""Families by name. Listing them costs nothing: a family is built when it is asked for.

A name is one of the listing's (`family/variant,option=value`), `path/to/file.py:NAME`, or what an installed package
offers in the entry-point group `omrl.families`. What a file or an entry point names is a TaskFamily or a function
without arguments that gives one. Families that are not ours are checked before they are given out.
"""

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Any

from pipelines.core import own
from pipelines.core.configs.base import nearest
from pipelines.core.errors import OmrlError, UsageError
from pipelines.core.families import FAMILIES, entry_of, parse
from pipelines.core.types import DeviceFamily, HostFamily, TaskFamily
from pipelines.tasks.checks import check

__all__ = ["check", "find"]


def find(name: str, evaluation: bool = False) -> TaskFamily:
    """The family of that name. Raises UsageError with the nearest name, option or value, InputMissing for a file that
    is not there, CheckFailed for a family whose parts disagree.

    `evaluation` applies what the protocol says of evaluation: BOReL's tests begin at a fixed place whatever the logs
    began at. The module that the listing names has `build(variant name, options) -> TaskFamily`, and may have
    `scripted(variant name) -> {name: Policy}`.
    """
    own.refuse_unknown(name)
    if entry_of(name) is not None:
        return _build(str(parse(name, evaluation)))
    if found := own.file_of(name):
        path, attribute = found
        return _from_file(name, path.resolve(), attribute, own.fingerprint(name))
    return _from_package(name)


@functools.cache
def _build(name: str) -> TaskFamily:
    named = parse(name)
    module = importlib.import_module(f"pipelines.tasks.{FAMILIES[named.family].module}")
    family: TaskFamily = module.build(named.family, named.options)
    scripted = module.scripted(named.family) if hasattr(module, "scripted") else family.scripted
    return dataclasses.replace(family, name=name, scripted=scripted)


@functools.cache
def _from_package(name: str) -> TaskFamily:
    point = own.entry_points()[name]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            found = point.load()
    except Exception as error:
        raise UsageError(f"{point.value}, which gives {name}, cannot be imported: {_said(error)}") from error
    return _checked(name, found, point.value)


@functools.cache
def _from_file(name: str, path: Path, attribute: str, sha256: str | None) -> TaskFamily:
    """`sha256` is here for the cache: a file that changed is read again."""
    assert sha256 is not None
    spec = importlib.util.spec_from_file_location(f"omrl_own_{sha256[:16]}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
            spec.loader.exec_module(module)
    except OmrlError:
        raise
    except Exception as error:
        raise UsageError(f"{path} cannot be read: {_said(error, path)}", "--debug shows where") from error
    if not hasattr(module, attribute):
        families = [name for name, value in vars(module).items() if isinstance(value, TaskFamily)]
        public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise UsageError(f"{path} has no {attribute!r}", nearest(attribute, families or public, "names"))
    return _checked(name, getattr(module, attribute), f"{path}:{attribute}")


def _said(error: BaseException, path: Path | None = None) -> str:
    """Type, message and the line of the user's file, on one line."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {' '.join(str(error).split())}"


def _checked(name: str, found: Any, where: str) -> TaskFamily:
    """A family, or what a function without arguments gives. Its name becomes the one that it was asked for by."""
    if callable(found) and not isinstance(found, TaskFamily):
        try:
            with contextlib.redirect_stdout(sys.stderr):
                found = found()
        except OmrlError:
            raise
        except Exception as error:
            raise UsageError(f"{where}() failed: {_said(error, Path(where.rpartition(':')[0]))}") from error
    if not isinstance(found, DeviceFamily | HostFamily):
        raise UsageError(
            f"{where} is a {type(found).__name__}, not a family",
            "make it a DeviceFamily or HostFamily of pipelines.core.types",
        )
    family = dataclasses.replace(found, name=name)
    check(family)
    return family
