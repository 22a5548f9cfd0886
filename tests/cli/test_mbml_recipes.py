"""MBML's recipes, as each preset makes them: what is held against MBML differs from it in what it is without, alone."""

import functools

import pytest

from omrl_cli.recipe import jobs_of
from pipelines.core.configs.base import flatten
from pipelines.core.recipe import load
from pipelines.stages import paper_figures

BODIES = ("umaze-goal", "halfcheetah-vel", "ant-dir", "ant-goal", "humanoid-dir", "walker-params")
PRESETS = ("tiny", "small", "paper")
ABLATIONS = {
    "neither": {"agent.relabel": "none", "agent.triplet": False},
    "no-triplet": {"agent.triplet": False},
    "no-relabelling": {"agent.relabel": "none"},
    "no-ensemble": {},  # its rows are
    "margin-0": {"agent.margin": 0.0},
    "margin-4": {"agent.margin": 4.0},
    "margin-8": {"agent.margin": 8.0},
}


@functools.cache
def configs(recipe, preset):
    """Step -> its config, as it would run."""
    return {job.step: job.order.config for job in jobs_of(load(recipe), preset, [0], None)}


def differences(recipe, preset, step, other):
    """Field -> its value in `step`, of those that `other` has otherwise."""
    mine, theirs = (dict(flatten(configs(recipe, preset)[name])) for name in (step, other))
    return {name: mine.get(name) for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("body", BODIES)
def test_an_ablation_is_mbml_but_for_what_it_is_without(body, preset):
    """The same updates, nets and batches above all; played alike."""
    name = f"mbml-ablations-{body}"
    steps = load(name).steps
    extra = {"ground-truth": {"agent.relabel": "known"}} if "ground-truth" in steps else {}
    for step, fields in (ABLATIONS | extra).items():
        assert differences(name, preset, step, "mbml") == fields, step
        played = set(differences(name, preset, f"eval-{step}", "eval-mbml"))
        assert played <= {"label", "curve_episodes", "curve_points"}, step
    rows = {step: steps[step].inputs.get("relabelled") for step in ABLATIONS}
    apart = {"neither": None, "no-relabelling": None, "no-ensemble": "single"}
    assert rows == dict.fromkeys(ABLATIONS, "relabelled") | apart


@pytest.mark.parametrize("body", BODIES)
def test_the_page_of_the_ablations_draws_them_in_figure_6(body):
    """Under the labels that it looks for; the paper knows the truth of the maze alone."""
    steps, page = load(f"mbml-ablations-{body}").steps, configs(f"mbml-ablations-{body}", "tiny")["page"]
    assert (page.paper, page.method, page.reference) == ("mbml", "MBML", "Neither")
    labels = [steps[step].label for step in steps["page"].inputs["reports"]]
    wanted = {page.label_of(part) for part in paper_figures.ABLATIONS}
    assert set(labels) == ({"MBML"} | wanted) - (set() if body == "umaze-goal" else {"ground truth"})
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("body", BODIES)
def test_one_net_is_the_ensemble_less_its_members(body, preset):
    """As long and as fast learned, and held to the same threshold; of the dynamics, too, where those differ. It is the
    same artifact on both pages."""
    fields = {"model.members": 1} | ({"transition.members": 1} if body == "walker-params" else {})
    for name in (f"mbml-ablations-{body}", f"mbml-figures-{body}"):
        assert differences(name, preset, "single", "relabelled") == fields
        assert configs(name, preset)["single"].threshold is not None
        assert load(name).steps["single"].inputs == {"log": "log"}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("body", BODIES)
def test_ddpg_learns_as_long_as_the_teachers_beside_it(body, preset):
    """And at their targets' rate; what else differs are nets that only BCQ has, and its published sizes."""
    name = f"mbml-figures-{body}"
    mine, theirs = (configs(name, preset)[step] for step in ("ddpg", "teachers"))
    assert (mine.algorithm, theirs.algorithm) == ("ddpg", "bcq")
    apart = {field.partition(".")[0] for field in differences(name, preset, "ddpg", "teachers")}
    assert apart == {"algorithm", "agent"}
    assert mine.agent.target_rate == theirs.agent.target_rate
    if preset != "paper":
        assert (mine.agent.hidden, mine.agent.batch_size) == (theirs.agent.hidden, theirs.agent.batch_size)
    wanted = {"tiny": 40, "small": 8_000, "paper": 50_000 if body in ("umaze-goal", "halfcheetah-vel") else None}
    assert wanted[preset] in (None, mine.updates)
    assert load(name).steps["ddpg"].inputs == {"log": "log"}


@pytest.mark.parametrize("body", BODIES)
def test_the_probe_is_asked_where_rewards_tell_tasks_apart(body):
    """Walkers differ in their bodies alone."""
    asked = {
        step.inputs.get("probe")
        for kind in ("", "ablations-")
        for step in load(f"mbml-{kind}{body}").steps.values()
        if step.stage == "eval"
    }
    assert asked == {None if body == "walker-params" else "log"}
