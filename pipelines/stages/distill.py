"""distill: one policy from the logs and every task's own policy. replay-log + policy-set -> meta-policy

MBML reads a relabelled-log beside them, unless it is told to do without. The teachers may be of any algorithm that has
a value; those that generate and perturb actions (BCQ) are asked for those as well, anew in every update.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.algos import mbml_batch, time
from pipelines.algos.distilled import teaching
from pipelines.core.errors import StageFailed, UsageError, WrongKind
from pipelines.core.taskmap import TaskAxis
from pipelines.core.trees import from_dict
from pipelines.core.types import Algorithm, Array, Log, transitions
from pipelines.core.work import Product, Work
from pipelines.stages import learners, relabelled
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


def settled(method: str, agent: Any, teacher: Algorithm) -> Any:
    """The agent's config with what it leaves to the teachers: what a policy is rebuilt from.

    Raises UsageError where it asks for what they do not have.
    """
    if method == "time":
        if agent.act == "auto" and teacher.perturb is not None:
            agent = agent.model_copy(update={"act": "generator"})
        if agent.act != "generator":
            return agent
    theirs = {"noise_dim": teacher.noise_dim, "noise_clip": teacher.noise_clip, "perturbation_scale": teacher.reach}
    if agent.noise_dim not in (None, teacher.noise_dim):
        raise UsageError(
            f"agent.noise_dim={agent.noise_dim}, but the teachers' generator has noise of {teacher.noise_dim}",
            "leave it out",
        )
    if agent.perturbation_scale and teacher.perturb is None:
        raise UsageError(
            f"agent.perturbation_scale={agent.perturbation_scale:g}, but the teachers do not perturb their actions",
            "leave it out, or train the policy-set with bcq",
        )
    return agent.model_copy(update={name: value for name, value in theirs.items() if getattr(agent, name) is None})


def relabelled_rows(agent: Any, log: Any, artifact: Any) -> tuple[Any, dict[str, Any]]:
    """(what `mbml.Data.relabelled` holds, what the algorithm asks it with): of a relabelled-log of the same log.

    Raises UsageError where there is one and none is wanted, or the reverse, WrongKind for one of another log or with
    another reward, StageFailed where no row of it passed.
    """
    make = f"omrl relabel --log {log.card.id}"
    if agent.relabel == "none":
        if artifact is not None:
            raise UsageError("agent.relabel=none reads no relabelled-log", "leave --relabelled out")
        return (), {}
    if artifact is None:
        raise UsageError(
            f"MBML with agent.relabel={agent.relabel} needs --relabelled",
            f"{make} makes it; --set agent.relabel=none does without",
        )
    card = artifact.card
    relabelled.want_own(artifact, log, make)
    reward = {"ensemble": "model", "known": "known"}[agent.relabel]
    if card.extra["reward"] != reward:
        raise WrongKind(
            f"agent.relabel={agent.relabel}, but {card.id} has reward={card.extra['reward']}",
            f"{make} --reward {reward}",
        )
    size = artifact.arrays()["pair_size"]
    if not size.sum() - np.trace(size):
        raise StageFailed(f"no row of {card.id} passed under another task", f"{make} --set threshold=... admits more")
    if card.extra["apply"] == "stored":
        return relabelled.pool(artifact), {}
    asked = relabelled.asked(artifact)
    return mbml_batch.Questions(asked.ensembles, asked.tasks, asked.limits), {"judge": asked.judge}


def run(work: Work) -> Product:
    """tiMe's and MBML's second phase. Raises WrongKind where log and teachers are of different tasks."""
    config: Any = work.config
    log, teachers = work.inputs["log"], work.inputs["teachers"]
    learners.want_split(log.card, config.learn_from)
    logs, tasks, space, discount = learners.read_log(log)
    learners.want_tasks(tasks, 2, "distill")
    if [task["id"] for task in teachers.card.tasks] != [task.id for task in tasks]:
        raise WrongKind(
            f"log {log.card.id} and policy-set {teachers.card.id} are of different tasks",
            f"train the teachers on this log: omrl train --log {log.card.id}",
        )
    extra = teachers.card.extra
    teacher = learners.make(extra["algorithm"], extra["agent"], space, discount)
    agent = settled(config.method, config.agent, teacher)
    found: Any = ()
    asks: dict[str, Any] = {}
    if config.method == "mbml":
        found, asks = relabelled_rows(agent, log, work.inputs.get("relabelled"))
    elif "relabelled" in work.inputs:
        raise UsageError("tiMe reads no relabelled-log", "leave --relabelled out, or --method mbml")
    acting = from_dict(teacher.acting_type, teachers.arrays()["acting"])
    targets = teacher_values(teacher, acting, jax.tree.map(np.asarray, logs))
    spoilt = [task.name for task, values in zip(tasks, targets, strict=True) if not np.isfinite(values).all()]
    if spoilt:
        raise StageFailed(
            f"the teacher's values are not finite in task {', '.join(spoilt)}", "train the teachers again"
        )
    if config.method == "mbml" or agent.act == "generator":
        asks["teach"] = teaching(teacher, agent.noise_clip, bool(agent.perturbation_scale))
    else:
        acting = ()
    values = jnp.asarray(targets)
    mbml = config.method == "mbml"
    data = mbml_batch.Data(logs, values, acting, found) if mbml else time.Data(logs, values, acting)
    return run_across(work, f"distill {config.method}", config.method, data, "q_loss", agent, **asks)
