"""Per-task work in parts: as many tasks at once as fit, tasks of like size together, parts shared among processes.

A task's stream of random numbers is its own, so that what it learns does not depend on its company: any grouping gives
the same bits on the same machine (`map`), or the same numbers to rounding (`vmap`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from pipelines.core.crew import Dismissed
from pipelines.core.work import Work

WASTE = 1.5  # rows held, over rows that there are, above which logs are no longer padded to the longest of all


def divide(sizes: Sequence[int], at_once: int | None, least: int = 1) -> list[list[int]]:
    """Task numbers in at least `least` groups of at most `at_once` and, but for `at_once`, as few as can be.

    `sizes [T]` are the rows of their logs, which are padded to the longest of the group: where that would hold more
    than WASTE times the rows that there are, tasks of like size go together. Groups are of nearly the same number of
    tasks, so that one compiled program mostly serves them all.
    """
    order = sorted(range(len(sizes)), key=lambda task: (-sizes[task], task))
    runs = [order]
    if len(sizes) * max(sizes) > WASTE * sum(sizes):
        runs = []
        for task in order:
            if not runs or sizes[runs[-1][0]] > WASTE * sizes[task]:
                runs.append([])
            runs[-1].append(task)
    most = min(len(sizes) if at_once is None else at_once, -(-len(sizes) // least))
    groups = [group for run in runs for group in _evenly(run, most)]
    return [sorted(group) for group in groups]


def _evenly(tasks: list[int], most: int) -> list[list[int]]:
    """Runs of at most `most`, none more than one longer than another."""
    count = -(-len(tasks) // most)
    return [list(part) for part in np.array_split(tasks, count)] if count > 1 else [tasks]


def in_parts(work: Work, groups: list[list[int]], one: Callable[[Work, list[int]], Any]) -> list[Any]:
    """`one(work, tasks)` for each group: each has checkpoints, and a stretch of the progress, of its own.

    Of several processes each does its share of the groups; then the leader takes up those of the others, which it finds
    finished in their checkpoints, and the others end here (Dismissed).
    """
    crew, several = work.crew, len(groups) > 1

    def do(number: int) -> Any:
        if not several:
            return one(work, groups[0])
        whose = f", of process {number % crew.count}" if crew.count > 1 else ""
        work.tell.note(f"part {number + 1} of {len(groups)}: {len(groups[number])} tasks{whose}")
        part = replace(work, checkpoint=work.checkpoint.part(number), part=(number, len(groups)))
        return one(part, groups[number])

    mine = range(crew.number, len(groups), crew.count)
    if not crew.leads:
        for number in mine:
            do(number)
        crew.meet()
        raise Dismissed
    found = {number: do(number) for number in mine}
    crew.meet()
    return [found[number] if number in found else do(number) for number in range(len(groups))]


def joined(groups: list[list[int]], found: list[Any], axis: int = 0) -> Any:
    """Trees of the groups, their leaves with tasks along `axis` -> one tree in the order of the tasks."""
    if len(groups) == 1:
        return found[0]
    order = np.argsort(np.concatenate(groups))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis).take(order, axis), *found)


def sorted_out(groups: list[list[int]], found: list[list[Any]]) -> list[Any]:
    """Lists of the groups, one thing for each task -> one list in the order of the tasks."""
    of_task = {
        task: one for group, each in zip(groups, found, strict=True) for task, one in zip(group, each, strict=True)
    }
    return [of_task[task] for task in sorted(of_task)]
