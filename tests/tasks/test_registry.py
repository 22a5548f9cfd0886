"""Families that are not ours: found by file and by entry point, and checked before anything runs on them."""

import dataclasses
import importlib.metadata
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core import own
from pipelines.core.errors import CheckFailed, InputMissing, UsageError
from pipelines.core.types import DeviceFamily, Space, Task, memoryless
from pipelines.tasks import point, registry

FILE = """
import dataclasses
from pipelines.tasks import point

print("hello")
MINE = dataclasses.replace(point.TIME, name="mine")

def longer():
    return dataclasses.replace(MINE, horizon=30)

def broken():
    raise ValueError("no such luck")

NUMBER = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_a_family_and_a_function_in_a_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    family = registry.find(f"{file}:MINE")
    assert (family.name, family.horizon) == (f"{file}:MINE", 20)
    assert registry.find(f"{file}:longer").horizon == 30
    said = capsys.readouterr()
    assert said.out == ""  # stdout is for results
    assert "hello" in said.err


def test_the_path_is_seen_from_the_working_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    assert registry.find("mine.py:MINE").name == "mine.py:MINE"


def test_a_changed_file_is_read_again(file: Path) -> None:
    name = f"{file}:longer"
    before = own.fingerprint(name)
    assert registry.find(name).horizon == 30
    file.write_text(FILE.replace("30", "31"))
    assert registry.find(name).horizon == 31
    assert own.fingerprint(name) != before


@pytest.mark.parametrize(
    ("name", "kind", "cause", "hint"),
    [
        ("MINNE", UsageError, "has no 'MINNE'", "did you mean MINE?"),
        ("NUMBER", UsageError, "is a int, not a family", "DeviceFamily or HostFamily"),
        ("broken", UsageError, "ValueError: no such luck", ""),
    ],
)
def test_a_name_that_is_no_family(file: Path, name: str, kind: type[Exception], cause: str, hint: str) -> None:
    with pytest.raises(kind) as caught:
        registry.find(f"{file}:{name}")
    assert cause in caught.value.cause
    assert hint in caught.value.hint


def test_a_file_that_is_not_there_or_breaks(tmp_path: Path) -> None:
    with pytest.raises(InputMissing) as missing:
        registry.find(f"{tmp_path / 'no.py'}:MINE")
    assert "no.py" in missing.value.cause
    (tmp_path / "bad.py").write_text("import math\nmath.no_such_thing\n")
    with pytest.raises(UsageError) as caught:
        registry.find(f"{tmp_path / 'bad.py'}:MINE")
    assert "line 2: AttributeError" in caught.value.cause


def test_an_installed_package_offers_families(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = importlib.metadata.EntryPoint("lab/point", "pipelines.tasks.point:TIME", own.GROUP)
    monkeypatch.setattr(own, "entry_points", lambda: {"lab/point": entry})
    registry._from_package.cache_clear()
    assert registry.find("lab/point").name == "lab/point"
    with pytest.raises(UsageError) as caught:
        registry.find("lab/pont")
    assert caught.value.hint == "did you mean lab/point?"


# ---- checks ----------------------------------------------------------------------------------------------------------


def test_good_families_pass() -> None:
    registry.check(point.TIME)
    registry.check(point.SPREAD)


def shifted_reward(task, obs, action, next_obs, outcome):
    """Of the location before the move, not after it."""
    return -jnp.sqrt(jnp.sum((obs - task[..., 1:3]) ** 2, -1))


def test_a_reward_that_disagrees_names_the_first_state_and_both_numbers() -> None:
    with pytest.raises(CheckFailed) as caught:
        registry.check(dataclasses.replace(point.TIME, reward=shifted_reward))
    cause = caught.value.cause
    assert "reward and step disagree in task '0deg' at step 0" in cause
    assert "obs [0.0, 0.0]" in cause
    assert "reward gives -10 for" in cause
    assert "action [" in cause


def with_tasks(*tasks: Task, test: tuple[Task, ...] = ()):
    return dataclasses.replace(point.TIME, tasks=lambda split: {"train": tasks, "test": test}.get(split, ()))


def nan_step(task, state, action, key):
    found = point.step(task, state, action, key)
    return (found[0], jnp.where(found[1] > 0.5, jnp.nan, found[1]), *found[2:])


ONE, TWO = point.tasks_at([10.0, 20.0], "train")
BAD = {
    "no train tasks": with_tasks(),
    "share an id or a name": with_tasks(ONE, TWO._replace(id=ONE.id)),
    "has id -1": with_tasks(ONE._replace(id=-1)),
    "has params {'angle': nan": with_tasks(ONE._replace(params={**ONE.params, "angle": np.nan})),
    "has params {'turn': 1.0}": with_tasks(ONE, TWO._replace(params={"turn": 1.0})),
    "says it is of 'train'": with_tasks(ONE, test=(TWO,)),
    "is '10deg' in train and '20deg' in test": with_tasks(ONE, test=(TWO._replace(split="test", id=ONE.id),)),
    "1 lows and 1 highs for 2 actions": dataclasses.replace(
        point.TIME, space=point.SPACE._replace(low=(-1.0,), high=(1.0,))
    ),
    "reset's observation is float32[2], the space and outcome say float32[3]": dataclasses.replace(
        point.TIME, space=point.SPACE._replace(obs_shape=(3,))
    ),
    "step's outcome is float32[0]": dataclasses.replace(point.TIME, outcome=("speed",)),
    "next_obs at step": dataclasses.replace(point.TIME, step=nan_step),
    "step raised TypeError": dataclasses.replace(point.TIME, step=lambda task, state, action: None),
    "step changes the state": dataclasses.replace(
        point.TIME, step=lambda *args: (point.step(*args)[0].astype(bool), *point.step(*args)[1:])
    ),
    "horizon 0": dataclasses.replace(point.TIME, horizon=0),
    "reward gives shape ()": dataclasses.replace(point.TIME, reward=lambda t, o, a, n, f: -jnp.sum(n**2)),
    "the action of 'oracle' is float32[3]": dataclasses.replace(
        point.TIME, scripted={"oracle": memoryless(lambda task, obs, key, explore: task, None)}
    ),
    "position is float32": dataclasses.replace(point.TIME, position=lambda obs: obs[..., :1]),
}


@pytest.mark.parametrize("cause", list(BAD))
def test_what_is_checked(cause: str) -> None:
    with pytest.raises(CheckFailed) as caught:
        registry.check(BAD[cause])
    assert cause in caught.value.cause


def test_discrete_actions_are_checked_too() -> None:
    def step(task, state, action, key):
        nxt = state + jnp.where(action == 1, 1.0, -1.0)
        return nxt, nxt, -jnp.abs(nxt[0] - task[0]), jnp.abs(nxt[0]) > 3, jnp.zeros((0,))

    family = DeviceFamily(
        name="line",
        space=Space((1,), (), num_actions=2, action_dtype="int32"),
        horizon=9,
        discount=0.9,
        tasks=lambda split: (Task(1, "one", "train", {"at": 1.0}),) if split == "train" else (),
        reset=lambda task, key: (jnp.zeros((1,)), jnp.zeros((1,))),
        step=step,
        reward=lambda task, obs, action, next_obs, outcome: -jnp.abs(next_obs[..., 0] - task[..., 0]),
        terminates=True,
    )
    registry.check(family)
    with pytest.raises(CheckFailed, match="discrete actions of"):
        registry.check(dataclasses.replace(family, space=family.space._replace(num_actions=1)))
