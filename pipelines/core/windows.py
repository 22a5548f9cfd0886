"""History windows out of episode-indexed logs (MQL section 3.1.1): row numbers are stored, windows never are.

An element of a window is a row's (action, reward, obs): what was done, what it was paid, where it was done. Before row
t of an episode come the elements t - L to t - 1, after it those of t - L + 1 to t; where the episode is younger the
window begins with nothing, and it never reaches into another episode. B batch, L length.

The released code of MQL opens an episode with an element that never was, (noise, 0, x_0), in the windows before rows
and in no window after one: `opens` says where it belongs.
"""

from typing import NamedTuple

import jax.numpy as jnp

from pipelines.core.samplers import rows_of
from pipelines.core.types import Array, Log, Transition


class Window(NamedTuple):
    """The L rows before each of B rows, and that row. Where there is none, the first row of the episode stands."""

    rows: Transition  # [B, L + 1, ...]
    held: Array  # [B, L + 1] bool, whether there is such a row
    opens: Array  # [B, L + 1] bool, the place before the first row of the episode


class Part(NamedTuple):
    """L elements of a window. What is neither held nor opens is nothing."""

    rows: Transition  # [B, L, ...], of which action, reward and obs are the elements
    held: Array  # [B, L] bool
    opens: Array  # [B, L] bool; the obs there is the episode's first


def windows(logs: Log, task: Array, row: Array, length: int) -> Window:
    """The windows of rows `row [B]` of the logs `task [B]` of a stack `[T, ...]`."""
    ago = jnp.arange(-length, 1)
    step = logs.step[task, row][:, None] + ago[None]  # within the episode
    first = row[:, None] - logs.step[task, row][:, None]
    at = jnp.where(step >= 0, row[:, None] + ago[None], first)
    return Window(rows_of(logs, jnp.broadcast_to(task[:, None], at.shape), at), step >= 0, step == -1)


def before(window: Window) -> Part:
    """What led to each row: it holds nothing of the row itself, nor of what follows."""
    rows, held, opens = window
    return Part(_sliced(rows, slice(None, -1)), held[:, :-1], opens[:, :-1])


def after(window: Window) -> Part:
    """What led to each row's successor, the row itself last; nothing opens it."""
    rows, held, opens = window
    return Part(_sliced(rows, slice(1, None)), held[:, 1:], jnp.zeros_like(opens[:, 1:]))


def _sliced(rows: Transition, part: slice) -> Transition:
    return Transition(*(leaf[:, part] for leaf in rows))
