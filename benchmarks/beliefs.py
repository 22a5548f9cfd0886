"""BOReL's belief with the published sizes on the cheetah: 32 trials of 400 steps in one update."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.across import Across
from benchmarks.work import ROWS, Size, random_logs
from pipelines.algos import belief
from pipelines.core.configs.base import resolve
from pipelines.core.configs.belief import BeliefConfig, BeliefStageConfig
from pipelines.core.samplers import Trials
from pipelines.core.types import Space
from pipelines.stages.belief_papers import BELIEF

TASKS, HORIZON = 8, 200
CHEETAH = Size("cheetah", width=0, batch=0, obs=20, action=6).space


def noise(space: Space, steps: int) -> belief.Data:
    """Logs of all tasks, cut into trials of `steps` rows."""
    logs = random_logs(Size("", width=0, batch=0, obs=space.obs_dim, action=space.action_dim), TASKS)
    first = np.tile(np.arange(0, ROWS + 1, steps, dtype=np.int32), (TASKS, 1))
    first = first[:, : ROWS // steps + 1]
    where = Trials(first, np.full(TASKS, first.shape[1] - 1, np.int32))  # type: ignore[arg-type]
    return belief.Data(*jax.tree.map(jnp.asarray, (logs, where)))


_ROW = resolve(BeliefStageConfig, BELIEF["borel"]["halfcheetah-vel"], {"decode_state": False})
CONFIG = BeliefConfig.model_validate({name: getattr(_ROW, name) for name in BeliefConfig.model_fields})
STEPS = CONFIG.trial_episodes * HORIZON  # of a trial


def _count() -> int:
    """Gradients included; embeddings and heads (1%) are not counted."""
    trials = (CONFIG.tasks_per_update or TASKS) * CONFIG.trials_per_task
    pair = 2 * sum(a * b for a, b in itertools.pairwise([*CONFIG.decoder_hidden, 1]))
    seen = CONFIG.embed_obs + CONFIG.embed_action + CONFIG.embed_reward
    step = 2 * (seen + CONFIG.width) * 3 * CONFIG.width
    return 3 * trials * STEPS * ((STEPS + 1) * pair + step)


PUBLISHED = Across(
    "BOReL-VAE",
    CONFIG,
    lambda: belief.make(CONFIG, CHEETAH, HORIZON),
    lambda: noise(CHEETAH, STEPS),
    "4 tasks x 8 trials of 400 steps, GRU 128, decoder 32-32, 401 x 400 decodes of a trial",
    CHEETAH,
    count=_count,
)
