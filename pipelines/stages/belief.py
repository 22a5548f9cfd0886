"""belief: what a task may be, after every step of a trial. replay-log (+ relabelled-log) -> belief-model

Trials are whole: k episodes of a task's own log, one after the other, or those that a relabelled-log of whole episodes
made of them. An artifact holds `coder`, what the encoder of `algos.belief` takes, and `decoders`; `model` on its card
is the `BeliefConfig` that both are built from.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.algos import belief
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.errors import StageFailed, UsageError, WrongKind
from pipelines.core.learn import block, stage_key
from pipelines.core.names import slug
from pipelines.core.samplers import Trials
from pipelines.core.trees import to_dict
from pipelines.core.types import Log, Space, Task
from pipelines.core.unit_box import rows_to_unit, unit
from pipelines.core.work import Product, Work
from pipelines.stages import learners, relabelled
from pipelines.stages.blocks import Plan, run_blocks, snapshot_arrays
from pipelines.stages.relabel_trials import num_whole, spans
from pipelines.tasks import registry

MOST_NAMES = 5  # of tasks, in an error
SHORTER = "--set trial_episodes=... for shorter trials"


def run(work: Work) -> Product:
    """Learns the model of all tasks together. Raises UsageError where it does not fit the log, or the log has too few
    trials, WrongKind for relabelled rows that are not its trials, StageFailed for losses that are not finite."""
    config: Any = work.config
    card = work.inputs["log"].card
    learners.want_split(card, config.learn_from)
    logs, tasks, space, _ = learners.read_log(work.inputs["log"])
    learners.want_tasks(tasks, 2, "belief")
    model_config = settled(config, card.extra["family"], space)
    own, logs = logs, mixed(work, logs)
    where = located(logs, tasks, config.trial_episodes, card.extra["horizon"], own=own)
    want_cells(model_config, logs.obs)
    mapped = rows_to_unit(space, belief.Data(logs, where))
    work.tell.note(f"{int(where.size.sum())} trials of {config.trial_episodes} episodes in {len(tasks)} tasks")
    state, snapshots = _learn(work, belief.make(model_config, unit(space), card.extra["horizon"]), mapped)
    of_log = {
        name: card.extra[name] for name in ("family", "space", "horizon", "discount", "split") if name in card.extra
    }
    return Product(
        arrays={**to_dict(state), **snapshot_arrays(snapshots)},
        tasks=list(card.tasks),
        extra={"model": model_config.identity(), **of_log},
        name=slug(f"belief {card.extra['family']}"),
    )


def _learn(work: Work, model: belief.Model, data: belief.Data) -> tuple[belief.Acting, dict[str, Any]]:
    """(what is kept of the model at the end, snapshots of it), in numpy."""
    config: Any = work.config
    init_key, key = jax.random.split(stage_key(work.seed, "belief"))
    data = jax.tree.map(jnp.asarray, data)
    carry = jax.jit(model.init)(init_key, data)
    advance = jax.jit(block(model, config.block_updates), donate_argnums=1)
    plan = Plan(config.updates, config.block_updates, config.num_snapshots, "update", "loss")

    def step(number: int, carry: Any) -> tuple[Any, dict[str, Any]]:
        carry, metrics = advance(np.int32(number), carry, data, key)
        return carry, jax.tree.map(np.asarray, metrics)

    def acting(carry: Any) -> Any:
        return jax.tree.map(np.asarray, model.acting(carry))

    try:
        carry, snapshots = run_blocks(work, plan, carry, step, acting, lambda held: jax.tree.map(jnp.array, held))
    except StageFailed as error:
        hint = "a lower learning rate often helps (--set learning_rate=...); the last good checkpoint is kept"
        raise StageFailed(error.cause, hint) from error
    return acting(carry), snapshots


# ---- the model and the log -------------------------------------------------------------------------------------------


def settled(config: Any, family: str, space: Space) -> BeliefConfig:
    """The model's own fields of a config, with what it leaves to the family (empty: nobody knows it). Raises UsageError
    where they do not fit its observations."""
    fields = {name: getattr(config, name) for name in BeliefConfig.model_fields}
    images = len(space.obs_shape) > 1
    if fields["decode_state"] is None:
        fields["decode_state"] = bool(family) and registry.find(family).dynamics and not images
    if images and fields["decode_state"]:
        raise UsageError("decode_state=true: images are not decoded", "--set decode_state=false decodes rewards")
    if config.reward_head == "cells" and (images or space.obs_dim != len(config.cells)):
        cause = f"reward_head=cells: observations of {space.obs_shape} name no cell of a grid of {config.cells}"
        raise UsageError(cause, "--set reward_head=gaussian decodes any reward")
    return BeliefConfig.model_validate(fields)


def want_cells(config: BeliefConfig, obs: Any) -> None:
    """Raises UsageError where rewards are decoded by cells, and observations `[..., O]` are not the grid's."""
    if config.reward_head != "cells":
        return
    off = ((obs != np.round(obs)) | (obs < 0) | (obs >= np.array(config.cells))).any(-1)
    if off.any():
        grid, seen = " x ".join(map(str, config.cells)), np.round(np.asarray(obs)[off][0], 3).tolist()
        cause = f"reward_head=cells: observation {seen} is no cell of a grid of {grid}, counted from 0"
        raise UsageError(cause, "--set cells=[...] names another grid; reward_head=gaussian decodes any reward")


def located(
    logs: Log, tasks: Sequence[Task], k: int, horizon: int, shorter: str = SHORTER, own: Log | None = None
) -> Trials:
    """Where the whole trials of `logs [T, ...]` lie; `own` are those that they were mixed from, which say how many
    episodes at the end are not whole: in the place of others there may be some that failed physics cut.

    Raises UsageError naming the tasks that have none, and what they have; `shorter` is how one learns from shorter
    trials.
    """
    unfinished = [len(spans(log)) - num_whole(log, horizon) for log in _each(own or logs)]
    whole = [len(spans(log)) - rest for log, rest in zip(_each(logs), unfinished, strict=True)]
    count = np.array([number // k for number in whole], np.int32)
    short = [f"{task.name} ({n} whole)" for task, n in zip(tasks, whole, strict=True) if n < k]
    if short:
        trial = f"{k} whole episodes" if k > 1 else "a whole episode"
        more = f" and {len(short) - MOST_NAMES} more" if len(short) > MOST_NAMES else ""
        raise UsageError(
            f"the log has no trial of {trial} in task {', '.join(short[:MOST_NAMES])}{more}",
            f"collect more steps, or {shorter}",
        )
    first = np.zeros((len(tasks), count.max() + 1), np.int32)
    for row, log, number in zip(first, _each(logs), count, strict=True):
        bounds = spans(log)
        row[:number], row[number:] = bounds[: number * k : k, 0], bounds[number * k - 1, 1]
    return Trials(first, count)  # type: ignore[arg-type]


def _each(logs: Log) -> list[Log]:
    """Of each task, in numpy."""
    return [Log(*(np.asarray(column[t]) for column in logs)) for t in range(len(logs.size))]  # type: ignore[arg-type]


def mixed(work: Work, logs: Log) -> Log:
    """The log's own trials, or those that a relabelled-log made of them.

    Raises UsageError where it was made of trials of another length, or of replayed rows that are not given, WrongKind
    where it was made of another log, or of single rows, StageFailed for rewards that are not finite.
    """
    config: Any = work.config
    log, found, replay = (work.inputs.get(role) for role in ("log", "relabelled", "replay"))
    if found is None:
        if replay is not None:
            raise UsageError("--replay without --relabelled", "omrl relabel --replay says which episodes it replaces")
        return logs
    assert log is not None
    parents, make = found.card.parents, f"omrl relabel --log {log.card.id} --unit episode"
    relabelled.want_own(found, log, make)
    k = found.card.config["trial_episodes"]
    if found.card.extra["unit"] == "episode" and k != config.trial_episodes:
        cause = f"{found.card.id} mixed trials of {k} episodes, trial_episodes={config.trial_episodes}"
        raise UsageError(cause, f"--set trial_episodes={k}")
    sources = [logs]
    if "replay" in parents:
        if replay is None or replay.card.id != parents["replay"].id:
            cause = f"{found.card.id} holds rows of the log {parents['replay'].id}"
            raise UsageError(cause, f"--replay {parents['replay'].id}")
        if replay.card.digest != parents["replay"].digest:
            raise WrongKind(
                f"{found.card.id} was made of other bits of the log {replay.card.id}",
                f"{make} --replay {replay.card.id} --force",
            )
        sources.append(learners.read_log(replay)[0])
    elif replay is not None:
        raise UsageError(f"{found.card.id} holds no replayed rows", "leave --replay out")
    made = relabelled.spliced(found, sources)
    spoilt = [
        task["name"] for task, reward in zip(log.card.tasks, made.reward, strict=True) if not np.isfinite(reward).all()
    ]
    if spoilt:
        raise StageFailed(f"rewards of {found.card.id} are not finite in task {', '.join(spoilt)}", make)
    return made
