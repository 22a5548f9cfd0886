"""BOReL's belief with the published sizes on the cheetah: 32 trials of 400 steps in one update, laid out as
stages/belief.py runs it. The logs are noise; what an update costs is not.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.work import ROWS, Size, random_logs
from pipelines.algos import belief
from pipelines.core.configs.base import resolve
from pipelines.core.configs.belief import BeliefConfig, BeliefStageConfig
from pipelines.core.learn import block, stage_key
from pipelines.core.samplers import Trials
from pipelines.core.types import Space
from pipelines.stages.belief_papers import BELIEF

TASKS = 8
CHEETAH = Size("cheetah", width=0, batch=0, obs=20, action=6).space


@dataclass(frozen=True)
class Believing:
    """A load of `benchmarks.learners` that learns across tasks: one update is one of all that are drawn."""

    name: str
    config: BeliefConfig
    space: Space
    horizon: int
    sizes: str
    tasks: int = 1

    @property
    def learner(self) -> belief.Model:
        return belief.make(self.config, self.space, self.horizon)

    def flop(self) -> int:
        """Of the matrix products of one update, gradients included; embeddings and heads (1%) are not counted."""
        trials = (self.config.tasks_per_update or TASKS) * self.config.trials_per_task
        steps = self.config.trial_episodes * self.horizon
        pair = 2 * sum(a * b for a, b in itertools.pairwise([*self.config.decoder_hidden, 1]))
        seen = self.config.embed_obs + self.config.embed_action + self.config.embed_reward
        step = 2 * (seen + self.config.width) * 3 * self.config.width
        return 3 * trials * steps * ((steps + 1) * pair + step)

    def block(self, num_updates: int) -> Callable[[], None]:
        """-> `run()`: `num_updates` updates, compiled, on resident data."""
        model, key = self.learner, stage_key(0, "bench")
        data = noise(self.space, self.config.trial_episodes * self.horizon)
        held = [jax.jit(model.init)(key, data)]
        program = jax.jit(block(model, num_updates), donate_argnums=1)

        def run() -> None:
            held[0], metrics = program(np.int32(0), held[0], data, key)
            jax.block_until_ready((held[0], metrics))

        return run


def noise(space: Space, steps: int) -> belief.Data:
    """Logs of all tasks, cut into trials of `steps` rows."""
    logs = random_logs(Size("", width=0, batch=0, obs=space.obs_dim, action=space.action_dim), TASKS)
    first = np.tile(np.arange(0, ROWS + 1, steps, dtype=np.int32), (TASKS, 1))
    first = first[:, : ROWS // steps + 1]
    where = Trials(first, np.full(TASKS, first.shape[1] - 1, np.int32))  # type: ignore[arg-type]
    return belief.Data(*jax.tree.map(jnp.asarray, (logs, where)))


_ROW = resolve(BeliefStageConfig, BELIEF["borel"]["halfcheetah-vel"], {"decode_state": False})
PUBLISHED = Believing(
    "BOReL-VAE",
    BeliefConfig.model_validate({name: getattr(_ROW, name) for name in BeliefConfig.model_fields}),
    CHEETAH,
    200,
    "4 tasks x 8 trials of 400 steps, GRU 128, decoder 32-32, 401 x 400 decodes of a trial",
)
