"""From evaluations to results: evaluations are grouped by family, split and label, and seeds become intervals. No jax.

A score is (return - random) / (oracle - random), per task, of one seed's mean over its episodes. A cell is the IQM over
training seeds with its bootstrap interval. S seeds, T tasks, P episodes, H steps, O observation.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from pipelines.core.errors import UsageError
from pipelines.core.statistics import Interval, interval

Array = np.ndarray[Any, np.dtype[Any]]

PROTOCOL = ("protocol", "episodes", "horizon", "discount")
NAME_WIDTH = 14  # characters of a task in a table
DEGREES = re.compile(r"(-?\d+(?:\.\d+)?)deg")  # a task's name, where it is an angle


@dataclass(frozen=True)
class Run:
    """One evaluation: of one method, trained with one seed, on the tasks of one split."""

    card: Any
    data: Mapping[str, Array]

    @property
    def label(self) -> str:
        return str(self.card.extra["label"])

    @property
    def place(self) -> tuple[str, str]:
        """(family, split)."""
        return str(self.card.extra["family"]), str(self.card.extra["split"])

    @cached_property
    def returns(self) -> Array:
        """Mean return per task. [T]"""
        return np.asarray(self.data["returns"], float).mean(-1)

    def score(self, returns: Array) -> Array:
        """`returns` [..., T] on the scale where random is 0 and the oracle 1; NaN without an oracle."""
        low, high = (np.asarray(self.data[f"{name}_return"], float) for name in ("random", "oracle"))
        return np.asarray((returns - low) / np.where(high > low, high - low, np.nan))

    @property
    def gap(self) -> float:
        """Value estimate of the first step minus the discounted return, both averaged over tasks, over the latter's
        size. NaN for a policy without a value, and where nothing is ever paid."""
        real = float(np.mean(self.data["discounted_return"]))
        return (float(np.mean(self.data["value"])) - real) / abs(real) if real else math.nan

    @cached_property
    def each(self) -> Array | None:
        """Mean return of each episode of a trial, over tasks and trials [K]; None where there were none."""
        found = self.data.get("episode_returns")
        return None if found is None else np.asarray(found, float).mean((0, 1))

    @cached_property
    def success(self) -> Array | None:
        """Share of trials that reach the goal in each episode, over tasks [K]; None where rewards do not say."""
        found = self.data.get("episode_success")
        return None if found is None else np.asarray(found, float).mean((0, 1))

    @property
    def bayes_fraction(self) -> float:
        """The sum over a trial's episodes, of what is Bayes-optimal; NaN where that is not known."""
        best = self.card.extra.get("trial_references", {}).get("bayes", math.nan)
        return math.nan if self.each is None else float(self.each.sum()) / best

    @property
    def adapting(self) -> dict[str, float]:
        """What its card says of adaptation, `adapt/` left out of the names; empty where nothing adapted."""
        metrics = getattr(self.card, "metrics", None) or {}
        return {name.removeprefix("adapt/"): value for name, value in metrics.items() if name.startswith("adapt/")}

    @property
    def protocol(self) -> dict[str, Any]:
        """How it was evaluated: protocol, episodes, horizon, discount."""
        return {name: self.card.extra[name] for name in PROTOCOL}

    @cached_property
    def goals(self) -> Array | None:
        """Where each task wants the agent [T, 2], in families whose tasks are places (`x` and `y`)."""
        params = [task.get("params", {}) for task in self.card.tasks]
        flat = self.data["obs"].ndim == 4 and self.data["obs"].shape[-1] >= 2
        known = flat and all({"x", "y"} <= set(p) for p in params)
        return np.array([[p["x"], p["y"]] for p in params], float) if known else None

    @property
    def paths(self) -> Array:
        """[T, P, H + 1, 2] positions, where `goals` is not None."""
        return np.asarray(self.data["obs"], float)[..., :2]

    def distances(self) -> Array:
        """[T, P, T]: how far from each goal each episode ended."""
        assert self.goals is not None
        return np.asarray(np.linalg.norm(self.paths[:, :, -1, None] - self.goals, axis=-1))


@dataclass(frozen=True)
class Gathered:
    """What artifacts of one method on one family hold, by seed."""

    label: str
    family: str
    cards: tuple[Any, ...]
    data: tuple[Any, ...]  # arrays of each

    @property
    def n(self) -> int:
        return len(self.cards)


class Ending(NamedTuple):
    """Where an agent that cannot tell tasks apart ends: the goal nearest to most episodes, and how far from it."""

    seed: int
    goal: str
    share: float  # of the episodes of all tasks
    distance: float  # mean over those episodes


@dataclass(frozen=True)
class Row:
    """One method in one section: its runs by seed, and what they come to."""

    label: str
    runs: tuple[Run, ...]

    @property
    def n(self) -> int:
        return len(self.runs)

    @property
    def seeds(self) -> list[int]:
        return [int(run.card.seed) for run in self.runs]

    @cached_property
    def scores(self) -> Array:
        """[S, T]"""
        return np.stack([run.score(run.returns) for run in self.runs])

    @cached_property
    def score(self) -> list[Interval]:
        """Per task. [T]"""
        return [interval(column) for column in self.scores.T]

    @cached_property
    def overall(self) -> Interval:
        """Over seeds, each the mean over its tasks."""
        return interval(self.scores)

    @cached_property
    def returns(self) -> list[Interval]:
        """Raw returns per task, then over all tasks. [T + 1]"""
        raw = np.stack([run.returns for run in self.runs])
        return [*(interval(column) for column in raw.T), interval(raw.mean(-1))]

    @property
    def trial_episodes(self) -> int:
        """Of a trial; 0 where episodes were played one by one."""
        each = self.runs[0].each
        return 0 if each is None else len(each)

    @cached_property
    def each(self) -> dict[str, Interval]:
        """Over all tasks, the return of each episode of a trial and the sum of them; empty where there were none."""
        if not self.trial_episodes:
            return {}
        raw = np.stack([run.each for run in self.runs if run.each is not None])
        out = {f"episode_{n + 1}_return": interval(raw[:, n]) for n in range(self.trial_episodes)}
        return out | {"sum_return": interval(raw.sum(-1))}

    @cached_property
    def exploring(self) -> dict[str, Interval]:
        """Over all tasks, how often each episode of a trial reaches the goal, and the sum of returns as a fraction of
        the Bayes-optimal one, where they are known."""
        out = {}
        if all(run.success is not None for run in self.runs):
            raw = np.stack([run.success for run in self.runs if run.success is not None])
            out = {f"episode_{n + 1}_success": interval(raw[:, n]) for n in range(raw.shape[-1])}
        fraction = np.array([run.bayes_fraction for run in self.runs])
        return out | ({"bayes_fraction": interval(fraction)} if np.isfinite(fraction).all() else {})

    @cached_property
    def adapting(self) -> dict[str, Interval]:
        """Over seeds: the mean return before adapting, what each task gained, how far tasks are spread before and
        after, and beta, ESS and lambda; empty where nothing adapted."""
        found = [run.adapting for run in self.runs]
        return {f"adapt_{name}": interval(np.array([one[name] for one in found])) for name in found[0]}

    @cached_property
    def gap(self) -> Interval:
        """Mean over seeds; `low` and `high` are the least and greatest seed, not an interval of confidence."""
        gaps = np.array([run.gap for run in self.runs])
        bounds = (gaps.min(), gaps.max()) if self.n > 1 else (math.nan, math.nan)
        return Interval(float(gaps.mean()), float(bounds[0]), float(bounds[1]), self.n)

    @cached_property
    def end_distance(self) -> list[Interval]:
        """Distance from the task's own goal at the end, per task [T]; empty where tasks are not places."""
        if self.runs[0].goals is None:
            return []
        own = np.stack([np.diagonal(run.distances().mean(1)) for run in self.runs])
        return [interval(column) for column in own.T]

    def endings(self, names: Sequence[str]) -> list[Ending]:
        """One per seed; `names` [T] are the goals'."""
        if self.runs[0].goals is None:
            return []
        out = []
        for run in self.runs:
            away = run.distances().reshape(-1, len(names))
            nearest = away.argmin(-1)
            goal = int(np.bincount(nearest, minlength=len(names)).argmax())
            mine = away[nearest == goal, goal]
            out.append(Ending(int(run.card.seed), names[goal], len(mine) / len(away), float(mine.mean())))
        return out


@dataclass(frozen=True)
class Section:
    """Everything that was evaluated on one split of one family."""

    family: str
    split: str
    rows: tuple[Row, ...]

    @property
    def first(self) -> Run:
        return self.rows[0].runs[0]

    @property
    def title(self) -> str:
        return f"{self.family}, {self.split} tasks"

    @cached_property
    def tasks(self) -> list[str]:
        """Names of the tasks, short enough for a column."""
        return [task_name(task) for task in self.first.card.tasks]

    @property
    def protocol(self) -> dict[str, str]:
        """What its evaluations have in common, `a / b` where methods were evaluated differently."""
        ways = [row.runs[0].protocol for row in self.rows]
        return {name: " / ".join(dict.fromkeys(str(way[name]) for way in ways)) for name in PROTOCOL}

    @property
    def runs_are(self) -> str:
        """What `episodes` counts: episodes, or trials of several."""
        kinds = ["trials" if row.trial_episodes else "episodes" for row in self.rows]
        return " or ".join(dict.fromkeys(kinds))

    @property
    def scored(self) -> bool:
        """Whether the family has an oracle, so that there are scores."""
        return any(math.isfinite(row.overall.point) for row in self.rows)

    @cached_property
    def references(self) -> dict[str, tuple[Array, Array]]:
        """name -> (scores [T], returns [T]) of random, oracle and ceiling, where known; means over the runs."""
        out = {}
        for name in ("random", "oracle", "ceiling"):
            runs = [run for row in self.rows for run in row.runs]
            raw = np.stack([np.asarray(run.data[f"{name}_return"], float) for run in runs])
            if np.isfinite(raw).all():
                out[name] = np.stack([run.score(r) for run, r in zip(runs, raw, strict=True)]).mean(0), raw.mean(0)
        return out

    def row(self, label: str) -> Row | None:
        return next((row for row in self.rows if row.label == label), None)


def task_name(task: Mapping[str, Any]) -> str:
    """`90°` for a task that is an angle, else its name, at most `NAME_WIDTH` characters of it."""
    angle, name = task.get("params", {}).get("angle"), str(task["name"])
    if said := DEGREES.fullmatch(name):  # whatever its params count in
        angle = float(said[1])
    if angle is not None:
        return f"{angle:.3g}°"
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 1]}…"


def sections(reports: Sequence[Any]) -> list[Section]:
    """Groups artifacts by family, split and label, each in order of first appearance; the same artifact twice counts
    once, and one that played nothing (a probe) not at all. Raises UsageError if two evaluations claim one seed of one
    label, or if a label mixes protocols, or a split tasks."""
    groups: dict[tuple[str, str], dict[str, dict[int, Run]]] = {}
    for artifact in {report.card.id: report for report in reports}.values():
        if "returns" not in (arrays := artifact.arrays()):
            continue
        run = Run(artifact.card, arrays)
        seeds = groups.setdefault(run.place, {}).setdefault(run.label, {})
        if (other := seeds.setdefault(int(run.card.seed), run)) is not run:
            cause = f"{other.card.id} and {run.card.id} are both {run.label!r}, seed {run.card.seed}, on {run.place[0]}"
            raise UsageError(cause, "give them different labels, or leave one out")
    out = [
        Section(*place, tuple(Row(label, tuple(runs[s] for s in sorted(runs))) for label, runs in rows.items()))
        for place, rows in groups.items()
    ]
    for section in out:
        _check_alike(section)
    return out


def _check_alike(section: Section) -> None:
    """One set of tasks per section, one protocol per label: nothing else can be averaged or compared."""
    tasks = [task["id"] for task in section.first.card.tasks]
    for row in section.rows:
        for run in row.runs:
            if [task["id"] for task in run.card.tasks] != tasks:
                cause = f"{run.card.id} and {section.first.card.id} differ in their tasks ({section.title})"
                raise UsageError(cause, "evaluate every method on the same tasks")
            if run.protocol != row.runs[0].protocol:
                cause = f"{run.card.id} and {row.runs[0].card.id} are both {row.label!r} but were evaluated differently"
                raise UsageError(cause, f"these must agree: {', '.join(PROTOCOL)}")
