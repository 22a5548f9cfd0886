"""train: one batch-RL policy per task, from the log only, all tasks at once. replay-log -> policy-set"""

from typing import Any

import jax

from pipelines.core.learn import block, stage_key, task_keys
from pipelines.core.taskmap import TaskAxis
from pipelines.core.trees import to_dict
from pipelines.core.work import Product, Work
from pipelines.stages import learners
from pipelines.stages.blocks import Plan, run_blocks, snapshot_arrays


def run(work: Work) -> Product:
    """Trains `algorithm` on each task's own log."""
    config: Any = work.config
    logs, tasks, space, discount = learners.read_log(work.inputs["log"])
    algorithm = learners.make(config.algorithm, config.agent, space, discount)
    axis = TaskAxis(len(tasks), config.mapping)
    data = axis.put(logs)
    init_keys, keys = (
        axis.put(task_keys(key, [task.id for task in tasks])) for key in jax.random.split(stage_key(work.seed, "train"))
    )
    carry = axis.over_tasks(lambda step, key, log: algorithm.init(key, log))(0, init_keys, data)
    advance = axis.over_tasks(block(algorithm, config.block_updates), donate=(1,))
    names = tuple(task.name for task in tasks)
    headline = "actor_loss" if algorithm.q is None else "critic_loss"
    plan = Plan(config.updates, config.block_updates, config.num_snapshots, "update", headline, names)

    def step(number: int, carry: Any) -> tuple[Any, dict[str, Any]]:
        carry, metrics = advance(number, carry, data, keys)
        return carry, axis.get(metrics)

    carry, snapshots = run_blocks(
        work, plan, carry, step, lambda carry: axis.get(algorithm.acting(carry)), axis.put_padded
    )
    card = work.inputs["log"].card
    return Product(
        arrays={"acting": to_dict(axis.get(algorithm.acting(carry))), **snapshot_arrays(snapshots)},
        tasks=list(card.tasks),
        extra=learners.model_card(config.algorithm, config.agent, card),
        name=f"{config.algorithm}-{card.extra['family'].replace('/', '-')}",
    )
