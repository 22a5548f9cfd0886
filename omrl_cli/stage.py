"""The subcommands that run one stage."""

from collections.abc import Mapping, Sequence
from typing import Any

from omrl_cli import console, launch, plan
from omrl_cli.launch import How, Order
from omrl_cli.options import OneStage
from omrl_cli.orders import configure, find_parents, refs_of, seed_of, spec_of
from pipelines.store.shelf import Shelf


def run(name: str, common: OneStage, refs: Mapping[str, Sequence[str]], flags: Mapping[str, Any]) -> None:
    """`omrl collect`, `train`, ...: prints the id of the artifact, made now or long ago."""
    spec = spec_of(name)
    config = configure(spec, common.preset, common.config, flags, common.sets)
    shelf = Shelf(common.store)
    parents = find_parents(spec, refs, shelf)
    seed = seed_of(parents) if common.seed is None else common.seed
    order = Order(spec, config, seed, refs_of(parents), common.name)
    how = How.of(common)
    if common.dry_run:
        console.talk(launch.indented(order), console.VERBOSE)
        plan.show([plan.row(order, shelf, how, shelf.cards())], common.as_json)
        return
    card, made = launch.execute(order, shelf, how)
    if not common.as_json:
        console.out(card.id)
        return
    console.out_json({"alias": shelf.alias(card.id), "made": made, **_summary(card)})


def _summary(card: Any) -> dict[str, Any]:
    fields = ("id", "generation", "digest", "kind", "stage", "seed", "config", "parents", "metrics", "seconds")
    return card.model_dump(mode="json", include=set(fields))
