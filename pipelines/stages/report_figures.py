"""The figures of one section of a report, from evaluations to numbers that are ready to draw.

Answers Figure 2 of tiMe (arXiv:1909.11373): return and value estimate over training, where the pooled agent ends, where
the method ends for each goal; adds scores with intervals, and a sweep if the config names one. Figures of a paper that
are about several sections are in `report_papers`.
"""

import base64
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np

from pipelines import figures
from pipelines.core.configs.report import PARTS, ReportConfig
from pipelines.core.names import slug
from pipelines.core.statistics import band
from pipelines.stages import tables
from pipelines.stages.results import Array, Row, Section

CURVES = ("curve_return", "curve_discounted", "curve_value")


class Picture(NamedTuple):
    """A figure: `name` is its file, `caption` says what there is to see, `png` its bytes (a film's are a GIF's), `wide`
    gives it a row of its own."""

    name: str
    title: str
    caption: str
    png: bytes
    wide: bool = True

    @property
    def data(self) -> str:
        """The picture as a data URI."""
        kind = "gif" if self.png.startswith(b"GIF8") else "png"
        return f"data:image/{kind};base64,{base64.b64encode(self.png).decode()}"


def draw(config: ReportConfig, section: Section) -> Iterator[Picture]:
    """The figures of one section, as far as its evaluations hold what they need."""
    prefix = prefix_of(section)
    reference, method = section.row(config.reference), section.row(config.method)
    pair = [row for row in (method, reference) if row]
    yield from _learning(prefix, config, section, pair)
    yield from _paths(prefix, section, reference, by_goal=False)
    yield from _paths(prefix, section, method, by_goal=True)
    if section.scored:
        yield from _scores(prefix, config, section)
        yield from _sweep(prefix, config, section)


def prefix_of(section: Section) -> str:
    """What the names of its figures begin with."""
    return slug(f"{section.family} {section.split}".lower())


def hue(config: ReportConfig, rows: Sequence[Row], label: str) -> int:
    """The method is always the first colour and the reference the second, whatever else there is; then the parts of the
    paper's figures, which have the same colour in every one."""
    parts = [config.label_of(part) for part in PARTS[config.paper]] if config.paper else []
    every = dict.fromkeys([config.method, config.reference, *parts, *(row.label for row in rows)])
    return list(every).index(label)


def shown(row: Row) -> str:
    """What figures call a method: its label, and whether its checkpoint was chosen on the test tasks."""
    rule = row.runs[0].card.extra.get("checkpoint", {}).get("rule")
    return f"{row.label} (best on test)" if rule == "best-on-test" else row.label


def along(row: Row, names: Sequence[str] = CURVES) -> list[Array]:
    """Steps [N] that the curves of all runs with one have in common, and those curves [S, N, T], by name."""
    runs = [run.data for run in row.runs if run.data["curve_step"].size]
    if not runs:
        return [np.zeros(0)]
    steps = reduce(np.intersect1d, [data["curve_step"] for data in runs])
    return [steps, *(np.stack([data[n][np.isin(data["curve_step"], steps)] for data in runs]) for n in names)]


def _learning(prefix: str, config: ReportConfig, section: Section, rows: Sequence[Row]) -> Iterator[Picture]:
    methods = []
    for row in rows:
        steps, *curves = along(row)
        if len(steps):
            bands = (figures.Band(*band(curve.mean(-1))) for curve in curves)
            methods.append(figures.Learning(shown(row), hue(config, section.rows, row.label), steps, *bands))
    if methods:
        levels = {name: float(returns.mean()) for name, (_, returns) in section.references.items()}
        known = any(np.isfinite(method.discounted.point).any() for method in methods)
        text = (
            "Above, the return of one episode; below, what the critic promises for the first step (dashed) and the "
            "discounted return that the same policy gets (solid): the distance between the two is the value gap. "
            if known
            else "The return of one episode. "
        )
        text += f"Means over tasks; {over(rows)}."
        yield Picture(f"{prefix}-learning.png", "Over training", text, figures.learning(methods, levels))


def over(rows: Sequence[Row]) -> str:
    """What curves and dots of these rows are, and over how many seeds, the fewest and the most."""
    return over_seeds([row.n for row in rows])


def over_seeds(counts: Sequence[int]) -> str:
    """What curves and dots of so many seeds each are, and n."""
    least, most = min(counts), max(counts)
    if most == 1:
        return "one training seed, no interval"
    n = f"n = {most}" if least == most else f"n = {least} to {most}"
    return f"IQM and 95% bootstrap interval over {n} training seeds"


def _paths(prefix: str, section: Section, row: Row | None, by_goal: bool) -> Iterator[Picture]:
    if row is None or (places := row.runs[0].goals) is None:
        return
    goals = [figures.Goal(name, *map(float, place)) for name, place in zip(section.tasks, places, strict=True)]
    walks = np.concatenate([run.paths for run in row.runs], axis=1)
    image = figures.paths(walks, goals, walks[0, 0, 0], by_goal)
    seeds = f"{walks.shape[1]} episodes per goal ({row.n} training seed{'s' * (row.n > 1)})"
    if by_goal:
        text = f"Crosses are goals; paths and ends have the colour of the goal that their episode was about. {seeds}."
        yield Picture(f"{prefix}-method-ends.png", f"Where {row.label} ends, for each goal", text, image, wide=False)
    else:
        text = f"Episodes of all tasks; the agent cannot tell them apart. Ends in red. {seeds}."
        yield Picture(f"{prefix}-reference-ends.png", f"Where {row.label} ends", text, image, wide=False)


def _scores(prefix: str, config: ReportConfig, section: Section) -> Iterator[Picture]:
    many = len(section.tasks) > tables.MAX_COLUMNS
    dots = []
    for row in section.rows:
        point, low, high, _ = np.array([*row.score, row.overall][: len(section.tasks) if many else None]).T
        dots.append(figures.Dots(shown(row), hue(config, section.rows, row.label), point, low, high))
    ceiling = section.references.get("ceiling", (np.full(len(section.tasks), np.nan), None))[0]
    text = f"Dots: IQM over training seeds; bars: 95% bootstrap interval, where n > 1. {_counts(section)}"
    if many:
        image = figures.profile(dots, section.tasks, ceiling)
    else:
        image = figures.scores(dots, [*section.tasks, "all tasks"], np.append(ceiling, ceiling.mean()))
    yield Picture(f"{prefix}-scores.png", "Scores", text, image)


def _counts(section: Section) -> str:
    counts = sorted({row.n for row in section.rows})
    return f"n = {counts[0]}." if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}, as in the table."


def _sweep(prefix: str, config: ReportConfig, section: Section) -> Iterator[Picture]:
    rows = {config.sweep[row.label]: row for row in section.rows if row.label in config.sweep}
    if len(rows) < 2:
        return
    x = np.array(sorted(rows))
    point, low, high, _ = np.array([rows[value].overall for value in x]).T
    reference = section.row(config.reference)
    levels = {name: float(score.mean()) for name, (score, _) in section.references.items()}
    if reference and reference.label not in config.sweep:
        levels[reference.label] = reference.overall.point
    image = figures.sweep(x, [figures.Dots(config.method, 0, point, low, high)], config.sweep_axis, levels)
    text = f"All tasks; {over(list(rows.values()))}."
    yield Picture(f"{prefix}-sweep.png", f"Score against {config.sweep_axis}", text, image)
