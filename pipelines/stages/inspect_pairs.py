"""How the logs of two tasks meet: overlap of states and actions, and whether rewards and dynamics disagree there.

Every task's rows are halved by episodes. A row of task i's first half is *matched* by task j if j's second half has a
row nearer than what is typical of i itself: the 90th percentile of the distance from i's first half to i's own second
half. So a task overlaps itself by 0.9, and overlaps are given as a share of that. Rewards (and changes of state)
*disagree* in a matched row if they differ by more than 95% (or half) of i's own neighbours at such a distance do. What
disagrees more often than inside one task, and than chance, is evidence for an identifying state-action that overlaps
(BOReL, Proposition 2).

Distances: columns scaled by their deviation over all tasks; more than 16 columns are projected on their 16 principal
axes; states and actions weigh the same. M rows of a task, drawn with a key of the task's own.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

MOST_ROWS = 1000  # of a task's half
MOST_IN_ALL = 10_000
MOST_AXES = 16
TYPICAL = 0.9
LEVELS = (0.95, 0.5)  # of own differences: the first for rewards that vary everywhere, the second for sparse ones
SURE = 4  # deviations by which evidence exceeds what happens inside one task
LEAST = 0.01  # share of rows
NEIGHBOURS = 4  # of its own, which say how much rewards vary at a distance
BINS = 5
SEED = 17
NOTHING = 1e-6  # of a scale: not a difference


class Half(NamedTuple):
    """Sampled rows of a task: [M, ...] each."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    change: np.ndarray  # of the state


@dataclass(frozen=True)
class Pairs:
    """[T, T] each, row i column j: the share of task i's rows that ... task j. The diagonal is the task with itself."""

    states: np.ndarray  # ... have a state near one of
    actions: np.ndarray  # ... have an action near one of
    both: np.ndarray  # ... are matched by, in state and action
    reward_gap: np.ndarray  # mean |r_i - r_j| over matched rows, in deviations of the reward; NaN without a match
    reward_evidence: np.ndarray  # ... are matched, with another reward, more often than inside the task
    change_evidence: np.ndarray  # the same of where they lead
    least: float  # evidence below this is too little to learn from; below what chance may do it is 0
    told: float  # share of rows whose nearest row of all tasks is of their own task: 1 / T is chance
    late: np.ndarray  # `both` of the last third of the episodes alone: what the agents did in the end
    told_late: float  # `told` of these
    rows: int  # M

    @property
    def identifiable(self) -> np.ndarray:
        """[T, T] bool, symmetric: the pair has an identifying state-action that overlaps."""
        seen = np.maximum(self.reward_evidence, self.change_evidence) >= self.least
        return np.asarray(seen | seen.T)


def compare(tasks: list[dict[str, Any]], ids: list[int], num_actions: int | None) -> Pairs:
    """`tasks`: columns as the store has them."""
    halves = _halves(tasks, ids, num_actions)
    spaces = _features(halves)
    scale = float(np.std(np.concatenate([half.reward for pair in halves for half in pair]))) or 1.0
    count, size = len(tasks), min(len(half.reward) for pair in halves for half in pair)
    near = {name: np.zeros((count, count)) for name in ("states", "actions", "both")}
    gap, rewards, changes = np.full((count, count), np.nan), np.zeros((count, count)), np.zeros((count, count))
    told = np.zeros(count)
    for i in range(count):
        limits = {}
        for name, (ask, have) in spaces.items():
            own = _nearest(ask[i], have[i], 1)[1][:, 0]
            limits[name] = float(np.quantile(own, TYPICAL)) + NOTHING
            for j in range(count):
                if name != "both":
                    near[name][i, j] = (_nearest(ask[i], have[j], 1)[1][:, 0] <= limits[name]).mean()
        ask, have = spaces["both"]
        distances = np.zeros((count, len(ask[i])))
        typical = _typical(halves[i], ask[i], have[i], scale)
        found = []
        for j in range(count):
            index, distance = (part[:, 0] for part in _nearest(ask[i], have[j], 1))
            distances[j], matched = distance, distance <= limits["both"]
            differ = _differences(halves[i][0], halves[j][1], index, scale)
            near["both"][i, j] = matched.mean()
            gap[i, j] = differ[0][matched].mean() if matched.any() else np.nan
            found.append([(typical.rare(distance, one, k) & matched).mean(1) for k, one in enumerate(differ)])
        usual = np.stack(found[i])  # [2, LEVELS]: what happens inside the task
        chance = SURE * np.sqrt(2 * np.maximum(usual, 1 / len(ask[i])) / len(ask[i]))
        for j in range(count):
            more = np.stack(found[j]) - usual * near["both"][i, j] / max(near["both"][i, i], NOTHING)
            rewards[i, j], changes[i, j] = np.where(more >= chance, more, 0.0).max(1)
        told[i] = _told(distances, i)
    for name in near:
        near[name] = np.minimum(near[name] / TYPICAL, 1.0)
    late, told_late = _late(tasks, ids, num_actions)
    overlaps = near["states"], near["actions"], near["both"]
    return Pairs(*overlaps, gap, rewards, changes, LEAST, float(told.mean()), late, told_late, size)


def _late(tasks: list[dict[str, Any]], ids: list[int], num_actions: int | None) -> tuple[np.ndarray, float]:
    """Overlap in state and action, and how well they tell the task, of the last third of the episodes."""
    ask, have = _features(_halves(tasks, ids, num_actions, since=2 / 3))["both"]
    count = len(tasks)
    overlap, told = np.zeros((count, count)), np.zeros(count)
    for i in range(count):
        distances = np.stack([_nearest(ask[i], have[j], 1)[1][:, 0] for j in range(count)])
        overlap[i] = (distances <= np.quantile(distances[i], TYPICAL) + NOTHING).mean(1)
        told[i] = _told(distances, i)
    return np.minimum(overlap / TYPICAL, 1.0), float(told.mean())


# ---- rows and features -----------------------------------------------------------------------------------------------


def _halves(
    tasks: list[dict[str, Any]], ids: list[int], num_actions: int | None, since: float = 0.0
) -> list[tuple[Half, Half]]:
    """Rows of the even and of the odd episodes; of a single episode, the even and the odd hundredths. `since`: only
    the episodes after that share of them."""
    parts = []
    for columns in tasks:
        size = int(columns["size"])
        number = columns["episode"][:size]
        if number[-1] == 0:
            number = np.arange(size) * 100 // size if size >= 200 else np.arange(size)
        late = number >= min(since * (number[-1] + 1), number[-1] - 1)  # two episodes at least
        parts.append([np.flatnonzero(late & (number % 2 == side)) for side in (0, 1)])
    most = min(MOST_ROWS, MOST_IN_ALL // len(tasks), *(max(len(part), 1) for both in parts for part in both))
    out = []
    for columns, both, id in zip(tasks, parts, ids, strict=True):
        rng = np.random.default_rng([SEED, id])
        chosen = [
            np.sort(rng.choice(part, min(most, len(part)), replace=False)) if len(part) else part for part in both
        ]
        chosen = [one if len(one) else other for one, other in zip(chosen, chosen[::-1], strict=True)]
        out.append((_half(columns, chosen[0], num_actions), _half(columns, chosen[1], num_actions)))
    return out


def _half(columns: dict[str, Any], rows: np.ndarray, num_actions: int | None) -> Half:
    slot = rows + columns["episode"][rows]
    obs, after = (columns["obs"][at].reshape(len(rows), -1).astype(np.float64) for at in (slot, slot + 1))
    action = columns["action"][rows].reshape(len(rows), -1).astype(np.float64)
    if num_actions is not None:
        action = np.eye(num_actions)[action[:, 0].astype(int)]
    return Half(obs, action, columns["reward"][rows].astype(np.float64), after - obs)


def _features(halves: list[tuple[Half, Half]]) -> dict[str, tuple[list[np.ndarray], list[np.ndarray]]]:
    """name -> (what asks, what is asked), a list over tasks each."""
    obs = _scaled([[half.obs for half in pair] for pair in halves])
    action = _scaled([[half.action for half in pair] for pair in halves])
    out = {}
    for name, parts in (("states", (obs,)), ("actions", (action,)), ("both", (obs, action))):
        sides = [[np.concatenate([part[t][side] for part in parts], 1) for t in range(len(halves))] for side in (0, 1)]
        out[name] = (sides[0], sides[1])
    return out


def _scaled(values: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    """Columns of mean 0 and deviation 1 over everything, at most 16 axes, a mean square norm of 1."""
    pooled = np.concatenate([one for pair in values for one in pair])
    mean, std = pooled.mean(0), pooled.std(0)
    std = np.where(std > NOTHING * (1 + np.abs(mean)), std, np.inf)  # a column that never moves says nothing
    pooled = (pooled - mean) / std
    axes = np.eye(pooled.shape[1])
    if pooled.shape[1] > MOST_AXES:
        some = pooled[:: max(1, len(pooled) // 4000)]
        axes = np.linalg.svd(some, full_matrices=False)[2][:MOST_AXES].T
    norm = max(float(np.sqrt(((pooled @ axes) ** 2).sum(1).mean())), NOTHING)
    return [[((one - mean) / std) @ axes / norm for one in pair] for pair in values]


def _nearest(ask: np.ndarray, have: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest rows of `have`, and how far they are. [M, count] each, nearest first. By matrix product: trees do not
    help in this many dimensions."""
    square = (have**2).sum(1) - 2 * ask @ have.T  # the square of `ask` is the same for all
    count = min(count, len(have))
    index = square.argmin(1)[:, None] if count == 1 else np.argpartition(square, count - 1, 1)[:, :count]
    distance = np.sqrt(((ask[:, None] - have[index]) ** 2).sum(-1))
    order = np.argsort(distance, 1, kind="stable")
    return np.take_along_axis(index, order, 1), np.take_along_axis(distance, order, 1)


# ---- what is different -----------------------------------------------------------------------------------------------


def _differences(one: Half, other: Half, index: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """[M] of reward, in deviations, and of the change of state between rows and their neighbours."""
    return np.abs(one.reward - other.reward[index]) / scale, np.linalg.norm(one.change - other.change[index], axis=-1)


@dataclass(frozen=True)
class _Typical:
    """How much neighbours of one task differ: a limit for each range of distances, of reward and of change."""

    edges: np.ndarray  # [BINS - 1]
    limits: np.ndarray  # [2, LEVELS, BINS]

    def rare(self, distance: np.ndarray, difference: np.ndarray, kind: int) -> np.ndarray:
        """[LEVELS, M] bool: more than 95%, or half, of the task's own neighbours at that distance."""
        return np.asarray(difference > self.limits[kind][:, np.searchsorted(self.edges, distance)])


def _typical(halves: tuple[Half, Half], ask: np.ndarray, have: np.ndarray, scale: float) -> _Typical:
    index, distance = _nearest(ask, have, NEIGHBOURS)
    pairs = [_differences(halves[0], halves[1], index[:, k], scale) for k in range(index.shape[1])]
    flat = distance.T.ravel()
    edges = np.quantile(flat, np.linspace(0, 1, BINS + 1)[1:-1])
    at = np.searchsorted(edges, flat)
    limits = np.zeros((2, len(LEVELS), BINS))
    for kind in (0, 1):
        values = np.concatenate([pair[kind] for pair in pairs])
        for b in range(BINS):
            here = values[at == b]
            limits[kind, :, b] = np.quantile(here if len(here) else values, LEVELS)
        limits[kind] = np.maximum.accumulate(limits[kind], axis=1) + NOTHING * (1 + values.max())
    return _Typical(edges, limits)


def _told(distances: np.ndarray, own: int) -> float:
    """[T, M] distances to each task's nearest row -> the share of rows nearest to their own task; equals share it."""
    ties = distances <= distances.min(0) + NOTHING
    return float((ties[own] / ties.sum(0)).mean())
