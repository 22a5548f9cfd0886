"""BOReL's figures of what a policy did and believed in a few unseen tasks: behaviour from above (Figures 1 and 5), the
belief as it narrows (Figure 7), a film of a search. All are of `eval --protocol look`, of the least training seed.

M tasks, K episodes of a trial, H steps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.core.errors import UsageError
from pipelines.core.names import slug
from pipelines.core.statistics import Interval, interval
from pipelines.core.types import Scene, Shape
from pipelines.figures import film, scenes
from pipelines.figures.exploring import Doors, Map, Trial, above, narrowing, search_film
from pipelines.stages import looking
from pipelines.stages.paper_given import Found, Given, body_of, cell_of, picture
from pipelines.stages.report_figures import Picture
from pipelines.stages.results import Gathered, task_name

PLAIN = ("plain", "no_replay")  # parts of the figures: the method without other agents' episodes in its trials
PEERS = ("cql", "mbml", "pearl", "online")
PARTS = {"prior": 0.0, "a quarter": 0.25, "half": 0.5, "the end": 1.0}  # of a trial
DRAWN = 2  # tasks of each arm in the picture of beliefs
MOST_FRAMES, FILM_S = 90, 9.0
LOOK = "omrl eval --protocol look --policy META-POLICY --belief BELIEF-MODEL"
COLUMNS = {
    "spread at a quarter": "spread at\na quarter",
    "spread at half": "at half",
    "spread at the end": "at the\nend",
    "sure before the goal": "sure before\nthe goal",
}
SPREAD = (
    "Spread: over how many places, or parts of the wall, the belief lies (the exponential of its map's entropy), as a "
    "share of the prior's. "
    f"Sure: of the moments before the goal is found, how many have a place that is expected to pay more than "
    f"{looking.SURE:g}. IQM and 95% bootstrap interval over n training seeds of the mean over the tasks looked at."
)


@dataclass(frozen=True)
class Look(Gathered):
    """What one method did and believed in a few tasks: its looks by seed; the first is drawn."""

    @property
    def maps(self) -> bool:
        return all(one.keys() & {"map", "doors"} for one in self.data)

    @property
    def doors(self) -> bool:
        return all("doors" in one for one in self.data)

    def trial(self, task: int) -> Trial:
        """One task's."""
        one, said = self.data[0], self.cards[0].extra["look"]
        paths, told = np.asarray(one["path"], float)[task], said["scenes"][task]
        scene = None
        if told:
            shapes = tuple(Shape(kind, tuple(numbers), role, solid) for kind, numbers, role, solid in told["shapes"])
            scene = Scene(tuple(told["low"]), tuple(told["high"]), shapes)
        belief: Map | Doors | None = None
        if "doors" in one:
            belief = Doors(np.asarray(one["doors"])[task], np.asarray(one["moment"]))
        if "map" in one:
            belief = Map(
                np.asarray(one["map"])[task], np.asarray(one["moment"]), tuple(said["low"]), tuple(said["high"])
            )
        title = f"{self.label}, {task_name(self.cards[0].tasks[task])}"
        return Trial(title, scenes.around(paths, scene), paths, belief)

    def numbers(self) -> dict[str, Interval]:
        """How the belief narrows: over seeds, each its mean over tasks."""
        each = [looking.means(looking.narrowing(one)) for one in self.data]
        found = {name: np.array([one.get(name, np.nan) for one in each]) for name in each[0]}
        return {name: interval(values) for name, values in found.items() if np.isfinite(values).all()}


def looks_of(given: Given) -> list[Look]:
    """By family in order of first appearance, the method first, then its plain arms, then others. Raises UsageError
    where two claim one seed of one label."""
    groups: dict[tuple[str, str], dict[int, Any]] = {}
    for artifact in {report.card.id: report for report in given.reports}.values():
        said = artifact.card.extra
        if said.get("protocol") == "look":
            seeds = groups.setdefault((said["family"], said["label"]), {})
            if (other := seeds.setdefault(int(artifact.card.seed), artifact)) is not artifact:
                cause = (
                    f"{other.card.id} and {artifact.card.id} both look at {said['label']!r}, seed {artifact.card.seed}"
                )
                raise UsageError(cause, "give them different labels, or leave one out")
    out = []
    for (family, label), runs in groups.items():
        found = [runs[seed] for seed in sorted(runs)]
        data = tuple(artifact.arrays()["look"] for artifact in found)
        out.append(Look(label, family, tuple(artifact.card for artifact in found), data))
    families = list(dict.fromkeys(one.family for one in out))
    return sorted(out, key=lambda one: (families.index(one.family), given.hue(one.label) if known(given, one) else 99))


def plain_of(given: Given) -> list[str]:
    """What arms without other agents' episodes in their trials are labelled."""
    return list(dict.fromkeys([given.config.reference, *(given.config.label_of(part) for part in PLAIN)]))


def known(given: Given, look: Look) -> bool:
    """Whether the label is of the method, or of a part of the figures."""
    return look.label in (given.config.method, *plain_of(given), *map(given.config.label_of, PEERS))


def by_family(looks: Sequence[Look]) -> Iterator[tuple[str, list[Look]]]:
    for family in dict.fromkeys(one.family for one in looks):
        yield family, [one for one in looks if one.family == family]


def _seeds(looks: Sequence[Look]) -> str:
    drawn = sorted({int(one.cards[0].seed) for one in looks})
    return f"training seed {', '.join(map(str, drawn))} of n = {', '.join(sorted({str(one.n) for one in looks}))}"


def figures_1_and_5(given: Given) -> Found:
    """A trial in each of a few unseen tasks from above, a colour for each episode."""
    pictures: list[Picture] = []
    for family, looks in by_family(looks_of(given)):
        trials = [one.trial(task) for one in looks for task in range(len(one.data[0]["path"]))]
        text = (
            "Trials in unseen tasks from above, a colour for each episode: dots where they begin, rings where they "
            f"end. {_seeds(looks).capitalize()}."
        )
        pictures += picture(slug(f"behaviour {family}"), f"Behaviour in {family} (Figures 1, 5)", text, above(trials))
    return Found("Figures 1 and 5", tuple(pictures), lacks=() if pictures else (f"reports of a look ({LOOK})",))


def figure_7(given: Given) -> Found:
    """What is believed at the beginning of a trial, along it and at its end, with mixed trials and without."""
    pictures: list[Picture] = []
    rows: list[tuple[str, ...]] = []
    lacks: list[str] = []
    for family, looks in by_family([one for one in looks_of(given) if one.maps]):
        tasks = _middle(len(looks[0].data[0]["path"]))
        text = (
            f"What the belief expects to be paid {_where(looks)}, white 0 and black 1, a mean over "
            f"{looking.DRAWS} draws of the latent; the way so far, a colour for each episode, and the goal. "
            f"{_seeds(looks).capitalize()}."
        )
        image = narrowing([one.trial(task) for task in tasks for one in looks], PARTS)
        pictures += picture(slug(f"figure 7 {family}"), f"The belief as it narrows, {family} (Figure 7)", text, image)
        for one in looks:
            cells = {name: cell_of(cell, 2) for name, cell in one.numbers().items()}
            rows.append((f"{one.label}, {body_of(family)}", *(cells.get(name, "") for name in COLUMNS), str(one.n)))
        if not {one.label for one in looks} & set(plain := plain_of(given)):
            lacks.append(f"a look labelled {' or '.join(map(repr, plain))} on {family} ({LOOK})")
    if not pictures:
        how = "of a family whose observations are places and whose tasks differ in rewards, or in where a door is"
        return Found("Figure 7", lacks=(f"looks with a belief-model, {how} ({LOOK})",))
    table = (("belief", *COLUMNS.values(), "n"), *rows)
    return Found("Figure 7", tuple(pictures), lacks=tuple(lacks), table=table, caption=SPREAD)


def _where(looks: Sequence[Look]) -> str:
    """What a map is of."""
    if not any(one.doors for one in looks):
        return "at each place"
    return "for the largest step out through each part of the wall (drawn outside it: where the door may be)"


def _middle(count: int) -> list[int]:
    """DRAWN of `count` tasks, away from the ends of the list where there are more."""
    first = max(0, (count - DRAWN) // 2)
    return list(range(first, min(count, first + DRAWN)))


def search(given: Given) -> Found:
    """A film of the method's trial in one task: search, and return."""
    pictures = []
    for family, looks in by_family([one for one in looks_of(given) if one.label == given.config.method]):
        one, task = looks[0], _middle(len(looks[0].data[0]["path"]))[-1]
        over = f", over what the belief expects to be paid {_where([one])}" if one.maps else ""
        text = f"A trial of one unseen task, a colour for each episode{over}. {_seeds(looks).capitalize()}."
        image = _film(one.trial(task), np.asarray(one.data[0]["reward"], float)[task])
        pictures.append(Picture(slug(f"search {family}") + ".gif", f"Search and return, {family}", text, image, False))
    lacks = () if pictures else (f"a look labelled {given.config.method!r} ({LOOK})",)
    return Found("Film", tuple(pictures), lacks=lacks)


def _film(trial: Trial, reward: Any) -> bytes:
    """`reward [K, H]`"""
    horizon, steps = reward.shape[1], reward.size
    kept, _ = film.thinned(steps + 1, MOST_FRAMES)
    total = np.concatenate([[0.0], np.cumsum(reward)])
    name = trial.title.rpartition(", ")[2]
    captions = {t: f"{name}  episode {max(t - 1, 0) // horizon + 1}  return {total[t]:.4g}" for t in kept}
    return film.gif(list(search_film(trial, captions)), float(np.clip(FILM_S / len(kept), 0.06, 0.3)))
