"""`--preset small` on the bodies of MBML, as its user types it: collect, train BCQ, relabel. Minutes each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.sizes import CHAINS, Chain
from pipelines.core.configs.base import resolve
from pipelines.core.families import FAMILIES
from pipelines.core.trees import task_leaf
from pipelines.core.types import Log
from pipelines.stages.presets import PRESETS
from pipelines.stages.registry import STAGES
from pipelines.store.shelf import Shelf
from pipelines.tasks import registry

from . import driving
from .driving import assert_tidy, say

LIMIT_S = 1_800  # of a process, where others are at work, too
EPISODES = 4

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * LIMIT_S)]


def run(store: Path, chain: Chain) -> tuple[dict[str, str], str]:
    """-> (stage -> the id that was printed, what was said on stderr)"""
    ids, talk = {}, ""
    for stage in chain.stages:
        said = say(store, *chain.words(stage), OMRL_CHECKPOINT_S=3600)
        assert said.code == 0, said.err
        ids[stage], talk = said.out.strip(), talk + said.err
    return ids, talk


def assert_finite(tree: Any, path: str = "") -> None:
    for name, leaf in tree.items():
        if isinstance(leaf, dict):
            assert_finite(leaf, f"{path}/{name}")
        elif np.issubdtype(leaf.dtype, np.floating):
            assert np.isfinite(leaf).all(), f"{path}/{name}"


def gain(log: Log, random_steps: int) -> float:
    """Mean return of the last fifth of a log's episodes over that of the random ones at its beginning."""
    returns = np.bincount(log.episode, weights=log.reward)[:-1]  # the last may have been cut
    return float(returns[-len(returns) // 5 :].mean() - returns[: log.episode[random_steps]].mean())


def assert_log(shelf: Shelf, id: str, family: str) -> list[Log]:
    """The first tasks of the split, all their steps in order, which got better. -> their logs"""
    artifact, found = shelf.artifact(shelf.find(id)), registry.find(family)
    card, arrays = artifact.card, artifact.arrays()
    config: Any = resolve(STAGES["collect"].config, PRESETS["collect"]["small"], {"family": family})
    assert card.config == config.model_dump(mode="json")
    assert 2 <= config.num_tasks <= FAMILIES[family].num_train
    tasks = found.tasks("train")[: config.num_tasks]
    assert [task["id"] for task in card.tasks] == [task.id for task in tasks]
    assert card.extra["transitions"] == config.num_tasks * config.steps
    assert_finite(arrays)
    logs = []
    for index in range(len(tasks)):
        columns = arrays[task_leaf(index)]
        log = Log(**{name: columns[name] for name in Log._fields})
        assert log.size == config.steps
        assert log.action.shape == (config.steps, *found.space.action_shape)
        assert log.obs.shape == (config.steps + log.episode[-1] + 1, *found.space.obs_shape)
        assert np.bincount(log.episode).max() <= found.horizon
        logs.append(log)
    assert np.mean([gain(log, config.random_steps) for log in logs]) > 0
    return logs


def assert_policies(shelf: Shelf, id: str, num_tasks: int) -> None:
    artifact = shelf.artifact(shelf.find(id))
    arrays = artifact.arrays()
    assert artifact.card.extra["algorithm"] == "bcq"
    assert len(artifact.card.tasks) == num_tasks
    assert_finite(arrays)


def assert_relabelled(shelf: Shelf, id: str, logs: list[Log], family: str) -> None:
    """Some rows of every other task pass, as many as the card says. What the ensembles say of them is nearer to what
    the family pays than what they say of all; where successors are learned, they are nearer than no change at all."""
    artifact = shelf.artifact(shelf.find(id))
    card, arrays = artifact.card, artifact.arrays()
    other = ~np.eye(len(logs), dtype=bool)
    assert arrays["pair_size"].shape == arrays["pass_rate"].shape == other.shape
    assert (arrays["pair_size"][other] <= card.config["rows_per_pair"]).all()
    assert (arrays["pass_rate"][other] > 0).all() and (arrays["pass_rate"][other] < 1).all()
    assert card.metrics["rows"] == arrays["pair_size"].sum() > 0
    if FAMILIES[family].dynamics:
        assert card.metrics["unexplained"] < 0.7
    else:
        assert card.metrics["passed_error"] < card.metrics["foreign_error"]
    for index in range(len(logs)):
        rows = arrays[task_leaf(index)]
        sizes = np.bincount(rows["task"], minlength=len(logs))
        np.testing.assert_array_equal(sizes, arrays["pair_size"][index])
        assert sizes[index] == 0
        for task in np.flatnonzero(sizes):
            assert rows["row"][rows["task"] == task].max() < logs[task].size
        assert np.isfinite(rows["reward"]).all()
        assert rows["next_obs"].shape == (len(rows["row"]), FAMILIES[family].obs_dim * FAMILIES[family].dynamics)
        assert (rows["spread"] <= arrays["threshold"][index]).all()


def returns_of(store: Path, card: Any, *words: str) -> np.ndarray:
    """[T] mean returns of an actor on the tasks of the log."""
    names = [word for task in card.tasks for word in ("--task", task["name"])]
    said = say(store, "rollout", *words, "--split", "train", *names, "--episodes", EPISODES, "--json")
    assert said.code == 0, said.err
    return np.array([row["return"] for row in said.json["tasks"]])


@pytest.mark.parametrize("chain", CHAINS[1:], ids=lambda chain: chain.family)
def test_the_small_chain(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "LIMIT_S", LIMIT_S)
    store, shelf = tmp_path / "store", Shelf(tmp_path / "store")
    ids, talk = run(store, chain)
    assert "up to date" not in talk
    logs = assert_log(shelf, ids["collect"], chain.family)
    assert_policies(shelf, ids["train"], len(logs))
    assert_relabelled(shelf, ids["relabel"], logs, chain.family)
    assert_tidy(store)

    again, talk = run(store, chain)
    assert again == ids
    assert talk.count("up to date") == len(chain.stages)
    assert_tidy(store)

    card = shelf.find(ids["collect"])
    random = returns_of(store, card, "--actor", "random", "--family", chain.family)
    learned = returns_of(store, card, "--policy", ids["train"])
    assert learned.mean() > random.mean()
