"""The work that is measured: blocks of updates on logs of random numbers, laid out exactly as the stages run them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from pipelines.algos import sac, time
from pipelines.core.configs.algorithms import SacConfig, TimeConfig
from pipelines.core.configs.base import resolve
from pipelines.core.learn import block, stage_key, task_keys
from pipelines.core.taskmap import TaskAxis
from pipelines.core.types import Algorithm, Log, Space

ROWS, HORIZON, DISCOUNT = 6_000, 20, 0.95  # of one task's log: what `collect` writes for the point family
MOST_UPDATES = 500  # in one compiled block: the stages' default
WORKS = ("SAC", "tiMe")


@dataclass(frozen=True)
class Size:
    """Nets of two layers of `width`, `batch` rows of each task, observations `[obs]`, actions `[action]`."""

    name: str
    width: int
    batch: int
    obs: int
    action: int

    @property
    def space(self) -> Space:
        return Space((self.obs,), (self.action,), (-1.0,) * self.action, (1.0,) * self.action)


SIZES = (
    Size("small", width=128, batch=128, obs=2, action=2),  # the preset, on the point family
    Size("paper", width=256, batch=256, obs=17, action=6),  # HalfCheetah's spaces
)


def make_algorithm(work: str, size: Size) -> Algorithm:
    """ "SAC" (one task's view) or "tiMe" (across tasks), with the nets and batch of `size`."""
    width = size.width
    if work == "SAC":
        sac_fields = {"hidden": [width, width], "batch_size": size.batch}
        return sac.make(resolve(SacConfig, sac_fields), size.space, DISCOUNT)
    fields = {
        "encoder_hidden": [width],
        "embed_hidden": [width],
        "embed_dim": width,
        "predictor_hidden": [width],
        "q_hidden": [width, width],
        "batch_size": size.batch,
    }
    return time.make(resolve(TimeConfig, fields), size.space)


def random_logs(size: Size, num_tasks: int) -> Log:
    """Full logs `[T, N, ...]` of whole episodes; every number in them is noise."""
    rng = np.random.default_rng(0)
    rows = np.broadcast_to(np.arange(ROWS, dtype=np.int32), (num_tasks, ROWS))

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=(num_tasks, *shape)).astype(np.float32)

    columns: dict[str, Any] = {  # numpy, as an artifact's arrays are
        "obs": normal(ROWS + ROWS // HORIZON, size.obs),
        "action": np.tanh(normal(ROWS, size.action)),
        "reward": normal(ROWS),
        "terminal": np.zeros(rows.shape, bool),
        "truncated": rows % HORIZON == HORIZON - 1,
        "outcome": np.zeros((*rows.shape, 0), np.float32),
        "episode": rows // HORIZON,
        "step": rows % HORIZON,
        "behaviour": np.zeros(rows.shape, np.int32),
        "size": np.full(num_tasks, ROWS, np.int32),
    }
    return Log(**columns)


def prepare(work: str, size: Size, num_tasks: int, num_updates: int) -> Callable[[], Callable[[], None]]:
    """-> `fresh()`, which builds the program anew and returns `run()`: one block of `num_updates` for all T tasks."""
    algorithm, logs = make_algorithm(work, size), random_logs(size, num_tasks)

    def fresh() -> Callable[[], None]:
        carry, advance = (_per_task if work == "SAC" else _across)(algorithm, logs, num_updates)
        held = [carry]

        def run() -> None:
            held[0], metrics = advance(held[0])
            jax.block_until_ready((held[0], metrics))

        return run

    return fresh


def _per_task(algorithm: Algorithm, logs: Log, num_updates: int) -> tuple[Any, Callable[[Any], Any]]:
    """As stages/train.py does it: (state, advance)."""
    num_tasks = logs.size.shape[0]
    axis = TaskAxis(num_tasks)
    keys, data = axis.put(task_keys(stage_key(0, "bench"), range(num_tasks))), axis.put(logs)
    carry = axis.over_tasks(lambda step, key, log: algorithm.init(key, log))(0, keys, data)
    program = axis.over_tasks(block(algorithm, num_updates), donate=(1,))
    return carry, lambda carry: program(0, carry, data, keys)


def _across(algorithm: Algorithm, logs: Log, num_updates: int) -> tuple[Any, Callable[[Any], Any]]:
    """As stages/across.py does it, with teachers whose values are noise: (state, advance)."""
    teacher_q = np.random.default_rng(1).normal(size=logs.reward.shape)
    data = jax.tree.map(jnp.asarray, time.Data(logs, jnp.float32(teacher_q)))
    key = stage_key(0, "bench")
    carry = jax.jit(algorithm.init)(key, data)
    program = jax.jit(block(algorithm, num_updates), donate_argnums=1)
    return carry, lambda carry: program(np.int32(0), carry, data, key)


# ---- counting -------------------------------------------------------------------------------------------------------


class Shapes(NamedTuple):
    """What one update sees, as shapes only."""

    state: Any
    batch: Any
    key: Any


def shapes(algorithm: Algorithm, work: str, size: Size, num_tasks: int) -> Shapes:
    """Of one update: one task's for SAC, all T tasks' for tiMe."""
    logs, key = random_logs(size, num_tasks), jax.random.key(0)
    data: Any = time.Data(logs, logs.reward) if work == "tiMe" else jax.tree.map(lambda leaf: leaf[0], logs)
    data = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), data)
    state = jax.eval_shape(algorithm.init, key, data)
    return Shapes(state, jax.eval_shape(algorithm.sample, data, key), key)


def flop_per_update(work: str, size: Size, num_tasks: int) -> int:
    """Multiplications and additions of the matrix products of one update, counted in its program.

    One task's update for SAC, one update across all T tasks for tiMe. Elementwise work is left out: it is what a share
    of the matrix-product peak must not be credited for.
    """
    algorithm = make_algorithm(work, size)
    state, batch, key = shapes(algorithm, work, size, num_tasks)
    return product_flop(jax.make_jaxpr(algorithm.update)(state, batch, key, jnp.int32(0)).jaxpr)


def product_flop(jaxpr: Jaxpr) -> int:
    """2 m k n, summed over the matrix products of a program that has no loops. Raises ValueError where it has one."""
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            lhs: Any = equation.invars[0].aval
            out: Any = equation.outvars[0].aval
            total += 2 * math.prod(out.shape) * math.prod(lhs.shape[axis] for axis in contracted)
            continue
        inner = [
            part.jaxpr if isinstance(part, ClosedJaxpr) else part
            for part in equation.params.values()
            if isinstance(part, Jaxpr | ClosedJaxpr)
        ]
        found = sum(product_flop(part) for part in inner)
        if found and name in ("while", "scan", "cond"):
            raise ValueError(f"matrix products inside {name}: how often they run cannot be read off the program")
        total += found
    return total
