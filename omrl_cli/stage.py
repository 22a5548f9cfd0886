"""The subcommands that run one stage."""

from collections.abc import Mapping, Sequence
from typing import Any

from omrl_cli import console, launch, plan
from omrl_cli.launch import How, Order
from omrl_cli.options import OneStage
from omrl_cli.orders import configure, find_parents, refs_of, seed_of, spec_of
from pipelines.store.card import Card
from pipelines.store.shelf import Shelf


def run(name: str, common: OneStage, refs: Mapping[str, Sequence[str]], flags: Mapping[str, Any]) -> None:
    """`omrl collect`, `train`, ...: prints the id of the artifact, made now or long ago."""
    with launch.joined(common) as how:
        spec = spec_of(name)
        config = configure(spec, common.preset, common.config, flags, common.sets)
        shelf = common.shelf()
        parents = find_parents(spec, refs, shelf)
        seed = seed_of(parents) if common.seed is None else common.seed
        done = carry_out(Order(spec, config, seed, refs_of(parents), common.name), shelf, common, how)
    if done is None:
        return
    if common.as_json:
        console.out_json(told(*done, shelf))
    else:
        console.out(done[0].id)


def carry_out(order: Order, shelf: Shelf, common: OneStage, how: How) -> tuple[Card, bool] | None:
    """(card, whether it was made now); None after a dry run, which prints the plan."""
    if not common.dry_run:
        return launch.execute(order, shelf, how)
    console.talk(launch.indented(order), console.VERBOSE)
    plan.show([plan.row(order, shelf, how, shelf.cards())], common.as_json)
    return None


def told(card: Card, made: bool, shelf: Shelf) -> dict[str, Any]:
    """What --json prints of an artifact."""
    fields = {"id", "generation", "digest", "kind", "stage", "seed", "config", "parents", "metrics", "seconds"}
    return {"alias": shelf.alias(card.id), "made": made, **card.model_dump(mode="json", include=fields)}
