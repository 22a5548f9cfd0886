"""The doctor knows which versions do not go together."""

import json
from pathlib import Path

import pytest

from omrl_cli import doctor

HERE = {"jax": "0.10.2", "jaxlib": "0.10.2", "mujoco": "3.17.0", "mujoco-mjx": "3.17.1", "orbax-checkpoint": "0.12.8"}


@pytest.mark.parametrize(
    ("package", "changed", "bad"),
    [
        ("mujoco", {}, ""),
        ("mujoco", {"mujoco": "4.0.0"}, "solver bug"),
        ("mujoco", {"mujoco": "4.0.1"}, ""),
        ("mujoco-mjx", {}, ""),
        ("mujoco-mjx", {"mujoco": "4.0.1"}, "does not match mujoco 4.0.1"),
        ("mujoco-mjx", {"mujoco-mjx": "3.9.0"}, "does not match mujoco 3.17.0"),
        ("jaxlib", {"jaxlib": "0.9.1"}, "does not match jax 0.10.2"),
        ("orbax-checkpoint", {"orbax-checkpoint": "0.12.2"}, "older than 0.12.3"),
        ("orbax-checkpoint", {}, ""),
    ],
)
def test_known_bad(package: str, changed: dict[str, str], bad: str) -> None:
    found, cure = doctor.judge(package, HERE | changed)
    assert bad in found
    assert bool(found) == bool(bad) == bool(cure)


def test_release() -> None:
    assert [doctor.release(text) for text in ("0.12.8", "4.0.0rc1", "3.17.0.dev2", "1")] == [
        (0, 12, 8), (4, 0, 0), (3, 17, 0), (1,),
    ]  # fmt: skip


def test_this_machine_is_well(omrl) -> None:
    said = omrl("doctor", "--json")
    assert said.code == 0, said.err
    found = {one["what"]: one["value"] for one in json.loads(said.out)["findings"]}
    assert "cpu" in found["devices"]
    assert Path(found["code"]) == Path(doctor.__file__).parents[1]
    assert {"jax", "mujoco", "store", "free disk", "compilation cache"} <= set(found)


def test_a_bad_combination_exits_with_5(omrl, monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.installed
    monkeypatch.setattr(doctor, "installed", lambda names: {**real(names), "mujoco": "4.0.0"})
    said = omrl("doctor")
    assert said.code == 5
    assert "mujoco: 4.0.0 has a solver bug" in said.err
    assert "hint: pip install 'mujoco!=4.0.0,<4'" in said.err


def test_a_store_that_cannot_be_written(omrl, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = omrl("doctor", "--store", tmp_path / "file" / "store")
    assert said.code == 5
    assert "store: cannot be written" in said.err
