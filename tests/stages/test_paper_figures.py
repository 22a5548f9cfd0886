"""The figures of the two papers, from evaluations whose every number is known: what is in them, and what they lack."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.core.configs.base import resolve
from pipelines.core.configs.report import PARTS, ReportConfig
from pipelines.core.errors import UsageError
from pipelines.core.statistics import band, interval
from pipelines.stages import paper_figures, report
from pipelines.stages.paper_figures import Given, found_in
from pipelines.stages.results import sections

from .evaluations import Stored, blind, evaluation, toward, work

SEEDS = (0, 1, 2)


def runs(label, seeds=SEEDS, split="test", agent=None, parent=None, **options):
    """An evaluation per seed."""
    out = []
    for seed in seeds:
        made = evaluation(label, agent or toward(), seed, **options)
        made.card.extra["split"] = split
        made.card.id += f" {split}"
        made.card.parents = {"policy": SimpleNamespace(id=f"{parent} {seed}")} if parent else {}
        out.append(made)
    return out


@pytest.fixture
def drawn(monkeypatch):
    """Panels instead of pictures: what each call was given."""
    kept = []
    for name in ("curves", "ladder"):
        monkeypatch.setattr(paper_figures, name, lambda panels: kept.append(list(panels)) or b"png")
    return kept


def found(paper, reports, policies=(), relabelled=(), drawn=(), **config):
    """Figure -> what it came to."""
    given = Given(ReportConfig(paper=paper, **config), sections(reports), drawn, policies, relabelled)
    return {one.figure: one for one in found_in(given)}


def means(reports, name="curve_return"):
    """[S, N, T]"""
    return np.stack([one.tree[name] for one in reports])


def assert_band(line, each):
    for mine, wanted in zip(line.band, band(each), strict=True):
        np.testing.assert_allclose(mine, wanted)


# ---- tiMe ------------------------------------------------------------------------------------------------------------


def hopper_and_cheetah():
    out = []
    for family in ("hopper-vel/time", "halfcheetah-vel/time"):
        out += runs("tiMe", family=family, oracle=False)
        out += runs("SAC from scratch", family=family, agent=blind((1, 1)), oracle=False)
    return out


def test_the_six_panels_of_figure_3(drawn):
    reports = hopper_and_cheetah()
    one = found("time", reports)["Figure 3"]
    (panels,) = drawn
    assert [panel.title for panel in panels] == [
        f"{body}\n{task}" for body in ("hopper-vel", "halfcheetah-vel") for task in ("0°", "90°", "180°")
    ]
    sac, method = reports[3:6], reports[:3]
    for task, panel in enumerate(panels[:3]):
        (line,), (level,) = panel.lines, panel.levels
        assert (line.label, level.label) == ("SAC from scratch", "tiMe")
        np.testing.assert_array_equal(line.x, sac[0].tree["curve_step"])
        assert_band(line, means(sac)[..., task])
        ends = np.array([run.tree["returns"][task].mean() for run in method])
        assert (level.point, level.low, level.high) == interval(ends)[:3]
        assert panel.xlabel == "SAC's interactions"
    assert one.lines == []
    assert "n = 3" in one.pictures[0].caption


def test_figure_3_says_which_evaluation_it_lacks(drawn):
    reports = hopper_and_cheetah()
    (line,) = found("time", reports[:3])["Figure 3"].lines
    assert line == (
        "Figure 3 is left out: it lacks an evaluation labelled 'SAC from scratch' on test tasks "
        "(omrl collect --split test, then omrl eval --policy THAT-LOG)"
    )
    (line,) = found("time", reports[3:6])["Figure 3"].lines
    assert "labelled 'tiMe' on test tasks" in line
    (line,) = found("time", [*reports[:3], *runs("SAC from scratch", family="hopper-vel/time", snapshots=0)])[
        "Figure 3"
    ].lines
    assert "a curve of 'SAC from scratch'" in line
    assert drawn == []
    assert not found("time", reports[:6], labels={"scratch": "SAC from scratch"})["Figure 3"].lacks
    assert "labelled 'mine'" in found("time", reports, labels={"scratch": "mine"})["Figure 3"].lines[0]


def test_figure_2_of_time_is_on_the_page_already():
    reports = [*runs("tiMe"), *runs("pooled batch SAC", agent=blind((0, 9)))]
    made = report.run(work(ReportConfig(paper="time", proposition=False), reports))
    figures = {one["figure"]: one for one in json.loads(made.files["table.json"])["paper"]["figures"]}
    prefix = "point-semicircle-time-test"
    assert figures["Figure 2"]["files"] == [f"{prefix}-{w}.png" for w in ("learning", "reference-ends", "method-ends")]
    assert set(figures["Figure 2"]["files"]) <= set(made.files)
    lacks = found("time", reports[:3])["Figure 2"].lacks
    assert any("'pooled batch SAC'" in one for one in lacks)


# ---- MBML ------------------------------------------------------------------------------------------------------------


def policy(seed, losses, name="meta"):
    """A meta-policy that told its losses, the last before a torn line."""
    rows = [json.dumps({"step": step, "q_loss": loss, "kl": 1}) for step, loss in losses.items()]

    class Told(Stored):
        def file(self, name):
            assert name == "metrics.jsonl"
            return SimpleNamespace(read_text=lambda: "\n".join([*rows, json.dumps({"step": 9, "other": 1})]))

    return Told(SimpleNamespace(id=f"{name} {seed}"), {})


def test_figure_2_of_mbml(drawn):
    """The loss of the policies that were evaluated, not of others, beside their return and the teachers'."""
    neither = runs("Neither", split="train", parent="meta")
    teachers = runs("BCQ", split="train")
    losses = [{500: 4.0 + seed, 1000: 1.0 + seed} for seed in SEEDS]
    policies = [*(policy(seed, one) for seed, one in zip(SEEDS, losses, strict=True)), policy(7, {500: 99.0})]
    assert found("mbml", [*neither, *teachers], policies)["Figure 2"].lines == []
    ((left, right),) = drawn
    assert (left.log, right.log) == (True, False)
    np.testing.assert_array_equal(left.lines[0].x, [500, 1000])
    assert_band(left.lines[0], np.array([list(one.values()) for one in losses]))
    assert_band(right.lines[0], means(neither).mean(-1))
    (level,) = right.levels
    assert level.label == "BCQ"
    assert level.point == pytest.approx(interval(np.array([run.tree["returns"].mean() for run in teachers])).point)


def test_figure_2_of_mbml_says_who_ends_lower_as_it_is_drawn(drawn):
    well, badly = toward(0.3), blind((0.0, -9.0))

    def told(families):
        """Of (Neither's agent, the teachers') on each."""
        reports, policies = [], []
        for place, (mine, theirs) in families.items():
            reports += runs("Neither", split="train", family=place, agent=mine, parent=place)
            reports += runs("BCQ", split="train", family=place, agent=theirs)
            policies += [policy(seed, {500: 4.0, 1000: 1.0}, place) for seed in SEEDS]
        return found("mbml", reports, policies)["Figure 2"].pictures[0].caption

    assert "(dashed): Neither ends below BCQ. " in told({"ant-dir/mbml": (badly, well)})
    assert "(dashed): Neither ends no lower. " in told({"ant-dir/mbml": (well, badly)})
    both = {"ant-dir/mbml": (badly, well), "ant-goal/mbml": (well, badly)}
    assert "Neither ends below BCQ in 1 of 2. " in told(both)


def test_figure_2_of_mbml_lacks(drawn):
    lines = found("mbml", runs("Neither", split="test"))["Figure 2"].lines
    assert [("'Neither' on train" in a, "'BCQ' on train" in a, "--policies" in a) for a in lines] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]
    reports = [*runs("Neither", split="train", parent="another"), *runs("BCQ", split="train")]
    (line,) = found("mbml", reports, [policy(0, {1: 1.0})])["Figure 2"].lines
    assert "is the one of 'Neither'" in line
    assert drawn == []


def four():
    out = []
    for family in ("ant-goal/mbml", "umaze-goal/mbml-m"):
        out += [*runs("MBML", family=family), *runs("contextual BCQ", family=family)]
    return out + runs("batch PEARL", family="ant-goal/mbml")


def test_figure_4_has_a_panel_for_each_family(drawn):
    reports = four()
    one = found("mbml", reports)["Figure 4"]
    ant, maze = drawn[0]
    assert [panel.title for panel in (ant, maze)] == ["ant-goal/mbml", "umaze-goal/mbml-m"]
    assert [line.label for line in ant.lines] == ["MBML", "contextual BCQ", "batch PEARL"]
    assert [line.hue for line in ant.lines] == [0, 1, 2]
    assert [line.label for line in maze.lines] == ["MBML", "contextual BCQ"]
    assert_band(ant.lines[0], means(reports[:3]).mean(-1))
    assert one.lines == []
    lacks = found("mbml", reports[:6])["Figure 4"]
    assert lacks.pictures
    (line,) = lacks.lines
    assert line.startswith("Figure 4 lacks an evaluation labelled 'batch PEARL' on test tasks")


def test_captions_count_the_seeds_that_are_drawn(drawn):
    """Not those of other rows of the section, nor of runs without a curve; what is over fewer than another is said."""
    reports = [*runs("MBML"), *runs("contextual BCQ", (0, 1)), *runs("something else", range(5))]
    one = found("mbml", reports)["Figure 4"]
    assert one.pictures[0].caption.endswith("IQM and 95% bootstrap interval over n = 2 to 3 training seeds.")
    where = "on point-semicircle/time, test tasks"
    assert one.lacks[1:] == (f"1 of 3 seeds of the curve of 'contextual BCQ' {where}",)
    torn = [*runs("MBML", (0,)), *runs("MBML", (1, 2), snapshots=0), *runs("contextual BCQ", (0,))]
    one = found("mbml", [*torn, *runs("something else")])["Figure 4"]
    assert one.pictures[0].caption.endswith("One training seed, no interval.")
    assert one.lacks[1:] == (
        f"2 of 3 seeds of the curve of 'MBML' {where}",
        f"2 of 3 seeds of the curve of 'contextual BCQ' {where}",
    )
    one = found("mbml", [*runs("MBML"), *runs("Neither", (0,)), *runs("something else", range(5))])["Figure 6"]
    assert "n = 1 to 3 training seeds" in one.pictures[0].caption
    assert one.lacks[1:] == (f"2 of 3 seeds of 'Neither' {where}",)
    one = found("mbml", [*runs("DDPG", (0, 1), "train"), *runs("MBML", (0,), "train"), *reports])["Figure 5"]
    assert "n = 1 to 2 training seeds" in one.pictures[0].caption
    assert one.lacks == ("1 of 2 seeds of 'MBML' on point-semicircle/time, train tasks",)
    one = found("time", [*runs("tiMe"), *runs("SAC from scratch", (0,)), *runs("something else", range(5))])["Figure 3"]
    assert "n = 1 to 3 training seeds" in one.pictures[0].caption
    assert one.lacks == (f"2 of 3 seeds of the curve of 'SAC from scratch' {where}",)


def test_a_loss_of_fewer_seeds_than_were_evaluated_is_said(drawn):
    neither, teachers = runs("Neither", split="train", parent="meta"), runs("BCQ", split="train")
    one = found("mbml", [*neither, *teachers], [policy(seed, {500: 4.0}) for seed in (0, 2)])["Figure 2"]
    assert "over n = 2 to 3 training seeds" in one.pictures[0].caption
    where = "on point-semicircle/time, train tasks"
    assert one.lacks == (f"1 of 3 seeds of the loss of 'Neither' {where} (--policies REF)",)
    np.testing.assert_array_equal(drawn[0][0].lines[0].band.point, [4.0])


def test_figure_5_has_the_learner_and_the_method(drawn):
    ddpg, method = runs("DDPG", split="train", agent=blind((3, 3))), runs("MBML", split="train")
    assert found("mbml", [*ddpg, *method])["Figure 5"].lines == []
    ((panel,),) = drawn
    assert_band(panel.lines[0], means(ddpg).mean(-1))
    assert [level.label for level in panel.levels] == ["MBML"]
    alone = found("mbml", ddpg)["Figure 5"]
    assert alone.pictures
    assert "Figure 5 lacks an evaluation labelled 'MBML' on train tasks" in alone.lines[0]
    assert "labelled 'DDPG' on train tasks" in found("mbml", method)["Figure 5"].lines[0]


def test_figure_6_holds_the_ablations_that_there_are(drawn):
    whole, neither, margin = runs("MBML"), runs("Neither", agent=blind((1, 1))), runs("margin 0", agent=toward(4.0))
    one = found("mbml", [*whole, *neither, *margin, *runs("no ablation")])["Figure 6"]
    (rungs,) = drawn[-1]
    assert [dot.label for dot in rungs.dots] == ["MBML", "Neither", "margin 0"]
    for dot, reports in zip(rungs.dots, (whole, neither, margin), strict=True):
        wanted = interval(np.array([run.tree["returns"].mean() for run in reports]))
        assert (float(dot.point), float(dot.low), float(dot.high)) == pytest.approx(wanted[:3])
    (line,) = one.lines
    assert line.startswith("Figure 6 lacks evaluations on test tasks labelled 'ground truth', 'No triplet',")
    assert "'Neither'" not in line
    assert "left out" in found("mbml", whole)["Figure 6"].lines[0]


def relabelling(members, seed, error, passed=None, family="umaze-goal/mbml-m", reward="model"):
    """Errors of two tasks on each other's rows, in rewards of deviations 2 and 4; the diagonal does not count."""
    own = np.eye(2) * 1e6
    arrays = {
        "foreign_error": own + np.array([[0, 2.0], [4.0, 0]]) * error,
        "passed_error": own + np.array([[0, 2.0], [np.nan, 0]]) * (error if passed is None else passed),
        "reward_deviation": np.array([2.0, 4.0]),
    }
    card = SimpleNamespace(
        id=f"{members} {seed} {family} {error}",
        seed=seed,
        extra={"family": family, "reward": reward},
        config={"model": {"members": members}},
    )
    return Stored(card, arrays)


def test_figure_7_has_the_errors_in_deviations(drawn):
    logs = [relabelling(20, seed, 0.1 * (1 + seed), 0.05) for seed in SEEDS] + [relabelling(1, 0, 0.3)]
    one = found("mbml", [], relabelled=logs)["Figure 7"]
    ((rungs,),) = drawn
    by_label = {dot.label: dot for dot in rungs.dots}
    assert list(by_label) == [
        "ensemble of 20, all rows (n=3)",
        "ensemble of 20, rows that pass (n=3)",
        "one net, all rows (n=1)",
    ]
    every, passed, alone = by_label.values()
    assert float(every.point) == pytest.approx(interval(np.array([0.1, 0.2, 0.3])).point)
    assert float(passed.point) == pytest.approx(0.05)
    assert float(alone.point) == pytest.approx(0.3)
    assert math.isnan(float(alone.low))
    assert (one.lines, rungs.title) == ([], "umaze-goal/mbml-m")
    (line,) = found("mbml", [], relabelled=logs[:3])["Figure 7"].lines
    assert line == "Figure 7 lacks one without an ensemble (omrl relabel --set model.members=1)"
    unknown = [relabelling(20, 0, np.nan), relabelling(20, 1, 0.1, reward="known")]
    assert "left out" in found("mbml", [], relabelled=unknown)["Figure 7"].lines[0]


def test_figure_7_counts_seeds_and_not_artifacts(drawn):
    """One that is given twice is one; two of one seed are a choice of the user's."""
    logs = [relabelling(20, seed, 0.1 * (1 + seed)) for seed in SEEDS]
    found("mbml", [], relabelled=[*logs, logs[1], logs[0]])
    labels = [dot.label for dot in drawn[0][0].dots]
    assert labels == ["ensemble of 20, all rows (n=3)", "ensemble of 20, rows that pass (n=3)"]
    elsewhere = [relabelling(1, 0, 0.3), relabelling(20, 0, 0.3, family="ant-goal/mbml")]
    known = relabelling(20, 0, 0.9, reward="known")
    assert len(found("mbml", [], relabelled=[*logs, *elsewhere, known])["Figure 7"].pictures) == 1
    with pytest.raises(UsageError, match="both ensembles of 20, seed 2, on umaze-goal/mbml-m") as caught:
        found("mbml", [], relabelled=[*logs, relabelling(20, 2, 0.7)])
    assert caught.value.hint == "leave one out of --relabelled"


def test_figure_8_is_that_of_fine_tuning():
    assert found("mbml", [])["Figure 8"].lines == [
        "Figure 8 is left out: it lacks reports of omrl finetune (--reports REF)"
    ]
    there = found("mbml", [], drawn=[SimpleNamespace(name="finetuning.png")])["Figure 8"]
    assert (there.lines, there.files) == ([], ("finetuning.png",))


@pytest.mark.parametrize(("paper", "numbers"), [("time", (2, 3)), ("mbml", (2, 4, 5, 6, 7, 8))])
def test_of_nothing_every_figure_is_left_out(paper, numbers):
    every = found(paper, [])
    assert list(every) == [f"Figure {number}" for number in numbers]
    for figure, one in every.items():
        assert not one.pictures + one.files
        assert one.lines
        assert all(line.startswith(f"{figure} is left out: it lacks ") for line in one.lines)


# ---- the report ------------------------------------------------------------------------------------------------------


def test_a_page_says_what_is_left_out():
    reports = four()
    order = work(ReportConfig(paper="mbml", proposition=False), reports)
    made = report.run(order)
    assert "figure-4.png" in made.files
    assert any(note.startswith("Figure 5 is left out") for note in order.tell.notes)
    for name in ("table.md", "table.txt", "page.html"):
        words = " ".join(made.files[name].decode().replace("&#39;", "'").split())
        assert "Figures of MBML" in words
        assert "Figure 7 is left out: it lacks a relabelled-log" in words
    assert max(map(len, made.files["table.txt"].decode().split("\n"))) <= 80
    figures = json.loads(made.files["table.json"])["paper"]["figures"]
    assert {one["figure"]: one["files"] for one in figures}["Figure 4"] == ["figure-4.png"]


def test_a_checkpoint_chosen_on_the_test_tasks_is_in_the_figure(drawn):
    reports = [*runs("MBML"), *runs("contextual BCQ")]
    for one in reports[:3]:
        one.card.extra["checkpoint"] = {"rule": "best-on-test"}
    found("mbml", reports)
    assert [line.label for line in drawn[0][0].lines] == ["MBML (best on test)", "contextual BCQ"]


def test_without_a_paper_nothing_changes():
    made = report.run(work(ReportConfig(proposition=False), runs("tiMe")))
    assert "paper" not in json.loads(made.files["table.json"])
    assert not any(name.startswith("figure-") for name in made.files)
    assert "Figures of" not in made.files["page.html"].decode()


# ---- the config ------------------------------------------------------------------------------------------------------


def test_fields_of_a_paper():
    assert (resolve(ReportConfig, {"paper": "mbml"}).method, resolve(ReportConfig).method) == ("MBML", "tiMe")
    assert resolve(ReportConfig, {"paper": "mbml", "method": "mine"}).method == "mine"
    assert not {"paper", "labels"} & set(resolve(ReportConfig).identity())
    assert set(PARTS["mbml"]) >= set(paper_figures.ABLATIONS)
    with pytest.raises(UsageError, match=r"labels.scrach: no such part") as error:
        resolve(ReportConfig, {"paper": "time", "labels": {"scrach": "x"}})
    assert error.value.hint == "did you mean scratch?"
    with pytest.raises(UsageError, match="parts of a paper's figures"):
        resolve(ReportConfig, {"labels": {"scratch": "x"}})
