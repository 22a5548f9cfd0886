"""Trees of arrays on the disk: the only file that imports orbax. Import it inside functions; it brings jax.

Orbax (0.12) refuses arrays of size zero, loses dicts that hold nothing at the top, and confuses a name with a dot with
a path; so names are percent-encoded, and what is empty lives in the table of leaves alone."""

import contextlib
import hashlib
import logging
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from pipelines.core.errors import CheckFailed
from pipelines.store.card import Leaf

_DTYPES = {"bool", "bfloat16"} | {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
_DTYPES |= {"float16", "float32", "float64"}
_EMPTY_DICT = "dict"

Leaves = dict[str, np.ndarray | None]  # None stands for a dict that holds nothing


def flatten(tree: Mapping[str, Any]) -> Leaves:
    """Nested dicts of arrays (numpy, jax, scalars) -> path -> numpy array in C order, native bytes. A path joins the
    percent-encoded names with slashes. Raises TypeError, naming the path, for anything else."""
    leaves: Leaves = {}
    _flatten(tree, "", leaves)
    return leaves


def _flatten(tree: Any, path: str, leaves: Leaves) -> None:
    if not isinstance(tree, Mapping):
        leaves[path] = _as_numpy(tree, path)
    elif not tree and path:
        leaves[path] = None
    else:
        for name, inner in tree.items():
            if not isinstance(name, str):
                raise TypeError(f"arrays: {path}/{name!r} is not a string")
            encoded = quote(name, safe=" ").replace(".", "%2E") or "%"
            _flatten(inner, f"{path}/{encoded}" if path else encoded, leaves)


def _as_numpy(value: Any, path: str) -> np.ndarray:
    if isinstance(value, tuple | list | str | bytes) or value is None:
        raise TypeError(f"arrays: {path} is a {type(value).__name__}, not an array or a dict of them")
    array = np.asarray(value)
    if array.dtype.name not in _DTYPES:
        raise TypeError(f"arrays: {path} has dtype {array.dtype}; random keys go through jax.random.key_data")
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


def table(leaves: Leaves) -> dict[str, Leaf]:
    """path -> dtype and shape, in sorted order: what the card says of the arrays."""
    return {
        path: Leaf(dtype=_EMPTY_DICT) if leaf is None else Leaf(dtype=leaf.dtype.name, shape=leaf.shape)
        for path, leaf in sorted(leaves.items())
    }


def described(leaves: Leaves) -> dict[str, tuple[Leaf, str]]:
    """path -> (dtype and shape, sha256 of the bytes in C order): what the digest is made of."""
    return {path: (leaf, _sha256(leaves[path])) for path, leaf in table(leaves).items()}


def _sha256(leaf: np.ndarray | None) -> str:
    return hashlib.sha256(b"" if leaf is None else leaf.reshape(-1).view(np.uint8).data).hexdigest()


def disk_size(leaves: Leaves) -> int:
    """Bytes on the disk that `save`, and the card or table beside it, never exceed: the data, and what describes it."""
    return sum(leaf.nbytes for leaf in leaves.values() if leaf is not None) + 1024 * len(leaves) + 65536


def save(folder: Path, leaves: Leaves) -> None:
    """Writes the leaves to the new folder `folder`, uncompressed (floats of a log shrink by 8% and cost three times the
    time). Raises whatever orbax and the disk raise."""
    full = {path: leaf for path, leaf in leaves.items() if leaf is not None and leaf.size}
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not full:
        folder.mkdir()
        return
    context = _context()
    context.array.saving.use_compression = False
    with _quiet(), _alone(), context:
        ocp.save(folder, _nest(full))


def load(folder: Path, leaves: Mapping[str, Leaf], only: Collection[str] | None = None) -> dict[str, Any]:
    """The tree that `save` wrote, as nested dicts of numpy arrays; `leaves` is its `table`. With `only` no more than
    what lies under these names at the top is read. Raises CheckFailed if the folder holds anything else."""
    if only is not None:
        leaves = {path: leaf for path, leaf in leaves.items() if _decoded(path.partition("/")[0]) in only}
    found: Leaves = {
        path: None if leaf.dtype == _EMPTY_DICT else np.zeros(leaf.shape, np.dtype(leaf.dtype))
        for path, leaf in leaves.items()
        if leaf.dtype == _EMPTY_DICT or 0 in leaf.shape
    }
    if len(found) < len(leaves):
        try:
            with _quiet():
                found |= _paths(_load_all(folder) if only is None else _load_some(folder, leaves))
        except Exception as error:
            raise CheckFailed(f"{folder} cannot be read: {str(error)[:200]}", "make it again with --force") from error
    if table(found) != dict(leaves):
        raise CheckFailed(f"{folder} holds other arrays than its card says", "make it again with --force")
    return _nest({path: found[path] for path in leaves}, unquoted=True)


def _load_all(folder: Path) -> Any:
    with _alone(), _context():
        return ocp.load(folder)


def _load_some(folder: Path, leaves: Mapping[str, Leaf]) -> Any:
    like = {
        path: np.empty(leaf.shape, np.dtype(leaf.dtype))  # untouched pages cost nothing
        for path, leaf in leaves.items()
        if leaf.dtype != _EMPTY_DICT and 0 not in leaf.shape
    }
    context = _context()
    context.pytree.loading.partial_load = True
    with _alone(), context:
        return ocp.load(folder, _nest(like))


def _context() -> Any:
    """Every process is the first of its own."""
    context = ocp.Context()
    if jax.distributed.is_initialized():
        context.multiprocessing.primary_host = None
    return context


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Of several processes each saves and loads what is its own, where and when it likes. Orbax (0.12) cannot know:
    whatever `active_processes` says it compares the folder with that of all the others, and has numpy leaves written by
    process 0 only. So inside, jax says that there is no other."""
    count, index = jax.process_count, jax.process_index
    if jax.distributed.is_initialized():
        jax.process_count, jax.process_index = lambda *backend: 1, lambda *backend: 0
    try:
        yield
    finally:
        jax.process_count, jax.process_index = count, index


def _paths(tree: Mapping[str, Any], path: str = "") -> Leaves:
    leaves: Leaves = {}
    for name, inner in tree.items():
        if isinstance(inner, Mapping):
            leaves |= _paths(inner, f"{path}{name}/")
        else:
            leaves[f"{path}{name}"] = np.asarray(inner)
    return leaves


def _nest(leaves: Mapping[str, np.ndarray | None], unquoted: bool = False) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *outer, last = [_decoded(name) for name in path.split("/")] if unquoted else path.split("/")
        inner = tree
        for name in outer:
            inner = inner.setdefault(name, {})
        inner[last] = {} if leaf is None else leaf
    return tree


def _decoded(name: str) -> str:
    return "" if name == "%" else unquote(name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Orbax tells of a failed save in some hundred lines; the caller says it in one. Writes that were under way report
    to an event loop that is closed by then, also after this has ended: so after a failure it stays quiet."""
    loggers = [logging.getLogger("absl"), logging.getLogger("asyncio")]
    levels, hook = [logger.level for logger in loggers], sys.unraisablehook
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda late: None if "Event loop is closed" in str(late.exc_value) else hook(late)
    yield
    sys.unraisablehook = hook
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
