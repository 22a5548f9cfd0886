"""One stage: an order, and how it is carried out: up to date? else claim, run, put."""

import contextlib
import importlib
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from omrl_cli import console
from omrl_cli.options import Running
from omrl_cli.standing import decide, each, stand, unfinished
from pipelines.core import platform
from pipelines.core.configs.base import Config
from pipelines.core.crew import ALONE, KEEP, RESUME, RUN, Crew, Dismissed
from pipelines.core.errors import OmrlError, StageFailed
from pipelines.core.interrupt import deferred_interrupt
from pipelines.core.work import Product, Work
from pipelines.stages.registry import StageSpec
from pipelines.store.card import Card, recipe_id
from pipelines.store.checkpoint import DiskCheckpoint
from pipelines.store.shelf import Claim, Shelf

Refs = str | list[str]


class Interrupted(OmrlError):
    """The user, or the system, asked to stop."""

    exit_code = 130


@dataclass(frozen=True)
class How:
    """How to run: what to do with a result, or half of one, that is already there. `coming`: stages that the same
    process runs later, which it loads with the first one, so that all are of the code that cards say."""

    force: bool = False
    resume: bool = False
    accept_stale: bool = False
    devices: int | None = None
    checkpoint_s: float = 60.0
    tasks_at_once: int | None = None
    crew: Crew = ALONE
    coming: tuple[StageSpec, ...] = ()

    @classmethod
    def of(cls, common: Running) -> "How":
        """What the options of a subcommand say. Waits for the other processes, if there are any."""
        done = (common.force, common.resume, common.accept_stale)
        crew = platform.join(common.cluster, common.devices) if common.cluster and not common.dry_run else ALONE
        if not crew.leads:
            console.follow(crew.number)
        return cls(*done, common.devices, common.checkpoint_s, common.tasks_at_once, crew)


@contextlib.contextmanager
def joined(common: Running) -> Iterator[How]:
    """How to run, together with the other processes if there are any: they hear of it if this one fails inside."""
    how = How.of(common)
    with how.crew.together():
        yield how


@dataclass(frozen=True)
class Order:
    """One stage with all that decides its result. `parents[role]` refers to artifacts as `id` (its newest generation,
    whether it exists yet or not) or `id@generation`."""

    spec: StageSpec
    config: Config
    seed: int
    parents: Mapping[str, Refs]
    name: str = ""

    @property
    def id(self) -> str:
        """The id of what this order makes; known before any of its parents is made."""
        ids = {role: each(refs, lambda ref: ref.partition("@")[0]) for role, refs in self.parents.items()}
        return recipe_id(self.spec.name, self.spec.version, self.config, self.seed, ids)

    @property
    def refs(self) -> list[str]:
        """All that `parents` refers to."""
        return [ref for refs in self.parents.values() for ref in ([refs] if isinstance(refs, str) else refs)]

    def __str__(self) -> str:
        return f"{self.spec.name} -> {self.spec.produces} {self.id}  seed {self.seed}"


# ------------------------------------------------------------------------------------------------------ running
def execute(order: Order, shelf: Shelf, how: How, title: str = "") -> tuple[Card, bool]:
    """(card, whether it was made now). Raises what `decide` and the stage raise, Interrupted on Ctrl-C and SIGTERM.

    Of several processes the leader does this, and the others their share of it.
    """
    return (_lead if how.crew.leads else _follow)(order, shelf, how, title or order.spec.name)


def _lead(order: Order, shelf: Shelf, how: How, title: str) -> tuple[Card, bool]:
    standing = stand(order, shelf)
    if standing.cursor is not None and standing.card is None:
        with shelf.claim(order.id):  # if a process is at it, say which, and not that a run was broken off
            pass
    todo = decide(standing, how)
    if todo == "keep" and standing.card:
        accepted = f" (accepted: {standing.why})" if standing.why else ""
        console.talk(f"{title}: up to date {standing.card.ref}{accepted}")
        if order.name:
            shelf.call(standing.card, order.name)
        if standing.cursor is None and shelf.work(order.id).exists():
            # Killed after its artifact was whole: a claim sweeps what it left. (Or another process is at work there.)
            with contextlib.suppress(StageFailed), shelf.claim(order.id):
                pass
        how.crew.meet(KEEP)
        return standing.card, False
    resumed = f"  resuming at {standing.cursor}" if todo == "resume" else ""
    console.talk(f"{title}: {order}{resumed}")
    console.talk(indented(order), console.VERBOSE)
    if not order.spec.divided and (how.tasks_at_once or how.crew.count > 1):
        console.talk(f"{title}: takes all its tasks together, in one process")
    try:
        with shelf.claim(order.id) as claim:
            # Another process may have made it between the look above and the claim.
            if not how.force and todo == "run" and (now := stand(order, shelf)).state == "up to date" and now.card:
                how.crew.meet(KEEP)
                return now.card, False
            return _make(order, shelf, claim, replace(how, resume=todo == "resume"), title), True
    except KeyboardInterrupt:
        cursor = unfinished(order.id, shelf)
        at = "before its first checkpoint" if cursor is None else f"with a checkpoint at {cursor}"
        hint = "run it again" if cursor is None else "the same command with --resume continues there"
        raise Interrupted(f"{title}: interrupted {at}", hint) from None


def _make(order: Order, shelf: Shelf, claim: Claim, how: How, title: str) -> Card:
    cards, inputs = _inputs(order, shelf)
    claim.begin(cards, how.resume)
    how.crew.meet(RESUME if how.resume else RUN)
    start = time.monotonic()
    product, platform = _run(order, inputs, claim, how, title)
    seconds = time.monotonic() - start
    card = shelf.put(
        claim,
        replace(product, name=order.name or product.name),
        kind=order.spec.produces,
        stage=order.spec.name,
        version=order.spec.version,
        config=order.config,
        seed=order.seed,
        parents=cards,
        platform=platform,
        seconds=seconds,
    )
    how.crew.meet()
    console.talk(f"{title}: made {shelf.alias(card.id)} {card.ref} in {console.duration(seconds)}")
    return card


def _follow(order: Order, shelf: Shelf, how: How, title: str) -> tuple[Card, bool]:
    """A follower's share of what the leader does, and the card of what it made."""
    word = how.crew.meet()
    if word != KEEP:
        if order.spec.divided:
            how = replace(how, resume=word == RESUME)
            with contextlib.suppress(Dismissed):
                _run(order, _inputs(order, shelf)[1], shelf.claimed(order.id), how, title)
        how.crew.meet()
    card = shelf.newest(order.id)
    if card is None:
        raise StageFailed(f"{title}: {order.id} is not in {shelf.root}", "all processes must see the same --store")
    return card, word != KEEP


def _inputs(order: Order, shelf: Shelf) -> tuple[dict[str, Any], dict[str, Any]]:
    """(cards, artifacts) of the order's parents."""
    cards = {role: each(refs, shelf.find) for role, refs in order.parents.items()}
    return cards, {role: each(found, shelf.artifact) for role, found in cards.items()}


def _run(order: Order, inputs: Mapping[str, Any], claim: Claim, how: How, title: str) -> tuple[Product, dict[str, Any]]:
    """The stage itself. jax is set up here, before anything imports it. A follower is dismissed (parts.py)."""
    from omrl_cli.progress import Teller, read_rows

    with deferred_interrupt() as interrupted:  # native modules take an interrupt for a failed import, or crash
        platform.prepare(how.devices)
        run = order.spec.load()
        for spec in how.coming:
            spec.load()
        importlib.import_module("pipelines.store.arrays")  # orbax
        machine = platform.describe()  # starts jax's backend
    if interrupted():
        raise KeyboardInterrupt
    checkpoint = DiskCheckpoint(claim.checkpoint, how.checkpoint_s)
    folders = [claim.folder, *(claim.folder / f"process-{number}" for number in range(1, how.crew.count))]
    told = folders[how.crew.number]
    with deferred_interrupt(strike=True) as interrupted, Teller(title, told, resumed=how.resume) as tell:
        product = run(Work(order.config, order.seed, inputs, checkpoint, tell, how.tasks_at_once, crew=how.crew))
        if interrupted():
            raise KeyboardInterrupt
        for folder in folders[1:]:  # what the others had to tell of their parts
            for step, values in read_rows(folder / "metrics.jsonl"):
                tell.metrics(step, {name: float("nan" if one is None else one) for name, one in values.items()})
    for path in checkpoint.ignored:
        console.talk(f"{title}: passed over the damaged checkpoint {path}")
    return product, machine | {"peak_memory_bytes": peak_memory()}


def peak_memory() -> int:
    """The most memory this process has held, in bytes: an upper bound for a stage that others preceded."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def indented(order: Order) -> str:
    """The resolved config, for a person to read."""
    return "\n".join("    " + line for line in console.as_yaml(order.config.model_dump(mode="json")).splitlines())
