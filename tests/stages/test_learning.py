"""Section 5.1 in one run, cut short: per-task batch SAC learns, pooled batch SAC does not, tiMe does, and tiMe with its
evidence spoilt does not. Every control is judged beside what it controls, on the same log and the same teachers.

Scores are 0 for uniform actions and 1 for the optimum, averaged over the three goals.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos.time import Batch, Data
from pipelines.core.learn import block, stage_key, task_keys
from pipelines.core.statistics import interval
from pipelines.core.taskmap import TaskAxis
from pipelines.core.trees import from_dict, stack, to_dict
from pipelines.core.types import Algorithm, task_rows
from pipelines.rollouts import zero_shot
from pipelines.stages import distill, learners
from pipelines.tasks.point import TIME, references
from tests.toys import Stored, run

pytestmark = pytest.mark.optimised
SEED = 1
BLOCK = 500
EPISODES = 64
NETS = {"batch_size": 64, "learning_rate": 1e-3}
SAC = {**NETS, "hidden": (64, 64)}
ONLINE = {**SAC, "obs_scale": 10.0, "reward_scale": 10.0}
TIME_NETS = {**NETS, "encoder_hidden": (64,), "embed_hidden": (64,), "embed_dim": 64, "predictor_hidden": (64,)}
BEHAVIOUR_MARGIN = 0.3  # of batch SAC over the mean return of the log it learned from
POOLED_MARGIN = 0.1  # of tiMe over the upper end of pooled batch SAC's interval


def scores(returns: Any) -> np.ndarray:
    """Returns [..., T] in the task order of the family, normalised."""
    known = [references(task) for task in TIME.tasks("train")]
    low, high = (np.array([one[name] for one in known]) for name in ("random", "oracle"))
    return (np.asarray(returns) - low) / (high - low)


class Chain(NamedTuple):
    """What everything here is judged on."""

    log: Stored
    teachers: Stored


@pytest.fixture(scope="module", autouse=True)
def _no_silent_broadcasts() -> Iterator[None]:
    jax.config.update("jax_numpy_rank_promotion", "raise")
    yield
    jax.config.update("jax_numpy_rank_promotion", "allow")


@pytest.fixture(scope="module")
def chain() -> Chain:
    steps = {"steps": 4_000, "random_steps": 1_000, "block_steps": BLOCK, "num_snapshots": 0}
    log = run("collect", {}, steps, {"agent": ONLINE}, seed=SEED)
    updates = {"updates": 3_000, "block_updates": BLOCK, "num_snapshots": 0}
    return Chain(log, run("train", {"log": log}, updates, {"agent": SAC}, seed=SEED))


def played(policy: Stored) -> np.ndarray:
    """Scores [T] of a policy-set."""
    found = run("eval", {"policy": policy}, {"episodes": EPISODES, "curve_episodes": 0})
    return scores(found.tree["returns"].mean(1))


def learned(algorithm: Algorithm, data: Any, updates: int) -> np.ndarray:
    """Learns from each of V data sets `[V, ...]` with keys of its own, all in one program. -> mean scores [V]"""
    count = len(jax.tree.leaves(data)[0])
    axis = TaskAxis(count)
    keys = task_keys(stage_key(SEED, "variants"), range(count))
    state = axis.put(jax.jit(jax.vmap(algorithm.init))(keys, data))
    keys, data = axis.put(keys), axis.put(data)
    play = zero_shot(TIME, algorithm.policy, 0.0, EPISODES)  # returns are not discounted, and nothing else is asked
    rows = jnp.asarray(task_rows(TIME.tasks("test")))

    def evaluate(acting: Any, key: Any) -> Any:
        each = (rows, jax.random.split(key, len(rows)))
        return jax.lax.map(lambda task: play(acting, *task).returns.mean(), each)

    advance = axis.over_tasks(block(algorithm, BLOCK), donate=(1,))
    for step in range(0, updates, BLOCK):
        state, _ = advance(step, state, data, keys)
    acting, keys = axis.get(algorithm.acting(state)), keys[:count]
    return scores(jax.jit(jax.vmap(evaluate))(acting, keys)).mean(1)


@pytest.fixture(scope="module")
def bound(chain: Chain) -> float:
    """The upper end of pooled batch SAC's interval over four training seeds, plus the margin."""
    logs, _, space, discount = learners.read_log(chain.log)
    pooled = learners.make("pooled-batch-sac", SAC, space, discount)
    return interval(learned(pooled, stack([logs] * 4), updates=2_000)).high + POOLED_MARGIN


class Variants(NamedTuple):
    """tiMe's score on the evidence as it is, and spoilt in two ways."""

    whole: float
    shuffled: float  # rewards change places within each task's log
    permuted: float  # each update takes the contexts of its tasks from tasks in random order


class Evidence(NamedTuple):
    data: Data
    permute: Any  # [] bool


@pytest.fixture(scope="module")
def time(chain: Chain) -> Variants:
    """All three in one program: it compiles once, and they differ in nothing else."""
    logs, _, space, discount = learners.read_log(chain.log)
    teacher = learners.make("batch-sac", SAC, space, discount)
    acting = from_dict(teacher.acting_type, chain.teachers.arrays()["acting"])
    values = distill.teacher_values(teacher, acting, jax.tree.map(np.asarray, logs))
    rng = np.random.default_rng(SEED)
    shuffled = logs._replace(reward=np.stack([rng.permutation(reward) for reward in logs.reward]))
    algorithm = learners.make("time", {**TIME_NETS, "q_hidden": (64, 64)}, space, discount)

    def sample(evidence: Evidence, key: Any) -> Batch:
        batch_key, order_key = jax.random.split(key)
        batch = algorithm.sample(evidence.data, batch_key)
        order = jnp.arange(len(logs.size))
        order = jnp.where(evidence.permute, jax.random.permutation(order_key, order), order)
        return batch._replace(context=jax.tree.map(lambda leaf: leaf[order], batch.context))

    spoilable = dataclasses.replace(
        algorithm, init=lambda key, evidence: algorithm.init(key, evidence.data), sample=sample
    )
    variants = [(logs, False), (shuffled, False), (logs, True)]
    data = stack([Evidence(Data(log, values), permute) for log, permute in variants])
    return Variants(*learned(spoilable, data, updates=6_000).tolist())


@pytest.mark.slow
def test_batch_sac_beats_the_agents_whose_log_it_learned_from(chain):
    """In every task. The control has the weights that it began with, as a learning rate of 0 would leave them."""
    returns = [chain.log.tree[f"task_{index:04d}"]["returns"].mean() for index in range(3)]
    bar = scores(returns) + BEHAVIOUR_MARGIN
    assert (played(chain.teachers) > bar).all()
    logs, _, space, discount = learners.read_log(chain.log)
    algorithm = learners.make("batch-sac", SAC, space, discount)
    begun = algorithm.acting(jax.jit(jax.vmap(algorithm.init))(jax.random.split(jax.random.key(SEED), 3), logs))
    untrained = dataclasses.replace(chain.teachers, tree=chain.teachers.tree | {"acting": to_dict(begun)})
    assert (played(untrained) < bar).all()


def test_time_is_far_above_pooling(time, bound):
    """By another three margins: where the pooled agent walks to one place, tiMe finds each goal."""
    assert time.whole > bound + 3 * POOLED_MARGIN


def test_time_falls_when_rewards_are_shuffled_across_each_log(time, bound):
    assert time.shuffled < bound < time.whole


def test_time_falls_when_task_ids_are_permuted_in_the_context(time, bound):
    assert time.permuted < bound < time.whole
