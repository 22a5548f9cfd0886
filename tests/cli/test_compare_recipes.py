"""Recipes that hold every method against every other one: one log, the same unseen tasks, and it runs tiny."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from pipelines.core.configs.base import resolve
from pipelines.core.recipe import load, parents, shipped
from pipelines.stages.presets import PRESETS
from pipelines.stages.registry import STAGES
from pipelines.store.shelf import Shelf

NAMES = [name for name in shipped() if name.startswith("compare-")]
METHODS = {"tiMe", "MBML", "BOReL", "MQL", "MQL, not adapted", "batch PEARL", "contextual BCQ", "pooled batch SAC"}
TOO_LONG = 2.5  # times what it takes: estimates of small nets that have never run
SMALL_S = 1_800
PAGE = Path(__file__).parents[2] / "docs" / "compare.md"


def test_the_three_families_are_there():
    assert set(NAMES) == {"compare-point-semicircle", "compare-umaze-goal", "compare-halfcheetah-vel"}


@pytest.mark.parametrize("name", NAMES)
def test_all_learn_from_one_log_and_are_played_alike(name):
    """Every policy goes back to the one log, and every one that does not adapt plays the same trials."""
    recipe = load(name)
    assert [step for step in recipe.steps.values() if step.stage in ("collect", "online", "import")] == [
        recipe.steps["log"]
    ]
    played = [step for step in recipe.steps.values() if step.stage == "eval"]
    assert {step.label for step in played} == METHODS
    assert set(recipe.steps["page"].inputs["reports"]) == {f"eval-{key}" for key in KEYS}
    for step in played:
        assert reaches_the_log(recipe, step)
        assert (step.config["protocol"], step.config.get("trial_episodes")) in {("episodes", 5), ("adapt", None)}
    assert max(recipe.steps["page"].config["common"]) == 5
    assert "mixed" in parents(recipe.steps["belief"])


KEYS = ("time", "mbml", "borel", "mql", "context", "pearl", "contextual", "pooled")


def reaches_the_log(recipe, step):
    """Whether all that it is made of begins there."""
    return all(name == "log" or reaches_the_log(recipe, recipe.steps[name]) for name in parents(step)) and bool(
        parents(step)
    )


ROWS = {
    "teachers": "teachers",
    "tiMe": "time",
    "MBML": "mbml",
    "BOReL's belief": "belief",
    "BOReL": "borel",
    "MQL": "mql",
    "batch PEARL": "pearl",
    "contextual BCQ": "contextual",
    "pooled batch SAC": "pooled",
}


def settled(name, step, preset="small"):
    """The config of a step."""
    said = load(name).steps[step]
    stage = STAGES[said.stage]
    return resolve(stage.config, PRESETS[said.stage][preset], said.config, said.presets.get(preset, {}))


@pytest.mark.parametrize("column, name", [(0, "point-semicircle"), (1, "umaze-goal"), (2, "halfcheetah-vel")])
def test_the_page_says_how_much_each_method_learns(column, name):
    rows = re.findall(r"^\| (.+?) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| (.*)\|$", PAGE.read_text(), re.MULTILINE)
    assert [row[0] for row in rows] == list(ROWS)
    for label, *updates, rate in rows:
        config = settled(f"compare-{name}", ROWS[label])
        assert int(updates[column].replace(",", "")) == config.updates, label
        rates = {float(number) for number in re.findall(r"0\.\d+", rate)}
        assert not rates or config.agent.target_rate in rates, label


@pytest.mark.parametrize("name", NAMES)
def test_batch_pearl_explores_before_it_is_scored(name):
    for preset in ("tiny", "small", "paper"):
        agent = settled(name, "pearl", preset).agent
        assert (agent.resample, agent.prior_episodes) == ("episode", 2)


@pytest.mark.parametrize("preset", ["tiny", "small", "paper"])
@pytest.mark.parametrize("name", NAMES)
def test_it_is_planned(omrl, name, preset):
    """Small: within half an hour on two cores. What is known before a log of fewer tasks is there counts all of the
    family's, which makes nothing of the cheetah's."""
    said = omrl("run", name, "--preset", preset, "--dry-run", "--json")
    assert said.code == 0, said.err
    steps = json.loads(said.out)["plan"]
    assert {"log", "belief", "mixed", "relabelled", *(f"eval-{key}" for key in KEYS)} <= {
        step["step"] for step in steps
    }
    if preset == "small" and "halfcheetah" not in name:
        assert sum(step["seconds"] for step in steps) < TOO_LONG * SMALL_S


@pytest.mark.parametrize("name", NAMES)
def test_the_log_of_the_small_one_is_of_trials(name):
    """Two whole episodes at least, also tiny: a trial of BOReL has as many."""
    horizon = {"compare-point-semicircle": 20, "compare-umaze-goal": 300, "compare-halfcheetah-vel": 200}[name]
    log = load(name).steps["log"]
    for preset in ("tiny", "small"):
        steps = log.presets[preset]["steps"]
        assert steps % horizon == 0 and steps >= 2 * horizon


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_it_runs_tiny(omrl, store):
    said = omrl("run", "compare-point-semicircle", "--preset", "tiny", "--json")
    assert said.code == 0, said.err
    made = {step["step"]: step["id"] for step in json.loads(said.out)["steps"]}
    shelf = Shelf(store)
    for key in KEYS:
        arrays = shelf.artifact(made[f"eval-{key}"]).arrays()
        assert np.isfinite(arrays["returns"]).all()
        assert arrays["returns"].shape == (14, 2)
        assert ("adapt_before" in arrays) == (key == "mql")
        assert key == "mql" or arrays["episode_returns"].shape == (14, 2, 5)
    page = shelf.artifact(made["page"])
    (told,) = json.loads(page.file("table.json").read_text())["compared"]
    assert {one["label"] for one in told["methods"]} == METHODS
    assert all(one[f"episode {n}"]["point"] is not None for one in told["methods"] for n in (1, 2, 5))
    assert page.file("point-semicircle-spread-test-compared.png").is_file()
