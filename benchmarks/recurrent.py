"""MQL's TD3 with a GRU context with the published sizes of the cheetah, laid out as stages/metatrain.py runs it.

The logs are noise on HalfCheetah's spaces; what an update costs is not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import loads
from benchmarks.work import DISCOUNT, product_flop, random_logs
from pipelines.algos import mql
from pipelines.core.configs.algorithms import MqlConfig
from pipelines.core.configs.base import resolve
from pipelines.core.learn import block, stage_key
from pipelines.core.types import Log
from pipelines.stages.mql_papers import BODIES

TASKS = 2


@dataclass(frozen=True)
class Recurrent:
    """A load of `benchmarks.learners` that learns across tasks: one update is one of all of them."""

    name: str
    config: MqlConfig
    sizes: str
    tasks: int = 1

    @property
    def learner(self) -> Any:
        return mql.make(self.config, loads.SHAPE.space, DISCOUNT)

    def flop(self) -> int:
        """Of the matrix products of one update, a mean over those in which the actor has its turn and the others."""
        learner, data, key = self.learner, _noise(), jax.random.key(0)
        state, batch = jax.eval_shape(learner.init, key, data), jax.eval_shape(learner.sample, data, key)

        def one(turn: int) -> int:
            with jax.disable_jit():  # which takes the branch of a turn that is known
                program = jax.make_jaxpr(lambda *args: learner.update(*args, turn))(state, batch, key)
            return product_flop(program.jaxpr)

        return sum(one(turn) for turn in range(self.config.actor_delay)) // self.config.actor_delay

    def block(self, num_updates: int) -> Callable[[], None]:
        """-> `run()`: `num_updates` updates, compiled, on resident data."""
        learner, data, key = self.learner, _noise(), stage_key(0, "bench")
        held = [jax.jit(learner.init)(key, data)]
        program = jax.jit(block(learner, num_updates), donate_argnums=1)

        def run() -> None:
            held[0], metrics = program(np.int32(0), held[0], data, key)
            jax.block_until_ready((held[0], metrics))

        return run


def _noise() -> Log:
    return jax.tree.map(jnp.asarray, random_logs(loads.SHAPE, TASKS))


_AGENT = {**BODIES["halfcheetah-vel"].agents["mql"], "batch_size": 256}
PUBLISHED = Recurrent(
    "MQL", resolve(MqlConfig, _AGENT), "batch 256, history 20, GRU 15, actor and twin critics 300-300, delay 2"
)
