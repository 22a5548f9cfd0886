"""Each damage gives one clear line and writes nothing."""

import gzip
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipelines.core.configs.base import resolve
from pipelines.core.configs.io import ImportConfig
from pipelines.core.errors import OmrlError
from tests.toys import run

from . import making


class Evil:
    """A pickle that would run a program."""

    def __reduce__(self):
        return os.system, ("touch owned",)


def _edit(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    np.save(path, change(np.load(path)))


def _set(array: np.ndarray, at: object, value: float) -> np.ndarray:
    array[at] = value
    return array


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _swap(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


def _outside(root: Path) -> Path:
    place = root.parent / "elsewhere.npy"
    np.save(place, making.rows()["obs"])
    return place


B = "seed_73_goal_0.500"
BOREL = {
    "missing file": (lambda r: (r / B / "actions.npy").unlink(), "actions.npy is missing", 3),
    "no rewards": (
        lambda r: (r / B / "rewards.npy").rename(r / B / "reward_goal.npy"),
        "has no rewards.npy, only reward_goal.npy",
        3,
    ),
    "truncated file": (lambda r: _cut(r / B / "obs.npy"), "obs.npy is cut short or damaged", 5),
    "truncated header": (lambda r: (r / B / "obs.npy").write_bytes(b"\x93NUMPY\x01\x00v"), "cut short or damaged", 5),
    "no npy": (lambda r: (r / B / "obs.npy").write_bytes(b"hello"), "is no .npy file", 5),
    "short column": (lambda r: _edit(r / B / "rewards.npy", lambda a: a[:-1]), "unequal length: .*reward 12", 5),
    "two rewards": (lambda r: _edit(r / B / "rewards.npy", lambda a: np.hstack([a, a])), "not one number a row", 5),
    "scalar": (lambda r: np.save(r / B / "rewards.npy", 1.0), "reward is a single number", 5),
    "empty": (lambda r: [_edit(p, lambda a: a[:0]) for p in (r / B).glob("*.npy")], "has no rows", 5),
    "other obs": (
        lambda r: _edit(r / B / "next_obs.npy", lambda a: a[:, :2]),
        r"obs is \[13, 3\], next_obs \[13, 2\]",
        5,
    ),
    "other task": (
        lambda r: [_edit(r / B / f"{n}.npy", lambda a: a[:, :2]) for n in ("obs", "next_obs")],
        r"observations are \[3\], those of task seed_73_goal_0.500 are \[2\]",
        5,
    ),
    "NaN": (
        lambda r: _edit(r / B / "obs.npy", lambda a: _set(a, (7, 1), np.nan)),
        "obs is not finite in 1 of 13.* row 7",
        5,
    ),
    "too large": (
        lambda r: _edit(r / B / "rewards.npy", lambda a: _set(a, 3, 1e300)),
        "reward is not finite in 1 of 13",
        5,
    ),
    "words": (lambda r: np.save(r / B / "obs.npy", np.full((13, 3), "a")), "obs holds <U1, not numbers", 5),
    "objects": (
        lambda r: np.save(r / B / "obs.npy", np.array([Evil()] * 13, object), allow_pickle=True),
        "holds Python objects",
        2,
    ),
    "actions": (
        lambda r: _edit(r / B / "actions.npy", lambda a: _set(a, (slice(0, 4), 0), 3.0)),
        None,
        0,
    ),
    "link outside": (lambda r: _swap(r / B / "obs.npy", _outside(r)), "obs.npy leads out of", 5),
}


@pytest.mark.parametrize("damage", [name for name in BOREL if name != "actions"])
def test_borel(damage: str, tmp_path: Path):
    change, match, code = BOREL[damage]
    source = making.borel(tmp_path / "b")
    change(source)
    with pytest.raises(OmrlError, match=match) as error:
        run("import", None, {"source": str(source)})
    assert error.value.exit_code == code
    assert "\n" not in error.value.cause + error.value.hint
    assert error.value.hint


def test_actions_outside_the_space(tmp_path: Path):
    source = making.borel(tmp_path / "b")
    BOREL["actions"][0](source)
    bounds = {"source": str(source), "action_low": -1.0, "action_high": 1.0}
    with pytest.raises(OmrlError, match=r"4 of 13 actions lie outside \[-1, 1\], in \[.*, 3\]"):
        run("import", None, bounds)
    clipped = run("import", None, bounds, {"out_of_range": "clip"}).tree["task_0000"]["action"]
    np.testing.assert_array_equal(clipped[:4, 0], 1.0)
    rescaled = run("import", None, {"source": str(source), "action_box": [-4.0, 4.0]}).tree["task_0000"]["action"]
    np.testing.assert_allclose(rescaled[:4, 0], 0.75)
    seen = run("import", None, {"source": str(source)}).card.extra["space"]
    assert seen["high"][0] == 3.0  # nobody said anything: what was seen


def test_pickles_need_permission_and_may_hold_arrays_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for make in (making.focal, making.mbml):
        source = make(tmp_path / make.__name__)
        with pytest.raises(OmrlError, match="pickle, which can run any program") as error:
            run("import", None, {"source": str(source)})
        assert error.value.exit_code == 2
        assert "--allow-pickle" in error.value.hint
    (tmp_path / "mbml" / "goal_00.zip_pkl").write_bytes(gzip.compress(pickle.dumps([Evil()])))
    with pytest.raises(OmrlError, match=r"wants (posix|nt).system, which is no array"):
        run("import", None, {"source": str(tmp_path / "mbml"), "allow_pickle": True})
    table = np.empty((2, 4), object)
    table[:] = [[Evil()] * 4] * 2
    np.save(tmp_path / "focal" / "goal_idx0" / "trj_evalsample0_step900.npy", table, allow_pickle=True)
    with pytest.raises(OmrlError, match="which is no array"):
        run("import", None, {"source": str(tmp_path / "focal"), "allow_pickle": True})
    assert not (tmp_path / "owned").exists()
    pickle.loads(pickle.dumps(Evil()))  # the control: it would have run
    assert (tmp_path / "owned").exists()


def test_a_damaged_gzip(tmp_path: Path):
    source = making.mbml(tmp_path / "m")
    _cut(source / "goal_04.zip_pkl")
    with pytest.raises(OmrlError, match=r"goal_04.zip_pkl is cut short or damaged"):
        run("import", None, {"source": str(source), "allow_pickle": True})


def _member(path: Path, name: str) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        content = io.BytesIO()
        np.save(content, np.zeros(3))
        archive.writestr(name, content.getvalue())


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    path.write_bytes(content)


NPZ = {
    "truncated": (_cut, "cut short or damaged"),
    "flipped byte": (_flip, "cut short or damaged"),
    "member outside": (lambda p: _member(p, "../evil.npy"), "leads out of the archive"),
    "absolute member": (lambda p: _member(p, "/evil.npy"), "leads out of the archive"),
    "no obs": (lambda p: np.savez(p, actions=np.zeros((3, 2))), "has no observations, it has actions"),
    "two names": (lambda p: np.savez(p, obs=1, observations=1), "has both obs and observations"),
    "objects": (lambda p: np.savez(p, obs=np.array([Evil()], object)), "holds Python objects"),
}


@pytest.mark.parametrize("damage", NPZ)
def test_npz(damage: str, tmp_path: Path):
    change, match = NPZ[damage]
    source = making.npz(tmp_path / "n")
    change(source / "task0.npz")
    with pytest.raises(OmrlError, match=match):
        run("import", None, {"source": str(source)})


def _external(path: Path) -> None:
    with h5py.File(path.parent.parent / "other.h5", "w") as file:
        file["x"] = np.zeros((13, 3))
    with h5py.File(path, "a") as file:
        del file["observations"]
        file["observations"] = h5py.ExternalLink("../other.h5", "/x")


def _raw_storage(path: Path) -> None:
    (path.parent.parent / "raw.bin").write_bytes(bytes(13 * 3 * 8))
    with h5py.File(path, "a") as file:
        del file["observations"]
        file.create_dataset("observations", (13, 3), "f8", external=[("../raw.bin", 0, 13 * 3 * 8)])


def _group(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["observations"]
        file["observations/image"] = np.zeros((13, 3))


HDF5 = {
    "truncated": (_cut, "cut short or damaged"),
    "external link": (_external, "is in another file"),
    "external storage": (_raw_storage, "is in another file"),
    "dict observations": (_group, "is a group, not an array"),
}


@pytest.mark.parametrize("damage", HDF5)
def test_hdf5(damage: str, tmp_path: Path):
    change, match = HDF5[damage]
    source = making.d4rl(tmp_path / "d")
    change(source / "task0.hdf5")
    with pytest.raises(OmrlError, match=match):
        run("import", None, {"source": str(source), "format": "d4rl"})


def test_a_mapping_may_not_lead_out(tmp_path: Path):
    root = making.borel(tmp_path / "b")
    _outside(root)
    tasks = [{"name": "a"}]
    for place in ("../elsewhere.npy", str(tmp_path / "elsewhere.npy")):
        columns = {"obs": place, "action": "x.npy", "reward": "x.npy"}
        with pytest.raises(OmrlError, match="leads out of"):
            run("import", None, {"source": str(root), "mapping": {"columns": columns, "tasks": tasks}})


@pytest.mark.parametrize(
    ("mapping", "match"),
    [
        ({}, "no list of tasks"),
        ({"tasks": [{}], "colums": {}}, "has 'colums'"),
        ({"tasks": [{}], "columns": {"obs": "a"}}, "has no column 'action'"),
        ({"tasks": [{}], "columns": {"obs": "a", "action": "a", "reward": "a", "rew": "a"}}, "has a column 'rew'"),
        ({"tasks": [{}], "columns": {"obs": "a.txt", "action": "a", "reward": "a"}}, "a.txt is missing"),
    ],
)
def test_a_mapping_that_says_too_little(mapping: dict, match: str, tmp_path: Path):
    with pytest.raises(OmrlError, match=match):
        run("import", None, {"source": str(making.borel(tmp_path / "b")), "mapping": mapping})


def test_a_source_that_changes_is_noticed(tmp_path: Path):
    source = making.borel(tmp_path / "b")
    config = resolve(ImportConfig, {"source": str(source)})
    _edit(source / B / "obs.npy", lambda a: a + 1)
    with pytest.raises(OmrlError, match="changed while it was read"):
        run("import", None, config.model_dump())


def test_without_h5py_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = making.d4rl(tmp_path / "d")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(OmrlError, match="need h5py") as error:
        run("import", None, {"source": str(source), "format": "d4rl"})
    assert error.value.hint == "pip install 'omrl[io]'"
