"""`omrl rollout`: plays a policy, or an actor that was written, and says or shows how it went. Stores nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omrl_cli import console, files
from omrl_cli.options import Common
from omrl_cli.orders import find_parent, spec_of
from pipelines.core.configs.base import nearest
from pipelines.core.errors import UsageError
from pipelines.core.names import SPLITS
from pipelines.core.own import refuse_unknown

MATCHES = ("own", "nearest")
MOST_NAMES = 30  # of tasks, in a hint


@dataclass(frozen=True)
class Request:
    """What the command line says."""

    policy: str | None
    actor: str | None
    family: str | None
    split: str
    tasks: Sequence[str]
    episodes: int
    seed: int
    match: str
    outputs: dict[str, Path]  # video, html, picture, as far as asked for
    force: bool


def run(common: Common, request: Request) -> None:
    """Everything that can be refused is refused before anything is played, and as much as can be without jax."""
    _check(request)
    artifact, name, protocol = None, request.family, False
    if request.policy is not None:
        shelf = common.shelf()
        artifact = shelf.artifact(find_parent(spec_of("eval"), "policy", request.policy, shelf))
        name = name or str(artifact.card.extra["family"])
        protocol = request.family is None
    assert name is not None
    refuse_unknown(name)

    from pipelines.core import platform

    platform.prepare()
    from pipelines.stages import pictures, rollout
    from pipelines.tasks import registry

    # a bare name is played as its paper evaluates it; a name with options is played as it says
    family = registry.find(name, evaluation=protocol or "," not in name)
    if family.name != name:
        console.talk(f"rollout: plays {family.name}, as the protocol of evaluation says")
    tasks = _chosen(family, request)
    if "video" in request.outputs:
        pictures.check_video(family, request.outputs["video"].suffix)
    if "html" in request.outputs:
        pictures.check_page(family)
    if artifact is None:
        actor = rollout.scripted(request.actor or "random", family, tasks)
    else:
        actor = rollout.learned(artifact, family, tasks, request.match)
    episodes = rollout.play(family, tasks, actor, request.episodes, request.seed)
    _draw(family, tasks, actor, episodes, request)
    _say(common, request, family, actor.name, _rows(tasks, episodes))


def _check(request: Request) -> None:
    """Raises UsageError for what contradicts itself, and for a file that is there already."""
    if request.policy is not None and request.actor is not None:
        raise UsageError("--policy and --actor together", "one of them plays")
    if request.policy is None and request.family is None:
        raise UsageError("rollout needs --family, or --policy", "`omrl families` and `omrl ls` list them")
    for option, value, known in (("split", request.split, SPLITS), ("match", request.match, MATCHES)):
        if value not in known:
            raise UsageError(f"unknown {option} {value!r}", nearest(value, list(known), f"{option}s"))
    files.check(request.outputs, request.force)


def _chosen(family: Any, request: Request) -> tuple[Any, ...]:
    tasks = family.tasks(request.split)
    if not tasks:
        some = [split for split in SPLITS if family.tasks(split)]
        raise UsageError(f"{family.name} has no {request.split} tasks", f"--split {' or --split '.join(some)}")
    by_name = {task.name: task for task in tasks}
    for name in request.tasks:
        if name not in by_name:
            hint = (
                nearest(name, list(by_name), "tasks")
                if len(by_name) <= MOST_NAMES
                else f"`omrl families {family.name}`"
            )
            raise UsageError(f"{family.name} has no {request.split} task {name!r}", hint)
    return tuple(by_name[name] for name in dict.fromkeys(request.tasks)) or tuple(tasks)


# ---- showing ---------------------------------------------------------------------------------------------------------


def _draw(family: Any, tasks: Any, actor: Any, episodes: Any, request: Request) -> None:
    """The pictures that were asked for. Film and page show the first task's first episode."""
    from pipelines.stages import pictures, rollout

    out = request.outputs
    if "picture" in out:
        files.write(out["picture"], pictures.from_above(family, tasks, episodes.path), "rollout")
        if len(tasks) > pictures.MOST_PANELS:
            console.talk(
                f"rollout: the picture shows {pictures.MOST_PANELS} of {len(tasks)} tasks; --task picks others"
            )
    if "video" in out or "html" in out:
        draw = "video" in out
        watched = rollout.watch(family, tasks, 0, actor, request.episodes, request.seed, draw)
        console.talk(f"rollout: shows task {watched.task.name}, an episode of return {watched.rewards.sum():.4g}")
        if draw:
            files.write(out["video"], pictures.video(family, watched, out["video"].suffix), "rollout")
        if "html" in out:
            files.write(out["html"], pictures.page(family, watched).encode(), "rollout")


def _rows(tasks: Any, episodes: Any) -> list[dict[str, Any]]:
    """One for each task: the mean return over its episodes, its standard error, and the episodes themselves."""
    rows = []
    for task, returns, lengths in zip(tasks, episodes.returns, episodes.length, strict=True):
        row = {"task": task.name, "return": float(returns.mean()), "standard_error": _error(returns)}
        rows.append(row | {"length": float(lengths.mean()), "returns": returns.tolist(), "lengths": lengths.tolist()})
    return rows


def _error(values: Any) -> float | None:
    """Of the mean of `values` [P]; None for one value."""
    return float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None


def _say(common: Common, request: Request, family: Any, actor: str, rows: Any) -> None:
    mean = sum(row["return"] for row in rows) / len(rows)
    # tasks are the list's, not a sample: what is left to chance are their episodes
    errors = [row["standard_error"] for row in rows]
    error = None if None in errors else sum(one**2 for one in errors) ** 0.5 / len(rows)
    if common.as_json:
        told = {"family": family.name, "actor": actor, "split": request.split, "episodes": request.episodes}
        told |= {"seed": request.seed, "horizon": family.horizon, "return": mean, "standard_error": error}
        console.out_json({**told, "tasks": rows, "files": {kind: str(path) for kind, path in request.outputs.items()}})
        return
    table = [(row["task"], row["return"], row["standard_error"], row["length"]) for row in rows]
    if len(rows) > 1:
        table.append(("all tasks", mean, error, sum(row["length"] for row in rows) / len(rows)))
    cells = [[task, *map(console.cell, (value, error, length))] for task, value, error, length in table]
    console.out(console.table(("task", "return", "± s.e.", "steps"), cells))
