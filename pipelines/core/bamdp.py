"""A log as the Bayes-adaptive MDP of its trials (BOReL sections 3 and 4): beliefs stand beside it, in a view.

A trial is k consecutive episodes of one task. The state of the BAMDP is (observation, flag, belief), here one vector
[O + 1 + 2 Z]: the observation laid flat, 1 where an episode begins inside a trial, mean and log-variance. Observations
stay in the log, which is read through the view row by row. T tasks, N rows, k episodes of a trial of at most H rows.
"""

from typing import Literal, NamedTuple

import jax.numpy as jnp

from pipelines.core.types import Array, Log, Transition

# what stands where one episode of a trial ends and the next begins: the next one's first observation, or the last one's
# terminal one with flag 1, as the released code has it, where the last episode of a trial ends, too
Boundary = Literal["start", "end"]


class View(NamedTuple):
    """The beliefs of one task's log (or of a stack of them with a leading T).

    Kept as observations are: a trial of l rows takes l + 1 slots, so row n of trial t has the belief before it in slot
    n + t and the one after it in slot n + t + 1. Only trials of k whole episodes have one.
    """

    belief: Array  # [N + trials, 2 Z] mean and log-variance
    size: Array  # [] int32, rows of those trials, which are the log's first


def flat(obs: Array, flag: Array, belief: Array) -> Array:
    """[..., O], [...], [..., 2 Z] -> [..., O + 1 + 2 Z]"""
    seen = obs.reshape(*flag.shape, -1).astype(jnp.float32)
    return jnp.concatenate([seen, flag[..., None].astype(jnp.float32), belief], -1)


def augmented(
    logs: Log, views: View, task: Array, row: Array, num_episodes: int, boundary: Boundary = "start"
) -> Transition:
    """Rows `row [...]` of the logs `task [...]` of a stack `[T, ...]`, between states of the BAMDP.

    What is seen after a row of a trial is what is seen before the next one. Inside a trial nothing is terminal: there
    is always a next episode. Of its last episode `terminal` is what the log says; the end of a trial, or of recording,
    is not terminal.
    """
    columns = ("episode", "step", "terminal", "truncated")
    episode, step, terminal, truncated = (getattr(logs, name)[task, row] for name in columns)
    number = episode % num_episodes
    opens = (step == 0) & (number > 0)
    ends = terminal | truncated
    closes = ends & (number < num_episodes - 1)
    slot, place = row + episode, row + episode // num_episodes
    before, after = (slot, slot + 1 + closes) if boundary == "start" else (slot - opens, slot + 1)
    return Transition(
        obs=flat(logs.obs[task, before], opens, views.belief[task, place]),
        action=logs.action[task, row],
        reward=logs.reward[task, row],
        next_obs=flat(logs.obs[task, after], closes if boundary == "start" else ends, views.belief[task, place + 1]),
        terminal=terminal & ~closes,
        truncated=truncated,
        outcome=logs.outcome[task, row],
    )
