"""Policies on a line whose every step is known, for what evaluation makes of them."""

import dataclasses
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.core.trees import task_leaf
from pipelines.core.types import Algorithm, Latent, Policy, Task
from pipelines.stages import learners
from pipelines.tasks import registry
from tests.lines import line, play
from tests.toys import Stored, run, shapes_of

HORIZON = 4
WAY = np.arange(1, HORIZON + 1).sum()  # the sum of the places on a way of whole steps


def task(id, times, split="train"):
    return Task(id, f"times {times}", split, {"times": float(times)})


TASKS = {"train": (task(1, -1), task(2, 1)), "test": (task(1, -1, "test"), task(2, 1, "test"))}


def family(tasks=TASKS, discount=0.1):
    """The line from 0, paid the place times the task's number."""
    there = line(horizon=HORIZON, discount=discount)

    def reset(task, key):
        return jnp.zeros(1), jnp.zeros(1)

    return dataclasses.replace(there, reset=reset, tasks=lambda split: tasks.get(split, ()))


class Acting(NamedTuple):
    speed: Any


class Memory(NamedTuple):
    """All that was seen of a task."""

    paid: Any
    rows: Any


EMPTY = Memory(jnp.float32(0), jnp.float32(0))


def searcher(forgets=False):
    """Moves at `speed` to see what that pays, and from the next episode on where it pays."""

    def move(speed, memory):
        return jnp.where(memory.rows >= HORIZON, jnp.abs(speed) * jnp.sign(memory.paid), speed)

    return Policy(
        begin=lambda acting, key: EMPTY,
        start=lambda acting, memory, obs, key: EMPTY if forgets else memory,
        act=lambda acting, memory, obs, key, explore: move(acting.speed, memory)[None],
        observe=lambda acting, memory, row: Memory(
            memory.paid + row.reward * jnp.sign(row.next_obs[0]), memory.rows + 1
        ),
        value=lambda acting, memory, obs, action: memory.rows,
        latent=lambda acting, memory: Latent(memory.paid[None], jnp.zeros(1)),
    )


def algorithm(policy):
    none: Any = None
    return Algorithm(none, none, none, none, Acting, policy)


def finder(monkeypatch):
    """`known(family, policy)`: they are what is found, whatever is asked for."""

    def known(family, policy):
        monkeypatch.setattr(registry, "find", lambda name, evaluation=False: family)
        monkeypatch.setattr(learners, "make", lambda *args: algorithm(policy))

    return known


def agent(speeds=(), final=1.0, log="log", tasks=TASKS["train"]):
    """A meta-policy that ended at speed `final`; its snapshots, each ten updates, had `speeds`."""
    steps = 10 * np.arange(1, len(speeds) + 1, dtype=np.int32)
    snapshots = {"snapshots": {"speed": np.float32(speeds)}} if len(speeds) else {}
    space = line().space.to_json()
    extra = {"family": "line/toy", "algorithm": "time", "agent": {}, "space": space, "discount": 0.1}
    parents = {"log": SimpleNamespace(id=log, digest=f"bits of {log}")}
    card = SimpleNamespace(id="policy", tasks=[one.to_json() for one in tasks], extra=extra, parents=parents)
    return Stored(card, {"acting": {"speed": np.float32(final)}, **snapshots, "snapshot_step": steps})


def up(played, rows=12, tasks=TASKS["train"], id="log"):
    """A replay-log of moves upwards in each task."""
    tree = {}
    for number, one in enumerate(tasks):
        log = play(played, lambda obs, key: jnp.ones(1), rows, one.row(), jax.random.key(number))
        tree[task_leaf(number)] = {name: np.array(column) for name, column in log._asdict().items()}
    extra = {"family": "line/toy", "space": line().space.to_json(), "horizon": HORIZON, "discount": 0.1}
    about = {"tasks": [one.to_json() for one in tasks], "extra": extra, "arrays": shapes_of(tree)}
    return Stored(SimpleNamespace(kind="replay-log", id=id, digest=f"bits of {id}", seed=0, parents={}, **about), tree)


def evaluate(policy, *layers, **inputs):
    few = {"episodes": 3, "curve_episodes": 0}
    return run("eval", {"policy": policy, **inputs}, few, *layers)


EPISODES = {"protocol": "episodes", "trial_episodes": 3}
