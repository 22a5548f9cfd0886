"""Names for people: `replay-log/point-semicircle-time@3`. They are local to a store; cards hold ids only.

A number is given once: an artifact that is removed takes its number along. A crash can come between an artifact and its
alias, so whoever reads the aliases gives the missing ones first."""

import contextlib
import errno
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines.store.card import Card, seal, unseal
from pipelines.store.disk import is_full, write_whole
from pipelines.store.locks import locked

_UNWRITABLE = (errno.EACCES, errno.EROFS, errno.EPERM)
_HINT = "delete that file: every alias is then given again, oldest artifact first"


def clean_name(name: str) -> str:
    """`name` with everything that a shell or an alias could trip over turned into hyphens."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "unnamed"


@dataclass(frozen=True)
class Aliases:
    """The file `aliases.json` of the store at `root`."""

    root: Path

    @property
    def path(self) -> Path:
        return self.root / "aliases.json"

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        return locked(self.root / "aliases.lock", wait=True)

    def read(self) -> dict[str, str]:
        """alias -> id, in the order given. Raises CheckFailed if the file is damaged."""
        return self._read()[0]

    def _read(self) -> tuple[dict[str, str], dict[str, int]]:
        try:
            body = unseal(self.path, _HINT)
        except FileNotFoundError:
            return {}, {}
        return body["aliases"], body["counts"]

    def _write(self, aliases: dict[str, str], counts: dict[str, int]) -> None:
        write_whole(self.path, seal({"aliases": aliases, "counts": counts}))

    def give(self, cards: Iterable[Card]) -> dict[str, str]:
        """Every alias, after each of `cards` that has none got the next number of its kind and name. Where nothing can
        be written (another's store, a full disk) the new ones last as long as the answer."""
        try:
            with self._lock():
                aliases, counts = self._numbered(cards)
                self._write(aliases, counts)
        except OSError as error:
            if error.errno not in _UNWRITABLE and not is_full(error):
                raise
            aliases, _ = self._numbered(cards)
        return aliases

    def _numbered(self, cards: Iterable[Card]) -> tuple[dict[str, str], dict[str, int]]:
        aliases, counts = self._read()
        named = set(aliases.values())
        for card in sorted(cards, key=lambda card: (card.created, card.id)):
            if card.id not in named:
                base = f"{card.kind}/{card.name}"
                counts[base] = counts.get(base, 0) + 1
                aliases[f"{base}@{counts[base]}"] = card.id
        return aliases, counts

    def add(self, card: Card, name: str) -> str:
        """One more alias of `card`, under another name; the one it has if it has one of that name."""
        base = f"{card.kind}/{clean_name(name)}"
        with locked(self.root / "aliases.lock", wait=True):
            aliases, counts = self._read()
            for alias, id in aliases.items():
                if id == card.id and alias.rpartition("@")[0] == base:
                    return alias
            counts[base] = counts.get(base, 0) + 1
            alias = f"{base}@{counts[base]}"
            self._write({**aliases, alias: card.id}, counts)
            return alias

    def drop(self, id: str) -> None:
        """Takes the aliases of `id` away; their numbers are not given again."""
        with self._lock():
            aliases, counts = self._read()
            self._write({alias: other for alias, other in aliases.items() if other != id}, counts)
