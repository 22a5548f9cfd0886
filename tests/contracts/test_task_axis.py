"""Per-task algorithms under the task axis: tasks are strangers to each other, however they are laid out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from pipelines.core.learn import block, task_keys
from pipelines.core.taskmap import TaskAxis
from pipelines.core.trees import stack
from pipelines.core.types import Log, Space
from pipelines.stages import learners
from tests.toys import AGENTS, logs_of, make, space_of, spoiled

SHARED = learners.SHARED | {"sac"}  # `sac` is `batch-sac` that starts without a log
PER_TASK = sorted(name for name in AGENTS if name.partition("/")[0] not in SHARED)
UPDATES = 10
FAST = ("batch-sac", "bcq", "discrete-bcq")  # the others compile for a minute, and use the axis as these do
IDS = [0, 90_000, 180_000, 45_000]


def pick(tree: Any, chosen: int | list[int]) -> Any:
    return jax.tree.map(lambda leaf: leaf[np.asarray(chosen)], tree)


class Trained(NamedTuple):
    """One algorithm, trained on tasks together or alone, always from each task's own keys."""

    init: Callable[..., Any]
    block: Callable[..., Any]
    compiled: dict[str, Any]
    space: Space

    def together(self, how: str, logs: Log, ids: list[int]) -> Any:
        """(state, metrics) [T, ...] after ten updates under the task axis."""
        axis = TaskAxis(len(ids), how)
        advance = self.compiled.setdefault(how, axis.over_tasks(self.block, donate=(1,)))
        keys = task_keys(jax.random.key(0), ids)
        states = [self.init(keys[task], pick(logs, task)) for task in range(len(ids))]
        return axis.get(advance(0, axis.put(stack(states)), axis.put(logs), axis.put(keys)))

    def alone(self, log: Log, task_id: int) -> Any:
        """(state, metrics) of one task."""
        key = task_keys(jax.random.key(0), [task_id])[0]
        run = self.compiled.setdefault("alone", jax.jit(self.block))
        return jax.tree.map(np.asarray, run(np.int32(0), self.init(key, log), log, key))


def some(name: str) -> Any:
    return name if name in FAST else pytest.param(name, marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=[some(name) for name in PER_TASK])
def trained(request: pytest.FixtureRequest) -> Trained:
    algorithm = make(request.param)
    return Trained(jax.jit(algorithm.init), block(algorithm, UPDATES), {}, space_of(request.param))


def bits(tree: Any, task: int) -> list[bytes]:
    return [leaf[task].tobytes() for leaf in jax.tree.leaves(tree)]


def gap(tree: Any, other: Any) -> float:
    """Largest difference of any leaf, in units of that leaf's largest entry."""
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-12)) for a, b in pairs if a.size)


def test_a_spoilt_task_leaves_the_others_their_bits(trained):
    logs = logs_of(3, trained.space)
    broken = jax.tree.map(lambda leaf, bad: np.concatenate([leaf[:1], bad[1:2], leaf[2:]]), logs, spoiled(logs))
    whole, spoilt = trained.together("auto", logs, IDS[:3]), trained.together("auto", broken, IDS[:3])
    for task in (0, 2):
        assert bits(whole, task) == bits(spoilt, task)
    assert not all(np.isfinite(metric[1]) for metric in spoilt[1].values())  # and the spoilt one shows it


def test_a_task_more_leaves_the_others_their_bits(trained):
    logs = logs_of(4, trained.space)
    three, four = trained.together("auto", pick(logs, [0, 1, 2]), IDS[:3]), trained.together("auto", logs, IDS)
    for task in range(3):
        assert bits(three, task) == bits(four, task)


@pytest.mark.parametrize("how", ["auto", "vmap"])
def test_together_and_alone_agree(trained, how):
    """To 1e-5 of each leaf's size after ten updates on the same batches."""
    logs = logs_of(3, trained.space)
    together = trained.together(how, logs, IDS[:3])
    for task in range(3):
        assert gap(pick(together, task), trained.alone(pick(logs, task), IDS[task])) < 1e-5
    assert gap(pick(together, 0), pick(together, 1)) > 0.01  # the control: tasks do differ
