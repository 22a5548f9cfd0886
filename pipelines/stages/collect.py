"""collect: one ordinary agent per task, all tasks at once, everything they saw kept in order. () -> replay-log

On a device family steps and updates alternate inside one scan; `collect_host` does the same around a simulator.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines import rollouts
from pipelines.core import own
from pipelines.core.configs.stages import CollectConfig
from pipelines.core.learn import stage_key, task_keys
from pipelines.core.taskmap import TaskAxis
from pipelines.core.trees import task_leaf, to_dict
from pipelines.core.types import Algorithm, Array, DeviceFamily, HostFamily, Log, Metrics, Task, TaskFamily, task_rows
from pipelines.core.work import Product, Work
from pipelines.stages import learners
from pipelines.stages.blocks import Plan, run_blocks, snapshot_arrays
from pipelines.stages.collect_host import Collection, uniform_action
from pipelines.tasks import registry


class Carry(NamedTuple):
    """What one task's collection goes on from."""

    learner: Any
    live: rollouts.Live
    recorder: rollouts.Recorder


def begin(family: DeviceFamily, algorithm: Algorithm, config: CollectConfig, task: Array, key: Array) -> Carry:
    init_key, memory_key, reset_key = jax.random.split(key, 3)
    learner = algorithm.init(init_key, None)
    acting = algorithm.acting(learner)
    memory = algorithm.policy.begin(acting, memory_key)
    live = rollouts.begin(family, algorithm.policy, acting, task, memory, reset_key)
    return Carry(learner, live, rollouts.recorder(family, config.steps, live.obs))


def interact(
    family: DeviceFamily, algorithm: Algorithm, config: CollectConfig, carry: Carry, n: Array, task: Array, key: Array
) -> tuple[Carry, tuple[Array, Array]]:
    """Environment step n, and its row in the log. -> (carry, (return so far, whether the episode ended))

    The first `random_steps` actions are uniform; after that the policy explores.
    """
    act_key, step_key, reset_key = jax.random.split(key, 3)
    acting, live, rec = algorithm.acting(carry.learner), carry.live, carry.recorder
    uniform = uniform_action(family.space, act_key)
    explored = algorithm.policy.act(acting, live.memory, live.obs, act_key, 1.0)
    action = jnp.where(n < config.random_steps, uniform, explored)
    after, row = rollouts.step(family, algorithm.policy, acting, task, live, action, step_key)
    fresh = rollouts.begin(family, algorithm.policy, acting, task, after.memory, reset_key)
    done = row.terminal | row.truncated
    behaviour = jnp.maximum(n - config.random_steps, 0)
    live_next = jax.tree.map(lambda new, old: jnp.where(done, new, old), fresh, after)
    recorder = rollouts.record(rec, row, live.step, behaviour, fresh.obs)
    return Carry(carry.learner, live_next, recorder), (rec.total + row.reward, done)


def block(family: DeviceFamily, algorithm: Algorithm, config: CollectConfig) -> Any:
    """`run(step, carry, task, key) -> (carry, metrics)`: `block_steps` steps, each followed by one update."""

    def learn(learner: Any, log: Log, key: Array, n: Array) -> tuple[Any, Metrics]:
        sample_key, update_key = jax.random.split(key)
        return algorithm.update(learner, algorithm.sample(log, sample_key), update_key, n - config.random_steps)

    def one(carry: Carry, n: Array, task: Array, key: Array) -> tuple[Carry, Any]:
        step_key, learn_key = jax.random.split(jax.random.fold_in(key, n))
        carry, episode = interact(family, algorithm, config, carry, n, task, step_key)
        shapes = jax.eval_shape(learn, carry.learner, carry.recorder.log, learn_key, n)[1]
        learner, metrics = jax.lax.cond(
            n >= config.random_steps,
            learn,
            lambda learner, *_: (learner, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)),
            *(carry.learner, carry.recorder.log, learn_key, n),
        )
        return carry._replace(learner=learner), (metrics, episode)

    def run(step: Array, carry: Carry, task: Array, key: Array) -> tuple[Carry, Metrics]:
        numbers = step + jnp.arange(config.block_steps, dtype=jnp.int32)
        carry, (metrics, (total, done)) = jax.lax.scan(lambda c, n: one(c, n, task, key), carry, numbers)
        metrics = jax.tree.map(lambda leaf: leaf.mean(0), metrics)
        ended = jnp.maximum(done.sum(), 1)
        return carry, metrics | {"episode_return": jnp.where(done, total, 0.0).sum() / ended}

    return run


def episode_returns(log: Log) -> np.ndarray:
    """Returns of one task's whole and cut episodes in order. -> [episodes] float32"""
    size = int(log.size)
    return np.bincount(log.episode[:size], weights=log.reward[:size]).astype(np.float32)


def run(work: Work) -> Product:
    """Collects on every training task of the family."""
    config: Any = work.config
    family = registry.find(config.family)
    tasks = family.tasks("train")
    algorithm = learners.make(config.algorithm, config.agent, family.space, family.discount)
    collect = on_host if isinstance(family, HostFamily) else on_devices
    logs, snapshots, diverged = collect(work, family, tasks, algorithm)
    return product(config, family, algorithm, tasks, logs, snapshots, diverged)


def plan_of(config: CollectConfig, tasks: tuple[Task, ...]) -> Plan:
    return Plan(
        total=config.steps,
        block=config.block_steps,
        snapshots=config.num_snapshots,
        unit="step",
        headline="episode_return",
        tasks=tuple(task.name for task in tasks),
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
    """Episodes `[T]` that were truncated before the horizon, but for the last row, where recording stopped."""
    inside = np.arange(logs.reward.shape[1]) < np.asarray(logs.size)[:, None] - 1
    cut = np.asarray(logs.truncated) & (np.asarray(logs.step) + 1 < family.horizon) & inside
    found: np.ndarray = cut.sum(1)
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
    with family.simulate(task_rows(tasks, np.float64)) as simulator:
        collection = Collection(family, algorithm, config, axis, tasks, simulator, keys)

        def acting(carry: Any) -> Any:
            return axis.get(algorithm.acting(carry[0].learner))

        (learning, moving), snapshots = run_blocks(
            work, plan_of(config, tasks), collection.begin(init_keys), collection.advance, acting, collection.restore
        )
    say_failed(work, tasks, moving.diverged)
    return axis.get(learning.recorder.log), snapshots, moving.diverged


def product(
    config: Any, family: TaskFamily, algorithm: Algorithm, tasks: Any, logs: Log, snapshots: Any, diverged: np.ndarray
) -> Product:
    """One leaf per task and column, unused observation slots cut off."""
    arrays: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    for index, task in enumerate(tasks):
        log = Log(*(column[index] for column in logs))
        slots = int(log.size) + int(log.episode[int(log.size) - 1]) + 1
        returns = episode_returns(log)
        arrays[task_leaf(index)] = to_dict(log._replace(obs=log.obs[:slots])) | {"returns": returns}
        metrics[f"last_return/{task.name}"] = float(returns[-max(1, len(returns) // 20) :].mean())
    arrays |= snapshot_arrays(snapshots)
    extra = {
        "family": family.name,
        **own.on_card(family.name),
        "space": family.space.to_json(),
        "horizon": family.horizon,
        "discount": family.discount,
        "algorithm": config.algorithm,
        "agent": config.agent.model_dump(mode="json"),
        "transitions": config.steps * len(tasks),
    }
    if diverged.any():
        extra["diverged"] = {task.name: int(count) for task, count in zip(tasks, diverged, strict=True) if count}
    if isinstance(family, HostFamily) and not family.restorable:
        extra["resume"] = "at an episode boundary: the simulator's state cannot be restored"
    name = alias_of(family.name)
    return Product(arrays, metrics, [task.to_json() for task in tasks], extra, name=name)


def alias_of(family: str) -> str:
    """A family's name as part of an alias: letters, digits and dashes."""
    return "-".join("".join(c if c.isalnum() else " " for c in family).split())
