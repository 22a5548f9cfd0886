"""metatrain: one policy from all logs at once. replay-log -> meta-policy"""

from typing import Any

from pipelines.core.work import Product, Work
from pipelines.stages import learners
from pipelines.stages.across import run_across

NAMES = {"batch-sac": "pooled-batch-sac"}  # the field's word -> the algorithm's, where they differ


def run(work: Work) -> Product:
    """Pooled batch SAC (tiMe 5.1: one replay buffer for all tasks), batch PEARL or contextual BCQ. Wants two tasks
    or more."""
    config: Any = work.config
    logs, tasks, *_ = learners.read_log(work.inputs["log"])
    learners.want_tasks(tasks, 2, f"metatrain --algorithm {config.algorithm}")
    name = NAMES.get(config.algorithm, config.algorithm)
    return run_across(work, f"metatrain {config.algorithm}", name, logs, "critic_loss")
