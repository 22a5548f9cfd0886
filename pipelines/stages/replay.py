"""replay: every task's agent, played in the other tasks (BOReL section 4, "policy replay").
replay-log | policy-set -> replay-log

The new log holds for each task the episodes that other tasks' agents were played for in it, agent after agent; its
column `policy` says whose they are. It needs an engine, and agents that were kept.

Differs: the original draws 20 agents, the task's own among them (`own`), and takes whichever checkpoint's name sorts
first (`snapshot`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines import rollouts
from pipelines.core import own
from pipelines.core.configs.relabel import ReplayConfig
from pipelines.core.errors import UsageError, WrongKind
from pipelines.core.learn import stage_key, task_keys
from pipelines.core.names import slug
from pipelines.core.taskmap import TaskAxis
from pipelines.core.trees import from_dict, task_leaf, to_dict
from pipelines.core.types import Array, HostFamily, Log, Policy, Space, Task, TaskFamily, task_rows
from pipelines.core.work import Product, Work
from pipelines.rollouts import loop
from pipelines.stages import learners
from pipelines.stages.blocks import Plan, run_blocks
from pipelines.stages.collect import episode_returns
from pipelines.stages.parts import divide, in_parts, sorted_out
from pipelines.tasks import registry

Play = Callable[[Any, Any], "Played"]  # acting [T, ...] and keys [T], on the devices -> Played [T, E, ...] in numpy


class Played(NamedTuple):
    """E episodes of at most H control steps of one agent in one task, whatever leads; in numpy or jax."""

    obs: Any  # [E, H + 1, O], from the first to the true successor of the last
    action: Any  # [E, H, A]
    reward: Any  # [E, H]
    terminal: Any  # [E, H] bool
    outcome: Any  # [E, H, F]
    valid: Any  # [E, H] bool, false past the episode's end


def run(work: Work) -> Product:
    """Plays agent after agent in all tasks at once. Raises WrongKind for a log that kept no agents, UsageError for one
    without an engine."""
    config: Any = work.config
    policies = work.inputs["policies"]
    card = policies.card
    tasks = tuple(Task.from_json(task) for task in card.tasks)
    if card.extra["algorithm"] in learners.SHARED:
        cause = f"the tasks of {card.id} share one policy: there is none of each to be played in the others"
        raise WrongKind(cause, "`omrl collect` makes a log of one agent per task")
    learners.want_tasks(tasks, 1 if config.own else 2, "replay")
    acting, updates = agents(policies, config.snapshot)
    family = registry.find(card.extra["family"])
    policy = learners.make(card.extra["algorithm"], card.extra["agent"], family.space, family.discount).policy
    whose, keys = drawn(config, tasks, work.seed)

    def play(part: Work, numbers: list[int]) -> list[dict[str, Any]]:
        mine, guests = tuple(tasks[i] for i in numbers), whose[numbers]
        played = all_guests(part, family, policy, mine, acting, guests, keys[np.asarray(numbers)])
        each = [Played(*(column[g] for column in played)) for g in range(len(numbers))]
        return [joined(one, whose[i], updates) for i, one in zip(numbers, each, strict=True)]

    groups = divide([1] * len(tasks), work.tasks_at_once, work.crew.count)
    return product(card, family, tasks, sorted_out(groups, in_parts(work, groups, play)))


def all_guests(
    work: Work, family: TaskFamily, policy: Policy, tasks: tuple[Task, ...], acting: Any, whose: np.ndarray, keys: Any
) -> Played:
    """Every guest of every task, one of each at a time. acting [all tasks, ...], whose and keys [T, P]; -> [T, P, E]"""
    config: Any = work.config
    axis, count = TaskAxis(len(tasks), config.mapping), whose.shape[1]
    engine: Any = on_host if isinstance(family, HostFamily) else on_devices
    play = engine(family, policy, config, axis, tasks)

    def step(number: int, carry: Played) -> tuple[Played, dict[str, Any]]:
        mine = whose[:, number]
        found = play(axis.put(jax.tree.map(lambda leaf: leaf[mine], acting)), axis.put(keys[:, number]))
        for held, new in zip(carry, found, strict=True):
            held[:, number] = new
        return carry, {"episode_return": np.where(found.valid, found.reward, 0).sum(-1).mean(-1)}

    plan = Plan(count, 1, 0, "policy", "episode_return", tuple(task.name for task in tasks))
    begun = empty(family, (len(tasks), count, config.episodes))
    played, _ = run_blocks(
        work, plan, begun, step, lambda carry: np.zeros(0), lambda held: jax.tree.map(np.array, held)
    )
    return played


def agents(policies: Any, snapshot: int) -> tuple[Any, int]:
    """(acting states [T, ...], updates done until then) of a snapshot. Raises WrongKind where none was kept, UsageError
    where there is none of that number."""
    card, arrays = policies.card, policies.arrays()
    space, discount = Space.from_json(card.extra["space"]), card.extra["discount"]
    kind = learners.make(card.extra["algorithm"], card.extra["agent"], space, discount).acting_type
    last = learners.acting_of(policies, kind)
    steps = [int(step) for step in arrays.get("snapshot_step", ())]
    random_steps = card.config.get("random_steps", 0)  # of a collection, before which nothing was learned
    if snapshot == -1:
        return last, max(steps[-1] - random_steps, 0) if steps else 0
    if not -len(steps) <= snapshot < len(steps):
        raise UsageError(f"{card.id} kept {len(steps)} policies of each task, none is number {snapshot}", "snapshot=-1")
    one = jax.tree.map(lambda leaf: leaf[snapshot], from_dict(kind, arrays["snapshots"]))
    return one, max(steps[snapshot] - random_steps, 0)


def drawn(config: ReplayConfig, tasks: tuple[Task, ...], seed: int) -> tuple[np.ndarray, Array]:
    """Whose agents are played in which task, in order, and their keys. -> (index of the agent's task, keys), [T, P]

    Each ordered pair of tasks has a key of its own: another task in the table disturbs none of them.
    """
    ids = [task.id for task in tasks]
    pairs = jax.vmap(lambda key: task_keys(key, ids))(task_keys(stage_key(seed, "replay"), ids))  # [T, T]
    luck_keys, keys = (jax.vmap(jax.vmap(lambda key, n=n: jax.random.fold_in(key, n)))(pairs) for n in (0, 1))
    luck = np.array(jax.vmap(jax.vmap(jax.random.uniform))(luck_keys))
    if not config.own:
        np.fill_diagonal(luck, 2.0)  # drawn last
    most = len(tasks) - (not config.own)
    whose = np.sort(np.argsort(luck, 1)[:, : min(most, config.policies or most)], 1)
    return whose, keys[np.arange(len(tasks))[:, None], whose]


def empty(family: TaskFamily, lead: tuple[int, ...]) -> Played:
    space, horizon = family.space, family.horizon
    return Played(
        obs=np.zeros((*lead, horizon + 1, *space.obs_shape), space.obs_dtype),
        action=np.zeros((*lead, horizon, *space.action_shape), space.action_dtype),
        reward=np.zeros((*lead, horizon), np.float32),
        terminal=np.zeros((*lead, horizon), bool),
        outcome=np.zeros((*lead, horizon, family.outcome_dim), np.float32),
        valid=np.zeros((*lead, horizon), bool),
    )


# ---- two engines -----------------------------------------------------------------------------------------------------


def on_devices(family: Any, policy: Policy, config: ReplayConfig, axis: TaskAxis, tasks: tuple[Task, ...]) -> Play:
    """E episodes of each task's guest, mapped."""

    def episode(acting: Any, task: Array, key: Array) -> Played:
        begin_key, reset_key, steps_key = jax.random.split(key, 3)
        first = rollouts.begin(family, policy, acting, task, policy.begin(acting, begin_key), reset_key)

        def one(carry: tuple[rollouts.Live, Array], t: Array) -> Any:
            live, over = carry
            act_key, step_key = jax.random.split(jax.random.fold_in(steps_key, t))
            action = policy.act(acting, live.memory, live.obs, act_key, config.explore)
            after, row = rollouts.step(family, policy, acting, task, live, action, step_key)
            after = jax.tree.map(lambda new, old: jnp.where(over, old, new), after, live)
            return (after, over | row.terminal | row.truncated), (row, ~over)

        _, (row, valid) = jax.lax.scan(one, (first, jnp.zeros((), bool)), jnp.arange(family.horizon))
        obs = jnp.concatenate([first.obs[None], row.next_obs])
        return Played(obs, row.action, row.reward, row.terminal, row.outcome, valid)

    def all_of_one(step: Array, acting: Any, task: Array, key: Array) -> Played:
        keys = jax.random.split(key, config.episodes)
        return jax.vmap(lambda key: episode(acting, task, key))(keys)

    mapped, rows = axis.over_tasks(all_of_one), axis.put(task_rows(tasks))
    return lambda acting, keys: axis.get(mapped(0, acting, rows, keys))


def on_host(family: HostFamily, policy: Policy, config: ReplayConfig, axis: TaskAxis, tasks: tuple[Task, ...]) -> Play:
    """The same around a simulator: at most MOST_ENVIRONMENTS at once, which changes no episode."""
    most = min(max(1, loop.MOST_ENVIRONMENTS // len(tasks)), config.episodes)
    together = next(size for size in range(most, 0, -1) if config.episodes % size == 0)
    rows = np.repeat(task_rows(tasks, np.float64), together, axis=0)
    one = loop.turn(policy, lambda acting, memory, obs, key: policy.act(acting, memory, obs, key, config.explore))

    def opened(first: Array, acting: Any, key: Array) -> Any:
        keys = jax.lax.dynamic_slice_in_dim(jax.random.split(key, config.episodes), first, together)
        begin_key, reset_key, steps_key = jax.vmap(lambda one: jax.random.split(one, 3), out_axes=1)(keys)
        sim_key, start_key = jax.vmap(jax.random.split, out_axes=1)(reset_key)
        memory = jax.vmap(policy.begin, in_axes=(None, 0))(acting, begin_key)
        return memory, jax.vmap(family.noise)(sim_key), start_key, steps_key

    def acted(t: Array, acting: Any, memory: Any, pending: loop.Pending, start_key: Array, steps_key: Array) -> Any:
        act_key = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, t))[0])(steps_key)
        return jax.vmap(one, in_axes=(None, 0, 0, 0, 0))(acting, memory, pending, act_key, start_key)

    open_, act = axis.over_tasks(opened), axis.over_tasks(acted, donate=(2,))

    def play(acting: Any, keys: Any) -> Played:
        parts = []
        with family.simulate(rows) as simulator:
            for first in range(0, config.episodes, together):
                memory, noise, *streams = open_(first, acting, keys)
                drawn = axis.get(noise)
                act_on = lambda t, memory, pending: act(t, acting, memory, axis.put(pending), *streams)  # noqa: B023, E731
                parts.append(_episode(family, simulator, axis, memory, drawn, act_on))
        return Played(*(np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True)))

    return play


def _episode(
    family: HostFamily, simulator: Any, axis: TaskAxis, memory: Any, noise: np.ndarray, act: Callable[..., Any]
) -> Played:
    """One episode in every environment, [T, E, ...]; an ended one is begun again and not looked at."""
    lead, flat = noise.shape[:2], noise.reshape(-1, *noise.shape[2:])
    first = simulator.reset(np.ones(len(flat), bool), flat)
    pending = loop.opening(family, first.reshape(*lead, *first.shape[1:]))
    played, ended = empty(family, lead), np.zeros(lead, bool)
    played.obs[:, :, 0] = pending.obs
    for t in range(family.horizon):
        memory, action = act(t, memory, pending)
        moved = loop.move(family, simulator, pending.obs, np.full(lead, t), axis.get(action))
        row, over = moved.row, np.asarray(moved.row.terminal | moved.diverged)
        for name in ("action", "reward", "terminal", "outcome"):
            getattr(played, name)[:, :, t] = getattr(row, name)
        played.obs[:, :, t + 1], played.valid[:, :, t] = row.next_obs, ~ended
        pending = loop.Pending(row, ~ended, np.zeros(lead, bool), row.next_obs)
        ended = ended | over
        if ended.all():
            break
        if over.any():
            obs = simulator.reset(over.reshape(-1), flat).reshape(row.next_obs.shape)
            pending = pending._replace(obs=obs.astype(family.space.obs_dtype))
    return played


# ---- the log ---------------------------------------------------------------------------------------------------------


def joined(played: Played, whose: np.ndarray, updates: int) -> dict[str, Any]:
    """One task's episodes `[P, E, ...]` one after the other. -> the columns of a Log, and `policy` [N]"""
    parts: list[dict[str, Any]] = []
    for p, e in np.ndindex(*played.valid.shape[:2]):
        length = int(played.valid[p, e].sum())
        cut = {name: getattr(played, name)[p, e, :length] for name in ("action", "reward", "terminal", "outcome")}
        ends = np.arange(length) == length - 1
        parts.append(
            cut
            | {
                "obs": played.obs[p, e, : length + 1],
                "truncated": ends & ~cut["terminal"],
                "episode": np.full(length, len(parts), np.int32),
                "step": np.arange(length, dtype=np.int32),
                "behaviour": np.full(length, updates, np.int32),
                "policy": np.full(length, whose[p], np.int32),
            }
        )
    columns: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return columns | {"size": np.int32(len(columns["reward"]))}


def product(card: Any, family: TaskFamily, tasks: tuple[Task, ...], columns: list[dict[str, Any]]) -> Product:
    """One leaf per task and column, as `collect` writes them."""
    arrays: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    for i, (task, one) in enumerate(zip(tasks, columns, strict=True)):
        returns = episode_returns(Log(**{name: one[name] for name in Log._fields}))
        arrays[task_leaf(i)] = to_dict(one) | {"returns": returns}
        metrics[f"return/{task.name}"] = float(returns.mean())
    extra = {
        name: card.extra[name] for name in ("space", "discount", "algorithm", "agent", "split") if name in card.extra
    }
    extra |= {
        "family": family.name,
        **own.on_card(family.name),
        "horizon": family.horizon,
        "transitions": sum(int(one["size"]) for one in columns),
        "replayed": card.id,
    }
    return Product(arrays, metrics, list(card.tasks), extra, name=slug(f"replay {family.name}"))
