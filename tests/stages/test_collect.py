"""What collect records, on the point family run tiny, and on a family whose episodes terminate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.configs.base import resolve
from pipelines.core.configs.stages import CollectConfig
from pipelines.core.errors import UsageError
from pipelines.core.types import Log, transitions
from pipelines.stages import collect, learners
from pipelines.tasks import point, registry
from tests.lines import line
from tests.toys import AGENTS, Stored, bits, log_of, run

TINY = {"steps": 90, "random_steps": 60, "block_steps": 30, "num_snapshots": 3, "agent": AGENTS["sac"]}


def extended(split: str):
    """The three goals and a fourth between them."""
    return point.tasks_at([0.0, 90.0, 180.0, 45.0], split) if split == "train" else ()


@pytest.fixture(scope="module")
def four() -> Stored:
    """The logs of four goals."""
    patch = pytest.MonkeyPatch()
    patch.setattr(registry, "find", lambda name: dataclasses.replace(point.TIME, tasks=extended))
    try:
        return run("collect", {}, TINY)
    finally:
        patch.undo()


@pytest.fixture(scope="module")
def three() -> Stored:
    return run("collect", {}, TINY)


def test_every_transition_is_there_in_order(three):
    for task in range(3):
        log = log_of(three, task)
        assert log.size == 90
        assert len(log.obs) == 95  # 90 rows in five episodes of at most 20
        np.testing.assert_array_equal(log.episode, np.arange(90) // 20)
        np.testing.assert_array_equal(log.step, np.arange(90) % 20)
        np.testing.assert_array_equal(np.flatnonzero(log.truncated), [19, 39, 59, 79, 89])
        assert not log.terminal.any()
        rows = transitions(log, np.arange(90))
        np.testing.assert_array_equal(rows.obs[::20], np.zeros((5, 2)))
        np.testing.assert_allclose(rows.next_obs, rows.obs + np.clip(rows.action, -1, 1), atol=1e-6)
        goal = three.card.tasks[task]["params"]
        away = np.hypot(*(rows.next_obs - [goal["x"], goal["y"]]).T)
        np.testing.assert_allclose(log.reward, -away, rtol=1e-5)


def test_returns_are_those_of_the_episodes(three):
    columns = three.tree["task_0001"]
    want = [columns["reward"][start : start + 20].sum() for start in range(0, 90, 20)]
    np.testing.assert_allclose(columns["returns"], want, rtol=1e-5)


def test_learning_begins_after_the_random_steps(three):
    """`behaviour` counts the updates that had been done: 0 up to and at the first step that learns."""
    np.testing.assert_array_equal(log_of(three, 0).behaviour, np.maximum(np.arange(90) - 60, 0))
    np.testing.assert_array_equal(three.tree["snapshot_step"], [30, 60, 90])
    kernels = three.tree["snapshots"]["actor"]["Dense_0"]["kernel"]  # [S, T, ...]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[1] != kernels[2]).any()


def test_random_actions_fill_the_box_and_differ_by_task(three):
    actions = np.stack([log_of(three, task).action for task in range(3)])
    assert np.abs(actions).max() <= 1
    assert (actions[:, :60].max((1, 2)) > 0.9).all()
    assert (actions[:, :60].min((1, 2)) < -0.9).all()
    assert (actions[0, :60] != actions[1, :60]).any()


def test_a_fourth_task_leaves_the_other_logs_their_bits(three, four):
    assert len(four.card.tasks) == 4
    for task in range(3):
        for name, column in three.tree[f"task_{task:04d}"].items():
            assert column.tobytes() == four.tree[f"task_{task:04d}"][name].tobytes(), (task, name)
    assert log_of(four, 3).reward.tobytes() != log_of(four, 0).reward.tobytes()


@pytest.fixture(scope="module")
def two() -> Stored:
    """The first two of the three."""
    return run("collect", {}, TINY, {"num_tasks": 2})


def test_the_first_tasks_alone_keep_their_ids_and_streams(two, three):
    assert two.card.tasks == three.card.tasks[:2]
    assert set(two.tree) == set(three.tree) - {"task_0002"}
    assert two.card.extra["transitions"] == 180
    for task in range(2):
        for name in ("obs", "action", "reward"):
            mine, own = (getattr(log_of(made, task), name)[:60] for made in (two, three))
            np.testing.assert_array_equal(mine, own, err_msg=name)


@pytest.mark.optimised
def test_the_first_tasks_alone_leave_the_same_bits(two, three):
    """What was learned, too: a device that has one task runs another program than one that has two."""
    for task in range(2):
        for name, column in three.tree[f"task_{task:04d}"].items():
            assert column.tobytes() == two.tree[f"task_{task:04d}"][name].tobytes(), (task, name)
    mine, own = (made.tree["snapshots"] for made in (two, three))
    assert bits(mine) == bits(jax.tree.map(lambda leaf: leaf[:, :2], own))


def test_some_of_the_tasks():
    """The first ones, or spread from the first to the last; a log of those has their names and their own bits."""
    every = registry.find("halfcheetah-vel/time").tasks("train")
    assert [task.name for task in collect.some_of(every, 2, "first")] == ["0.05 m/s", "0.1 m/s"]
    spread = [every.index(task) for task in collect.some_of(every, 10, "spread")]
    assert spread == [0, 3, 6, 9, 12, 16, 19, 22, 25, 28]
    assert collect.some_of(every, None, "spread") == collect.some_of(every, 29, "spread") == every
    assert collect.some_of(every, 1, "spread") == every[:1]


def test_a_log_of_spread_tasks_has_the_bits_of_the_same_tasks_among_all(three):
    ends = run("collect", {}, TINY, {"num_tasks": 2, "which_tasks": "spread"})
    assert list(ends.card.tasks) == [three.card.tasks[0], three.card.tasks[2]]
    for mine, own in ((0, 0), (1, 2)):
        for name, column in ends.tree[f"task_{mine:04d}"].items():
            assert column.tobytes() == three.tree[f"task_{own:04d}"][name].tobytes(), (mine, name)


def test_tasks_that_there_are_not(monkeypatch):
    """Of a listed family nobody has to build it to know; of one's own, collect says so before anything is collected."""
    with pytest.raises(UsageError, match="num_tasks=4: point-semicircle/time has 3 training tasks") as caught:
        resolve(CollectConfig, {"num_tasks": 4})
    assert caught.value.hint == "--set num_tasks=3 takes them all"
    with pytest.raises(UsageError, match="'num_tasks'"):
        resolve(CollectConfig, {"num_tasks": 0})
    assert resolve(CollectConfig, {"num_tasks": 3}).identity()["num_tasks"] == 3
    assert "num_tasks" not in resolve(CollectConfig, {"num_tasks": None}).identity()
    monkeypatch.setattr(registry, "find", lambda name: line())
    with pytest.raises(UsageError, match=r"num_tasks=2: line/toy has 1 training task$"):
        run("collect", {}, TINY, {"family": "line/toy", "num_tasks": 2})


@pytest.mark.slow
def test_mapped_as_one_batch_the_logs_are_nearly_the_same(three):
    """`vmap` is what an accelerator takes; rounding differs, and 30 updates have not yet made more of it."""
    batched = run("collect", {}, TINY, {"mapping": "vmap"})
    for task in range(3):
        mine, own = log_of(batched, task), log_of(three, task)
        for name in ("obs", "action", "reward"):
            np.testing.assert_allclose(getattr(mine, name), getattr(own, name), rtol=1e-3, atol=1e-3, err_msg=name)
        np.testing.assert_array_equal(mine.episode, own.episode)


def test_what_the_next_stage_needs_is_on_the_card(three):
    extra = three.card.extra
    assert {name: extra[name] for name in ("family", "horizon", "discount", "algorithm", "transitions")} == {
        "family": "point-semicircle/time",
        "horizon": 20,
        "discount": 0.95,
        "algorithm": "sac",
        "transitions": 270,
    }
    logs, tasks, space, _ = learners.read_log(three)
    assert space == point.SPACE
    assert [task.id for task in tasks] == [0, 90_000, 180_000]
    assert logs.reward.shape == (3, 90)


# ---- episodes that terminate -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def walked() -> tuple[Log, np.ndarray, np.ndarray]:
    """(log, running return, whether the episode ended) [N] of random steps on a line that ends at 1.5."""
    family = line(horizon=6, ends_at=1.5)
    config = resolve(CollectConfig, {"steps": 60, "random_steps": 60, "block_steps": 60, "agent": AGENTS["sac"]})
    algorithm = learners.make("sac", config.agent, family.space, family.discount)
    task = jnp.array([2.0])

    def scan(key):
        carry = collect.begin(family, algorithm, config, task, key)

        def one(carry, n):
            return collect.interact(family, algorithm, config, carry, n, task, jax.random.fold_in(key, n))

        carry, (total, done) = jax.lax.scan(one, carry, jnp.arange(60))
        return carry.recorder.log, total, done

    return jax.tree.map(np.asarray, jax.jit(scan)(jax.random.key(0)))


def test_terminal_rows_end_their_episodes(walked):
    log, _, done = walked
    rows = transitions(log, np.arange(60))
    np.testing.assert_array_equal(rows.terminal, rows.next_obs[:, 0] >= 1.5)
    assert rows.terminal.any()
    assert rows.truncated.any()
    np.testing.assert_array_equal(done[:-1], (rows.terminal | rows.truncated)[:-1])
    np.testing.assert_allclose(rows.next_obs, rows.obs + rows.action, atol=1e-6)
    starts = np.concatenate([[True], done[:-1]])
    assert np.isin(rows.obs[starts], [0.0, 0.5]).all()
    np.testing.assert_array_equal(log.step == 0, starts)


def test_the_running_return_is_that_of_the_episode(walked):
    log, total, done = walked
    returns = collect.episode_returns(log)
    np.testing.assert_allclose(total[done], returns[: done.sum()], rtol=1e-5)
    assert len(returns) == log.episode[-1] + 1
