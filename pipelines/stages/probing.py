"""The inference probe: what moves the posterior of a task encoder, the rewards of a context, or its states and actions?

Where logs hardly overlap, an encoder can tell their tasks apart by where the agents were and need not read a reward; in
a task that it has to infer for itself it then knows nothing (MBML section 3.1). So contexts are made that contradict
themselves: rows (s, a, s') of task j, paid as task i pays them, by the family's own reward or as a relabelled-log has
it. mu(j, i) is the mean of the posterior that they give. How far it goes from mu(j, j), the same rows as they were
logged, towards mu(i, i), rows of task i, is the *reward share* of the pair:

    share(i, j) = <mu(j, i) - mu(j, j), mu(i, i) - mu(j, j)> / |mu(i, i) - mu(j, j)|^2

1: the posterior follows the rewards alone, 0: states and actions alone. (In squared distances from mu(j, i) it is how
much nearer mu(i, i) is than mu(j, j), scaled to lie between 0 and 1.) The share of all pairs is their mean, each with
the squared distance of its posteriors as weight, so that pairs that the encoder cannot tell apart anyway do not decide.
What leads away from the line between the two is told beside it: a posterior that goes elsewhere has understood neither.
Where an encoder gives deviations, the share is told in their units, too, each latent entry divided by its own: so a KL
divergence sees it (MBML's triplets), in which one entry that is sure of itself outweighs all others; a net that reads z
sees it as it is. Where all tasks pay alike and differ in their dynamics there is nothing to swap, and no share.
i, j tasks of T, D draws of C rows, Z latent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.core import own
from pipelines.core.configs.base import resolve
from pipelines.core.configs.relabel import RelabelConfig
from pipelines.core.errors import StageFailed, UsageError
from pipelines.core.names import slug
from pipelines.core.statistics import interval, number
from pipelines.core.types import Log, Policy, Space, Task, Transition, task_rows
from pipelines.core.work import Product, Work
from pipelines.rollouts import begin_task
from pipelines.stages import learners, relabelled
from pipelines.stages.contexts import enough, generator, row_numbers, rows_of, same_space, task_log
from pipelines.stages.relabel_models import find_family, known_reward

OTHER_REWARDS = "give a relabelled-log of the log: --relabelled REF"


class PaidAlike(UsageError):
    """All tasks pay the same: contexts cannot contradict themselves."""


# ---- what is made of posteriors --------------------------------------------------------------------------------------


class Shares(NamedTuple):
    """NaN where there is nothing to share out: the same posterior, whatever is seen."""

    share: Any  # [D] of all pairs
    of_pair: Any  # [T, T], rewards of i, states of j; over all draws
    stray: Any  # [D] how far from the line, in distances between its ends: a root mean square


def shares(swapped: Any, logged: Any) -> Shares:
    """`swapped [D, T, T, Z]`: posterior means with rewards of task i on rows of j, [i, i] as they were logged;
    `logged`: of the same rows as they were logged. Pairs that are NaN are left out."""
    toward = np.diagonal(swapped, axis1=1, axis2=2).transpose(0, 2, 1)[:, :, None] - logged
    moved = swapped - logged
    there = ~np.eye(swapped.shape[1], dtype=bool) & np.isfinite(moved).all((0, 3))
    along, whole, far = (
        np.where(there, (a * b).sum(-1), 0.0) for a, b in ((moved, toward), (toward, toward), (moved, moved))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        off = far - np.where(whole > 0, along**2 / whole, 0.0)
        size = whole.sum((1, 2))
        return Shares(
            share=along.sum((1, 2)) / size,
            of_pair=np.where(there, along.sum(0) / whole.sum(0), np.nan),
            stray=np.sqrt(np.maximum(off.sum((1, 2)), 0.0) / size),
        )


def sure_shares(swapped: Any, logged: Any, deviation: Any) -> Any:
    """[D] the share in units of the posterior's own deviations `[Z]`; NaN for an encoder that gives points."""
    if not (deviation > 0).all():
        return np.full(len(swapped), np.nan)
    return shares(swapped / deviation, logged / deviation).share


class Nearest(NamedTuple):
    """Of contexts, which task's centroid is nearest to the posterior's mean: shares `[D]`."""

    own: Any  # contexts as they were logged: their task's
    reward: Any  # swapped ones: that whose rewards they have
    states: Any  # that whose states and actions they have


def nearest(swapped: Any) -> Nearest:
    """A task's centroid is the mean over the other draws of its contexts as they were logged."""
    num_draws, num_tasks = swapped.shape[:2]
    logged = np.diagonal(swapped, axis1=1, axis2=2).transpose(0, 2, 1)  # [D, T, Z]
    centroids = (logged.sum(0) - logged) / (num_draws - 1)
    # |x - c|^2 less |x|^2, which is the same for all c: [D, i, j, T]
    away = (centroids**2).sum(-1)[:, None, None] - 2 * np.einsum("dijz,dkz->dijk", swapped, centroids)
    there = np.isfinite(away).all((0, 3))
    found = np.where(there, np.nan_to_num(away).argmin(-1), -1)
    one, other = np.arange(num_tasks)[:, None], np.arange(num_tasks)[None]
    pairs = there & (one != other)
    return Nearest(
        own=(found == one)[:, np.eye(num_tasks, dtype=bool)].mean(-1),
        reward=(found == one)[:, pairs].mean(-1),
        states=(found == other)[:, pairs].mean(-1),
    )


# ---- contexts that contradict themselves -----------------------------------------------------------------------------


class Swapped(NamedTuple):
    """Rows of one task's log, D draws of C of them for each task that pays them."""

    rows: Transition  # [T, D, C, ...] as they were logged
    reward: Any  # [T, D, C] as task i pays them
    there: Any  # [T] bool, false where a relabelled-log holds too few
    agrees: bool = True  # whether the family pays this task's own rows as they were logged
    alike: bool = False  # whether every other task pays them as this one does


def swapped_by_family(log: Log, j: int, tasks: tuple[Task, ...], known: Any, rows: np.ndarray) -> Swapped:
    """All rewards of the rows `[D, C]` by the family's own function; task j's are as they were logged."""
    seen = rows_of(log, rows)
    flat = jax.tree.map(lambda leaf: leaf.reshape(rows.size, *leaf.shape[2:]), seen)
    args = (flat.obs, flat.action, flat.next_obs, flat.outcome)
    paid = [np.asarray(known(task, *args), np.float32).reshape(rows.shape) for task in task_rows(tasks)]
    agrees, alike = _same(paid[j], seen.reward), all(np.array_equal(paid[j], other) for other in paid)
    paid[j] = np.asarray(seen.reward)
    wide: Any = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (len(tasks), *leaf.shape)), seen)
    return Swapped(wide, np.stack(paid), np.ones(len(tasks), bool), agrees, alike)


def _same(paid: Any, logged: Any) -> bool:
    """Whether these are the rewards of the log, as far as float32 tells."""
    return np.allclose(paid, logged, rtol=1e-3, atol=1e-3 * float(np.std(logged)) + 1e-6)


def swapped_by_log(log: Log, j: int, pool: Any, rows: np.ndarray, size: int, rng: np.random.Generator) -> Swapped:
    """Rows below `size` that a relabelled-log holds of task j under each other task; under its own those drawn,
    `[D, C]`."""
    num_tasks, (draws, count) = len(pool.size), rows.shape
    ends = zip(pool.start[:, j], pool.start[:, j] + pool.size[:, j], strict=True)
    held = [a + np.flatnonzero(pool.rows.row[i, a:b] < size) for i, (a, b) in enumerate(ends)]
    there = np.array([i == j or len(kept) >= count for i, kept in enumerate(held)])
    index, paid = np.empty((num_tasks, *rows.shape), int), np.empty((num_tasks, *rows.shape), np.float32)
    for i in range(num_tasks):
        index[i], paid[i] = rows, log.reward[rows]
        if i == j or not there[i]:
            continue
        kept = np.stack([held[i][row_numbers(rng, len(held[i]), count)] for _ in range(draws)])
        index[i], paid[i] = pool.rows.row[i, kept], pool.rows.reward[i, kept]
    alike = _same(paid[there], log.reward[index[there]])
    return Swapped(rows_of(log, index), paid, there, alike=alike)


# ---- the probe -------------------------------------------------------------------------------------------------------


class Posteriors(NamedTuple):
    """What the encoder makes of the contexts: NaN where there are none."""

    mean: Any  # [D, T, T, Z] with the rewards of task i on rows of j
    logged: Any  # [D, T, T, Z] of the same rows as they were logged
    spread: Any  # [T, T, Z]
    alike: bool  # whether all tasks pay all of these rows alike


@dataclass(frozen=True)
class Probed:
    """What goes into the report: `mean`, `logged` [D, T, T, Z], `spread` [T, T], `share`, ... and its meaning."""

    arrays: dict[str, Any]
    metrics: dict[str, float]
    said: dict[str, Any]


class Probe:
    """A policy's encoder, and the logs that it is asked about."""

    def __init__(self, work: Work, label: str) -> None:
        """Raises UsageError for a policy without an encoder and where nobody knows the rewards, WrongKind for logs that
        do not belong together."""
        card, self.log = work.inputs["policy"].card, work.inputs["probe"]
        self.config: Any = work.config
        self.note = work.tell.note
        self.seed, self.label = work.seed, label
        space = Space.from_json(card.extra["space"])
        algorithm = learners.make(card.extra["algorithm"], card.extra["agent"], space, card.extra["discount"])
        if algorithm.policy.latent is None:
            raise UsageError(f"{label} has no task encoder to probe", "probe a meta-policy that infers its task")
        same_space(self.log, space)
        self.policy: Policy = algorithm.policy
        self.acting = jax.tree.map(jnp.asarray, learners.acting_of(work.inputs["policy"], algorithm.acting_type))
        self.tasks = tuple(Task.from_json(task) for task in self.log.card.tasks)
        learners.want_tasks(self.tasks, 2, "the probe")
        self.code: dict[str, str] = {}
        self.pool: Any = None
        self.known: Any = None
        self.dynamics = False  # whether the tasks are known to differ in theirs
        if (given := work.inputs.get("relabelled")) is not None:
            self.rewards = given.card.id
            self.pool = _pool(given, self.log)
            self._find("model", lambda text: None)
        else:
            self.rewards = "known"
            try:
                name = self._find("known", work.tell.note)
            except UsageError as error:
                raise UsageError(error.cause, OTHER_REWARDS) from error
            self.code = own.on_card(name)

    def _find(self, reward: str, note: Callable[[str], None]) -> str:
        """The family's name. Raises UsageError where its reward is to be `known`, and is not."""
        wanted = resolve(RelabelConfig, {"reward": reward})
        family = find_family(wanted, self.log.card, note)
        known = known_reward(wanted, family, self.tasks, task_log(self.log, 0), note)
        self.known = jax.jit(known) if known is not None else None
        self.dynamics = family is not None and family.dynamics
        return "" if family is None else family.name

    def swapped(self, j: int) -> Swapped:
        """The contexts that task j's rows make. Raises UsageError where its log has fewer rows than one."""
        log, count = task_log(self.log, j), self.config.context_rows
        size = min(int(log.size), self.config.probe_first or int(log.size))
        enough(count, size, self.tasks[j].name)
        rng = generator(self.seed, "eval-probe", self.tasks[j].id)
        rows = np.stack([row_numbers(rng, size, count) for _ in range(self.config.probe_draws)])
        if self.pool is None:
            return swapped_by_family(log, j, self.tasks, self.known, rows)
        found = swapped_by_log(log, j, self.pool, rows, size, rng)
        if self.known is None or not self.dynamics:
            return found
        # where one reward of all tasks was learned, its errors are no other task's
        return found._replace(alike=swapped_by_family(log, j, self.tasks, self.known, rows).alike)

    def posteriors(self) -> Posteriors:
        """Of all contexts, with rewards of each task on rows of each."""
        policy, latent = self.policy, self.policy.latent
        assert latent is not None

        def one(acting: Any, rows: Transition) -> Any:
            return latent(acting, begin_task(policy, acting, jax.random.key(0), rows))

        every = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (None, 0)))
        means, logged, spreads, alike = [], [], [], True
        for j in range(len(self.tasks)):
            made = self.swapped(j)
            if not made.agrees:
                self.note(f"{self.tasks[j].name}: the log's rewards are not those of the family's own function")
            found, plain = (every(self.acting, rows) for rows in (made.rows._replace(reward=made.reward), made.rows))
            alike = alike and made.alike
            gone = ~made.there[:, None, None]
            means.append(np.where(gone, np.nan, np.asarray(found.mean)))  # [T, D, Z]
            logged.append(np.where(gone, np.nan, np.asarray(plain.mean)))
            spreads.append(np.where(gone[:, 0], np.nan, np.asarray(found.spread).mean(1)))
        mean, own_mean = (np.stack(parts, 1).transpose(2, 0, 1, 3).astype(np.float32) for parts in (means, logged))
        return Posteriors(mean, own_mean, np.stack(spreads, 1).astype(np.float32), alike)


def _pool(given: Any, log: Any) -> Any:
    """The stored rows of a relabelled-log. Raises WrongKind where it is of another log, or holds no rows."""
    relabelled.want_own(given, log, f"omrl relabel --log {log.card.id}")
    return relabelled.pool(given)


def beside(work: Work, label: str) -> Probed | None:
    """What `look` finds, if a log is asked about; None, and a note, where all its tasks pay alike."""
    if "probe" not in work.inputs:
        return None
    try:
        return look(work, label)
    except PaidAlike as error:
        work.tell.note(f"{error.cause}: the probe is left out")
        return None


def look(work: Work, label: str) -> Probed:
    """Asks the encoder of `inputs["policy"]` about the log `inputs["probe"]`, and tells. Raises PaidAlike where no
    context contradicts itself."""
    probe = Probe(work, label)
    mean, logged, spread, alike = probe.posteriors()
    names = [task.name for task in probe.tasks]
    lacking = ~np.isfinite(mean).all((0, 3))
    if probe.pool is None and lacking.any():
        raise StageFailed(f"the posterior of {label} is not finite", "train the policy again")
    if probe.pool is not None and lacking.sum() == lacking.size - len(names):
        cause = f"context_rows={probe.config.context_rows}: the relabelled-log holds no pair of tasks with as many rows"
        raise UsageError(cause, f"the most that it holds of one is {probe.pool.size.max()}")
    if alike:
        raise _paid_alike(probe)
    exact, plain = mean.astype(np.float64), logged.astype(np.float64)
    found, near = shares(exact, plain), nearest(exact)
    sure = sure_shares(exact, plain, np.nanmean(spread.astype(np.float64), (0, 1)))
    arrays = {"mean": mean, "logged": logged, "spread": spread.mean(-1), **found._asdict(), "sure_share": sure}
    arrays |= {f"nearest_{name}": value for name, value in near._asdict().items()}
    metrics = _metrics(found, near, sure)
    said = {
        "log": probe.log.card.id,
        "rewards": probe.rewards,
        "tasks": names,
        "rows": probe.config.context_rows,
        "first": probe.config.probe_first,
        "draws": probe.config.probe_draws,
        "pairs_left_out": int(lacking.sum()),
        **probe.code,
    }
    for line in in_words(label, said, metrics):
        work.tell.note(line)
    return Probed(arrays, metrics, said)


def _paid_alike(probe: Probe) -> PaidAlike:
    card = probe.log.card
    if probe.dynamics:
        cause = (
            f"{card.extra['family']}: tasks differ in their dynamics and pay rows of {card.id} alike, nothing to swap"
        )
        return PaidAlike(cause, "leave out --probe: what tells such tasks apart is where actions lead")
    cause = f"all tasks pay the rows drawn of {card.id} alike, nothing to swap"
    return PaidAlike(cause, "draw others: more --context-rows, another probe_first; or leave out --probe")


def _metrics(found: Shares, near: Nearest, sure: Any) -> dict[str, float]:
    share = interval(found.share)
    out = {"reward_share": share.point, "reward_share_low": share.low, "reward_share_high": share.high}
    out |= {"stray": float(found.stray.mean()), "sure_share": float(sure.mean())}
    out |= {f"nearest_{name}": float(value.mean()) for name, value in near._asdict().items()}
    return {f"probe/{name}": value for name, value in out.items()}


def in_words(label: str, said: dict[str, Any], metrics: dict[str, float]) -> list[str]:
    """What the probe found, for a person to read."""
    of = {name.removeprefix("probe/"): value for name, value in metrics.items()}
    num_tasks = len(said["tasks"])
    sure = of["sure_share"]
    in_deviations = f"; {number(sure)} in units of the posterior's deviations" if np.isfinite(sure) else ""
    lines = [
        f"inference probe of {label}: {num_tasks} tasks, {said['draws']} contexts of {said['rows']} rows of each"
        f"{f' out of its first {first}' if (first := said['first']) else ''}, rewards {said['rewards']}",
        f"reward share {number(of['reward_share'])} [{number(of['reward_share_low'])}, "
        f"{number(of['reward_share_high'])}] (1: the posterior follows the rewards, 0: states and actions); "
        f"{number(of['stray'])} off the line{in_deviations}",
        f"nearest to the task of the rewards {of['nearest_reward']:.0%}, of the states and actions "
        f"{of['nearest_states']:.0%}; contexts as logged to their own {of['nearest_own']:.0%} "
        f"(chance {1 / num_tasks:.0%})",
    ]
    if said["pairs_left_out"]:
        lines.append(f"{said['pairs_left_out']} pairs of tasks have too few relabelled rows and are left out")
    if not np.isfinite(of["reward_share"]):
        lines.append("the posterior is the same whatever it is shown: there is nothing to share out")
    return lines


def product(work: Work, label: str) -> Product:
    """The report of a probe alone: nothing is played, so no simulator is needed."""
    if "probe" not in work.inputs:
        raise UsageError("protocol=probe needs a log to ask the encoder about", "--probe REF")
    if "context" in work.inputs:
        raise UsageError("protocol=probe plays nothing: there is no memory to show a context", "leave out --context")
    log = work.inputs["probe"].card
    probed = look(work, label)
    extra = {"label": label, "family": log.extra["family"], "protocol": "probe", "probe": probed.said}
    return Product(
        {"probe": probed.arrays}, probed.metrics, list(log.tasks), extra, name=slug(f"{label} probe", "probe")
    )
