"""Trees of arrays between NamedTuples (in programs) and plain nested dicts (in artifacts)."""

from typing import Any, get_type_hints

import jax
import numpy as np

from pipelines.core.errors import WrongKind
from pipelines.core.types import Log


def is_record(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def to_dict(tree: Any) -> Any:
    """NamedTuples -> dicts, arrays -> numpy. Dicts stay dicts."""
    if isinstance(tree, dict):
        return {name: to_dict(value) for name, value in tree.items()}
    if is_record(type(tree)):
        return {name: to_dict(value) for name, value in tree._asdict().items()}
    return np.asarray(tree)


def from_dict(kind: Any, tree: Any) -> Any:
    """The inverse of `to_dict` for the NamedTuple type `kind`; fields of other types are taken as they are.

    Raises WrongKind where a field is missing.
    """
    if not is_record(kind):
        return tree
    hints = get_type_hints(kind)
    missing = [name for name in kind._fields if name not in tree]
    if missing:
        raise WrongKind(f"the artifact has no {kind.__name__}.{missing[0]}", "it was written by another version")
    return kind(**{name: from_dict(hints[name], tree[name]) for name in kind._fields})


def stack(trees: list[Any]) -> Any:
    """[tree, ...] -> tree with a new leading axis, in numpy."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *trees)


def stack_logs(columns: list[dict[str, np.ndarray]]) -> Log:
    """One dict of columns per task -> a Log with a leading T. Shorter logs are padded with rows past their `size`."""
    longest = {name: max(len(task[name]) for task in columns) for name in Log._fields if name != "size"}

    def pad(name: str, values: np.ndarray) -> np.ndarray:
        if name == "size" or len(values) == longest[name]:
            return np.asarray(values)
        return np.concatenate([values, np.zeros((longest[name] - len(values), *values.shape[1:]), values.dtype)])

    stacked: dict[str, Any] = {name: np.stack([pad(name, task[name]) for task in columns]) for name in Log._fields}
    return Log(**stacked)


def task_leaf(index: int) -> str:
    """The name of a task's columns in a replay-log artifact."""
    return f"task_{index:04d}"
