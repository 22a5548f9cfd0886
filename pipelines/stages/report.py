"""`omrl report`: from evaluations of many methods and seeds to tables, figures and one page that needs nothing else.

Answers Figure 2 of tiMe (arXiv:1909.11373): return and value estimate over training, where the pooled agent ends, where
the method ends for each goal; adds scores with intervals, a sweep if the config names one, and Proposition 1.
T tasks, P episodes, H steps, N points of a curve.
"""

import base64
import json
from collections.abc import Iterator, Sequence
from functools import reduce
from importlib import resources
from typing import Any, NamedTuple

import jinja2
import numpy as np

from pipelines import figures
from pipelines.algos import tabular
from pipelines.core.configs.base import flatten
from pipelines.core.configs.report import ReportConfig
from pipelines.core.errors import UsageError
from pipelines.core.names import slug
from pipelines.core.statistics import band, number
from pipelines.core.work import Product, Work
from pipelines.stages import report_probes, tables
from pipelines.stages.results import PROTOCOL, Array, Row, Section, sections

TARGET = 1e-2  # how near Q-learning must come to value iteration for Proposition 1 to count as shown


class Picture(NamedTuple):
    """A figure: `name` is its file, `caption` says what there is to see, `wide` gives it a row of its own."""

    name: str
    title: str
    caption: str
    png: bytes
    wide: bool = True

    @property
    def data(self) -> str:
        """The picture as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


def run(work: Work) -> Product:
    """Reads `inputs["reports"]` (any mix of methods, splits, families and seeds) and writes the page and its parts."""
    config = work.config
    assert isinstance(config, ReportConfig)
    table, probed = sections(work.inputs["reports"]), report_probes.gather(work.inputs["reports"])
    _check(config, table, work)
    pictures = {section.title: list(draw(config, section)) for section in table}
    proof = tabular.prove(work.seed) if config.proposition else None
    proved = [_proposition(proof)] if proof else []
    latents = [*_latents(probed)]
    line = state(proof) if proof else ""
    tail = f"\n{line}\n" if line else ""
    data = {"title": config.title, "sections": tables.as_json(table), "proposition": _proof_json(proof)}
    data |= {"probes": report_probes.as_json(probed)} if probed else {}
    texts = {
        "table.md": tables.as_markdown(table) + report_probes.as_markdown(probed) + tail,
        "table.csv": tables.as_csv(table, report_probes.records(probed)),
        "table.json": json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "table.txt": tables.as_text(table) + report_probes.as_text(probed) + tables.wrap(tail),
        "page.html": page(config, table, pictures, proved, line, probed, latents),
    }
    every = [picture for group in [*pictures.values(), latents, proved] for picture in group]
    return Product(
        arrays=_arrays([*tables.records(table), *report_probes.records(probed)], proof),
        metrics=_metrics(table, proof) | report_probes.metrics(probed),
        tasks=(),
        extra={"title": config.title, "labels": {s.title: [row.label for row in s.rows] for s in table}},
        files={name: text.encode() for name, text in texts.items()} | {p.name: p.png for p in every},
        name=slug(config.title.lower()),
    )


def _check(config: ReportConfig, table: Sequence[Section], work: Work) -> None:
    """Labels that the config names and no evaluation has: an error in `sweep`, else a note."""
    labels = sorted({row.label for section in table for row in section.rows})
    if missing := sorted(set(config.sweep) - set(labels)):
        raise UsageError(f"sweep names {missing[0]!r}, which no evaluation is labelled", f"labels: {', '.join(labels)}")
    for field in ("method", "reference"):
        if getattr(config, field) not in labels:
            work.tell.note(f"no evaluation is labelled {getattr(config, field)!r}: figures that follow it are left out")


# ---- figures ---------------------------------------------------------------------------------------------------------


def draw(config: ReportConfig, section: Section) -> Iterator[Picture]:
    """The figures of one section, as far as its evaluations hold what they need."""
    prefix = slug(f"{section.family} {section.split}".lower())
    reference, method = section.row(config.reference), section.row(config.method)
    pair = [row for row in (method, reference) if row]
    yield from _learning(prefix, config, section, pair)
    yield from _paths(prefix, section, reference, by_goal=False)
    yield from _paths(prefix, section, method, by_goal=True)
    if section.scored:
        yield from _scores(prefix, config, section)
        yield from _sweep(prefix, config, section)


def _hue(config: ReportConfig, section: Section, label: str) -> int:
    """The method is always the first colour and the reference the second, whatever else there is."""
    others = [row.label for row in section.rows if row.label not in (config.method, config.reference)]
    return [config.method, config.reference, *others].index(label)


def _learning(prefix: str, config: ReportConfig, section: Section, rows: Sequence[Row]) -> Iterator[Picture]:
    methods = []
    for row in rows:
        runs = [run.data for run in row.runs if run.data["curve_step"].size]
        if not runs:
            continue
        steps = reduce(np.intersect1d, [data["curve_step"] for data in runs])
        bands = []
        for name in ("curve_return", "curve_discounted", "curve_value"):
            curves = [data[name][np.isin(data["curve_step"], steps)].mean(-1) for data in runs]
            bands.append(figures.Band(*band(np.stack(curves))))
        methods.append(figures.Learning(row.label, _hue(config, section, row.label), steps, *bands))
    if methods:
        levels = {name: float(returns.mean()) for name, (_, returns) in section.references.items()}
        text = (
            "Above, the return of one episode; below, what the critic promises for the first step (dashed) and the "
            "discounted return that the same policy gets (solid): the distance between the two is the value gap. "
            f"Means over tasks; {_over(rows)}."
        )
        yield Picture(f"{prefix}-learning.png", "Over training", text, figures.learning(methods, levels))


def _over(rows: Sequence[Row]) -> str:
    n = max(row.n for row in rows)
    return f"IQM and 95% bootstrap interval over n = {n} training seeds" if n > 1 else "one training seed, no interval"


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
        dots.append(figures.Dots(row.label, _hue(config, section, row.label), point, low, high))
    ceiling = section.references.get("ceiling", (np.full(len(section.tasks), np.nan), None))[0]
    text = f"Dots: IQM over training seeds; bars: 95% stratified-bootstrap interval, where n > 1. {_counts(section)}"
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
    text = f"All tasks; {_over(list(rows.values()))}."
    yield Picture(f"{prefix}-sweep.png", f"Score against {config.sweep_axis}", text, image)


def _latents(probed: Sequence[report_probes.Probes]) -> Iterator[Picture]:
    for probe, (label, text, image) in zip(probed, report_probes.pictures(probed), strict=True):
        name = slug(f"{probe.family} probe {label}".lower())
        yield Picture(f"{name}.png", f"What the posterior of {label} follows", text, image)


# ---- Proposition 1 ---------------------------------------------------------------------------------------------------


def state(proof: tabular.Proof) -> str:
    """Proposition 1 in one line."""
    shown = "holds" if proof.max_error <= TARGET else "was NOT reached"
    return (
        f"Proposition 1 {shown}: after {proof.updates[-1]:,} updates, tabular Q-learning on {proof.num_rows} rows "
        f"pooled from {proof.single.shape[1]} random MDPs is within {proof.max_error:.4f} (target {TARGET:g}) of Q* of "
        f"the pooled batch's MDP, by exact value iteration, and {proof.mistaken:.2f} from the nearest Q* of one task."
    )


def _proposition(proof: tabular.Proof) -> Picture:
    text = (
        "Q-learning on rows drawn from all tasks converges, but to the optimal values of an MDP that is none of them. "
        f"{proof.num_unseen} state-action pairs never occur in the batch; their values stay 0."
    )
    image = figures.proposition(proof.updates, proof.pooled, proof.single, TARGET)
    return Picture("proposition.png", "Proposition 1", text, image)


def _proof_json(proof: tabular.Proof | None) -> dict[str, Any] | None:
    if proof is None:
        return None
    numbers = {"max_error": proof.max_error, "mistaken": proof.mistaken, "target": TARGET}
    return {**numbers, "updates": int(proof.updates[-1])}


# ---- the product -----------------------------------------------------------------------------------------------------


def page(
    config: ReportConfig,
    table: Sequence[Section],
    pictures: dict[str, list[Picture]],
    proved: Sequence[Picture],
    line: str,
    probed: Sequence[report_probes.Probes] = (),
    latents: Sequence[Picture] = (),
) -> str:
    """The HTML page: one file, no script, nothing loaded from elsewhere."""
    source = resources.files("pipelines.stages").joinpath("page.html.j2").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    parts = [
        {
            "section": section,
            "caption": tables.caption(section),
            "grid": tables.grid(section),
            "full": tables.by_task(section) if len(section.tasks) > tables.MAX_COLUMNS else [],
            "raw": tables.raw(section),
            "each": tables.by_episode(section),
            "headline": headline(config, section),
            "endings": _endings(config, section),
            "pictures": pictures[section.title],
        }
        for section in table
    ]
    count = sum(row.n for section in table for row in section.rows)
    fields = list(flatten(config))
    probe = {"grid": report_probes.grid(probed), "caption": report_probes.CAPTION, "rows": probed, "pictures": latents}
    return template.render(
        config=config,
        fields=fields,
        parts=parts,
        proved=proved,
        line=line,
        count=count,
        protocol=PROTOCOL,
        probe=probe if probed else None,
    )


def headline(config: ReportConfig, section: Section) -> list[str]:
    """What a reader wants to know first, one sentence each."""
    reference, method = section.row(config.reference), section.row(config.method)
    out = []
    if section.scored:
        ceiling = section.references.get("ceiling")
        for row in filter(None, (method, reference)):
            share = f", {row.overall.point / ceiling[0].mean():.0%} of the ceiling" if ceiling and row is method else ""
            out.append(f"{row.label} scores {row.overall} over all tasks{share}.")
        if method and reference and min(method.n, reference.n) > 1:
            pairs = zip(section.tasks, method.score, reference.score, strict=True)
            clear = [task for task, mine, theirs in pairs if mine.low > theirs.high]
            which = "every task" if len(clear) == len(section.tasks) else ", ".join(clear) or "no task"
            out.append(f"The interval of {method.label} lies above that of {reference.label} on {which}.")
    if reference and np.isfinite(reference.gap.point):
        span = f" ({number(reference.gap.low)} to {number(reference.gap.high)} over seeds)" if reference.n > 1 else ""
        out.append(f"The value gap of {reference.label} is {number(reference.gap.point)}{span} of its return's size.")
    return out


def _endings(config: ReportConfig, section: Section) -> str:
    row = section.row(config.reference)
    endings = row.endings(section.tasks) if row else []
    return f"{config.reference} ends {tables.in_words(endings)}." if endings else ""


def _arrays(lines: Sequence[tables.Record], proof: tabular.Proof | None) -> dict[str, Any]:
    """The numbers of table.csv in its order, and the error curves: what the digest of this artifact is about."""
    columns = {name: np.array([getattr(line, name) for line in lines]) for name in ("point", "low", "high")}
    if proof is None:
        return {"table": columns}
    curves: dict[str, Array] = {"updates": proof.updates, "pooled": proof.pooled, "single": proof.single}
    return {"table": columns, "proposition": curves}


def _metrics(table: Sequence[Section], proof: tabular.Proof | None) -> dict[str, float]:
    """Score, value gap and n of every method, where they exist."""
    out = {} if proof is None else {"proposition/max_error": proof.max_error, "proposition/mistaken": proof.mistaken}
    for section in table:
        for row in section.rows:
            where = f"{section.family}/{section.split}/{row.label}"
            cells = {"score": row.overall.point, "score_low": row.overall.low, "score_high": row.overall.high}
            cells |= {"value_gap": row.gap.point, "return": row.returns[-1].point, "n": float(row.n)}
            out |= {f"{where}/{name}": float(value) for name, value in cells.items() if np.isfinite(value)}
    return out
