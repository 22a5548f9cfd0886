"""What a run would do and take, without doing it: `--dry-run`. Touches no device."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from omrl_cli import console
from omrl_cli.launch import How, Order
from omrl_cli.standing import Standing, stand
from pipelines.core.families import entry_of
from pipelines.stages import estimates
from pipelines.store.card import Card
from pipelines.store.disk import size_of
from pipelines.store.shelf import Shelf

UP_TO_DATE = "up to date"


@dataclass(frozen=True)
class Estimate:
    """What a run will take; None where nobody knows."""

    memory_bytes: float | None = None
    disk_bytes: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Row:
    """One line of a plan. `seed` is None for a step that gathers all seeds."""

    step: str
    seed: int | None
    id: str
    state: str
    estimate: Estimate


class Subject(NamedTuple):
    """What an order is about."""

    family: str = ""  # empty where nobody knows
    num_tasks: int | None = None  # None: all of the family's, or nobody knows


def row(
    order: Order,
    shelf: Shelf,
    how: How,
    cards: Sequence[Card],
    moving: Collection[str] = (),
    step: str = "",
    all_seeds: bool = False,
    subjects: dict[str, Subject] | None = None,
) -> Row:
    """The line of one order. `cards` are the store's, `moving` the ids that will be made before it, `subjects` what
    each order planned so far is about (this one is added)."""
    state = _state(stand(order, shelf), how, inputs_move=any(ref in moving for ref in order.refs))
    subjects = {} if subjects is None else subjects
    subjects[order.id] = about = subject_of(order, shelf, subjects)
    guess = Estimate(0, 0, 0) if state == UP_TO_DATE else estimate(order, shelf, cards, about)
    return Row(step or order.spec.name, None if all_seeds else order.seed, order.id, state, guess)


def _state(standing: Standing, how: How, inputs_move: bool) -> str:
    if standing.card is not None and how.force:
        return "to do again"
    if standing.state == "stale" and how.accept_stale:
        return UP_TO_DATE
    if standing.state == UP_TO_DATE and inputs_move:
        return "up to date if its inputs keep their bits"
    return str(standing)


def subject_of(order: Order, shelf: Shelf, subjects: Mapping[str, Subject]) -> Subject:
    """Its own family and tasks, or those of what it is made from."""
    named, wanted = getattr(order.config, "family", ""), getattr(order.config, "num_tasks", None)
    for ref in () if named else order.refs:
        card = shelf.newest(ref.partition("@")[0])
        found = Subject(str(card.extra.get("family", "")), len(card.tasks) or None) if card else Subject()
        found = subjects.get(ref, found)
        if found.family:
            return Subject(found.family, wanted or found.num_tasks)
    return Subject(named, wanted)


def estimate(order: Order, shelf: Shelf, cards: Sequence[Card], about: Subject) -> Estimate:
    """As the last run of the same stage and config in this store took; else from the sizes of nets and batches."""
    config = order.config.model_dump(mode="json")
    for card in reversed(cards):
        if (card.stage, card.config) == (order.spec.name, config):
            disk = size_of(shelf.folder(card.id, card.generation))
            return Estimate(card.platform.get("peak_memory_bytes"), disk, card.seconds)
    entry = entry_of(about.family)
    if entry is None:
        return Estimate()
    return Estimate(**estimates.estimate(order.spec.name, order.config, entry, about.num_tasks))


def show(rows: Sequence[Row], as_json: bool) -> None:
    """The plan on stdout, and on stderr what it adds up to."""
    if as_json:
        console.out_json({"plan": [_json(one) for one in rows]})
        return
    head = "step", "seed", "id", "state", "memory", "disk", "time"
    console.out(console.table(head, [_cells(one) for one in rows]))
    guesses = [one.estimate for one in rows if one.state != UP_TO_DATE]
    known = [guess for guess in guesses if guess.seconds is not None]
    seconds = sum(guess.seconds or 0 for guess in known)
    disk = sum(guess.disk_bytes or 0 for guess in known)
    rest = f", and {len(guesses) - len(known)} whose cost is unknown" if len(known) < len(guesses) else ""
    console.talk(f"{len(guesses)} of {len(rows)} to run: about {console.duration(seconds)}, {console.size(disk)}{rest}")


def _json(one: Row) -> dict[str, object]:
    return {"step": one.step, "seed": one.seed, "id": one.id, "state": one.state, **vars(one.estimate)}


def _cells(one: Row) -> list[str]:
    guess = one.estimate
    sizes = ["unknown" if value is None else console.size(value) for value in (guess.memory_bytes, guess.disk_bytes)]
    seconds = "unknown" if guess.seconds is None else console.duration(guess.seconds)
    return [one.step, "all" if one.seed is None else str(one.seed), one.id, one.state, *sizes, seconds]
