"""`omrl families` and `omrl families NAME`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from omrl_cli import catalogue
from pipelines.core.families import FAMILIES
from pipelines.tasks import point

from .conftest import environment

OWN = """
import dataclasses
from pipelines.tasks import point
MINE = dataclasses.replace(point.SPREAD, horizon=7)
"""


def test_the_table_fits_a_terminal_and_lists_every_family(omrl) -> None:
    said = omrl("families")
    lines = said.out.splitlines()
    assert max(map(len, lines)) <= 100
    listed = {line.split()[0]: line.split() for line in lines[1:] if not line.startswith(" ")}
    assert list(listed) == list(FAMILIES)
    assert listed["halfcheetah-vel/mbml"][1:5] == ["10/8/8", "20", "6", "1000"]
    words = " ".join(line[62:].strip() for line in lines)
    assert all(entry.help in words for entry in FAMILIES.values())  # wrapped, never cut


def test_json_holds_every_size(omrl) -> None:
    found = json.loads(omrl("families", "--json").out)["families"]
    by_name = {one["name"]: one for one in found}
    assert by_name["gridworld/borel"]["options"] == {"start": ["uniform", "fixed"]}
    assert by_name["ant-dir/mbml"]["num_ood"] == 8


def test_one_family(omrl) -> None:
    said = omrl("families", "point-semicircle/spread")
    assert said.code == 0
    assert max(map(len, said.out.splitlines())) <= 100
    for text in (
        "observation  float32 [2]",
        "action       float32 [2] in [-1, 1]",
        "horizon      20 steps, discount 0.95",
        "tasks        15 train, 14 test; they differ in reward",
        "variants     point-semicircle/time, point-semicircle/disjoint",
        "train tasks, name (angle, x, y):",
    ):
        assert text in said.out
    text = " ".join(said.out.split())
    assert all(f"{task.name} (" in text for split in ("train", "test") for task in point.SPREAD.tasks(split))


def test_one_family_with_options_and_a_protocol(omrl) -> None:
    said = omrl("families", "gridworld/borel,start=fixed")
    assert said.out.startswith("gridworld/borel,start=fixed\n")
    assert "action       5 discrete (int32)" in said.out
    assert "option       start = uniform | fixed  (default uniform)" in said.out
    assert "evaluation   always start=fixed" in said.out
    assert "test tasks: the train tasks" in said.out


def test_one_family_as_json(omrl) -> None:
    found = json.loads(omrl("families", "point-semicircle/time", "--json").out)
    assert [task["params"]["angle"] for task in found["tasks"]["train"]] == [0.0, 90.0, 180.0]
    assert found["space"]["obs_shape"] == [2]
    assert found["about"].keys() >= {"reward", "start", "ends", "source", "differs"}
    assert found["scripted"] == ["oracle"]


def test_a_users_family(omrl, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    name = f"{tmp_path / 'mine.py'}:MINE"
    said = omrl("families", name)
    assert said.out.startswith(name)
    assert "horizon      7 steps" in said.out


@pytest.mark.parametrize(
    ("name", "code", "cause", "hint"),
    [
        ("point-semicircle/tiem", 2, "unknown family 'point-semicircle/tiem'", "did you mean point-semicircle/time?"),
        ("gridworld/borel,strat=fixed", 2, "gridworld/borel has no option 'strat'", "did you mean start?"),
        ("gridworld/borel,start=fixd", 2, "start=fixd of gridworld/borel", "did you mean fixed?"),
        ("point-semicircle/time,start=fixed", 2, "point-semicircle/time has no option 'start'", "it has none"),
        ("nowhere.py:MINE", 3, "there is no file nowhere.py", "a family is path/to/file.py:NAME"),
    ],
)
def test_names_that_nobody_offers(omrl, name: str, code: int, cause: str, hint: str) -> None:
    said = omrl("families", name)
    assert (said.code, said.out) == (code, "")
    assert said.err.startswith(f"error: {cause}\nhint: {hint}")


def test_a_misspelt_name_is_refused_without_jax(store: Path) -> None:
    program = (
        "import sys; from omrl_cli.main import main\n"
        "assert main(['families', 'point-semicircle/tiem']) == 2\n"
        "sys.exit(str([name for name in ('jax', 'numpy', 'mujoco') if name in sys.modules]))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment())
    assert found.stderr.splitlines()[-1] == "[]"


def test_what_a_task_shows() -> None:
    many = {f"mass/{i}": float(i) for i in range(9)}
    tasks = [{"id": 1, "name": "w0", "split": "train", "params": many}]
    assert catalogue._tasks("train", tasks) == ["train tasks, 9 numbers each (--json shows them):", "  w0"]
    tasks = [{"id": i, "name": f"v{i}", "split": "ood", "params": {"velocity": i / 3}} for i in range(2)]
    assert catalogue._tasks("ood", tasks) == ["ood tasks, velocity:", "  0; 0.33333"]
