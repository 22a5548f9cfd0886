"""A family whose tasks differ in their dynamics, and logs of families that no listing has."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from pipelines.core.trees import from_dict, task_leaf
from pipelines.core.types import DeviceFamily, Log, Relabelled, TaskFamily, Transition, transitions
from pipelines.tasks import registry
from tests.lines import line
from tests.toys import Stored, make_log, shapes_of


def drifting(num_tasks: int = 3, ends_at: float | None = None) -> DeviceFamily:
    """A point that moves by its action and its task's drift, the same in all tasks but for that; it is paid three times
    its place, which only the outcome tells."""
    still = line(num_tasks=num_tasks, ends_at=ends_at)

    def step(task: Any, state: Any, action: Any, key: Any) -> Any:
        place, _, _, terminal, _ = still.step(task, state, action + drift(task[..., 0]), key)
        outcome = 3 * place
        return place, place, reward(task, state, action, place, outcome), terminal, outcome

    def reward(task: Any, obs: Any, action: Any, next_obs: Any, outcome: Any) -> Any:
        return outcome[..., 0]

    return dataclasses.replace(still, step=step, reward=reward, outcome=("thrice",), dynamics=True)


def drift(number: Any) -> Any:
    return 0.5 * (number - 2)


def found_as(family: TaskFamily, monkeypatch: Any) -> TaskFamily:
    """Whatever family is asked for, it is this one."""
    monkeypatch.setattr(registry, "find", lambda name, evaluation=False: family)
    return family


def log_of(family: TaskFamily, num_episodes: int = 20) -> Stored:
    """A replay-log of uniform actions on the training tasks of `line` or of `drifting`, in episodes of five rows."""
    tasks = family.tasks("train")
    tree = {}
    for index, task in enumerate(tasks):
        log = make_log(task.id, [5] * num_episodes, (), family.space)
        moves = log.action[:, 0] + (drift(task.id) if family.dynamics else 0.0)
        start = np.random.default_rng(index).choice([0.0, 0.5], (num_episodes, 1))
        obs = start + np.pad(np.cumsum(moves.reshape(-1, 5), 1), ((0, 0), (1, 0)))
        place = obs[:, 1:].reshape(-1, 1)
        outcome = 3 * place if family.dynamics else np.column_stack([place, log.action])
        reward = family.reward(task.row()[None], None, log.action, place, outcome)
        log = log._replace(
            **{
                name: np.float32(column)
                for name, column in {"obs": obs.reshape(-1, 1), "outcome": outcome, "reward": reward}.items()
            }
        )
        tree[task_leaf(index)] = {name: np.array(column) for name, column in log._asdict().items()}
    extra = {
        "family": family.name,
        "space": family.space.to_json(),
        "horizon": family.horizon,
        "discount": family.discount,
        "algorithm": "sac",
        "agent": {},
    }
    about = {"tasks": [task.to_json() for task in tasks], "extra": extra, "arrays": shapes_of(tree), "config": {}}
    return Stored(SimpleNamespace(kind="replay-log", id="log", digest="bits of log", seed=0, **about), tree)


def rows_of(artifact: Stored, index: int) -> Relabelled:
    return from_dict(Relabelled, artifact.tree[task_leaf(index)])


def logs_of(artifact: Stored) -> list[Log]:
    return [
        Log(**{name: artifact.tree[task_leaf(index)][name] for name in Log._fields})
        for index in range(len(artifact.card.tasks))
    ]


def logged(artifact: Stored, found: Relabelled) -> Transition:
    """The rows [M] that `found` names, as they were logged, one by one."""
    logs = logs_of(artifact)
    each = [transitions(logs[task], np.array([row])) for task, row in zip(found.task, found.row, strict=True)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *each)
