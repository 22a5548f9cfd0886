"""Results as a table: tidy CSV, JSON, markdown and plain text. No jax."""

import csv
import io
import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipelines.core.statistics import Interval, number
from pipelines.stages.results import Ending, Row, Section

WIDTH = 80  # columns of the plain text table
LEAST = 16  # columns for the first one, before others go below
MAX_COLUMNS = 4  # more tasks than this are summarised on the terminal
MOST_EPISODES = 6  # more than this are left to the page
# columns beside those of a trial's returns -> their heads
EXPLORING = {"episode_1_success": "goal in\nepisode 1", "bayes_fraction": "of Bayes-\noptimal"}


# columns beside those of the returns before and after adapting -> their heads
ADAPTING = {
    "adapt_spread_before": "spread of\ntasks before",
    "adapt_spread_after": "and\nafter",
    "adapt_beta": "beta",
    "adapt_ess": "ESS",
    "adapt_lambda": "lambda",
}


class Record(NamedTuple):
    """One line of the tidy table. `task` is `all` for the whole split; for `value_gap`, low and high are the least and
    greatest seed; everywhere else they are the bootstrap interval."""

    family: str
    split: str
    label: str
    task: str
    stat: str
    point: float
    low: float
    high: float
    n: int
    seeds: str


def records(table: Sequence[Section]) -> Iterator[Record]:
    """The tidy table: one record per method, task and statistic."""
    for section in table:
        for row in section.rows:
            stats = {"score": [*row.score, row.overall], "return": row.returns, "end_distance": row.end_distance}
            for stat, cells in stats.items():
                for task, cell in zip([*section.tasks, "all"], cells, strict=False):
                    yield record(section, row, task, stat, cell)
            for stat, cell in (row.each | row.exploring | row.adapting).items():
                yield record(section, row, "all", stat, cell)
            yield record(section, row, "all", "value_gap", row.gap)
        for name, (scores, returns) in section.references.items():
            for stat, values in (("score", scores), ("return", returns)):
                for task, value in zip([*section.tasks, "all"], [*values, values.mean()], strict=True):
                    yield Record(*_place(section), name, task, stat, float(value), math.nan, math.nan, 0, "")


def _place(section: Section) -> tuple[str, str]:
    return section.family, section.split


def record(section: Section, row: Row, task: str, stat: str, cell: Interval) -> Record:
    seeds = " ".join(map(str, row.seeds))
    return Record(*_place(section), row.label, task, stat, cell.point, cell.low, cell.high, cell.n, seeds)


def as_csv(table: Sequence[Section], more: Iterable[Record] = ()) -> str:
    """The tidy table with a header, and `more` lines of it; numbers that do not exist are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(Record._fields)
    for record in [*records(table), *more]:
        writer.writerow([("" if isinstance(v, float) and not math.isfinite(v) else v) for v in record])
    return out.getvalue()


def as_json(table: Sequence[Section]) -> list[dict[str, Any]]:
    """Per section: tasks, references, and per method its statistics, seeds, protocol and the ids of its evaluations.
    Strict JSON: what does not exist is null."""
    return [
        {
            "family": section.family,
            "split": section.split,
            "tasks": section.tasks,
            "methods": [_method(section, row) for row in section.rows],
            "references": {
                name: {"score": [_finite(s) for s in scores], "return": [_finite(r) for r in returns]}
                for name, (scores, returns) in section.references.items()
            },
        }
        for section in table
    ]


def _method(section: Section, row: Row) -> dict[str, Any]:
    def cell(value: Interval) -> dict[str, Any]:
        return {name: _finite(v) for name, v in value._asdict().items()}

    per_task = {"score": row.score, "return": row.returns[:-1], "end_distance": row.end_distance}
    whole = {"score": row.overall, "return": row.returns[-1], "value_gap": row.gap}
    return {
        "label": row.label,
        "seeds": row.seeds,
        "reports": [run.card.id for run in row.runs],
        **row.runs[0].protocol,
        "tasks": {
            stat: {task: cell(c) for task, c in zip(section.tasks, cells, strict=True)}
            for stat, cells in per_task.items()
            if cells
        },
        "all": {stat: cell(value) for stat, value in (whole | row.each | row.exploring | row.adapting).items()},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def grid(section: Section) -> list[list[str]]:
    """The table of one section, header first: method, tasks, all tasks, value gap, n. A cell's bounds stand on a line
    of their own. Many tasks are summarised by the lowest; `by_task` has them all."""
    few = len(section.tasks) <= MAX_COLUMNS
    rows = [["method", *(section.tasks if few else ["lowest task", ""]), "all tasks", "value gap", "n"]]
    for row in section.rows:
        cells = _cells(section, row)
        texts = [_stacked(cell, 2 if section.scored else 1) for cell in cells]
        if not few:
            lowest = int(np.argmin([cell.point for cell in cells[:-1]]))
            texts = [texts[lowest], f"at {section.tasks[lowest]}", texts[-1]]
        rows.append([row.label, *texts, _gap(row.gap), str(row.n)])
    for name, (scores, returns) in section.references.items():
        values = scores if section.scored else returns
        digits = 2 if section.scored else 1
        texts = [number(v, digits) for v in values] if few else [number(values.min(), digits), ""]
        rows.append([name, *texts, number(values.mean(), digits), "", ""])
    return rows


def by_episode(section: Section, bounded: bool = True) -> list[list[str]]:
    """Raw returns of a trial's episodes, header first: one line per method that was evaluated in trials, none if no one
    was. The mean is of those that count, the sum of all; beside them, where they are known, how often the first episode
    reaches the goal and the sum's fraction of the Bayes-optimal one. `bounded`: with intervals."""
    rows = [row for row in section.rows if row.each]
    if not rows:
        return []
    most = max(row.trial_episodes for row in rows)
    more = {name: head for name, head in EXPLORING.items() if any(name in row.exploring for row in rows)}
    lines = [["method", *(f"episode\n{n + 1}" for n in range(most)), "mean of\nwhat counts", "sum", *more.values()]]
    for row in rows:
        cells = [*row.each.values(), row.returns[-1]]
        *each, total, mean = [_stacked(cell, 1) if bounded else number(cell.point, 1) for cell in cells]
        known = [_stacked(row.exploring[name], 2) if name in row.exploring else "" for name in more]
        lines.append([row.label, *each, *[""] * (most - len(each)), mean, total, *known])
    return lines


def adapted(section: Section, bounded: bool = True) -> list[list[str]]:
    """Raw returns before and after adapting, what a task gained (paired), how far tasks are spread, and what the rows
    of the meta-training log were worth, header first: one line per method that adapted, none if no one did."""
    rows = [row for row in section.rows if row.adapting]
    if not rows:
        return []
    lines = [["method", "before", "gain", "after", *ADAPTING.values()]]
    for row in rows:
        found = row.adapting
        cells = [found["adapt_before"], found["adapt_gain"], row.returns[-1]]
        texts = [(cell, 1) for cell in cells] + [(found[name], 2) for name in ADAPTING]
        shown = [_stacked(cell, digits) if bounded else number(cell.point, digits) for cell, digits in texts]
        lines.append([row.label, *shown])
    return lines


def by_task(section: Section) -> list[list[str]]:
    """One line per task and one column per method, header first: for splits of many tasks."""
    columns = [["task", *section.tasks, "all tasks"]]
    columns += [[row.label, *(_stacked(cell, 2) for cell in _cells(section, row))] for row in section.rows]
    for name, (scores, returns) in section.references.items():
        values = scores if section.scored else returns
        columns.append([name, *(number(v) for v in values), number(values.mean())])
    return [list(row) for row in zip(*columns, strict=True)]


def raw(section: Section) -> list[list[str]]:
    """Raw returns and, where tasks are places, the distance from the own goal at the end, header first: one line per
    method, or one per task where there are many."""
    lines = [["task", *section.tasks, "all tasks"]]
    for row in section.rows:
        lines.append([f"{row.label}: return", *(_stacked(cell, 1) for cell in row.returns)])
        if row.end_distance:
            lines.append([f"{row.label}: distance", *(_stacked(cell, 1) for cell in row.end_distance), ""])
    for name, (_, returns) in section.references.items():
        lines.append([f"{name}: return", *(number(v, 1) for v in returns), number(returns.mean(), 1)])
    return lines if len(section.tasks) <= MAX_COLUMNS else [list(row) for row in zip(*lines, strict=True)]


def _cells(section: Section, row: Row) -> list[Interval]:
    """Per task and over all: scores, or returns where there are none. [T + 1]"""
    return [*row.score, row.overall] if section.scored else row.returns


def _stacked(cell: Interval, digits: int) -> str:
    return f"{number(cell.point, digits)}\n{cell.bounds(digits)}".strip()


def _gap(gap: Interval) -> str:
    bounds = f"({number(gap.low)} to {number(gap.high)})" if gap.known else ""
    return f"{number(gap.point)}\n{bounds}".strip()


def caption(section: Section) -> str:
    """What the numbers of a section are, in one or two sentences."""
    p = section.protocol
    several = any(row.n > 1 for row in section.rows)
    what = "score (0 random, 1 oracle)" if section.scored else "return (this family has no oracle, hence no scores)"
    bounds = " with its 95% bootstrap interval" if several else "; one seed gives no interval"
    span = " (least to greatest seed)" if several else ""
    return (
        f"{p['protocol']}, horizon {p['horizon']}; {what}: IQM over n training seeds of the mean over {p['episodes']} "
        f"{section.runs_are}{bounds}. Value gap: (value - discounted return) / size of the latter{span}."
        f"{_whose(section)}"
    )


def _whose(section: Section) -> str:
    """Which method was evaluated how, where they differ in that."""
    by_way: dict[str, list[str]] = {}
    for row in section.rows:
        by_way.setdefault(row.runs[0].protocol["protocol"], []).append(row.label)
    parts = [f"{', '.join(rows)}: {way}" for way, rows in by_way.items()]
    return f" {'; '.join(parts)}." if len(parts) > 1 else ""


def as_text(table: Sequence[Section]) -> str:
    """Plain text of at most 80 columns, for a terminal."""
    blocks = []
    for section in table:
        head = [section.title, *textwrap.wrap(caption(section), WIDTH), ""]
        blocks.append("\n".join([*head, *drawn(grid(section))]))
        if each := by_episode(section, bounded=False):
            few = max(row.trial_episodes for row in section.rows) <= MOST_EPISODES
            table_of = drawn(each) if few else ["too many for this page; table.md and table.csv have them"]
            blocks.append("\n".join(["Returns by episode of a trial", *table_of]))
        if found := adapted(section, bounded=False):
            blocks.append("\n".join(["Adaptation", *drawn(found)]))
    return "\n\n".join(blocks) + "\n"


def drawn(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns two spaces apart; the first column is wrapped to what the others leave of the width, and what has
    no room beside it goes on below."""
    others = [max(len(line) for row in rows for line in row[c].split("\n")) for c in range(1, len(rows[0]))]
    longest = max(len(row[0]) for row in rows)
    least = min(longest, LEAST)
    fitting = next((c for c in range(len(others), 0, -1) if least + sum(others[:c]) + 2 * c <= WIDTH), 1)
    if fitting < len(others):
        fitting = -(-len(others) // -(-len(others) // fitting))  # so that as many stand below as above
        above = [row[: fitting + 1] for row in rows]
        below = [[row[0], *row[fitting + 1 :]] for row in rows]
        return [*drawn(above), "", *drawn(below)]
    room = min(longest, max(least, WIDTH - sum(others) - 2 * len(others)))
    lines = []
    for r, row in enumerate(rows):
        cells = [textwrap.wrap(row[0], room) or [""], *(cell.split("\n") for cell in row[1:])]
        for i in range(max(map(len, cells))):
            parts = [cell[i] if i < len(cell) else "" for cell in cells]
            rest = (f"{part:>{width}}" for part, width in zip(parts[1:], others, strict=True))
            lines.append("  ".join([f"{parts[0]:<{room}}", *rest]).rstrip())
        if r == 0:
            lines.append("-" * (room + sum(others) + 2 * len(others)))
    return lines


def as_markdown(table: Sequence[Section]) -> str:
    """Per section a caption, the table, a second one where there are many tasks, and the ids behind each method."""
    blocks = []
    for section in table:
        grids = [grid(section)] + ([by_task(section)] if len(section.tasks) > MAX_COLUMNS else [])
        grids += [each] if (each := by_episode(section)) else []
        grids += [found] if (found := adapted(section)) else []
        blocks += [f"### {section.title}", caption(section), *map(markdown, grids)]
        ids = [f"- {row.label}: {', '.join(f'{r.card.seed} `{r.card.id}`' for r in row.runs)}" for row in section.rows]
        blocks.append("\n".join(["Evaluations, by training seed:", "", *ids]))
    return "\n\n".join(blocks) + "\n"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table, header first."""
    lines = [[cell.replace("\n", " ").replace("|", "\\|") for cell in row] for row in rows]
    rule = ["---", *["---:"] * (len(rows[0]) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [lines[0], rule, *lines[1:]])


def in_words(endings: Sequence[Ending]) -> str:
    """Where an agent ends, over seeds: `nearest to the goal 90° in seeds 0, 1 (0.4 to 1.2 away, 100% of episodes)`."""
    by_goal: dict[str, list[Ending]] = {}
    for ending in endings:
        by_goal.setdefault(ending.goal, []).append(ending)
    parts = []
    for goal, group in sorted(by_goal.items(), key=lambda item: -len(item[1])):
        away, share = sorted(ending.distance for ending in group), min(ending.share for ending in group)
        span = number(away[0]) if len(away) == 1 else f"{number(away[0])} to {number(away[-1])}"
        seeds = f"seed{'s' * (len(group) > 1)} {', '.join(str(ending.seed) for ending in group)}"
        least = "at least " if len(group) > 1 and share < 1 else ""
        parts.append(f"nearest to the goal {goal} in {seeds} ({span} away, {least}{share:.0%} of episodes)")
    return "; ".join(parts)


def wrap(text: str) -> str:
    """`text` broken to the width of the plain text table; blank lines stay."""
    return "\n".join("\n".join(textwrap.wrap(line, WIDTH)) for line in text.split("\n"))
