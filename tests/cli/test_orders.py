"""Layers of a config, parents of a stage, seeds; on the real stages, without running any."""

import json
from pathlib import Path

import pytest

from omrl_cli.orders import configure, find_parents, seed_of, spec_of
from pipelines.core.errors import InputMissing, UsageError, WrongKind
from pipelines.core.work import Product
from pipelines.stages.presets import NAMES, PRESETS
from pipelines.stages.registry import STAGES
from pipelines.store.card import Card, recipe_id
from pipelines.store.shelf import Shelf


def put(shelf: Shelf, stage: str, kind: str, seed: int = 0, version: int = 1) -> Card:
    """An artifact without content."""
    with shelf.claim(recipe_id(stage, version, {}, seed, {})) as claim:
        return shelf.put(
            claim, Product({}, name="x"), kind=kind, stage=stage, version=version, config={}, seed=seed, parents={},
            platform={}, seconds=0.0,
        )  # fmt: skip


def test_each_layer_beats_the_one_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, file = spec_of("eval"), tmp_path / "c.yaml"
    tiny = PRESETS["eval"]["tiny"]["episodes"]
    file.write_text("episodes: 11\n")
    assert configure(spec, None).episodes == spec.config().episodes
    assert configure(spec, "tiny").episodes == tiny
    assert configure(spec, "tiny", file).episodes == 11
    monkeypatch.setenv("OMRL_SET", "episodes=12; split=train")
    assert configure(spec, "tiny", file).episodes == 12
    assert configure(spec, "tiny", file).split == "train"
    assert configure(spec, "tiny", file, {"episodes": 13, "split": None}).episodes == 13
    assert configure(spec, "tiny", file, {"episodes": 13}, ["episodes=14", "episodes=15"]).episodes == 15
    assert configure(spec, "tiny", file, {"episodes": 13}, ["episodes=14"]).split == "train"


@pytest.mark.parametrize("stage", STAGES)
def test_every_preset_makes_a_config(stage: str) -> None:
    assert set(PRESETS[stage]) == set(NAMES)
    for preset in NAMES:
        configure(spec_of(stage), preset)


def test_config_file_errors(tmp_path: Path) -> None:
    spec, file = spec_of("eval"), tmp_path / "c.yaml"
    for text, cause in {
        "[1, 2]": "holds no mapping",
        "a: [": "c.yaml",
        "episodez: 3": "unknown field 'episodez'",
    }.items():
        file.write_text(text)
        with pytest.raises(UsageError, match=cause):
            configure(spec, None, file)
    file.write_text("")
    assert configure(spec, None, file) == spec.config()
    with pytest.raises(UsageError, match="No such file"):
        configure(spec, None, tmp_path / "absent.yaml")


def test_unknown_names_get_their_nearest_match() -> None:
    for wrong, right in [("colect", "collect"), ("metatrian", "metatrain")]:
        with pytest.raises(UsageError) as caught:
            spec_of(wrong)
        assert caught.value.hint == f"did you mean {right}?"
    with pytest.raises(UsageError, match="unknown preset 'smal'") as caught:
        configure(spec_of("eval"), "smal")
    assert caught.value.hint == "did you mean small?"
    with pytest.raises(UsageError, match=r"unknown field .agent\.batch_sise.") as caught:
        configure(spec_of("train"), None, sets=["agent.batch_sise=3"])
    assert caught.value.hint == "did you mean agent.batch_size?"


def test_parents_of_the_wrong_kind_or_missing(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    with pytest.raises(InputMissing, match="train needs --log, a replay-log") as missing:
        find_parents(STAGES["train"], {}, shelf)
    assert "yet; `omrl collect` or `omrl import`" in missing.value.hint
    log, policies = put(shelf, "collect", "replay-log"), put(shelf, "train", "policy-set")
    with pytest.raises(InputMissing) as missing:
        find_parents(STAGES["train"], {"log": []}, shelf)
    assert missing.value.hint == "there is replay-log/x@1"
    with pytest.raises(InputMissing, match="--log: no artifact 'nothing'"):
        find_parents(STAGES["train"], {"log": ["nothing"]}, shelf)
    with pytest.raises(WrongKind, match="--log wants a replay-log, policy-set/x is a policy-set") as wrong:
        find_parents(STAGES["train"], {"log": ["policy-set/x"]}, shelf)
    assert wrong.value.hint == "there is replay-log/x@1"
    with pytest.raises(UsageError, match="takes one --log, got 2"):
        find_parents(STAGES["train"], {"log": [log.id, log.id]}, shelf)
    found = find_parents(STAGES["distill"], {"log": [log.id[:6]], "teachers": [policies.ref]}, shelf)
    assert found == {"log": log, "teachers": policies}


def test_a_parent_of_another_version_is_refused(tmp_path: Path) -> None:
    card = put(Shelf(tmp_path), "collect", "replay-log", version=99)
    with pytest.raises(WrongKind, match="made by collect version 99, this omrl has version 1"):
        find_parents(STAGES["train"], {"log": [card.id]}, Shelf(tmp_path))
    card = put(Shelf(tmp_path), "gather", "replay-log")
    with pytest.raises(WrongKind, match="which this omrl lacks"):
        find_parents(STAGES["train"], {"log": [card.id]}, Shelf(tmp_path))


def test_the_seed_is_that_of_the_chain(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    three, four = put(shelf, "eval", "report", 3), put(shelf, "eval", "report", 4)
    assert seed_of({}) == 0
    assert seed_of({"policy": three}) == 3
    assert seed_of({"reports": [three, four]}) == 0
    assert seed_of({"reports": [four]}) == 4


def test_config_show(omrl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMRL_PRESET", "tiny")
    tiny = PRESETS["eval"]["tiny"]["episodes"]
    assert f"episodes: {tiny}\n" in omrl("config", "show", "eval").out
    assert json.loads(omrl("config", "show", "eval", "--json").out)["episodes"] == tiny
    said = omrl("config", "show", "eval", "--preset", "paper", "--set", "episodes=3", "--diff-default")
    assert said.out == "episodes: 3\n"
    assert omrl("config", "show", "eval", "--preset", "paper", "--diff-default").out == "{}\n"
    assert omrl("config", "show", "evil").code == 2
