"""`omrl metatrain --online`: two artifacts, the log that the policy was learned from while it grew, and the policy."""

from collections.abc import Mapping
from typing import Any

from omrl_cli import console, launch, plan, stage
from omrl_cli.launch import How, Order
from omrl_cli.options import OneStage
from omrl_cli.orders import configure, spec_of
from pipelines.core.configs.base import nearest, resolve
from pipelines.core.configs.online import OnlineConfig
from pipelines.core.errors import UsageError
from pipelines.store.card import Card
from pipelines.store.shelf import Shelf


def run(common: OneStage, given: Mapping[str, str | None], algorithm: str | None) -> None:
    """Prints the id of the meta-policy; its card's parent is the log. Raises UsageError for a log that was given, and
    for an algorithm that learns from logs only."""
    for role, ref in given.items():
        if ref is not None:
            hint = f"leave --{role} out, or --online; the family: --set family=NAME"
            raise UsageError(f"--online makes a log of its own, --{role} {ref} is not read", hint)
    if algorithm is not None and algorithm not in OnlineConfig.AGENTS:
        raise UsageError(
            f"{algorithm} does not learn online", nearest(algorithm, list(OnlineConfig.AGENTS), "these do")
        )
    with launch.joined(common) as how:
        flags = {"algorithm": algorithm}
        config: Any = configure(spec_of("online"), common.preset, common.config, flags, common.sets)
        made = Order(spec_of("online"), config, common.seed or 0, {})
        taken = resolve(spec_of("metatrain").config, {"algorithm": config.algorithm, "online": True})
        policy = Order(spec_of("metatrain"), taken, made.seed, {"log": made.id}, common.name)
        shelf = common.shelf()
        if common.dry_run:
            _show([made, policy], shelf, common, how)
            return
        card, was_made = _both(made, policy, shelf, how)
    if common.as_json:
        console.out_json(stage.told(card, was_made, shelf))
    else:
        console.out(card.id)


def _both(made: Order, policy: Order, shelf: Shelf, how: How) -> tuple[Card, bool]:
    launch.execute(made, shelf, how, "metatrain --online")
    return launch.execute(policy, shelf, how)


def _show(orders: list[Order], shelf: Shelf, common: OneStage, how: How) -> None:
    """The plan of a dry run."""
    cards, subjects = shelf.cards(), dict[str, plan.Subject]()
    rows: list[plan.Row] = []
    for order in orders:
        console.talk(launch.indented(order), console.VERBOSE)
        moving = {row.id for row in rows if row.state != plan.UP_TO_DATE}
        rows.append(plan.row(order, shelf, how, cards, moving, subjects=subjects))
    plan.show(rows, common.as_json)
