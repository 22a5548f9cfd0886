"""What of a collection becomes its log: environments laid behind each other, and the rows that are kept. In numpy."""

import numpy as np

from pipelines.core.configs.stages import parse_keep
from pipelines.core.errors import StageFailed
from pipelines.core.types import Log


def refuse_lost(logs: Log, task: str) -> None:
    """Raises StageFailed if a log, or one of several `[E, ...]`, had more episodes than room for their observations:
    what has no slot is dropped, and every later row would be read beside another's."""
    size = np.asarray(logs.size)
    last = np.take_along_axis(np.asarray(logs.episode), (size - 1)[..., None], -1)[..., 0]
    slots = np.asarray(logs.obs).shape[size.ndim]
    if (size + last + 1 > slots).any():
        raise StageFailed(
            f"episodes of task {task} end before the horizon, which the family says they do not",
            "say so in the family: terminates=True, or may_fail=True where physics can diverge",
        )


def in_order(logs: Log) -> Log:
    """Logs of one task's environments `[E, ...]`, N rows each -> one log of E N rows.

    Episodes stand in the order in which they began, those that began together in the order of the environments; the
    rows of each are contiguous and in time order. What was running in an environment when recording stopped is
    truncated there.
    """
    num_envs, num_rows = logs.reward.shape
    cut = np.arange(num_rows) == num_rows - 1
    logs = logs._replace(truncated=logs.truncated | (cut & ~np.asarray(logs.terminal)))
    rows = np.arange(num_rows)
    opens = np.diff(logs.episode, prepend=-1, axis=1) != 0
    begun = np.maximum.accumulate(np.where(opens, rows, 0), axis=1)  # the row that opened each row's episode
    env = np.repeat(np.arange(num_envs), num_rows)
    order = np.lexsort((np.tile(rows, num_envs), env, begun.reshape(-1)))
    env, row = env[order], np.tile(rows, num_envs)[order]
    columns = {name: np.asarray(column)[env, row] for name, column in logs._asdict().items() if name not in _OTHER}
    episode = np.cumsum(opens[env, row], dtype=np.int32) - 1
    slot, new_slot = row + np.asarray(logs.episode)[env, row], np.arange(len(row)) + episode
    seen = np.asarray(logs.obs)
    obs = np.zeros((len(row) + int(episode[-1]) + 1, *seen.shape[2:]), seen.dtype)
    obs[new_slot], obs[new_slot + 1] = seen[env, slot], seen[env, slot + 1]
    return Log(**columns, obs=obs, episode=episode, size=np.int32(len(row)))  # type: ignore[arg-type]


_OTHER = ("obs", "episode", "size")  # columns that are not one entry a row, or are counted anew


def kept(log: Log, rule: str) -> Log:
    """The rows that `rule` (all, first:N, last:N) keeps of one task's log, its unused observation slots cut off.

    `first` cuts the episode in which row N falls: it is truncated there. `last` keeps whole episodes: as many as there
    are within the last N rows, and the last one at least.
    """
    which, count = parse_keep(rule)
    size = int(log.size)
    first, last = 0, size
    if which == "first":
        last = min(count, size)
    elif which == "last" and count < size:
        begins = np.flatnonzero(np.diff(log.episode[:size], prepend=-1))
        inside = begins[begins >= size - count]
        first = int(inside[0] if len(inside) else begins[-1])
    episode = np.asarray(log.episode[first:last])
    slots = slice(first + int(episode[0]), last + int(episode[-1]) + 1)
    columns = {name: np.asarray(column)[first:last] for name, column in log._asdict().items() if name not in _OTHER}
    truncated = columns["truncated"].copy()
    truncated[-1] |= not columns["terminal"][-1]
    columns["truncated"] = truncated
    return Log(**columns, obs=log.obs[slots], episode=episode - episode[0], size=np.int32(last - first))  # type: ignore[arg-type]
