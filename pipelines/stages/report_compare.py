"""All methods of a section in one table: each by its own protocol, and beside it the same episodes of a trial for all.

Both are read of one evaluation: one in trials holds the return of every episode, whichever its protocol counts. In
episode 1 nothing was seen (zero-shot), before episode n there were n - 1. A method that adapts (MQL) adapts once in
each task, to an episode of its own, and plays all later ones alike; its episodes 1 are those of the meta-policy.
Numbers are scores, or returns where a family has no oracle. No jax. T tasks.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipelines.core.configs.report import ReportConfig
from pipelines.core.statistics import Interval, interval, number
from pipelines.figures import Dots
from pipelines.figures.beside import beside
from pipelines.figures.panels import Rungs
from pipelines.stages.report_figures import Picture, hue, over, prefix_of, shown
from pipelines.stages.results import Array, Row, Run, Section
from pipelines.stages.tables import Record, drawn, markdown, record, wrap

HEADING = "Every method, by its own protocol and by the same episodes"
UNKNOWN = Interval(math.nan, math.nan, math.nan, 0)


class Line(NamedTuple):
    """One method: by its own protocol, and in each of the common episodes."""

    row: Row
    own: Interval
    common: dict[int, Interval]


class Compared(NamedTuple):
    """One section, its methods in order."""

    section: Section
    lines: tuple[Line, ...]

    @property
    def digits(self) -> int:
        return 2 if self.section.scored else 1

    @property
    def what(self) -> str:
        return "score (0 random, 1 oracle)" if self.section.scored else "return"


def episode(run: Run, n: int) -> Array | None:
    """Mean return per task in an episode of a trial, the first being 1 [T]; None where it was not played, or rows of a
    log were shown before it."""
    if run.card.extra.get("context"):
        return None
    if (each := run.data.get("episode_returns")) is not None:
        return np.asarray(each, float)[..., n - 1].mean(-1) if n <= np.shape(each)[-1] else None
    if "adapt_before" in run.data:
        return np.asarray(run.data["adapt_before"], float).mean(-1) if n == 1 else run.returns
    return run.returns if n == 1 else None


def cell(section: Section, row: Row, n: int) -> Interval:
    """Of an episode, over all tasks, as the section's own numbers are; NaN where a seed did not play it."""
    played = [(run, one) for run in row.runs if (one := episode(run, n)) is not None]
    if len(played) < row.n:
        return UNKNOWN
    if section.scored:
        return interval(np.stack([run.score(one) for run, one in played]))
    return interval(np.array([one.mean() for _, one in played]))


def gather(table: Sequence[Section], common: Sequence[int]) -> list[Compared]:
    """Every section of several methods; [] where no episodes are wanted."""
    found = []
    for section in table if common else ():
        lines = (
            Line(row, row.overall if section.scored else row.returns[-1], {n: cell(section, row, n) for n in common})
            for row in section.rows
        )
        found += [Compared(section, tuple(lines))] if len(section.rows) > 1 else []
    return found


# ---- in words --------------------------------------------------------------------------------------------------------


def grid(one: Compared) -> list[list[str]]:
    """Header first: method, what its own protocol counts, the number of it, the common episodes, n."""
    digits = one.digits
    heads = [f"episode {n}" for n in one.lines[0].common]
    rows = [["method", "its own protocol", "own", *heads, "n"]]
    for line in one.lines:
        cells = (_stacked(value, digits) for value in (line.own, *line.common.values()))
        rows.append([line.row.label, line.row.runs[0].protocol["protocol"], *cells, str(line.row.n)])
    for name, (scores, returns) in one.section.references.items():
        value = number(float((scores if one.section.scored else returns).mean()), digits)
        rows.append([name, "", *[value] * (1 + len(heads)), ""])
    return rows


def _stacked(value: Interval, digits: int) -> str:
    return f"{number(value.point, digits)}\n{value.bounds(digits)}".strip()


def caption(one: Compared) -> str:
    """What the numbers are."""
    text = (
        f"{one.section.title}: {one.what}, mean over tasks. Own: what each method's protocol counts. Beside it the "
        "same episodes of a trial for all: before episode 1 nothing was seen (zero-shot), before episode n there were "
        "n - 1."
    )
    if adapting := [line.row.label for line in one.lines if line.row.adapting]:
        text += f" {', '.join(adapting)}: adapts to an episode like its first, and plays all later ones alike."
    bars = over([line.row for line in one.lines])
    return f"{text} {bars[:1].upper()}{bars[1:]}."


def pictures(config: ReportConfig, one: Compared) -> Iterator[Picture]:
    """The table drawn: a panel for each protocol."""
    section = one.section
    looks = [(shown(line.row), hue(config, section.rows, line.row.label)) for line in one.lines]

    def panel(title: str, cells: Sequence[Interval]) -> Rungs:
        dots = [Dots(*look, *(np.array(v) for v in found[:3])) for look, found in zip(looks, cells, strict=True)]
        return Rungs(title, dots, one.what)

    panels = [panel("own protocol", [line.own for line in one.lines])]
    panels += [panel(f"episode {n}", [line.common[n] for line in one.lines]) for n in one.lines[0].common]
    yield Picture(f"{prefix_of(section)}-compared.png", HEADING, caption(one), beside(panels))


def as_text(found: Sequence[Compared]) -> str:
    """Plain text of at most 80 columns."""
    return "".join("\n" + "\n".join([HEADING, wrap(caption(one)), "", *drawn(grid(one))]) + "\n" for one in found)


def as_markdown(found: Sequence[Compared]) -> str:
    return "".join(f"\n### {HEADING}\n\n{caption(one)}\n\n{markdown(grid(one))}\n" for one in found)


def as_json(found: Sequence[Compared]) -> list[dict[str, Any]]:
    """Strict JSON."""

    def of(value: Interval) -> dict[str, Any]:
        return {name: v if math.isfinite(v) else None for name, v in value._asdict().items()}

    def method(line: Line) -> dict[str, Any]:
        common = {f"episode {n}": of(value) for n, value in line.common.items()}
        own = {"protocol": line.row.runs[0].protocol["protocol"], "own": of(line.own)}
        return {"label": line.row.label, "seeds": line.row.seeds, **own, **common}

    return [
        {"family": one.section.family, "split": one.section.split, "methods": [method(line) for line in one.lines]}
        for one in found
    ]


def records(found: Sequence[Compared]) -> Iterator[Record]:
    """Lines of the tidy table; the own protocol's are there already."""
    for one in found:
        stat = "score" if one.section.scored else "return"
        for line in one.lines:
            for n, value in line.common.items():
                yield record(one.section, line.row, "all", f"{stat}_in_episode {n}", value)
