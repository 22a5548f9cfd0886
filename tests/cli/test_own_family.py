"""A user's own family through the stages: one name everywhere, and its file counts for what is up to date."""

import json
from pathlib import Path

import pytest

FAMILY = """
import jax.numpy as jnp
from pipelines.core.types import DeviceFamily, Space, Task

SPEED = 1.0

def reward(task, obs, action, next_obs, outcome):
    return -abs(next_obs[..., 0] - task[..., 0])

def step(task, state, action, key):
    after = state + SPEED * jnp.clip(action, -1, 1)
    return after, after, reward(task, state, action, after, None), jnp.zeros((), bool), jnp.zeros((0,))

def tasks(split):
    at = {"train": [-2, 2], "test": [1]}.get(split, [])
    return tuple(Task(x + 10, f"at {x}", split, {"x": float(x)}) for x in at)

LINE = DeviceFamily(
    name="line", space=Space((1,), (1,), (-1.0,), (1.0,)), horizon=10, discount=0.9, tasks=tasks,
    reset=lambda task, key: (jnp.zeros(1), jnp.zeros(1)), step=step, reward=reward,
)
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "line.py"
    path.write_text(FAMILY)
    return path


def test_a_changed_file_makes_its_log_stale(omrl, file: Path) -> None:
    arguments = "collect", "--preset", "tiny", "--family", "line.py:LINE", "--name", "line"
    first = omrl(*arguments)
    assert first.code == 0, first.err
    extra = json.loads(omrl("show", "replay-log/line", "--json").out)["extra"]
    assert extra["family"] == "line.py:LINE"
    assert len(extra["family_code"]) == 64
    again = omrl(*arguments)
    assert (again.code, again.out) == (0, first.out)
    assert "up to date" in again.err
    assert omrl("collect", "--dry-run", *arguments[1:5]).out.count("up to date") == 1
    file.write_text(FAMILY.replace("SPEED = 1.0", "SPEED = 0.5"))
    stale = omrl(*arguments)
    assert stale.code != 0
    assert "the code of line.py:LINE is another" in stale.err


@pytest.mark.slow
def test_a_family_of_ones_own_through_the_stages(omrl, file: Path) -> None:
    assert omrl("collect", "--preset", "tiny", "--family", "line.py:LINE", "--name", "line").code == 0
    file.write_text(FAMILY.replace("SPEED = 1.0", "SPEED = 0.5"))
    again = omrl("collect", "--preset", "tiny", "--family", "line.py:LINE", "--name", "line", "--force")
    assert again.code == 0, again.err
    said = omrl("train", "--preset", "tiny", "--log", "replay-log/line", "--name", "each")
    assert said.code == 0, said.err
    said = omrl("eval", "--preset", "tiny", "--policy", "policy-set/each", "--set", "match=nearest")
    assert said.code == 0, said.err
    said = omrl("rollout", "--policy", "policy-set/each", "--match", "nearest", "--json")
    assert said.code == 0, said.err
    told = json.loads(said.out)
    assert (told["family"], [row["task"] for row in told["tasks"]]) == ("line.py:LINE", ["at 1"])
    assert -20 < told["return"] <= 0


def test_a_family_that_contradicts_itself_stops_the_stage(omrl, file: Path) -> None:
    file.write_text(
        FAMILY.replace("reward(task, state, action, after, None)", "reward(task, state, action, state, None)")
    )
    said = omrl("collect", "--preset", "tiny", "--family", "line.py:LINE")
    assert (said.code, said.out) == (5, "")
    assert "reward and step disagree in task 'at -2' at step 0: step paid -2, reward gives" in said.err


@pytest.mark.parametrize(
    ("name", "code", "cause", "hint"),
    [
        ("lime.py:LINE", 3, "there is no file lime.py", "path/to/file.py:NAME"),
        ("line.py:LIME", 2, "has no 'LIME'", "did you mean LINE?"),
        ("point-semicircle/tiem", 2, "unknown family 'point-semicircle/tiem'", "did you mean point-semicircle/time?"),
    ],
)
def test_a_family_that_is_not_there(omrl, file: Path, name: str, code: int, cause: str, hint: str) -> None:
    said = omrl("collect", "--preset", "tiny", "--family", name)
    assert (said.code, said.out) == (code, "")
    assert cause in said.err
    assert hint in said.err
