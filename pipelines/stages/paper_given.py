"""What the figures of a paper are made of: what the report was given, what a figure came to. No jax."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pipelines.core.configs.report import ReportConfig
from pipelines.core.statistics import Interval, band, number
from pipelines.figures import Band, Dots
from pipelines.figures.panels import Level, Line
from pipelines.stages.report_figures import Picture, along, hue, over, over_seeds, shown
from pipelines.stages.results import Row, Section


class Found(NamedTuple):
    """What a figure came to: pictures of its own, names of files that show it, and what it lacks, one line each."""

    figure: str
    pictures: tuple[Picture, ...] = ()
    files: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()  # header first
    caption: str = ""  # of the table

    @property
    def lines(self) -> list[str]:
        """What is left out, as a person reads it."""
        there = self.pictures or self.files or self.table
        return [f"{self.figure} {'lacks' if there else 'is left out: it lacks'} {one}" for one in self.lacks]


@dataclass(frozen=True)
class Given:
    """Everything that the report was given."""

    config: ReportConfig
    sections: Sequence[Section]
    drawn: Sequence[Picture]  # what is on the page anyway
    policies: Sequence[Any] = ()  # meta-policies
    relabelled: Sequence[Any] = ()  # relabelled-logs
    reports: Sequence[Any] = ()  # all of them, those that are in no section, too
    logs: Sequence[Any] = ()  # replay-logs

    def hue(self, label: str) -> int:
        return hue(self.config, (), label)

    def of(self, split: str) -> list[Section]:
        return [section for section in self.sections if section.split == split]

    def wanted(self, label: str, split: str, how: str) -> str:
        """What to say of an evaluation that is not there."""
        return f"an evaluation labelled {label!r} on {split} tasks ({how})"


def rows_of(section: Section, labels: Sequence[str]) -> list[Row]:
    return [row for label in labels if (row := section.row(label))]


def of_all(sections: Sequence[Section]) -> str:
    """What bands and bars are, for a caption, where all rows are drawn; begins as a sentence does."""
    return of_rows([row for section in sections for row in section.rows])


def of_rows(rows: Sequence[Row]) -> str:
    """What bands and bars of these rows are, as a sentence begins."""
    return _sentence(over(rows))


def _sentence(said: str) -> str:
    return said[:1].upper() + said[1:]


class Drawn(NamedTuple):
    """What a figure shows of a method: over `n` seeds, where those of all that it shows there are `most`."""

    what: str
    n: int
    most: int


def drawn_of(section: Section, lines: Sequence[Row], ends: Sequence[Row] = ()) -> list[Drawn]:
    """Curves of `lines` and returns of `ends`, in one section."""
    most = max(row.n for row in (*lines, *ends))
    where = f"on {section.title}"
    curves = [Drawn(f"the curve of {row.label!r} {where}", num_curves(row), most) for row in lines]
    return curves + [Drawn(f"{row.label!r} {where}", row.n, most) for row in ends]


def of_drawn(drawn: Sequence[Drawn]) -> str:
    """What their bands and bars are, for a caption; begins as a sentence does."""
    return _sentence(over_seeds([one.n for one in drawn]))


def fewer(drawn: Sequence[Drawn]) -> tuple[str, ...]:
    """What a figure lacks whose curves and dots are not all over as many seeds."""
    return tuple(f"{one.most - one.n} of {one.most} seeds of {one.what}" for one in drawn if one.n < one.most)


def picture(name: str, title: str, caption: str, png: bytes) -> tuple[Picture]:
    return (Picture(f"{name}.png", title, caption, png),)


def dot_of(given: Given, row: Row, cell: Interval) -> Dots:
    return Dots(shown(row), given.hue(row.label), *(np.array(value) for value in cell[:3]))


def line_of(given: Given, row: Row, task: int | None = None) -> Line | None:
    """Return over training, of one task or a mean over all; None where the policy kept no snapshots, or none played."""
    steps, *found = along(row, ("curve_return",))
    if not len(steps):
        return None
    each = found[0].mean(-1) if task is None else found[0][..., task]
    return Line(shown(row), given.hue(row.label), steps, Band(*band(each)))


def num_curves(row: Row) -> int:
    """How many seeds `line_of` is over."""
    return sum(run.data["curve_step"].size > 0 for run in row.runs)


def level_of(given: Given, row: Row, task: int | None = None) -> Level:
    """The return at the end, of one task or a mean over all."""
    found = row.returns[-1 if task is None else task]
    return Level(shown(row), given.hue(row.label), *found[:3])


def cell_of(cell: Interval, digits: int = 1) -> str:
    """A table's: the bounds below the point, where there are any."""
    return f"{number(cell.point, digits)}\n{cell.bounds(digits)}".strip()


def body_of(family: str) -> str:
    """`ant-goal` of `ant-goal/mbml,engine=brax`."""
    return family.partition(",")[0].partition("/")[0]
