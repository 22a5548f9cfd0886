"""MQL's figures from evaluations whose every number is known: what is in them, and what they lack."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.core.configs.report import PARTS, ReportConfig
from pipelines.core.statistics import band, interval
from pipelines.stages import mql_figures, report
from pipelines.stages.paper_figures import Given, found_in
from pipelines.stages.results import sections
from tests.toys import Stored

from .evaluations import work

SEEDS = (0, 1, 2)
DIR, VEL = "halfcheetah-dir/mql", "halfcheetah-vel/mql"
TASKS = [{"id": n, "name": f"task {n}", "split": "test", "params": {}} for n in range(2)]
STEPS = np.array([100, 200, 300])
TOLD = ("before", "gain", "gain_spread", "spread_before", "spread_after", "rows", "beta", "ess", "lambda")


def run(label, seed=0, family=DIR, level=10.0, curve=True, adapts=False):
    """Returns `level` and the seed in both tasks, over training a third, two thirds and all of it. One that adapts has
    lambda 0.5 and beta 0.9 at every snapshot, each more by a tenth of the seed."""
    tree = {
        "returns": np.full((2, 4), level + seed),
        "obs": np.zeros((2, 4, 3, 0)),
        "value": np.full(2, np.nan),
        "discounted_return": np.ones(2),
        "curve_step": STEPS if curve else np.zeros(0, np.int32),
        "curve_return": (level + seed) * np.array([[1 / 3], [2 / 3], [1]])[: 3 * curve] * np.ones((1, 2)),
    }
    tree |= {f"curve_{name}": tree["curve_return"] * np.nan for name in ("value", "discounted")}
    tree |= {f"{name}_return": np.full(2, np.nan) for name in ("random", "oracle", "ceiling")}
    metrics = {}
    if adapts:
        tree |= {"adapt_before": np.full((2, 4), level - 3.0)}
        tree |= {"curve_adapt_pull": np.full((3, 2), 0.5 + seed / 10), "curve_adapt_beta": np.full((3, 2), 0.9)}
        metrics = {f"adapt/{name}": 0.5 for name in TOLD}
    extra = {"label": label, "family": family, "split": "test", "protocol": "adapt" if adapts else "zero-shot"}
    extra |= {"episodes": 4, "horizon": 2, "discount": 0.9}
    card = SimpleNamespace(id=f"{label} {seed} {family}", seed=seed, tasks=TASKS, extra=extra, config={}, parents={})
    card.metrics = metrics
    return Stored(card, tree)


def runs(label, **options):
    return [run(label, seed, **options) for seed in SEEDS]


@pytest.fixture
def drawn(monkeypatch):
    """Panels instead of pictures: what each call was given, by who was called."""
    kept = []
    for name in ("bars", "curves", "ladder"):
        monkeypatch.setattr(mql_figures, name, lambda panels, name=name: kept.append((name, list(panels))) or b"png")
    return kept


def found(reports, **config):
    """Figure -> what it came to."""
    given = Given(ReportConfig(paper="mql", **config), sections(reports), ())
    return {one.figure: one for one in found_in(given)}


def assert_line(line, level, steps=STEPS):
    np.testing.assert_array_equal(line.x, steps)
    each = np.array([(level + seed) * np.array([1 / 3, 2 / 3, 1]) for seed in SEEDS])
    for mine, wanted in zip(line.band, band(each), strict=True):
        np.testing.assert_allclose(mine, wanted)


def every_arm():
    out = runs("MQL", adapts=True) + runs("TD3-context", level=7.0) + runs("TD3", level=1.0) + runs("PEARL", level=9.0)
    for label in ("MQL, Eq. 18 only", "MQL, λ 0.1", "MQL, λ 0.5", "MQL, released scripts"):
        out += runs(label, level=8.0, curve=False)
    return out


def test_figure_1_is_bars_of_the_ends(drawn):
    one = found(runs("TD3-context", level=7.0) + runs("PEARL", level=9.0))["Figure 1"]
    (panel,) = drawn[0][1]
    assert (drawn[0][0], panel.title, [arm.label for arm in panel.arms]) == ("bars", DIR, ["TD3-context", "PEARL"])
    assert tuple(float(v) for v in panel.arms[0][2:]) == interval(np.array([7.0, 8.0, 9.0]))[:3]
    assert one.table[0] == ("family", "TD3-context", "PEARL", "MAML")
    assert one.table[1][-1] == "not run"
    assert "MAML learns on-policy and is not run" in one.caption
    assert one.lines == ["Figure 1 lacks evaluations on ant-fwd-back, ant-goal, halfcheetah-vel"]


def test_figures_2_and_3_are_curves_over_steps(drawn):
    every = found(every_arm())
    two, three = (next(p for n, p in drawn if n == "curves" and len(p[0].lines) == count) for count in (3, 2))
    assert [line.label for line in two[0].lines] == ["TD3", "TD3-context", "PEARL"]
    assert [line.label for line in three[0].lines] == ["MQL", "PEARL"]
    assert_line(two[0].lines[1], 7.0)
    assert_line(three[0].lines[0], 10.0)
    assert two[0].xlabel == "meta-training steps"
    assert two[0].lines[2].hue == three[0].lines[1].hue  # PEARL has one colour
    table = every["Figure 3"].table
    assert table[0] == ("family", "MQL", "PEARL", "MAML", "RL2", "ProMP")
    assert [cell.split("\n")[0] for cell in table[1]] == [DIR, "11.0", "10.0", *["not run"] * 3]
    assert "MAML, RL2 and ProMP learn on-policy and are not run" in every["Figure 3"].caption


def test_figure_3_is_of_what_adapted(drawn):
    one = found(runs("PEARL") + runs("MQL"))["Figure 3"]
    assert one.lines == [
        "Figure 3 is left out: it lacks an evaluation labelled 'MQL' on test tasks (omrl eval --protocol adapt)"
    ]
    assert not one.table


def test_figure_4_has_each_ablation(drawn):
    one = found(every_arm())["Figure 4"]
    ((panel,),) = [panels for name, panels in drawn if name == "ladder"]
    wanted = ["MQL", "TD3-context", "MQL, Eq. 18 only", "MQL, λ 0.1", "MQL, λ 0.5", "MQL, released scripts"]
    assert [dots.label for dots in panel.dots] == wanted
    assert [float(dots.point) for dots in panel.dots] == pytest.approx([11, 8, 9, 9, 9, 9])
    titles = [panel.title for name, panels in drawn if name == "curves" for panel in panels]
    assert f"{DIR}\nadaptation" in titles and f"{DIR}\nEq. 19" not in titles  # whose arm has no curve
    assert one.lines == []
    few = found([*runs("MQL", adapts=True), *runs("TD3-context")])["Figure 4"]
    assert [line.split("'")[1] for line in few.lines] == wanted[2:]


def test_figure_5_is_lambda_and_beta_of_the_snapshots(drawn):
    one = found(runs("MQL", adapts=True))["Figure 5"]
    pull, beta = next(panels for name, panels in drawn if name == "curves" and "λ" in panels[0].title)
    assert one.lines == []
    np.testing.assert_allclose(pull.lines[0].band.point, 0.6)
    np.testing.assert_allclose(beta.lines[0].band.point, 0.9)
    assert [level.point for level in (*pull.levels, *beta.levels)] == [0.55, 0.8]
    assert "about 0.55 and 0.8, as the paper's text has them of Ant-Fwd-Back. IQM" in one.pictures[0].caption
    (line,) = found(runs("MQL"))["Figure 5"].lines  # a policy that was not adapted
    assert line.startswith("Figure 5 is left out: it lacks an evaluation labelled 'MQL' on test tasks")
    drawn.clear()
    found([run("MQL", adapts=True), run("MQL", 1, curve=False, adapts=True)])  # the second kept no snapshots
    pull, _ = next(panels for name, panels in drawn if name == "curves" and "λ" in panels[0].title)
    np.testing.assert_allclose(pull.lines[0].band.point, 0.5)


def test_sizes_of_windows_and_contexts(drawn):
    labels = [PARTS["mql"][part] for part in mql_figures.SIZES]
    one = found([r for label in labels[:3] for r in runs(label)])["Window and context"]
    ((panel,),) = [panels for name, panels in drawn if name == "ladder"]
    assert [dots.label for dots in panel.dots] == labels[:3]
    assert [line.split("'")[1] for line in one.lines] == labels[3:]


def test_every_figure_says_in_one_line_what_it_lacks(drawn):
    every = found(runs("SAC"))
    assert list(every) == ["Figure 1", "Figure 2", "Figure 3", "Figure 4", "Figure 5", "Window and context"]
    assert drawn == []
    for name, one in every.items():
        assert one.lines and all(line.startswith(f"{name} is left out: it lacks") for line in one.lines)
        assert not one.table


def test_a_family_has_a_panel_of_its_own(drawn):
    reports = runs("TD3-context") + runs("PEARL") + runs("TD3-context", family=VEL)
    found(reports)
    panels = next(panels for name, panels in drawn if name == "bars")
    assert [(panel.title, len(panel.arms)) for panel in panels] == [(DIR, 2), (VEL, 1)]


def test_the_page():
    made = report.run(work(ReportConfig(paper="mql", proposition=False), every_arm()))
    pictures = {"figure-1.png", "figure-2.png", "figure-3.png", "figure-4.png", "figure-4-curves.png", "figure-5.png"}
    assert pictures <= set(made.files)
    told = json.loads(made.files["table.json"])["paper"]
    assert told["paper"] == "mql"
    text = made.files["table.txt"].decode()
    assert "Figures of MQL" in text and "not run" in text
    assert max(map(len, text.splitlines())) <= 80
