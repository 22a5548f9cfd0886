"""From a source's rows to a log's columns: checks, episodes, observations stored once.

Episodes end where the source says so, where its terminals say so (unless they mean something else), after `horizon`
rows, and where next_obs is not the obs that follows. What is wrong is named with the task, the column and the row.

Differs: BOReL's code hands the terminal observation, with the done flag up, to the first action of the next episode of
a trial, so the stored start of that episode is not where it started. Where all trials start in one place the start is
put back; elsewhere that one row is left out. The flag itself is no part of an observation here.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.core.errors import CheckFailed
from pipelines.formats import Raw

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Rules:
    """How to read rows. `horizon` None: nobody has said it."""

    horizon: int | None = None
    terminals: str = "end"  # or ignore
    tolerance: float = 1e-5
    exact: bool = False  # an export of ours: flags are taken as they are
    obs_shape: tuple[int, ...] | None = None
    obs_dtype: str | None = None


@dataclass
class Found:
    """What reading one task brought to light."""

    task: str
    deviation: float | None = None  # the largest |next_obs - following obs| inside episodes; None: no next_obs
    splits: int = 0  # episodes that ended only because next_obs was not the following obs
    horizon: int | None = None  # that the done flag tells
    notes: list[str] = field(default_factory=list)


@dataclass
class _Rows:
    """Rows on their way."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray | None
    terminal: np.ndarray
    ends: np.ndarray
    keep: np.ndarray


def assemble(raw: Raw, task: str, rules: Rules) -> tuple[Columns, Found]:
    """One task's rows -> its columns as the store has them (`action` as the source has it). Raises CheckFailed."""
    found = Found(task)
    count = _check_lengths(raw, task)
    obs = _shaped(_numbers(raw.obs, "obs", task, rules.obs_dtype), rules)
    next_obs = (
        None if raw.next_obs is None else _shaped(_numbers(raw.next_obs, "next_obs", task, rules.obs_dtype), rules)
    )
    if next_obs is not None and next_obs.shape != obs.shape:
        raise CheckFailed(f"task {task}: obs is {list(obs.shape)}, next_obs {list(next_obs.shape)}", "they go together")
    ends_in = raw.terminal is not None and rules.terminals == "end"
    rows = _Rows(
        obs=obs,
        action=_numbers(raw.action, "action", task, None, whole=True),
        reward=_numbers(raw.reward, "reward", task).reshape(count, -1),
        next_obs=next_obs,
        terminal=np.asarray(raw.terminal, bool) if ends_in else np.zeros(count, bool),
        ends=np.zeros(count, bool) if raw.ends is None else np.asarray(raw.ends, bool).copy(),
        keep=np.ones(count, bool),
    )
    if rows.reward.shape[1] != 1:
        raise CheckFailed(f"task {task}: reward is {list(np.shape(raw.reward))}, not one number a row", "sum its parts")
    if not rules.exact:
        _lower_flag(rows, found, rules)
    _find_ends(rows, raw, found, rules)
    if raw.truncated is None and not rules.exact:
        _time_limits(rows, found, rules)
    if rows.next_obs is None:
        _successors(rows, found)
    return _columns(rows, raw, rules, found), found


# ---- checks ----------------------------------------------------------------------------------------------------------


def _check_lengths(raw: Raw, task: str) -> int:
    """The number of rows, the same in every column."""
    lengths: dict[str, int] = {}
    for name, values in raw.__dict__.items():
        if values is None:
            continue
        if np.ndim(values) == 0:
            raise CheckFailed(f"task {task}: {name} is a single number, not one row a step", "is it the right array?")
        lengths[name] = len(values)
    if len(set(lengths.values())) != 1:
        said = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise CheckFailed(f"task {task}: columns of unequal length: {said}", "is a file cut short, or of another task?")
    if lengths["reward"] == 0:
        raise CheckFailed(f"task {task} has no rows", "leave it out")
    return lengths["reward"]


def _numbers(values: Any, name: str, task: str, dtype: str | None = None, whole: bool = False) -> np.ndarray:
    """`values` in float32 (bytes of images, and whole numbers where `whole`, stay). Raises CheckFailed where one is not
    finite."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise CheckFailed(f"task {task}: {name} holds {array.dtype}, not numbers", "is it the right array?")
    if array.dtype == np.uint8 and (array.ndim >= 4 or dtype == "uint8"):
        return array
    if whole and array.dtype.kind in "iub":
        return array.astype(np.int64)
    with np.errstate(over="ignore"):
        out = array.astype(np.float32)
    bad = ~np.isfinite(out).reshape(len(out), -1).all(1)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        cause = f"task {task}: {name} is not finite in {bad.sum()} of {len(out)} rows, the first is row {first}"
        raise CheckFailed(cause, "a log must be finite: leave these episodes out, or mend them")
    return out


def _shaped(obs: np.ndarray, rules: Rules) -> np.ndarray:
    """`[N, O]`: as the space has it where the sizes agree."""
    if obs.ndim == 1:
        obs = obs[:, None]
    if rules.obs_shape is not None and obs[0].size == int(np.prod(rules.obs_shape)):
        return obs.reshape(len(obs), *rules.obs_shape)
    return obs


# ---- episodes --------------------------------------------------------------------------------------------------------


def _lower_flag(rows: _Rows, found: Found, rules: Rules) -> None:
    """Takes BOReL's done flag, the last number of an observation, off: it marks the last next_obs of every episode."""
    if rows.next_obs is None or rows.obs.ndim != 2 or rows.obs.shape[1] < 2:
        return
    wanted = None if rules.obs_shape is None else int(np.prod(rules.obs_shape))
    if wanted is not None and rows.obs.shape[1] != wanted + 1:
        return
    before, after = rows.obs[:, -1], rows.next_obs[:, -1]
    if not np.isin(before, (0, 1)).all() or not np.isin(after, (0, 1)).all() or not after.any():
        return
    ends = after == 1
    horizon = int(np.argmax(ends)) + 1
    if not np.array_equal(np.flatnonzero(ends), np.arange(horizon - 1, len(ends), horizon)):
        return
    boundary = before == 1  # the first row of a trial's later episodes
    if (boundary & (np.arange(len(ends)) % horizon != 0)).any():
        return
    rows.obs, rows.next_obs = rows.obs[:, :-1].copy(), rows.next_obs[:, :-1]
    rows.ends |= ends
    found.horizon = horizon
    starts = rows.obs[(np.arange(len(ends)) % horizon == 0) & ~boundary]
    said = f"done flag taken off; it tells the horizon, {horizon}"
    if boundary.any() and len(starts) and (starts == starts[0]).all():
        rows.obs[boundary] = starts[0]
        said += f"; {boundary.sum()} episodes inside trials begin where all trials do"
    elif boundary.any():
        rows.keep &= ~boundary
        said += (
            f"; the first row of {boundary.sum()} episodes inside trials is left out: where they began is not stored"
        )
    found.notes.append(said)


def _find_ends(rows: _Rows, raw: Raw, found: Found, rules: Rules) -> None:
    """Completes `rows.ends`. Raises CheckFailed where nobody says where episodes end, or one is too long."""
    said = raw.ends is not None or found.horizon is not None or (rules.terminals == "end" and rows.terminal.any())
    rows.ends |= rows.terminal
    if rows.next_obs is not None and len(rows.ends) > 1:
        gap = np.abs(rows.next_obs[:-1].astype(np.float64) - rows.obs[1:]).reshape(len(rows.ends) - 1, -1).max(1)
        size = np.abs(rows.obs[1:]).reshape(len(rows.ends) - 1, -1).max(1).astype(np.float64)
        broken = gap > rules.tolerance * (1 + size)
        found.splits = int((broken & ~rows.ends[:-1]).sum())
        rows.ends[:-1] |= broken
        inside = gap[~rows.ends[:-1]]
        found.deviation = float(inside.max()) if len(inside) else 0.0
    if not said and rules.horizon is None and not rows.ends[:-1].any():
        raise CheckFailed(
            f"task {found.task}: nothing says where an episode ends in {len(rows.ends)} rows", "say it: --horizon STEPS"
        )
    rows.ends[-1] = True
    horizon = rules.horizon
    if horizon is None:
        return
    if found.horizon not in (None, horizon):
        raise CheckFailed(
            f"task {found.task}: the done flag comes every {found.horizon} rows, the horizon is {horizon}",
            f"--horizon {found.horizon}",
        )
    step = _steps(rows.ends)
    if step.max() < horizon:
        return
    if raw.ends is not None and raw.ends[:-1].any():
        longest = int(step.max()) + 1
        cause = f"task {found.task}: an episode has {longest} steps, the horizon is {horizon}"
        raise CheckFailed(cause, f"--horizon {longest}, or is it another family?")
    rows.ends |= (step + 1) % horizon == 0


def _steps(ends: np.ndarray) -> np.ndarray:
    """`[N]` steps since the episode began."""
    starts = np.flatnonzero(np.append(True, ends[:-1]))
    number = np.cumsum(np.append(False, ends[:-1]))
    out: np.ndarray = np.arange(len(ends)) - starts[number]
    return out


def _time_limits(rows: _Rows, found: Found, rules: Rules) -> None:
    """Terminals that all come at the same step, which no episode outlives, are a time limit and not an end of the
    world."""
    at = np.flatnonzero(rows.terminal)
    steps = _steps(rows.ends)
    if len(at) > 1 and steps[at].min() == steps.max() and steps.max() > 0:
        rows.terminal = np.zeros_like(rows.terminal)
        found.notes.append(f"all {len(at)} terminals come after {int(steps.max()) + 1} steps: taken for a time limit")


def _successors(rows: _Rows, found: Found) -> None:
    """Without next_obs the successor is the following obs. The last row of an episode has none: it is left out, unless
    it is terminal, when nothing bootstraps from what comes after."""
    last = rows.ends & ~rows.terminal
    rows.next_obs = np.concatenate([rows.obs[1:], rows.obs[-1:]])
    rows.next_obs[rows.ends] = rows.obs[rows.ends]
    rows.keep &= ~last
    rows.ends[:-1] |= last[1:]
    dying = int((rows.ends & rows.terminal).sum())
    note = f"no next_obs: the last row of {int(last.sum())} episodes, whose successor is unknown, is left out"
    found.notes.append(note + (f"; {dying} terminal rows have their own obs for successor" if dying else ""))
    if not rows.keep.any():
        raise CheckFailed(f"task {found.task} has no row with a successor", "episodes need two rows or a next_obs")


# ---- columns ---------------------------------------------------------------------------------------------------------


def _columns(rows: _Rows, raw: Raw, rules: Rules, found: Found) -> Columns:
    """Observations stored once: row n of episode e has its own in slot n + e."""
    assert rows.next_obs is not None
    kept = np.flatnonzero(rows.keep)
    episode_of = np.cumsum(np.append(False, rows.ends[:-1]))[kept]
    ends = np.append(episode_of[1:] != episode_of[:-1], True)
    episode = np.cumsum(np.append(False, ends[:-1])).astype(np.int32)
    count, episodes = len(kept), int(episode[-1]) + 1
    slots = np.empty((count + episodes, *rows.obs.shape[1:]), rows.obs.dtype)
    at = np.arange(count) + episode
    slots[at] = rows.obs[kept]
    slots[at[ends] + 1] = rows.next_obs[kept[ends]]
    terminal = rows.terminal[kept]
    given = raw.truncated if rules.exact else None
    outcome = np.zeros((len(rows.ends), 0)) if raw.outcome is None else raw.outcome
    behaviour = np.zeros(len(rows.ends)) if raw.behaviour is None else np.reshape(raw.behaviour, -1)
    return {
        "obs": slots,
        "action": rows.action[kept],
        "reward": rows.reward[kept, 0],
        "terminal": terminal,
        "truncated": (ends & ~terminal) if given is None else np.asarray(given, bool)[kept],
        "outcome": _numbers(np.reshape(outcome, (len(rows.ends), -1)), "outcome", found.task)[kept]
        if np.size(outcome)
        else np.zeros((count, 0), np.float32),
        "episode": episode,
        "step": _steps(ends).astype(np.int32),
        "behaviour": behaviour[kept].astype(np.int32),
        "size": np.asarray(count, np.int32),
    }
