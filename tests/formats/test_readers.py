"""Every format by hand: what it is taken for, and that the rows come out as they went in."""

import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from pipelines import formats
from pipelines.core.errors import UsageError
from tests.toys import Stored, run

from . import making

PLAIN = {"npz": making.npz, "macaw": making.macaw, "focal": making.focal, "mbml": making.mbml, "d4rl": making.d4rl}
WHOLE = ("npz", "macaw", "focal", "mbml")  # with next_obs
PICKLES = ("focal", "mbml")


def imported(source: Path, **fields: object) -> Stored:
    return run("import", None, {"source": str(source), **fields})


@pytest.fixture
def minari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Minari wants an author, a permalink, ...
        return making.minari(tmp_path / "minari", monkeypatch)


def test_detection(tmp_path: Path, minari: Path):
    assert formats.detect(minari)[0] == "minari"
    assert formats.detect(making.borel(tmp_path / "borel")) == ("borel", "2 folder(s) like seed_73_goal_0.500")
    for name, make in PLAIN.items():
        assert formats.detect(make(tmp_path / name))[0] == name
    (tmp_path / "notes").mkdir()
    with pytest.raises(UsageError, match="cannot tell the format") as error:
        formats.detect(tmp_path / "notes")
    assert "--mapping" in error.value.hint


def test_borel(tmp_path: Path):
    """Its terminals are not ends, the horizon says where those are, and folder names say the goals."""
    log = imported(making.borel(tmp_path / "b", [making.rows(0, (5, 5)), making.rows(1, (5, 5))]), horizon=5)
    for number in (0, 1):
        making.assert_log(log.tree[f"task_{number:04d}"], making.rows(number, (5, 5)))
    assert [task["params"] for task in log.card.tasks] == [{"p0": 0.5}, {"p0": 1.25}]
    assert [task["name"] for task in log.card.tasks] == ["seed_73_goal_0.500", "seed_74_goal_1.250"]
    assert log.card.extra["family"] == ""
    assert list(log.card.extra["space"]["low"]) == [-1.0, -1.0]


def test_borel_episodes_split_where_next_obs_differs(tmp_path: Path):
    """Without a horizon, which they give."""
    log = imported(making.borel(tmp_path / "b"))
    making.assert_log(log.tree["task_0000"], making.rows(0))
    assert log.card.extra["horizon"] == 5


@pytest.mark.parametrize("name", WHOLE)
def test_each_format(name: str, tmp_path: Path):
    log = imported(PLAIN[name](tmp_path / name), allow_pickle=name in PICKLES)
    dies = (1,) if name == "npz" else ()
    for number in (0, 1):
        columns, data = log.tree[f"task_{number:04d}"], making.rows(number, dies=dies)
        making.assert_log(columns, data)
    if name == "focal":
        np.testing.assert_array_equal(log.tree["task_0000"]["behaviour"], np.repeat([900, 1000, 10000], (5, 5, 3)))


def test_d4rl_without_next_obs_leaves_out_what_has_no_successor(tmp_path: Path):
    """The cut rows; the terminal one stays, with its own obs behind it."""
    columns = imported(making.d4rl(tmp_path / "d")).tree["task_0000"]
    data = making.rows(0, dies=(1,))
    kept = np.delete(np.arange(13), [4, 12])
    np.testing.assert_array_equal(columns["reward"], data["reward"][kept, 0].astype(np.float32))
    np.testing.assert_array_equal(np.flatnonzero(columns["terminal"]), [8])
    np.testing.assert_array_equal(np.flatnonzero(columns["truncated"]), [3, 10])
    np.testing.assert_array_equal(columns["episode"], [0] * 4 + [1] * 5 + [2] * 2)
    slot = np.arange(11) + columns["episode"]
    after = data["next_obs"][kept].astype(np.float32)
    after[8] = data["obs"][9].astype(np.float32)
    np.testing.assert_array_equal(columns["obs"][slot + 1], after)


def test_ogbench_masks_are_terminals_and_terminals_are_ends(tmp_path: Path):
    columns = imported(making.ogbench(tmp_path / "o")).tree["task_0000"]
    np.testing.assert_array_equal(np.flatnonzero(columns["terminal"]), [8])
    np.testing.assert_array_equal(columns["episode"], [0] * 4 + [1] * 5 + [2] * 2)


def test_minari_writes_we_read(minari: Path):
    log = imported(minari)
    for number in (0, 1):
        making.assert_log(log.tree[f"task_{number:04d}"], making.rows(number, dies=(1,)))
    assert [task["name"] for task in log.card.tasks] == ["walk0-v0", "walk1-v0"]
    assert list(log.card.extra["space"]["high"]) == [1.5, 1.5]


def test_a_mapping_reads_anything(tmp_path: Path):
    data = making.rows(0)
    np.save(tmp_path / "s_slow.npy", data["obs"])
    np.savez(tmp_path / "rest.npz", slow_a=data["action"], slow_r=data["reward"])
    with h5py.File(tmp_path / "more.h5", "w") as file:
        file["slow/after"], file["slow/end"] = data["next_obs"], data["ends"]
    text = """
    columns: {obs: "s_{name}.npy", action: "rest.npz#{name}_a", reward: "rest.npz#{name}_r",
              next_obs: "more.h5#{name}/after", truncated: "more.h5#{name}/end"}
    tasks: [{name: slow, params: {velocity: 0.5}, split: test}]
    """
    log = imported(tmp_path, mapping=yaml.safe_load(text))
    making.assert_log(log.tree["task_0000"], data)
    assert log.card.tasks == [{"id": 0, "name": "slow", "split": "test", "params": {"velocity": 0.5}}]


def test_a_task_table_names_tasks_and_params(tmp_path: Path):
    making.npz(tmp_path / "n")
    (tmp_path / "n" / "tasks.yaml").write_text("task0: {velocity: 0.5}\ntask1: {name: fast, params: {velocity: 2}}\n")
    tasks = imported(tmp_path / "n").card.tasks
    assert [(task["name"], task["params"]) for task in tasks] == [
        ("task0", {"velocity": 0.5}),
        ("fast", {"velocity": 2.0}),
    ]
