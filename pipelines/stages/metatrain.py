"""metatrain: one policy from all logs at once. replay-log (+ belief-model) -> meta-policy"""

from dataclasses import replace
from typing import Any

from pipelines.core.errors import UsageError
from pipelines.core.work import Product, Work
from pipelines.stages import belief_view, learners, online
from pipelines.stages.across import run_across

NAMES = {"batch-sac": "pooled-batch-sac", **online.NAMES}  # the field's word -> the algorithm's, where they differ
ONLINE_TOO = frozenset({"mql", "td3-context", "pooled-td3"})  # whose cards say which it was


def run(work: Work) -> Product:
    """Pooled batch SAC (tiMe 5.1: one replay buffer for all tasks), batch PEARL, contextual BCQ, BOReL or MQL. Wants
    two tasks or more."""
    config: Any = work.config
    if config.online:
        return online.settle(work)
    learners.want_split(work.inputs["log"].card, config.learn_from)
    logs, tasks, *_ = learners.read_log(work.inputs["log"])
    learners.want_tasks(tasks, 2, f"metatrain --algorithm {config.algorithm}")
    if config.algorithm == "borel":
        return belief_view.metatrain(work, logs, tasks)
    if more := [role for role in ("belief", "relabelled", "replay") if role in work.inputs]:
        raise UsageError(f"{config.algorithm} reads no {more[0]}", f"leave --{more[0]} out, or --algorithm borel")
    name = NAMES.get(config.algorithm, config.algorithm)
    made = run_across(work, online.stream("metatrain", config.algorithm), name, logs, "critic_loss")
    return replace(made, extra={**made.extra, "trained": "offline"}) if name in ONLINE_TOO else made
