"""The report stage on evaluations whose every number is known beforehand."""

import base64
import csv
import dataclasses
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest

from pipelines.core.configs.report import ReportConfig
from pipelines.core.errors import UsageError
from pipelines.core.statistics import interval
from pipelines.stages import report, report_figures, tables
from pipelines.stages.results import sections, task_name

from .evaluations import EPISODES, blind, evaluation, toward, work

METHOD, POOLED = "tiMe", "pooled batch SAC"
PLACES = [(0.3, 8.8), (-0.5, 9.5), (8.9, 1.0)]
SPREAD = [round(180 / 14 * (k + 0.5), 6) for k in range(14)]


def pair(seeds=(0, 1, 2), **options):
    """tiMe and pooled batch SAC, a run per seed."""
    out = [evaluation(METHOD, toward(0.5), seed, **options) for seed in seeds]
    return out + [evaluation(POOLED, blind(PLACES[seed % 3]), seed, optimism=0.65, **options) for seed in seeds]


def make(reports, **config):
    return report.run(work(ReportConfig(**{"proposition": False, **config}), reports))


@pytest.fixture(scope="module")
def usual():
    """The report that most people will make: one family, two methods, three seeds."""
    return make(pair(), proposition=True)


def text(product, name):
    return product.files[name].decode()


def method(reports, label, section=0):
    """What table.json says of one method, without drawing anything."""
    found = json.loads(json.dumps(tables.as_json(sections(reports)), allow_nan=False))
    return next(m for m in found[section]["methods"] if m["label"] == label)


def plain(reports):
    """table.txt as one line."""
    return " ".join(tables.as_text(sections(reports)).split())


def headline(reports, **config):
    return " ".join(report.headline(ReportConfig(**config), sections(reports)[0]))


def pictures(reports, **config):
    """What is drawn, by the last words of its name."""
    drawn = [one for section in sections(reports) for one in report_figures.draw(ReportConfig(**config), section)]
    return [one.name.removesuffix(".png").split("-test-")[1] for one in drawn]


class Page(HTMLParser):
    """What a page loads, and its words."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.loads, self.words = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data):
        self.words += data + " "


# ---- the numbers -----------------------------------------------------------------------------------------------------


def scored(label, seed, returns, value=-50.0, discounted=-100.0):
    """An evaluation whose mean returns per task are given; random is -100, the oracle 0, the ceiling -10."""
    found = evaluation(label, toward(), seed)
    found.tree["returns"] = np.tile(np.array(returns, float)[:, None], EPISODES) + np.linspace(-1, 1, EPISODES)
    for name, level in (("random", -100.0), ("oracle", 0.0), ("ceiling", -10.0)):
        found.tree[f"{name}_return"] = np.full(3, level)
    found.tree["value"], found.tree["discounted_return"] = np.full(3, value), np.full(3, discounted)
    return found


def test_scores_by_hand():
    reports = [scored(METHOD, seed, [-10 - seed, -50, -100 + seed]) for seed in range(5)]
    row = method(reports, METHOD)
    points = [row["tasks"]["score"][task]["point"] for task in ("0°", "90°", "180°")]
    assert points == pytest.approx([0.88, 0.5, 0.02])
    every = np.array([[0.9 - 0.01 * s, 0.5, 0.01 * s] for s in range(5)])
    whole = interval(every)
    assert (row["all"]["score"]["point"], row["all"]["score"]["low"]) == pytest.approx((whole.point, whole.low))
    assert row["all"]["return"]["point"] == pytest.approx(-160 / 3)
    references = sections(reports)[0].references
    assert {name: list(scores) for name, (scores, _) in references.items()} == {
        "random": pytest.approx([0] * 3),
        "oracle": pytest.approx([1] * 3),
        "ceiling": pytest.approx([0.9] * 3),
    }


def test_the_value_gap_is_that_of_the_means_and_its_bounds_are_seeds():
    reports = [scored(METHOD, seed, [-10] * 3, value=-100 + gap) for seed, gap in enumerate((60, 70, 95))]
    gap = method(reports, METHOD)["all"]["value_gap"]
    assert (gap["point"], gap["low"], gap["high"]) == pytest.approx((0.75, 0.60, 0.95))
    alone = method(reports[:1], METHOD)["all"]["value_gap"]
    assert (alone["point"], alone["low"], alone["high"]) == (pytest.approx(0.6), None, None)


def test_where_the_pooled_agent_ends(usual):
    rows = sections(pair())[0].rows
    endings = rows[1].endings(["0°", "90°", "180°"])
    assert [ending.goal for ending in endings] == ["90°", "90°", "0°"]
    assert endings[2].distance == pytest.approx(np.hypot(1.1, 1.0), abs=0.15)
    assert all(ending.share == 1 for ending in endings)
    words = Page(text(usual, "page.html")).words
    assert "pooled batch SAC ends nearest to the goal 90° in seeds 0, 1" in words
    assert "nearest to the goal 0° in seed 2" in words


def test_distance_from_the_own_goal():
    near, far = (method(pair(), label)["tasks"]["end_distance"] for label in (METHOD, POOLED))
    assert all(cell["point"] < 1.0 for cell in near.values())
    assert far["180°"]["point"] > 10


def test_the_headline_says_where_the_intervals_part():
    assert "tiMe lies above that of pooled batch SAC on 0°, 180°." in headline(mixed())
    assert "pooled batch SAC lies above that of tiMe on no task." in headline(mixed(), method=POOLED, reference=METHOD)
    clear = [run for run in mixed() if run.card.extra["label"] == METHOD] + pair()[3:]
    assert "on every task" in headline([*clear[:3], *(scored(POOLED, s, [-90, -90 - s, -90]) for s in range(3))])


def mixed():
    """tiMe at 0.8 everywhere; the pooled agent at 0.8 on one goal only."""
    out = [scored(METHOD, seed, [-20 + seed, -20 - seed, -20]) for seed in range(3)]
    return out + [scored(POOLED, seed, [-80 + seed, -20 + seed, -80 - seed]) for seed in range(3)]


# ---- what is written -------------------------------------------------------------------------------------------------


def test_the_files_and_their_ids(usual):
    prefix = "point-semicircle-time-test"
    drawn = [f"{prefix}-{what}.png" for what in ("learning", "method-ends", "reference-ends", "scores")]
    written = ["table.csv", "table.json", "table.md", "table.txt"]
    assert sorted(usual.files) == sorted(["page.html", "proposition.png", *drawn, *written])
    for artifact in pair():
        for name in ("page.html", "table.md", "table.json"):
            assert artifact.card.id in text(usual, name)
    assert usual.name == "omrl-report"


def test_the_csv_is_tidy_and_agrees_with_the_json():
    reports = [*pair(), *pair(angles=SPREAD, family="point-semicircle/spread")]
    lines = list(csv.DictReader(io.StringIO(tables.as_csv(sections(reports)))))
    keys = [tuple(line[k] for k in ("family", "split", "label", "task", "stat")) for line in lines]
    assert len(set(keys)) == len(keys)
    by_key = dict(zip(keys, lines, strict=True))
    line = by_key["point-semicircle/spread", "test", METHOD, "all", "score"]
    cell = method(reports, METHOD, section=1)["all"]["score"]
    assert [float(line[name]) for name in ("point", "low", "high")] == [cell[n] for n in ("point", "low", "high")]
    assert (line["n"], line["seeds"]) == ("3", "0 1 2")
    assert by_key["point-semicircle/time", "test", "ceiling", "90°", "score"]["low"] == ""


def test_the_page_needs_nothing_else():
    made = make(pair(), title="A <b>bold</b> title")
    page = Page(text(made, "page.html"))
    assert "<b>bold" not in text(made, "page.html")
    assert "A <b>bold</b> title" in page.words
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert all(load.startswith("data:image/png;base64,") for load in page.loads)
    shown = {base64.b64decode(load.partition(",")[2]) for load in page.loads}
    assert shown == {content for name, content in made.files.items() if name.endswith(".png")}
    assert "url(" not in text(made, "page.html")


def test_the_plain_table_fits_a_terminal():
    long = evaluation("a method with a name that goes on, and on, and on, for ever and a day", toward(9.0), 0)
    reports = [*pair(), long, *pair(angles=SPREAD, family="point-semicircle/spread")]
    found = tables.as_text(sections(reports))
    assert max(map(len, found.split("\n"))) <= 100
    assert all(name in found for name in ("0°", "180°", "all tasks", "value gap", "lowest task", "a method with"))


def test_markdown_rows_have_as_many_cells_as_the_head():
    found = tables.as_markdown(sections([*pair(), *pair(angles=SPREAD, family="point-semicircle/spread")]))
    for block in found.split("\n\n"):
        counts = {line.count("|") for line in block.split("\n") if line.startswith("|")}
        assert len(counts) <= 1
    assert found.count("### ") == 2
    assert "| 174° |" in found  # the table of every task


def test_same_evaluations_same_bits(usual):
    again = make(pair(), proposition=True)
    assert again.files == usual.files
    assert json.dumps(again.extra, allow_nan=False) == json.dumps(usual.extra)
    for name, column in usual.arrays["table"].items():
        np.testing.assert_array_equal(column, again.arrays["table"][name])
    lines = list(csv.DictReader(io.StringIO(text(usual, "table.csv"))))
    assert usual.arrays["table"]["point"].tolist() == [float(line["point"]) for line in lines]


def test_card_metrics_are_finite():
    metrics = make([*pair(), evaluation("batch PEARL", blind((9.5, 0.5)), 0, snapshots=0)]).metrics
    assert metrics["point-semicircle/time/test/tiMe/n"] == 3
    assert 0.9 < metrics["point-semicircle/time/test/tiMe/score"] < 1
    assert "point-semicircle/time/test/batch PEARL/score_low" not in metrics
    assert np.isfinite(list(metrics.values())).all()


def test_proposition_one(usual):
    proof = json.loads(text(usual, "table.json"))["proposition"]
    assert proof["max_error"] <= 1e-2 < proof["mistaken"]
    assert usual.metrics["proposition/max_error"] == proof["max_error"]
    for name in ("page.html", "table.md", "table.txt"):
        assert "Proposition 1 holds" in " ".join(text(usual, name).split())
    assert max(map(len, text(usual, "table.txt").split("\n"))) <= 100
    assert usual.arrays["proposition"]["pooled"][-1] == proof["max_error"]


def test_a_proposition_that_fails_is_said_to():
    made = report.tabular.prove(0, num_updates=1_000)
    assert made.max_error > report.TARGET
    assert "NOT reached" in report.state(made)


# ---- less than everything --------------------------------------------------------------------------------------------


def test_one_seed_claims_no_interval():
    alone = pair(seeds=(0,))
    assert "one seed gives no interval" in plain(alone)
    assert "[" not in plain(alone)
    assert "(n=1)" in headline(alone)
    assert method(alone, METHOD)["all"]["score"]["low"] is None
    assert "[" in plain(pair())  # the control
    assert "[" in headline(pair())


def test_labels_may_have_different_seeds():
    reports = [*pair(), evaluation("batch PEARL", blind((9.5, 0.5)), 7)]
    assert (method(reports, METHOD)["seeds"], method(reports, "batch PEARL")["seeds"]) == ([0, 1, 2], [7])
    (scores,) = report_figures._scores("p", ReportConfig(), sections(reports)[0])
    assert "n = 1 to 3" in scores.caption


def test_without_snapshots_there_is_no_curve():
    assert pictures(pair(snapshots=0)) == ["reference-ends", "method-ends", "scores"]
    half = sections([*pair(seeds=(0,), snapshots=0), evaluation(METHOD, toward(), 1)])[0]
    assert len(list(report_figures._learning("p", ReportConfig(), half, half.rows))) == 1


def test_without_an_oracle_there_are_returns():
    reports = pair(oracle=False)
    assert "no oracle" in plain(reports)
    assert method(reports, METHOD)["all"]["score"]["point"] is None
    assert method(reports, METHOD)["all"]["return"]["low"] is not None
    assert pictures(reports) == ["learning", "reference-ends", "method-ends"]
    assert [row[0] for row in tables.grid(sections(reports)[0])] == ["method", METHOD, POOLED, "random"]


def test_without_a_value_there_is_no_gap():
    artifact = evaluation(METHOD, toward(), 0)
    artifact.tree["value"] = np.full(3, np.nan)
    artifact.tree["curve_value"] = np.full_like(artifact.tree["curve_value"], np.nan)
    assert method([artifact], METHOD)["all"]["value_gap"]["point"] is None
    assert "–" in plain([artifact])
    assert "learning" in pictures([artifact])


def test_without_goals_there_are_no_paths():
    artifact = evaluation(METHOD, toward(), 0)
    for task in artifact.card.tasks:
        del task["params"]["x"]
    assert pictures([artifact]) == ["learning", "scores"]
    assert "end_distance" not in method([artifact], METHOD)["tasks"]


def test_a_missing_method_is_noted_and_the_rest_is_drawn():
    run = work(ReportConfig(proposition=False), [evaluation("batch PEARL", blind((9.5, 0.5)), 0)])
    made = report.run(run)
    assert [name for name in made.files if "scores" in name]
    assert any("tiMe" in note for note in run.tell.notes)
    assert any(POOLED in note for note in run.tell.notes)


def test_the_sweep():
    noise = {"tiMe, 3% random": 0.03, "tiMe, 25% random": 0.25}
    swept = [evaluation(label, toward(8 - 20 * share), s) for label, share in noise.items() for s in (0, 1)]
    config, section = ReportConfig(sweep=noise), sections([*pair(), *swept])[0]
    (drawn,) = report_figures._sweep("p", config, section)
    assert "n = 2" in drawn.caption
    assert not list(report_figures._sweep("p", ReportConfig(), section))
    with pytest.raises(UsageError, match="tiMe, 4% random"):
        make(pair(), sweep={"tiMe, 4% random": 0.04})


# ---- what must not be mixed ------------------------------------------------------------------------------------------


def test_the_same_artifact_twice_counts_once():
    reports = pair()
    assert method([*reports, *reports], METHOD)["seeds"] == [0, 1, 2]


def test_two_runs_of_one_seed_are_refused():
    reports = [evaluation(METHOD, toward(), 3), evaluation(METHOD, toward(2.0), 3, optimism=0.2)]
    with pytest.raises(UsageError, match="seed 3") as refused:
        sections(reports)
    assert all(artifact.card.id in refused.value.cause for artifact in reports)


def test_other_tasks_are_refused():
    reports = [evaluation(METHOD, toward(), 0), evaluation(METHOD, toward(), 1, angles=SPREAD)]
    with pytest.raises(UsageError, match="differ in their tasks"):
        sections(reports)


def test_one_label_has_one_protocol_but_two_may_differ():
    odd = evaluation(METHOD, toward(), 9)
    odd.card.extra["protocol"] = "k-episodes"
    with pytest.raises(UsageError, match="evaluated differently"):
        sections([*pair(), odd])
    odd.card.extra["label"] = "tiMe, later episodes"
    assert "zero-shot / k-episodes" in plain([*pair(), odd])


def test_sections_keep_families_and_splits_apart():
    train = evaluation(METHOD, toward(), 0)
    train = dataclasses.replace(train, card=type(train.card)(**{**vars(train.card), "id": "f" * 12}))
    train.card.extra = {**train.card.extra, "split": "train"}
    found = sections([*pair(), train])
    assert [(s.family, s.split) for s in found] == [
        ("point-semicircle/time", "test"),
        ("point-semicircle/time", "train"),
    ]
    assert [row.n for section in found for row in section.rows] == [3, 3, 1]


def test_the_grid_of_many_tasks_names_the_lowest():
    section = sections(pair(angles=SPREAD, family="point-semicircle/spread"))[0]
    head, _, pooled, *_ = tables.grid(section)
    scores = [cell.point for cell in section.rows[1].score]
    assert head[1] == "lowest task"
    assert pooled[1].startswith(f"{min(scores):.2f}")
    assert pooled[2] == f"at {section.tasks[int(np.argmin(scores))]}"
    full = tables.by_task(section)
    assert [row[0] for row in full] == ["task", *section.tasks, "all tasks"]


def test_a_task_is_called_by_its_angle_or_its_name():
    """A name without a space is cut, not lost."""
    task = {"name": "(0.609,1.519)", "params": {"x": 0.609, "y": 1.519}}
    assert task_name(task) == "(0.609,1.519)"
    assert task_name({"name": "a" * 20, "params": {}}) == f"{'a' * 13}…"
    assert task_name({"name": "right", "params": {"angle": 90.0}}) == "90°"
    assert task_name({"name": "43.888deg", "params": {"angle": 0.766}}) == "43.9°"  # whose params are in radians
    assert task_name({"name": "sunny-deg"}) == "sunny-deg"
