"""`omrl import`, `omrl export`, `omrl inspect`, as their user has them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.formats import making

TRAIN = ("--preset", "tiny", "--set", "updates=20")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return making.borel(tmp_path / "logs")


def objects(store: Path) -> list[str]:
    return sorted(path.name for path in (store / "objects").iterdir()) if (store / "objects").is_dir() else []


def test_import_says_what_it_read(omrl, source: Path) -> None:
    said = omrl("import", source)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    head = "task transitions episodes length return 5% 50% 95% coverage actions returns over time"
    assert " ".join(lines[0].split()) == head
    assert lines[1].split()[:4] == ["seed_73_goal_0.500", "13", "3", "4.333"]
    assert "BOReL without relabelling" in said.out
    assert len(lines[-1]) == 12
    assert "is borel: 2 folder(s) like seed_73_goal_0.500" in said.err
    assert "episodes were split there" in said.err


def test_the_id_is_that_of_the_content_not_of_the_place(omrl, source: Path, tmp_path: Path) -> None:
    first = json.loads(omrl("import", source, "--json").out)
    assert first["made"]
    assert first["inspect"]["tasks"][0]["transitions"] == 13
    again = omrl("import", source)
    assert "up to date" in again.err
    assert again.out.splitlines()[-1] == first["id"]
    moved = tmp_path / "elsewhere" / "other"
    shutil.copytree(source, moved)
    there = json.loads(omrl("import", moved, "--format", "borel", "--json").out)
    assert (there["id"], there["made"]) == (first["id"], False)
    rewards = moved / "seed_73_goal_0.500" / "rewards.npy"
    np.save(rewards, np.load(rewards) + 1)
    other = json.loads(omrl("import", moved, "--json").out)
    assert other["id"] != first["id"]
    assert other["made"]
    longer = json.loads(omrl("import", source, "--horizon", 3, "--json").out)
    assert longer["id"] not in (first["id"], other["id"])


def test_a_dry_run_writes_nothing(omrl, source: Path, store: Path) -> None:
    said = omrl("import", source, "--dry-run", "--json")
    assert json.loads(said.out)["plan"][0]["state"] == "to do"
    assert objects(store) == []


@pytest.mark.parametrize(
    ("arguments", "code", "cause", "hint"),
    [
        (("nowhere",), 3, "there is no nowhere", "folder or the file"),
        (("logs", "--format", "bore"), 2, "'format'", ""),
        (("logs", "--family", "point-semi/time"), 2, "unknown family 'point-semi/time'", "did you mean"),
        (("logs", "--format", "npz"), 3, "has no npz logs", "--format"),
        (("logs", "--mapping", "none.yaml"), 2, "--mapping none.yaml", "docs/logs.md"),
    ],
)
def test_refusals(arguments, code, cause, hint, omrl, source, store, monkeypatch) -> None:
    monkeypatch.chdir(source.parent)
    said = omrl("import", *arguments)
    assert said.code == code
    assert cause in said.err
    assert hint in said.err
    assert said.out == ""
    assert objects(store) == []


def test_damage_is_one_line_and_writes_nothing(omrl, source: Path, store: Path) -> None:
    obs = source / "seed_73_goal_0.500" / "obs.npy"
    values = np.load(obs)
    values[3] = np.nan
    np.save(obs, values)
    said = omrl("import", source)
    assert said.code == 5
    talk = [line for line in said.err.splitlines() if line.startswith(("error:", "hint:"))]
    assert len(talk) == 2
    assert "obs is not finite in 1 of 13 rows, the first is row 3" in talk[0]
    assert (said.out, objects(store)) == ("", [])
    assert omrl("ls").out == ""


def test_pickles_need_a_flag(omrl, tmp_path: Path) -> None:
    source = making.mbml(tmp_path / "m")
    refused = omrl("import", source)
    assert refused.code == 2
    assert "hint: --allow-pickle" in refused.err
    assert omrl("import", source, "--allow-pickle").code == 0


def test_a_mapping_file(omrl, tmp_path: Path) -> None:
    data = making.rows(0)
    (tmp_path / "d").mkdir()
    np.savez(tmp_path / "d" / "all.npz", s=data["obs"], a=data["action"], r=data["reward"], n=data["next_obs"])
    columns = {"obs": "all.npz#s", "action": "all.npz#a", "reward": "all.npz#r", "next_obs": "all.npz#n"}
    (tmp_path / "map.yaml").write_text(yaml.safe_dump({"columns": columns, "tasks": [{"name": "only"}]}))
    said = omrl("import", tmp_path / "d", "--mapping", tmp_path / "map.yaml", "--name", "mapped")
    assert said.code == 0, said.err
    card = json.loads(omrl("show", "replay-log/mapped", "--json").out)
    assert card["config"]["format"] == "mapping"
    assert card["tasks"][0]["name"] == "only"


def test_a_recipe_may_begin_with_an_import(omrl, source: Path, tmp_path: Path) -> None:
    body = {"name": "mine", "steps": {"log": {"stage": "import", "config": {"source": str(source)}}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(body))
    first = omrl("run", tmp_path / "mine.yaml", "--json")
    assert first.code == 0, first.err
    assert "up to date" in omrl("run", tmp_path / "mine.yaml").err
    rewards = source / "seed_73_goal_0.500" / "rewards.npy"
    np.save(rewards, np.load(rewards) + 1)
    assert "up to date" not in omrl("run", tmp_path / "mine.yaml").err


def test_training_without_a_family_and_no_evaluation(omrl, source: Path) -> None:
    assert omrl("import", source, "--name", "mine").code == 0
    assert omrl("train", "--log", "replay-log/mine", *TRAIN).code == 0
    made = omrl("metatrain", "--log", "replay-log/mine", *TRAIN)
    assert made.code == 0, made.err
    said = omrl("eval", "--policy", made.out.strip())
    assert said.code == 2
    assert "an imported log without a family" in said.err
    assert "--family" in said.err


def test_an_imported_log_has_no_policy_of_its_own(omrl, tmp_path: Path) -> None:
    """Even where its family is known: nobody knows what acted."""
    log = omrl("collect", "--preset", "tiny").out.strip()
    assert omrl("export", log, tmp_path / "x", "--format", "npz").code == 0
    back = omrl("import", tmp_path / "x").out.splitlines()[-1]
    said = omrl("eval", "--policy", back, "--preset", "tiny", "--set", "split=train")
    assert said.code == 4
    assert "an imported log has no policy of its own" in said.err
    assert "Traceback" not in said.err


def test_export_and_import_again(omrl, source: Path, tmp_path: Path) -> None:
    log = omrl("import", source, "--name", "mine").out.splitlines()[-1]
    for format in ("borel", "minari", "npz"):
        target = tmp_path / format
        assert omrl("export", log, target, "--format", format).out == f"{target}\n"
        again = omrl("export", log, target, "--format", format)
        assert again.code == 2
        assert "--force" in again.err
        assert omrl("export", log, target, "--format", format, "--force").code == 0
        back = omrl("import", target).out.splitlines()[-1]
        diff = json.loads(omrl("diff", log, back, "--json").out)
        assert diff["metrics"] == {}
    assert omrl("export", log, tmp_path / "x", "--format", "hdf").code == 2


def test_inspect(omrl, source: Path, tmp_path: Path) -> None:
    omrl("import", source, "--name", "mine")
    page, picture = tmp_path / "i.html", tmp_path / "i.png"
    said = omrl("inspect", "replay-log/mine", "--html", page, "--figure", picture)
    assert said.code == 0, said.err
    assert "share of the rows of a task" in said.out
    assert "tiMe (distill)" in said.out
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert "data:image/png;base64," in text
    assert "seed_73_goal_0.500" in text
    refused = omrl("inspect", "replay-log/mine", "--html", page)
    assert refused.code == 2
    assert omrl("inspect", "replay-log/mine", "--figure", tmp_path / "i.jpg").code == 2
    found = json.loads(omrl("inspect", "replay-log/mine", "--json").out)
    assert np.shape(found["pairs"]["both"]) == (2, 2)
    assert found["verdict"][0]["fits"] == "care"
    trained = omrl("train", "--log", "replay-log/mine", *TRAIN).out.strip()
    wrong = omrl("inspect", trained)
    assert wrong.code == 4
