"""From what the user typed to an Order: the layers of its config, its parents, its seed."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipelines.core.configs.base import Config, merge, nearest, parse_set, resolve
from pipelines.core.errors import InputMissing, UsageError, WrongKind
from pipelines.core.own import refuse_unknown
from pipelines.stages.presets import PRESETS
from pipelines.stages.registry import STAGES, Role, StageSpec
from pipelines.store.card import Card
from pipelines.store.shelf import Shelf

Layer = Mapping[str, Any]
CANDIDATES = 5  # how many artifacts a hint lists


def spec_of(stage: str) -> StageSpec:
    """The stage of that name. Raises UsageError."""
    if stage not in STAGES:
        raise UsageError(f"unknown stage {stage!r}", nearest(stage, list(STAGES), "stages"))
    return STAGES[stage]


def preset_layer(stage: str, preset: str | None) -> Layer:
    """A preset's differences from the defaults. Raises UsageError."""
    if preset is None:
        return {}
    if preset not in PRESETS[stage]:
        raise UsageError(f"unknown preset {preset!r} of {stage}", nearest(preset, list(PRESETS[stage]), "presets"))
    return PRESETS[stage][preset]


def file_layer(path: Path | None) -> Layer:
    """The fields in a YAML file. Raises UsageError."""
    return {} if path is None else yaml_file("config", path, "write one `field: value` a line")


def yaml_file(option: str, path: Path, hint: str) -> dict[str, Any]:
    """The mapping in the file that an option names; an empty file is an empty one. Raises UsageError."""
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"--{option} {path}: {' '.join(str(error).split())}", hint) from error
    if not isinstance(data, dict | None):
        raise UsageError(f"--{option} {path} holds no mapping", hint)
    return data or {}


def environment_layer() -> Layer:
    """OMRL_SET="a=1;b.c=2". Raises UsageError."""
    return set_layer([part.strip() for part in os.environ.get("OMRL_SET", "").split(";") if part.strip()])


def set_layer(assignments: Sequence[str] | None) -> Layer:
    """Every `--set field=value`, later ones first in rank. Raises UsageError."""
    return merge(*map(parse_set, assignments or ()))


def configure(
    spec: StageSpec,
    preset: str | None,
    file: Path | None = None,
    flags: Layer | None = None,
    sets: Sequence[str] | None = None,
) -> Config:
    """The config of one stage: preset < file < environment < flag < --set. Raises UsageError naming the field, or a
    family that nobody offers; InputMissing for a family's file that is not there."""
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    layers = preset_layer(spec.name, preset), file_layer(file), environment_layer(), given, set_layer(sets)
    config = resolve(spec.config, *layers)
    if name := getattr(config, "family", ""):
        refuse_unknown(name)
    return config


# ------------------------------------------------------------------------------------------------------ parents
def find_parents(spec: StageSpec, refs: Mapping[str, Sequence[str]], shelf: Shelf) -> dict[str, Card | list[Card]]:
    """The cards that the roles of a stage get.

    Raises InputMissing and WrongKind, which name what is wanted and list what there is of it, and UsageError for two
    where one is wanted.
    """
    found: dict[str, Card | list[Card]] = {}
    for name, role in spec.consumes.items():
        given = list(refs.get(name) or ())
        if not given and role.required:
            raise InputMissing(f"{spec.name} needs --{name}, a {_kinds(role)}", _candidates(role, shelf))
        if len(given) > 1 and not role.many:
            raise UsageError(f"{spec.name} takes one --{name}, got {len(given)}", "run it once for each")
        cards = [find_parent(spec, name, ref, shelf) for ref in given]
        if cards:
            found[name] = cards if role.many else cards[0]
    return found


def find_parent(spec: StageSpec, name: str, ref: str, shelf: Shelf) -> Card:
    """The card of one reference, its kind and version checked."""
    role = spec.consumes[name]
    try:
        card = shelf.find(ref)
    except InputMissing as error:
        hint = error.hint if "did you mean" in error.hint else _candidates(role, shelf)
        raise InputMissing(f"--{name}: {error.cause}", hint) from error
    if card.kind not in role.kinds:
        raise WrongKind(f"--{name} wants a {_kinds(role)}, {ref} is a {card.kind}", _candidates(role, shelf))
    maker = STAGES.get(card.stage)
    if maker is None or maker.version != card.version:
        here = "which this omrl lacks" if maker is None else f"this omrl has version {maker.version}"
        cause = f"--{name}: {ref} was made by {card.stage} version {card.version}, {here}"
        raise WrongKind(cause, f"make it again with `omrl {card.stage}`, or use the omrl that made it")
    return card


def _kinds(role: Role) -> str:
    return " or ".join(role.kinds)


def _candidates(role: Role, shelf: Shelf) -> str:
    """What of the wanted kinds the store has, newest first; else which stage makes it."""
    cards = [card for card in reversed(shelf.cards()) if card.kind in role.kinds]
    if cards:
        more = (
            f" and {len(cards) - CANDIDATES} more (`omrl ls --kind {role.kinds[0]}`)" if len(cards) > CANDIDATES else ""
        )
        return "there is " + ", ".join(shelf.alias(card.id) for card in cards[:CANDIDATES]) + more
    makers = " or ".join(
        f"`omrl {spec.command or spec.name}`" for spec in STAGES.values() if spec.produces in role.kinds
    )
    return f"there is none in {shelf.root} yet; {makers} makes one"


def seed_of(parents: Mapping[str, Card | list[Card]]) -> int:
    """The seed of the chain that the parents belong to, 0 where they differ or there are none."""
    seeds = {card.seed for found in parents.values() for card in (found if isinstance(found, list) else [found])}
    return seeds.pop() if len(seeds) == 1 else 0


def refs_of(parents: Mapping[str, Card | list[Card]]) -> dict[str, str | list[str]]:
    """What an Order refers to its parents by: these very generations."""
    return {
        role: [card.ref for card in found] if isinstance(found, list) else found.ref for role, found in parents.items()
    }
