"""Loads of `benchmarks.learners` that learn across tasks, laid out as stages/across.py runs them: one update is one of
all tasks that it draws. The logs are noise of the published sizes; what an update costs is not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from benchmarks import loads
from benchmarks.work import product_flop
from pipelines.core.learn import block, stage_key
from pipelines.core.types import Space


@dataclass(frozen=True)
class Across:
    """A learner, what it learns from, and the sizes of an update in words."""

    name: str
    config: Any
    make: Callable[[], Any]  # -> the learner
    data: Callable[[], Any]  # -> what its `init` and `sample` take
    sizes: str
    space: Space = loads.SHAPE.space
    turns: int = 1  # updates of which each does something else: an actor may have every second one
    count: Callable[[], int] | None = None  # operations of an update, where the program does not tell
    tasks: int = 1

    def flop(self) -> int:
        """Of the matrix products of one update, a mean over its turns."""
        if self.count is not None:
            return self.count()
        learner, data, key = self.make(), jax.eval_shape(self.data), jax.random.key(0)
        state, batch = jax.eval_shape(learner.init, key, data), jax.eval_shape(learner.sample, data, key)

        def one(turn: int) -> int:
            with jax.disable_jit(self.turns > 1):  # which takes the branch of a turn that is known
                program = jax.make_jaxpr(lambda *args: learner.update(*args, turn))(state, batch, key)
            return product_flop(program.jaxpr)

        return sum(one(turn) for turn in range(self.turns)) // self.turns

    def block(self, num_updates: int) -> Callable[[], None]:
        """-> `run()`: `num_updates` updates, compiled, on resident data."""
        learner, data, key = self.make(), self.data(), stage_key(0, "bench")
        held = [jax.jit(learner.init)(key, data)]
        program = jax.jit(block(learner, num_updates), donate_argnums=1)

        def run() -> None:
            held[0], metrics = program(np.int32(0), held[0], data, key)
            jax.block_until_ready((held[0], metrics))

        return run
