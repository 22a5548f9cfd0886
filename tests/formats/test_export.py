"""What is exported comes back the same, and others can read it."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines import formats
from pipelines.core.errors import UsageError
from pipelines.core.types import Log, Space
from pipelines.stages import export
from tests.toys import GRID, SPACE, Stored, log_artifact, make_log, run

IMAGES = Space(obs_shape=(4, 4, 3), obs_dtype="uint8", action_shape=(2,), low=(-1.0, -1.0), high=(1.0, 1.0))


def toy(space: Space, lengths=(4, 3, 5)) -> Stored:
    """Two tasks with terminals, outcomes, behaviour, a second task of another size."""
    log = log_artifact(2, family="")
    for number in (0, 1):
        made = make_log(number, lengths[number:], space=space)
        size = len(made.reward)
        obs = made.obs
        if space.obs_dtype == "uint8":
            obs = np.random.default_rng(0).integers(0, 256, obs.shape).astype(np.uint8)
        made = made._replace(
            obs=obs,
            outcome=np.random.default_rng(1).normal(size=(size, 2)).astype(np.float32),
            behaviour=np.arange(size, dtype=np.int32),
        )
        log.tree[f"task_{number:04d}"] = {name: np.array(column) for name, column in made._asdict().items()}
    log.card.extra["space"] = space.to_json()
    return log


def point() -> Stored:
    return run("collect", None, {"steps": 60, "random_steps": 50, "block_steps": 30, "agent": {"hidden": (4,)}})


LOGS: dict[str, Callable[[], Stored]] = {
    "point": point,
    "plain": lambda: toy(SPACE),
    "discrete": lambda: toy(GRID),
    "images": lambda: toy(IMAGES),
}


@pytest.fixture(scope="module", params=LOGS)
def log(request: pytest.FixtureRequest) -> Stored:
    return LOGS[request.param]()


@pytest.mark.parametrize("format", formats.WRITERS)
def test_round_trip(log: Stored, format: str, tmp_path: Path):
    list(export.export(log, tmp_path / "out", format, False))
    back = run("import", None, {"source": str(tmp_path / "out")})
    assert back.card.tasks == log.card.tasks
    for name in ("family", "space", "horizon", "discount"):
        assert json.dumps(back.card.extra[name]) == json.dumps(log.card.extra[name])
    for index in range(len(log.card.tasks)):
        was, now = log.tree[f"task_{index:04d}"], back.tree[f"task_{index:04d}"]
        for name in Log._fields:
            np.testing.assert_array_equal(now[name], was[name], err_msg=name)
            assert now[name].dtype == np.asarray(was[name]).dtype, name


@pytest.mark.parametrize("format", formats.WRITERS)
def test_without_the_manifest_what_the_layout_says_is_still_there(format: str, tmp_path: Path):
    """As somebody else would read it: rows and episodes, not ids and names."""
    log = point()
    list(export.export(log, tmp_path / "out", format, False))
    (tmp_path / "out" / "omrl.json").unlink()
    back = run("import", None, {"source": str(tmp_path / "out"), "horizon": 20})
    for index in range(3):
        was, now = log.tree[f"task_{index:04d}"], back.tree[f"task_{index:04d}"]
        for name in ("obs", "action", "reward", "terminal", "episode", "step"):
            np.testing.assert_array_equal(now[name], was[name], err_msg=name)


@pytest.mark.parametrize("kind", ["plain", "discrete", "images"])
def test_minari_reads_what_we_write(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import minari

    log = LOGS[kind]()
    list(export.export(log, tmp_path / "out", "minari", False))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "out"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = minari.load_dataset("omrl/0000-toy-0-v0")
    columns = log.tree["task_0000"]
    assert dataset.total_episodes == 3
    assert dataset.total_steps == 12
    space = Space.from_json(log.card.extra["space"])
    assert dataset.observation_space.shape == space.obs_shape
    slot = 0
    for number, episode in enumerate(dataset.iterate_episodes()):
        rows = np.flatnonzero(columns["episode"] == number)
        np.testing.assert_array_equal(episode.observations, columns["obs"][slot : slot + len(rows) + 1])
        np.testing.assert_array_equal(episode.actions, columns["action"][rows])
        np.testing.assert_allclose(episode.rewards, columns["reward"][rows])
        np.testing.assert_array_equal(episode.terminations, columns["terminal"][rows])
        np.testing.assert_array_equal(episode.truncations, columns["truncated"][rows])
        assert all(dataset.action_space.contains(action) for action in episode.actions)
        slot += len(rows) + 1


def test_borels_arrays_are_as_its_code_stores_them(tmp_path: Path):
    list(export.export(toy(GRID), tmp_path / "out", "borel", False))
    folder = tmp_path / "out" / "seed_0_goal_0.000"
    found = {path.stem: np.load(path) for path in folder.glob("*.npy")}
    assert {found[name].dtype.name for name in ("obs", "actions", "rewards", "next_obs")} == {"float64"}
    assert found["terminals"].dtype == np.uint8
    assert [found[name].shape for name in ("obs", "actions", "rewards", "terminals")] == [
        (12, 3),
        (12, 4),
        (12, 1),
        (12, 1),
    ]
    assert (found["actions"].sum(1) == 1).all()


def test_nothing_is_overwritten(tmp_path: Path):
    log, target = toy(SPACE), tmp_path / "out"
    list(export.export(log, target, "npz", False))
    before = (target / "omrl.json").read_bytes()
    with pytest.raises(UsageError, match="exists"):
        list(export.export(log, target, "borel", False))
    assert (target / "omrl.json").read_bytes() == before
    list(export.export(log, target, "borel", True))
    assert json.loads((target / "omrl.json").read_text())["format"] == "borel"
    assert not list(target.glob("*.npz"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="is no export of omrl"):
        list(export.export(log, tmp_path / "mine", "npz", True))
    assert (tmp_path / "mine" / "thesis.tex").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out"]


def test_a_manifest_may_not_lead_out(tmp_path: Path):
    list(export.export(toy(SPACE), tmp_path / "out", "npz", False))
    (tmp_path / "out" / "0000-toy-0.npz").rename(tmp_path / "0000-toy-0.npz")
    body = json.loads((tmp_path / "out" / "omrl.json").read_text())
    body["tasks"][0]["path"] = "../0000-toy-0.npz"
    (tmp_path / "out" / "omrl.json").write_text(json.dumps(body))
    with pytest.raises(Exception, match="leads out of"):
        run("import", None, {"source": str(tmp_path / "out")})
