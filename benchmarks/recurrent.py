"""Learners with a context at the published sizes of the cheetah: MQL's TD3 with a GRU, and PEARL."""

import jax
import jax.numpy as jnp

from benchmarks import loads
from benchmarks.across import Across
from benchmarks.work import DISCOUNT, random_logs
from pipelines.algos import mql, pearl
from pipelines.core.configs.algorithms import MqlConfig, PearlConfig
from pipelines.core.configs.base import resolve
from pipelines.core.types import Log
from pipelines.stages.mql_papers import BODIES

_CHEETAH = BODIES["halfcheetah-vel"]


def noise(tasks: int) -> Log:
    return jax.tree.map(jnp.asarray, random_logs(loads.SHAPE, tasks))


_MQL = resolve(MqlConfig, {**_CHEETAH.agents["mql"], "batch_size": 256})
_PEARL = resolve(PearlConfig, _CHEETAH.pearl)
PUBLISHED = (
    Across(
        "MQL",
        _MQL,
        lambda: mql.make(_MQL, loads.SHAPE.space, DISCOUNT),
        lambda: noise(2),
        "batch 256, history 20, GRU 15, actor and twin critics 300-300, delay 2",
        turns=_MQL.actor_delay,
    ),
    Across(
        "PEARL",
        _PEARL,
        lambda: pearl.make(_PEARL, loads.SHAPE.space, DISCOUNT),
        lambda: noise(16),
        "16 tasks x 256 rows, contexts of 100, all nets 300-300-300, encoder 200-200-200, z 5",
    ),
)
