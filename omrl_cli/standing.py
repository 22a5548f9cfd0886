"""What the store has of an order: is it up to date, and if not, why. Reads cards and files' hashes, imports no jax."""

from __future__ import annotations  # Order and How are known to the type checker only

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipelines.core import own
from pipelines.core.errors import CheckFailed, StageFailed
from pipelines.store import begun
from pipelines.store.begun import Begun
from pipelines.store.card import Card, Code, code_fingerprint, package_versions
from pipelines.store.checkpoint import DiskCheckpoint
from pipelines.store.shelf import Shelf

if TYPE_CHECKING:
    from omrl_cli.launch import How, Order


@dataclass(frozen=True)
class Standing:
    """What the store has of an order. `cursor` is where an unfinished run of it could be continued, `drift` what has
    changed since that began."""

    state: Literal["to do", "up to date", "stale", "damaged"]
    card: Card | None = None
    why: str = ""
    cursor: int | None = None
    drift: str = ""

    def __str__(self) -> str:
        state = f"{self.state} ({self.why})" if self.why else self.state
        drift = f" ({self.drift})" if self.drift else ""
        return state if self.cursor is None else f"{state}, unfinished at {self.cursor}{drift}"


def each(refs: Any, function: Callable[[Any], Any]) -> Any:
    """`function` of one thing, or of every thing in a list."""
    return [function(ref) for ref in refs] if isinstance(refs, list) else function(refs)


def stand(order: Order, shelf: Shelf) -> Standing:
    """What is there of `order`: reads its card and its files' hashes, never its arrays, and imports no jax."""
    cursor = unfinished(order.id, shelf)
    since = None if cursor is None else begun.read(shelf.work(order.id))
    drift = "" if since is None else ", ".join(_changed(order, since, shelf))
    try:
        card = shelf.newest(order.id)
        if card is None:
            return Standing("to do", cursor=cursor, drift=drift)
        shelf.artifact(card).check_files()
    except CheckFailed as error:
        return Standing("damaged", None, error.cause, cursor, drift)
    why = ", ".join(_differences(order, card, shelf))
    return Standing("stale" if why else "up to date", card, why, cursor, drift)


def unfinished(id: str, shelf: Shelf) -> int | None:
    """The cursor of the newest checkpoint of a run that has not made its artifact."""
    work = shelf.work(id)
    mark = work / "generation"
    coming = (shelf.generations(id) or [0])[-1] + 1
    # A kill between storing an artifact and tidying up leaves the checkpoint of a generation that is finished.
    if not mark.exists() or mark.read_text() != str(coming):
        return None
    return DiskCheckpoint(work / "checkpoint").reached()


def _differences(order: Order, card: Card, shelf: Shelf) -> Iterator[str]:
    """What is no longer as it was when `card` was made, for a person to read."""
    if (code := card.extra.get("family_code")) is not None and code != own.fingerprint(card.extra["family"]):
        yield f"the code of {card.extra['family']} is another"
    yield from _changed(order, card, shelf)


def _changed(order: Order, then: Card | Begun, shelf: Shelf) -> Iterator[str]:
    """How inputs and program differ from what they were."""
    for role, refs in order.parents.items():
        was = then.parents[role]
        now = each(refs, lambda ref: _present(ref, shelf))
        pairs = zip(was, now, strict=True) if isinstance(was, list) else [(was, now)]
        yield from (
            f"{role} {old.id} has other bits" for old, new in pairs if new is not None and new.digest != old.digest
        )
    yield from fingerprint_differences(then.code, then.packages)


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

    Raises CheckFailed for a stale or damaged artifact, or a checkpoint that other code or other inputs made, and
    StageFailed for an unfinished run, unless `how` says what shall become of it.
    """
    if how.resume and standing.cursor is not None:
        if standing.drift and not how.accept_stale:
            cause = f"the checkpoint at {standing.cursor} is stale: {standing.drift}"
            raise CheckFailed(cause, "--accept-stale goes on from it all the same, --force starts afresh")
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
