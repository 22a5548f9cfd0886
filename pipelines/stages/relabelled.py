"""What a stage that learns from a relabelled-log reads of it.

`pool` gives stored rows (`samplers.pair_rows`, `samplers.foreign_rows` draw from them), `asked` the ensembles that are
applied on the fly, `spliced` the logs whose trials are mixed. Each raises WrongKind for a log that was made otherwise.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pipelines.algos import models
from pipelines.core.configs.base import resolve
from pipelines.core.configs.relabel import RelabelConfig
from pipelines.core.errors import WrongKind
from pipelines.core.samplers import Pool
from pipelines.core.trees import from_dict, stack, stack_logs, task_leaf
from pipelines.core.types import Log, Relabelled, Space, Task, task_rows
from pipelines.stages.relabel_models import find_family, kit_of, mapped
from pipelines.stages.relabel_trials import num_whole, spans


def rows(artifact: Any) -> list[Relabelled]:
    """Each task's rows, in numpy."""
    tree = artifact.arrays()
    return [from_dict(Relabelled, tree[task_leaf(index)]) for index in range(len(artifact.card.tasks))]


def pool(artifact: Any) -> Pool:
    """Stored single rows of all tasks."""
    _want(artifact, "single rows", "omrl relabel --set unit=row --set apply=stored", unit="row", apply="stored")
    found, size = rows(artifact), artifact.arrays()["pair_size"]
    longest = max(1, *(len(one.row) for one in found))

    def pad(column: Any) -> Any:
        return np.concatenate([column, np.zeros((longest - len(column), *column.shape[1:]), column.dtype)])

    padded: Any = stack([Relabelled(*(pad(column) for column in one)) for one in found])
    start: Any = (np.cumsum(size, 1) - size).astype(np.int32)
    return Pool(padded, start, size)


class Asked(NamedTuple):
    """What judges rows on the fly: `judge(ensembles, task, limits, rows)` with one task's share of the others."""

    judge: models.Judge
    ensembles: models.Ensembles  # [T, ...]
    tasks: Any  # [T, P]
    limits: models.Limits  # [T]


def asked(artifact: Any) -> Asked:
    """The ensembles of an artifact that was made with apply=on-the-fly, or the family's own reward."""
    _want(artifact, "ensembles", "omrl relabel --set apply=on-the-fly", apply="on-the-fly")
    card, tree = artifact.card, artifact.arrays()
    config, space = resolve(RelabelConfig, card.config), Space.from_json(card.extra["space"])
    known, outcome_dim = None, 0
    if config.reward == "known" and (family := find_family(config, card, lambda note: None)) is not None:
        known, outcome_dim = mapped(family), family.outcome_dim
    kit = kit_of(config, space, card.extra["dynamics"], known, outcome_dim)
    held = tree.get("ensembles", {})
    learned = [from_dict(models.Fitted, held[name]) if name in held else () for name in models.Ensembles._fields]
    limit = tree["threshold"]
    limits = models.Limits(limit, tree.get("next_threshold", np.zeros_like(limit)))
    tasks = tuple(Task.from_json(task) for task in card.tasks)
    return Asked(kit.judge(), models.Ensembles(*learned), task_rows(tasks), limits)


def want_own(artifact: Any, log: Any, make: str) -> None:
    """Raises WrongKind where the relabelled-log was made of another log than this, or of other bits of it: its rows
    are numbers of that one's. `make` is the command that makes one of this."""
    made_from = artifact.card.parents["log"]
    if made_from.id != log.card.id:
        raise WrongKind(f"{artifact.card.id} was made of another log than {log.card.id}: {made_from.id}", make)
    if made_from.digest != log.card.digest:
        cause = f"{artifact.card.id} was made of other bits of the log {log.card.id}: {made_from.digest[:8]}"
        raise WrongKind(cause, f"{make} --force")


def spliced(artifact: Any, logs: Sequence[Log]) -> Log:
    """The logs `[T, ...]` whose trials are mixed, in numpy: own episodes, others in the places that they were given. Of
    several mixes all, one behind the other: whole trials, and what is left of the log at the end.

    `logs` are the artifact's parents as they were read, `[T, ...]` each, the log itself first.
    """
    _want(artifact, "whole episodes", "omrl relabel --set unit=episode", unit="episode")
    if len(logs) != len(artifact.card.extra["logs"]):
        raise WrongKind(
            f"{artifact.card.id} was made of {len(artifact.card.extra['logs'])} logs, here are {len(logs)}",
            f"omrl lineage {artifact.card.id}",
        )
    config, horizon = resolve(RelabelConfig, artifact.card.config), artifact.card.extra["horizon"]
    made = []
    for i, found in enumerate(rows(artifact)):
        own = _one(logs[0], i)
        bounds = spans(own)
        in_trials = num_whole(own, horizon) // config.trial_episodes * config.trial_episodes
        episodes = np.concatenate([*[bounds[:in_trials]] * (config.mixes - 1), bounds])
        made.append(_spliced(found, logs, i, episodes)._asdict())
    return stack_logs(made)


def _spliced(found: Relabelled, logs: Sequence[Log], i: int, episodes: np.ndarray) -> Log:
    """One task's mixed log; `episodes [E, 2]` are the own ones, as `spans` has them."""
    own, parts = _one(logs[0], i), []
    for number, (begin, end) in enumerate(episodes):
        first, last = np.searchsorted(found.place, [number, number + 1])
        source, reward = own, own.reward[begin:end]
        if last > first:
            source = _one(logs[int(found.log[first])], int(found.task[first]))
            begin, end, reward = int(found.row[first]), int(found.row[last - 1]) + 1, found.reward[first:last]
        parts.append(_episode(source, begin, end, reward, number))
    joined: Any = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Log(**joined, size=np.int32(len(joined["reward"])))  # type: ignore[arg-type]


def _one(logs: Log, t: int) -> Log:
    return Log(*(column[t] for column in logs))


def _episode(log: Log, begin: int, end: int, reward: Any, number: int) -> dict[str, Any]:
    """The columns of rows begin to end as episode `number`."""
    slot = begin + int(log.episode[begin])
    cut = {name: getattr(log, name)[begin:end] for name in Log._fields if name not in ("obs", "size")}
    return cut | {
        "obs": log.obs[slot : slot + end - begin + 1],
        "reward": reward,
        "episode": np.full(end - begin, number, np.int32),
    }


def _want(artifact: Any, what: str, command: str, **wanted: str) -> None:
    extra = artifact.card.extra
    if any(extra[name] != value for name, value in wanted.items()):
        raise WrongKind(
            f"{artifact.card.id} does not hold {what}: unit={extra['unit']}, apply={extra['apply']}", command
        )
