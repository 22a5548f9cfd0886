"""One stage: from preset, overrides and inputs to an order; is it up to date; and if not, claim, run, put."""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from omrl_cli import console
from omrl_cli.options import Running
from pipelines.core.configs.base import Config
from pipelines.core.errors import CheckFailed, OmrlError, StageFailed
from pipelines.core.work import Product, Work
from pipelines.stages.registry import StageSpec
from pipelines.store.card import Card, Code, code_fingerprint, package_versions, recipe_id
from pipelines.store.checkpoint import DiskCheckpoint
from pipelines.store.shelf import Claim, Shelf

Refs = str | list[str]


class Interrupted(OmrlError):
    """The user, or the system, asked to stop."""

    exit_code = 130


@dataclass(frozen=True)
class How:
    """How to run: what to do with a result, or half of one, that is already there."""

    force: bool = False
    resume: bool = False
    accept_stale: bool = False
    devices: int | None = None
    checkpoint_s: float = 60.0

    @classmethod
    def of(cls, common: Running) -> "How":
        """What the options of a subcommand say."""
        return cls(common.force, common.resume, common.accept_stale, common.devices, common.checkpoint_s)


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

    def __str__(self) -> str:
        return f"{self.spec.name} -> {self.spec.produces} {self.id}  seed {self.seed}"


@dataclass(frozen=True)
class Standing:
    """What the store has of an order. `cursor` is where an unfinished run of it could be continued."""

    state: Literal["to do", "up to date", "stale", "damaged"]
    card: Card | None = None
    why: str = ""
    cursor: int | None = None

    def __str__(self) -> str:
        state = f"{self.state} ({self.why})" if self.why else self.state
        return state if self.cursor is None else f"{state}, unfinished at {self.cursor}"


def each(refs: Any, function: Callable[[Any], Any]) -> Any:
    """`function` of one thing, or of every thing in a list."""
    return [function(ref) for ref in refs] if isinstance(refs, list) else function(refs)


# ------------------------------------------------------------------------------------------------------ up to date?
def stand(order: Order, shelf: Shelf) -> Standing:
    """What is there of `order`: reads its card and its files' hashes, never its arrays, and imports no jax."""
    cursor = _unfinished(order.id, shelf)
    try:
        card = shelf.newest(order.id)
        if card is None:
            return Standing("to do", cursor=cursor)
        shelf.artifact(card).check_files()
    except CheckFailed as error:
        return Standing("damaged", None, error.cause, cursor)
    why = ", ".join(_differences(order, card, shelf))
    return Standing("stale" if why else "up to date", card, why, cursor)


def _unfinished(id: str, shelf: Shelf) -> int | None:
    """The cursor of the newest checkpoint of a run that has not made its artifact."""
    work = shelf.work(id)
    mark = work / "generation"
    coming = (shelf.generations(id) or [0])[-1] + 1
    # A kill between storing an artifact and tidying up leaves the checkpoint of a generation that is finished.
    if not mark.exists() or mark.read_text() != str(coming):
        return None
    cursors = DiskCheckpoint(work / "checkpoint").cursors()
    return cursors[-1] if cursors else None


def _differences(order: Order, card: Card, shelf: Shelf) -> Iterator[str]:
    """What is no longer as it was when `card` was made, for a person to read."""
    for role, refs in order.parents.items():
        was = card.parents[role]
        now = each(refs, lambda ref: _present(ref, shelf))
        pairs = zip(was, now, strict=True) if isinstance(was, list) else [(was, now)]
        yield from (
            f"{role} {old.id} has other bits" for old, new in pairs if new is not None and new.digest != old.digest
        )
    yield from fingerprint_differences(card.code, card.packages)


def fingerprint_differences(code: Code, packages: Mapping[str, str]) -> Iterator[str]:
    """How this program differs from the one that an artifact was made with."""
    if code.sha256 != code_fingerprint().sha256:
        yield f"omrl's code was {code.sha256[:8]} and is {code_fingerprint().sha256[:8]}"
    here = package_versions()
    for package in sorted({*packages, *here}):
        was, now = packages.get(package, "absent"), here.get(package, "absent")
        if was != now:
            yield f"{package} was {was} and is {now}"


def _present(ref: str, shelf: Shelf) -> Card | None:
    """The card that an order's reference means, if it is there."""
    return shelf.find(ref) if "@" in ref else shelf.newest(ref)


def decide(standing: Standing, how: How) -> Literal["keep", "resume", "run"]:
    """What to do with an order.

    Raises CheckFailed for a stale or damaged artifact and StageFailed for an unfinished run, unless `how` says what
    shall become of it.
    """
    if how.resume and standing.cursor is not None:
        return "resume"
    if how.force:
        return "run"
    if standing.state == "up to date" or (standing.state == "stale" and how.accept_stale):
        return "keep"
    if standing.state == "stale" and standing.card:
        cause = f"{standing.card.kind} {standing.card.ref} is stale: {standing.why}"
        raise CheckFailed(cause, "--force makes it again, --accept-stale takes it as it is")
    if standing.state == "damaged":
        raise CheckFailed(standing.why, "--force makes it again; the damaged generation stays")
    if standing.cursor is not None:
        cause = f"an unfinished run of this is there, with a checkpoint at {standing.cursor}"
        raise StageFailed(cause, "--resume continues it, --force starts afresh")
    return "run"


# ------------------------------------------------------------------------------------------------------ running
def execute(order: Order, shelf: Shelf, how: How, title: str = "") -> tuple[Card, bool]:
    """(card, whether it was made now). Raises what `decide` and the stage raise, Interrupted on Ctrl-C and SIGTERM."""
    title = title or order.spec.name
    todo = decide(standing := stand(order, shelf), how)
    if todo == "keep" and standing.card:
        console.talk(
            f"{title}: up to date {standing.card.ref}" + (f" (accepted: {standing.why})" if standing.why else "")
        )
        return standing.card, False
    resumed = f"  resuming at {standing.cursor}" if todo == "resume" else ""
    console.talk(f"{title}: {order}{resumed}")
    console.talk(indented(order), console.VERBOSE)
    try:
        with shelf.claim(order.id) as claim:
            # Another process may have made it between the look above and the claim.
            if not how.force and todo == "run" and (now := stand(order, shelf)).state == "up to date" and now.card:
                return now.card, False
            return _make(order, shelf, claim, replace(how, resume=todo == "resume"), title), True
    except KeyboardInterrupt:
        cursor = _unfinished(order.id, shelf)
        at = "before its first checkpoint" if cursor is None else f"with a checkpoint at {cursor}"
        hint = "run it again" if cursor is None else "the same command with --resume continues there"
        raise Interrupted(f"{title}: interrupted {at}", hint) from None


def _make(order: Order, shelf: Shelf, claim: Claim, how: How, title: str) -> Card:
    if not how.resume:
        claim.clear()
    cards = {role: each(refs, shelf.find) for role, refs in order.parents.items()}
    inputs = {role: each(found, shelf.artifact) for role, found in cards.items()}
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
    console.talk(f"{title}: made {shelf.alias(card.id)} {card.ref} in {console.duration(seconds)}")
    return card


def _run(order: Order, inputs: Mapping[str, Any], claim: Claim, how: How, title: str) -> tuple[Product, dict[str, Any]]:
    """The stage itself. jax is set up here, before anything imports it."""
    from omrl_cli.progress import Teller
    from pipelines.core import platform

    platform.prepare(how.devices)
    run = order.spec.load()
    checkpoint = DiskCheckpoint(claim.checkpoint, how.checkpoint_s)
    with Teller(title, claim.folder, resumed=how.resume) as tell:
        product = run(Work(order.config, order.seed, inputs, checkpoint, tell))
    for path in checkpoint.ignored:
        console.talk(f"{title}: passed over the damaged checkpoint {path}")
    return product, platform.describe() | {"peak_memory_bytes": peak_memory()}


def peak_memory() -> int:
    """The most memory this process has held, in bytes: an upper bound for a stage that others preceded."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def indented(order: Order) -> str:
    """The resolved config, for a person to read."""
    return "\n".join("    " + line for line in console.as_yaml(order.config.model_dump(mode="json")).splitlines())
