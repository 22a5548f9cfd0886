"""Looking into the store. Reads cards, never arrays (except `verify`), and imports no jax."""

from collections.abc import Iterator, Mapping
from typing import Any

from omrl_cli import console
from omrl_cli.options import Common
from omrl_cli.standing import unfinished
from pipelines.core.configs.base import flatten, nearest
from pipelines.core.errors import UsageError
from pipelines.store.card import Card, Parent
from pipelines.store.shelf import Shelf

Known = Mapping[tuple[str, str], Card]  # by id and digest


def ls(common: Common, kind: str | None) -> None:
    """`omrl ls`: the newest generation of every artifact, newest last; damaged and unfinished ones on stderr."""
    shelf = common.shelf()
    cards = shelf.cards()
    if kind is not None:
        _check_kind(kind, cards)
        cards = [card for card in cards if card.kind == kind]
    names = _names(shelf)
    if common.as_json:
        console.out_json({"artifacts": [_brief(card, names) for card in cards]})
    elif cards:
        rows = [
            (names.get(c.id, "-"), c.id, c.generation, c.seed, _when(c), console.duration(c.seconds)) for c in cards
        ]
        console.out(console.table(("alias", "id", "generation", "seed", "made", "took"), rows))
    else:
        console.talk(f"nothing in {shelf.root} yet; `omrl run time-point` fills it")
    for error in shelf.damaged:
        console.talk(f"damaged: {error.cause}")
    for work in shelf.work_dirs():
        cursor = unfinished(work.id, shelf)
        state = "running" if work.pid is not None else "unfinished, --resume continues it"
        if work.pid is not None or cursor is not None:
            console.talk(f"{state}: {work.id}" + (f" at {cursor}" if cursor is not None else ""))


def _names(shelf: Shelf) -> dict[str, str]:
    """id -> its first alias."""
    return {id: alias for alias, id in reversed(shelf.aliases().items())}


def _check_kind(kind: str, cards: list[Card]) -> None:
    from pipelines.stages.registry import STAGES

    kinds = sorted({spec.produces for spec in STAGES.values()} | {card.kind for card in cards})
    if kind not in kinds:
        raise UsageError(f"unknown kind {kind!r}", nearest(kind, kinds, "kinds"))


def _brief(card: Card, names: Mapping[str, str]) -> dict[str, Any]:
    fields = {"id", "generation", "kind", "name", "stage", "seed", "created", "seconds", "metrics"}
    return {"alias": names.get(card.id)} | card.model_dump(mode="json", include=fields)


def _when(card: Card) -> str:
    return card.created[:16].replace("T", " ")


def show(common: Common, ref: str) -> None:
    """`omrl show`: the card; as text without the files' hashes."""
    shelf = common.shelf()
    card = shelf.find(ref)
    data = card.model_dump(mode="json")
    head = {"alias": shelf.alias(card.id), "path": str(shelf.folder(card.id, card.generation))}
    if common.as_json:
        console.out_json(data | head)
        return
    data["tasks"] = [task.get("name", task.get("id")) for task in card.tasks]
    data["arrays"] = {path: f"{leaf.dtype} {list(leaf.shape)}" for path, leaf in card.arrays.items()}
    data["files"] = sorted(path.removeprefix("files/") for path in card.files if path.startswith("files/"))
    console.out(console.as_yaml(head | {name: value for name, value in data.items() if value not in ([], {}, None)}))


# ------------------------------------------------------------------------------------------------------ lineage
def lineage(common: Common, ref: str) -> None:
    """`omrl lineage`: a tree whose leaves are the roots."""
    shelf = common.shelf()
    card = shelf.find(ref)
    known = {(one.id, one.digest): one for one in shelf.cards(every_generation=True)}
    names = _names(shelf)
    if common.as_json:
        console.out_json(_nested(card, known, names))
        return
    console.out("\n".join([_line(card, names), *_branches(card, known, names)]))


def _roles(card: Card) -> list[tuple[str, Parent]]:
    return [
        (role, one) for role, found in card.parents.items() for one in (found if isinstance(found, list) else [found])
    ]


def _line(card: Card, names: Mapping[str, str]) -> str:
    return f"{names.get(card.id, card.kind)}  {card.ref}  {card.stage} seed {card.seed}"


def _branches(card: Card, known: Known, names: Mapping[str, str]) -> Iterator[str]:
    roles = _roles(card)
    for number, (role, parent) in enumerate(roles):
        last = number == len(roles) - 1
        found = known.get((parent.id, parent.digest))
        line = _line(found, names) if found else f"{parent.id}  these bits are not in this store"
        yield f"{'└─' if last else '├─'} {role}: {line}"
        for below in _branches(found, known, names) if found else ():
            yield f"{'  ' if last else '│ '} {below}"


def _nested(card: Card, known: Known, names: Mapping[str, str]) -> dict[str, Any]:
    above: dict[str, list[Any]] = {}
    for role, parent in _roles(card):
        found = known.get((parent.id, parent.digest))
        missing = {"id": parent.id, "digest": parent.digest, "missing": True}
        above.setdefault(role, []).append(_nested(found, known, names) if found else missing)
    return {
        "alias": names.get(card.id),
        "ref": card.ref,
        "digest": card.digest,
        "stage": card.stage,
        "seed": card.seed,
    } | {"parents": above}


# ------------------------------------------------------------------------------------------------------ diff
def diff(common: Common, first: str, second: str) -> None:
    """`omrl diff`: where two cards differ, section by section."""
    shelf = common.shelf()
    one, other = shelf.find(first), shelf.find(second)
    here, there = facts(one), facts(other)
    pairs = {name: _pairs(here[name], there[name]) for name in here}
    if common.as_json:
        console.out_json({"a": one.ref, "b": other.ref} | {name: dict(rows) for name, rows in pairs.items()})
        return
    console.out(f"A  {shelf.alias(one.id)}  {one.ref}\nB  {shelf.alias(other.id)}  {other.ref}")
    for name, rows in pairs.items():
        if rows and name == "metrics":
            console.out("\n" + console.table((name, "A", "B", "B - A"), [(key, *ab, _minus(*ab)) for key, ab in rows]))
        elif rows:
            console.out("\n" + console.table((name, "A", "B"), [(key, *map(console.cell, ab)) for key, ab in rows]))
    if not any(pairs.values()):
        console.out("\nno difference")


def facts(card: Card) -> dict[str, dict[str, Any]]:
    """Section -> field -> value of what `diff` compares."""
    parents: dict[str, str] = {}
    for role, parent in _roles(card):
        parents[role] = f"{parents[role]} {parent.id}" if role in parents else parent.id
    made = {"stage": card.stage, "version": card.version, "seed": card.seed, "digest": card.digest[:12], **parents}
    return {
        "made from": made,
        "config": dict(flatten(card.config)),
        "metrics": dict(card.metrics),
        "program": {"code": card.code.sha256[:12], "git": (card.code.git or "-")[:12], **card.packages},
        "platform": dict(flatten(card.platform)),
    }


def _pairs(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, tuple[Any, Any]]]:
    keys = dict.fromkeys([*one, *other])
    both = [(key, (one.get(key), other.get(key))) for key in keys]
    return [(key, (a, b)) for key, (a, b) in both if a != b]


def _minus(one: Any, other: Any) -> Any:
    numbers = all(isinstance(value, int | float) for value in (one, other))
    return other - one if numbers else None


# ------------------------------------------------------------------------------------------------------ keeping
def verify(common: Common, ref: str) -> None:
    """`omrl verify`: raises CheckFailed if one byte changed."""
    shelf = common.shelf()
    card = shelf.verify(ref)
    if common.as_json:
        console.out_json({"ref": card.ref, "whole": True, "digest": card.digest})
    else:
        console.out(f"{card.ref} is whole, digest {card.digest}")


def gc(common: Common, drop: bool, dry_run: bool) -> None:
    """`omrl gc`: keeps unfinished runs that have a checkpoint, unless told to `drop` them."""
    shelf = common.shelf()
    keep = {work.id for work in shelf.work_dirs() if unfinished(work.id, shelf) is not None and not drop}
    found = shelf.garbage(keep, dry_run)
    freed = sum(one.bytes for one in found)
    if common.as_json:
        rows = [{"path": str(one.path), "bytes": one.bytes, "why": one.why} for one in found]
        console.out_json({"dry_run": dry_run, "bytes": freed, "removed": rows})
        return
    for one in found:
        console.out(f"{one.path}  {console.size(one.bytes)}  {one.why}")
    console.talk(f"{console.size(freed)} {'would be ' if dry_run else ''}freed")
    if keep:
        console.talk(f"kept {len(keep)} unfinished run(s); --unfinished removes them too")
