"""What may go: generations that nobody needs, the work of runs that are gone, half-removed things."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.core.errors import UsageError
from pipelines.store.card import Card
from pipelines.store.catalogue import Catalogue
from pipelines.store.disk import discard, size_of
from pipelines.store.locks import LockBusyError, locked


@dataclass(frozen=True)
class Garbage:
    """A folder (or file) that may go, its bytes, and why."""

    path: Path
    bytes: int
    why: str


def unneeded(store: Catalogue, keep: set[str]) -> list[Garbage]:
    """Everything that `Shelf.garbage` removes: generations, work, tmp."""
    found = [*_generations(store, keep), *_work(store, keep)]
    if store.trash.is_dir():
        found += [Garbage(path, size_of(path), "half removed") for path in sorted(store.trash.iterdir())]
    return found


def _generations(store: Catalogue, keep: set[str]) -> Iterator[Garbage]:
    needed = _needed(store, keep)
    objects = store.root / "objects"
    for folder in sorted(objects.iterdir()) if objects.is_dir() else []:
        generations = store.generations(folder.name)
        for path in sorted(folder.iterdir()):
            if not path.name.isdigit() or int(path.name) not in generations:
                yield Garbage(path, size_of(path), "has no card")
            elif path.name != str(generations[-1]) and path not in needed:
                yield Garbage(
                    path, size_of(path), f"generation {generations[-1]} is newer, and nothing kept needs this one"
                )


def _needed(store: Catalogue, keep: set[str]) -> set[Path]:
    """The folders of the newest readable generation of every id, of every id in `keep`, and of all they were made
    from."""
    cards = store.cards(every_generation=True)
    newest = {card.id: card for card in sorted(cards, key=lambda card: card.generation)}
    holding = {(card.id, card.digest): card for card in sorted(cards, key=lambda card: card.generation)}
    open_ends = [*newest.values(), *(card for card in cards if card.id in keep)]
    needed: set[Path] = set()
    while open_ends:
        card = open_ends.pop()
        path = store.folder(card.id, card.generation)
        if path not in needed:
            needed.add(path)
            pairs = [(parent.id, parent.digest) for parent in card.all_parents()]
            open_ends += [holding[pair] for pair in pairs if pair in holding]
    return needed


def _work(store: Catalogue, keep: set[str]) -> Iterator[Garbage]:
    for work in store.work_dirs():
        if work.pid is None and work.id not in keep:
            at = "no checkpoint" if work.cursor is None else f"checkpoint at {work.cursor}, --resume would use it"
            yield Garbage(work.path, work.bytes, f"an unfinished run: {at}")


def discard_work(folder: Path, trash: Path) -> bool:
    """Removes the folder of an unfinished run unless a process has begun to use it."""
    try:
        with locked(folder / "lock"):
            discard(folder, trash)
    except LockBusyError:
        return False
    return True


def removal(store: Catalogue, card: Card, generations: Sequence[int]) -> list[Garbage]:
    """Those generations of the card's id. Raises UsageError if their bits are what another artifact was made from and
    no remaining generation holds them."""
    cards = store.cards(every_generation=True)
    going = {other.digest for other in cards if other.id == card.id and other.generation in generations}
    staying = {other.digest for other in cards if other.id == card.id and other.generation not in generations}
    lost = {(card.id, digest) for digest in going - staying}
    children = [other.ref for other in cards if any((one.id, one.digest) in lost for one in other.all_parents())]
    if children:
        raise UsageError(f"{card.ref} is what {', '.join(children)} was made from", "remove that first")
    folders = [store.folder(card.id, generation) for generation in generations]
    return [Garbage(folder, size_of(folder), "removed") for folder in folders]
