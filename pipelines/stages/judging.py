"""Online evaluation while policies are trained from a log: the policies of all tasks are played in their own tasks.

It is off by default: offline RL may not touch the environments. With `select=online` it also chooses which policies are
kept, as MBML's code chooses its teachers, and the card says so.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from pipelines.core.configs.stages import TrainConfig
from pipelines.core.learn import stage_key, task_keys
from pipelines.core.taskmap import TaskAxis
from pipelines.core.types import Algorithm, Task
from pipelines.rollouts import Lineup
from pipelines.stages.eval import player
from pipelines.tasks import registry


class Best(NamedTuple):
    """The best policy of each task that was played, in numpy; () for the policies where none is chosen."""

    acting: Any  # [T, ...]
    value: np.ndarray  # [T] float64, its mean online return
    update: np.ndarray  # [T] int32, updates done by then


class Judge:
    """Plays the policies of T tasks every `eval_every` updates, and at the end."""

    def __init__(
        self, config: TrainConfig, family: str, algorithm: Algorithm, axis: TaskAxis, tasks: tuple[Task, ...], seed: int
    ) -> None:
        """Raises UsageError, or what finding a family raises, where there is nothing to play on."""
        found = registry.find(family, evaluation=True)
        self.config, self.family = config, found.name
        self._algorithm, self._axis, self._tasks = algorithm, axis, tasks
        self._keys = task_keys(stage_key(seed, "train-online"), [task.id for task in tasks])
        self._play = player(found, algorithm.policy, found.discount, config.eval_episodes, Lineup(axis, tasks))

    def begin(self, state: Any) -> Best:
        """Before anything was played."""
        none = np.full(len(self._tasks), -np.inf)
        acting = self._axis.get(self._algorithm.acting(state)) if self.config.select == "online" else ()
        return Best(acting, none, np.zeros(len(none), np.int32))

    def look(self, update: int, state: Any, best: Best) -> tuple[Best, dict[str, np.ndarray]]:
        """After `update` updates -> (the best so far, metrics: `online_return [T]` where the policies were played)"""
        if update % (self.config.eval_every or 1) and update != self.config.updates:
            return best, {}
        acting = self._algorithm.acting(state)
        keys = jax.vmap(jax.random.fold_in, (0, None))(self._keys, update)
        found = np.asarray(self._play(acting, self._axis.put(keys)).returns, np.float64).mean(1)
        better = found > best.value
        best = best._replace(value=np.where(better, found, best.value), update=np.where(better, update, best.update))
        if self.config.select == "online":
            best = best._replace(acting=_where(better, self._axis.get(acting), best.acting))
        return best._replace(update=best.update.astype(np.int32)), {"online_return": found}

    @staticmethod
    def on_card(config: TrainConfig, log_card: Any, best: Best) -> dict[str, Any]:
        """What the card says: that tasks were played, how often, and which policies were chosen by it."""
        names = [task["name"] for task in log_card.tasks]
        online: dict[str, Any] = {
            "family": registry.find(log_card.extra["family"], evaluation=True).name,
            "every": config.eval_every,
            "episodes": config.eval_episodes,
        }
        if config.select == "online":
            online["update"] = dict(zip(names, best.update.tolist(), strict=True))
            online["return"] = dict(zip(names, best.value.tolist(), strict=True))
        return {"select": config.select, "online": online}


def _where(condition: np.ndarray, new: Any, old: Any) -> Any:
    """Task by task `[T, ...]`."""

    def pick(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.where(condition.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, new, old)
