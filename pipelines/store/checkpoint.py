"""Where a long stage keeps what resuming needs: `<folder>/<cursor>/`, the two newest, each whole or ignored.

A tree is stored as its leaves, in jax's order, beside a table of their paths, dtypes and shapes; the structure comes
back from the target that the stage gives. Nothing is pickled."""

import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from pipelines.core.errors import CheckFailed, WrongKind
from pipelines.store.card import Leaf, seal, unseal
from pipelines.store.disk import file_sha256, files_under, room_for, sync, sync_tree
from pipelines.store.faults import fault_point

KEPT = 2
_PART = "part-"
_HINT = "run without --resume to start afresh"


class DiskCheckpoint:
    """The checkpoints in one folder. Its holder is the only writer. `every_s` is the wall time between saves that `due`
    asks for (0: always due); `ignored` lists the damaged ones that `load` passed over."""

    def __init__(self, folder: Path, every_s: float = 60.0) -> None:
        self.folder = folder
        self.every_s = every_s
        self.ignored: list[Path] = []
        self._last = time.monotonic()

    def cursors(self) -> list[int]:
        """The cursors kept, oldest first. Reads names only."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdigit())

    def part(self, number: int) -> "DiskCheckpoint":
        """The checkpoints of part `number` of the work, in a folder in this one."""
        part = DiskCheckpoint(self.folder / f"{_PART}{number:04d}", self.every_s)
        part.ignored = self.ignored
        return part

    def reached(self) -> int | None:
        """The newest cursor; where the work is done in parts, the sum of theirs. Reads names only."""
        parts = [DiskCheckpoint(path) for path in self.folder.glob(f"{_PART}*")]
        cursors = [one.cursors()[-1] for one in (self, *parts) if one.cursors()]
        return sum(cursors) if cursors else None

    def due(self) -> bool:
        """True once `every_s` has passed since the last save, load or start."""
        return time.monotonic() - self._last >= self.every_s

    def save(self, cursor: int, tree: Any) -> None:
        """Keeps `tree` (jax or numpy arrays, typed random keys, Python numbers) durably as the checkpoint at `cursor`;
        the one before stays. Raises StageFailed on a full disk, and then nothing has changed."""
        from pipelines.store import arrays

        fault_point("before-checkpoint")
        named, _ = _flatten(tree)
        leaves = arrays.flatten({f"{index:05d}": _data(leaf) for index, (_, leaf) in enumerate(named)})
        scratch = self.folder / f"new-{secrets.token_hex(4)}"
        try:
            with room_for(arrays.disk_size(leaves), self.folder, f"the checkpoint at {cursor}"):
                arrays.save(scratch / "arrays", leaves)
                fault_point("in-checkpoint")
                body = {
                    "cursor": cursor,
                    "tree": [[path, *_describe(leaf)] for path, leaf in named],
                    "generators": [_generator(leaf) for _, leaf in named],
                    "arrays": {path: leaf.model_dump(mode="json") for path, leaf in arrays.table(leaves).items()},
                    "files": {name: file_sha256(path) for name, path in files_under(scratch).items()},
                }
                (scratch / "checkpoint.json").write_bytes(seal(body))
                sync_tree(scratch)
            self._install(scratch, cursor)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        self._last = time.monotonic()

    def _install(self, scratch: Path, cursor: int) -> None:
        final = self.folder / f"{cursor:012d}"
        if final.exists():  # a damaged one that a resumed run passed over
            shutil.rmtree(final)
        os.rename(scratch, final)
        sync(self.folder)
        # Later cursors belong to a line that was abandoned because its newest checkpoint was damaged.
        older = [other for other in self.cursors() if other <= cursor]
        kept = {f"{other:012d}" for other in older[-KEPT:]}
        for path in self.folder.iterdir():
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)

    def load(self, target: Any) -> tuple[int, Any] | None:
        """(cursor, tree) of the newest whole checkpoint: the structure of `target` with numpy leaves (keys typed again,
        Python numbers as they were), or None if there is none. Raises WrongKind if the newest whole one has another
        structure."""
        self._last = time.monotonic()
        for cursor in reversed(self.cursors()):
            path = self.folder / f"{cursor:012d}"
            try:
                return cursor, self._read(path, target)
            except (CheckFailed, OSError):
                self.ignored.append(path)
        return None

    def _read(self, path: Path, target: Any) -> Any:
        import jax

        from pipelines.store import arrays

        body = unseal(path / "checkpoint.json", _HINT)
        for name, sha256 in body["files"].items():
            if file_sha256(path / name) != sha256:
                raise CheckFailed(f"{path / name} is damaged", _HINT)
        named, structure = _flatten(target)
        wanted = [[name, *_describe(leaf)] for name, leaf in named]
        if wanted != body["tree"]:
            differing = [(old, new) for old, new in zip(body["tree"], wanted, strict=False) if old != new]
            old, new = differing[0] if differing else (f"{len(body['tree'])} arrays", f"{len(wanted)} arrays")
            raise WrongKind(f"{path} was written by other code: it holds {old}, this code wants {new}", _HINT)
        table = {name: Leaf.model_validate(leaf) for name, leaf in body["arrays"].items()}
        stored = arrays.load(path / "arrays", table)
        leaves = [
            _restore(stored[f"{index:05d}"], leaf, generator)
            for index, ((_, leaf), generator) in enumerate(zip(named, body["generators"], strict=True))
        ]
        return jax.tree_util.tree_unflatten(structure, leaves)


def _flatten(tree: Any) -> tuple[list[tuple[str, Any]], Any]:
    import jax

    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves], structure


def _describe(leaf: Any) -> list[Any]:
    """Dtype (or the name of a Python type) and shape. A typed key's dtype names its generator: `key<fry>`."""
    if not hasattr(leaf, "dtype"):
        return [type(leaf).__name__, []]
    return [str(leaf.dtype), list(leaf.shape)]


def _generator(leaf: Any) -> str | None:
    """The name of the random generator if `leaf` is a typed key (array), else None."""
    import jax

    if hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return str(jax.random.key_impl(leaf))
    return None


def _data(leaf: Any) -> Any:
    import jax

    return jax.random.key_data(leaf) if _generator(leaf) else leaf


def _restore(data: Any, like: Any, generator: str | None) -> Any:
    import jax

    if generator:
        return jax.random.wrap_key_data(data, impl=generator)
    return data if hasattr(like, "dtype") else data.item()
