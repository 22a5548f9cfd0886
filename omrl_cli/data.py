"""`omrl import`, `omrl export`, `omrl inspect`: a user's own logs in, out, and looked at."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from omrl_cli import console, launch, plan
from omrl_cli.launch import How, Order
from omrl_cli.options import Common, OneStage
from omrl_cli.orders import configure, find_parent, spec_of
from pipelines.core import sources
from pipelines.core.configs.base import nearest
from pipelines.core.errors import StageFailed, UsageError
from pipelines.store.card import Card
from pipelines.store.shelf import Shelf

EXPORTS = ("borel", "minari", "npz")
FITS = {"yes": "fits", "care": "with care", "no": "does not fit"}
MOST_SQUARES = 10  # tasks of a heat map in text
SHADES = " ░▒▓█"


# ------------------------------------------------------------------------------------------------------ import
def import_(common: OneStage, source: Path, mapping: Path | None, flags: Mapping[str, Any]) -> None:
    """`omrl import`: prints what was read, the verdict on it, and the id."""
    order = _order(common, source, mapping, flags)
    shelf, how = Shelf(common.store), How.of(common)
    if common.dry_run:
        console.talk(launch.indented(order), console.VERBOSE)
        plan.show([plan.row(order, shelf, how, shelf.cards())], common.as_json)
        return
    card, made = launch.execute(order, shelf, how)
    report = json.loads(shelf.artifact(card).file("inspect.json").read_text())
    if common.as_json:
        fields = {"id", "generation", "digest", "kind", "stage", "seed", "config", "metrics", "seconds"}
        told = {"alias": shelf.alias(card.id), "made": made, **card.model_dump(mode="json", include=fields)}
        console.out_json({**told, "tasks": card.tasks, "inspect": report})
        return
    console.out(summary(report["tasks"]))
    console.out("\n" + verdict(report["verdict"]) + "\n")
    console.out(card.id)


def _order(common: OneStage, source: Path, mapping: Path | None, flags: Mapping[str, Any]) -> Order:
    """The format is found out here, so that the config says it, and the same files are the same artifact."""
    spec = spec_of("import")
    path = sources.find(str(source))
    given = {**flags, "source": str(source), "mapping": _mapping(mapping)}
    if mapping is not None and flags.get("format") in (None, "auto"):
        given["format"] = "mapping"
    config: Any = configure(spec, common.preset, common.config, given, common.sets)
    if config.format == "auto":
        from pipelines.formats import detect

        found, why = ("mapping", "there is a mapping") if config.mapping is not None else detect(path)
        console.talk(f"import: {source} is {found}: {why}")
        config = config.model_copy(update={"format": found})
    return Order(spec, config, common.seed or 0, {}, common.name)


def _mapping(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"--mapping {path}: {' '.join(str(error).split())}", "docs/logs.md shows one") from error
    if not isinstance(found, dict):
        raise UsageError(f"--mapping {path} holds no mapping", "it has `columns:` and `tasks:`; docs/logs.md shows one")
    return found


# ------------------------------------------------------------------------------------------------------ export
def export(common: Common, ref: str, target: Path, format: str, force: bool) -> None:
    """`omrl export`: prints the folder."""
    if format not in EXPORTS:
        raise UsageError(f"unknown format {format!r}", nearest(format, list(EXPORTS), "formats"))
    artifact = Shelf(common.store).artifact(_log(common, ref))
    _prepare()
    from pipelines.stages import export as stage

    names = list(stage.export(artifact, target, format, force))
    console.talk(f"export: {len(names)} task(s) of {artifact.card.ref} as {format}")
    if common.as_json:
        console.out_json({"log": artifact.card.ref, "format": format, "path": str(target), "tasks": names})
    else:
        console.out(str(target))


# ------------------------------------------------------------------------------------------------------ inspect
def inspect(common: Common, ref: str, files: Mapping[str, Path], force: bool) -> None:
    """`omrl inspect`: prints tables and the verdict; `files` has html and figure as far as asked for."""
    for kind, path in files.items():
        wanted = {"html": (".html", ".htm"), "figure": (".png",)}[kind]
        if path.suffix not in wanted:
            raise UsageError(f"--{kind} {path}", f"its name must end in {' or '.join(wanted)}")
        if path.exists() and not force:
            raise UsageError(f"{path} exists", "--force overwrites it")
    card = _log(common, ref)
    artifact = Shelf(common.store).artifact(card)
    _prepare()
    from pipelines.stages import inspect as stage

    seen = stage.look(list(card.tasks), artifact.arrays(), card.extra)
    if "figure" in files and seen.pairs is None:
        raise UsageError(f"{ref} has one task: there are no pairs to draw", "--html shows its returns")
    makers: dict[str, Callable[[Any], bytes]] = {
        "html": lambda views: views.page(seen, f"{card.name}: will this log work?").encode(),
        "figure": lambda views: views.picture(seen),
    }
    for kind, path in files.items():
        from pipelines.stages import inspect_views

        _write(path, makers[kind](inspect_views))
    told = stage.finite(seen.to_json())
    if common.as_json:
        console.out_json({"log": card.ref, **told, "files": {kind: str(path) for kind, path in files.items()}})
        return
    console.out(summary(told["tasks"]))
    if told["pairs"]:
        names = [row["task"] for row in told["tasks"]]
        evidence = [list(map(max, *rows)) for rows in zip(*(told["pairs"][n] for n in EVIDENCE), strict=True)]
        for title, matrix in (
            (
                "share of the rows of a task (down) whose state and action are known in another (across)",
                told["pairs"]["both"],
            ),
            ("the same, in the last third of the episodes", told["pairs"]["late"]),
            ("share of rows that are known, and pay or lead elsewhere, in another", evidence),
        ):
            console.out(f"\n{title}\n{squares(names, matrix)}")
    console.out("\n" + verdict(told["verdict"]))


EVIDENCE = ("reward_evidence", "change_evidence")


def _write(path: Path, content: bytes) -> None:
    """By rename: whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StageFailed(f"cannot write {path}: {error.strerror}", "name another place") from error
    console.talk(f"inspect: wrote {path} ({console.size(len(content))})")


def _log(common: Common, ref: str) -> Card:
    """The card of a replay-log. Raises InputMissing, WrongKind."""
    return find_parent(spec_of("train"), "log", ref, Shelf(common.store))


def _prepare() -> None:
    from pipelines.core import platform

    platform.prepare()


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
