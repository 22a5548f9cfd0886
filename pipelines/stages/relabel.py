"""relabel: which logged rows would have been paid what in another task. replay-log (+ replay-log) -> relabelled-log

For every ordered pair (i, j): rows of task j's log under task i's reward, and under its dynamics where those differ.
What is learned is asked only where task i's ensembles agree (MBML section 3.1); rewards that a family knows are
computed on every row. Kept are single rows, or the ensembles themselves (`apply`), or whole episodes in the place of
those of a trial (`unit`, BOReL section 4): other tasks' with new rewards, or those of a log of replayed policies.
"""

from typing import Any

import numpy as np

from pipelines.algos import models
from pipelines.core import own
from pipelines.core.errors import UsageError
from pipelines.core.names import slug
from pipelines.core.taskmap import TaskAxis
from pipelines.core.trees import task_leaf, to_dict
from pipelines.core.types import Space, Task, task_rows
from pipelines.core.work import Product, Work
from pipelines.stages import learners, relabel_pairs, relabel_summary, relabel_trials
from pipelines.stages.parts import divide, in_parts, joined
from pipelines.stages.relabel_models import (
    Bench,
    Kit,
    Logs,
    deviations,
    dynamics_differ,
    find_family,
    kit_of,
    known_reward,
    learn,
    limits_of,
)
from pipelines.stages.relabel_pairs import EDGES


def run(work: Work) -> Product:
    """Learns the ensembles if need be, judges every pair, keeps what is wanted."""
    config: Any = work.config
    log = work.inputs["log"]
    tasks = tuple(Task.from_json(task) for task in log.card.tasks)
    learners.want_tasks(tasks, 2, "relabel")
    if (replay := work.inputs.get("replay")) is not None:
        said = {"reward": "replayed", "dynamics": False}
        return product(work, tasks, relabel_trials.replayed(work, replay), said)
    family = find_family(config, log.card, work.tell.note)
    dynamics = dynamics_differ(config, family)
    if config.unit == "episode" and dynamics:
        raise UsageError(
            "tasks differ in their dynamics: another task's episode would have gone elsewhere",
            "`omrl replay` plays the agents in the other tasks; give its log with --replay",
        )
    known = known_reward(config, family, tasks, Logs(log)[0], work.tell.note)
    space = Space.from_json(log.card.extra["space"])
    kit = kit_of(config, space, dynamics, known, family.outcome_dim if family else 0)
    groups = divide(learners.log_rows(log), work.tasks_at_once, work.crew.count)
    arrays = gathered(groups, in_parts(work, groups, lambda part, numbers: judged(part, kit, tasks, numbers)))
    code = own.on_card(family.name) if family and config.reward == "known" else {}
    return product(work, tasks, arrays, {"reward": config.reward, "dynamics": dynamics, **code})


def judged(work: Work, kit: Kit, tasks: tuple[Task, ...], numbers: list[int]) -> dict[str, Any]:
    """All rows under the tasks `numbers`. -> the artifact's arrays, [G, ...]"""
    config: Any = work.config
    logs, mine, *_ = learners.read_log(work.inputs["log"], numbers)
    axis = TaskAxis(len(mine), config.mapping)
    data = axis.over_tasks(lambda step, log: models.hold_out(log))(0, axis.put(logs))
    limits = limits_of(config, logs, kit.transition is not None)
    ensembles = learn(work, axis, kit, data, mine)
    others = Logs(work.inputs["log"], logs if len(mine) == len(tasks) else None)
    rows = axis.put(task_rows(mine))
    bench = Bench(work, axis, kit, tasks, numbers, others, ensembles, axis.put(limits), rows)
    known = axis.get(axis.over_tasks(relabel_pairs.own(kit))(0, data, ensembles, rows, bench.limits))
    found = relabel_pairs.single_rows(bench) if config.unit == "row" else relabel_trials.episodes(bench)
    arrays = relabel_pairs.with_own(bench, found, known)
    arrays |= {"threshold": limits.reward, "reward_deviation": deviations(logs)}
    if kit.transition is not None:
        arrays["next_threshold"] = limits.next_obs
    if config.apply == "on-the-fly":
        learned = {"reward": kit.reward, "transition": kit.transition}
        held = {name: to_dict(axis.get(getattr(ensembles, name))) for name, model in learned.items() if model}
        arrays["ensembles"] = held
    return arrays


def gathered(groups: list[list[int]], found: list[dict[str, Any]]) -> dict[str, Any]:
    """What was found under each group of tasks -> the whole artifact's arrays."""
    leaves = {task_leaf(i) for group in groups for i in group}
    own_leaves = {name: part[name] for part in found for name in part if name in leaves}
    rest = joined(groups, [{name: leaf for name, leaf in part.items() if name not in leaves} for part in found])
    return dict(sorted(own_leaves.items())) | rest | {"calibration_edges": np.asarray(EDGES, np.float32)}


def product(work: Work, tasks: tuple[Task, ...], arrays: dict[str, Any], said: dict[str, Any]) -> Product:
    """Arrays, and what they come to: metrics, notes, the card. Raises UsageError where trials were to be mixed and none
    is."""
    config: Any = work.config
    card = work.inputs["log"].card
    num_thin, notes = relabel_summary.thin(tasks, arrays, config)
    for line in notes:
        work.tell.note(line)
    if "threshold" in arrays:
        learned = config.reward == "model"
        warned = relabel_summary.flat(tasks, arrays) if learned else relabel_summary.unlike(arrays)
        for line in [*warned, *relabel_summary.table(tasks, arrays)]:
            work.tell.note(line)
    extra = {name: card.extra[name] for name in ("family", "space", "horizon", "discount")}
    extra |= said | {
        "apply": config.apply,
        "unit": config.unit,
        "logs": [role for role in ("log", "replay") if role in work.inputs],  # what `Relabelled.log` counts
    }
    metrics = relabel_summary.metrics(arrays, num_thin)
    if config.unit == "episode":
        extra["trial_episodes"] = config.trial_episodes
        places = [arrays[task_leaf(i)]["place"] for i in range(len(tasks))]
        metrics["mixed_trials"] = float(sum(len(np.unique(one // config.trial_episodes)) for one in places))
        for line in [*relabel_trials.unmixed(work, tasks, arrays), f"{metrics['mixed_trials']:.0f} trials are mixed"]:
            work.tell.note(line)
    name = slug(f"{said['reward']} {card.extra['family']}")
    return Product(arrays, metrics, list(card.tasks), extra, name=name)
