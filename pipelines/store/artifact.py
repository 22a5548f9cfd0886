"""An artifact that is on the disk: its card, its arrays and its files, each checked before it is given out."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.core.errors import CheckFailed, InputMissing
from pipelines.store.card import Card, content_digest
from pipelines.store.disk import file_sha256

AGAIN = "make the artifact again with --force"


@dataclass(frozen=True)
class StoredArtifact:
    """One generation of an artifact, on the disk. Nothing but its card is read until it is asked for."""

    card: Card
    path: Path

    def check_files(self) -> None:
        """Raises CheckFailed, naming the file, unless every file is there with the sha256 on the card."""
        for name in self.card.files:
            self._check(name)

    def _check(self, name: str) -> Path:
        path = self.path / name
        try:
            whole = file_sha256(path) == self.card.files[name]
        except FileNotFoundError:
            raise CheckFailed(f"{path} is missing", AGAIN) from None
        if not whole:
            raise CheckFailed(f"{path} is damaged: its sha256 is not the one on the card", AGAIN)
        return path

    def arrays(self, only: Collection[str] | None = None) -> dict[str, Any]:
        """The tree as nested dicts of numpy arrays: all of it, or what lies under the names `only` at its top. Raises
        CheckFailed if any file of the artifact is damaged."""
        from pipelines.store import arrays

        self.check_files()
        return arrays.load(self.path / "arrays", self.card.arrays, only)

    def file(self, name: str) -> Path:
        """Path of an extra file (`metrics.jsonl`, `page.html`), checked. Raises InputMissing, CheckFailed."""
        if f"files/{name}" not in self.card.files:
            have = [path.removeprefix("files/") for path in self.card.files if path.startswith("files/")]
            raise InputMissing(f"{self.card.ref} has no file {name!r}", f"it has {', '.join(have) or 'none'}")
        return self._check(f"files/{name}")

    def verify(self) -> None:
        """Reads everything: every file's sha256, and the digest of what the arrays say. Raises CheckFailed."""
        from pipelines.store import arrays

        leaves = arrays.flatten(self.arrays())
        if content_digest(arrays.described(leaves), self.card.tasks, self.card.extra) != self.card.digest:
            raise CheckFailed(f"{self.path / 'arrays'} does not hold the bits of {self.card.ref}", AGAIN)
