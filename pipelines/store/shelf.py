"""The artifact store, written to: claim, put, remove, sweep. (Reading it is catalogue.py.)

    <root>/objects/<id>/<generation>/   card.json  arrays/  files/     whole from the moment it is there
    <root>/work/<id>/                   lock  generation  begun.json  checkpoint/  metrics.jsonl  tb/  out/
    <root>/aliases.json                 <root>/tmp/ (things on their way out)

Arrays are touched inside functions only, so that a listing never imports jax."""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.core.configs.base import Config
from pipelines.core.work import Product
from pipelines.store import begun, sweep
from pipelines.store.aliases import Aliases, clean_name
from pipelines.store.card import (
    Card,
    Parent,
    code_fingerprint,
    content_digest,
    package_versions,
    plain,
    recipe_id,
)
from pipelines.store.catalogue import Catalogue
from pipelines.store.disk import discard, file_sha256, files_under, room_for, sync, sync_tree
from pipelines.store.faults import fault_point
from pipelines.store.locks import claimed

_BLOCK = 4096  # bytes that a small file takes


@dataclass(frozen=True)
class Claim:
    """The right, held alone, to make generation `generation` of artifact `id`, and the folder to work in."""

    id: str
    folder: Path
    generation: int

    @property
    def checkpoint(self) -> Path:
        """Where the stage's DiskCheckpoint lives."""
        return self.folder / "checkpoint"

    def begin(self, parents: Mapping[str, Card | Sequence[Card]], resume: bool) -> None:
        """Starts afresh, or goes on; what this program is, and what its inputs are, is noted unless it was before.
        Raises StageFailed on a full disk."""
        if not resume:
            self.clear()
        if not (self.folder / begun.NAME).exists():
            with room_for(_BLOCK, self.folder, f"the work on {self.id}"):
                begun.write(self.folder, {role: _parents(cards) for role, cards in parents.items()})

    def clear(self) -> None:
        """Removes the checkpoint, the live metrics and what a killed save left."""
        for path in self.folder.iterdir():
            if path.name not in ("lock", "generation"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


class Shelf(Catalogue):
    """The store at `root`, which need not exist yet. Any number of processes may read while others write; of one id
    there is one writer."""

    @contextlib.contextmanager
    def claim(self, id: str) -> Iterator[Claim]:
        """Holds `id` for writing. What a killed save of it left is swept; its checkpoint stays unless that belongs to a
        generation that was finished. Raises StageFailed at once, naming the process, if another one holds it."""
        with self._held(id) as folder:
            claim = Claim(id, folder, (self.generations(id) or [0])[-1] + 1)
            mark = folder / "generation"
            with room_for(_BLOCK, folder, f"the work on {id}"):
                if not mark.exists() or mark.read_text() != str(claim.generation):
                    claim.clear()
                    mark.write_text(str(claim.generation))
            shutil.rmtree(folder / "out", ignore_errors=True)
            yield claim

    def claimed(self, id: str) -> Claim:
        """The claim that another process holds, for one that works with it on the same artifact: it only adds parts'
        checkpoints, and puts nothing."""
        return Claim(id, self.work(id), (self.generations(id) or [0])[-1] + 1)

    @contextlib.contextmanager
    def _held(self, id: str) -> Iterator[Path]:
        """The lock on work/<id>/, and that folder; it is removed in the end unless there is work in it."""
        folder = self.work(id)
        with contextlib.ExitStack() as stack:
            with room_for(_BLOCK, self.root, f"the work on {id}"):
                stack.enter_context(claimed(folder / "lock", self.alias(id)))
            try:
                yield folder
            finally:
                if {path.name for path in folder.iterdir()} <= {"lock", "generation", begun.NAME}:
                    # The lock goes last: from then on another process may be here.
                    for name in ("generation", begun.NAME):
                        (folder / name).unlink(missing_ok=True)
                    (folder / "lock").unlink()
                    with contextlib.suppress(OSError):
                        folder.rmdir()

    def put(
        self,
        claim: Claim,
        product: Product,
        *,
        kind: str,
        stage: str,
        version: int,
        config: Config | Mapping[str, Any],
        seed: int,
        parents: Mapping[str, Card | Sequence[Card]],
        platform: Mapping[str, Any],
        seconds: float,
    ) -> Card:
        """Stores a product as the claimed generation, together with the claim's metrics.jsonl and tb/ (close them
        first), gives it an alias and empties the claim. The artifact is there whole or not at all. Raises StageFailed
        on a full disk (the checkpoint stays), ValueError if the claim is of another recipe, TypeError if a leaf is no
        array."""
        from pipelines.store import arrays

        named = {role: _parents(cards) for role, cards in parents.items()}
        if claim.id != recipe_id(stage, version, config, seed, _ids(named)):
            raise ValueError(f"{claim.id} is not the id of this recipe of stage {stage}")
        fault_point("before-arrays")
        leaves = arrays.flatten(product.arrays)
        tasks, extra = plain(product.tasks), plain(product.extra)
        out = claim.folder / "out"
        try:
            with room_for(arrays.disk_size(leaves) + _files_size(product, claim), self.root, f"{kind} {claim.id}"):
                arrays.save(out / "arrays", leaves)
                _write_files(out / "files", product, claim)
                fault_point("arrays-no-card")
                card = Card(
                    kind=kind,
                    name=clean_name(product.name or stage),
                    id=claim.id,
                    generation=claim.generation,
                    digest=content_digest(arrays.described(leaves), tasks, extra),
                    stage=stage,
                    version=version,
                    config=plain(config),
                    seed=seed,
                    parents=named,
                    tasks=tasks,
                    arrays=arrays.table(leaves),
                    files={name: file_sha256(path) for name, path in files_under(out).items()},
                    metrics=plain(product.metrics),
                    extra=extra,
                    code=code_fingerprint(),
                    packages=package_versions(),
                    platform=plain(platform),
                    seconds=seconds,
                    created=datetime.now(UTC).isoformat(timespec="microseconds"),
                )
                (out / "card.json").write_bytes(card.to_bytes())
                sync_tree(out)
                fault_point("after-card")
                self._install(out, card)
                fault_point("in-rename")
                self.aliases()
        finally:
            shutil.rmtree(out, ignore_errors=True)
        claim.clear()
        return card

    def _install(self, out: Path, card: Card) -> None:
        """The one rename that makes an artifact exist."""
        final = self.folder(card.id, card.generation)
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():  # without a card: somebody's hand was at work
            discard(final, self.trash)
        os.rename(out, final)
        sync(final.parent)
        sync(final.parent.parent)

    def call(self, card: Card, name: str) -> str:
        """Gives an artifact that exists a further name, unless it has it already. -> the alias of that name"""
        self.aliases()  # its first one, should its maker have been killed before that
        return Aliases(self.root).add(card, name)

    # ------------------------------------------------------------------------------------------------ removing
    def remove(self, ref: str) -> list[sweep.Garbage]:
        """Removes the generation that `id@generation` names, or every generation of what `ref` names. Raises UsageError
        if another artifact was made from it, StageFailed if it is being written."""
        card = self.find(ref)
        base, at, _ = ref.partition("@")
        one = at and card.id.startswith(base)
        with self._held(card.id):
            gone = sweep.removal(self, card, [card.generation] if one else self.generations(card.id))
            for garbage in gone:
                discard(garbage.path, self.trash)
            if not self.generations(card.id):
                Aliases(self.root).drop(card.id)
        return gone

    def garbage(self, keep: Collection[str] = (), dry_run: bool = False) -> list[sweep.Garbage]:
        """Removes, or with `dry_run` only lists, what no one needs: generations that are neither their id's newest nor
        what a kept card was made from (by id and digest), folders without a card, the work of runs that are not
        running, and tmp/. Ids in `keep` keep everything they have."""
        found = sweep.unneeded(self, set(keep))
        return found if dry_run else [garbage for garbage in found if self._swept(garbage)]

    def _swept(self, garbage: sweep.Garbage) -> bool:
        if garbage.path.parent == self.trash:
            shutil.rmtree(garbage.path, ignore_errors=True)
        elif garbage.path.parent == self.root / "work":
            return sweep.discard_work(garbage.path, self.trash)
        else:
            discard(garbage.path, self.trash)
        return True


def _parents(cards: Card | Sequence[Card]) -> Parent | list[Parent]:
    if isinstance(cards, Card):
        return Parent(id=cards.id, digest=cards.digest)
    return [Parent(id=card.id, digest=card.digest) for card in cards]


def _ids(parents: Mapping[str, Parent | list[Parent]]) -> dict[str, str | list[str]]:
    return {role: [one.id for one in many] if isinstance(many, list) else many.id for role, many in parents.items()}


def _live(claim: Claim) -> dict[str, Path]:
    """What the stage told while it ran: name among the artifact's files -> path in the claim."""
    files = {f"tb/{name}": path for name, path in files_under(claim.folder / "tb").items()}
    metrics = claim.folder / "metrics.jsonl"
    return files | ({metrics.name: metrics} if metrics.exists() else {})


def _files_size(product: Product, claim: Claim) -> int:
    live = sum(path.stat().st_size for path in _live(claim).values())
    return live + sum(len(content) for content in product.files.values())


def _write_files(folder: Path, product: Product, claim: Claim) -> None:
    """Copies, so that a kill leaves the live files to the run that resumes."""
    folder.mkdir(parents=True)
    for name, path in _live(claim).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    for name, content in product.files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"file {name!r} would lie outside its artifact")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
