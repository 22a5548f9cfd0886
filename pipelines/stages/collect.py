"""collect: one ordinary agent per task, all tasks at once, everything they saw kept in order. () -> replay-log

On a device family steps and updates alternate inside one scan; `collect_host` does the same around a simulator.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines import rollouts
from pipelines.core import own
from pipelines.core.configs.stages import CollectConfig, enough_tasks
from pipelines.core.errors import UsageError
from pipelines.core.learn import stage_key, task_keys
from pipelines.core.names import slug
from pipelines.core.taskmap import TaskAxis
from pipelines.core.trees import task_leaf, to_dict
from pipelines.core.types import Algorithm, Array, DeviceFamily, HostFamily, Log, Metrics, Task, TaskFamily, task_rows
from pipelines.core.work import Product, Work
from pipelines.stages import learners, logged_as
from pipelines.stages.blocks import Plan, run_blocks, snapshot_arrays
from pipelines.stages.collect_host import Collection
from pipelines.stages.keeping import in_order, kept, refuse_lost
from pipelines.stages.pacing import action_of, draw_from, env_keys, learn, updates_at
from pipelines.stages.parts import divide, in_parts, joined, sorted_out
from pipelines.tasks import registry


class Collected(NamedTuple):
    """What some tasks gave, in numpy."""

    logs: list[Log]  # [T] the rows that are kept, each log as long as it is
    snapshots: Any  # as `run_blocks` gives them, [S, T, ...]
    diverged: np.ndarray  # [T] episodes whose physics failed


class Carry(NamedTuple):
    """What one task's collection goes on from. With E > 1 environments `live` and `recorder` are `[E, ...]`."""

    learner: Any
    live: rollouts.Live
    recorder: rollouts.Recorder


def over_envs(config: CollectConfig, one: Callable[..., Any]) -> Callable[..., Any]:
    """`one` of an environment -> all of a task's at once; a single one has no axis."""
    if config.num_envs == 1:
        return lambda *args: one(*args[:-1], args[-1][0])
    return jax.vmap(one)


def begin(family: DeviceFamily, algorithm: Algorithm, config: CollectConfig, task: Array, key: Array) -> Carry:
    init_key, memory_key, reset_key = jax.random.split(key, 3)
    learner = algorithm.init(init_key, None)
    acting = algorithm.acting(learner)

    def one(keys: Array) -> tuple[rollouts.Live, rollouts.Recorder]:
        memory = algorithm.policy.begin(acting, keys[0])
        live = rollouts.begin(family, algorithm.policy, acting, task, memory, keys[1])
        return live, rollouts.recorder(family, config.steps // config.num_envs, live.obs)

    keys = jnp.stack([env_keys(config, memory_key), env_keys(config, reset_key)], axis=1)
    return Carry(learner, *over_envs(config, one)(keys))


def interact(
    family: DeviceFamily, algorithm: Algorithm, config: CollectConfig, carry: Carry, n: Array, task: Array, key: Array
) -> tuple[Carry, tuple[Array, Array]]:
    """Environment steps n to n + E, and their rows in the log. -> (carry, (returns so far, whether episodes ended))"""
    acting = algorithm.acting(carry.learner)
    since = n if config.block_updates is None else n - n % config.block_steps  # when it was last learned
    behaviour = jnp.maximum(updates_at(config, since), 0)

    def one(live: rollouts.Live, rec: rollouts.Recorder, key: Array) -> Any:
        act_key, step_key, reset_key = jax.random.split(key, 3)
        explored = algorithm.policy.act(acting, live.memory, live.obs, act_key, 1.0)
        action = action_of(config, family.space, n, act_key, explored)
        after, row = rollouts.step(family, algorithm.policy, acting, task, live, action, step_key)
        fresh = rollouts.begin(family, algorithm.policy, acting, task, after.memory, reset_key)
        done = row.terminal | row.truncated
        live_next = jax.tree.map(lambda new, old: jnp.where(done, new, old), fresh, after)
        recorder = rollouts.record(rec, row, live.step, behaviour, fresh.obs)
        return live_next, recorder, (rec.total + row.reward, done)

    live, recorder, episode = over_envs(config, one)(carry.live, carry.recorder, env_keys(config, key))
    return Carry(carry.learner, live, recorder), episode


def block(family: DeviceFamily, algorithm: Algorithm, config: CollectConfig) -> Any:
    """`run(step, carry, task, key) -> (carry, metrics)`: `block_steps` steps, each followed by as many updates as it
    has environments; with `block_updates`, all followed by all those."""
    draw, at_once = draw_from(config, algorithm, family.space), config.num_envs

    def catch_up(carry: Carry, key: Array, end: Array, count: int) -> tuple[Carry, Metrics]:
        log = carry.recorder.log
        learner, metrics = learn(config, algorithm, draw, carry.learner, log, key, end, count)
        return carry._replace(learner=learner), metrics

    def run(step: Array, carry: Carry, task: Array, key: Array) -> tuple[Carry, Metrics]:
        def one(carry: Carry, n: Array) -> tuple[Carry, Any]:
            step_key, _ = jax.random.split(jax.random.fold_in(key, n))
            carry, episode = interact(family, algorithm, config, carry, n, task, step_key)
            if config.block_updates is not None:
                return carry, ({}, episode)
            carry, metrics = catch_up(carry, key, n + at_once, at_once)
            return carry, (metrics, episode)

        numbers = step + at_once * jnp.arange(config.block_steps // at_once, dtype=jnp.int32)
        carry, (metrics, (total, done)) = jax.lax.scan(one, carry, numbers)
        metrics = jax.tree.map(lambda leaf: leaf.mean(0), metrics)
        if config.block_updates is not None:
            carry, metrics = catch_up(carry, key, step + config.block_steps, config.block_updates)
        mean = jnp.where(done, total, 0.0).sum() / done.sum()  # NaN where no episode ended
        return carry, metrics | {"episode_return": mean}

    return run


def episode_returns(log: Log) -> np.ndarray:
    """Returns of one task's whole and cut episodes in order. -> [episodes] float32"""
    size = int(log.size)
    return np.bincount(log.episode[:size], weights=log.reward[:size]).astype(np.float32)


def run(work: Work) -> Product:
    """Collects on the tasks of a split of the family, the training tasks if none is named, or `num_tasks` of them.
    Raises UsageError for an overlap where there is none, and for more tasks than there are."""
    config: Any = work.config
    family = registry.find(config.family)
    if config.overlap and not isinstance(family, HostFamily):
        hint = "leave overlap out, or take an engine outside of the compiled program (engine=mujoco)"
        raise UsageError(f"overlap: {family.name} moves inside the program that learns", hint)
    tasks = family.tasks(config.split)
    enough_tasks(config.num_tasks, len(tasks), family.name, config.split)
    tasks = some_of(tasks, config.num_tasks, config.which_tasks)
    of = family if config.log_as is None else logged_as.find(family, config.log_as, tasks)
    algorithm = learners.make(config.algorithm, config.agent, family.space, family.discount)
    groups = divide([config.steps] * len(tasks), work.tasks_at_once, work.crew.count)

    def some(work: Work, numbers: list[int]) -> Collected:
        return collect(work, family, tuple(tasks[number] for number in numbers), algorithm)

    found = in_parts(work, groups, some)
    acting = joined(groups, [one.snapshots["acting"] for one in found], axis=1)
    whole = Collected(
        logs=sorted_out(groups, [one.logs for one in found]),
        snapshots=found[0].snapshots | {"acting": acting},
        diverged=joined(groups, [one.diverged for one in found]),
    )
    if of is not family:
        logs = [logged_as.paid(of, task, log) for task, log in zip(tasks, whole.logs, strict=True)]
        whole = whole._replace(logs=logs)
    return product(config, of, tasks, whole)


def some_of(tasks: tuple[Task, ...], wanted: int | None, which: str) -> tuple[Task, ...]:
    """`wanted` of them in their order, None: all; the `first` ones, or `spread` from the first to the last."""
    if wanted is None or which == "first":
        return tasks[:wanted]
    return tuple(tasks[number] for number in np.linspace(0, len(tasks) - 1, wanted).round().astype(int))


def collect(work: Work, family: TaskFamily, tasks: tuple[Task, ...], algorithm: Algorithm) -> Collected:
    """What `algorithm` sees while it learns on each of `tasks`, all at once. Raises StageFailed where a family's
    episodes end otherwise than it says."""
    config: Any = work.config
    drive = on_host if isinstance(family, HostFamily) else on_devices
    logs, snapshots, diverged = drive(work, family, tasks, algorithm)
    each = [Log(*(column[index] for column in logs)) for index in range(len(tasks))]
    for task, one in zip(tasks, each, strict=True):
        refuse_lost(one, task.name)
    kept_of = [kept(one if config.num_envs == 1 else in_order(one), config.keep) for one in each]
    return Collected(kept_of, snapshots, diverged)


def plan_of(config: CollectConfig, tasks: tuple[Task, ...]) -> Plan:
    return Plan(
        total=config.steps,
        block=config.block_steps,
        snapshots=config.num_snapshots,
        unit="step",
        headline="episode_return",
        tasks=tuple(task.name for task in tasks),
        every=config.snapshot_every,
        sparse=frozenset({"episode_return"}),
    )


def both_keys(work: Work, axis: TaskAxis, tasks: tuple[Task, ...]) -> tuple[Any, Any]:
    """Each task's key for the beginning, and the one for the rest, on the devices."""
    init_keys, keys = (
        axis.put(task_keys(key, [task.id for task in tasks]))
        for key in jax.random.split(stage_key(work.seed, "collect"))
    )
    return init_keys, keys


def on_devices(work: Work, family: Any, tasks: tuple[Task, ...], algorithm: Algorithm) -> tuple[Log, Any, np.ndarray]:
    """-> (logs [T, ...], snapshots, failures of the physics [T])"""
    config: Any = work.config
    axis = TaskAxis(len(tasks), config.mapping)
    rows = axis.put(task_rows(tasks))
    init_keys, keys = both_keys(work, axis, tasks)
    carry = axis.over_tasks(lambda step, task, key: begin(family, algorithm, config, task, key))(0, rows, init_keys)
    advance = axis.over_tasks(block(family, algorithm, config), donate=(1,))

    def step(number: int, carry: Any) -> tuple[Any, dict[str, Any]]:
        carry, metrics = advance(number, carry, rows, keys)
        return carry, axis.get(metrics)

    def acting(carry: Carry) -> Any:
        return axis.get(algorithm.acting(carry.learner))

    carry, snapshots = run_blocks(work, plan_of(config, tasks), carry, step, acting, axis.put_padded)
    logs = axis.get(carry.recorder.log)
    return logs, snapshots, count_failed(family, logs, work, tasks)


def count_failed(family: TaskFamily, logs: Log, work: Work, tasks: tuple[Task, ...]) -> np.ndarray:
    """Episodes `[T]` that were truncated before the horizon, but for the last rows, where recording stopped.

    Logs `[T, ...]`, or `[T, E, ...]` of E environments each.
    """
    inside = np.arange(logs.reward.shape[-1]) < np.asarray(logs.size)[..., None] - 1
    cut = np.asarray(logs.truncated) & (np.asarray(logs.step) + 1 < family.horizon) & inside
    found: np.ndarray = cut.sum(tuple(range(1, cut.ndim)))
    say_failed(work, tasks, found)
    return found


def say_failed(work: Work, tasks: tuple[Task, ...], counts: np.ndarray) -> None:
    for task, count in zip(tasks, counts, strict=True):
        if count:
            work.tell.note(f"the physics failed in {count} episode(s) of task {task.name}; they are truncated there")


def on_host(work: Work, family: Any, tasks: tuple[Task, ...], algorithm: Algorithm) -> tuple[Log, Any, np.ndarray]:
    """-> (logs [T, ...], snapshots, failures of the physics [T])"""
    config: Any = work.config
    axis = TaskAxis(len(tasks), config.mapping)
    init_keys, keys = both_keys(work, axis, tasks)
    with family.simulate(np.repeat(task_rows(tasks, np.float64), config.num_envs, axis=0)) as simulator:
        collection = Collection(family, algorithm, config, axis, tasks, simulator, keys)

        def acting(carry: Any) -> Any:
            return axis.get(algorithm.acting(carry[0].learner))

        (learning, moving), snapshots = run_blocks(
            work, plan_of(config, tasks), collection.begin(init_keys), collection.advance, acting, collection.restore
        )
    say_failed(work, tasks, moving.diverged)
    return axis.get(learning.recorder.log), snapshots, moving.diverged


def product(config: Any, family: TaskFamily, tasks: Any, found: Collected) -> Product:
    """One leaf per task and column."""
    arrays: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    for index, (task, log) in enumerate(zip(tasks, found.logs, strict=True)):
        returns = episode_returns(log)
        arrays[task_leaf(index)] = to_dict(log) | {"returns": returns}
        metrics[f"last_return/{task.name}"] = float(returns[-max(1, len(returns) // 20) :].mean())
    arrays |= snapshot_arrays(found.snapshots)
    extra = {
        "family": family.name,
        **own.on_card(family.name),
        "space": family.space.to_json(),
        "horizon": family.horizon,
        "discount": family.discount,
        "algorithm": config.algorithm,
        "agent": config.agent.identity(),
        "transitions": sum(int(log.size) for log in found.logs),
    }
    if config.log_as is not None:
        extra["learned_in"] = config.family
    if config.split != "train":
        extra["split"] = config.split
    if config.keep != "all":
        extra["kept"] = {"rule": config.keep, "collected": config.steps * len(tasks)}
    if found.diverged.any():
        counts = zip(tasks, found.diverged, strict=True)
        extra["diverged"] = {task.name: int(count) for task, count in counts if count}
    if isinstance(family, HostFamily) and not family.restorable:
        extra["resume"] = "at an episode boundary: the simulator's state cannot be restored"
    return Product(arrays, metrics, [task.to_json() for task in tasks], extra, name=slug(family.name))
