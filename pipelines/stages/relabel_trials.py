"""Whole episodes in the place of a trial's own (BOReL section 4: reward relabelling, and policy replay).

A trial is k consecutive episodes of a task's own log. One half of it is replaced, by episodes of another task with
rewards of this one, or by episodes that another task's agent was replayed for in this one.

Differs from the released code in what is mixed unless told otherwise, which is as the paper has it: either half of
every trial, from one other trial (the code: the first half of the 63% that as many draws with replacement hit, each
episode from a trial of its own: half=first, mixed=drawn, sources=each).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from pipelines.core.errors import UsageError, WrongKind
from pipelines.core.families import kernel
from pipelines.core.learn import stage_key, task_keys
from pipelines.core.trees import task_leaf, to_dict
from pipelines.core.types import Log, Task
from pipelines.core.work import Work
from pipelines.stages.relabel_models import Bench, Logs
from pipelines.stages.relabel_pairs import Whole, errors_of, relabelled, whole

TRIAL_KEY = 3  # folded into the stage's key
MOST_NAMES = 5  # of tasks, in a note

Offers = Callable[[np.ndarray], list[np.ndarray]]  # slots [L] of a trial -> of each task, episodes [C, L] that fit


class Piece(NamedTuple):
    """One episode in the place of an own one."""

    place: int  # the own episode, counted on over the mixes
    source: int  # index of the task whose agent acted
    episode: int  # its number in the log that it comes from


def spans(log: Log) -> np.ndarray:
    """First row and the one past the last of each episode. -> [E, 2]"""
    size = int(log.size)
    first = np.flatnonzero(np.diff(log.episode[:size], prepend=-1))
    return np.stack([first, np.append(first[1:], size)], 1)


def num_whole(log: Log, horizon: int) -> int:
    """Episodes of a log as it was recorded, up to the last one that came to its end: recording may have stopped in the
    middle of one behind it, or of one in each environment."""
    last = spans(log)[:, 1] - 1
    ended = np.flatnonzero(log.terminal[last] | (log.step[last] + 1 >= horizon))
    return int(ended[-1]) + 1 if len(ended) else 0


def of_trials(able: Sequence[np.ndarray], k: int) -> Offers:
    """Other tasks' trials, each slot from the slot of its number; `able[j]` bool [E]: which episodes may be taken."""
    trials = [one[: len(one) // k * k].reshape(-1, k) for one in able]
    return lambda slots: [np.flatnonzero(one[:, slots].all(1))[:, None] * k + slots for one in trials]


def of_replay(policy: np.ndarray, count: int) -> Offers:
    """Episodes that belong to no trial, consecutive ones of one policy; `policy [E]`: whose they are."""

    def offers(slots: np.ndarray) -> list[np.ndarray]:
        mine = [np.flatnonzero(policy == j) for j in range(count)]
        return [one[: len(one) // len(slots) * len(slots)].reshape(-1, len(slots)) for one in mine]

    return offers


def halves(k: int, which: str) -> list[np.ndarray]:
    """Slots of what is replaced in a trial of k, of each draw; an odd one's middle belongs to the last half of both."""
    first, last = np.arange(k // 2), np.arange(k - k // 2, k)
    return {"first": [first], "last": [last], "both": [first, np.arange(k // 2, k)]}[which]


def replaced(config: Any, key: Any, num_trials: int) -> list[str]:
    """Which half each trial loses: the config's, or of every trial one drawn. -> names that `halves` knows, [N]"""
    if config.half == "either":
        last = np.asarray(jax.random.bernoulli(key, 0.5, (num_trials,)))
        return [("first", "last")[int(one)] for one in last]
    if config.half == "any":
        return [("first", "last", "both")[int(one)] for one in np.asarray(jax.random.randint(key, (num_trials,), 0, 3))]
    return [config.half] * num_trials


def mix(config: Any, key: Any, num_trials: int, offers: Offers) -> Iterator[Piece]:
    """Which episodes of a task are replaced by which, in order of their places; of several mixes one behind the other.

    Another task is drawn first, uniformly among those that offer something, then what it offers. A half stays as it is
    where nobody offers anything.
    """
    num_trials *= config.mixes
    k, chosen = config.trial_episodes, np.arange(num_trials)
    drawn_key, half_key, source_key = jax.random.split(key, 3)
    if config.mixed == "drawn" and num_trials:
        chosen = np.unique(np.asarray(jax.random.randint(drawn_key, (num_trials,), 0, num_trials)))
    lost = replaced(config, half_key, num_trials)
    luck = np.asarray(jax.random.uniform(source_key, (num_trials, k, 2)), np.float64)
    offered: dict[bytes, list[np.ndarray]] = {}
    for trial in chosen:
        slots_of = halves(k, lost[trial])
        for slots in slots_of if config.sources == "one" else np.concatenate(slots_of)[:, None]:
            if slots.tobytes() not in offered:
                offered[slots.tobytes()] = offers(slots)
            found = offered[slots.tobytes()]
            if tasks := [j for j, ones in enumerate(found) if len(ones)]:
                of_task, of_trial = luck[trial, slots[0]]
                source = tasks[int(of_task * len(tasks))]
                taken = found[source][int(of_trial * len(found[source]))]
                for slot, episode in zip(slots, taken, strict=True):
                    yield Piece(int(trial * k + slot), source, int(episode))


def rows_of(pieces: Sequence[Piece], bounds: Sequence[np.ndarray]) -> tuple[Any, Any, Any]:
    """(source, row, place) of every row of the pieces, in their order; `bounds[j]` are task j's `spans`. [M] int32"""
    columns = []
    for piece in pieces:
        row = np.arange(*bounds[piece.source][piece.episode])
        columns.append(np.stack([np.full_like(row, piece.source), row, np.full_like(row, piece.place)]))
    source, row, place = np.concatenate(columns, 1) if columns else np.zeros((3, 0), np.int64)
    return source.astype(np.int32), row.astype(np.int32), place.astype(np.int32)


def keys_of(work: Work, ids: list[int]) -> Any:
    return task_keys(jax.random.fold_in(stage_key(work.seed, "relabel"), TRIAL_KEY), ids)


def unmixed(work: Work, tasks: Sequence[Task], arrays: dict[str, Any]) -> list[str]:
    """What to say of tasks none of whose trials are mixed. Raises UsageError where no task has one that is."""
    config: Any = work.config
    k, log = config.trial_episodes, work.inputs["log"]
    none = [i for i in range(len(tasks)) if not len(arrays[task_leaf(i)]["place"])]
    if len(none) < len(tasks):
        names = ", ".join(tasks[i].name for i in none[:MOST_NAMES])
        more = f" and {len(none) - MOST_NAMES} more" if len(none) > MOST_NAMES else ""
        return [f"no trial is mixed in task {names}{more}"] if none else []
    logs, half = Logs(log), k // 2
    if max(num_whole(logs[i], log.card.extra["horizon"]) for i in none) < k:
        hint = f"no task has {k} whole episodes: collect more steps, or --set trial_episodes=... for shorter trials"
    elif "replay" in work.inputs:
        hint = (
            f"half a trial is {half} episode(s) of one policy: omrl replay --set episodes={half}, or --set sources=each"
        )
    elif config.reward == "model":
        hint = "no episode passes: --set threshold=... for a wider one, or --set reward=known where a family knows it"
    else:
        hint = f"only one task has {k} whole episodes: collect more steps of the others"
    raise UsageError(f"no trial is mixed: {log.card.id} would stay as it is", hint)


# ---- other tasks' episodes with new rewards --------------------------------------------------------------------------


class Candidates(NamedTuple):
    """The episodes of one log, under G tasks."""

    bounds: np.ndarray  # [E, 2]
    num_whole: int
    able: np.ndarray  # [G, whole ones] bool, those that pass
    errors: Any  # Errors [G]


def episodes(bench: Bench) -> dict[str, Any]:
    """-> one leaf per task, and what is known of pairs, as `relabel_pairs.single_rows` has it; a pair's rate is that of
    its episodes, of which one passes if the mean spread of its rows does."""
    config: Any = bench.work.config
    count, k, keys = len(bench.tasks), config.trial_episodes, keys_of(bench.work, bench.ids)
    judged = _judging(bench)
    seen = []
    for j in range(count):
        seen.append(_candidates(bench, j, judged(j)))
        bench.told(j + 1, 2)
    bounds = [one.bounds for one in seen]
    chosen = []
    for g, i in enumerate(bench.numbers):
        offers = of_trials([one.able[g] & (j != i) for j, one in enumerate(seen)], k)
        chosen.append(rows_of(list(mix(config, keys[g], seen[i].num_whole // k, offers)), bounds))
    paid = [np.zeros((2, len(row)), np.float32) for _, row, _ in chosen]
    for j in range(count):
        found = judged(j)
        for g, (source, row, _) in enumerate(chosen):
            mine = source == j
            paid[g][:, mine] = found.reward[g, row[mine]], found.spread[g, row[mine]]
        bench.told(count + j + 1, 2)
    arrays = errors_of(jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *(one.errors for one in seen)))
    rate = np.stack([one.able.sum(1) / max(one.num_whole, 1) for one in seen], 1)
    arrays["pass_rate"] = np.where(bench.other, rate, 1.0).astype(np.float32)
    arrays["pair_size"] = np.stack([np.bincount(source, minlength=count) for source, _, _ in chosen]).astype(np.int32)
    for i, (source, row, place), values in zip(bench.numbers, chosen, paid, strict=True):
        arrays[task_leaf(i)] = to_dict(relabelled(source, row, *values)._replace(place=place))
    return arrays


def _judging(bench: Bench) -> Callable[[int], Whole]:
    """`judged(j)`: all rows of task j under the tasks of the bench, `[G, N]` in numpy."""
    call = bench.axis.over_tasks(whole(bench.kit), shared=1)

    def judged(j: int) -> Whole:
        log = bench.axis.replicate(bench.logs[j])
        found: Whole = bench.axis.get(call(bench.tasks[j].id, log, bench.ensembles, bench.rows, bench.limits))
        return found

    return judged


def _candidates(bench: Bench, j: int, found: Whole) -> Candidates:
    log = bench.logs[j]
    bounds, complete = spans(log), num_whole(log, bench.work.inputs["log"].card.extra["horizon"])
    sums: Any = np.add.reduceat(found.spread[:, : bounds[-1, 1]], bounds[:, 0], axis=1)
    means = sums / np.diff(bounds, axis=1)[:, 0]
    limit = np.asarray(bench.axis.get(bench.limits.reward)) if bench.kit.reward else np.full(len(means), np.inf)
    return Candidates(bounds, complete, means[:, :complete] < limit[:, None], found.errors)


# ---- replayed episodes -----------------------------------------------------------------------------------------------


def replayed(work: Work, replay: Any) -> dict[str, Any]:
    """Episodes of the second parent, with the rewards that they were paid. -> as `episodes`

    Raises UsageError for single rows, WrongKind for a log that is of other tasks, or says not whose episodes it holds.
    """
    config: Any = work.config
    log = work.inputs["log"]
    if config.unit != "episode":
        raise UsageError("replayed rows are a log of their own: they need no new rewards", "--set unit=episode mixes")
    ids, command = [task["id"] for task in log.card.tasks], f"omrl replay --policies {log.card.id}"
    mine_is, theirs_is = (kernel(card.extra["family"] or "") for card in (log.card, replay.card))
    if mine_is != theirs_is:
        cause = f"log {log.card.id} is of {mine_is or 'no family'}, replay {replay.card.id} of {theirs_is or 'none'}"
        raise WrongKind(cause, command)
    if [task["id"] for task in replay.card.tasks] != ids:
        raise WrongKind(f"log {log.card.id} and replay {replay.card.id} are of different tasks", command)
    if replay.card.extra["space"] != log.card.extra["space"]:
        raise WrongKind(f"replay {replay.card.id} is of other observations or actions than log {log.card.id}", command)
    if f"{task_leaf(0)}/policy" not in replay.card.arrays:
        raise WrongKind(f"log {replay.card.id} does not say whose episodes it holds", command)
    count, keys = len(ids), keys_of(work, ids)
    mine, theirs, sizes = Logs(log), Logs(replay), []
    arrays: dict[str, Any] = {}
    for i in range(count):
        other, policy = theirs[i], replay.arrays([task_leaf(i)])[task_leaf(i)]["policy"]
        bounds, complete = spans(other), num_whole(other, replay.card.extra["horizon"])
        offers = of_replay(policy[bounds[:complete, 0]], count)
        num_trials = num_whole(mine[i], log.card.extra["horizon"]) // config.trial_episodes
        _, row, place = rows_of(list(mix(config, keys[i], num_trials, offers)), [bounds] * count)
        rows = relabelled(np.full_like(row, i), row, other.reward[row], np.zeros(len(row), np.float32))
        arrays[task_leaf(i)] = to_dict(rows._replace(log=row * 0 + 1, place=place))
        sizes.append(np.bincount(policy[row], minlength=count))
        work.tell.progress(i + 1, count, "log", "mixing")
    return arrays | {"pass_rate": np.ones((count, count), np.float32), "pair_size": np.stack(sizes).astype(np.int32)}
