"""Find the goal cell of a 5x5 grid in a few steps (BOReL section 5; VariBAD's Gridworld; `gridworld`).

The agent sees its cell (x, y), moves by one of five actions (stay, +y, +x, -y, -x; the grid's edge stops it) and is
paid 1 where the cell it comes to is the goal, else -0.1. The goal is any of the 21 cells that are not next to the start
(0, 0): all but (0, 0), (0, 1), (1, 0), (1, 1).

Differs: logs begin anywhere but on the goal by default (the paper's uniform start), evaluation at (0, 0); BOReL draws
its tasks from seeds, here every goal is listed once, and the test goals are the training goals, as there. Standing on
the goal is not terminal: the original stores a flag of that name for it, but its episodes go on.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.core.types import About, Array, DeviceFamily, Policy, Scene, Shape, Space, Task, Transition
from pipelines.tasks import thompson
from pipelines.tasks.scripted import knowing

SIZE = 5
HORIZON = 15
DISCOUNT = 0.99
NUM_EPISODES = 4  # a trial
MOVES = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
STAY, UP, RIGHT, DOWN, LEFT = range(5)
GOALS = tuple((x, y) for x in range(SIZE) for y in range(SIZE) if max(x, y) > 1)
SPACE = Space(obs_shape=(2,), action_shape=(), num_actions=len(MOVES), action_dtype="int32")


def tasks(split: str) -> tuple[Task, ...]:
    """All 21 goals in `train` and in `test`. id: 5 x + y."""
    if split not in ("train", "test"):
        return ()
    return tuple(Task(SIZE * x + y, f"({x},{y})", split, {"x": float(x), "y": float(y)}) for x, y in GOALS)


def reset_fixed(task: Array, key: Array) -> tuple[Array, Array]:
    """(0, 0). -> (state [2], obs [2])"""
    return jnp.zeros((2,)), jnp.zeros((2,))


def reset_uniform(task: Array, key: Array) -> tuple[Array, Array]:
    """Any of the 25 cells but the goal. -> (state [2], obs [2])"""
    goal = SIZE * task[0] + task[1]
    cell = jax.random.randint(key, (), 0, SIZE**2 - 1).astype(jnp.float32)
    cell = cell + (cell >= goal)
    place = jnp.stack([jnp.floor(cell / SIZE), cell % SIZE])
    return place, place


def reward(task: Any, obs: Any, action: Any, next_obs: Any, outcome: Any) -> Any:
    """1 on the goal's cell, else -0.1. task [..., 2] = (x, y); -> [...]"""
    xp = next_obs.__array_namespace__()
    there = (next_obs[..., 0] == task[..., 0]) & (next_obs[..., 1] == task[..., 1])
    return xp.where(there, xp.ones_like(next_obs[..., 0]), -0.1)


def step(task: Array, state: Array, action: Array, key: Array) -> tuple[Array, Array, Array, Array, Array]:
    """-> (state [2], obs [2], reward [], terminal [], outcome [0])"""
    nxt = jnp.clip(state + jnp.asarray(MOVES, jnp.float32)[action], 0.0, SIZE - 1.0)
    outcome = jnp.zeros((0,))
    return nxt, nxt, reward(task, state, action, nxt, outcome), jnp.zeros((), bool), outcome


def scene(task: Task) -> Scene:
    """25 cells; the goal's is filled."""
    cells = [Shape("box", (x, y, 0.5, 0.5), "floor") for x in range(SIZE) for y in range(SIZE)]
    goal = Shape("box", (task.params["x"], task.params["y"], 0.5, 0.5), "goal", solid=True)
    return Scene((-0.5, -0.5), (SIZE - 0.5, SIZE - 0.5), (*cells, goal))


# ---- references: exact, from (0, 0) ----------------------------------------------------------------------------------

# A Bayes-optimal search of a trial of four episodes: 14 candidates in the first, the seven others on the way of the
# second. From then on it earns what the oracle earns. 37.2142857 in the mean over the goals.
_FIRST = (UP, UP, UP, UP, RIGHT, DOWN, DOWN, RIGHT, DOWN, RIGHT, UP, UP, LEFT, UP, RIGHT)
_SECOND = (RIGHT, RIGHT, RIGHT, RIGHT, UP, UP, UP, UP) + (STAY,) * 7
PLAN = (_FIRST, _SECOND)


def known_return(task: Task) -> float:
    """16.1 - 1.1 d: the goal, d steps away, is reached by step d and kept."""
    return 16.1 - 1.1 * (task.params["x"] + task.params["y"])


@functools.cache
def _random_return(goal: tuple[float, float]) -> float:
    """The exact mean of uniform actions: the distribution over cells is carried through the horizon."""
    there = np.zeros((SIZE, SIZE))
    there[0, 0], total = 1.0, 0.0
    for _ in range(HORIZON):
        after = np.zeros_like(there)
        for (x, y), share in np.ndenumerate(there):
            for dx, dy in MOVES:
                after[np.clip(x + dx, 0, SIZE - 1), np.clip(y + dy, 0, SIZE - 1)] += share / len(MOVES)
        there = after
        total += 1.1 * there[int(goal[0]), int(goal[1])] - 0.1
    return float(total)


def _planned_returns(goal: tuple[float, float], num_episodes: int = NUM_EPISODES) -> list[float]:
    """What PLAN earns in each of some episodes."""
    place = 1.1 * (goal[0] + goal[1])
    returns: list[float] = []
    for plan in PLAN[:num_episodes]:
        path = np.cumsum([MOVES[action] for action in plan], 0)
        met = np.flatnonzero((path == goal).all(-1))
        returns.append(16.1 - 1.1 * (met[0] + 1) if len(met) else -0.1 * HORIZON)
        if len(met):
            break
    return returns + [16.1 - place] * (num_episodes - len(returns))


def references(task: Task) -> dict[str, float]:
    """Over one episode from (0, 0). ceiling: Bayes-optimal search, mean per episode over a trial of four."""
    goal = (task.params["x"], task.params["y"])
    planned = float(np.mean(_planned_returns(goal)))
    return {"random": _random_return(goal), "oracle": known_return(task), "ceiling": planned}


# Thompson sampling by episode, as `thompson.mean_returns` has it: 7.777240 in all for the one that keeps to its guess,
# 11.743597 for the one that stops at the goal.
THOMPSON = {
    "thompson": (-0.789116, 1.183065, 2.925597, 4.457694),
    "thompson-stop": (0.495465, 2.260105, 3.812836, 5.175191),
}


def trial_references(num_episodes: int) -> dict[str, float]:
    """Sums over a trial from (0, 0), means over the goals: the Bayes-optimal plan (37.2142857 of four episodes; 4 of
    one, 15.0714286 of two) and, of up to four, Thompson sampling."""
    best = {"bayes": float(np.mean([sum(_planned_returns(goal, num_episodes)) for goal in GOALS]))}
    if num_episodes > NUM_EPISODES:
        return best
    return best | {name: sum(returns[:num_episodes]) for name, returns in THOMPSON.items()}


# ---- scripted policies -----------------------------------------------------------------------------------------------


def towards(goal: Array, obs: Array) -> Array:
    """The action that goes to `goal [2]`, first along x, then along y. -> [] int32"""
    dx, dy = goal[0] - obs[0], goal[1] - obs[1]
    along_y = jnp.where(dy > 0, UP, jnp.where(dy < 0, DOWN, STAY))
    return jnp.where(dx > 0, RIGHT, jnp.where(dx < 0, LEFT, along_y)).astype(jnp.int32)


def wander(goal: Array, obs: Array, key: Array) -> Array:
    """The action that goes to `goal [2]` by a shortest path, any that is as short. -> [] int32"""
    dx, dy = goal[0] - obs[0], goal[1] - obs[1]
    along_x = jnp.where(dx > 0, RIGHT, LEFT)
    along_y = jnp.where(dy > 0, UP, jnp.where(dy < 0, DOWN, STAY))
    first = jnp.where(dy == 0, dx != 0, (dx != 0) & jax.random.bernoulli(key))
    return jnp.where(first, along_x, along_y).astype(jnp.int32)


class Memory(NamedTuple):
    """What the search knows."""

    episode: Array  # [] int32, -1 before the first
    step: Array  # [] int32
    found: Array  # [] bool
    goal: Array  # [2]


def _begin(task: Array, key: Array) -> Memory:
    return Memory(jnp.int32(-1), jnp.int32(0), jnp.zeros((), bool), jnp.zeros((2,)))


def _act(task: Array, memory: Memory, obs: Array, key: Array, explore: Any) -> Array:
    planned = jnp.asarray(PLAN, jnp.int32)[jnp.minimum(memory.episode, len(PLAN) - 1), memory.step]
    return jnp.where(memory.found, towards(memory.goal, obs), planned)


def _observe(task: Array, memory: Memory, row: Transition) -> Memory:
    paid = row.reward > 0
    goal = jnp.where(paid, row.next_obs, memory.goal)
    return memory._replace(step=memory.step + 1, found=memory.found | paid, goal=goal)


BAYES = Policy(
    begin=_begin,
    start=lambda task, memory, obs, key: memory._replace(episode=memory.episode + 1, step=jnp.int32(0)),
    act=_act,
    observe=_observe,
    value=None,
)


def build(name: str, options: Mapping[str, str]) -> DeviceFamily:
    """The family of that name. `start`: uniform or fixed."""
    fixed = options["start"] == "fixed"
    return DeviceFamily(
        name=name,
        space=SPACE,
        horizon=HORIZON,
        discount=DISCOUNT,
        tasks=tasks,
        reset=reset_fixed if fixed else reset_uniform,
        step=step,
        reward=reward,
        references=references,
        about=About(
            reward="1 if s' = goal else -0.1",
            start="(0, 0)" if fixed else "any cell but the goal (evaluation: (0, 0))",
            source="BOReL section 5; VariBAD",
            differs=("21 goals listed once each; standing on the goal is not terminal",),
        ),
        position=lambda obs: obs[..., :2],
        scene=scene,
        scripted={
            "oracle": knowing(towards),
            "search": BAYES,
            "thompson": thompson.policy(GOALS, wander, stops=False),
            "thompson-stop": thompson.policy(GOALS, wander, stops=True),
        },
        goal_reward=0.0,
        trial_references=trial_references,
    )
