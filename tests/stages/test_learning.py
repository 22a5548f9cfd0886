"""Section 5.1 in one run: tiMe learns, and with its evidence spoilt it does not (each control judged beside the rest)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import time
from pipelines.core.statistics import interval
from pipelines.core.types import Algorithm
from pipelines.stages import learners
from pipelines.stages.presets import PRESETS
from tests.toys import Stored, run

FEW = {"episodes": 32, "curve_episodes": 0}
TIME = {"updates": 6_000, "num_snapshots": 0, "agent": {"num_shots": 100, "latent_dim": 32}}
MARGIN = 0.1


def _small(stage: str) -> dict[str, Any]:
    return PRESETS[stage]["small"] | {"num_snapshots": 0}


def _scores(policy: Stored) -> np.ndarray:
    """Normalised mean score of each goal. -> [T]"""
    found = run("eval", {"policy": policy}, FEW).tree
    low, high = found["random_return"], found["oracle_return"]
    return (found["returns"].mean(1) - low) / (high - low)


def _distil(log: Stored, teachers: Stored) -> float:
    policy = run("distill", {"log": log, "teachers": teachers}, _small("distill"), TIME)
    return float(_scores(policy).mean())


@pytest.fixture(scope="module")
def log() -> Stored:
    steps = {"steps": 6_000, "random_steps": 1_500, "block_steps": 500}
    return run("collect", {}, _small("collect"), steps, seed=7)


@pytest.fixture(scope="module")
def teachers(log: Stored) -> Stored:
    return run("train", {"log": log}, _small("train"), {"updates": 4_000}, seed=7)


@pytest.fixture(scope="module")
def bound(log: Stored) -> float:
    """Pooled batch SAC's upper interval end over three training seeds, plus the margin of the controls."""
    pooled = [run("metatrain", {"log": log}, _small("metatrain"), {"updates": 3_000}, seed=seed) for seed in (0, 1, 2)]
    return interval(np.stack([_scores(policy) for policy in pooled])).high + MARGIN


@pytest.fixture(scope="module")
def score(log: Stored, teachers: Stored) -> float:
    return _distil(log, teachers)


def test_batch_sac_beats_the_agents_whose_log_it_learned_from(log: Stored, teachers: Stored) -> None:
    found = run("eval", {"policy": teachers}, FEW).tree
    behaviour = [log.tree[f"task_{index:04d}"]["returns"].mean() for index in range(3)]
    assert (found["returns"].mean(1) > np.asarray(behaviour) + 30).all()  # the random start costs the behaviour 35
    assert (_scores(teachers) > 0.93).all()


def test_batch_sac_that_hardly_moves_learns_nothing(log: Stored) -> None:
    still = run("train", {"log": log}, _small("train"), {"updates": 500, "agent": {"learning_rate": 1e-9}}, seed=7)
    assert _scores(still).mean() < 0.3


def test_time_is_clearly_above_pooling(score: float, bound: float) -> None:
    assert score > bound


def test_with_rewards_shuffled_across_the_log_time_falls(
    log: Stored, teachers: Stored, score: float, bound: float
) -> None:
    rng = np.random.default_rng(0)
    tree = {
        name: {**columns, "reward": rng.permutation(columns["reward"])} if name.startswith("task_") else columns
        for name, columns in log.tree.items()
    }
    assert _distil(dataclasses.replace(log, tree=tree), teachers) < bound < score


def test_with_task_ids_permuted_in_the_context_time_falls(
    log: Stored, teachers: Stored, score: float, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = learners.make

    def permuted(name: str, *args: Any) -> Algorithm:
        algorithm = make(name, *args)
        if name != "time":
            return algorithm

        def sample(data: Any, key: Any) -> time.Batch:
            batch = algorithm.sample(data, key)
            order = jax.random.permutation(jax.random.fold_in(key, 1), batch.teacher_q.shape[0])
            return batch._replace(context=jax.tree.map(lambda leaf: jnp.take(leaf, order, axis=0), batch.context))

        return dataclasses.replace(algorithm, sample=sample)

    monkeypatch.setattr(learners, "make", permuted)
    assert _distil(log, teachers) < bound < score
