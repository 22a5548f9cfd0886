"""From rows to episodes, from folder names to a family's tasks, and what can be done with a log that has no family."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.core.errors import CheckFailed, OmrlError, UsageError
from pipelines.formats import Raw, Said
from pipelines.stages.import_episodes import Rules, assemble
from pipelines.stages.import_tasks import tasks_of
from pipelines.tasks import registry
from tests.formats import making
from tests.toys import AGENTS, Talk, run, work

TIME = registry.find("point-semicircle/time")


def raw(data: making.Rows, **more: object) -> Raw:
    """The rows without a word on where episodes end."""
    given = {name: data[name] for name in ("obs", "action", "reward", "next_obs")}
    return Raw(**{**given, **more})


# ---- episodes --------------------------------------------------------------------------------------------------------


def test_deviation_and_splits():
    data = making.rows()
    columns, found = assemble(raw(data), "a", Rules())
    making.assert_log(columns | {"action": columns["action"].astype(np.float32)}, data)
    assert (found.splits, found.deviation) == (2, 0.0)
    bent = data["next_obs"].copy()
    bent[1] += 1e-7
    columns, found = assemble(raw(data, next_obs=bent), "a", Rules())
    assert found.splits == 2
    assert 0 < found.deviation < 1e-6
    bent[1] += 0.1
    columns, found = assemble(raw(data, next_obs=bent), "a", Rules())
    assert found.splits == 3
    slot = int(columns["episode"][1]) + 1 + 1  # the successor of row 1 is kept as the source has it
    np.testing.assert_allclose(columns["obs"][slot], bent[1], rtol=1e-6)


def test_horizon_cuts_what_runs_on():
    data = making.rows(lengths=(12,))
    with pytest.raises(CheckFailed, match="nothing says where an episode ends in 12 rows"):
        assemble(raw(data), "a", Rules())
    columns, _ = assemble(raw(data), "a", Rules(horizon=5))
    np.testing.assert_array_equal(columns["step"], [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1])
    np.testing.assert_array_equal(np.flatnonzero(columns["truncated"]), [4, 9, 11])
    assert len(columns["obs"]) == 15


def test_an_episode_longer_than_the_horizon_is_refused():
    data = making.rows()
    with pytest.raises(CheckFailed, match="an episode has 5 steps, the horizon is 4") as error:
        assemble(raw(data, ends=data["ends"]), "a", Rules(horizon=4))
    assert "--horizon 5" in error.value.hint


def test_terminals_at_the_horizon_are_time_limits_and_others_are_not():
    data = making.rows(lengths=(5, 5, 3), dies=(0, 1))
    columns, found = assemble(raw(data, terminal=data["terminal"]), "a", Rules())
    assert not columns["terminal"].any()
    assert "taken for a time limit" in found.notes[0]
    data = making.rows(lengths=(5, 5, 3), dies=(0, 2))  # the control: one of them comes early
    columns, found = assemble(raw(data, terminal=data["terminal"]), "a", Rules())
    np.testing.assert_array_equal(np.flatnonzero(columns["terminal"]), [4, 12])
    assert found.notes == []


def test_terminals_that_are_ignored_end_nothing():
    data = making.rows(lengths=(6,))
    inside = np.array([0, 1, 1, 0, 0, 1], bool)
    columns, _ = assemble(raw(data, terminal=inside), "a", Rules(horizon=3, terminals="ignore"))
    assert not columns["terminal"].any()
    np.testing.assert_array_equal(columns["episode"], [0, 0, 0, 1, 1, 1])
    columns, _ = assemble(raw(data, terminal=inside), "a", Rules(horizon=3))
    np.testing.assert_array_equal(np.flatnonzero(columns["terminal"]), [1, 2, 5])


def trials(start: str) -> making.Rows:
    """Two trials of two episodes of 3 steps, with the done flag as BOReL's code stores it."""
    rng = np.random.default_rng(0)
    obs, after = [], []
    for trial in range(2):
        for episode in range(2):
            path = rng.normal(size=(4, 2))
            path[0] = 0.0 if start == "fixed" else rng.normal(size=2)
            before = np.column_stack([path[:-1], np.zeros(3)])
            if episode == 1:
                before[0] = after[-1]
            obs.extend(before)
            after.extend(np.column_stack([path[1:], [0, 0, 1]]))
        assert trial in (0, 1)
    count = len(obs)
    return {
        "obs": np.array(obs),
        "next_obs": np.array(after),
        "action": rng.uniform(-1, 1, (count, 2)),
        "reward": np.arange(count, dtype=float)[:, None],
    }


def test_borels_done_flag_tells_the_horizon_and_the_start_is_put_back():
    columns, found = assemble(raw(trials("fixed")), "a", Rules())
    assert found.horizon == 3
    np.testing.assert_array_equal(columns["step"], [0, 1, 2] * 4)
    assert columns["obs"].shape == (16, 2)
    np.testing.assert_array_equal(columns["obs"][::4], np.zeros((4, 2)))


def test_a_start_that_is_not_stored_is_left_out():
    columns, found = assemble(raw(trials("anywhere")), "a", Rules())
    np.testing.assert_array_equal(columns["reward"], [0, 1, 2, 4, 5, 6, 7, 8, 10, 11])
    np.testing.assert_array_equal(columns["episode"], [0, 0, 0, 1, 1, 2, 2, 2, 3, 3])
    assert "the first row of 2 episodes" in found.notes[0]


def test_a_column_of_bits_that_is_no_done_flag_stays():
    data = trials("fixed")
    data["next_obs"][4, -1] = 1.0  # not every third row
    columns, found = assemble(raw(data), "a", Rules(horizon=3))
    assert columns["obs"].shape[1] == 3
    assert found.horizon is None


# ---- tasks -----------------------------------------------------------------------------------------------------------


def said(name: str, numbers: tuple[float, ...] = (), **params: float) -> Said:
    return Said(name, lambda: None, params, numbers)  # type: ignore[arg-type,return-value]


def test_tasks_of_a_family():
    """By rounded numbers in a folder's name, by named params, by name."""
    rounded = tasks_of([said("seed_1_goal_0.0_10.0", (0.0, 10.0)), said("seed_2_goal_10.0_0.0", (10.0, 0.0))], TIME)
    assert [task.name for task in rounded] == ["90deg", "0deg"]
    assert tasks_of([said("whatever", angle=180.0)], TIME)[0].id == 180_000
    assert tasks_of([said("90deg")], TIME)[0].params["y"] == 10.0
    new = tasks_of([said("mine", angle=45.0, x=7.07, y=7.07)], TIME)[0]
    assert new.params == {"angle": 45.0, "x": 7.07, "y": 7.07}
    assert new.id not in {task.id for task in TIME.tasks("train")}


@pytest.mark.parametrize(
    ("tasks", "match"),
    [
        ([said("goal_3", (3.0, 4.0))], r"goal_3 \(.*\) is no task of point-semicircle/time"),
        ([said("nameless")], "nameless does not say which task"),
        ([said("a", speed=1.0)], "a has a param 'speed', point-semicircle/time has none"),
        ([said("a", angle=90.0), said("b", angle=90.0)], "a and b have the same task id of point-semicircle/time"),
    ],
)
def test_tasks_that_a_family_does_not_have(tasks, match):
    with pytest.raises((UsageError, CheckFailed), match=match):
        tasks_of(tasks, TIME)


def test_tasks_without_a_family_are_numbered():
    tasks = tasks_of([said("a", (0.5,)), said("b", (1.5,))], None)
    assert [(task.id, task.params) for task in tasks] == [(0, {"p0": 0.5}), (1, {"p0": 1.5})]
    with pytest.raises(CheckFailed, match="different params"):
        tasks_of([said("a", (0.5,)), said("b", (1.5, 2.0))], None)


# ---- the stage -------------------------------------------------------------------------------------------------------


def point_folder(root: Path, shift: float = 0.0) -> Path:
    """BOReL's layout of the point family: goals x_y in the folders' names, rewards `shift` off."""
    tasks, goals = [], []
    for task in TIME.tasks("train"):
        rng = np.random.default_rng(task.id)
        action = rng.uniform(-1, 1, (40, 2)).astype(np.float32)
        place = np.stack([np.cumsum(np.vstack([np.zeros((1, 2)), part]), 0) for part in action.reshape(2, 20, 2)])
        after = place[:, 1:].reshape(-1, 2)
        paid = -np.hypot(after[:, 0] - task.params["x"], after[:, 1] - task.params["y"]) + shift
        rows = {"obs": place[:, :-1].reshape(-1, 2), "next_obs": after, "action": action, "reward": paid[:, None]}
        tasks.append(rows)
        goals.append(f"{task.params['x']:.3f}_{task.params['y']:.3f}")
    return making.borel(root, tasks, goals)


def said_of(source: Path, **fields: object) -> list[str]:
    """What the stage says."""
    from pipelines.stages.registry import STAGES

    talk = Talk()
    STAGES["import"].load()(work("import", {}, {"source": str(source), **fields}, tell=talk))
    return talk.notes


def test_a_family_gives_space_horizon_and_tasks(tmp_path: Path):
    source = point_folder(tmp_path / "p")
    log = run("import", None, {"source": str(source), "family": "point-semicircle/time"})
    assert [task["id"] for task in log.card.tasks] == [0, 90_000, 180_000]
    assert (log.card.extra["horizon"], log.card.extra["discount"]) == (20, 0.95)
    assert len(log.tree["task_0000"]["returns"]) == 2


def test_rewards_are_compared_with_the_familys(tmp_path: Path):
    name = {"family": "point-semicircle/time"}
    assert "rewards are those of point-semicircle/time" in " ".join(said_of(point_folder(tmp_path / "a"), **name))
    off = said_of(point_folder(tmp_path / "b", 0.5), **name)
    assert "rewards are not those of point-semicircle/time: they differ by up to 0.5" in " ".join(off)


def test_what_the_family_needs_and_the_log_lacks_is_named(tmp_path: Path):
    making.borel(tmp_path / "c", [making.rows(n, dims=20) for n in (0, 1)], ("0.689", "0.778"))
    data = making.rows(0, dims=20)
    for folder in (tmp_path / "c").iterdir():
        np.save(folder / "actions.npy", np.repeat(data["action"], 3, 1))
    notes = said_of(tmp_path / "c", family="halfcheetah-vel/mbml")
    assert any(note.startswith("the log lacks") and "reward cannot be computed" in note for note in notes)


def test_another_familys_observations_are_refused(tmp_path: Path):
    source = making.borel(tmp_path / "b", goals=("0.000_10.000", "10.000_0.000"))
    with pytest.raises(OmrlError, match=r"observations are \[3\], point-semicircle/time's are \[2\]"):
        run("import", None, {"source": str(source), "family": "point-semicircle/time"})


def test_training_works_without_a_family(tmp_path: Path):
    log = run("import", None, {"source": str(making.borel(tmp_path / "b"))})
    log.card.id = "log"
    agent = {"agent": AGENTS["batch-sac"]}
    assert run("train", {"log": log}, agent).card.extra["family"] == ""
    policy = run("metatrain", {"log": log}, agent)
    with pytest.raises(UsageError, match="an imported log without a family") as error:
        run("eval", {"policy": policy})
    assert "--family" in error.value.hint


def test_discrete_actions_are_recognised(tmp_path: Path):
    source = making.borel(tmp_path / "b")
    choices = {}
    for folder in sorted(source.iterdir()):
        choices[folder.name] = np.arange(13) % 5
        np.save(folder / "actions.npy", np.eye(5)[choices[folder.name]])
    log = run("import", None, {"source": str(source)})
    assert log.card.extra["space"]["num_actions"] == 5
    np.testing.assert_array_equal(log.tree["task_0000"]["action"], choices["seed_73_goal_0.500"])
    plain = run("import", None, {"source": str(source), "actions": "continuous"})
    assert plain.tree["task_0000"]["action"].shape == (13, 5)


def test_images_stay_bytes(tmp_path: Path):
    data = making.rows(lengths=(4,))
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3)).astype(np.uint8)
    np.savez(
        tmp_path / "one.npz",
        observations=images[:-1],
        next_observations=images[1:],
        actions=data["action"],
        rewards=data["reward"],
        timeouts=data["ends"],
    )
    log = run("import", None, {"source": str(tmp_path / "one.npz")})
    assert log.tree["task_0000"]["obs"].dtype == np.uint8
    np.testing.assert_array_equal(log.tree["task_0000"]["obs"], images)
    assert log.card.extra["space"]["obs_dtype"] == "uint8"
