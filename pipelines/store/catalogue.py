"""What the store holds and what it is called. Reads cards and names only, beside writers that may be at work."""

import contextlib
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.core.errors import CheckFailed, InputMissing, OmrlError, UsageError
from pipelines.store.aliases import Aliases
from pipelines.store.artifact import StoredArtifact
from pipelines.store.card import ID_LENGTH, Card, read_card
from pipelines.store.checkpoint import DiskCheckpoint
from pipelines.store.disk import size_of
from pipelines.store.locks import holder


@dataclass(frozen=True)
class WorkDir:
    """A run that has not made its artifact: its process (None if it is gone, 0 if unknown), the cursor of its newest
    checkpoint (None without one), and its bytes."""

    id: str
    path: Path
    pid: int | None
    cursor: int | None
    bytes: int


def _work_dir(path: Path) -> WorkDir:
    return WorkDir(path.name, path, holder(path / "lock"), DiskCheckpoint(path / "checkpoint").reached(), size_of(path))


class Catalogue:
    """Reading the store at `root`, which need not exist yet."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()
        self.damaged: list[OmrlError] = []  # what the last `cards` could not read

    @property
    def trash(self) -> Path:
        """Where removed things are on their way out."""
        return self.root / "tmp"

    def work(self, id: str) -> Path:
        """Where `id` is being made."""
        return self.root / "work" / id

    def work_dirs(self) -> list[WorkDir]:
        """The runs that are going on or were broken off, by id."""
        work = self.root / "work"
        return [_work_dir(path) for path in sorted(work.iterdir())] if work.is_dir() else []

    def ids(self) -> list[str]:
        """The ids of which at least one generation is here, sorted."""
        objects = self.root / "objects"
        names = sorted(path.name for path in objects.iterdir()) if objects.is_dir() else []
        return [name for name in names if self.generations(name)]

    def generations(self, id: str) -> list[int]:
        """The generations of `id`, oldest first. A folder without a card is not one."""
        folder = self.root / "objects" / id
        if not folder.is_dir():
            return []
        return sorted(int(path.parent.name) for path in folder.glob("*/card.json") if path.parent.name.isdigit())

    def folder(self, id: str, generation: int) -> Path:
        """Where a generation lives."""
        return self.root / "objects" / id / str(generation)

    def newest(self, id: str) -> Card | None:
        """The card of the newest generation of exactly `id`, or None. Raises CheckFailed if it is damaged."""
        generations = self.generations(id)
        return self._card(id, generations[-1]) if generations else None

    def _card(self, id: str, generation: int) -> Card:
        path = self.folder(id, generation) / "card.json"
        card = read_card(path)
        if (card.id, card.generation) != (id, generation):
            raise CheckFailed(f"{path} is the card of {card.ref}", "put the folder back where it was")
        return card

    def cards(self, every_generation: bool = False) -> list[Card]:
        """The cards of the newest generations (or of all), newest last. Damaged ones are left out, and their errors
        stand in `damaged`."""
        self.damaged = []
        cards = []
        for id in self.ids():
            for generation in self.generations(id)[0 if every_generation else -1 :]:
                try:
                    cards.append(self._card(id, generation))
                except FileNotFoundError:  # another process removed it just now
                    continue
                except OmrlError as error:
                    self.damaged.append(error)
        return sorted(cards, key=lambda card: (card.created, card.id, card.generation))

    def aliases(self) -> dict[str, str]:
        """alias -> id. An artifact whose maker was killed before it had its alias gets it now."""
        aliases = Aliases(self.root).read()
        nameless = set(self.ids()) - set(aliases.values())
        if not nameless:
            return aliases
        cards = []
        for id in nameless:
            with contextlib.suppress(OmrlError, FileNotFoundError):
                card = self.newest(id)
                cards += [card] if card else []
        return Aliases(self.root).give(cards) if cards else aliases

    def alias(self, id: str) -> str:
        """The alias of `id`, or `id` itself if it has none."""
        return next((alias for alias, other in self.aliases().items() if other == id), id)

    def find(self, ref: str) -> Card:
        """The card that `ref` names: an id, a unique beginning of one (4 characters or more), id@generation, an alias,
        an alias or a name without @n (the newest). Raises InputMissing, UsageError if it could be several, CheckFailed
        if that card is damaged."""
        aliases = self.aliases()
        base, at, number = ref.partition("@")
        id = self._by_id(base)
        if id is not None:
            generations = self.generations(id)
            wanted = generations[-1] if not at else int(number) if number.isdigit() else 0
            if wanted in generations:
                return self._card(id, wanted)
            have = ", ".join(f"{base}@{generation}" for generation in generations)
            raise InputMissing(f"{base} has no generation {number!r}", f"there is {have}")
        newest = self.newest(self._by_alias(ref, aliases))
        if newest is None:
            raise InputMissing(f"{ref} is gone from {self.root}", "make it again")
        return newest

    def _by_id(self, prefix: str) -> str | None:
        if not re.fullmatch(rf"[0-9a-f]{{4,{ID_LENGTH}}}", prefix):
            return None
        matches = [id for id in self.ids() if id.startswith(prefix)]
        if len(matches) > 1:
            raise UsageError(f"{prefix} could be any of {', '.join(matches)}", "give more of the id")
        return matches[0] if matches else None

    def _by_alias(self, ref: str, aliases: Mapping[str, str]) -> str:
        """The id that an alias, or a name that one kind alone has, stands for."""
        matches: dict[str, tuple[int, str]] = {}  # kind/name -> (number, alias)
        for alias in aliases:
            base, _, number = alias.rpartition("@")
            if ref in (alias, base, alias.partition("/")[2], base.partition("/")[2]):
                matches[base] = max(matches.get(base, (0, "")), (int(number), alias))
        if len(matches) > 1:
            raise UsageError(f"{ref} could be any of {', '.join(sorted(matches))}", "name the kind too")
        if not matches:
            near = difflib.get_close_matches(ref, [*aliases, *self.ids()], n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else "`omrl ls` lists what is there"
            raise InputMissing(f"no artifact {ref!r} in {self.root}", hint)
        (_, alias) = next(iter(matches.values()))
        return aliases[alias]

    def artifact(self, ref: str | Card) -> StoredArtifact:
        """The artifact that `ref` names. Raises as `find` does."""
        card = ref if isinstance(ref, Card) else self.find(ref)
        return StoredArtifact(card, self.folder(card.id, card.generation))

    def verify(self, ref: str | Card) -> Card:
        """Reads all of what `ref` names and gives its card. Raises CheckFailed if one byte changed."""
        artifact = self.artifact(ref)
        artifact.verify()
        return artifact.card
