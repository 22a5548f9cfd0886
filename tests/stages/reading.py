"""An encoder whose every number is known, logs that it is asked about, and what a relabelled-log has for them."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from pipelines.core.trees import task_leaf
from pipelines.core.types import Algorithm, Latent, Policy
from pipelines.stages import learners
from tests.lines import line
from tests.stages.relabelling import found_as, log_of
from tests.toys import Stored, run

TASKS, DRAWS = 3, 4


class Acting(NamedTuple):
    weights: Any  # [2], of what is paid for a unit of the way, and of the action


class Memory(NamedTuple):
    total: Any  # [2]
    rows: Any


def reader():
    """Its posterior is a weighted sum of two means over the context: of reward / place, which is the task's number by
    whose rewards it is paid, and of the action, which logs of `apart` tell apart."""

    def observe(acting, memory, row):
        seen = jnp.stack([row.reward / row.next_obs[0], row.action[0]])
        return Memory(memory.total + seen, memory.rows + 1)

    none: Any = None
    return Policy(
        begin=lambda acting, key: Memory(jnp.zeros(2), jnp.float32(0)),
        start=none,
        act=none,
        observe=observe,
        value=None,
        latent=lambda acting, memory: Latent(
            (acting.weights @ memory.total / memory.rows)[None], jnp.full(1, 1 / memory.rows)
        ),
    )


def apart(family):
    """A log of task 1, 2 and 3 of the line, in each of which the action was the task's number / 10, always."""
    log = log_of(family)
    for index in range(TASKS):
        leaf, number = log.tree[task_leaf(index)], index + 1
        count = len(leaf["reward"])
        place = 1.0 + np.arange(count, dtype=np.float32)
        leaf["action"] = np.full((count, 1), number / 10, np.float32)
        leaf["obs"] = np.zeros_like(leaf["obs"])
        leaf["obs"][np.arange(count) + leaf["episode"] + 1, 0] = place
        leaf["outcome"] = np.column_stack([place, leaf["action"]]).astype(np.float32)
        leaf["reward"] = np.float32(number * place)
    return log


def known(monkeypatch):
    """The line as the family, and the reader as whatever has learned."""
    found = found_as(line(num_tasks=TASKS), monkeypatch)
    none: Any = None
    algorithm = Algorithm(none, none, none, none, Acting, reader())
    monkeypatch.setattr(learners, "make", lambda *args: algorithm)
    return found


def encoder(*weights, name="batch-pearl"):
    extra = {"family": "line/toy", "algorithm": name, "agent": {}, "space": line().space.to_json(), "discount": 0.9}
    return Stored(SimpleNamespace(id="policy", tasks=[], extra=extra), {"acting": {"weights": np.float32(weights)}})


def probed(policy, log, *layers, **inputs):
    few = {"protocol": "probe", "context_rows": 5, "probe_draws": DRAWS}
    return run("eval", {"policy": policy, "probe": log, **inputs}, few, *layers).tree["probe"]


def relabelled(log, rows, **about):
    """Rows `rows[j]` of every task j as every other task i would pay 100 i for a unit of the way: not the family's."""
    tree, size = {}, np.zeros((TASKS, TASKS), np.int32)
    for i in range(TASKS):
        parts = [(j, row) for j in range(TASKS) if j != i for row in rows[j]]
        size[i] = [0 if j == i else len(rows[j]) for j in range(TASKS)]
        task, row = (np.array(column, np.int32) for column in zip(*parts, strict=True))
        columns = {"log": 0 * task, "task": task, "row": row, "reward": np.float32(100.0 * (i + 1) * (1 + row))}
        columns |= {"spread": np.zeros(len(row), np.float32), "next_obs": np.zeros((len(row), 0), np.float32)}
        tree[task_leaf(i)] = columns | {"place": np.full(len(row), -1, np.int32)}
    extra = {"unit": "row", "apply": "stored", **about}
    parents = {"log": SimpleNamespace(id=log.card.id, digest=log.card.digest)}
    card = SimpleNamespace(id="relabelled", tasks=log.card.tasks, extra=extra, parents=parents)
    return Stored(card, {**tree, "pair_size": size})
