"""BOReL's figures (Dorfman et al. 2021, arXiv:2008.02598), each from what was given to the report, or one line that
says what it lacks: returns (Figures 3 and 4), the ant's data sets (Table 1), what logs visited (Figures 10 and 11), and
those of `borel_looks`.

Returns are of the episodes that count, their sum.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipelines.core.names import slug
from pipelines.core.statistics import Interval, interval
from pipelines.core.trees import task_leaf
from pipelines.figures import scenes
from pipelines.figures.exploring import Arms, Visits, bars, density
from pipelines.rollouts.episodes import places
from pipelines.stages.borel_looks import PEERS, figure_7, figures_1_and_5, plain_of, search
from pipelines.stages.paper_given import Found, Given, body_of, cell_of, dot_of, of_rows, picture, rows_of
from pipelines.stages.results import Row, Section
from pipelines.tasks import registry

# domains of Figure 3, whose tasks differ in rewards, and of Figure 4, whose tasks differ in dynamics
REWARDS = ("gridworld", "point-semicircle-sparse", "ant-semicircle", "halfcheetah-vel", "reacher-image")
DYNAMICS = ("point-wind", "escape-room")
KNOWN = {"bayes": "Bayes-optimal", "thompson": "Thompson", "thompson-stop": "Thompson, stopping"}
# sums over both episodes of a trial, of policies that were written: a sweep, a slide along the wall, a guess an episode
WRITTEN = {
    "point-semicircle-sparse": {"sweep": 95.25, "Thompson": 19.79},
    "escape-room": {"slide along\nthe wall": 88.8},
}
DATA_SETS = {  # Table 1: where the logs' episodes begin -> its labels without and with CQL, and what the paper says
    "anywhere": ("uniform", "cql", "171.8 / 176.0"),
    "not on the arc": ("excluding", "excluding_cql", "102.8 / 116.6"),
    "fixed": ("fixed", "fixed_cql", "99.2 / 112.4"),
}
MOST_TASKS, MOST_POINTS = 20, 200_000  # of a log in its picture
EVAL = "omrl eval --protocol episodes"


# ---- bars: Figures 3 and 4 -------------------------------------------------------------------------------------------


def counted(row: Row) -> tuple[int, int]:
    """The first and the last episode of a trial that count."""
    first, last = row.runs[0].card.extra.get("counted", (1, 1))
    return int(first), int(last)


def total(row: Row) -> Interval:
    """Returns of the episodes that count, their sum, a mean over tasks; over seeds."""
    first, last = counted(row)
    return interval(np.array([run.returns.mean() * (last - first + 1) for run in row.runs]))


def levels_of(section: Section, row: Row) -> dict[str, float]:
    """What is known beside `row`, over the episodes that count in it."""
    first, last = counted(row)
    found = {
        name: float(returns.mean()) * (last - first + 1)
        for name, (_, returns) in section.references.items()
        if name in ("oracle", "random")
    }
    k = row.trial_episodes
    if (first, last) == (1, k):
        exact = row.runs[0].card.extra.get("trial_references", {})
        found |= {KNOWN.get(name, name): value for name, value in exact.items()}
        found |= WRITTEN.get(body_of(section.family), {}) if k == 2 else {}
    return found


def figure_3(given: Given) -> Found:
    """Return of the arms where tasks differ in rewards: with mixed trials and without."""
    others = [section for section in given.of("test") if body_of(section.family) not in DYNAMICS]
    return _bars(given, "Figure 3", others, REWARDS)


def figure_4(given: Given) -> Found:
    """The same where tasks differ in dynamics: with replayed agents and without."""
    those = [section for section in given.of("test") if body_of(section.family) in DYNAMICS]
    return _bars(given, "Figure 4", those, DYNAMICS)


def _bars(given: Given, figure: str, sections: Sequence[Section], domains: Sequence[str]) -> Found:
    method = given.config.method
    labels = [*plain_of(given), *map(given.config.label_of, PEERS)]
    panels, used, seen = [], [], set()
    for section in sections:
        if (whole := section.row(method)) is None:
            continue
        rows = [whole, *(row for row in rows_of(section, labels) if counted(row) == counted(whole))]
        used += rows
        seen |= {row.label for row in rows}
        dots = [dot_of(given, row, total(row)) for row in rows]
        panels.append(
            Arms(section.family.partition(",")[0], dots, levels_of(section, whole), _return_of(*counted(whole)))
        )
    lacks = tuple(_missing(given, [section.family for section in sections], seen, domains))
    if not panels:
        return Found(figure, lacks=lacks)
    text = (
        f"Return of unseen tasks, summed over the episodes that count: {method} beside itself without other agents' "
        f"episodes in its trials, and beside others. Dotted: what is known. {of_rows(used)}."
    )
    return Found(figure, picture(slug(figure.lower()), figure, text, bars(panels)), lacks=lacks)


def _return_of(first: int, last: int) -> str:
    return f"return of episode {first}" if first == last else f"return of episodes {first} to {last}"


def _missing(given: Given, families: Sequence[str], seen: set[str], domains: Sequence[str]) -> Iterator[str]:
    method, plain = given.config.method, plain_of(given)
    there = {body_of(family) for family in families}
    if method not in seen:
        yield f"{given.wanted(method, 'test', EVAL)} of {' or '.join(domains)}"
        return
    if absent := [name for name in domains if name not in there]:
        yield f"evaluations on {', '.join(absent)}"
    if not seen & set(plain):
        yield f"an evaluation labelled {' or '.join(map(repr, plain))} on test tasks ({EVAL})"
    if absent := [label for part in ("mbml", "pearl") if (label := given.config.label_of(part)) not in seen]:
        yield f"evaluations labelled {', '.join(map(repr, absent))} on test tasks, of the same episodes ({EVAL})"


# ---- Table 1 ---------------------------------------------------------------------------------------------------------


def table_1(given: Given) -> Found:
    """The ant on logs whose episodes begin in three ways, without CQL and with it."""
    rows: list[tuple[str, ...]] = [("logs begin", given.config.label_of("uniform"), "with CQL", "paper", "n")]
    lacks: list[str] = []
    there = [section for section in given.of("test") if body_of(section.family) == "ant-semicircle"]
    for name, (plain, cql, said) in DATA_SETS.items():
        labels = [given.config.label_of(part) for part in (plain, cql)]
        found = [next((row for section in there if (row := section.row(label))), None) for label in labels]
        lacks += [given.wanted(label, "test", "omrl run borel-ant-semicircle..") for label in _none(labels, found)]
        if any(found):
            counts = "/".join(dict.fromkeys(str(row.n) for row in found if row))
            rows.append((name, *(cell_of(total(row)) if row else "" for row in found), said, counts))
    if len(rows) == 1:
        several = " or ".join(repr(given.config.label_of(part)) for part, *_ in DATA_SETS.values())
        how = "omrl run borel-ant-semicircle, -excluding, -fixed"
        return Found("Table 1", lacks=(f"evaluations of the ant-semicircle labelled {several} ({how})",))
    text = (
        "Ant-semi-circle, unseen goals: sum of the returns of the episodes that count, by where the logs' episodes "
        "begin; IQM and 95% bootstrap interval over n training seeds. The paper's are of another simulator."
    )
    return Found("Table 1", lacks=tuple(lacks), table=tuple(rows), caption=text)


def _none(labels: Sequence[str], found: Sequence[Row | None]) -> list[str]:
    return [label for label, row in zip(labels, found, strict=True) if row is None]


# ---- Figures 10 and 11 -----------------------------------------------------------------------------------------------


class Log(NamedTuple):
    """Of a replay-log, what its picture needs."""

    words: str
    visits: Visits


def figures_10_and_11(given: Given) -> Found:
    """Where the agents of the logs were, tasks together: of the least seed of each family."""
    first: dict[str, Any] = {}
    for log in sorted(given.logs, key=lambda log: int(log.card.seed)):
        first.setdefault(log.card.extra.get("family") or "", log)
    found = [log for artifact in first.values() if (log := visited(artifact))]
    if not found:
        known = "replay-logs of families that are seen from above (--logs REF)"
        return Found("Figures 10 and 11", lacks=(known,))
    text = (
        "How often each place was visited by the agents of a log, tasks together, dark seldom. "
        f"{'; '.join(one.words for one in found)}."
    )
    image = density([one.visits for one in found])
    return Found("Figures 10 and 11", picture("figures-10-11", "Data sets (Figures 10, 11)", text, image))


def visited(artifact: Any) -> Log | None:
    """None for a log whose family does not say where an agent is from above."""
    name = artifact.card.extra.get("family")
    if not name:
        return None
    family, num_tasks = registry.find(name), len(artifact.card.tasks)
    where, points, rows = places(family), [], 0
    shown = np.unique(np.linspace(0, num_tasks - 1, min(num_tasks, MOST_TASKS)).round().astype(int))
    for number in shown:
        leaf = task_leaf(int(number))
        obs = artifact.arrays([leaf])[leaf]["obs"]
        rows += len(obs)
        every = max(1, len(obs) * len(shown) // MOST_POINTS)
        points.append(np.asarray(where(np.asarray(obs)[::every]), float))
        if points[0].shape[-1] != 2:
            return None
    seen, scene = np.concatenate(points), None
    if family.scene is not None:
        scene = family.scene(family.tasks("train")[0])
        scene = scene._replace(shapes=tuple(shape for shape in scene.shapes if shape.role != "goal"))
    words = f"{name}: seed {artifact.card.seed}, {rows:,} observations of {len(shown)} of {num_tasks} tasks"
    return Log(words, Visits(name.replace(",", "\n"), scenes.around(seen, scene), seen))


FIGURES: tuple[Callable[[Given], Found], ...] = (
    figures_1_and_5,
    figure_3,
    figure_4,
    table_1,
    figure_7,
    figures_10_and_11,
    search,
)
