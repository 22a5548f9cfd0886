"""From a name and a config to an algorithm, and from logs and cards to what it needs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from pipelines.algos import (
    bc,
    bcq,
    borel,
    borel_online,
    contextual_bcq,
    cql,
    ddpg,
    discrete_bcq,
    dqn,
    iql,
    mbml,
    mql,
    pearl,
    sac,
    td3,
    td3bc,
    time,
)
from pipelines.core.configs.algorithms import (
    BcConfig,
    BcqConfig,
    BorelConfig,
    ContextualBcqConfig,
    CqlConfig,
    DdpgConfig,
    DiscreteBcqConfig,
    DqnConfig,
    IqlConfig,
    MbmlConfig,
    MqlConfig,
    OnlineBorelConfig,
    PearlConfig,
    PooledTd3Config,
    SacConfig,
    Td3BcConfig,
    Td3Config,
    TimeConfig,
)
from pipelines.core.configs.base import Config, resolve
from pipelines.core.errors import StageFailed, UsageError, WrongKind
from pipelines.core.samplers import pooled
from pipelines.core.trees import from_dict, stack_logs, task_leaf
from pipelines.core.types import Algorithm, Log, Space, Task
from pipelines.core.unit_box import in_unit_box, unit

SHARED = frozenset(
    {"pooled-batch-sac", "batch-pearl", "contextual-bcq", "borel", "time", "mbml", "mql", "td3-context", "pooled-td3"}
)  # one acting state for all tasks

DISCRETE = frozenset({"dqn", "discrete-bcq"})  # what acts where actions are discrete, and only there

EITHER = frozenset({"borel"})  # what acts in both kinds of spaces

PER_TASK: Mapping[str, tuple[Callable[[Any, Space, float], Algorithm], type[Config]]] = {
    "sac": (sac.make, SacConfig),
    "td3": (td3.make, Td3Config),
    "dqn": (dqn.make, DqnConfig),
    "batch-sac": (sac.make, SacConfig),
    "bcq": (bcq.make, BcqConfig),
    "cql": (cql.make, CqlConfig),
    "td3bc": (td3bc.make, Td3BcConfig),
    "iql": (iql.make, IqlConfig),
    "ddpg": (ddpg.make, DdpgConfig),
    "bc": (bc.make, BcConfig),
    "discrete-bcq": (discrete_bcq.make, DiscreteBcqConfig),
}


def make(name: str, config: Config | Mapping[str, Any], space: Space, discount: float, **asks: Any) -> Algorithm:
    """The algorithm that a stage or a card names, for logs and environments in the units of `space`. `asks`: what an
    algorithm that distils asks of others while it learns, or BOReL online of its trials (see its `make`).

    Raises WrongKind for a name this version does not know, UsageError where it cannot act in the space.
    """
    if not name:  # the card of an imported log
        raise WrongKind("an imported log has no policy of its own", "learn one: omrl train --log LOG")
    if name not in EITHER and (name in DISCRETE) != (space.num_actions is not None):
        actions = "continuous actions" if space.num_actions is None else f"{space.num_actions} discrete actions"
        raise UsageError(
            f"{name} cannot act in a family with {actions}",
            f"for discrete ones there is {' and '.join(sorted(DISCRETE))}",
        )
    return in_unit_box(_make(name, config, unit(space), discount, asks), space)


def _make(
    name: str, config: Config | Mapping[str, Any], space: Space, discount: float, asks: Mapping[str, Any]
) -> Algorithm:
    """The algorithm in the box [-1, 1] in which it lives."""

    def agent(kind: type[Config]) -> Any:
        return config if isinstance(config, Config) else resolve(kind, config, prefix="agent.")

    if name in PER_TASK:
        build, kind = PER_TASK[name]
        return build(agent(kind), space, discount)
    match name:
        case "pooled-batch-sac":
            return sac.make(agent(SacConfig), space, discount, pooled)
        case "batch-pearl":
            return pearl.make(agent(PearlConfig), space, discount)
        case "contextual-bcq":
            return contextual_bcq.make(agent(ContextualBcqConfig), space, discount)
        case "borel" if isinstance(config, OnlineBorelConfig):
            return borel_online.make(config, space, discount, **asks)
        case "borel":
            return borel.make(agent(BorelConfig), space, discount)
        case "mql" | "td3-context":
            return mql.make(agent(MqlConfig), space, discount, adaptable=name == "mql")
        case "pooled-td3":
            return mql.make(agent(PooledTd3Config), space, discount, adaptable=False)
        case "time":
            return time.make(agent(TimeConfig), space, **asks)
        case "mbml":
            return mbml.make(agent(MbmlConfig), space, **asks)
    raise WrongKind(f"unknown algorithm {name!r} on the card", "it was written by another version of omrl")


def model_card(name: str, agent: Config, log_card: Any) -> dict[str, Any]:
    """What a policy is rebuilt from, for the card's `extra`: algorithm, its config, and what the log was made on."""
    of_log = {field: log_card.extra[field] for field in ("family", "space", "horizon", "discount")}
    of_log |= {"split": log_card.extra["split"]} if "split" in log_card.extra else {}
    return {"algorithm": name, "agent": agent.identity(), **of_log}


def log_rows(log: Any) -> list[int]:
    """Rows of each task's log `[T]`, from the card alone."""
    return [log.card.arrays[f"{task_leaf(index)}/reward"].shape[0] for index in range(len(log.card.tasks))]


def read_log(log: Any, only: Sequence[int] | None = None) -> tuple[Log, tuple[Task, ...], Space, float]:
    """A replay-log artifact -> (logs `[T, ...]`, tasks, space, discount); of the tasks numbered in `only` alone, where
    it is given. Raises StageFailed on values not finite."""
    numbers = range(len(log.card.tasks)) if only is None else only
    tasks = tuple(Task.from_json(log.card.tasks[number]) for number in numbers)
    leaves = [task_leaf(number) for number in numbers]
    arrays = log.arrays() if only is None else log.arrays(leaves)
    logs = stack_logs([arrays[leaf] for leaf in leaves])
    for column in ("obs", "action", "reward"):
        bad = ~np.isfinite(getattr(logs, column)).reshape(len(tasks), -1).all(1)
        if bad.any():
            names = ", ".join(task.name for task, spoilt in zip(tasks, bad, strict=True) if spoilt)
            raise StageFailed(f"the log's {column} is not finite in task {names}", "collect or import the log again")
    return logs, tasks, Space.from_json(log.card.extra["space"]), log.card.extra["discount"]


def acting_of(artifact: Any, kind: type) -> Any:
    """The acting state(s) that an artifact holds, as NamedTuple `kind`: a policy-set's `[T, ...]`, a meta-policy's, or
    those of a replay-log's behaviour policies as they ended `[T, ...]`.

    Raises WrongKind where the log kept none.
    """
    arrays = artifact.arrays()
    if "acting" in arrays:
        return from_dict(kind, arrays["acting"])
    if not len(arrays.get("snapshot_step", ())):
        raise WrongKind(f"the log {artifact.card.id} kept no behaviour policy", "collect with --set num_snapshots=1")
    return jax.tree.map(lambda leaf: leaf[-1], from_dict(kind, arrays["snapshots"]))


def want_split(card: Any, learn_from: str, what: str = "log") -> None:
    """Raises UsageError for a log that was collected on tasks of another split than `learn_from`, or a belief that was
    learned from one: what is tested on must not become training data unnoticed."""
    split = card.extra.get("split", "train")
    if split != learn_from:
        meant = f", or say --set learn_from={split} if it is meant" if what == "log" else ""
        cause = f"{what} {card.id} is of {split} tasks, learn_from={learn_from}"
        raise UsageError(cause, f"take a {what} of {learn_from} tasks{meant}")


def want_tasks(tasks: Sequence[Task], least: int, what: str) -> None:
    """Raises UsageError if there are fewer than `least` tasks."""
    if len(tasks) < least:
        raise UsageError(
            f"{what} needs at least {least} tasks, the log has {len(tasks)}", "collect more tasks, or use `omrl train`"
        )
