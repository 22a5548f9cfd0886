"""Several recipes in one file, and steps that one recipe takes from another."""

import pytest

from pipelines.core.errors import UsageError
from pipelines.core.recipe import load, parse, recipes_in, shipped

SEVERAL = """
name: runs
help: how {variant} learns
variants:
  ant: {log: {config: {family: ant-goal/mbml}, presets: {small: {steps: 7}}}}
  cheetah: {log: {config: {family: halfcheetah-vel/mbml}}, bcq: null, eval-bcq: null}
  plain:
steps:
  log: {stage: collect, config: {seed_of: 1}, presets: {small: {steps: 3, keep: all}}}
  bcq: {stage: train, inputs: {log: log}, presets: {paper: {paper: "mbml/{variant}"}}}
  sac: {stage: train, inputs: {log: log}}
  eval-bcq: {stage: eval, inputs: {policy: bcq}}
  eval-sac: {stage: eval, inputs: {policy: sac}}
  page: {stage: report, inputs: {reports: [eval-bcq, eval-sac]}}
"""


def test_variants_differ_in_what_they_say():
    ant = parse(SEVERAL, "runs.yaml", "runs-ant")
    assert (ant.name, ant.help) == ("runs-ant", "how ant learns")
    assert ant.steps["log"].config == {"seed_of": 1, "family": "ant-goal/mbml"}
    assert ant.steps["log"].presets == {"small": {"steps": 7, "keep": "all"}}
    assert ant.steps["bcq"].presets == {"paper": {"paper": "mbml/ant"}}
    assert parse(SEVERAL, "runs.yaml", "runs-plain").steps["log"].presets == {"small": {"steps": 3, "keep": "all"}}


def test_a_step_that_a_variant_lacks_is_missing_from_what_took_it():
    cheetah = parse(SEVERAL, "runs.yaml", "runs-cheetah")
    assert set(cheetah.steps) == {"log", "sac", "eval-sac", "page"}
    assert cheetah.steps["page"].inputs == {"reports": ["eval-sac"]}
    plain = parse(SEVERAL, "runs.yaml", "runs-plain")  # which was made after it
    assert plain.steps["page"].inputs == {"reports": ["eval-bcq", "eval-sac"]}


def test_of_several_one_has_to_be_named(tmp_path):
    file = tmp_path / "runs.yaml"
    file.write_text(SEVERAL)
    assert load(f"{file}:runs-ant").name == "runs-ant"
    with pytest.raises(UsageError, match="holds 3") as error:
        load(str(file))
    assert "runs-ant" in error.value.hint
    with pytest.raises(UsageError, match="has no 'runs-ent'") as error:
        load(f"{file}:runs-ent")
    assert "runs-ant" in error.value.hint


def test_a_recipe_without_variants_is_named_as_before():
    text = "name: x\nsteps: {a: {stage: collect}}"
    assert [*recipes_in(text, "x.yaml")] == ["x"]
    assert parse(text, "x.yaml").name == parse(text, "x.yaml", "x").name == "x"


def test_steps_are_taken_from_a_shipped_recipe():
    """So that their artifacts are the same ones."""
    of, taking = load("mbml-umaze-goal"), load("mbml-ablations-umaze-goal")
    for name in ("log", "teachers", "relabelled", "mbml", "eval-mbml"):
        assert taking.steps[name] == of.steps[name]
    assert "contextual" not in taking.steps
    ant = load("mbml-ablations-ant-dir")  # whose recipe has no such step
    assert "ground-truth" in taking.steps and "ground-truth" not in ant.steps
    with_it, without = (recipe.steps["page"].inputs["reports"] for recipe in (taking, ant))
    assert [one for one in with_it if one != "eval-ground-truth"] == without
    assert len(with_it) == len(without) + 1


@pytest.mark.parametrize(
    ("takes", "cause", "hint"),
    [
        ("{recipe: time-pint, steps: [log]}", "unknown recipe 'time-pint'", "time-point"),
        ("{recipe: time-point, steps: [lag]}", "has no step 'lag'", "log"),
    ],
)
def test_what_cannot_be_taken_is_refused(takes, cause, hint):
    with pytest.raises(UsageError, match=cause) as error:
        parse(f"name: x\ntakes: {takes}\nsteps: {{a: {{stage: eval, inputs: {{policy: log}}}}}}", "x.yaml")
    assert hint in error.value.hint


ALIKE = """
name: runs
variants:
  ant: {bcq: {presets: {small: {updates: 9}}}, eval-bcq: {inputs: {probe: null}}, third: {config: {x: 2}}}
  plain:
steps:
  log: {stage: collect}
  bcq:
    {stage: train, inputs: {log: log}, config: {agent: {rate: 1, size: 2}}, presets: {small: {updates: 3}}}
  second: {like: bcq, config: {agent: {rate: 5}}, presets: {tiny: {b: 2}}}
  third: {like: second, config: {x: 1}}
  eval-bcq: {stage: eval, inputs: {policy: bcq, probe: log}, label: BCQ}
  eval-third: {like: eval-bcq, inputs: {policy: third}, label: third}
"""


def test_a_step_is_like_another_but_for_what_it_says():
    """Also of what a variant made of the other, and of an input that it does not take."""
    ant, plain = (parse(ALIKE, "runs.yaml", f"runs-{name}").steps for name in ("ant", "plain"))
    assert ant["second"].presets == {"small": {"updates": 9}, "tiny": {"b": 2}}
    assert plain["second"].presets == {"small": {"updates": 3}, "tiny": {"b": 2}}
    assert ant["third"].config == {"agent": {"rate": 5, "size": 2}, "x": 2}
    assert plain["third"].config == {"agent": {"rate": 5, "size": 2}, "x": 1}
    assert ant["third"].inputs == {"log": "log"}
    assert (plain["eval-third"].inputs, plain["eval-third"].label) == ({"policy": "third", "probe": "log"}, "third")
    assert ant["eval-third"].inputs == {"policy": "third"}
    assert plain["bcq"].config == {"agent": {"rate": 1, "size": 2}}


@pytest.mark.parametrize(
    ("steps", "cause", "hint"),
    [
        ("{log: {stage: collect}, a: {like: lag}}", "step a is like unknown step 'lag'", "did you mean log"),
        ("{a: {like: b}, b: {like: c}, c: {like: b}}", "alike in a circle: a <- b <- c <- b", ""),
        ("{a: {like: a}}", "alike in a circle: a <- a", ""),
    ],
)
def test_a_step_that_is_like_nothing_is_refused(steps, cause, hint):
    with pytest.raises(UsageError, match=cause) as error:
        parse(f"name: x\nsteps: {steps}", "x.yaml")
    assert hint in (error.value.hint or "")


@pytest.mark.parametrize("variants", ["[ant]", "ant"])
def test_variants_are_a_table(variants):
    with pytest.raises(UsageError, match="variants are"):
        parse(f"name: x\nvariants: {variants}\nsteps: {{a: {{stage: collect}}}}", "x.yaml")


def test_every_family_of_mbml_has_its_recipes():
    families = ("umaze-goal", "halfcheetah-vel", "ant-dir", "ant-goal", "humanoid-dir", "walker-params")
    assert {f"mbml-{kind}{family}" for family in families for kind in ("", "ablations-")} <= set(shipped())


def test_time_has_its_recipes():
    """SAC from scratch sees as much of a test task as a log has of a training task; `paper` has the bodies' rows."""
    for body in ("hopper", "halfcheetah"):
        recipe = load(f"time-{body}")
        log, scratch = recipe.steps["log"], recipe.steps["scratch"]
        assert log.config == {"family": f"{body}-vel/time"}
        assert scratch.config == {"family": f"{body}-vel/time", "split": "test"}
        small = {"num_tasks": 10, "which_tasks": "spread"}
        assert log.presets["small"] == scratch.presets["small"] | small
        assert scratch.presets["small"]["num_tasks"] is None  # all test tasks
        for step in ("time", "cem"):
            assert recipe.steps[step].presets["paper"] == {"paper": f"time/{body}-vel"}
        assert recipe.steps["cem"].config == {"agent": {"act": "cem"}}
        page = recipe.steps["page"]
        assert (page.config["paper"], page.inputs["reports"]) == ("time", ["eval-time", "eval-cem", "eval-scratch"])
        assert recipe.steps["eval-scratch"].label == "SAC from scratch"


def test_files_are_read_once_and_stay_as_they_are():
    """Recipes take steps from each other: without it every one would read all files again."""
    before = shipped()
    text = repr(before)
    for name in before:
        load(name)
    assert shipped() is before
    assert repr(before) == text
