"""Agents that go on from learners they are given, in all tasks at once: `collect`'s steps, updates and logs.

`Scanned` on the device families, `Stepped` around a simulator. Both are context managers. T tasks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.core.configs.stages import CollectConfig
from pipelines.core.learn import stage_key, task_keys
from pipelines.core.taskmap import TaskAxis
from pipelines.core.types import Algorithm, Array, HostFamily, Log, Task, TaskFamily, task_rows
from pipelines.stages import collect
from pipelines.stages.collect_host import Collection


@dataclass(frozen=True)
class Ground:
    """Where agents act: the tasks of a family, laid over the devices."""

    family: TaskFamily
    tasks: tuple[Task, ...]
    axis: TaskAxis
    seed: int

    def keys(self, name: str) -> tuple[Any, Any]:
        """Each task's key for the beginning of what is called `name`, and the one for the rest, on the devices."""
        pair = jax.random.split(stage_key(self.seed, f"finetune {name}"))
        first, rest = (self.axis.put(task_keys(key, [task.id for task in self.tasks])) for key in pair)
        return first, rest

    def mapped(self, one: Callable[..., Any], *trees: Any) -> Any:
        """`one(*trees of a task)` for each task, on the devices."""
        return self.axis.over_tasks(lambda step, *own: one(*own))(0, *trees)


def pace(steps: int, quiet_steps: int, block_steps: int, block_updates: int) -> CollectConfig:
    """`block_steps` steps, then `block_updates` updates, and so on; none in the first `quiet_steps`. The policy acts
    from the first step."""
    fields = {"steps": steps, "random_steps": quiet_steps, "block_steps": block_steps, "block_updates": block_updates}
    return CollectConfig.model_validate({"algorithm": "sac", "warmup": "policy", **fields})


class Scanned:
    """On a device family."""

    def __init__(self, ground: Ground, algorithm: Algorithm, config: CollectConfig, name: str, learner: Any) -> None:
        """`learner [T, ...]` on the devices is what agents begin with."""
        family: Any = ground.family
        self.axis, self.learner_before = ground.axis, learner
        self.rows = self.axis.put(task_rows(ground.tasks))
        self.init_keys, self.keys = ground.keys(name)

        def opened(step: Array, task: Array, key: Array, learner: Any) -> collect.Carry:
            given = replace(algorithm, init=lambda key, data: learner)
            return collect.begin(family, given, config, task, key)

        self._open = self.axis.over_tasks(opened)
        self._advance = self.axis.over_tasks(collect.block(family, algorithm, config), donate=(1,))

    def __enter__(self) -> "Scanned":
        return self

    def __exit__(self, *exc: Any) -> None:
        pass

    def begin(self) -> Any:
        """Everything at its beginning."""
        return self._open(0, self.rows, self.init_keys, self.learner_before)

    def restore(self, held: Any) -> Any:
        """A checkpoint's trees -> devices."""
        return self.axis.put_padded(held)

    def advance(self, step: int, carry: collect.Carry) -> tuple[collect.Carry, dict[str, Any]]:
        """A block of steps, and the updates that follow."""
        carry, metrics = self._advance(step, carry, self.rows, self.keys)
        return carry, self.axis.get(metrics)

    def learner(self, carry: collect.Carry) -> Any:
        return carry.learner

    def log(self, carry: collect.Carry) -> Log:
        return carry.recorder.log

    def memory(self, carry: collect.Carry) -> Any:
        """What the policies remember, every row observed."""
        return carry.live.memory


class Stepped:
    """Around a simulator, which is freed on leaving."""

    def __init__(self, ground: Ground, algorithm: Algorithm, config: CollectConfig, name: str, learner: Any) -> None:
        """`learner [T, ...]` on the devices is what agents begin with."""
        family: Any = ground.family
        self.ground, self.algorithm, self.learner_before = ground, algorithm, learner
        self.init_keys, self.keys = ground.keys(name)
        self.simulator = family.simulate(task_rows(ground.tasks, np.float64))
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), learner)
        nothing = lambda key, data: jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), shapes)  # noqa: E731
        blank = replace(algorithm, init=nothing)  # the learner is put in its place by `begin`
        self._collection = Collection(family, blank, config, ground.axis, ground.tasks, self.simulator, self.keys)

    def __enter__(self) -> "Stepped":
        self.simulator.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.simulator.__exit__(*exc)

    def begin(self) -> Any:
        """Everything at its beginning."""

        def remembers(learner: Any, key: Array) -> Any:
            acting = self.algorithm.acting(learner)
            memory = jax.vmap(lambda key: self.algorithm.policy.begin(acting, key))(key[None])
            return memory, key  # what comes of no argument would lie on the first device

        learning, moving = self._collection.begin(self.init_keys)
        memory, _ = self.ground.mapped(remembers, self.learner_before, self.init_keys)
        return learning._replace(learner=self.learner_before, memory=memory), moving

    def restore(self, held: Any) -> Any:
        """A checkpoint's trees -> devices and simulator."""
        return self._collection.restore(held)

    def advance(self, step: int, carry: Any) -> tuple[Any, dict[str, Any]]:
        """A block of steps, and the updates that follow."""
        return self._collection.advance(step, carry)

    def learner(self, carry: Any) -> Any:
        return carry[0].learner

    def log(self, carry: Any) -> Log:
        log: Log = carry[0].recorder.log
        return log

    def memory(self, carry: Any) -> Any:
        """What the policies remember, every row observed: the last one is shown them here."""
        learning, moving = carry

        def shown(learner: Any, memory: Any, row: Any) -> Any:
            memory, row = jax.tree.map(lambda leaf: leaf[0], (memory, row))  # of the one environment
            return self.algorithm.policy.observe(self.algorithm.acting(learner), memory, row)

        return self.ground.mapped(shown, learning.learner, learning.memory, self.ground.axis.put(moving.pending.row))


def gather(ground: Ground, algorithm: Algorithm, config: CollectConfig, name: str, learner: Any) -> Scanned | Stepped:
    """By the engine of the family."""
    if isinstance(ground.family, HostFamily):
        return Stepped(ground, algorithm, config, name, learner)
    return Scanned(ground, algorithm, config, name, learner)
