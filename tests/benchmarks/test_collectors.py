"""Collectors and batch RL beside peers: the peer's environment, and what becomes of runs. No peer runs here."""

import dataclasses
import json
import math

import numpy as np
import pytest

from benchmarks import cheetahs, collectors, curves, offline, runs
from benchmarks.peers import cheetah
from pipelines.core.configs.base import resolve
from pipelines.core.configs.stages import CollectConfig, TrainConfig
from pipelines.tasks import registry


@pytest.fixture
def plan(tmp_path):
    return dataclasses.replace(collectors.TINY, folder=tmp_path, steps={0: 4_000, 1: 2_000, 2: 2_000})


@pytest.fixture
def offline_plan(tmp_path):
    return dataclasses.replace(offline.TINY, folder=tmp_path)


def test_three_tasks_of_the_hundred_are_chosen():
    family = cheetahs.family()
    everyone = {task.id: task for task in registry.find(cheetahs.ORIGIN).tasks("train")}
    assert [everyone[task.id] for task in family.tasks("train")] == list(cheetahs.chosen())
    assert [cheetahs.velocity(task) for task in cheetahs.chosen()] == pytest.approx(cheetahs.WANTED, abs=0.05)
    assert family.tasks("test") == ()


def test_the_peers_environment_is_the_family(monkeypatch):
    """On 40 random transitions; and the comparison notices another reward."""
    assert max(collectors.parity(40).values()) <= collectors.TOLERANCE
    monkeypatch.setattr(cheetah, "CONTROL_COST", 0.1)
    gaps = collectors.parity(10)
    assert min(gaps["paid"], gaps["reward"]) > 0.01
    assert gaps["obs"] <= collectors.TOLERANCE


def test_the_peers_episodes_have_the_familys_horizon_and_start():
    env = cheetah.make(1.0)
    assert (env.spec.max_episode_steps, cheetah.HORIZON) == (200, cheetahs.family().horizon)
    obs, _ = env.reset(seed=0)
    assert obs.shape == cheetahs.family().space.obs_shape
    assert np.abs(obs[:8]).max() <= 0.1
    env.close()


def test_flags_say_what_the_plan_says():
    fields = {"steps": 400, "random_steps": 100, "block_steps": 50, "agent": collectors.SIZES}
    flags = runs.sets(fields)
    assert flags[:2] == ["--set", "steps=400"]
    assert "agent.hidden=[256, 256]" in flags
    config = resolve(CollectConfig, fields)
    assert config.agent.model_dump()["obs_scale"] == 1.0
    for steps in collectors.FULL.steps.values():
        assert steps % cheetah.HORIZON == 0


@pytest.mark.parametrize("each", [offline.FULL, offline.TINY])
def test_every_agent_of_the_offline_plan_is_a_config(each):
    for algorithm, agent in each.agents.items():
        fields = {"algorithm": algorithm, "agent": agent, "updates": each.updates, "block_updates": each.block}
        assert resolve(TrainConfig, fields).agent.model_dump()["hidden"] == tuple(agent["hidden"])
    resolve(CollectConfig, {"steps": each.steps, **each.collector})
    assert set(each.agents) == set(offline.LABELS)


def test_a_run_is_made_once(tmp_path):
    made = []
    held = runs.Runs(tmp_path / "new")

    def make():
        made.append(1)
        return {"returns": [1.0]}

    first, again = held.ensure("a", make), held.ensure("a", make)
    assert (first, len(made)) == (again, 1)
    assert again["commit"]
    assert [path.name for path in held.folder.iterdir()] == ["a.json"]


def test_a_run_that_fails_leaves_no_record(tmp_path):
    held = runs.Runs(tmp_path)

    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        held.ensure("a", fail)
    assert held.find("a") is None


def test_seeds_are_read():
    assert runs.seeds_of("0-2,5") == [0, 1, 2, 5]


def write(folder, name, **record):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record))


def ramp(episodes, slope):
    return [slope * at for at in range(episodes)]


def test_scores_are_of_the_episodes_before_a_mark():
    returns = {0: [ramp(20, 1.0), ramp(20, 2.0)]}
    np.testing.assert_allclose(collectors.scores(returns, 2_000, [0]), [[4.5, 9.0]])
    np.testing.assert_allclose(collectors.scores(returns, 4_000, [0]), [[14.5, 29.0]])


def test_a_difference_and_its_interval():
    rng = np.random.default_rng(0)
    mine, theirs = rng.normal(10, 1, (8, 3)), rng.normal(0, 1, (8, 3))
    found = collectors.difference(mine, theirs)
    assert 9 < found.low < found.point < found.high < 11
    same = collectors.difference(mine, mine)
    assert same.low < 0 < same.high
    alone = collectors.difference(mine[:1], theirs)
    assert math.isnan(alone.low)


def test_collections_are_compared_over_the_seeds_that_both_have(plan):
    for seed, steps in plan.steps.items():
        count = steps // 200
        write(plan.folder, f"ours-{seed}", returns=[ramp(count, 2.0 + seed)] * 3, seconds=10.0)
        if seed < 2:
            for index in range(3):
                write(plan.folder, f"sb3-{seed}-{index}", returns=ramp(count, 1.0), seconds=20.0)
    write(plan.folder, "sb3-2-0", returns=ramp(10, 1.0), seconds=20.0)  # the other two are missing
    found = collectors.compare(plan)
    assert [(mark["steps"], mark["seeds"]) for mark in found["marks"]] == [(2_000, [0, 1]), (4_000, [0])]
    assert found["faster"] == pytest.approx(2 * 60 / 20)
    first = found["marks"][0]
    assert first["difference"]["point"] == pytest.approx(np.mean([9.0, 13.5]) - 4.5)
    text = collectors.page(found | {"parity": {"paid": 0.0}})
    assert "2,000" in text
    assert "6.0 times as fast" in text


def test_nothing_to_compare_is_said(plan):
    with pytest.raises(SystemExit, match="no seed"):
        collectors.compare(plan)


def test_curves_are_smoothed_and_drawn():
    np.testing.assert_allclose(curves.smoothed([1.0, 3.0, 5.0], 2), [1.0, 2.0, 4.0])
    np.testing.assert_allclose(curves.mean_of([np.array([0.0, 2.0]), np.array([4.0])]), [2.0, 2.0])
    runs_of = {"a": [[ramp(3, 1.0)] * 2, [ramp(2, 1.0)] * 2], "b": [[ramp(3, -1.0)] * 2]}
    assert curves.overlaid(runs_of, ["one", "two"], 200).startswith(b"\x89PNG")


def test_every_offline_run_has_a_name_and_is_made_in_order(offline_plan):
    names = list(offline.todo(offline_plan, lambda: "log"))
    assert len(names) == len(set(names)) == 2 * (1 + 5 + 2 * 3)
    assert names[0] == "behaviour-0"
    assert "d3rlpy-cql-1-2" in names


def test_offline_policies_are_compared(offline_plan):
    folder = offline_plan.folder
    write(folder, "log", id="x", returns=[ramp(20, 1.0)] * 3)
    for seed in offline_plan.seeds:
        write(folder, f"behaviour-{seed}", returns=[[0.0, 2.0]] * 3)
        write(folder, f"ours-bcq-{seed}", returns=[[10.0 + seed] * 2] * 3, seconds=5.0)
        for index in range(3):
            write(folder, f"d3rlpy-bcq-{seed}-{index}", returns=[4.0, 6.0], seconds=9.0)
    write(folder, "d3rlpy-cql-0-0", returns=[4.0], seconds=9.0)  # the other two tasks are missing
    found = offline.compare(offline_plan)
    assert [row["who"] for row in found["rows"]] == ["behaviour", "ours-bcq", "d3rlpy-bcq"]
    assert [row["iqm"]["point"] for row in found["rows"]] == [1.0, 10.5, 5.0]
    assert [row["seconds"] for row in found["rows"]] == [0.0, 10.0, 54.0]
    assert set(found["differences"]) == {"bcq"}
    assert found["differences"]["bcq"]["point"] == 5.5
    assert (found["log"], found["log_end"]) == ([9.5] * 3, [18.5] * 3)
    text = offline.page(found)
    assert "BCQ, d3rlpy" in text
    assert "- BCQ: 5.5 [5.0, 6.0]" in text
