"""distill: one policy from the logs and every task's own policy. replay-log + policy-set -> meta-policy"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.algos import time
from pipelines.core.errors import StageFailed, WrongKind
from pipelines.core.taskmap import TaskAxis
from pipelines.core.trees import from_dict
from pipelines.core.types import Algorithm, Array, Log, transitions
from pipelines.core.work import Product, Work
from pipelines.stages import learners
from pipelines.stages.across import run_across


def teacher_values(teacher: Algorithm, acting: Any, logs: Log) -> np.ndarray:
    """Q_j*(s, a) of every row of every task's log, once: the targets do not change. -> [T, N]"""
    if teacher.q is None:
        raise WrongKind("these teachers have no value function to distil", "train the policy-set with batch-sac")
    q, axis = teacher.q, TaskAxis(logs.size.shape[0])

    def values(step: Array, acting: Any, log: Log) -> Array:
        rows = transitions(log, jnp.arange(log.reward.shape[0]))
        return q(acting, rows.obs, rows.action)

    return np.asarray(axis.get(axis.over_tasks(values)(0, axis.put(acting), axis.put(logs))))


def run(work: Work) -> Product:
    """tiMe's second phase. Raises WrongKind where log and teachers are of different tasks."""
    config: Any = work.config
    log, teachers = work.inputs["log"], work.inputs["teachers"]
    logs, tasks, space, discount = learners.read_log(log)
    learners.want_tasks(tasks, 2, "distill")
    if [task["id"] for task in teachers.card.tasks] != [task.id for task in tasks]:
        raise WrongKind(
            f"log {log.card.id} and policy-set {teachers.card.id} are of different tasks",
            f"train the teachers on this log: omrl train --log {log.card.id}",
        )
    extra = teachers.card.extra
    teacher = learners.make(extra["algorithm"], extra["agent"], space, discount)
    acting = from_dict(teacher.acting_type, teachers.arrays()["acting"])
    targets = teacher_values(teacher, acting, jax.tree.map(np.asarray, logs))
    spoilt = [task.name for task, values in zip(tasks, targets, strict=True) if not np.isfinite(values).all()]
    if spoilt:
        raise StageFailed(
            f"the teacher's values are not finite in task {', '.join(spoilt)}", "train the teachers again"
        )
    data = time.Data(logs, jnp.asarray(targets))
    return run_across(work, f"distill {config.method}", config.method, data, "q_loss")
