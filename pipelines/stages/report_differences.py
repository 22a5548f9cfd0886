"""One method held against each other one, seed by seed: the IQM of the differences with its bootstrap interval. No jax.

Methods of one seed learned from the same logs, so that what the logs are worth is in both and cancels. Differences are
of scores, or of returns where a family has no oracle, each seed's the mean over its tasks. S seeds, T tasks.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipelines.core.statistics import Interval, interval
from pipelines.stages.results import Row, Section
from pipelines.stages.tables import Record, drawn, markdown, record, wrap

LEAST_SEEDS = 2


class Difference(NamedTuple):
    """`method` minus `other` over the seeds that both have."""

    section: Section
    method: Row
    other: Row
    seeds: tuple[int, ...]
    value: Interval

    @property
    def verdict(self) -> str:
        if not self.value.known or self.value.low <= 0 <= self.value.high:
            return "open"
        return "above" if self.value.low > 0 else "below"


def gather(table: Sequence[Section], method: str) -> list[Difference]:
    """Against every method of the same section that shares `LEAST_SEEDS` seeds with it; [] where `method` is not."""
    found = []
    for section in table:
        if (mine := section.row(method)) is None:
            continue
        for other in section.rows:
            seeds = [seed for seed in mine.seeds if seed in other.seeds]
            if other is not mine and len(seeds) >= LEAST_SEEDS:
                gap = _values(section, mine, seeds) - _values(section, other, seeds)
                found.append(Difference(section, mine, other, tuple(seeds), interval(gap)))
    return found


def _values(section: Section, row: Row, seeds: Sequence[int]) -> Any:
    """[S, T], in order of `seeds`."""
    runs = {int(run.card.seed): run for run in row.runs}
    return np.stack([runs[seed].score(runs[seed].returns) if section.scored else runs[seed].returns for seed in seeds])


def _grid(found: Sequence[Difference]) -> list[list[str]]:
    rows = [["minus", "difference", "it is", "n"]]
    for one in found:
        digits = 2 if one.section.scored else 1
        rows.append([one.other.label, one.value.brief(digits), one.verdict, str(one.value.n)])
    return rows


def blocks(found: Sequence[Difference]) -> Iterator[tuple[str, str, list[list[str]]]]:
    """(heading, caption, rows) of each section."""
    for title in dict.fromkeys(one.section.title for one in found):
        of = [one for one in found if one.section.title == title]
        what = "scores" if of[0].section.scored else "returns"
        caption = f"{title}: differences of {what}, paired by training seed (IQM, 95% bootstrap)."
        yield f"{of[0].method.label} against the others, seed by seed", caption, _grid(of)


def as_text(found: Sequence[Difference]) -> str:
    """Plain text of at most 80 columns."""
    return "".join("\n" + "\n".join([head, wrap(what), *drawn(rows)]) + "\n" for head, what, rows in blocks(found))


def as_markdown(found: Sequence[Difference]) -> str:
    return "".join(f"\n### {head}\n\n{what}\n\n{markdown(rows)}\n" for head, what, rows in blocks(found))


def as_json(found: Sequence[Difference]) -> list[dict[str, Any]]:
    """Strict JSON."""
    return [
        {
            "family": one.section.family,
            "split": one.section.split,
            "method": one.method.label,
            "other": one.other.label,
            "seeds": list(one.seeds),
            **{name: value if math.isfinite(value) else None for name, value in one.value._asdict().items()},
        }
        for one in found
    ]


def records(found: Sequence[Difference]) -> Iterator[Record]:
    """Lines of the tidy table: statistic `minus LABEL` of the method."""
    for one in found:
        stat = f"{'score' if one.section.scored else 'return'}_minus {one.other.label}"
        yield record(one.section, one.method, "all", stat, one.value)
