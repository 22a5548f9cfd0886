"""Learners of one task each with the published sizes, T of them at once, laid out exactly as the stages run them.

Every log is noise on HalfCheetah's spaces: `work.random_logs`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.work import DISCOUNT, ROWS, Size, product_flop, random_logs
from pipelines.algos import bcq, models, sac
from pipelines.core.configs.algorithms import BcqConfig, SacConfig
from pipelines.core.configs.base import Config, resolve
from pipelines.core.configs.models import ModelConfig
from pipelines.core.learn import block, stage_key, task_keys
from pipelines.core.taskmap import TaskAxis
from pipelines.core.types import Log, Space, transitions

SHAPE = Size("cheetah", width=0, batch=0, obs=17, action=6)  # widths and batches are the configs'


@dataclass(frozen=True)
class Load:
    """What learns, from what, and how its sizes are written. `tasks`: how many are meant to learn at once."""

    name: str
    config: Config
    make: Callable[[Any, Space, float], Any]
    sizes: str
    tasks: int
    given: Callable[[Log], Any] = lambda log: log  # what it is given of a task's log

    @property
    def space(self) -> Space:
        return SHAPE.space

    @property
    def learner(self) -> Any:
        """It has init, sample and update: an Algorithm, or a model."""
        return self.make(self.config, SHAPE.space, DISCOUNT)

    def flop(self) -> int:
        """Multiplications and additions of the matrix products of one update of one task, counted in its program."""
        learner, key = self.learner, jax.random.key(0)
        log = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), random_logs(SHAPE, 1))
        data = jax.eval_shape(self.given, log)
        state, batch = jax.eval_shape(learner.init, key, data), jax.eval_shape(learner.sample, data, key)
        return product_flop(jax.make_jaxpr(learner.update)(state, batch, key, jnp.int32(0)).jaxpr)

    def block(self, num_updates: int, num_tasks: int | None = None) -> Callable[[], None]:
        """-> `run()`: one compiled block of `num_updates` updates of each of T tasks, on resident data, as
        stages/train.py and stages/relabel.py run them."""
        tasks, learner = num_tasks or self.tasks, self.learner
        axis = TaskAxis(tasks)
        keys = axis.put(task_keys(stage_key(0, "bench"), range(tasks)))
        data = axis.over_tasks(lambda step, log: self.given(log))(0, axis.put(random_logs(SHAPE, tasks)))
        held = [axis.over_tasks(lambda step, key, data: learner.init(key, data))(0, keys, data)]
        program = axis.over_tasks(block(learner, num_updates), donate=(1,))

        def run() -> None:
            held[0], metrics = program(0, held[0], data, keys)
            jax.block_until_ready((held[0], metrics))

        return run


_BCQ = resolve(BcqConfig, {"hidden": [400, 300], "vae_hidden": [750, 750], "batch_size": 100, "discount": 0.99})
_SAC = resolve(SacConfig, {"hidden": [256, 256], "batch_size": 256, "discount": 0.99})
_MODEL = resolve(ModelConfig, {})

LOADS = (
    Load("BCQ", _BCQ, bcq.make, "VAE 750-750, critics and perturbation 400-300, 10 actions, batch 100", 8),
    Load("SAC", _SAC, sac.make, "256-256, batch 256", 8),
    Load(
        "rewards",
        _MODEL,
        lambda config, space, discount: models.make(config, space),
        "ensembles of 20 nets of 128, batch 128",
        10,
        models.hold_out,
    ),
)


def load(name: str) -> Load:
    return next(one for one in LOADS if one.name == name)


def write_rows(path: Path) -> None:
    """The first task's rows as plain columns, for peers: obs, action, reward, next_obs, terminal."""
    log: Any = jax.tree.map(lambda leaf: leaf[0], random_logs(SHAPE, 1))
    rows = transitions(log, np.arange(ROWS))  # type: ignore[arg-type]
    np.savez(
        path,
        obs=rows.obs,
        action=rows.action,
        reward=rows.reward,
        next_obs=rows.next_obs,
        terminal=rows.terminal,
    )
