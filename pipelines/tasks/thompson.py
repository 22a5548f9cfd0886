"""Thompson sampling on a grid of candidate goals: one guess an episode, and what that earns, exactly.

At the start of an episode the agent draws one of the goals that are still possible and walks to it by a shortest path,
with a fair coin wherever two moves are as short. A cell that did not pay is no goal; one that paid is the goal.
`stops`: an agent that is paid on its way stays there; the strict one walks on to its guess and stays there.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.core.types import Array, Policy, Transition

Cell = tuple[int, int]


class Memory(NamedTuple):
    """What the agent holds possible, and where it walks."""

    possible: Array  # [G] bool
    guess: Array  # [2]


def policy(goals: Sequence[Cell], walk: Callable[[Array, Array, Array], Array], stops: bool) -> Policy:
    """`walk(target [2], obs [2], key) -> action` on a shortest path. The task's row is not read."""
    places = np.asarray(goals, np.float32)

    def begin(task: Array, key: Array) -> Memory:
        return Memory(jnp.ones((len(places),), bool), jnp.zeros((2,)))

    def start(task: Array, memory: Memory, obs: Array, key: Array) -> Memory:
        chance = jnp.where(memory.possible, 0.0, -jnp.inf)
        return memory._replace(guess=jnp.asarray(places)[jax.random.categorical(key, chance)])

    def act(task: Array, memory: Memory, obs: Array, key: Array, explore: Any) -> Array:
        return walk(memory.guess, obs, key)

    def observe(task: Array, memory: Memory, row: Transition) -> Memory:
        here, paid = (jnp.asarray(places) == row.next_obs[None]).all(-1), row.reward > 0
        possible = jnp.where(paid, here, memory.possible & ~here)
        return Memory(possible, jnp.where(paid & stops, row.next_obs, memory.guess))

    return Policy(begin, start, act, observe, None)


# ---- what it earns ---------------------------------------------------------------------------------------------------


def shortest_paths(goal: Cell) -> list[tuple[list[Cell], float]]:
    """Every shortest path from (0, 0), without its first cell, and its probability."""
    paths: list[tuple[list[Cell], float]] = [([(0, 0)], 1.0)]
    for _ in range(sum(goal)):
        longer = []
        for path, chance in paths:
            x, y = path[-1]
            ahead = [cell for cell in ((x + 1, y), (x, y + 1)) if cell[0] <= goal[0] and cell[1] <= goal[1]]
            longer += [([*path, cell], chance / len(ahead)) for cell in ahead]
        paths = longer
    return [(path[1:], chance) for path, chance in paths]


class Walk(NamedTuple):
    """One path to one guess, for all the goals at once."""

    guess: int
    chance: float
    passed: int  # bit g: goal g lies on it
    paid: np.ndarray  # [G] the episode's return under goal g


def walks(goals: Sequence[Cell], horizon: int, stops: bool) -> list[Walk]:
    """All paths to all guesses: 1 a step on the goal, -0.1 on any other."""
    bit = {goal: g for g, goal in enumerate(goals)}
    found = []
    for guess, target in enumerate(goals):
        for path, chance in shortest_paths(target):
            on_way = {bit[cell]: n for n, cell in enumerate(path, 1) if cell in bit}
            paid = np.full(len(goals), -0.1 * horizon)
            for g, n in on_way.items():
                steps = horizon - n + 1 if stops or g == guess else 1  # paid once in passing, or from then on
                paid[g] += 1.1 * steps
            found.append(Walk(guess, chance, sum(1 << g for g in on_way), paid))
    return found


def mean_returns(goals: Sequence[Cell], horizon: int, num_episodes: int, stops: bool) -> np.ndarray:
    """`[num_episodes]`: the exact mean return of each episode, over goals and the agent's luck.

    Carries forward, for each set of goals that may still be possible, the probability that it is and that a given goal
    of it is the one: the prior is uniform, so that this is the same for all goals of the set.
    """
    every, count = walks(goals, horizon, stops), len(goals)
    known = np.array([1.1 * (horizon - sum(goal) + 1) - 0.1 * horizon for goal in goals])
    seen = np.array([walk.passed >> np.arange(count) & 1 for walk in every])  # [W, G]
    sets, weight = np.array([(1 << count) - 1]), np.array([1.0 / count])
    found_at = np.zeros(count)  # probability that the goal is g and known
    returns = []
    for episode in range(num_episodes):
        inside = (sets[:, None] >> np.arange(count) & 1).astype(float)  # [S, G]
        share = weight / inside.sum(1)  # of each guess in the set
        both = (share[:, None] * inside).T @ inside  # [G, G]: the guess, and the goal
        walked = np.array([walk.chance * both[walk.guess] for walk in every])  # [W, G]
        paid = float(sum((chances * walk.paid).sum() for chances, walk in zip(walked, every, strict=True)))
        returns.append(float(found_at @ known) + paid)
        if episode + 1 == num_episodes:
            break
        found_at = found_at + (walked * seen).sum(0)
        after = np.zeros(1 << count)
        for walk in every:
            some = inside[:, walk.guess] > 0
            np.add.at(after, sets[some] & ~walk.passed, walk.chance * share[some])
        after[0] = 0.0  # the goal is found
        sets = np.flatnonzero(after)
        weight = after[sets]
    return np.array(returns)
