"""eval: episodes of a policy-set or a meta-policy on the tasks of a split. -> report

Returns per task, normalised scores, and the value gap: Q(s0, a0) minus the discounted return of the same policy from
s0. Snapshots are evaluated too, so that return and value over training can be drawn without touching an environment
during training.
"""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from pipelines import rollouts
from pipelines.core import own
from pipelines.core.errors import UsageError
from pipelines.core.learn import stage_key, task_keys
from pipelines.core.names import slug
from pipelines.core.taskmap import TaskAxis
from pipelines.core.trees import from_dict
from pipelines.core.types import DeviceFamily, HostFamily, Policy, Task, TaskFamily, task_rows
from pipelines.core.work import Product, Work
from pipelines.stages import learners
from pipelines.tasks import registry

LABELS = {
    "sac": "behaviour SAC",
    "td3": "behaviour TD3",
    "dqn": "behaviour DQN",
    "batch-sac": "batch SAC",
    "bcq": "BCQ",
    "cql": "CQL",
    "td3bc": "TD3+BC",
    "iql": "IQL",
    "bc": "behaviour cloning",
    "discrete-bcq": "discrete BCQ",
    "pooled-batch-sac": "pooled batch SAC",
    "batch-pearl": "batch PEARL",
    "time": "tiMe",
}


def assign(tasks: tuple[Task, ...], trained: tuple[Task, ...], match: str) -> list[int]:
    """For each evaluated task the index of the trained policy that plays it.

    `own`: the same task id; raises UsageError where there is none. `nearest`: least distance of the tasks' params, the
    first of equals.
    """
    if match == "nearest":
        gaps = np.linalg.norm(task_rows(tasks)[:, None] - task_rows(trained)[None], axis=-1)
        return [int(index) for index in np.round(gaps, 4).argmin(1)]
    index = {task.id: number for number, task in enumerate(trained)}
    strangers = [task.name for task in tasks if task.id not in index]
    if strangers:
        raise UsageError(
            f"the policy-set has no policy for task {strangers[0]} (and {len(strangers) - 1} more)",
            "--set match=nearest takes the nearest training task's, or --split train",
        )
    return [index[task.id] for task in tasks]


def spread_over(tree: Any, chosen: list[int] | None, num_tasks: int) -> Any:
    """Acting state(s) -> leaves [T, ...]: one per task (`chosen`), or the same for all."""
    if chosen is not None:
        return jax.tree.map(lambda leaf: leaf[np.asarray(chosen)], tree)
    return jax.tree.map(lambda leaf: np.broadcast_to(leaf, (num_tasks, *np.shape(leaf))), tree)


def player(
    family: TaskFamily, policy: Policy, discount: float, num_episodes: int, axis: TaskAxis, tasks: tuple[Task, ...]
) -> Callable[[Any, Any], rollouts.Episodes]:
    """`play(acting [T, ...], keys [T]) -> Episodes` `[T, P, ...]` in numpy, by the driver of the family's engine."""
    if isinstance(family, HostFamily):
        return rollouts.host_zero_shot(family, policy, discount, num_episodes, axis, tasks)
    one = rollouts.zero_shot(cast(DeviceFamily, family), policy, discount, num_episodes)
    mapped, rows = axis.over_tasks(lambda step, *args: one(*args)), axis.put(task_rows(tasks))
    return lambda acting, keys: axis.get(mapped(0, acting, rows, keys))


def evaluate(work: Work, family: TaskFamily, tasks: tuple[Task, ...], chosen: list[int] | None) -> dict[str, Any]:
    """All tasks, episodes and snapshots. -> the arrays of the report"""
    config: Any = work.config
    policy = work.inputs["policy"]
    extra, arrays = policy.card.extra, policy.arrays()
    algorithm = learners.make(extra["algorithm"], extra["agent"], family.space, family.discount)
    axis = TaskAxis(len(tasks), config.mapping)
    final_keys, curve_keys = (
        axis.put(task_keys(key, [task.id for task in tasks])) for key in jax.random.split(stage_key(work.seed, "eval"))
    )
    acting = axis.put(spread_over(learners.acting_of(policy, algorithm.acting_type), chosen, len(tasks)))
    episodes = player(family, algorithm.policy, family.discount, config.episodes, axis, tasks)(acting, final_keys)
    out = {
        "returns": episodes.returns,
        "obs": episodes.path,
        "value": episodes.value.mean(1),
        "discounted_return": episodes.discounted.mean(1),
    }
    steps = arrays["snapshot_step"] if config.curve_episodes else np.zeros(0, np.int32)
    curve = {name: np.zeros((0, len(tasks)), np.float32) for name in ("return", "value", "discounted")}
    if len(steps):
        snapshots = from_dict(algorithm.acting_type, arrays["snapshots"])  # [S, ...] or [S, T, ...]
        if chosen is not None:
            snapshots = jax.tree.map(lambda leaf: np.swapaxes(leaf, 0, 1), snapshots)
        play = player(family, algorithm.policy, family.discount, config.curve_episodes, axis, tasks)
        spread = axis.put(spread_over(snapshots, chosen, len(tasks)))
        seen = [play(jax.tree.map(lambda leaf: leaf[:, s], spread), curve_keys) for s in range(len(steps))]  # noqa: B023
        found = [[_means(getattr(one, name)) for one in seen] for name in ("returns", "value", "discounted")]
        curve = {name: np.stack(values) for name, values in zip(curve, found, strict=True)}
    return out | {"curve_step": steps} | {f"curve_{name}": values for name, values in curve.items()}


def _means(values: Any) -> np.ndarray:
    """`[T, P]` -> `[T]`, summed as the devices sum."""
    return np.asarray(jnp.asarray(values).mean(1))


def run(work: Work) -> Product:
    """Evaluates `inputs["policy"]`. Raises UsageError for a split without tasks."""
    config: Any = work.config
    card = work.inputs["policy"].card
    family = registry.find(card.extra["family"], evaluation=True)
    tasks = family.tasks(config.split)
    if not tasks:
        raise UsageError(f"{family.name} has no {config.split} tasks", "--split train or --split test")
    per_task = card.extra["algorithm"] not in learners.SHARED
    trained = tuple(Task.from_json(task) for task in card.tasks)
    arrays = evaluate(work, family, tasks, assign(tasks, trained, config.match) if per_task else None)
    references = [family.references(task) for task in tasks]
    for name in ("random", "oracle", "ceiling"):
        arrays[f"{name}_return"] = np.asarray([one[name] for one in references], np.float64)
    label = config.label or LABELS[card.extra["algorithm"]]
    extra = {
        "label": label,
        "family": family.name,
        **own.on_card(family.name),
        "split": config.split,
        "protocol": config.protocol,
        "episodes": config.episodes,
        "horizon": family.horizon,
        "discount": family.discount,
    }
    return Product(arrays, scores(arrays, tasks), [task.to_json() for task in tasks], extra, name=slug(label, "eval"))


def scores(arrays: dict[str, Any], tasks: tuple[Task, ...]) -> dict[str, float]:
    """Mean return, (J - J_random) / (J_oracle - J_random) per task and on average where both are known, value gap."""
    low, high = arrays["random_return"], arrays["oracle_return"]
    found = {"return": float(arrays["returns"].mean())}
    if np.isfinite(high - low).all():
        score = (arrays["returns"].mean(1) - low) / (high - low)
        per_task = {f"score/{task.name}": float(one) for task, one in zip(tasks, score, strict=True)}
        found = {"score": float(score.mean())} | found | per_task
    gap = arrays["value"] - arrays["discounted_return"]
    size = abs(float(arrays["discounted_return"].mean()))
    return found | ({"value_gap": float(gap.mean()) / size} if np.isfinite(gap).all() and size > 0 else {})
