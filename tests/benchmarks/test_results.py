"""The committed results: judged by their own targets, rendered into the README, and tied to artifacts."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import results, targets

COMMITTED = results.load()


def test_every_target_of_the_main_table_is_reached() -> None:
    lines = targets.judge({"time-point": COMMITTED["time-point"]})
    assert sum(line.startswith("reached") for line in lines) == 10
    assert not [line for line in lines if line.startswith("MISSED")]


@pytest.mark.parametrize(
    ("label", "change", "missed"),
    [
        (targets.TIME, -0.2, 3),
        (targets.PER_TASK, -0.1, 3),
        (targets.POOLED, 1.5, 2),
    ],
)
def test_a_worse_result_is_a_missed_target(label: str, change: float, missed: int) -> None:
    spoilt = copy.deepcopy(COMMITTED["time-point"])
    row = next(row for row in spoilt["table"]["sections"][0]["methods"] if row["label"] == label)
    for score in row["tasks"]["score"].values():
        for name in ("point", "low", "high"):
            score[name] += change
    assert sum(line.startswith("MISSED") for line in targets.judge({"time-point": spoilt})) >= missed


def test_a_value_gap_out_of_bounds_is_a_missed_target() -> None:
    spoilt = copy.deepcopy(COMMITTED["time-point"])
    gaps = {"eval-pooled": 0.4, "eval-teachers": -0.2}
    for step in spoilt["steps"]:
        if step["step"] in gaps and step["seed"] == 3:
            step["metrics"]["value_gap"] = gaps[step["step"]]
    missed = [line for line in targets.judge({"time-point": spoilt}) if line.startswith("MISSED")]
    assert len(missed) == 2
    assert "0.400" in missed[0]
    assert "-0.200" in missed[1]


def test_borel_is_held_to_its_share_of_the_bayes_optimal_return() -> None:
    better = copy.deepcopy(COMMITTED["borel-gridworld"])
    rows = {row["label"]: row for row in better["table"]["sections"][0]["methods"]}
    for share, said in ((0.86, "reached"), (0.84, "MISSED")):
        rows["BOReL"]["all"]["bayes_fraction"]["point"] = share
        *figures, verdict = targets.judge({"borel-gridworld": better})
        assert verdict.startswith(said)
        assert len(figures) == 2


@pytest.mark.parametrize("recipe", list(COMMITTED))
def test_committed_figures_name_their_artifacts(recipe: str) -> None:
    data = COMMITTED[recipe]
    first, _, last = data["seeds"].partition("-")
    seeds = set(range(int(first), int(last) + 1))
    assert {step["seed"] for step in data["steps"] if step["step"] != "page"} == seeds
    for step in data["steps"]:
        assert re.fullmatch("[0-9a-f]{12}", step["id"])
        assert step["platform"]["cores"] >= 1
        assert step["packages"]["jax"]
    cited = {id for section in data["table"]["sections"] for row in section["methods"] for id in row["reports"]}
    assert cited <= {step["id"] for step in data["steps"]}


def test_a_page_shows_each_committed_table() -> None:
    texts = [page.read_text() for page in results.PAGES]
    for recipe in COMMITTED:
        table = (results.OUT / f"{recipe}.md").read_text()
        with_it = [text for text in texts if results.render(text, recipe, results.shown(recipe, table)) is not None]
        assert with_it
        for text in with_it:
            assert results.render(text, recipe, results.shown(recipe, table)) == text


def test_a_brief_table_leaves_tasks_and_ids_out() -> None:
    blocks = ["caption", "| method | all |\n| --- |\n| a | 1 |", "| task | a |\n| --- |\n| t | 1 |"]
    blocks += ["Evaluations, by training seed:", "- a: 0 `x`\n- b: 0 `y`", "### a against", "words"]
    whole = "\n\n".join(["### title\n\n" + blocks[0], *blocks[1:]])
    assert results.shown("mbml-disjoint", whole) == "\n\n".join([*blocks[:2], "**a against**", "words"])
    assert "| task |" in results.shown("time-point", whole)


def _result(**low: float) -> dict:
    """A result of the maze's recipe: MBML minus the others, each of the given low bound."""
    names = {"contextual": "contextual BCQ", "pearl": "batch PEARL", "neither": "Neither", "truth": "ground truth"}
    gaps = [{"other": names[k], "point": v + 0.05, "low": v, "high": v + 0.1, "n": 5} for k, v in low.items()]
    return {"mbml-umaze-goal": {"table": {"differences": gaps}}}


def test_of_a_comparison_the_pages_show_what_is_beside_each_other() -> None:
    tables = ["| method | lowest task |\n| --- |\n| a | 1 |", "| method | own |\n| --- |\n| a | 2 |"]
    title = f"{results.COMPARED} and by the same episodes"
    whole = "\n\n".join(["### family, test tasks", "caption", tables[0], title, "words", tables[1]])
    assert results.shown("compare-umaze-goal", whole) == "\n\n".join([f"**{title[4:]}**", "words", tables[1]])


def test_of_a_comparison_every_own_number_is_a_figure() -> None:
    own = {"point": 0.5, "low": 0.4, "high": 0.6, "n": 5}
    rows = [{"label": label, "own": own} for label in ("tiMe", "MBML")]
    lines = targets.judge({"compare-umaze-goal": {"table": {"compared": [{"methods": rows}]}}})
    assert len(lines) == 2
    assert lines[1] == "figures  compare-umaze-goal: MBML by its own protocol 0.500 [0.400, 0.600] (n=5)"


def test_mbml_must_be_above_each_of_its_baselines() -> None:
    lines = targets.judge(_result(contextual=0.1, pearl=0.1, neither=0.1, truth=-0.1))
    assert [line.split()[0] for line in lines] == ["reached"] * 4
    lines = targets.judge(_result(contextual=-0.01, pearl=0.1, neither=0.1, truth=-0.2))
    assert [line.split()[0] for line in lines] == ["MISSED", "reached", "reached", "MISSED"]


def _two_goals(reads: float, worst: float) -> dict:
    def cell(value: float) -> dict:
        return {"point": value, "low": value - 0.05, "high": value + 0.05, "n": 5}

    labels = {"MBML": (reads, worst), "Neither": (0.2, -0.5)}
    probes = [{"label": k, "reward_share": cell(r)} for k, (r, _) in labels.items()]
    steps = [  # two seeds, whose worse goals are not the same
        {"step": f"eval-{k.lower()}", "metrics": {"score": 0.5, "score/a": one, "score/b": other}}
        for k, (_, w) in labels.items()
        for one, other in ((0.9, w), (w, 0.9))
    ]
    return {"mbml-disjoint": {"table": {"probes": probes}, "steps": steps}}


def test_on_two_goals_mbml_must_read_and_arrive() -> None:
    assert all(line.startswith("reached") for line in targets.judge(_two_goals(0.9, 0.8)))
    missed = [line for line in targets.judge(_two_goals(0.4, 0.3)) if line.startswith("MISSED")]
    assert len(missed) == 2


def test_render_replaces_what_stands_between_the_markers_and_nothing_else() -> None:
    text = "a\n<!-- results:x -->\nold\n<!-- /results:x -->\nb\n"
    assert results.render(text, "x", "new\n") == "a\n<!-- results:x -->\nnew\n<!-- /results:x -->\nb\n"
    assert results.render(text, "y", "new") is None


def test_a_table_that_no_page_has_a_place_for_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And no page is changed."""
    page, made = tmp_path / "page.md", tmp_path / "made"
    page.write_text("<!-- results:x -->\n<!-- /results:x -->\n")
    made.mkdir()
    for recipe in ("x", "y"):
        (made / f"{recipe}.md").write_text(f"### title of {recipe}\n\ntable of {recipe}\n")
    monkeypatch.setattr(results, "PAGES", (page,))
    monkeypatch.setattr(results, "OUT", made)
    monkeypatch.setattr(results, "SEEDS", {"x": "0", "y": "0"})
    with pytest.raises(SystemExit, match="no page has markers <!-- results:y -->"):
        results.render_pages()
    assert "table" not in page.read_text()
    monkeypatch.setattr(results, "SEEDS", {"x": "0"})
    results.render_pages()
    assert page.read_text() == "<!-- results:x -->\ntable of x\n<!-- /results:x -->\n"


def test_on_the_cheetah_search_must_be_poorer() -> None:
    rows = [{"label": "tiMe", "all": {"return": {"point": -1.0, "low": None, "high": None, "n": 1}}}]
    for low, word in ((0.1, "reached"), (-0.1, "MISSED")):
        gap = {"other": "tiMe, CEM", "point": 0.5, "low": low, "high": 1.0, "n": 3}
        table = {"sections": [{"methods": rows}], "differences": [gap]}
        lines = targets.judge({"time-halfcheetah": {"table": table}})
        assert [line.split()[0] for line in lines] == ["figures", word]


@pytest.mark.parametrize(
    ("without", "context", "words"),
    [
        (-170.0, -90.0, ["reached", "reached"]),
        (-150.0, -90.0, ["MISSED", "reached"]),
        (-170.0, -158.0, ["reached", "MISSED"]),  # whose interval holds the bound
        (-100.0, -90.0, ["MISSED", "MISSED"]),  # whose intervals meet
    ],
)
def test_of_mql_a_context_is_what_matters(without: float, context: float, words: list[str]) -> None:
    def interval(point: float) -> dict[str, Any]:
        return {"point": point, "low": point - 6.0, "high": point + 6.0, "n": 5}

    returns = {"MQL": context, "TD3-context": context, "TD3": without}
    rows = [{"label": label, "all": {"return": interval(point)}} for label, point in returns.items()]
    gaps = [{"method": "MQL", "other": "TD3-context", **interval(1.0)}, {"method": "x", "other": "y", **interval(1.0)}]
    table = {"sections": [{"methods": rows}], "differences": gaps}
    *lines, last = targets.judge({"mql-halfcheetah-vel": {"table": table}})
    assert [line.split()[0] for line in lines] == ["figures"] * 3 + words
    assert "MQL - TD3-context 1.000" in last


@pytest.mark.parametrize(
    ("recipe", "stem", "name"),
    [
        ("time-point", "point-semicircle-time-test-learning", "learning"),
        ("time-point", "proposition", "proposition"),
        ("mbml-umaze-goal", "proposition", None),
        ("borel-gridworld", "figure-7-gridworld-borel", "figure-7"),
        ("borel-gridworld", "gridworld-borel-test-learning", None),
        ("mql-halfcheetah-vel", "figure-4", "figure-4"),
        ("mql-halfcheetah-vel", "figure-4-curves", "figure-4-curves"),
        ("mql-halfcheetah-vel", "figure-1", None),
        ("compare-umaze-goal", "umaze-goal-mbml-m-test-compared", "compared"),
        ("compare-umaze-goal", "umaze-goal-mbml-m-test-scores", None),
    ],
)
def test_which_pictures_are_kept(recipe: str, stem: str, name: str | None) -> None:
    assert results.picture(recipe, stem) == name
