"""Playing: a stored policy, or an actor that was written, on tasks of a family. It makes no artifact.

Episodes are zero-shot, as `eval` plays them: each begins with an empty memory. Every actor is a Policy with one acting
state per task; that of `random`, `zero` and a family's scripted actors is the task's row.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines import rollouts
from pipelines.core.errors import UsageError, WrongKind
from pipelines.core.learn import stage_key, task_keys
from pipelines.core.taskmap import TaskAxis
from pipelines.core.types import Array, DeviceFamily, HostFamily, Policy, Space, Task, TaskFamily, memoryless, task_rows
from pipelines.rollouts import loop
from pipelines.stages import learners
from pipelines.stages.eval import assign, player, spread_over
from pipelines.stages.pacing import uniform_action

ACTORS = ("random", "zero")  # of every family


class Actor(NamedTuple):
    """Who acts: `acting` [T, ...] is each task's state of `policy`."""

    name: str
    policy: Policy
    acting: Any


def scripted(name: str, family: TaskFamily, tasks: tuple[Task, ...]) -> Actor:
    """`random`, `zero`, or one of the family's own. Raises UsageError for another."""
    space = family.space
    if name == "random":
        policy = memoryless(lambda task, obs, key, explore: uniform_action(space, key), None)
    elif name == "zero":
        policy = memoryless(lambda task, obs, key, explore: jnp.asarray(_zero(space)), None)
    elif name in family.scripted:
        policy = family.scripted[name]
    else:
        raise UsageError(f"{family.name} has no actor {name!r}", f"it has {', '.join([*ACTORS, *family.scripted])}")
    return Actor(name, policy, task_rows(tasks))


def _zero(space: Space) -> np.ndarray:
    """The action nearest to 0."""
    zero = np.zeros(space.action_shape, space.action_dtype)
    if space.num_actions is not None:
        return zero
    return np.clip(zero, np.reshape(space.low, zero.shape), np.reshape(space.high, zero.shape)).astype(zero.dtype)


def learned(artifact: Any, family: TaskFamily, tasks: tuple[Task, ...], match: str) -> Actor:
    """The policy of a policy-set or meta-policy, or a log's behaviour policies as they ended.

    Raises WrongKind if it cannot see or act here, UsageError where there is no policy for a task and `match` is `own`.
    """
    card = artifact.card
    known = Space.from_json(card.extra["space"])
    for field in ("obs_shape", "action_shape", "num_actions"):
        if getattr(known, field) != getattr(family.space, field):
            was, now = getattr(known, field), getattr(family.space, field)
            cause = f"the policy was made on {card.extra['family']} with {field} {was}, {family.name} has {now}"
            raise WrongKind(cause, "leave --family out, or name one with the same space")
    algorithm = learners.make(card.extra["algorithm"], card.extra["agent"], family.space, card.extra["discount"])
    chosen = None
    if card.extra["algorithm"] not in learners.SHARED:
        trained = tuple(Task.from_json(task) for task in card.tasks)
        if match == "nearest" and len(tasks[0].params) != len(trained[0].params):
            raise UsageError(
                f"the tasks of {family.name} are not those of {card.extra['family']}", "leave --family out"
            )
        try:
            chosen = assign(tasks, trained, match)
        except UsageError as error:
            raise UsageError(error.cause, "--match nearest takes the nearest task's, or --split train") from None
    acting = learners.acting_of(artifact, algorithm.acting_type)
    return Actor(card.name, algorithm.policy, spread_over(acting, chosen, len(tasks)))


def play(family: TaskFamily, tasks: tuple[Task, ...], actor: Actor, num_episodes: int, seed: int) -> rollouts.Episodes:
    """`[T, P, ...]` in numpy: P episodes of every task."""
    axis = TaskAxis(len(tasks))
    run = player(family, actor.policy, 1.0, num_episodes, rollouts.Lineup(axis, tasks))
    return run(axis.put(actor.acting), axis.put(_keys(tasks, seed)))


def _keys(tasks: tuple[Task, ...], seed: int) -> Array:
    return task_keys(stage_key(seed, "rollout"), [task.id for task in tasks])


# ---- one episode, looked at ------------------------------------------------------------------------------------------


class Watched(NamedTuple):
    """One episode of n control steps with all that a picture may need."""

    task: Task
    obs: np.ndarray  # [n + 1, O]
    rewards: np.ndarray  # [n]
    states: Any  # the engine's, leaves [n + 1, ...]
    frames: list[np.ndarray]  # what the engine draws itself, [n + 1] or none


def watch(
    family: TaskFamily, tasks: tuple[Task, ...], index: int, actor: Actor, num_episodes: int, seed: int, draw: bool
) -> Watched:
    """The first of the `num_episodes` episodes that `play` plays on task `index`, once more (a policy may round
    otherwise in a smaller batch). `draw`: an engine that draws itself shall."""
    acting = jax.tree.map(lambda leaf: jnp.asarray(leaf[index]), actor.acting)
    key = jax.random.split(_keys(tasks, seed)[index], num_episodes)[0]
    if isinstance(family, HostFamily):
        return _watch_host(family, tasks[index], actor.policy, acting, key, draw)
    assert isinstance(family, DeviceFamily)
    return _watch_device(family, tasks[index], actor.policy, acting, key)


def _watch_device(family: DeviceFamily, task: Task, policy: Policy, acting: Any, key: Array) -> Watched:
    row = jnp.asarray(task.row())
    begin_key, reset_key, steps_key = jax.random.split(key, 3)

    def episode(acting: Any) -> Any:
        first = rollouts.begin(family, policy, acting, row, policy.begin(acting, begin_key), reset_key)

        def one(live: rollouts.Live, t: Array) -> Any:
            act_key, step_key = jax.random.split(jax.random.fold_in(steps_key, t))
            action = policy.act(acting, live.memory, live.obs, act_key, 0.0)
            after, seen = rollouts.step(family, policy, acting, row, live, action, step_key)
            return after, (after.sim, after.obs, seen.reward, seen.terminal)

        return (first.sim, first.obs), jax.lax.scan(one, first, jnp.arange(family.horizon))[1]

    (state, obs), (states, later, rewards, terminal) = jax.tree.map(np.asarray, jax.jit(episode)(acting))
    steps = int(np.argmax(terminal)) + 1 if terminal.any() else family.horizon
    states = jax.tree.map(lambda a, b: np.concatenate([a[None], b[:steps]]), state, states)
    return Watched(task, np.concatenate([obs[None], later[:steps]]), rewards[:steps], states, [])


def _watch_host(family: HostFamily, task: Task, policy: Policy, acting: Any, key: Array, draw: bool) -> Watched:
    begin_key, reset_key, steps_key = jax.random.split(key, 3)
    sim_key, start_key = jax.random.split(reset_key)
    one = loop.turn(policy, lambda acting, memory, obs, key: policy.act(acting, memory, obs, key, 0.0))

    @jax.jit
    def act(t: Array, acting: Any, memory: Any, pending: loop.Pending) -> Any:
        act_key = jax.random.split(jax.random.fold_in(steps_key, t))[0]
        pending = jax.tree.map(lambda leaf: leaf[0, 0], pending)
        return one(acting, memory, pending, act_key, start_key)

    memory, every = policy.begin(acting, begin_key), np.ones(1, bool)
    obs, rewards, states, frames = [], [], [], []
    with family.simulate(task.row(np.float64)[None]) as simulator:

        def look(seen: Any) -> None:
            obs.append(np.asarray(seen))
            states.append(simulator.state()[0])
            if draw and hasattr(simulator, "frame"):
                frames.append(simulator.frame())

        first = simulator.reset(every, np.asarray(family.noise(sim_key))[None])
        look(first[0])
        pending = loop.opening(family, first[None])
        for t in range(family.horizon):
            memory, action = act(np.int32(t), acting, memory, pending)
            moved = loop.move(family, simulator, pending.obs, np.full((1, 1), t), np.asarray(action)[None, None])
            look(moved.row.next_obs[0, 0])
            rewards.append(moved.row.reward[0, 0])
            if moved.row.terminal[0, 0] or moved.diverged[0, 0]:
                break
            pending = loop.Pending(moved.row, every[None], ~every[None], moved.row.next_obs)
    return Watched(task, np.stack(obs), np.stack(rewards), np.stack(states), frames)
