"""Several environments of a task, updates in blocks, warm-ups, snapshots and what is kept: on both kinds of engine."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.configs.base import resolve
from pipelines.core.configs.stages import CollectConfig
from pipelines.core.errors import UsageError
from pipelines.core.types import Log, transitions
from pipelines.stages import learners, pacing
from pipelines.stages.blocks import Plan
from pipelines.stages.registry import STAGES
from pipelines.tasks import registry
from tests.lines import hosted, line
from tests.toys import AGENTS, Memory, Stored, Talk, bits, log_of, make_log, run, stacked, stored, work

TINY = {
    "family": "line/toy",
    "steps": 60,
    "random_steps": 20,
    "block_steps": 10,
    "num_snapshots": 3,
    "agent": AGENTS["sac"],
}
FAMILY = line(horizon=7, ends_at=0.9, num_tasks=3)
ENGINES = {"device": FAMILY, "host": hosted(FAMILY)}


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find", lambda name: ENGINES["device"])


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find", lambda name: ENGINES["host"])


def collect(*layers, checkpoint=None, tell=None) -> Stored:
    order = work("collect", {}, TINY, *layers, checkpoint=checkpoint, tell=tell)
    return stored("collect", STAGES["collect"].load()(order), order.config)


def assert_near(mine: Log, own: Log) -> None:
    for name in ("terminal", "truncated", "episode", "step", "behaviour", "size"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(own, name), err_msg=name)
    for name in ("obs", "action", "reward", "outcome"):
        np.testing.assert_allclose(getattr(mine, name), getattr(own, name), rtol=1e-3, atol=1e-4, err_msg=name)


def of_both_engines(monkeypatch, *layers) -> tuple[Stored, Stored]:
    found = []
    for family in ENGINES.values():
        monkeypatch.setattr(registry, "find", lambda name, family=family: family)
        found.append(collect(*layers))
    return found[0], found[1]


# ---- several environments --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("host")
def test_episodes_of_all_environments_are_whole_and_in_order():
    artifact = collect({"num_envs": 5})
    for task in range(3):
        log = log_of(artifact, task)
        assert log.size == 60
        rows = transitions(log, np.arange(60))
        ended = rows.terminal | rows.truncated
        np.testing.assert_array_equal(log.step == 0, np.append(True, ended[:-1]))
        np.testing.assert_array_equal(log.episode, np.cumsum(log.step == 0) - 1)
        assert len(log.obs) == 60 + log.episode[-1] + 1
        np.testing.assert_allclose(rows.next_obs, rows.obs + rows.action, atol=1e-6)
        assert np.isin(rows.obs[log.step == 0], [0.0, 0.5]).all()
        inside = ~ended[:-1]
        np.testing.assert_array_equal(rows.next_obs[:-1][inside], rows.obs[1:][inside])
        cut = rows.truncated & (log.step < 6)
        assert cut.sum() <= 5  # recording stopped, once in each
        opened = log.behaviour[log.step == 0]
        assert (np.diff(opened) >= 0).all()  # episodes stand in the order in which they began
        assert opened[-1] > 0
        assert (log.step == 0)[0] and len(np.unique(rows.action)) == 60  # nothing is there twice


def test_environments_of_both_engines_give_the_same_log(monkeypatch):
    """In blocks of one control step of two environments, and the two updates that follow it."""
    device, host = of_both_engines(monkeypatch, {"num_envs": 2, "block_steps": 2})
    for task in range(3):
        assert_near(log_of(host, task), log_of(device, task))
    np.testing.assert_array_equal(np.unique(log_of(device).behaviour), np.arange(0, 40, 2))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_with_environments_same_bits_twice_and_resumed(monkeypatch, engine):
    monkeypatch.setattr(registry, "find", lambda name: ENGINES[engine])
    layer = {"num_envs": 2, "block_steps": 2 if engine == "device" else 10}
    kept = Memory(every=12 if engine == "device" else 2)
    whole = collect(layer, checkpoint=kept)
    assert bits(collect(layer)) == bits(whole)
    assert len(kept.kept) == 2
    for held in list(kept.kept):
        assert bits(collect(layer, checkpoint=Memory(kept=[held]))) == bits(whole)


@pytest.mark.slow
def test_a_simulator_that_cannot_be_restored_cuts_the_episodes_of_all_its_environments(monkeypatch):
    family = hosted(line(horizon=7, num_tasks=3), restorable=False)
    monkeypatch.setattr(registry, "find", lambda name: family)
    kept = Memory(every=1)
    collect({"num_envs": 2}, checkpoint=kept)
    held = next(one for one in kept.kept if one[0] == 20)  # ten steps in each environment: three of the second episode
    log = log_of(collect({"num_envs": 2}, checkpoint=Memory(kept=[held])), 1)
    np.testing.assert_array_equal(np.bincount(log.episode), [7, 7, 3, 3, 7, 7, 7, 7, 6, 6])
    rows = transitions(log, np.arange(60))
    np.testing.assert_allclose(rows.next_obs, rows.obs + rows.action, atol=1e-6)


def test_replay_is_drawn_from_all_environments():
    logs = jax.tree.map(jnp.asarray, stacked(make_log(0), make_log(1)))._replace(size=jnp.array([5, 5]))
    config = resolve(CollectConfig, TINY, {"num_envs": 2, "agent": {"batch_size": 512}})
    space = FAMILY.space._replace(obs_shape=(3,), action_shape=(2,), low=(-0.1,) * 2, high=(0.1,) * 2)
    algorithm = learners.make("sac", config.agent, space, 0.9)
    batch = pacing.draw_from(config, algorithm, space)(logs, jax.random.key(0))
    np.testing.assert_array_equal(np.unique(batch.reward), np.sort(logs.reward[:, :5].reshape(-1)))
    row = int(np.flatnonzero(np.asarray(batch.reward) == np.asarray(logs.reward[1, 3]))[0])
    np.testing.assert_allclose(batch.action[row], logs.action[1, 3] / 0.1, rtol=1e-6)  # in the learner's box


# ---- updates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({}, {0: -500, 500: 0, 501: 1, 1000: 500}),
        ({"block_updates": 1000}, {0: -1000, 500: 0, 1000: 1000, 2_000_500: 4_000_000}),
        ({"block_updates": 50}, {500: 0, 1000: 50, 5500: 500}),
        ({"block_updates": 3, "random_steps": 400}, {400: 0, 500: 0, 1000: 3, 1500: 6}),
        ({"block_updates": 2000, "random_steps": 450}, {500: 200, 1000: 2200}),
    ],
)
def test_updates_that_are_due(fields, want):
    config = resolve(CollectConfig, {"steps": 2_500_000, "random_steps": 500, "block_steps": 500}, fields)
    assert {step: pacing.updates_at(config, step) for step in want} == want
    traced = jax.jit(lambda step: pacing.updates_at(config, step))
    assert {step: int(traced(np.int32(step))) for step in want} == want


@pytest.mark.slow
def test_a_block_is_followed_by_its_updates_on_both_engines(monkeypatch):
    device, host = of_both_engines(monkeypatch, {"block_updates": 15, "num_snapshots": 6})
    for task in range(3):
        assert_near(log_of(host, task), log_of(device, task))
    np.testing.assert_array_equal(log_of(device).behaviour, np.maximum(np.arange(60) // 10 - 2, 0) * 15)
    kernels = device.tree["snapshots"]["actor"]["Dense_0"]["kernel"]  # [S, T, ...]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[1] != kernels[2]).any()


def test_as_many_updates_are_made_as_are_counted():
    """A DQN's epsilon falls by a hundredth with every update that follows the two blocks of warm-up."""
    fields = {"family": "gridworld/borel", "steps": 40, "random_steps": 20, "block_steps": 10, "num_snapshots": 4}
    agent = {**AGENTS["dqn"], "explore_steps": 100, "explore_end": 0.0}
    for more, left in (({"block_updates": 20}, [1, 1, 0.8, 0.6]), ({"num_envs": 5}, [1, 1, 0.9, 0.8])):
        log = run("collect", {}, fields, {"agent": agent}, more)
        np.testing.assert_allclose(log.tree["snapshots"]["epsilon"][:, 0], left, rtol=1e-5, err_msg=str(more))


# ---- who acts at the start -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("host")
def test_the_untrained_policy_may_act_in_the_warm_up():
    """TD3's policy without noise: what it does in the warm-up is a function of the observation."""
    agent = {**AGENTS["td3"], "explore_noise": 0.0}
    layer = {"algorithm": "td3", "agent": agent, "steps": 20}
    own, anyone = (log_of(collect(layer, {"warmup": warmup})) for warmup in ("policy", "uniform"))
    starts = transitions(own, np.arange(20))
    assert len(np.unique(starts.action[own.step == 0])) <= 2  # there are two places to start from
    assert len(np.unique(anyone.action[anyone.step == 0])) > 2


# ---- what is kept ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("device")
@pytest.mark.slow
def test_the_rows_that_are_kept_are_those_of_the_whole_log():
    whole = collect()
    first, last = collect({"keep": "first:25"}), collect({"keep": "last:25"})
    assert whole.card.extra["transitions"] == 180
    assert "kept" not in whole.card.extra
    assert first.card.extra["transitions"] == 75
    assert first.card.extra["kept"] == {"rule": "first:25", "collected": 180}
    assert last.card.extra["transitions"] <= 75
    for task in range(3):
        everything, some, late = log_of(whole, task), log_of(first, task), log_of(last, task)
        for name in ("action", "reward", "step", "behaviour"):
            np.testing.assert_array_equal(getattr(some, name), getattr(everything, name)[:25], err_msg=name)
            np.testing.assert_array_equal(getattr(late, name), getattr(everything, name)[60 - int(late.size) :])
        assert some.truncated[-1] or some.terminal[-1]
        assert late.step[0] == 0
        returns = first.tree[f"task_{task:04d}"]["returns"]
        np.testing.assert_allclose(returns, np.bincount(some.episode, weights=some.reward), rtol=1e-5)
    for name in ("actor", "critics"):  # the behaviour policies are those that ended, whatever rows are kept
        assert bits(Stored(None, whole.tree["snapshots"][name])) == bits(Stored(None, first.tree["snapshots"][name]))
    learners.read_log(first)


# ---- snapshots -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "block", "every", "want"),
    [
        (60, 10, 20, [20, 40, 60]),
        (60, 10, 25, [30, 50, 60]),  # the first block ends after 25 and 50
        (60, 10, 3, [10, 20, 30, 40, 50, 60]),
        (60, 10, 60, [60]),
        (60, 10, 99, [60]),
        (50, 10, 20, [20, 40, 50]),  # and the end, always
    ],
)
def test_snapshots_every_so_many_steps(total, block, every, want):
    assert Plan(total, block, 3, "step", "loss", every=every).snapshot_steps() == want


@pytest.mark.usefixtures("device")
def test_a_user_says_every_how_many_steps():
    found = collect({"snapshot_every": 20, "num_snapshots": 0})
    np.testing.assert_array_equal(found.tree["snapshot_step"], [20, 40, 60])
    assert found.tree["snapshots"]["actor"]["Dense_0"]["kernel"].shape[:2] == (3, 3)


# ---- physics beside the learner --------------------------------------------------------------------------------------


def test_what_moves_inside_the_program_cannot_be_overlapped(monkeypatch):
    monkeypatch.setattr(registry, "find", lambda name: FAMILY)
    tell = Talk()
    with pytest.raises(UsageError, match="overlap: line/toy moves inside the program") as caught:
        collect({"overlap": True}, tell=tell)
    assert "engine=mujoco" in caught.value.hint
    assert not tell.rows
