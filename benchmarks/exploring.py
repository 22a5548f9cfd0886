"""BOReL's learners with the published sizes, 16 tasks x 256 rows in one update.

The logs are noise on HalfCheetah's and the gridworld's spaces, and so are the beliefs beside them. States are drawn out
of logs and views in every update.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.across import Across
from benchmarks.work import DISCOUNT, HORIZON, ROWS, Size, random_logs
from pipelines.algos import borel
from pipelines.algos.belief import make_encoder
from pipelines.core.bamdp import View
from pipelines.core.configs.algorithms import BorelConfig
from pipelines.core.configs.base import resolve
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.types import Space
from pipelines.stages.borel_papers import BOREL

TASKS, EPISODES, LATENT = 20, 2, 5
CHEETAH = Size("cheetah", width=0, batch=0, obs=20, action=6).space
GRID = Space(obs_shape=(2,), action_shape=(), num_actions=5, action_dtype="int32")


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


def _published(name: str, body: str, space: Space, sizes: str) -> Across:
    config = resolve(BorelConfig, BOREL["borel"][body]["agent"], {"belief": _BELIEF})
    return Across(name, config, lambda: borel.make(config, space, DISCOUNT), lambda: noise(space), sizes, space)


PUBLISHED = (
    _published("BOReL-SAC", "halfcheetah-vel", CHEETAH, "16 tasks x 256 rows, 256-256, O 31, A 6"),
    _published("BOReL-DQN", "gridworld", GRID, "16 tasks x 256 rows, 64-64, O 13, 5 actions"),
)
