"""What a report says of fine-tuning: a line for each arm, and the curves of both (MBML's Figure 8). No jax.

S seeds, K evaluations, T tasks.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipelines.core.crossings import Reach, reach
from pipelines.core.errors import UsageError
from pipelines.core.statistics import REPLICATES, Interval, band, interval, number
from pipelines.figures import Band
from pipelines.figures.panels import Line, Panel, curves
from pipelines.stages import tables
from pipelines.stages.report_figures import Picture
from pipelines.stages.results import Array, Gathered

WARM, SCRATCH = "initialised", "scratch"  # as the finetune stage names its arms
ALIKE = ("curve_step", "interactions_before", "scratch", "tasks")  # what the seeds of a label must share
CAPTION = (
    "SAC that goes on from a meta-policy, and SAC from random nets beside it. Reached: interactions in each task until "
    "the curve, a mean over seeds and tasks, first is where the curve of the random nets ends. Share: of their "
    "interactions, while SAC learns; then of all, with those before SAC learned. Returns: IQM over n training seeds of "
    f"the mean over tasks, 95% bootstrap interval; of what is reached, {REPLICATES:,} resamples of the pairs of curves"
)


@dataclass(frozen=True)
class Tuned(Gathered):
    """One label on one split of one family: its runs by seed."""

    split: str

    @property
    def title(self) -> str:
        return f"{self.family}, {self.split} tasks"

    @property
    def steps(self) -> Array:
        """[K]"""
        return np.asarray(self.data[0]["curve_step"])

    @property
    def beside(self) -> str:
        """What the random nets are called; empty where none learned."""
        if "scratch_curve_return" not in self.data[0]:
            return ""
        same = self.cards[0].config.get("scratch") == "same"
        return f"random nets beside {self.label}" + ", the same trainer" * same

    @cached_property
    def curves(self) -> dict[str, Array]:
        """Arm -> returns [S, K, T]."""
        names = {self.label: "curve_return"} | ({self.beside: "scratch_curve_return"} if self.beside else {})
        return {arm: np.stack([np.asarray(one[name], float) for one in self.data]) for arm, name in names.items()}

    @cached_property
    def reached(self) -> dict[str, Reach]:
        """Arm -> when it is where the random nets end; empty without them."""
        if not self.beside:
            return {}
        return {arm: reach(self.steps, found, self.curves[self.beside]) for arm, found in self.curves.items()}

    def share(self, arm: str, of_all: bool) -> Interval:
        """Of the random nets' interactions, those that `arm` needed; `of_all`: with those before SAC learned."""
        before = self.cards[0].extra["interactions_before"] if of_all else {WARM: 0, SCRATCH: 0}
        mine = before[SCRATCH if arm == self.beside else WARM]
        return self.reached[arm].share(float(self.steps[-1]), mine, before[SCRATCH])

    def numbers(self, arm: str) -> dict[str, Interval]:
        """By name, as tables and cards call them."""
        ends = self.curves[arm].mean(-1)
        found = {"tuning_start": interval(ends[:, 0]), "tuning_end": interval(ends[:, -1])}
        if not self.beside:
            return found
        shares = {"tuning_share": self.share(arm, False), "tuning_share_of_all": self.share(arm, True)}
        return found | {"tuning_reached": self.reached[arm].needed} | shares


def gather(reports: Sequence[Any]) -> list[Tuned]:
    """The reports of fine-tuning by family, split and label in order of first appearance, each artifact once. Raises
    UsageError where seeds of a label were fine-tuned differently."""
    groups: dict[tuple[str, str, str], dict[int, Any]] = {}
    for artifact in {report.card.id: report for report in reports}.values():
        said = artifact.card.extra
        if said.get("protocol") == "finetune":
            place = said["family"], said["split"], said["label"]
            groups.setdefault(place, {})[int(artifact.card.seed)] = artifact
    out = []
    for (family, split, label), runs in groups.items():
        found = [runs[seed] for seed in sorted(runs)]
        one = Tuned(label, family, tuple(a.card for a in found), tuple(a.arrays() for a in found), split)
        _check_alike(one)
        out.append(one)
    return out


def _check_alike(one: Tuned) -> None:
    for card, data in zip(one.cards, one.data, strict=True):
        same = (
            np.array_equal(data["curve_step"], one.steps),
            card.extra["interactions_before"] == one.cards[0].extra["interactions_before"],
            card.config.get("scratch") == one.cards[0].config.get("scratch"),
            [task["id"] for task in card.tasks] == [task["id"] for task in one.cards[0].tasks],
        )
        if not all(same):
            which = ALIKE[same.index(False)]
            cause = f"{card.id} and {one.cards[0].id} are both {one.label!r} but differ in {which}"
            raise UsageError(cause, "fine-tune every seed alike, or give them different labels")


# ---- tables ----------------------------------------------------------------------------------------------------------


def records(tuned: Sequence[Tuned]) -> Iterator[tables.Record]:
    """Lines of the tidy table."""
    for one in tuned:
        seeds = " ".join(str(card.seed) for card in one.cards)
        for arm in one.curves:
            for stat, cell in one.numbers(arm).items():
                yield tables.Record(
                    one.family, one.split, arm, "all", stat, cell.point, cell.low, cell.high, cell.n, seeds
                )


def grid(tuned: Sequence[Tuned]) -> list[list[str]]:
    """The table, header first: a line for each arm."""
    rows = [["arm", "return at\nits start", "return at\nits end", "reached\nafter", "share", "share\nof all", "n"]]
    several = len({one.title for one in tuned}) > 1
    for one in tuned:
        for arm in one.curves:
            cells = one.numbers(arm)
            texts = [_stacked(cells[name], 1) for name in ("tuning_start", "tuning_end")]
            if one.beside:
                texts.append(_stacked(cells["tuning_reached"], 0))
                texts += [_stacked(cells[name], 2) for name in ("tuning_share", "tuning_share_of_all")]
            rows.append([f"{arm}, {one.title}" if several else arm, *texts, *[""] * (5 - len(texts)), str(one.n)])
    return rows


def _stacked(cell: Interval, digits: int) -> str:
    """`never` for what is not reached."""
    bounds = f"[{_number(cell.low, digits)}, {_number(cell.high, digits)}]" if not math.isnan(cell.low) else ""
    return f"{_number(cell.point, digits)}\n{bounds}".strip()


def _number(value: float, digits: int) -> str:
    if math.isinf(value):
        return "never"
    return f"{value:,.0f}" if not digits and math.isfinite(value) else number(value, digits)


def caption(tuned: Sequence[Tuned]) -> str:
    """What the numbers are, and over what they were resampled."""
    drawn = dict.fromkeys(found.drawn for one in tuned for found in one.reached.values())
    over = " or ".join({"seeds": "seeds, with all their tasks", "tasks": "tasks (one seed)"}[one] for one in drawn)
    return f"{CAPTION}: {over}." if over else f"{CAPTION}."


def headline(tuned: Sequence[Tuned]) -> list[str]:
    """What a reader wants to know first, one sentence each."""
    out = []
    for one in tuned:
        if not one.beside:
            continue
        found, share = one.reached[one.label], one.share(one.label, False)
        if math.isinf(found.needed.point):
            out.append(f"On {one.title}, {one.label} never is where SAC from random nets ends.")
            continue
        low, high = 1 - share.high, 1 - share.low
        span = f" [{_percent(low)}, {_percent(high)}]" if not math.isnan(share.low) else ""
        out.append(
            f"On {one.title}, {one.label} is where SAC from random nets ends after {found.needed.point:,.0f} of "
            f"{one.steps[-1]:,} interactions: {_percent(1 - share.point)}{span} saved (n={one.n})."
        )
    return out


def _percent(value: float) -> str:
    return "none" if math.isinf(value) else f"{value:.0%}"


def as_text(tuned: Sequence[Tuned]) -> str:
    """For a terminal; empty without fine-tuning."""
    if not tuned:
        return ""
    said = [tables.wrap(line) for line in [caption(tuned), *headline(tuned)]]
    return "\n".join(["", "Fine-tuning", *said, "", *tables.drawn(grid(tuned))]) + "\n"


def as_markdown(tuned: Sequence[Tuned]) -> str:
    """A caption, the table and the ids behind it; empty without fine-tuning."""
    if not tuned:
        return ""
    ids = [f"- {one.label}: {', '.join(f'{card.seed} `{card.id}`' for card in one.cards)}" for one in tuned]
    listed = "\n".join(["Fine-tuning, by training seed:", "", *ids])
    parts = ["\n### Fine-tuning", caption(tuned), *headline(tuned), tables.markdown(grid(tuned)), listed]
    return "\n\n".join(parts) + "\n"


def as_json(tuned: Sequence[Tuned]) -> list[dict[str, Any]]:
    """Strict JSON: what does not exist, or is never reached, is null."""

    def cell(value: Interval) -> dict[str, Any]:
        return {name: v if math.isfinite(v) else None for name, v in value._asdict().items()}

    return [
        {
            "label": one.label,
            "family": one.family,
            "split": one.split,
            "seeds": [int(card.seed) for card in one.cards],
            "reports": [card.id for card in one.cards],
            "steps": int(one.steps[-1]),
            "interactions_before": one.cards[0].extra["interactions_before"],
            "arms": {arm: {name: cell(v) for name, v in one.numbers(arm).items()} for arm in one.curves},
            "resampled": next((found.drawn for found in one.reached.values()), None),
            "resamples_that_reach": {arm: found.reached for arm, found in one.reached.items()},
        }
        for one in tuned
    ]


def metrics(tuned: Sequence[Tuned]) -> dict[str, float]:
    """What the card of a page holds of them."""
    every = {
        f"{one.family}/{one.split}/{arm}/{name}": value.point
        for one in tuned
        for arm in one.curves
        for name, value in one.numbers(arm).items()
    }
    return {name: value for name, value in every.items() if math.isfinite(value)}


# ---- Figure 8 --------------------------------------------------------------------------------------------------------


def panel(one: Tuned, hue: int = 0) -> Panel:
    """Both curves, where the one reaches the end of the other, and what that saves; the random nets have hue 1."""
    lines = []
    for arm, found in one.curves.items():
        label, colour = ("SAC from random nets", 1) if arm == one.beside else (arm, hue)
        lines.append(Line(label, colour, one.steps, Band(*band(found.mean(-1)))))
    mark, words = None, ""
    if one.beside:
        needed = one.reached[one.label].needed.point
        if math.isfinite(needed):
            mark = needed, float(one.curves[one.beside][:, -1].mean())
            words = f"{_percent(1 - one.share(one.label, False).point)} saved"
        else:
            words = "not reached"
    return Panel(one.title.replace(", ", "\n"), lines, xlabel="interactions", mark=mark, words=words)


def pictures(tuned: Sequence[Tuned]) -> list[Picture]:
    """One figure, a panel for each family and label; none without fine-tuning."""
    if not tuned:
        return []
    counts = sorted({one.n for one in tuned})
    n = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    text = (
        "Return over the interactions of each task while SAC learns, from a meta-policy and from random nets; shaded: "
        f"95% bootstrap interval over n = {n} training seeds" + (", where n > 1" if counts[0] == 1 else "") + ". "
        "The dot is where the one reaches what the other ends with."
    )
    hues = {label: 2 * n for n, label in enumerate(dict.fromkeys(one.label for one in tuned))}
    image = curves([panel(one, hues[one.label]) for one in tuned])
    return [Picture("finetuning.png", "Fine-tuning (MBML, Figure 8)", text, image)]
