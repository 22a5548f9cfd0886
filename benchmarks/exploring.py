"""BOReL's learners with the published sizes, 16 tasks x 256 rows in one update, laid out as stages/metatrain.py runs
them.

The logs are noise on HalfCheetah's and the gridworld's spaces, and so are the beliefs beside them; what an update costs
is not. States are drawn out of logs and views in every update.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.work import DISCOUNT, HORIZON, ROWS, Size, product_flop, random_logs
from pipelines.algos import borel
from pipelines.algos.belief import make_encoder
from pipelines.core.bamdp import View
from pipelines.core.configs.algorithms import BorelConfig
from pipelines.core.configs.base import resolve
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.learn import block, stage_key
from pipelines.core.types import Space
from pipelines.stages.borel_papers import BOREL

TASKS, EPISODES, LATENT = 20, 2, 5
CHEETAH = Size("cheetah", width=0, batch=0, obs=20, action=6).space
GRID = Space(obs_shape=(2,), action_shape=(), num_actions=5, action_dtype="int32")


@dataclass(frozen=True)
class Exploring:
    """A load of `benchmarks.learners` that learns across tasks: one update is one of all that are drawn."""

    name: str
    config: BorelConfig
    space: Space
    sizes: str
    tasks: int = 1

    @property
    def learner(self) -> Any:
        return borel.make(self.config, self.space, DISCOUNT)

    def flop(self) -> int:
        """Of the matrix products of one update."""
        learner, data, key = self.learner, noise(self.space), jax.random.key(0)
        state, batch = jax.eval_shape(learner.init, key, data), jax.eval_shape(learner.sample, data, key)
        return product_flop(jax.make_jaxpr(learner.update)(state, batch, key, jnp.int32(0)).jaxpr)

    def block(self, num_updates: int) -> Callable[[], None]:
        """-> `run()`: `num_updates` updates, compiled, on resident data."""
        learner, data, key = self.learner, noise(self.space), stage_key(0, "bench")
        held = [jax.jit(learner.init)(key, data)]
        program = jax.jit(block(learner, num_updates), donate_argnums=1)

        def run() -> None:
            held[0], metrics = program(np.int32(0), held[0], data, key)
            jax.block_until_ready((held[0], metrics))

        return run


def noise(space: Space) -> borel.Data:
    """Logs of all tasks, with beliefs of trials of two episodes."""
    rng = np.random.default_rng(1)
    logs = random_logs(Size("", width=0, batch=0, obs=space.obs_dim, action=space.action_dim), TASKS)
    if space.num_actions is not None:
        logs = logs._replace(action=rng.integers(space.num_actions, size=logs.reward.shape, dtype=np.int32))  # type: ignore[arg-type]
    slots = ROWS + ROWS // (EPISODES * HORIZON)
    belief = rng.normal(size=(TASKS, slots, 2 * LATENT)).astype(np.float32)
    views = View(belief, np.full(TASKS, ROWS, np.int32))  # type: ignore[arg-type]
    coder = make_encoder(resolve(BeliefConfig, _BELIEF), space).init(jax.random.key(0))
    return borel.Data(*jax.tree.map(jnp.asarray, (logs, views, coder)))


_BELIEF = {"latent_dim": LATENT, "trial_episodes": EPISODES}


def _published(body: str) -> BorelConfig:
    return resolve(BorelConfig, BOREL["borel"][body]["agent"], {"belief": _BELIEF})


PUBLISHED = (
    Exploring("BOReL-SAC", _published("halfcheetah-vel"), CHEETAH, "16 tasks x 256 rows, 256-256, O 31, A 6"),
    Exploring("BOReL-DQN", _published("gridworld"), GRID, "16 tasks x 256 rows, 64-64, O 13, 5 actions"),
)
