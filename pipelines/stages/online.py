"""online: one policy learned across tasks while they are collected (MQL, PEARL, BOReL). () -> replay-log

What `omrl metatrain --online` runs first; the log keeps the policy that made it, and `settle` makes a meta-policy of
it. First come episodes of uniform actions in all tasks; then, again and again, updates on the rows of all tasks, and
episodes of tasks drawn uniformly. Nothing is under way between two iterations, so that a run resumes to the same bits
whatever a simulator can restore. BOReL's logs are whole trials, the random ones too: k episodes in one task, between
which the belief is carried over.

Differs from MQL's code (facts 2.4): the budget counts iterations, with episodes that run to the horizon; all tasks have
their random episodes together, each equally many; rows are drawn from all that was seen, not from the last 1,000,000
(humanoid: 500,000); the actor's turns count on from one iteration to the next; a collecting window is filled up with
zeros, as there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.algos import borel
from pipelines.core import own
from pipelines.core.configs.algorithms import BorelConfig, OnlineBorelConfig
from pipelines.core.configs.base import resolve
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.configs.online import OnlineConfig
from pipelines.core.configs.stages import enough_tasks
from pipelines.core.errors import StageFailed, WrongKind
from pipelines.core.learn import stage_key
from pipelines.core.names import slug
from pipelines.core.trees import task_leaf, to_dict
from pipelines.core.types import Algorithm, Array, Log, Metrics, Policy, Task, TaskFamily, memoryless, task_rows
from pipelines.core.work import Product, Work
from pipelines.rollouts.exploring import Explored, explore
from pipelines.stages import belief, collect, learners
from pipelines.stages.blocks import Plan, run_blocks, snapshot_arrays
from pipelines.stages.keeping import kept
from pipelines.stages.pacing import uniform_action
from pipelines.tasks import registry

FAILED_HINT = "omrl rollout --actor random shows the family's episodes"
NAMES = {"td3": "pooled-td3", "pearl": "batch-pearl"}  # the field's word -> the algorithm's, where they differ
STREAMS = {"mql": "td3-context"}  # which differ in what they keep alone: the same seed gives the same policy


def stream(stage: str, algorithm: str) -> str:
    """What random numbers are drawn for."""
    return f"{stage} {STREAMS.get(algorithm, algorithm)}"


class Carry(NamedTuple):
    """What an iteration goes on from."""

    learner: Any
    logs: Log  # [T, N, ...]
    episodes: Array  # [T] int32, written
    updates: Array  # [] int32, done
    length: Array  # [] mean of the last episodes
    diverged: Array  # [T] int32, episodes whose physics failed


@dataclass(frozen=True)
class Sizes:
    """Numbers that follow from a config and a family."""

    random_rows: int  # that each task is to have before anything is learned
    random_length: int  # most of a random episode
    together: int  # random episodes that belong together: one, or a trial's
    ids: np.ndarray  # [iterations, trials] which tasks
    rows: int  # N, most that a task may come to
    slots: int  # of observations

    @classmethod
    def of(cls, config: OnlineConfig, horizon: int, num_tasks: int, key: Array) -> "Sizes":
        whole = config.algorithm == "borel"  # trials
        length = min(config.random_length or (horizon if whole else max(1, horizon // 4)), horizon)
        together = config.trial_episodes if whole else 1
        wanted = -(-config.random_steps // num_tasks)
        room = wanted - 1 + together * length  # the last ones may begin when a single row is lacking
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(config.iterations))
        ids = np.asarray(jax.vmap(lambda one: jax.random.randint(one, (config.trials,), 0, num_tasks))(keys))
        most = int(np.bincount(ids.reshape(-1), minlength=num_tasks).max()) * config.trial_episodes
        rows = room + most * horizon
        episodes = wanted - 1 + together + most  # random ones may end with their first row
        return cls(wanted, length, together, ids, rows, rows + episodes)


# ---- logs of several tasks -------------------------------------------------------------------------------------------


def empty_logs(family: TaskFamily, num_tasks: int, num_rows: int, num_slots: int) -> Log:
    """Room for `num_rows` rows of each task. -> [T, N, ...]"""
    space = family.space

    def zeros(*shape: int, dtype: Any = np.float32) -> Array:
        return jnp.zeros((num_tasks, *shape), dtype)

    return Log(
        obs=zeros(num_slots, *space.obs_shape, dtype=space.obs_dtype),
        action=zeros(num_rows, *space.action_shape, dtype=space.action_dtype),
        reward=zeros(num_rows),
        terminal=zeros(num_rows, dtype=bool),
        truncated=zeros(num_rows, dtype=bool),
        outcome=zeros(num_rows, family.outcome_dim),
        episode=zeros(num_rows, dtype=np.int32),
        step=zeros(num_rows, dtype=np.int32),
        behaviour=zeros(num_rows, dtype=np.int32),
        size=zeros(dtype=np.int32),
    )


def append(logs: Log, episodes: Array, ids: Array, found: Explored, behaviour: Array) -> tuple[Log, Array, Array]:
    """Writes the episodes `[M, K, ...]` behind those that the tasks `ids [M]` have.
    -> (logs, episodes [T], lost [T] of them whose physics failed)

    An episode that was cut is truncated in its last row, one without a row is none. There must be room for K whole ones
    of each.
    """
    count, number = found.held.shape[:2]
    flat = jax.tree.map(lambda leaf: leaf.reshape(count * number, *leaf.shape[2:]), found)
    each = jnp.repeat(ids, number, total_repeat_length=count * number)

    def write(carry: tuple[Log, Array, Array], given: tuple[Array, Explored]) -> tuple[Any, None]:
        (logs, episodes, lost), (task, one) = carry, given
        n, number, held = logs.size[task], episodes[task], one.held
        length, steps = held.sum(), jnp.arange(held.shape[0], dtype=jnp.int32)
        last = steps == length - 1
        cut = last & ~one.row.terminal
        columns = one.row._asdict() | {
            "truncated": one.row.truncated | cut,
            "episode": jnp.full(held.shape, number),
            "step": steps,
            "behaviour": jnp.full(held.shape, behaviour),
        }
        obs = jnp.concatenate([one.first_obs[None], one.row.next_obs])
        told = jnp.concatenate([jnp.ones((1,), bool), held])

        def put(column: Array, values: Array, mask: Array, begin: Array) -> Array:
            mask = mask.reshape(-1, *(1,) * (values.ndim - 1))
            values = jnp.where(mask, values, 0).astype(column.dtype)
            return jax.lax.dynamic_update_slice(column, values[None], (task, begin, *(0,) * (values.ndim - 1)))

        written = {name: put(getattr(logs, name), columns[name], held, n) for name in Log._fields if name in columns
                   and name != "obs"}  # fmt: skip
        size = logs.size.at[task].add(length.astype(jnp.int32))
        logs = logs._replace(**written, obs=put(logs.obs, obs, told, n + number), size=size)
        failed = (cut.any() & (length < held.shape[0])).astype(jnp.int32)
        return (logs, episodes.at[task].add((length > 0).astype(jnp.int32)), lost.at[task].add(failed)), None

    return jax.lax.scan(write, (logs, episodes, jnp.zeros_like(episodes)), (each, flat))[0]


# ---- the loop --------------------------------------------------------------------------------------------------------


def learn_with(algorithm: Algorithm, config: OnlineConfig) -> Callable[..., tuple[Any, Array, Metrics]]:
    """`learn(learner, logs, done, length, key) -> (learner, updates done, mean metrics)`: an iteration's updates."""

    def learn(learner: Any, logs: Log, done: Array, length: Array, key: Array) -> tuple[Any, Array, Metrics]:
        few = logs.size.sum() < config.ramp_rows
        count = jnp.where(few, jnp.maximum(jnp.round(length).astype(jnp.int32), 1), config.updates)

        def one(number: Array, learner: Any) -> tuple[Any, Metrics]:
            sample_key, update_key = jax.random.split(jax.random.fold_in(key, number))
            return algorithm.update(learner, algorithm.sample(logs, sample_key), update_key, number)

        def more(j: Array, carry: tuple[Any, Metrics]) -> tuple[Any, Metrics]:
            learner, metrics = one(done + j, carry[0])
            return learner, jax.tree.map(jnp.add, carry[1], metrics)

        shapes = jax.eval_shape(one, done, learner)[1]
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        learner, total = jax.lax.fori_loop(0, count, more, (learner, nothing))
        return learner, done + count, jax.tree.map(lambda leaf: leaf / count, total)

    return learn


class Loop:
    """The compiled calls of a run; `advance` is a block of iterations."""

    def __init__(
        self, config: OnlineConfig, family: TaskFamily, tasks: tuple[Task, ...], algorithm: Algorithm, policy: Policy,
        seed: int,
    ) -> None:  # fmt: skip
        """`policy` is how the algorithm acts while it collects."""
        self.config, self.family, self.algorithm = config, family, algorithm
        keys = jax.random.split(stage_key(seed, stream("online", config.algorithm)), 5)
        self.init_key, ids_key, self.random_key, self.play_key, self.learn_key = keys
        self.sizes = Sizes.of(config, family.horizon, len(tasks), ids_key)
        self.rows, self.names = task_rows(tasks, np.float64), [task.name for task in tasks]
        nobody = memoryless(lambda acting, obs, key, explore: uniform_action(family.space, key), None)
        self._at_random = explore(family, nobody, 1, self.sizes.random_length)
        self._explore = explore(family, policy, config.trial_episodes, family.horizon)
        self._append = jax.jit(append, donate_argnums=0)
        self._learn = jax.jit(learn_with(algorithm, config), donate_argnums=0)

    @property
    def iteration_steps(self) -> int:
        """Environment steps of an iteration whose episodes all run to the horizon."""
        return self.config.trials * self.config.trial_episodes * self.family.horizon

    def begin(self) -> Carry:
        """Before anything was seen."""
        learner = jax.jit(lambda key: self.algorithm.init(key, None))(self.init_key)
        num_tasks = len(self.rows)
        logs = empty_logs(self.family, num_tasks, self.sizes.rows, self.sizes.slots)
        none = jnp.zeros((num_tasks,), jnp.int32)
        return Carry(learner, logs, none, jnp.int32(0), jnp.float32(0), jnp.zeros_like(none))

    def _logged(self, carry: Carry, ids: np.ndarray, found: Explored) -> Carry:
        logs, episodes, lost = self._append(carry.logs, carry.episodes, jnp.asarray(ids), found, carry.updates)
        lengths = np.asarray(found.held).sum(-1)
        length = jnp.float32(lengths[lengths > 0].mean()) if lengths.any() else carry.length
        return carry._replace(logs=logs, episodes=episodes, length=length, diverged=carry.diverged + lost)

    def _random(self, carry: Carry) -> Carry:
        """Episodes of uniform actions in all tasks, logged until each has its rows, however soon episodes end. Raises
        StageFailed where physics fails before there is a row."""
        sizes, everyone = self.sizes, np.arange(len(self.rows))
        sofar, number = np.full(len(everyone), -1), 0
        while (lacking := (size := np.asarray(carry.logs.size)) < sizes.random_rows).any():
            if (stuck := lacking & (size == sofar)).any():
                name = self.names[int(stuck.argmax())]
                raise StageFailed(f"task {name}: physics failed in the first step of a random episode", FAILED_HINT)
            sofar = size
            for _ in range(sizes.together):
                keys = jax.random.split(jax.random.fold_in(self.random_key, number), len(everyone))
                found = self._at_random((), self.rows, keys)
                found = found._replace(held=jnp.asarray(found.held) & lacking[:, None, None])
                carry, number = self._logged(carry, everyone, found), number + 1
        return carry

    def advance(self, step: int, carry: Carry) -> tuple[Carry, dict[str, Any]]:
        """The iterations of a block, before the first of all the random episodes."""
        if step == 0:
            carry = self._random(carry)
            if isinstance(self.config.agent, OnlineBorelConfig):
                belief.want_cells(resolve(BeliefConfig, self.config.agent.belief), np.asarray(carry.logs.obs))
        first = step // self.iteration_steps
        told, returns = [], []
        for number in range(first, first + self.config.block_iterations):
            learner, updates, metrics = self._learn(
                carry.learner, carry.logs, carry.updates, carry.length, self.learn_key
            )
            ids = self.sizes.ids[number]
            keys = jax.random.split(jax.random.fold_in(self.play_key, number), len(ids))
            found = self._explore(self.algorithm.acting(learner), self.rows[ids], keys)
            carry = self._logged(carry._replace(learner=learner, updates=updates), ids, found)
            told.append(metrics)
            returns.append(np.where(found.held, found.row.reward, 0.0).sum(-1))
        means = jax.tree.map(lambda *leaves: np.mean([np.asarray(leaf) for leaf in leaves]), *told)
        sofar = {"rows": np.float32(carry.logs.size.sum()), "updates": np.float32(carry.updates)}
        return carry, means | {"episode_return": np.mean(returns)} | sofar


def run(work: Work) -> Product:
    """Learns on the training tasks of the family, or `num_tasks` of them. Raises UsageError for an algorithm
    that cannot act there, StageFailed for a loss that is not finite."""
    config: Any = work.config
    family = registry.find(config.family)
    tasks = family.tasks("train")
    enough_tasks(config.num_tasks, len(tasks), family.name)
    tasks = collect.some_of(tasks, config.num_tasks, config.which_tasks)
    name = NAMES.get(config.algorithm, config.algorithm)
    agent, asks = settled_agent(config, family)
    algorithm = learners.make(name, agent, family.space, family.discount, **asks)
    collecting = learners.make(name, collector(agent), family.space, family.discount, **asks).policy
    loop = Loop(config, family, tasks, algorithm, collecting, work.seed)
    steps = loop.iteration_steps
    plan = Plan(
        config.iterations * steps, config.block_iterations * steps, config.num_snapshots, "step", "episode_return"
    )

    def acting(carry: Carry) -> Any:
        return jax.tree.map(np.asarray, algorithm.acting(carry.learner))

    carry, snapshots = run_blocks(
        work, plan, loop.begin(), loop.advance, acting, lambda held: jax.tree.map(jnp.array, held)
    )
    lost = np.asarray(carry.diverged)
    collect.say_failed(work, tasks, lost)
    return product(config, name, acts_as(agent), family, tasks, carry, snapshots)


def settled_agent(config: OnlineConfig, family: TaskFamily) -> tuple[Any, dict[str, Any]]:
    """The agent, with what it leaves to the family, and what its `make` asks beside."""
    agent: Any = config.agent
    if config.algorithm != "borel":
        return agent, {}
    model = belief.settled(resolve(BeliefConfig, agent.belief), family.name, family.space)
    return agent.model_copy(update={"belief": model.identity()}), {"horizon": family.horizon}


def acts_as(agent: Any) -> Any:
    """What the policy is rebuilt from: how BOReL learned online is no part of it."""
    return borel.part_of(agent, BorelConfig) if isinstance(agent, BorelConfig) else agent


def collector(agent: Any) -> Any:
    """The same agent as it collects: MQL's window is filled up with zeros, PEARL draws its z once an episode."""
    said = {"eval_window": "padded", "eval_history": None, "resample": "episode"}
    return agent.model_copy(update={name: value for name, value in said.items() if name in type(agent).model_fields})


def product(
    config: OnlineConfig, name: str, agent: Any, family: TaskFamily, tasks: Any, carry: Carry, snapshots: dict[str, Any]
) -> Product:
    """One leaf per task and column, as `collect` leaves them, and the policy that all tasks share."""
    arrays: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    logs = jax.tree.map(np.asarray, carry.logs)
    for index, task in enumerate(tasks):
        log = kept(Log(*(column[index] for column in logs)), "all")
        returns = collect.episode_returns(log)
        arrays[task_leaf(index)] = to_dict(log) | {"returns": returns}
        metrics[f"last_return/{task.name}"] = float(returns[-max(1, len(returns) // 20) :].mean())
    lost = zip(tasks, np.asarray(carry.diverged), strict=True)
    extra = {
        "family": family.name,
        **own.on_card(family.name),
        "space": family.space.to_json(),
        "horizon": family.horizon,
        "discount": family.discount,
        "algorithm": name,
        "agent": agent.identity(),
        "transitions": int(logs.size.sum()),
        "online": {"updates": int(carry.updates), "chosen": config.algorithm},
    }
    if failed := {task.name: int(count) for task, count in lost if count}:
        extra["diverged"] = failed
    arrays |= snapshot_arrays(snapshots)
    label = slug(f"{config.algorithm} {family.name}")
    return Product(arrays, metrics, [task.to_json() for task in tasks], extra, name=label)


def settle(work: Work) -> Product:
    """The policy that a log was made by -> the meta-policy. Raises WrongKind for a log that was not made so."""
    config: Any = work.config
    log = work.inputs["log"]
    made = log.card.extra.get("online", {}).get("chosen")
    if made != config.algorithm:
        how = "no policy shared by its tasks" if made is None else made
        cause = f"the log {log.card.id} was made by {how}, not by {config.algorithm} online"
        raise WrongKind(cause, f"omrl metatrain --online --algorithm {config.algorithm} makes log and policy")
    arrays = log.arrays(["snapshots", "snapshot_step"])
    name = log.card.extra["algorithm"]
    of_log = {field: log.card.extra[field] for field in ("family", "space", "horizon", "discount")}
    return Product(
        arrays={"acting": jax.tree.map(lambda leaf: leaf[-1], arrays["snapshots"]), **arrays},
        tasks=list(log.card.tasks),
        extra={"algorithm": name, "agent": log.card.extra["agent"], **of_log, "trained": "online"},
        name=slug(f"{config.algorithm} online {of_log['family']}"),
    )
