"""train: one batch-RL policy per task, from the log only, all tasks at once. replay-log -> policy-set

`select=online` is the exception: it plays the policies in the training tasks to choose among them.
"""

from typing import Any, NamedTuple

import jax

from pipelines.core.learn import block, stage_key, task_keys
from pipelines.core.names import slug
from pipelines.core.taskmap import TaskAxis
from pipelines.core.trees import to_dict
from pipelines.core.types import Algorithm, Task
from pipelines.core.work import Product, Work
from pipelines.stages import learners
from pipelines.stages.blocks import Plan, run_blocks, snapshot_arrays
from pipelines.stages.judging import Judge
from pipelines.stages.parts import divide, in_parts, joined


class Carry(NamedTuple):
    """What training goes on from."""

    state: Any  # [T, ...] on the devices
    best: Any  # Best, or () where nobody looks


class Trained(NamedTuple):
    """Policies of some tasks, in numpy."""

    acting: Any  # [T, ...]
    best: Any  # Best, or ()


def run(work: Work) -> Product:
    """Trains `algorithm` on each task's own log. Raises UsageError for online evaluation without a family,
    and for a log of other tasks than `learn_from`."""
    config: Any = work.config
    log = work.inputs["log"]
    card = log.card
    learners.want_split(card, config.learn_from)
    groups = divide(learners.log_rows(log), work.tasks_at_once, work.crew.count)
    found = in_parts(work, groups, learn)
    trained: Trained = joined(groups, [one for one, _ in found])
    kept = [snapshots for _, snapshots in found]
    snapshots = kept[0] | {"acting": joined(groups, [one["acting"] for one in kept], axis=1)}
    extra = learners.model_card(config.algorithm, config.agent, card)
    if config.eval_every is not None:
        extra |= Judge.on_card(config, card, trained.best)
    return Product(
        arrays={"acting": to_dict(trained.acting), **snapshot_arrays(snapshots)},
        tasks=list(card.tasks),
        extra=extra,
        name=slug(f"{config.algorithm} {card.extra['family']}"),
    )


def learn(work: Work, numbers: list[int]) -> tuple[Trained, dict[str, Any]]:
    """The policies of the tasks `numbers`, from their logs, and their snapshots `[S, T, ...]`."""
    config: Any = work.config
    log = work.inputs["log"]
    logs, tasks, space, discount = learners.read_log(log, numbers)
    algorithm = learners.make(config.algorithm, config.agent, space, discount)
    axis = TaskAxis(len(tasks), config.mapping)
    data = axis.put(logs)
    init_keys, keys = (
        axis.put(task_keys(key, [task.id for task in tasks])) for key in jax.random.split(stage_key(work.seed, "train"))
    )
    judge = None
    if config.eval_every is not None:
        judge = Judge(config, log.card.extra["family"], algorithm, axis, tasks, work.seed)
        work.tell.note(f"the training tasks are played every {config.eval_every} updates (select={config.select})")
    state = axis.over_tasks(lambda step, key, log: algorithm.init(key, log))(0, init_keys, data)
    advance = axis.over_tasks(block(algorithm, config.block_updates), donate=(1,))

    def step(number: int, carry: Carry) -> tuple[Carry, dict[str, Any]]:
        state, metrics = advance(number, carry.state, data, keys)
        if judge is None:
            return Carry(state, ()), axis.get(metrics)
        best, seen = judge.look(number + config.block_updates, state, carry.best)
        return Carry(state, best), axis.get(metrics) | seen

    def acting(carry: Carry) -> Any:
        return axis.get(algorithm.acting(carry.state))

    def restore(held: Carry) -> Carry:
        return held._replace(state=axis.put_padded(held.state))

    carry = Carry(state, judge.begin(state) if judge else ())
    carry, snapshots = run_blocks(work, plan_of(config, algorithm, tasks), carry, step, acting, restore)
    if config.select == "online":
        return Trained(carry.best.acting, carry.best._replace(acting=())), snapshots
    return Trained(acting(carry), carry.best), snapshots


def plan_of(config: Any, algorithm: Algorithm, tasks: tuple[Task, ...]) -> Plan:
    headline = "actor_loss" if algorithm.q is None else "critic_loss"
    names = tuple(task.name for task in tasks)
    return Plan(config.updates, config.block_updates, config.num_snapshots, "update", headline, names)
