"""What BOReL learns from: a log's states with the beliefs of a belief-model beside them (section 3, state relabelling).

One mapped, compiled pass over the trials of every task's log gives the belief before and after each row. They are a
view of the log (`core.bamdp`): its observations are not written a second time. A trial's belief begins with what the
model holds of a task that it knows nothing of, and goes on through the trial's episodes. Rows of a last trial that was
not recorded to its end have none, and are not drawn.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.algos.belief import Coder, Encoder, blanks, make_encoder
from pipelines.algos.borel import Data
from pipelines.core.bamdp import View
from pipelines.core.configs.base import resolve
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.errors import StageFailed, UsageError, WrongKind
from pipelines.core.families import kernel
from pipelines.core.samplers import Trials, logged_trials
from pipelines.core.taskmap import TaskAxis
from pipelines.core.trees import from_dict
from pipelines.core.types import Array, Log, Space, Task, Transition
from pipelines.core.unit_box import rows_to_unit, unit
from pipelines.core.work import Product, Work
from pipelines.stages import belief as belief_stage
from pipelines.stages import learners
from pipelines.stages.across import run_across
from pipelines.stages.belief import located

TOGETHER = 64  # trials in one batch
MOST_NUMBERS = 2**22  # that their observations may hold
Blank = Callable[[Transition], Array | None]  # rows [...] -> [...] bool, see `algos.belief.blanks`

# ---- the pass --------------------------------------------------------------------------------------------------------


def view_of(
    encoder: Encoder,
    coder: Coder,
    log: Log,
    first: Array,
    count: Array,
    length: int,
    together: int,
    blank: Blank | None = None,
) -> View:
    """Of one task's log, whose `count` trials lie at the rows `first [M + 1]` (`samplers.Trials`), none longer than
    `length`; `together` of them run side by side. The belief begins anew before rows that `blank` says."""
    alone, where = jax.tree.map(lambda leaf: leaf[None], (log, Trials(first, count)))
    steps, numbers = jnp.arange(length + 1), jnp.arange(first.shape[0] - 1)

    def one(number: Array) -> Array:
        trial = logged_trials(alone, where, jnp.zeros_like(number), number, length)
        hidden = encoder.filter(coder, trial.row, trial.next_flag, blank(trial.row) if blank else None)
        return jnp.concatenate(encoder.belief(coder, hidden), -1)

    found = jax.lax.map(one, numbers, batch_size=together)  # [M, L + 1, 2 Z]
    size = log.reward.shape[0] + numbers.shape[0]
    inside = (steps[None] <= jnp.diff(first)[:, None]) & (numbers < count)[:, None]
    slot = jnp.where(inside, (first[:-1] + numbers)[:, None] + steps[None], size)
    empty = jnp.zeros((size, found.shape[-1]))
    beliefs = empty.at[slot.reshape(-1)].set(found.reshape(-1, found.shape[-1]), mode="drop")
    return View(beliefs, first[count])


def views(
    encoder: Encoder, coder: Coder, space: Space, logs: Log, where: Trials, length: int, blank: Blank | None = None
) -> View:
    """`[T, ...]` in numpy, of the logs `[T, ...]` in the units of `space`."""
    axis = TaskAxis(where.size.shape[0])
    together = max(1, min(TOGETHER, MOST_NUMBERS // (length * space.obs_dim)))

    def one(step: Array, coder: Coder, log: Log, first: Array, count: Array) -> View:
        return view_of(encoder, coder, rows_to_unit(space, log), first, count, length, together, blank)

    mapped = axis.over_tasks(one, shared=1)
    found: View = axis.get(mapped(0, axis.replicate(coder), *map(axis.put, (logs, where.first, where.size))))
    return found


def first_of(where: Trials, most: int | None) -> Trials:
    """The first `most` trials of each task; None: all."""
    if most is None:
        return where
    return Trials(where.first[:, : most + 1], jnp.minimum(where.size, most))


# ---- metatrain --algorithm borel -------------------------------------------------------------------------------------


def metatrain(work: Work, logs: Log, tasks: Sequence[Task]) -> Product:
    """BOReL's learner on the log `logs [T, ...]` as it was read.

    Raises UsageError where a belief or mixed trials are missing, there are too few trials, or the belief is of another
    split, WrongKind for one of another family, StageFailed for one that is not finite on these logs.
    """
    config: Any = work.config
    log, belief = work.inputs["log"], work.inputs.get("belief")
    if belief is None:
        raise UsageError(
            "metatrain --algorithm borel needs --belief: states hold what a belief-model makes of a trial",
            f"omrl belief --log {log.card.id} learns one",
        )
    same_family(log, belief)
    learners.want_split(belief.card, config.learn_from, "belief")
    model = model_of(belief)
    space = Space.from_json(log.card.extra["space"])
    encoder, coder = make_encoder(model, unit(space)), coder_of(belief)
    horizon, k = log.card.extra["horizon"], model.trial_episodes
    own, logs = logs, mixed(work, model, logs)
    shorter = f"`omrl belief --log {log.card.id} --trial-episodes N` for a belief of shorter trials"
    where = first_of(located(logs, tasks, k, horizon, shorter, own), config.agent.first_trials)
    rule = config.agent.belief_reset
    found = views(encoder, coder, space, logs, where, k * horizon, lambda row: blanks(rule, row, model.paid_above))
    spoilt = [task.name for task, one in zip(tasks, found.belief, strict=True) if not np.isfinite(one).all()]
    if spoilt:
        raise StageFailed(f"beliefs are not finite in task {', '.join(spoilt)}", "learn the belief-model again")
    work.tell.note(f"beliefs of {int(where.size.sum())} trials of {k} episodes, {int(found.size.sum())} rows")
    agent = config.agent.model_copy(update={"belief": model.identity()})
    headline = "q_loss" if space.num_actions is not None else "critic_loss"
    return run_across(work, "metatrain borel", "borel", Data(logs, found, coder), headline, agent)


def same_family(log: Any, belief: Any) -> None:
    """Raises WrongKind for a belief of another family, or of other rewards or dynamics of it, or of other observations
    and actions, than the log."""
    mine, theirs = (kernel(card.extra["family"] or "") for card in (log.card, belief.card))
    make = f"omrl belief --log {log.card.id} learns one of it"
    if mine != theirs:
        raise WrongKind(f"the belief {belief.card.id} is of {theirs or 'no family'}, the log of {mine or 'none'}", make)
    if log.card.extra["space"] != belief.card.extra["space"]:
        raise WrongKind(f"the belief {belief.card.id} is of other observations or actions than the log", make)


def mixed(work: Work, model: BeliefConfig, logs: Log) -> Log:
    """The log's own rows, or those of the trials that a relabelled-log mixed. Raises UsageError where there is one and
    none is wanted, or the reverse, and as `belief.mixed` does."""
    config: Any = work.config
    given = [role for role in ("relabelled", "replay") if role in work.inputs]
    if config.agent.data == "mixed":
        if "relabelled" not in given:
            hint = f"omrl relabel --log {work.inputs['log'].card.id} --unit episode makes them"
            raise UsageError("agent.data=mixed needs --relabelled, a log's mixed trials", hint)
        return belief_stage.mixed(replace(work, config=model), logs)
    if given:
        cause = "agent.data=own learns from the log's own rows: mixed trials are for the belief"
        raise UsageError(cause, f"leave --{given[0]} out, or --set agent.data=mixed")
    return logs


# ---- the belief-model's artifact -------------------------------------------------------------------------------------


def model_of(belief: Any) -> BeliefConfig:
    """What a belief-model's encoder is built from."""
    return resolve(BeliefConfig, belief.card.extra["model"])


def coder_of(belief: Any) -> Coder:
    """What its encoder knows, in numpy."""
    found: Coder = from_dict(Coder, belief.arrays()["coder"])
    return found
