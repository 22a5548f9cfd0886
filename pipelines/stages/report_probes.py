"""What a report says of inference probes: one line of numbers and one picture for each method. No jax.

D draws of contexts, T tasks, Z latent.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipelines.core.errors import UsageError
from pipelines.core.statistics import Interval, interval, number
from pipelines.figures.latents import latents
from pipelines.stages import tables
from pipelines.stages.results import Gathered, task_name

NEAREST = {
    "nearest_own": "as logged:\nown task",
    "nearest_reward": "swapped:\nrewards'",
    "nearest_states": "swapped:\nstates'",
}
ASKED = ("rewards", "rows", "first", "draws", "pairs_left_out")
CAPTION = (
    "Contexts of one task's states and actions with another's rewards. Reward share: how far the posterior goes from "
    "where the states' own rewards have it (0) to where contexts of the rewards' task have it (1); stray: how far off "
    "that line, in its length; in deviations: the share where each latent entry counts in units of the posterior's own "
    "deviation, as in a KL divergence. Then: how many contexts have the posterior nearest to that of which task."
)


@dataclass(frozen=True)
class Probes(Gathered):
    """One method on one family: its runs by seed."""

    @property
    def names(self) -> list[str]:
        """Of the tasks that were asked about, as short as elsewhere."""
        card = self.cards[0]
        asked = set(card.extra["probe"]["tasks"])
        known = {task["name"]: task_name(task) for task in card.tasks if task["name"] in asked}
        return [known.get(name, name) for name in card.extra["probe"]["tasks"]]

    @cached_property
    def share(self) -> Interval:
        """Over training seeds, each its mean over draws; of one seed, over its draws of contexts."""
        each = [np.asarray(one["share"], float) for one in self.data]
        return interval(np.array([one.mean() for one in each])) if self.n > 1 else interval(each[0])

    def mean(self, name: str) -> float:
        """Of a number over seeds and draws; NaN where an older report lacks it."""
        return float(np.mean([np.mean(one.get(name, math.nan)) for one in self.data]))

    def numbers(self) -> dict[str, Interval]:
        """By name; only the share has an interval. The one in deviations is left out where there are none."""
        rest = ("stray", *(["sure_share"] if math.isfinite(self.mean("sure_share")) else []), *NEAREST)
        alone = {name: Interval(self.mean(name), math.nan, math.nan, self.n) for name in rest}
        return {"reward_share": self.share, **alone}


def gather(reports: Sequence[Any]) -> list[Probes]:
    """The probes among evaluations, by family and label in order of first appearance. Raises UsageError where two claim
    one seed of one label, or were asked about other tasks."""
    groups: dict[tuple[str, str], dict[int, tuple[Any, Any]]] = {}
    for artifact in {report.card.id: report for report in reports}.values():
        card = artifact.card
        if "probe" not in card.extra:
            continue
        seeds = groups.setdefault((card.extra["family"], card.extra["label"]), {})
        mine = card, artifact.arrays()["probe"]
        if (other := seeds.setdefault(int(card.seed), mine)) is not mine:
            cause = f"{other[0].id} and {card.id} both probe {card.extra['label']!r}, seed {card.seed}"
            raise UsageError(cause, "give them different labels, or leave one out")
    out = []
    for (family, label), runs in groups.items():
        cards, data = zip(*(runs[seed] for seed in sorted(runs)), strict=True)
        if len({tuple(card.extra["probe"]["tasks"]) for card in cards}) > 1:
            raise UsageError(f"the probes of {label!r} are of different tasks", "probe every seed with the same tasks")
        out.append(Probes(label, family, cards, data))
    return out


def records(probes: Sequence[Probes]) -> Iterator[tables.Record]:
    """Lines of the tidy table; the split is `probe`."""
    for probe in probes:
        seeds = " ".join(str(card.seed) for card in probe.cards)
        for stat, cell in probe.numbers().items():
            yield tables.Record(
                probe.family, "probe", probe.label, "all", stat, cell.point, cell.low, cell.high, probe.n, seeds
            )


def grid(probes: Sequence[Probes]) -> list[list[str]]:
    """The table, header first."""
    rows = [["method", "reward\nshare", "stray", "in devi-\nations", *NEAREST.values(), "chance", "n"]]
    for probe in probes:
        label = probe.label if len({one.family for one in probes}) == 1 else f"{probe.label}, {probe.family}"
        cells = [f"{number(probe.share.point)}\n{probe.share.bounds()}".strip()]
        cells += [number(probe.mean(name)) for name in ("stray", "sure_share")]
        cells += [_percent(probe.mean(name)) for name in NEAREST]
        rows.append([label, *cells, _percent(1 / len(probe.names)), str(probe.n)])
    return rows


def _percent(value: float) -> str:
    return f"{value:.0%}" if math.isfinite(value) else number(value)


def as_text(probes: Sequence[Probes]) -> str:
    """For a terminal; empty without probes."""
    if not probes:
        return ""
    return "\n".join(["", "Inference probe", tables.wrap(CAPTION), "", *tables.drawn(grid(probes))]) + "\n"


def as_markdown(probes: Sequence[Probes]) -> str:
    """A caption, the table and the ids behind it; empty without probes."""
    if not probes:
        return ""
    ids = [f"- {one.label}: {', '.join(f'{card.seed} `{card.id}`' for card in one.cards)}" for one in probes]
    listed = "\n".join(["Probes, by training seed:", "", *ids])
    return "\n\n".join(["\n### Inference probe", CAPTION, tables.markdown(grid(probes)), listed]) + "\n"


def as_json(probes: Sequence[Probes]) -> list[dict[str, Any]]:
    """Strict JSON: what does not exist is null."""

    def cell(value: Interval) -> dict[str, Any]:
        return {name: v if math.isfinite(v) else None for name, v in value._asdict().items()}

    return [
        {
            "label": probe.label,
            "family": probe.family,
            "seeds": [int(card.seed) for card in probe.cards],
            "reports": [card.id for card in probe.cards],
            **{name: probe.cards[0].extra["probe"][name] for name in ASKED},
            **{name: cell(value) for name, value in probe.numbers().items()},
        }
        for probe in probes
    ]


def metrics(probes: Sequence[Probes]) -> dict[str, float]:
    """What the card of a page holds of them."""
    every = {f"{one.family}/probe/{one.label}/{name}": v.point for one in probes for name, v in one.numbers().items()}
    return {name: value for name, value in every.items() if math.isfinite(value)}


def pictures(probes: Sequence[Probes]) -> Iterator[tuple[str, str, bytes]]:
    """(label, caption, png) of each method: its first seed's posteriors."""
    for probe in probes:
        text = (
            "Means of the posterior, in the two directions in which they vary most. Left, contexts as they were "
            "logged, coloured by task. Middle and right, contexts of one task's states and actions with another's "
            "rewards: an encoder that reads rewards keeps the colours of the left in the middle, one that reads states "
            "on the right."
        )
        yield probe.label, text, latents(np.asarray(probe.data[0]["mean"]), probe.names)
