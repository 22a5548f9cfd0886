"""finetune: a meta-policy made the start of SAC in each task of a split (MBML section 5.3). meta-policy -> report

Three phases, all tasks at once: the meta-policy plays, a new policy imitates what it did, and SAC goes on from that
policy and the meta-policy's value, its idea of the task held fixed. Beside it SAC learns from random nets. A stage of
its own and no protocol of `eval`, because it learns: it has an agent's config, checkpoints and hours to spend.

The report is on the policies as they end; its curves are over steps while SAC learns, the papers' axis, which does not
count the steps before (`interactions_before` on the card). T tasks, S evaluations, P episodes.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from pipelines.algos import finetune, sac
from pipelines.core import own
from pipelines.core.configs.finetune import FinetuneConfig
from pipelines.core.errors import WrongKind
from pipelines.core.learn import block
from pipelines.core.names import slug
from pipelines.core.taskmap import TaskAxis
from pipelines.core.types import Algorithm, Array, HeldCritic, Log, Policy, Transition, transitions
from pipelines.core.unit_box import in_unit_box, unit
from pipelines.core.work import Product, Tell, Work
from pipelines.figures.finetuning import interactions
from pipelines.rollouts import Lineup
from pipelines.stages import learners
from pipelines.stages.blocks import Plan, run_blocks
from pipelines.stages.eval import LABELS, player, scores, spread_over
from pipelines.stages.gathering import Ground, Scanned, Stepped, gather, pace
from pipelines.stages.keeping import refuse_lost
from pipelines.stages.seating import tasks_of
from pipelines.tasks import registry

WARM, SCRATCH = "initialised", "scratch"  # what becomes of the meta-policy, and what is learned beside it


# ---- phases ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stretch:
    """A phase's share of how the stage talks: its steps come after those of the phases before."""

    tell: Tell
    before: int
    total: int

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.tell.metrics(self.before + step, values)

    def progress(self, done: int, total: int, unit: str, headline: str = "") -> None:
        self.tell.progress(done, self.total, unit, headline)

    def note(self, text: str) -> None:
        self.tell.note(text)


def phase(work: Work, number: int, before: int, total: int) -> Work:
    """The part of the work that is phase `number`; all but the last end with a checkpoint."""
    part = (0, 1) if number == 2 else (0, 2)
    return replace(work, checkpoint=work.checkpoint.part(number), tell=Stretch(work.tell, before, total), part=part)


# ---- 1. the meta-policy plays ----------------------------------------------------------------------------------------


class Watched(NamedTuple):
    """A meta-policy's memory, and what was held fixed (`Held.held`) when the last row's action was chosen."""

    memory: Any
    held: Any


def watched(algorithm: Algorithm, critic: HeldCritic) -> Algorithm:
    """A meta-policy as an agent that learns nothing, plays greedily and keeps an eye on its own idea of the task."""
    inner = algorithm.policy

    def begin(acting: Any, key: Array) -> Watched:
        memory = inner.begin(acting, key)
        return Watched(memory, critic.take(acting, memory).held)

    def observe(acting: Any, seen: Watched, row: Transition) -> Watched:
        return Watched(inner.observe(acting, seen.memory, row), critic.take(acting, seen.memory).held)

    policy = Policy(
        begin=begin,
        start=lambda acting, seen, obs, key: seen._replace(memory=inner.start(acting, seen.memory, obs, key)),
        act=lambda acting, seen, obs, key, explore: inner.act(acting, seen.memory, obs, key, 0.0),
        observe=observe,
        value=None,
    )
    return Algorithm(
        init=lambda key, data: (),
        sample=lambda log, key: (),
        update=lambda acting, batch, key, step: (acting, {}),
        acting=lambda acting: acting,
        acting_type=algorithm.acting_type,
        policy=policy,
    )


def played(work: Work, ground: Ground, algorithm: Algorithm, critic: HeldCritic) -> tuple[Log, finetune.Start]:
    """What the meta-policy did in each task, and its value there, the actor still missing. [T, ...] Raises StageFailed
    where a family's episodes end otherwise than it says."""
    config: Any = work.config
    meta = learners.acting_of(work.inputs["policy"], algorithm.acting_type)
    acting = ground.axis.put(spread_over(meta, None, len(ground.tasks)))
    pacing = pace(config.collect_steps, config.collect_steps, config.epoch_steps, 1)
    plan = plan_of(ground, config.collect_steps, config.epoch_steps, "step", "episode_return", ("episode_return",))
    last_keys, _ = ground.keys("hold")

    def taken(acting: Any, seen: Watched, log: Log, key: Array) -> finetune.Start:
        memory, held = seen
        if config.latent == "all":
            end = transitions(log, log.size - 1).next_obs
            held = critic.take(acting, algorithm.policy.start(acting, memory, end, key)).held
        given = critic.take(acting, memory)
        return finetune.Start((), {"learned": given.params, "held": held}, given.normaliser)

    with gather(ground, watched(algorithm, critic), pacing, "play", acting) as agents:
        carry, _ = run_blocks(work, plan, agents.begin(), agents.advance, lambda carry: (), agents.restore)
        log = agents.log(carry)
        each = ground.axis.get(log)
        for number, task in enumerate(ground.tasks):
            refuse_lost(jax.tree.map(lambda leaf: leaf[number], each), task.name)  # noqa: B023
        return log, ground.mapped(taken, agents.learner(carry), agents.memory(carry), log, last_keys)


# ---- 2. imitation ----------------------------------------------------------------------------------------------------


def imitated(work: Work, ground: Ground, log: Log, start: finetune.Start) -> finetune.Start:
    """`start` with the policies `[T, ...]` that imitate `log`."""
    config: Any = work.config
    space, axis = ground.family.space, ground.axis
    imitator = in_unit_box(finetune.imitator(config.imitation, config.agent, unit(space)), space)
    data = finetune.Examples(log, start.normaliser)
    init_keys, keys = ground.keys("imitation")
    advance = axis.over_tasks(block(imitator, config.epoch_steps), donate=(1,))
    plan = plan_of(ground, config.imitation.updates, config.epoch_steps, "imitation update", "imitation_loss")

    def step(number: int, state: Any) -> tuple[Any, dict[str, Any]]:
        state, metrics = advance(number, state, data, keys)
        return state, axis.get(metrics)

    state = ground.mapped(imitator.init, init_keys, data)
    state, _ = run_blocks(work, plan, state, step, lambda state: (), axis.put_padded)
    return start._replace(actor=state.actor)


# ---- 3. SAC ----------------------------------------------------------------------------------------------------------


class Curve(NamedTuple):
    """Means over the episodes of each evaluation, in numpy; NaN where there was none yet."""

    returns: np.ndarray  # [S, T]
    value: np.ndarray  # [S, T]
    discounted: np.ndarray  # [S, T]


@dataclass(frozen=True)
class Arm:
    """One way to begin."""

    name: str
    algorithm: Algorithm
    agents: Scanned | Stepped
    play: Callable[[Any, Any], Any]  # as `eval.player` gives it

    def look(self, config: FinetuneConfig, ground: Ground, step: int, carry: Any, curve: Curve) -> Curve:
        """The curve after step number `step`, `warmup_steps` of which came before SAC learned."""
        at, between = divmod(step - config.warmup_steps, config.eval_every)
        if at < 0 or between:
            return curve
        keys = jax.vmap(jax.random.fold_in, (0, None))(ground.keys("eval")[0], at)
        episodes = self.play(self.algorithm.acting(self.agents.learner(carry)), keys)
        found = (episodes.returns, episodes.value, episodes.discounted)
        return Curve(*(_with_row(old, at, np.asarray(new).mean(1)) for old, new in zip(curve, found, strict=True)))


def _with_row(rows: np.ndarray, at: int, row: np.ndarray) -> np.ndarray:
    rows = np.array(rows)
    rows[at] = row
    return rows


def arms_of(
    config: FinetuneConfig, ground: Ground, critic: HeldCritic, start: finetune.Start, held: ExitStack
) -> list[Arm]:
    """What goes on from the meta-policy, and what begins beside it at random; simulators are left when `held` is."""
    family, box = ground.family, unit(ground.family.space)
    gamma, updates = family.discount, config.epoch_steps
    made = {WARM: finetune.make(config.agent, box, gamma, critic)}
    if config.scratch != "none":
        made[SCRATCH] = (sac if config.scratch == "sac" else finetune).make(config.agent, box, gamma)
    pacing = pace(config.warmup_steps + config.steps, config.warmup_steps, config.epoch_steps, updates)
    arms = []
    for name, inner in made.items():
        algorithm = in_unit_box(inner, family.space)
        keys, _ = ground.keys(f"{name} nets")
        learner = ground.mapped(algorithm.init, keys, start if name == WARM else None)
        agents: Any = held.enter_context(gather(ground, algorithm, pacing, name, learner))
        play = player(family, algorithm.policy, gamma, config.eval_episodes, Lineup(ground.axis, ground.tasks))
        arms.append(Arm(name, algorithm, agents, play))
    return arms


def learned(work: Work, ground: Ground, arms: list[Arm]) -> list[tuple[Any, Curve]]:
    """Each arm's acting states `[T, ...]` as they end, and its curve."""
    config: Any = work.config
    empty = np.full((config.steps // config.eval_every + 1, len(ground.tasks)), np.nan, np.float32)
    returns = tuple(f"{arm.name}_episode_return" for arm in arms)
    total = config.warmup_steps + config.steps
    plan = plan_of(ground, total, config.epoch_steps, "step", f"{WARM}_return", returns)

    def advance(step: int, carry: Any) -> tuple[Any, dict[str, Any]]:
        after, told = [], dict[str, Any]()
        for arm, (state, curve) in zip(arms, carry, strict=True):
            state, metrics = arm.agents.advance(step, state)
            told |= {f"{arm.name}_{name}": value for name, value in metrics.items()}
            seen = arm.look(config, ground, step + config.epoch_steps, state, curve)
            if seen is not curve:
                at = (step + config.epoch_steps - config.warmup_steps) // config.eval_every
                told[f"{arm.name}_return"] = seen.returns[at]
            after.append((state, seen))
        return after, told

    def restore(held: Any) -> Any:
        return [(arm.agents.restore(state), curve) for arm, (state, curve) in zip(arms, held, strict=True)]

    carry: Any = [(arm.agents.begin(), Curve(empty, empty, empty)) for arm in arms]
    carry, _ = run_blocks(work, plan, carry, advance, lambda carry: (), restore)
    ends = zip(arms, carry, strict=True)
    return [(arm.algorithm.acting(arm.agents.learner(state)), curve) for arm, (state, curve) in ends]


def plan_of(ground: Ground, total: int, steps: int, unit: str, headline: str, sparse: tuple[str, ...] = ()) -> Plan:
    names = tuple(task.name for task in ground.tasks)
    return Plan(total, steps, 0, unit, headline, names, sparse=frozenset(sparse))


# ---- the report ------------------------------------------------------------------------------------------------------


def speed_up(steps: np.ndarray, warm: np.ndarray, scratch: np.ndarray) -> tuple[float, float]:
    """(steps until the curve `warm` first reaches what `scratch` ends with, the part of its steps that this saves).

    `steps [S]`, curves `[S, T]` of returns, compared as means over tasks; (NaN, NaN) if it is never reached.
    """
    reached = np.flatnonzero(warm.mean(1) >= scratch[-1].mean())
    if not len(reached):
        return float("nan"), float("nan")
    needed = float(steps[reached[0]])
    return needed, 1.0 - needed / float(steps[-1])


def run(work: Work) -> Product:
    """Fine-tunes `inputs["policy"]` in the tasks of a split, of its own those that it was trained on. Raises UsageError
    for a split without tasks, WrongKind for a policy whose value cannot be learned on."""
    config: Any = work.config
    card = work.inputs["policy"].card
    family = registry.find(card.extra["family"], evaluation=True)
    of = card.extra.get("split", "train")  # as `eval` asks
    tasks = tasks_of(family, config.split, (task["id"] for task in card.tasks), of)
    algorithm = learners.make(card.extra["algorithm"], card.extra["agent"], family.space, family.discount)
    if algorithm.critic is None:
        cause = f"{LABELS[card.extra['algorithm']]} has no value of one task to go on from"
        raise WrongKind(cause, "fine-tune what infers the task and values actions for it, as omrl distill makes it")
    ground = Ground(family, tasks, TaskAxis(len(tasks), config.mapping), work.seed)
    first, second = config.collect_steps, config.collect_steps + config.imitation.updates
    log, start = played(phase(work, 0, 0, first), ground, algorithm, algorithm.critic)
    start = imitated(phase(work, 1, first, config.imitation.updates), ground, log, start)
    with ExitStack() as held:
        arms = arms_of(config, ground, algorithm.critic, start, held)
        ends = learned(phase(work, 2, second, config.warmup_steps + config.steps), ground, arms)
    return product(config, card, ground, arms, ends)


def product(config: Any, card: Any, ground: Ground, arms: list[Arm], ends: list[tuple[Any, Curve]]) -> Product:
    """The report: on what went on from the meta-policy, as `eval` reports; curves of both."""
    family, tasks, axis = ground.family, ground.tasks, ground.axis
    (acting, curve), policy = ends[0], arms[0].algorithm.policy
    keys, _ = ground.keys("end")
    play = arms[0].play  # which is compiled
    if config.episodes != config.eval_episodes:
        play = player(family, policy, family.discount, config.episodes, Lineup(axis, tasks))
    episodes = play(acting, keys)
    steps = np.arange(len(curve.returns), dtype=np.int32) * config.eval_every
    arrays = {
        "returns": np.asarray(episodes.returns),
        "obs": np.asarray(episodes.path),
        "value": np.asarray(episodes.value).mean(1),
        "discounted_return": np.asarray(episodes.discounted).mean(1),
        "curve_step": steps,
        "curve_return": curve.returns,
        "curve_value": curve.value,
        "curve_discounted": curve.discounted,
    }
    references = [family.references(task) for task in tasks]
    for name in ("random", "oracle", "ceiling"):
        arrays[f"{name}_return"] = np.asarray([one[name] for one in references], np.float64)
    metrics = scores(arrays, tasks)
    before = {WARM: config.collect_steps + config.warmup_steps}
    if len(ends) > 1:
        beside = ends[1][1]
        names = ("return", "value", "discounted")
        arrays |= {f"{SCRATCH}_curve_{name}": rows for name, rows in zip(names, beside, strict=True)}
        before[SCRATCH] = config.warmup_steps
        metrics |= _saved(steps, curve, beside, before)
    label = config.label or f"{LABELS[card.extra['algorithm']]}, fine-tuned"
    extra = {
        "label": label,
        "family": family.name,
        **own.on_card(family.name),
        "split": config.split,
        "protocol": "finetune",
        "episodes": config.episodes,
        "horizon": family.horizon,
        "discount": family.discount,
        "interactions_before": before,
    }
    files = {"curves.png": drawn(label, arrays, metrics)}
    return Product(arrays, metrics, [task.to_json() for task in tasks], extra, files, slug(label))


def drawn(label: str, arrays: dict[str, Any], metrics: dict[str, float]) -> bytes:
    """Figure 8: the curves of the report."""
    curves = {label: arrays["curve_return"]}
    if f"{SCRATCH}_curve_return" in arrays:
        curves["SAC from random nets"] = arrays[f"{SCRATCH}_curve_return"]
    levels = {name: float(arrays[f"{name}_return"].mean()) for name in ("random", "oracle")}
    return interactions(arrays["curve_step"], curves, metrics.get("interactions_needed", float("nan")), levels)


def _saved(steps: np.ndarray, warm: Curve, scratch: Curve, before: dict[str, int]) -> dict[str, float]:
    """How much sooner: as the paper counts, and with all that was done before SAC learned."""
    needed, saved = speed_up(steps, warm.returns, scratch.returns)
    found = {f"{SCRATCH}_return": float(scratch.returns[-1].mean())}
    if not np.isfinite(needed):
        return found
    whole = 1.0 - (before[WARM] + needed) / (before[SCRATCH] + float(steps[-1]))
    return found | {"interactions_needed": needed, "speed_up": saved, "speed_up_counting_all": whole}
