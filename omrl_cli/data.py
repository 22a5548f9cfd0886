"""`omrl import`, `omrl export`, `omrl inspect`: a user's own logs in, out, and looked at."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omrl_cli import console, files, launch, stage
from omrl_cli.launch import Order
from omrl_cli.options import Common, OneStage
from omrl_cli.orders import configure, find_parent, spec_of, yaml_file
from pipelines.core import platform, sources
from pipelines.core.configs.base import nearest
from pipelines.core.errors import UsageError
from pipelines.store.artifact import StoredArtifact

EXPORTS = ("borel", "minari", "npz")
FITS = {"yes": "fits", "care": "with care", "no": "does not fit"}
MOST_SQUARES = 10  # tasks of a heat map in text
SHADES = " ░▒▓█"


# ------------------------------------------------------------------------------------------------------ import
def import_(common: OneStage, source: Path, mapping: Path | None, flags: Mapping[str, Any]) -> None:
    """`omrl import`: prints what was read, the verdict on it, and the id."""
    order, shelf = _order(common, source, mapping, flags), common.shelf()
    with launch.joined(common) as how:
        done = stage.carry_out(order, shelf, common, how)
    if done is None:
        return
    card, made = done
    report = json.loads(shelf.artifact(card).file("inspect.json").read_text())
    if common.as_json:
        console.out_json({**stage.told(card, made, shelf), "tasks": card.tasks, "inspect": report})
        return
    console.out(summary(report["tasks"]))
    console.out("\n" + verdict(report["verdict"]) + "\n")
    console.out(card.id)


def _order(common: OneStage, source: Path, mapping: Path | None, flags: Mapping[str, Any]) -> Order:
    """The format is found out here, so that the config says it, and the same files are the same artifact."""
    spec = spec_of("import")
    path = sources.find(str(source))
    given = {**flags, "source": str(source), "mapping": None if mapping is None else _mapping(mapping)}
    if mapping is not None and flags.get("format") in (None, "auto"):
        given["format"] = "mapping"
    config: Any = configure(spec, common.preset, common.config, given, common.sets)
    if config.format == "auto":
        from pipelines.formats import detect

        found, why = ("mapping", "there is a mapping") if config.mapping is not None else detect(path)
        console.talk(f"import: {source} is {found}: {why}")
        config = config.model_copy(update={"format": found})
    return Order(spec, config, common.seed or 0, {}, common.name)


def _mapping(path: Path) -> dict[str, Any]:
    hint = "it has `columns:` and `tasks:`; docs/logs.md shows one"
    if found := yaml_file("mapping", path, hint):
        return found
    raise UsageError(f"--mapping {path} is empty", hint)


# ------------------------------------------------------------------------------------------------------ export
def export(common: Common, ref: str, target: Path, format: str, force: bool) -> None:
    """`omrl export`: prints the folder."""
    if format not in EXPORTS:
        raise UsageError(f"unknown format {format!r}", nearest(format, list(EXPORTS), "formats"))
    artifact = _log(common, ref)
    platform.prepare()
    from pipelines.stages import export as exporting

    names = list(exporting.export(artifact, target, format, force))
    console.talk(f"export: {len(names)} task(s) of {artifact.card.ref} as {format}")
    if common.as_json:
        console.out_json({"log": artifact.card.ref, "format": format, "path": str(target), "tasks": names})
    else:
        console.out(str(target))


# ------------------------------------------------------------------------------------------------------ inspect
def inspect(common: Common, ref: str, outputs: Mapping[str, Path], force: bool) -> None:
    """`omrl inspect`: prints tables and the verdict; `outputs` has html and figure as far as asked for."""
    files.check(outputs, force)
    artifact = _log(common, ref)
    card = artifact.card
    platform.prepare()
    from pipelines.stages import inspect as inspection

    seen = inspection.look(list(card.tasks), artifact.arrays(), card.extra)
    if "figure" in outputs and seen.pairs is None:
        raise UsageError(f"{ref} has one task: there are no pairs to draw", "--html shows its returns")
    if outputs:
        from pipelines.stages import inspect_views

        title = f"{card.name}: will this log work?"
        for kind, path in outputs.items():
            html = kind == "html"
            content = inspect_views.page(seen, title).encode() if html else inspect_views.picture(seen)
            files.write(path, content, "inspect")
    told = inspection.finite(seen.to_json())
    if common.as_json:
        console.out_json({"log": card.ref, **told, "files": {kind: str(path) for kind, path in outputs.items()}})
        return
    console.out(summary(told["tasks"]))
    if told["pairs"]:
        console.out(_overlap([row["task"] for row in told["tasks"]], told["pairs"]))
    console.out("\n" + verdict(told["verdict"]))


def _overlap(names: Sequence[str], pairs: Mapping[str, Any]) -> str:
    """Heat maps of how much two tasks' rows have to do with each other."""
    columns = zip(pairs["reward_evidence"], pairs["change_evidence"], strict=True)
    evidence = [list(map(max, *rows)) for rows in columns]
    maps = {
        "share of the rows of a task (down) whose state and action are known in another (across)": pairs["both"],
        "the same, in the last third of the episodes": pairs["late"],
        "share of rows that are known, and pay or lead elsewhere, in another": evidence,
    }
    return "\n".join(f"\n{title}\n{squares(names, matrix)}" for title, matrix in maps.items())


def _log(common: Common, ref: str) -> StoredArtifact:
    """A replay-log. Raises InputMissing, WrongKind."""
    shelf = common.shelf()
    return shelf.artifact(find_parent(spec_of("train"), "log", ref, shelf))


# ------------------------------------------------------------------------------------------------------ tables
def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line for each task."""
    values = [value for row in rows for value in row["over_time"]]
    low, high = min(values), max(values)
    from pipelines.stages.sparks import sparkline

    head = (
        "task",
        "transitions",
        "episodes",
        "length",
        "return 5%",
        "50%",
        "95%",
        "coverage",
        "actions",
        "returns over time",
    )
    names = ("transitions", "episodes", "length", "return_5", "return_50", "return_95", "coverage", "action_spread")
    return console.table(
        head, [(row["task"], *(row.get(n) for n in names), sparkline(row["over_time"], low, high)) for row in rows]
    )


def verdict(judgements: Sequence[Mapping[str, Any]]) -> str:
    """One line for each method: whether it fits, and why."""
    return console.table(
        ("method", "", "because"), [(one["method"], FITS[one["fits"]], one["reason"]) for one in judgements]
    )


def squares(names: Sequence[str], matrix: Sequence[Sequence[float | None]]) -> str:
    """A heat map in text: numbers for few tasks, shades for many."""
    if len(names) <= MOST_SQUARES:
        rows = [
            (name, *("-" if v is None else f"{v:.2f}" for v in row)) for name, row in zip(names, matrix, strict=True)
        ]
        return console.table(("", *names), rows)
    shades = ["".join(SHADES[min(4, int(5 * (v or 0.0)))] * 2 for v in row) for row in matrix]
    return (
        console.table(("", ""), list(zip(names, shades, strict=True)))
        + "\n"
        + " ".join(f"{shade * 2 or '  '} from {i * 0.2:.1f}" for i, shade in enumerate(SHADES))
    )
