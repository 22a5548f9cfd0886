"""BOReL's recipes: all are planned at the paper's size without a device, and run tiny."""

import json

import pytest

from pipelines.core.recipe import load, shipped
from pipelines.store.shelf import Shelf

BASELINES = [name for name in shipped() if name.startswith("borel-baselines-")]
NAMES = [name for name in shipped() if name.startswith("borel-") and name not in BASELINES]
DATA_SETS = ("excluding", "fixed")  # of the ant: the same chain on other logs


def test_the_seven_domains_are_there():
    domains = {"gridworld", "point-semicircle-sparse", "ant-semicircle", "halfcheetah-vel", "reacher-image"}
    domains |= {"point-wind", "escape-room"}
    assert {name.removeprefix("borel-") for name in NAMES if not name.endswith(DATA_SETS)} == domains
    assert len(NAMES) == 9


@pytest.mark.parametrize("preset", ["small", "paper"])
@pytest.mark.parametrize("name", [*NAMES, *BASELINES])
def test_it_is_planned(omrl, name, preset):
    """Small: within half an hour on two cores, as far as is known before it ever ran."""
    said = omrl("run", name, "--preset", preset, "--dry-run", "--json")
    assert said.code == 0, said.err
    steps = json.loads(said.out)["plan"]
    assert {"log", "mixed", "belief", "belief-plain", "borel", "borel-plain"} <= {step["step"] for step in steps}
    if preset == "small":
        assert sum(step["seconds"] for step in steps) < (1_800 if name in NAMES else 4_500)


def test_baselines_stand_beside_the_same_artifacts():
    """Of the domain's own recipe; MBML and PEARL where actions are continuous and there are no images."""
    assert len(BASELINES) == 7
    for name in BASELINES:
        mine, domain = load(name), name.removeprefix("borel-baselines-")
        theirs = load(f"borel-{domain}")
        for step in ("log", "belief", "borel", "eval-borel", "eval-plain"):
            assert mine.steps[step] == theirs.steps[step]
        peers = set() if domain in ("gridworld", "reacher-image") else {"eval-mbml", "eval-pearl"}
        assert set(mine.steps["page"].inputs["reports"]) == {"eval-borel", "eval-plain", "eval-online"} | peers
        protocols = {mine.steps[step].config["trial_episodes"] for step in mine.steps if step.startswith("eval-")}
        counted = {mine.steps[step].config.get("counted") for step in mine.steps if step.startswith("eval-")}
        assert len(protocols) == len(counted) == 1


def test_method_is_another_word_for_algorithm(omrl):
    said = omrl("metatrain", "--log", "log", "--algorithm", "borel", "--method", "mql")
    assert (said.code, "--algorithm borel and --method mql" in said.err) == (2, True)
    assert omrl("metatrain", "--log", "log", "--method", "borle").err.count("did you mean borel?") == 1


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith(DATA_SETS)])
def test_it_runs_tiny(omrl, store, name):
    said = omrl("run", name, "--preset", "tiny", "--json")
    assert said.code == 0, said.err
    made = {step["step"]: step["id"] for step in json.loads(said.out)["steps"]}
    report = Shelf(store).artifact(made["eval-borel"])
    each = report.arrays()["episode_returns"]
    assert each.shape[-1] == report.card.extra["trial_episodes"] == (4 if "gridworld" in name else 2)
    assert ("success/episode 1" in report.card.metrics) == (
        name not in ("borel-halfcheetah-vel", "borel-reacher-image")
    )
    assert ("bayes_fraction" in report.card.metrics) == ("gridworld" in name)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("name", BASELINES)
def test_baselines_run_tiny(omrl, store, name):
    """Every arm is in the table, in the units of the others."""
    said = omrl("run", name, "--preset", "tiny", "--json")
    assert said.code == 0, said.err
    made = {step["step"]: step["id"] for step in json.loads(said.out)["steps"]}
    table = (Shelf(store).artifact(made["page"]).file("table.csv")).read_text()
    labels = [load(name).steps[step].label for step in made if step.startswith("eval-")]
    assert len(labels) >= 3 and all(label in table for label in labels)
