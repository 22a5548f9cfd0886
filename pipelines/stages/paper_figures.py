"""The figures of the papers, each from what was given to the report, or one line that says what it lacks: here tiMe's
Figures 2 and 3 (arXiv:1909.11373) and MBML's Figures 2 and 4 to 8 (Li et al. 2020), in `borel_figures` BOReL's, in
`mql_figures` MQL's.

Bands and bars are over training seeds: of each seed the mean over tasks, or one task's where it has a panel of its own.
S seeds, N points of a curve, T tasks.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from pipelines.core.errors import UsageError
from pipelines.core.statistics import band, interval
from pipelines.figures import Band, Dots
from pipelines.figures.panels import Line, Panel, Rungs, curves, ladder
from pipelines.stages import borel_figures, mql_figures
from pipelines.stages.paper_given import (
    Drawn,
    dot_of,
    drawn_of,
    fewer,
    level_of,
    line_of,
    of_drawn,
    picture,
    rows_of,
)
from pipelines.stages.paper_given import Found as Found
from pipelines.stages.paper_given import Given as Given
from pipelines.stages.report_figures import prefix_of, shown
from pipelines.stages.results import Row

TOY = ("-learning.png", "-reference-ends.png", "-method-ends.png")  # what Figure 2 of tiMe is made of
ABLATIONS = (
    *("ground_truth", "no_triplet", "no_relabelling", "neither", "no_ensemble"),
    *("margin_0", "margin_4", "margin_8"),
)


def found_in(given: Given) -> list[Found]:
    """Every figure of the paper, in its order."""
    return [make(given) for make in FIGURES[given.config.paper or ""]]


# ---- tiMe ------------------------------------------------------------------------------------------------------------


def time_2(given: Given) -> Found:
    """On the page anyway: return and value over training, where the pooled agent ends, where tiMe ends."""
    labels = given.config.method, given.config.reference
    for section in given.sections:
        if section.first.goals is not None and all(section.row(label) for label in labels):
            prefix = prefix_of(section)
            files = tuple(one.name for one in given.drawn if one.name.startswith(prefix) and one.name.endswith(TOY))
            return Found("Figure 2", (), files)
    how = "of one family whose tasks are places, as point-semicircle/time"
    return Found("Figure 2", lacks=tuple(given.wanted(label, "test", how) for label in labels))


def time_3(given: Given) -> Found:
    """A panel for each test task: SAC from scratch over its interactions, the zero-shot return as a level."""
    scratch, panels = given.config.label_of("scratch"), []
    drawn: list[Drawn] = []
    for section in given.of("test"):
        sac, method = section.row(scratch), section.row(given.config.method)
        if sac is None or method is None or line_of(given, sac) is None:
            continue
        drawn += drawn_of(section, [sac], [method])
        for task, name in enumerate(section.tasks):
            line = line_of(given, sac, task)
            level = level_of(given, method, task)
            body = section.family.partition("/")[0]
            panels.append(Panel(f"{body}\n{name}", [line] if line else [], [level], "SAC's interactions"))
    if not panels:
        return Found("Figure 3", lacks=tuple(_lacks_of_3(given, scratch)))
    text = (
        f"Unseen tasks: return of {given.config.method}, zero-shot, without a gradient step there (dashed), and of "
        f"SAC that learns on that task from scratch, over its interactions. {of_drawn(drawn)}."
    )
    return Found("Figure 3", picture("figure-3", "Figure 3", text, curves(panels)), lacks=fewer(drawn))


def _lacks_of_3(given: Given, scratch: str) -> Iterator[str]:
    tests = given.of("test")
    if not any(section.row(given.config.method) for section in tests):
        yield given.wanted(given.config.method, "test", "omrl eval --policy META-POLICY")
    if not any(section.row(scratch) for section in tests):
        how = "omrl collect --split test, then omrl eval --policy THAT-LOG"
        yield given.wanted(scratch, "test", how)
    elif not any((row := section.row(scratch)) and line_of(given, row) for section in tests):
        yield f"a curve of {scratch!r} (collect with num_snapshots, eval with curve_episodes)"


# ---- MBML ------------------------------------------------------------------------------------------------------------


def mbml_2(given: Given) -> Found:
    """The distillation's Q loss, and the return of what it makes beside that of each task's own policy, both on
    training tasks."""
    neither, teachers = given.config.label_of("neither"), given.config.label_of("teachers")
    panels, below = [], []
    drawn: list[Drawn] = []
    for section in given.of("train"):
        row, own = section.row(neither), section.row(teachers)
        loss, told = losses_of(given, row) if row else (None, 0)
        line = line_of(given, row) if row else None
        if row is None or own is None or loss is None or line is None:
            continue
        level, here = level_of(given, own), drawn_of(section, [row], [own])
        drawn += [*here, Drawn(f"the loss of {neither!r} on {section.title} (--policies REF)", told, here[0].most)]
        below.append(bool(line.band.point[-1] < level.point))
        title = f"{section.family}\n"
        panels.append(Panel(f"{title}distillation", [loss], (), "updates", "loss of Q", log=True))
        panels.append(Panel(f"{title}training tasks", [line], [level], "updates"))
    if panels:
        text = (
            f"The loss of the distilled value, and the return on the training tasks of {neither}, one policy of all "
            f"tasks, beside that of {teachers}, each task's own (dashed): {_ends(neither, teachers, below)}. "
            f"{of_drawn(drawn)}."
        )
        return Found("Figure 2", picture("figure-2", "Figure 2", text, curves(panels)), lacks=fewer(drawn))
    there = {row.label for section in given.of("train") for row in section.rows}
    lacks = [given.wanted(one, "train", "omrl eval --split train") for one in (neither, teachers) if one not in there]
    lacks += [] if given.policies else [f"the meta-policy of {neither!r} (--policies REF), whose loss it draws"]
    return Found("Figure 2", lacks=tuple(lacks or [f"a meta-policy that is the one of {neither!r}, and its curve"]))


def _ends(one: str, other: str, below: Sequence[bool]) -> str:
    """Where `one` ends, by what is drawn of each family."""
    if all(below):
        return f"{one} ends below {other}"
    return f"{one} ends below {other} in {sum(below)} of {len(below)}" if any(below) else f"{one} ends no lower"


def losses_of(given: Given, row: Row, name: str = "q_loss") -> tuple[Line | None, int]:
    """A loss over the updates of the meta-policies that `row` is of, and how many of those were given; None where there
    is none."""
    by_id = {policy.card.id: policy for policy in given.policies}
    parents = [run.card.parents.get("policy") for run in row.runs if getattr(run.card, "parents", None)]
    told = [logged(by_id[parent.id], name) for parent in parents if parent is not None and parent.id in by_id]
    steps = sorted(set.intersection(*(set(one) for one in told))) if told else []
    if not steps:
        return None, 0
    each = np.array([[one[step] for step in steps] for one in told])
    return Line(shown(row), given.hue(row.label), np.array(steps), Band(*band(each))), len(told)


def logged(artifact: Any, name: str) -> dict[int, float]:
    """Step -> a number that an artifact's stage told while it learned."""
    rows = (json.loads(line) for line in artifact.file("metrics.jsonl").read_text().splitlines())
    return {row["step"]: row[name] for row in rows if row.get(name) is not None}


def mbml_4(given: Given) -> Found:
    """Return on test tasks over training, a panel for each family."""
    labels = [given.config.method, given.config.label_of("contextual"), given.config.label_of("pearl")]
    return _over_training(given, "Figure 4", "test", labels, "Return on unseen tasks over training")


def mbml_5(given: Given) -> Found:
    """MetaGenRL's learner on one batch, over training, and the method's return as a level."""
    ddpg, panels = given.config.label_of("ddpg"), []
    drawn: list[Drawn] = []
    lacks: list[str] = []
    for section in given.of("train"):
        row, method = section.row(ddpg), section.row(given.config.method)
        if row is None or (line := line_of(given, row)) is None:
            continue
        drawn += drawn_of(section, [row], [method] if method else [])
        levels = [level_of(given, method)] if method else []
        lacks += [] if method else [given.wanted(given.config.method, "train", "omrl eval --split train")]
        panels.append(Panel(section.family, [line], levels, "updates"))
    if not panels:
        lacks = [given.wanted(ddpg, "train", "omrl train --algorithm ddpg, then omrl eval --split train"), *lacks]
        return Found("Figure 5", lacks=tuple(lacks))
    text = (
        f"Training tasks: DDPG, the learner of MetaGenRL, from each task's log alone, and where {given.config.method} "
        f"ends (dashed). {of_drawn(drawn)}."
    )
    every = tuple(dict.fromkeys([*lacks, *fewer(drawn)]))
    return Found("Figure 5", picture("figure-5", "Figure 5", text, curves(panels)), lacks=every)


def _over_training(given: Given, figure: str, split: str, labels: Sequence[str], what: str) -> Found:
    panels, seen = [], set()
    drawn: list[Drawn] = []
    for section in given.of(split):
        every = [(row, line) for row in rows_of(section, labels) if (line := line_of(given, row))]
        if len(every) < 2:
            continue
        drawn += drawn_of(section, [row for row, _ in every])
        seen |= {row.label for row, _ in every}
        panels.append(Panel(section.family, [line for _, line in every], (), "updates"))
    there = seen or {label for section in given.of(split) if section.row(label := labels[0])}
    how = "omrl eval with curve_episodes"
    lacks = tuple(given.wanted(label, split, how) for label in labels if label not in there)
    if not panels:
        return Found(figure, lacks=lacks)
    text = f"{what}, mean over tasks; a panel for each family. {of_drawn(drawn)}."
    name = figure.lower().replace(" ", "-")
    return Found(figure, picture(name, figure, text, curves(panels)), lacks=lacks + fewer(drawn))


def mbml_6(given: Given) -> Found:
    """Return on test tasks of the method and of itself without its parts."""
    method = given.config.method
    parts = [given.config.label_of(part) for part in ABLATIONS]
    panels, seen = [], set()
    drawn: list[Drawn] = []
    for section in given.of("test"):
        rows = rows_of(section, parts)
        if not rows or (whole := section.row(method)) is None:
            continue
        drawn += drawn_of(section, [], [whole, *rows])
        seen |= {row.label for row in rows}
        dots = [dot_of(given, row, row.returns[-1]) for row in [whole, *rows]]
        panels.append(Rungs(section.title, dots, "return"))
    if not panels:
        some = ", ".join(repr(part) for part in parts)
        return Found("Figure 6", lacks=(f"evaluations on test tasks labelled {method!r} and any of {some}",))
    text = f"{method} and itself without its parts: return on unseen tasks, mean over them. {of_drawn(drawn)}."
    some = ", ".join(repr(part) for part in parts if part not in seen)
    lacks = (f"evaluations on test tasks labelled {some} (omrl eval)",) if some else ()
    return Found("Figure 6", picture("figure-6", "Figure 6", text, ladder(panels)), lacks=lacks + fewer(drawn))


def mbml_7(given: Given) -> Found:
    """Errors of learned rewards on other tasks' rows, of an ensemble and of single nets. Raises UsageError for two of
    one seed."""
    families = _learned(given.relabelled)
    panels = []
    for family, found in families.items():
        if dots := list(_errors(found)):
            panels.append(Rungs(family, dots, "error, in deviations of the logged rewards", zero=True))
    if not panels:
        known = "a relabelled-log with learned rewards, of a family whose reward is known (--relabelled REF)"
        return Found("Figure 7", lacks=(known,))
    alone = [one for found in families.values() for one in found if _members(one) == 1]
    lacks = () if alone else ("one without an ensemble (omrl relabel --set model.members=1)",)
    text = (
        "Root mean square error of learned rewards on rows of other tasks, against the family's own: all rows, and "
        "those on which the ensemble agrees. Means over tasks; IQM and 95% bootstrap interval over seeds, where n > 1."
    )
    return Found("Figure 7", picture("figure-7", "Figure 7", text, ladder(panels)), lacks=lacks)


def _learned(relabelled: Sequence[Any]) -> dict[str, list[Any]]:
    """Family -> those with learned rewards, the same one twice counts once. Raises UsageError for two of one seed."""
    families: dict[str, list[Any]] = {}
    seen: dict[tuple[str, int, int], str] = {}
    for card_id, artifact in {one.card.id: one for one in relabelled}.items():
        card = artifact.card
        if card.extra["reward"] != "model":
            continue
        family, members = card.extra["family"], _members(artifact)
        if other := seen.get((family, members, card.seed)):
            nets = f"ensembles of {members}" if members > 1 else "single nets"
            cause = f"{other} and {card_id} are both {nets}, seed {card.seed}, on {family}"
            raise UsageError(cause, "leave one out of --relabelled")
        seen[family, members, card.seed] = card_id
        families.setdefault(family, []).append(artifact)
    return families


def _members(artifact: Any) -> int:
    return int(artifact.card.config["model"]["members"])


def _errors(artifacts: Sequence[Any]) -> Iterator[Dots]:
    """Of one family: all rows and those that pass, for each size of the ensemble, largest first."""
    sizes: dict[int, list[Any]] = {}
    for artifact in artifacts:
        sizes.setdefault(_members(artifact), []).append(artifact)
    for place, (members, found) in enumerate(sorted(sizes.items(), reverse=True)):
        one = f"ensemble of {members}" if members > 1 else "one net"
        for name, which in (("foreign_error", "all rows"), ("passed_error", "rows that pass")):
            if members == 1 and name == "passed_error":
                continue  # it never disagrees with itself
            each = [relative(artifact.arrays(), name) for artifact in found]
            if all(math.isfinite(value) for value in each):
                cell = interval(np.array(each))
                label = f"{one}, {which} (n={cell.n})"
                yield Dots(label, place, *(np.array(value) for value in cell[:3]))


def relative(arrays: dict[str, Any], name: str) -> float:
    """Mean over tasks and over other tasks' rows, in deviations of the task's logged rewards; NaN if not known."""
    values = np.asarray(arrays[name], float) / np.asarray(arrays["reward_deviation"], float)[:, None]
    other = ~np.eye(len(values), dtype=bool) & np.isfinite(values)
    return float(values[other].mean()) if other.any() else math.nan


def mbml_8(given: Given) -> Found:
    """On the page anyway, where anything was fine-tuned."""
    files = tuple(one.name for one in given.drawn if one.name == "finetuning.png")
    lacks = () if files else ("reports of omrl finetune (--reports REF)",)
    return Found("Figure 8", (), files, lacks)


FIGURES: dict[str, tuple[Callable[[Given], Found], ...]] = {
    "time": (time_2, time_3),
    "mbml": (mbml_2, mbml_4, mbml_5, mbml_6, mbml_7, mbml_8),
    "borel": borel_figures.FIGURES,
    "mql": mql_figures.FIGURES,
}
