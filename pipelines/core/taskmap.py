"""The task axis: a function written for one task, run for T of them on every device there is.

`lax.map` inside one shard per device on a CPU (one device per core), `vmap` on an accelerator. No collectives.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

MAPPINGS = ("auto", "map", "vmap")


class TaskAxis:
    """Lays T tasks over the devices; T is padded with copies of task 0 to a multiple of the device count.

    Tasks on one device follow each other (`map`) or run as one batch (`vmap`). Raises ValueError for another `how`.
    """

    def __init__(self, num_tasks: int, how: str = "auto") -> None:
        if how not in MAPPINGS:
            raise ValueError(f"mapping {how!r} is none of {MAPPINGS}")
        devices = jax.local_devices()
        self.num_tasks = num_tasks
        self.how = ("map" if devices[0].platform == "cpu" else "vmap") if how == "auto" else how
        self.padded = -(-num_tasks // len(devices)) * len(devices)
        self._mesh = Mesh(np.asarray(devices), ("task",), axis_types=(AxisType.Auto,))
        self._mapped = NamedSharding(self._mesh, PartitionSpec("task"))
        self._shared = NamedSharding(self._mesh, PartitionSpec())

    def put(self, tree: Any) -> Any:
        """Host or device leaves `[T, ...]` -> padded leaves on the devices."""

        def pad(leaf: Any) -> Any:
            extra = self.padded - self.num_tasks
            leaf = jnp.asarray(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else np.asarray(leaf)
            stack = jnp.concatenate if isinstance(leaf, jax.Array) else np.concatenate
            return stack([leaf, *[leaf[:1]] * extra]) if extra else leaf

        return self.put_padded(jax.tree.map(pad, tree))

    def put_padded(self, tree: Any) -> Any:
        """Leaves that are padded already (a checkpoint's) -> the devices."""
        return jax.device_put(tree, self._mapped)

    def get(self, tree: Any) -> Any:
        """Padded device leaves -> numpy leaves `[T, ...]`."""
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: self.num_tasks], tree)

    def over_tasks(self, one: Callable[..., Any], donate: tuple[int, ...] = ()) -> Callable[..., Any]:
        """`one(step, *args)` for one task -> the compiled `all(step, *args)` for padded leaves `[T, ...]`.

        `step` is an unmapped int32, so that `lax.cond` on it stays a branch. `donate` counts `step` as 0.
        """

        def shard(step: Any, *args: Any) -> Any:
            if self.how == "vmap":
                return jax.vmap(one, in_axes=(None, *[0] * len(args)))(step, *args)
            return jax.lax.map(lambda row: one(step, *row), args)

        def all_tasks(step: Any, *args: Any) -> Any:
            mapped = jax.shard_map(
                shard,
                mesh=self._mesh,
                in_specs=(PartitionSpec(), *[PartitionSpec("task")] * len(args)),
                out_specs=PartitionSpec("task"),
                check_vma=False,
            )
            return mapped(step, *args)

        compiled: dict[int, Any] = {}

        def call(step: int, *args: Any) -> Any:
            if len(args) not in compiled:
                shardings = (self._shared, *[self._mapped] * len(args))
                compiled[len(args)] = jax.jit(
                    all_tasks, in_shardings=shardings, out_shardings=self._mapped, donate_argnums=donate
                )
            return compiled[len(args)](np.int32(step), *args)

        return call
