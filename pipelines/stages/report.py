"""`omrl report`: from reports of many methods and seeds to tables, figures and one page that needs nothing else.

Each kind of report has a part of the page: evaluations (`results`, `tables`, `report_figures`), probes
(`report_probes`), fine-tuning (`report_finetuning`); a paper's figures are drawn from all of them (`paper_figures`,
`report_papers`).
Proposition 1 of tiMe (arXiv:1909.11373) is shown beside them.
"""

import json
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import Any

import jinja2
import numpy as np

from pipelines import figures
from pipelines.algos import tabular
from pipelines.core.configs.base import flatten
from pipelines.core.configs.report import ReportConfig
from pipelines.core.errors import UsageError
from pipelines.core.names import slug
from pipelines.core.statistics import number
from pipelines.core.work import Product, Work
from pipelines.stages import (
    paper_figures,
    report_compare,
    report_differences,
    report_finetuning,
    report_papers,
    report_probes,
    tables,
)
from pipelines.stages.report_figures import Picture, draw
from pipelines.stages.results import PROTOCOL, Array, Section, sections

TARGET = 1e-2  # how near Q-learning must come to value iteration for Proposition 1 to count as shown


def run(work: Work) -> Product:
    """Reads `inputs["reports"]` (any mix of methods, splits, families and seeds) and writes the page and its parts."""
    config = work.config
    assert isinstance(config, ReportConfig)
    reports = work.inputs["reports"]
    table, probed, tuned = sections(reports), report_probes.gather(reports), report_finetuning.gather(reports)
    _check(config, table, work)
    compared = report_compare.gather(table, config.common)
    pictures = {section.title: list(draw(config, section)) for section in table}
    for one in compared:
        pictures[one.section.title][:0] = report_compare.pictures(config, one)
    curves, latents = report_finetuning.pictures(tuned), [*_latents(probed)]
    found = _paper(work, table, [*(one for group in pictures.values() for one in group), *curves])
    differing = report_differences.gather(table, config.method)
    proof = tabular.prove(work.seed) if config.proposition else None
    proved = [_proposition(proof)] if proof else []
    line = state(proof) if proof else ""
    tail = f"\n{line}\n" if line else ""
    data = {"title": config.title, "sections": tables.as_json(table), "proposition": _proof_json(proof)}
    data |= {"probes": report_probes.as_json(probed)} if probed else {}
    data |= {"finetuning": report_finetuning.as_json(tuned)} if tuned else {}
    data |= {"compared": report_compare.as_json(compared)} if compared else {}
    data |= {"differences": report_differences.as_json(differing)} if differing else {}
    data |= {"paper": report_papers.as_json(config, found)} if config.paper else {}
    more = [*report_compare.records(compared), *report_differences.records(differing)]
    more += [*report_finetuning.records(tuned), *report_probes.records(probed)]
    parts = (
        (tables.as_markdown(table), tables.as_text(table)),
        (report_compare.as_markdown(compared), report_compare.as_text(compared)),
        (report_differences.as_markdown(differing), report_differences.as_text(differing)),
        (report_finetuning.as_markdown(tuned), report_finetuning.as_text(tuned)),
        (report_papers.as_markdown(config, found), report_papers.as_text(config, found)),
        (report_probes.as_markdown(probed), report_probes.as_text(probed)),
        (tail, tables.wrap(tail)),
    )
    markdown, plain = ("".join(part) for part in zip(*parts, strict=True))
    texts = {
        "table.md": markdown,
        "table.csv": tables.as_csv(table, more),
        "table.json": json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "table.txt": plain,
        "page.html": page(
            config, table, pictures, proved, line, probed, latents, tuned, curves, found, differing, compared
        ),
    }
    own = [picture for one in found for picture in one.pictures]
    every = [picture for group in [*pictures.values(), curves, own, latents, proved] for picture in group]
    return Product(
        arrays=_arrays([*tables.records(table), *more], proof),
        metrics=_metrics(table, proof) | report_probes.metrics(probed) | report_finetuning.metrics(tuned),
        tasks=(),
        extra={"title": config.title, "labels": {s.title: [row.label for row in s.rows] for s in table}},
        files={name: text.encode() for name, text in texts.items()} | {p.name: p.png for p in every},
        name=slug(config.title.lower()),
    )


def _paper(work: Work, table: Sequence[Section], drawn: Sequence[Picture]) -> list[paper_figures.Found]:
    """The figures of the config's paper; says what is left out."""
    config: Any = work.config
    if config.paper is None:
        return []
    more = (work.inputs.get(role, ()) for role in ("policies", "relabelled", "reports", "logs"))
    found = paper_figures.found_in(paper_figures.Given(config, table, drawn, *more))
    for one in found:
        for line in one.lines:
            work.tell.note(line)
    return found


def _check(config: ReportConfig, table: Sequence[Section], work: Work) -> None:
    """Labels that the config names and no evaluation has: an error in `sweep`, else a note."""
    labels = sorted({row.label for section in table for row in section.rows})
    if missing := sorted(set(config.sweep) - set(labels)):
        raise UsageError(f"sweep names {missing[0]!r}, which no evaluation is labelled", f"labels: {', '.join(labels)}")
    for field in ("method", "reference"):
        if getattr(config, field) not in labels:
            work.tell.note(f"no evaluation is labelled {getattr(config, field)!r}: figures that follow it are left out")


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
    tuned: Sequence[report_finetuning.Tuned] = (),
    curves: Sequence[Picture] = (),
    found: Sequence[paper_figures.Found] = (),
    differing: Sequence[report_differences.Difference] = (),
    compared: Sequence[report_compare.Compared] = (),
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
            "adapted": tables.adapted(section),
            "compared": [one for one in compared if one.section is section],
            "headline": headline(config, section),
            "endings": _endings(config, section),
            "pictures": pictures[section.title],
        }
        for section in table
    ]
    count = sum(row.n for section in table for row in section.rows)
    fields = list(flatten(config))
    probe = {"grid": report_probes.grid(probed), "caption": report_probes.CAPTION, "rows": probed, "pictures": latents}
    tuning = {
        "grid": report_finetuning.grid(tuned),
        "caption": report_finetuning.caption(tuned),
        "headline": report_finetuning.headline(tuned),
        "pictures": curves,
    }
    paper = {"name": report_papers.NAMES.get(config.paper or ""), "found": found}
    return template.render(
        config=config,
        fields=fields,
        parts=parts,
        proved=proved,
        line=line,
        count=count,
        protocol=PROTOCOL,
        probe=probe if probed else None,
        tuning=tuning if tuned else None,
        paper=paper if config.paper else None,
        differing=list(report_differences.blocks(differing)),
        compare=report_compare,
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
