"""What a relabelling tells of itself at its end: one line for each task, and the pairs of which hardly a row passes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.core.types import Task

MOST_LINES = 10
MOST_PAIRS = 5
TOLERANCE = 1e-3  # of a family's reward beside the logged one, in deviations of the latter


def table(tasks: Sequence[Task], arrays: dict[str, Any]) -> list[str]:
    """Aligned lines, header first; of many tasks, those whose share of rows that pass is lowest. What is not known is
    left out."""
    other = ~np.eye(len(tasks), dtype=bool)
    rate = np.where(other, arrays["pass_rate"], np.nan)
    mean = np.nanmean(rate, 1)
    columns = {
        "passes": [f"{value:.0%}" for value in mean],
        "least": [f"{np.nanmin(row):.0%} of {tasks[int(np.nanargmin(row))].name}" for row in rate],
    }
    if "error_per_spread" in arrays:  # rewards were learned
        columns |= _column("own error", arrays["held_out_error"])
        columns |= _column("in spreads", arrays["error_per_spread"])
        columns |= _column("others' error", _mean_of_others(arrays["foreign_error"], other))
        columns |= _column("of those that pass", _mean_of_others(arrays["passed_error"], other))
    columns |= _column("s' error", arrays.get("held_out_next_error"))
    columns |= _column("of its changes", arrays.get("unexplained"))
    worst = np.argsort(mean, kind="stable")[:MOST_LINES]
    lines = [["under task", *columns]]
    lines += [[tasks[i].name, *(column[i] for column in columns.values())] for i in sorted(worst)]
    widths = [max(len(line[c]) for line in lines) for c in range(len(lines[0]))]
    drawn = [
        "  ".join([f"{line[0]:<{widths[0]}}", *(f"{c:>{w}}" for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    ]
    more = len(tasks) - MOST_LINES
    return drawn + ([f"and {more} more, of which more passes"] if more > 0 else [])


def _column(title: str, values: Any) -> dict[str, list[str]]:
    known = values is not None and np.isfinite(values).all()
    return {title: [f"{value:.3g}" for value in values]} if known else {}


def _mean_of_others(values: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[T, T] -> [T], over other tasks whose number is known."""
    counts = other & np.isfinite(values)
    total = np.where(counts, values, 0.0).sum(1)
    return np.where(counts.any(1), total / np.maximum(counts.sum(1), 1), np.nan)


def thin(tasks: Sequence[Task], arrays: dict[str, Any], config: Any) -> tuple[int, list[str]]:
    """(how many pairs have fewer rows than `least_rows`, or not one episode that passes; what to say of them)"""
    other = ~np.eye(len(tasks), dtype=bool)
    if config.unit == "row":
        few, what = arrays["pair_size"] < config.least_rows, f"fewer than {config.least_rows} rows"
    else:
        few, what = arrays["pass_rate"] == 0, "no episode that passes"
    found = [(int(i), int(j)) for i, j in zip(*np.nonzero(other & few), strict=True)]
    said = []
    for i, j in found[:MOST_PAIRS]:
        of = f"of task {tasks[j].name}"
        passes = (
            f"only {arrays['pair_size'][i, j]} rows {of} pass" if config.unit == "row" else f"no episode {of} passes"
        )
        said.append(f"{passes} under the reward of task {tasks[i].name}")
    if len(found) > MOST_PAIRS:
        said.append(f"and {len(found) - MOST_PAIRS} more pairs with {what}")
    return len(found), said


def flat(tasks: Sequence[Task], arrays: dict[str, Any]) -> list[str]:
    """What to say of tasks whose logs teach nothing about their rewards."""
    same = [task.name for task, one in zip(tasks, arrays["threshold"], strict=True) if not one]
    names = ", ".join(same[:MOST_PAIRS]) + (f" and {len(same) - MOST_PAIRS} more" if len(same) > MOST_PAIRS else "")
    return [f"all logged rewards are the same in task {names}: no row passes a threshold of 0"] if same else []


def unlike(arrays: dict[str, Any]) -> list[str]:
    """What to say of logs that were not paid what the family pays."""
    error, size = arrays["held_out_error"], np.maximum(arrays["reward_deviation"], TOLERANCE)
    wrong = bool((error > TOLERANCE * size).any())
    return (
        [f"logged rewards are not the family's: they differ by {error.max():.3g} (root mean square)"] if wrong else []
    )


def metrics(arrays: dict[str, Any], num_thin: int) -> dict[str, float]:
    """Means over tasks, or over pairs of different tasks; of what is known."""
    other = ~np.eye(len(arrays["pair_size"]), dtype=bool)
    found = {
        "pass_rate": float(arrays["pass_rate"][other].mean()),
        "rows": float(arrays["pair_size"].sum()),
        "thin_pairs": float(num_thin),
    }
    of_tasks = ("held_out_error", "error_per_spread", "held_out_next_error", "next_error_per_spread", "unexplained")
    values = {name: arrays[name] for name in of_tasks if name in arrays}
    values |= {name: arrays[name][other] for name in ("foreign_error", "within_two_spreads") if name in arrays}
    if "passed_error" in arrays:
        known = arrays["passed_error"][other & (arrays["pair_size"] > 0)]
        values |= {"passed_error": known} if known.size else {}
    return found | {name: float(np.mean(value)) for name, value in values.items() if np.isfinite(value).all()}
