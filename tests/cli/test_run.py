"""`omrl run` on small stages: order, seeds, up to date, stale, force, resume, damage."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from omrl_cli import recipe as recipes
from omrl_cli import standing
from pipelines.core.errors import UsageError
from pipelines.core.recipe import load, parse, shipped
from pipelines.core.work import Product, Work
from pipelines.stages.estimates import COMPILE_S
from pipelines.store.card import Code
from pipelines.store.shelf import Shelf

from .counting import Counting, TestSpec


def ids(said) -> list[str]:
    return [step["id"] for step in json.loads(said.out)["steps"]]


def test_runs_each_seed_then_gathers_and_prints_the_page(omrl, recipe: Path, counting: Counting) -> None:
    said = omrl("run", recipe, "--seeds", "0-1")
    assert said.code == 0, said.err
    assert counting.runs == ["count 0", "count 0", "count 1", "count 1", "sum 0"]
    assert said.out.startswith("total 44\n")  # (0 + 6) + (0 + 15) + (1 + 6) + (1 + 15)
    page = Path(said.out.rsplit("report: ")[1].strip())
    assert page.read_text() == "<html></html>"
    assert "[5/5] total: made total/sum@1" in said.err


def test_what_a_seed_took_is_said(omrl, recipe: Path, counting: Counting) -> None:
    """By stage, the longest first; what gathers all seeds is no seed's."""
    assert "\na seed took" in omrl("run", recipe, "--seeds", "0-1").err
    alone = omrl("run", recipe, "--seed", "0")
    assert "the seed took" in alone.err and "count 100%" in alone.err
    steps = json.loads(omrl("run", recipe, "--seed", "0", "--json").out)["steps"]
    assert all(step["seconds"] > 0 for step in steps)
    rows = [(0, "eval", 5.0), (0, "collect", 60.0), (1, "collect", 50.0), (1, "eval", 5.0), (None, "report", 900.0)]
    card: Any = SimpleNamespace
    done = [
        recipes.Done(recipes.Job("x", seed, card()), card(stage=stage, seconds=seconds), True)
        for seed, stage, seconds in rows
    ]
    assert recipes.spent(done) == "a seed took 1 min 00 s: collect 92%, eval 8%"
    assert recipes.spent(done[-1:]) == ""


def test_second_run_is_up_to_date_and_a_new_seed_runs_alone(omrl, recipe: Path, counting: Counting) -> None:
    first = omrl("run", recipe, "--seed", "0", "--json")
    counting.runs.clear()
    second = omrl("run", recipe, "--seed", "0", "--json")
    assert second.code == 0
    assert counting.runs == []
    assert ids(second) == ids(first)
    assert not any(step["made"] for step in json.loads(second.out)["steps"])
    assert second.err.count("up to date") == 3
    omrl("run", recipe, "--seeds", "0,1")
    assert counting.runs == ["count 1", "count 1", "sum 0"]


def test_what_runs_later_is_loaded_with_what_runs_first(
    omrl, recipe: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout that changes under a chain changes none of its stages."""
    load = TestSpec.load

    def told(spec: TestSpec) -> Callable[[Work], Product]:
        counting.runs.append(f"load {spec.name}")
        return load(spec)

    monkeypatch.setattr(TestSpec, "load", told)
    assert omrl("run", recipe).code == 0
    assert counting.runs.index("load sum") < counting.runs.index("count 0")
    counting.runs.clear()
    assert omrl("run", recipe).code == 0
    assert counting.runs == []  # nothing to do, nothing loaded


def test_layers_of_a_step(omrl, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def upto(*more: str) -> list[int]:
        jobs = recipes.jobs_of(load(str(recipe)), "tiny", [0], list(more))
        return [job.order.config.upto for job in jobs if job.step != "total"]

    assert upto() == [2, 4]  # the stage's preset; the recipe's own
    monkeypatch.setenv("OMRL_SET", "few.upto=7; many.upto=8")
    assert upto() == [7, 8]
    assert upto("many.upto=9") == [7, 9]
    assert [
        job.order.config.upto for job in recipes.jobs_of(load(str(recipe)), None, [0], []) if job.step == "many"
    ] == [8]
    monkeypatch.delenv("OMRL_SET")
    for wrong, hint in {"mony.upto=1": "did you mean many?", "upto=1": "steps: few, many, total", "few=1": ""}.items():
        said = omrl("run", recipe, "--set", wrong)
        assert (said.code, "has no step" in said.err, hint in said.err) == (2, True, True)
    assert "step few: unknown field 'upt'" in (said := omrl("run", recipe, "--set", "few.upt=1")).err
    assert "did you mean upto?" in said.err


def test_only_wants_its_inputs(omrl, recipe: Path, counting: Counting) -> None:
    said = omrl("run", recipe, "--only", "total")
    assert (said.code, counting.runs) == (3, [])
    assert "run the recipe without --only" in said.err
    assert omrl("run", recipe, "--only", "many").code == 0
    assert counting.runs == ["count 0"]
    assert omrl("run", recipe, "--only", "mani").code == 2


def test_dry_run_says_what_would_happen_and_does_nothing(omrl, recipe: Path, counting: Counting, store: Path) -> None:
    rows = json.loads(omrl("run", recipe, "--dry-run", "--json").out)["plan"]
    assert [row["state"] for row in rows] == ["to do"] * 3
    assert rows[0]["seconds"] is None
    assert not store.exists()
    omrl("run", recipe, "--only", "few")
    said = omrl("run", recipe, "--dry-run")
    assert [line.split()[0] for line in said.out.splitlines()] == ["step", "few", "many", "total"]
    assert "up to date" in said.out.splitlines()[1]
    assert "2 of 3 to run" in said.err
    # A config that ran before at another seed tells what the next seed will take.
    row = json.loads(omrl("run", recipe, "--seed", "1", "--dry-run", "--json").out)["plan"][0]
    assert row["state"] == "to do"
    assert row["seconds"] > 0 and row["disk_bytes"] > 0 and row["memory_bytes"] > 0
    omrl("run", recipe)
    states = [row["state"] for row in json.loads(omrl("run", recipe, "--dry-run", "--json", "--force").out)["plan"]]
    assert states == ["to do again"] * 3


def test_an_estimate_counts_the_tasks_of_the_log_that_is_planned(omrl) -> None:
    """Of a recipe none of whose steps is there: teachers of two tasks take two tenths of those of ten, and MBML's
    distillation, in which each task's contexts meet those of the others, less."""

    def seconds(tasks: int) -> dict[str, float]:
        asked = ("--preset", "small", "--set", f"log.num_tasks={tasks}", "--dry-run", "--json")
        return {row["step"]: row["seconds"] for row in json.loads(omrl("run", "mbml-ant-goal", *asked).out)["plan"]}

    two, ten = seconds(2), seconds(10)
    learning = {step: (two[step] - COMPILE_S) / (ten[step] - COMPILE_S) for step in ("log", "teachers", "mbml")}
    assert learning["log"] == pytest.approx(0.2)
    assert learning["teachers"] == pytest.approx(0.2)
    assert 0.04 < learning["mbml"] < 0.2


def test_other_code_is_named_and_asks(omrl, recipe: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    omrl("run", recipe)
    counting.runs.clear()
    monkeypatch.setattr(standing, "code_fingerprint", lambda: Code(sha256="f" * 64))
    here = {**standing.package_versions(), "numpy": "1.0"}
    monkeypatch.setattr(standing, "package_versions", lambda: here)
    said = omrl("run", recipe)
    assert said.code == 5
    assert "is stale: omrl's code was" in said.err and "numpy was" in said.err
    assert "hint: --force makes it again, --accept-stale takes it as it is" in said.err
    said = omrl("run", recipe, "--accept-stale")
    assert (said.code, counting.runs) == (0, [])
    assert "accepted: omrl's code was" in said.err


def test_other_bits_of_a_parent_make_a_child_stale(omrl, recipe: Path, counting: Counting, store: Path) -> None:
    total = ids(omrl("run", recipe, "--json"))[-1]
    assert omrl("run", recipe, "--only", "few", "--force").code == 0  # the same bits again
    assert "up to date" in omrl("run", recipe, "--only", "total").err
    counting.bits = 1.0
    assert omrl("run", recipe, "--only", "few", "--force").code == 0
    said = omrl("run", recipe)
    assert said.code == 5
    assert f"total {total}@1 is stale: counts" in said.err and "has other bits" in said.err
    assert omrl("run", recipe, "--only", "total", "--force").out.startswith("total 22\n")
    assert Shelf(store).generations(total) == [1, 2]
    assert Shelf(store).find(f"{total}@1").metrics == {"total": 21.0}


def test_interrupted_then_refused_then_resumed(omrl, recipe: Path, counting: Counting, store: Path) -> None:
    counting.stop_at = 4
    said = omrl("run", recipe)
    assert said.code == 130
    assert "[2/3] many seed 0: interrupted with a checkpoint at 4" in said.err
    assert "the same command with --resume" in said.err
    counting.stop_at = None
    assert "unfinished at 4" in omrl("run", recipe, "--dry-run").out
    assert "--resume continues it" in omrl("ls").err
    said = omrl("run", recipe)
    assert said.code == 1
    assert "checkpoint at 4" in said.err and "--resume continues it, --force starts afresh" in said.err
    said = omrl("run", recipe, "--resume")
    assert said.out.startswith("total 21\n")
    assert "[2/3] many seed 0: count -> count" in said.err and "resuming at 4" in said.err
    many = json.loads(omrl("run", recipe, "--json").out)["steps"][1]["id"]
    rows = Shelf(store).artifact(many).file("metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert omrl("ls").err == ""


def test_a_checkpoint_of_other_code_asks(
    omrl, recipe: Path, counting: Counting, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting.stop_at = 2
    assert omrl("run", recipe, "--only", "few").code == 130
    counting.stop_at = None
    monkeypatch.setattr(standing, "code_fingerprint", lambda: Code(sha256="f" * 64))
    assert "unfinished at 2 (omrl's code was" in omrl("run", recipe, "--only", "few", "--dry-run").out
    counting.runs.clear()
    said = omrl("run", recipe, "--only", "few", "--resume")
    assert (said.code, counting.runs) == (5, [])
    assert "the checkpoint at 2 is stale: omrl's code was" in said.err
    assert "hint: --accept-stale goes on from it all the same, --force starts afresh" in said.err
    assert "resuming at 2" in omrl("run", recipe, "--only", "few", "--resume", "--accept-stale").err
    assert not Shelf(store).work_dirs()


def test_a_checkpoint_of_other_inputs_asks(omrl, recipe: Path, counting: Counting) -> None:
    omrl("run", recipe, "--only", "few")
    omrl("run", recipe, "--only", "many")
    counting.stop_total = True
    assert omrl("run", recipe, "--only", "total").code == 130
    counting.stop_total = False
    counting.bits = 1.0
    omrl("run", recipe, "--only", "few", "--force")
    said = omrl("run", recipe, "--only", "total", "--resume")
    assert said.code == 5
    assert "the checkpoint at 1 is stale: counts" in said.err and "has other bits" in said.err
    assert omrl("run", recipe, "--only", "total", "--force").code == 0


def test_force_throws_an_unfinished_run_away(omrl, recipe: Path, counting: Counting, store: Path) -> None:
    counting.stop_at = 2
    omrl("run", recipe, "--only", "few")
    counting.stop_at = None
    said = omrl("run", recipe, "--only", "few", "--force", "--json")
    few = ids(said)[0]
    rows = Shelf(store).artifact(few).file("metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [1, 2, 3]
    assert not Shelf(store).work_dirs()


def test_interrupted_force_can_be_resumed(omrl, recipe: Path, counting: Counting, store: Path) -> None:
    few = ids(omrl("run", recipe, "--only", "few", "--json"))[0]
    counting.stop_at = 2
    assert omrl("run", recipe, "--only", "few", "--force").code == 130
    counting.stop_at = None
    assert "up to date" in omrl("run", recipe, "--only", "few").err
    assert omrl("run", recipe, "--only", "few", "--resume").code == 0
    cards = [Shelf(store).find(f"{few}@{generation}") for generation in (1, 2)]
    assert cards[0].digest == cards[1].digest
    assert omrl("run", recipe, "--only", "few", "--resume").err.endswith(f"up to date {few}@2\n")


@pytest.mark.parametrize("what", ["card.json", "arrays"])
def test_one_damaged_byte(omrl, recipe: Path, store: Path, what: str) -> None:
    few = ids(omrl("run", recipe, "--only", "few", "--json"))[0]
    folder = Shelf(store).folder(few, 1)
    files = [path for path in sorted((folder / what).rglob("*")) if path.is_file()] or [folder / what]
    victim = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    said = omrl("run", recipe, "--only", "few")
    assert said.code == 5
    assert str(victim) in said.err and "damaged" in said.err and "--force" in said.err
    assert omrl("verify", few).code == 5
    assert omrl("run", recipe, "--only", "few", "--force").code == 0
    assert omrl("verify", few).code == 0


def test_a_second_writer_is_refused_at_once(omrl, recipe: Path, counting: Counting, store: Path) -> None:
    few = recipes.jobs_of(load(str(recipe)), None, [0], [])[0].order.id
    with Shelf(store).claim(few):
        said = omrl("run", recipe, "--only", "few")
    assert (said.code, counting.runs) == (1, [])
    assert "is being written by process" in said.err


def test_seeds() -> None:
    assert recipes.parse_seeds("0-4") == [0, 1, 2, 3, 4]
    assert recipes.parse_seeds("3, 0,2-3") == [3, 0, 2]
    for text in ("", "a", "4-2", "-1", "1-"):
        with pytest.raises(UsageError, match="no list of seeds"):
            recipes.parse_seeds(text)


def test_seed_and_seeds_exclude_each_other(omrl, recipe: Path) -> None:
    assert omrl("run", recipe, "--seed", "1", "--seeds", "0-1").code == 2


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_recipes_make_a_plan_for_each_preset(name: str) -> None:
    recipe = load(name)
    assert recipe.name == name
    assert recipe.help
    for preset in recipe.presets:
        jobs = recipes.jobs_of(recipe, preset, [0, 1], [])
        assert len({job.order.id for job in jobs}) == len(jobs)
        assert {job.step for job in jobs} == set(recipe.steps)


BROKEN = {
    "just text": "is not a mapping",
    "a: [": "is not YAML",
    "name: x\nsteps: {a: {stage: count, input: {}}}": "unknown field 'steps.a.input'",
    "name: x\nsteps: {}": "steps",
    "name: x\nsteps: {a: {stage: sum, inputs: {counts: b}}, bb: {stage: count}}": "takes from unknown step 'b'",
    "name: x\nsteps: {a: {stage: sum, inputs: {counts: b}}, b: {stage: sum, inputs: {counts: a}}}": "in a circle",
}


@pytest.mark.parametrize("text", sorted(BROKEN))
def test_broken_recipes(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, "r")
    assert BROKEN[text] in caught.value.cause


WRONG = {
    "a: {stage: coun}": ("unknown stage 'coun'", "did you mean count?"),
    "a: {stage: sum}": ("step a: sum needs the input counts", "steps.a.inputs"),
    "{a: {stage: count}, b: {stage: sum, inputs: {count: a}}}": ("sum has no input 'count'", "did you mean counts?"),
    "{a: {stage: sum, inputs: {counts: b}}, b: {stage: sum, inputs: {counts: c}}, c: {stage: count}}": (
        "step a: counts wants a count, step b makes a total",
        "another step",
    ),
}


@pytest.mark.parametrize("steps", sorted(WRONG))
def test_recipes_that_do_not_fit_the_stages(counting: Counting, steps: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipes.jobs_of(parse(f"name: x\nsteps:\n  {steps}", "x"), None, [0], [])
    cause, hint = WRONG[steps]
    assert cause in caught.value.cause
    assert hint in caught.value.hint


def test_unknown_recipe_preset_and_file(omrl, recipe: Path) -> None:
    said = omrl("run", "time-pont")
    assert (said.code, "did you mean time-point?" in said.err) == (2, True)
    said = omrl("run", "absent.yaml")
    assert (said.code, "No such file" in said.err) == (2, True)
    said = omrl("run", recipe, "--preset", "tinny")
    assert (said.code, "did you mean tiny?" in said.err) == (2, True)


def test_what_a_kill_after_the_rename_left_is_swept(omrl, recipe: Path, counting: Counting, store: Path) -> None:
    few = ids(omrl("run", recipe, "--only", "few", "--json"))[0]
    left = Shelf(store).work(few)
    (left / "checkpoint" / "000000000002").mkdir(parents=True)
    (left / "generation").write_text("1")
    assert omrl("ls").err == ""  # nothing there that --resume could continue
    assert "up to date" in omrl("run", recipe, "--only", "few", "--resume").err
    assert not left.exists()
    with Shelf(store).claim(few):  # somebody makes it again: that is none of our business
        assert "up to date" in omrl("run", recipe, "--only", "few").err


def test_a_stage_that_takes_all_tasks_together_says_so(omrl, recipe: Path, counting: Counting) -> None:
    assert "takes all its tasks together" in omrl("run", recipe, "--tasks-at-once", "2").err
    assert "takes all its tasks together" not in omrl("run", recipe, "--force").err
