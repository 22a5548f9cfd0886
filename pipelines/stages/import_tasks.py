"""Which task of a family a source's task is: by name, by named params, or by the numbers that it was given."""

import itertools
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from pipelines.core.errors import CheckFailed, UsageError
from pipelines.core.names import SPLITS
from pipelines.core.types import Task, TaskFamily
from pipelines.formats import Said

ROUNDED = 6e-4  # folder names have three decimals


def tasks_of(said: Sequence[Said], family: TaskFamily | None) -> tuple[Task, ...]:
    """A task for each of `said`, in order. Raises CheckFailed where two are one, UsageError for one that `family` does
    not have and that does not say enough to be a new one of it."""
    tasks = _numbered(said) if family is None else tuple(_matched(said, family))
    for what, values in (("id", [str(task.id) for task in tasks]), ("name", [task.name for task in tasks])):
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            both = " and ".join(one.name for one, value in zip(said, values, strict=True) if value == twice[0])
            whose = f" of {family.name}" if family else ""
            raise CheckFailed(
                f"{both} have the same task {what}{whose}, {twice[0]}", "put their rows together, or leave one out"
            )
    return tasks


def _numbered(said: Sequence[Said]) -> tuple[Task, ...]:
    tasks = []
    for index, one in enumerate(said):
        params = one.params or {f"p{i}": value for i, value in enumerate(one.numbers)}
        tasks.append(Task(index if one.id is None else int(one.id), one.name, one.split, params))
    if len({tuple(task.params) for task in tasks}) > 1:
        raise CheckFailed("the tasks have different params", "each has the same names: a task is a row of numbers")
    return tuple(tasks)


def _matched(said: Sequence[Said], family: TaskFamily) -> list[Task]:
    known = list({task.id: task for split in reversed(SPLITS) for task in family.tasks(split)}.values())
    names = list(known[0].params)
    columns = _columns_of([one.numbers for one in said if not one.params], known, names)
    return [_match(one, family, known, names, columns) for one in said]


def _columns_of(numbers: Sequence[tuple[float, ...]], known: Sequence[Task], names: list[str]) -> tuple[str, ...]:
    """Which of the family's params, in order, unnamed numbers are: those under which most sources have a task."""
    counts = {len(one) for one in numbers}
    if len(counts) != 1 or not (count := counts.pop()) or count > len(names):
        return ()

    def hits(columns: tuple[str, ...]) -> int:
        return sum(_nearest(dict(zip(columns, one, strict=True)), known)[1] <= ROUNDED for one in numbers)

    return max(itertools.permutations(names, count), key=hits)


def _nearest(params: Mapping[str, float], known: Sequence[Task]) -> tuple[Task, float]:
    """The task whose params are nearest, and the largest difference of one of them."""
    away = [max(abs(task.params[name] - value) for name, value in params.items()) for task in known]
    index = int(np.argmin(away))
    return known[index], away[index]


def _match(one: Said, family: TaskFamily, known: Sequence[Task], names: list[str], columns: tuple[str, ...]) -> Task:
    params = one.params or dict(zip(columns, one.numbers, strict=bool(columns)))
    if not params:
        by_name = {task.name: task for task in known}
        if one.name in by_name:
            return by_name[one.name]
        hint = f"name it as `omrl families {family.name}` does, or write a tasks.yaml with its params (docs/logs.md)"
        raise UsageError(f"{one.name} does not say which task of {family.name} it is", hint)
    strangers = [name for name in params if name not in names]
    if strangers:
        raise UsageError(
            f"{one.name} has a param {strangers[0]!r}, {family.name} has none", f"params: {', '.join(names)}"
        )
    task, away = _nearest(params, known)
    if away <= ROUNDED:
        return task
    if len(params) == len(names):  # a task that the family's lists do not have
        row = {name: float(params[name]) for name in names}
        return Task(zlib.crc32(repr(list(row.values())).encode()) & 0x7FFFFFFF, one.name, one.split, row)
    said = ", ".join(f"{name} {value:g}" for name, value in params.items())
    hint = f"the nearest, {task.name}, differs by {away:.3g}; give all of {', '.join(names)} for a new task"
    raise UsageError(f"{one.name} ({said}) is no task of {family.name}", hint)
