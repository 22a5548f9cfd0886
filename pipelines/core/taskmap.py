"""The task axis: a function written for one task, run for T of them on every device there is.

Each device runs the same one-device program on its share of the tasks: `lax.map` on a CPU (one device per core),
`vmap` on an accelerator. There is nothing to exchange, so there are no collectives, and a task's bits do not depend on
how many devices there are. (A `shard_map` over one device and one over several go through different passes of XLA and
round differently: that is why the programs are launched one per device.)
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

MAPPINGS = ("auto", "map", "vmap")


@dataclass(frozen=True)
class Shares:
    """A tree in pieces, one for each device: what a loop of many small programs hands from one to the next. To make
    arrays of it that span the devices (`TaskAxis.whole`) takes longer than such a program."""

    of: list[Any]

    def parts(self) -> "tuple[Shares, ...]":
        """Of a tuple: its parts, each in pieces."""
        return tuple(Shares(list(part)) for part in zip(*self.of, strict=True))


class TaskAxis:
    """Lays T tasks over at most T devices; T is padded with copies of task 0 to a multiple of the device count.

    Tasks on one device follow each other (`map`) or run as one batch (`vmap`). Raises ValueError for another `how`.
    """

    def __init__(self, num_tasks: int, how: str = "auto") -> None:
        if how not in MAPPINGS:
            raise ValueError(f"mapping {how!r} is none of {MAPPINGS}")
        self.devices = jax.local_devices()[:num_tasks]
        self.num_tasks = num_tasks
        self.how = ("map" if self.devices[0].platform == "cpu" else "vmap") if how == "auto" else how
        self.padded = -(-num_tasks // len(self.devices)) * len(self.devices)
        mesh = Mesh(np.asarray(self.devices), ("task",), axis_types=(AxisType.Auto,))
        self._sharding = NamedSharding(mesh, PartitionSpec("task"))

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
        return jax.device_put(tree, self._sharding)

    def replicate(self, tree: Any) -> Any:
        """Leaves without a task axis -> a copy on each device."""
        return jax.device_put(tree, NamedSharding(self._sharding.mesh, PartitionSpec()))

    def get(self, tree: Any) -> Any:
        """Padded device leaves, or Shares -> numpy leaves `[T, ...]`."""
        if isinstance(tree, Shares):
            return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: self.num_tasks], *tree.of)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: self.num_tasks], tree)

    def split(self, tree: Any) -> Shares:
        """Padded device leaves, or numpy leaves `[T, ...]`, which stay on the host -> each device's share."""
        if isinstance(tree, Shares):
            return tree
        structure: Any
        leaves, structure = jax.tree.flatten(tree)
        held = [self._shares(leaf) for leaf in leaves]
        return Shares([structure.unflatten([shares[at] for shares in held]) for at in range(len(self.devices))])

    def _shares(self, leaf: Any) -> list[Any]:
        if isinstance(leaf, jax.Array):
            on = {shard.device: shard.data for shard in leaf.addressable_shards}
            return [on[device] for device in self.devices]
        extra = self.padded - self.num_tasks
        leaf, size = np.concatenate([leaf, *[leaf[:1]] * extra]) if extra else leaf, self.padded // len(self.devices)
        return [leaf[first : first + size] for first in range(0, self.padded, size)]  # np.split takes ten times as long

    def whole(self, shares: Shares) -> Any:
        """-> leaves that span the devices."""

        def join(*parts: jax.Array) -> jax.Array:
            shape = (self.padded, *parts[0].shape[1:])
            return jax.make_array_from_single_device_arrays(shape, self._sharding, list(parts))

        return jax.tree.map(join, *shares.of)

    def over_tasks(
        self, one: Callable[..., Any], donate: tuple[int, ...] = (), shared: int = 0, whole: bool = True
    ) -> Callable[..., Any]:
        """`one(step, *args)` for one task -> `all(step, *args)` for padded leaves `[T, ...]`, compiled.

        `step` is an unmapped int32, so that `lax.cond` on it stays a branch. `donate` counts `step` as 0. The first
        `shared` of `args` are the same for all tasks (`replicate`). Arguments may be Shares; without `whole` the result
        is, too.
        """

        def share(step: Any, *args: Any) -> Any:
            common, own = args[:shared], args[shared:]
            if self.how == "vmap":
                return jax.vmap(one, in_axes=(None, *[None] * shared, *[0] * len(own)))(step, *common, *own)
            return jax.lax.map(lambda row: one(step, *common, *row), own)

        program = jax.jit(share, donate_argnums=donate)
        pool = ThreadPoolExecutor(len(self.devices))  # compiles for all devices at once, too

        def call(step: int, *args: Any) -> Any:
            shares = zip(*(self.split(arg).of for arg in args), strict=True)
            found = Shares(list(pool.map(lambda mine: program(np.int32(step), *mine), shares)))
            return self.whole(found) if whole else found

        return call
