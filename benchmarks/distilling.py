"""MBML's distillation with the published sizes: all ten tasks in one update.

The logs, the teachers' nets and the relabelled rows are noise on HalfCheetah's spaces; what an update costs is not.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import loads
from benchmarks.across import Across
from benchmarks.work import DISCOUNT, random_logs
from pipelines.algos import bcq, mbml, mbml_batch
from pipelines.algos.distilled import teaching
from pipelines.core.configs.algorithms import BcqConfig, MbmlConfig
from pipelines.core.configs.base import resolve
from pipelines.core.learn import stage_key, task_keys
from pipelines.core.samplers import Pool
from pipelines.core.types import Algorithm, Relabelled
from pipelines.stages.distill_papers import DISTILL

TASKS = 10
POOL = 4_096  # rows of each pair of tasks, the default of relabelling

TEACHER = resolve(BcqConfig, {"hidden": [400, 300], "vae_hidden": [750, 750], "batch_size": 100, "discount": DISCOUNT})


def noise() -> mbml_batch.Data:
    """Logs, values, teachers and relabelled rows of all tasks."""
    logs, rng = jax.tree.map(jnp.asarray, random_logs(loads.SHAPE, TASKS)), np.random.default_rng(1)
    teacher = bcq.make(TEACHER, loads.SHAPE.space, DISCOUNT)
    keys = task_keys(stage_key(1, "bench"), range(TASKS))
    acting = jax.vmap(lambda key, log: teacher.acting(teacher.init(key, log)))(keys, logs)
    size = np.full((TASKS, TASKS), POOL, np.int32)
    np.fill_diagonal(size, 0)
    shape = (TASKS, (TASKS - 1) * POOL)

    def numbers(end: int) -> Any:
        return jnp.asarray(rng.integers(end, size=shape), jnp.int32)

    def normal() -> Any:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    none = jnp.zeros((*shape, 0))
    rows = Relabelled(numbers(1), numbers(TASKS), numbers(loads.ROWS), normal(), normal(), none, numbers(1) - 1)
    pool = Pool(rows, jnp.asarray(np.cumsum(size, 1) - size, jnp.int32), jnp.asarray(size))
    return mbml_batch.Data(logs, jax.random.normal(keys[0], logs.reward.shape), acting, pool)


_AS_BCQ = {"noise_dim": 2 * loads.SHAPE.action, "noise_clip": TEACHER.noise_clip, "perturbation_scale": 0.05}
_CONFIG = resolve(MbmlConfig, DISTILL["mbml"]["halfcheetah-vel"]["agent"], _AS_BCQ)


def _learner() -> Algorithm:
    return mbml.make(
        _CONFIG, loads.SHAPE.space, teaching(bcq.make(TEACHER, loads.SHAPE.space, DISCOUNT), _CONFIG.noise_clip)
    )


PUBLISHED = Across(  # what the teachers propose (1%) is not counted
    "MBML",
    _CONFIG,
    _learner,
    noise,
    "10 tasks x 128 pairs in one update, contexts 64 + 64, Q 9x1024, G 7x1024, xi 8x1024, encoder 3x200",
)
