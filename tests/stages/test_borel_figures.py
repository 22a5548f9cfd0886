"""BOReL's figures from evaluations, looks and logs whose every number is known: what is in them, and what they lack."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.core.configs.report import PARTS, ReportConfig
from pipelines.core.errors import UsageError
from pipelines.core.statistics import interval
from pipelines.stages import borel_figures, borel_looks, looking, report
from pipelines.stages.paper_figures import Given, found_in
from pipelines.stages.results import sections
from tests.lines import line
from tests.toys import SPACE, Stored

from .evaluations import work

SEEDS = (0, 1, 2)
GRID, ARC, WIND = "gridworld/borel,start=fixed", "point-semicircle-sparse/borel,start=fixed", "point-wind/borel"
TASKS = [{"id": n, "name": f"goal {n}", "split": "test", "params": {}} for n in range(4)]


def trials(label, seed=0, family=ARC, each=(1.0, 3.0), counted=None, success=True, exact=None):
    """An evaluation in trials: returns of each episode are the same in all tasks, and grow with the seed."""
    each = np.array(each) + seed
    first, last = counted or (1, len(each))
    tree = {
        "returns": np.full((4, 2), each[first - 1 : last].mean()),
        "episode_returns": np.broadcast_to(each, (4, 2, len(each))),
        "obs": np.zeros((4, 2, 3, 0)),
        "value": np.full(4, np.nan),
        "discounted_return": np.ones(4),
        "curve_step": np.zeros(0, np.int32),
    }
    tree |= {
        f"{name}_return": np.full(4, value)
        for name, value in zip(("random", "oracle", "ceiling"), (0, 5, np.nan), strict=True)
    }
    tree |= {"episode_success": np.broadcast_to([False, True], (4, 2, 2))} if success else {}
    extra = {"label": label, "family": family, "split": "test", "protocol": "all", "episodes": 2, "horizon": 2}
    extra |= {"discount": 0.9, "counted": [first, last], "trial_episodes": len(each)}
    extra |= {"trial_references": exact} if exact else {}
    card = SimpleNamespace(id=f"{label} {seed} {family}", seed=seed, tasks=TASKS, extra=extra, config={}, parents={})
    return Stored(card, tree)


def look(label, seed=0, family=ARC, maps=True, scenes=True):
    """Two episodes of two steps in each of four tasks; the belief of task n is sure of square [n, 0] from half on."""
    path = np.arange(3.0)[None, None, :, None] * np.ones((4, 2, 1, 2)) * [[[[1.0]], [[0.5]]]]
    values = np.full((4, 5, 4, 2), 1 / 8)
    for n in range(4):
        values[n, 2:], values[n, 2:, n, 0] = 0.0, 1.0
    found = {"path": path, "reward": np.ones((4, 2, 2)), "length": np.full((4, 2), 2), "found": np.full(4, 4)}
    found |= {"moment": np.arange(5), "map": values} if maps else {}
    scene = {"low": [-1, -1], "high": [3, 3], "shapes": [["circle", [1, 0, 0.2], "goal", False]]}
    said = {"trial_episodes": 2, "tasks": [task["name"] for task in TASKS], "scenes": [scene if scenes else None] * 4}
    said |= {"low": [-2.0, -1.0], "high": [2.0, 1.0]} if maps else {}
    extra = {"label": label, "family": family, "split": "test", "protocol": "look", "look": said}
    card = SimpleNamespace(
        id=f"look {label} {seed} {family}", seed=seed, tasks=TASKS, extra=extra, config={}, parents={}
    )
    return Stored(card, {"look": found})


@pytest.fixture
def drawn(monkeypatch):
    """Panels instead of pictures: what each call was given."""
    kept = []
    for module, names in ((borel_figures, ("bars", "density")), (borel_looks, ("above", "narrowing"))):
        for name in names:
            monkeypatch.setattr(module, name, lambda *given: kept.append(given) or b"png")
    monkeypatch.setattr(borel_looks, "search_film", lambda *given: kept.append(given) or [])
    monkeypatch.setattr(borel_looks.film, "gif", lambda frames, frame_s: b"GIF89a")
    return kept


def found(reports, logs=(), **config):
    """Figure -> what it came to."""
    given = Given(ReportConfig(paper="borel", **config), sections(reports), (), (), (), reports, logs)
    return {one.figure: one for one in found_in(given)}


# ---- bars ------------------------------------------------------------------------------------------------------------


def test_the_bars_are_sums_over_seeds(drawn):
    reports = [trials("BOReL", seed) for seed in SEEDS] + [trials("no relabelling", each=(0.5, 0.5))]
    one = found(reports)["Figure 3"]
    (((panel,),),) = drawn
    assert (panel.title, panel.ylabel) == ("point-semicircle-sparse/borel", "return of episodes 1 to 2")
    assert [arm.label for arm in panel.arms] == ["BOReL", "no relabelling"]
    assert [arm.hue for arm in panel.arms] == [0, 1]
    whole, plain = panel.arms
    wanted = interval(np.array([4.0, 6.0, 8.0]))
    assert (float(whole.point), float(whole.low), float(whole.high)) == pytest.approx(wanted[:3])
    assert (float(plain.point), float(plain.low)) == pytest.approx((1.0, np.nan), nan_ok=True)
    assert panel.levels == {"random": 0, "oracle": 10, "sweep": 95.25, "Thompson": 19.79}
    assert "n = 1 to 3" in one.pictures[0].caption
    assert [line.split(" (")[0] for line in one.lines] == [
        "Figure 3 lacks evaluations on gridworld, ant-semicircle, halfcheetah-vel, reacher-image",
        "Figure 3 lacks evaluations labelled 'MBML', 'PEARL' on test tasks, of the same episodes",
    ]


def test_what_is_known_exactly_is_across_the_bars(drawn):
    exact = {"bayes": 37.2, "thompson": 7.8, "thompson-stop": 11.7}
    reports = [trials("BOReL", family=GRID, each=(4.0, 9.0, 9.0, 9.0), exact=exact, success=False)]
    found(reports)
    (((panel,),),) = drawn
    names = {"Bayes-optimal": 37.2, "Thompson": 7.8, "Thompson, stopping": 11.7}
    assert panel.levels == {"random": 0, "oracle": 20, **names}


def test_wind_is_figure_4_and_counts_its_first_episode(drawn):
    reports = [trials("BOReL", family=WIND, counted=(1, 1)), trials("no replay", family=WIND, counted=(1, 1))]
    reports.append(trials("PEARL", family=WIND))  # of both episodes: not beside them
    every = found(reports, reference="no replay")
    (((panel,),),) = drawn
    assert [(arm.label, float(arm.point)) for arm in panel.arms] == [("BOReL", 1.0), ("no replay", 1.0)]
    assert (panel.ylabel, panel.levels) == ("return of episode 1", {"random": 0, "oracle": 5})
    assert not every["Figure 3"].pictures
    assert "'MBML', 'PEARL'" in every["Figure 4"].lines[-1]


def test_table_1_has_a_line_for_each_data_set(drawn):
    ant = "ant-semicircle/borel,start=fixed"
    reports = [trials("BOReL", seed, ant, (80.0, 90.0)) for seed in SEEDS]
    reports += [trials("BOReL + CQL", 0, ant, (90.0, 90.0)), trials("BOReL, fixed", 0, ant, (40.0, 50.0))]
    one = found(reports)["Table 1"]
    head, first, second = one.table
    assert head == ("logs begin", "BOReL", "with CQL", "paper", "n")
    assert [cell.split("\n")[0] for cell in first] == ["anywhere", "172.0", "180.0", "171.8 / 176.0", "3/1"]
    assert second == ("fixed", "90.0", "", "99.2 / 112.4", "1")
    assert [line.split("'")[1] for line in one.lines] == [
        *("BOReL, excluding", "BOReL + CQL, excluding", "BOReL + CQL, fixed")
    ]


# ---- looks -----------------------------------------------------------------------------------------------------------


def test_behaviour_is_of_the_first_seed_and_the_method_first(drawn):
    reports = [look("no relabelling"), look("BOReL", 1), look("BOReL", 0)]
    one = found(reports)["Figures 1 and 5"]
    ((panels,), *_) = drawn
    assert [panel.title for panel in panels[::4]] == ["BOReL, goal 0", "no relabelling, goal 0"]
    np.testing.assert_array_equal(panels[0].paths, reports[0].tree["look"]["path"][0])
    assert panels[0].scene.low == (-1, -1) and panels[0].scene.shapes[0].role == "goal"
    assert one.pictures[0].name == "behaviour-point-semicircle-sparse-borel-start-fixed.png"
    assert "Training seed 0 of n = 1, 2" in one.pictures[0].caption


def test_the_belief_narrows_side_by_side(drawn):
    """Two of the four tasks, each with mixed trials and without; and the numbers of all."""
    reports = [look("BOReL", seed) for seed in SEEDS] + [look("no relabelling")]
    one = found(reports)["Figure 7"]
    ((panels, parts),) = [
        given for given in drawn if len(given) == 2 and isinstance(given[1], dict) and "prior" in given[1]
    ]
    assert [panel.title for panel in panels] == [
        *("BOReL, goal 1", "no relabelling, goal 1", "BOReL, goal 2", "no relabelling, goal 2")
    ]
    assert list(parts.values()) == [0, 0.25, 0.5, 1]
    assert panels[0].belief.values.shape == (5, 4, 2) and panels[0].belief.low == (-2.0, -1.0)
    head, mixed, plain = one.table
    assert head[0] == "belief" and len(head) == 6
    # from 8 places to one at half; of the moments 1, 2 and 3 before the goal (at 4) two are sure
    assert [cell.split("\n")[0] for cell in mixed] == [
        "BOReL, point-semicircle-sparse",
        "1.00",
        "0.13",
        "0.13",
        "0.67",
        "3",
    ]
    assert plain[-1] == "1"
    assert str(looking.SURE) in one.caption
    (line,) = found(reports[:3])["Figure 7"].lines
    assert line.startswith(f"Figure 7 lacks a look labelled 'no relabelling' or 'no replay' on {ARC} (omrl eval")


def test_a_film_of_the_method(drawn):
    reports = [look("BOReL"), look("no relabelling"), look("BOReL", family=WIND, maps=False, scenes=False)]
    one = found(reports)["Film"]
    films = [given for given in drawn if len(given) == 2 and 0 in given[1]]
    assert [given[0].title for given in films] == ["BOReL, goal 2"] * 2
    assert films[0][1][0] == "goal 2  episode 1  return 0"
    assert films[0][1][4] == "goal 2  episode 2  return 4"
    assert films[0][0].belief is not None and films[1][0].belief is None
    assert [picture.name.rpartition(".")[2] for picture in one.pictures] == ["gif", "gif"]
    assert one.pictures[0].data.startswith("data:image/gif;base64,")


def test_two_looks_of_one_seed_are_refused(drawn):
    other = look("BOReL")
    other.card.id = "another"
    with pytest.raises(UsageError, match="both look at 'BOReL', seed 0"):
        found([look("BOReL"), other])


# ---- logs ------------------------------------------------------------------------------------------------------------


def log_of(family, seed=0, places=((0.0, 0.0), (1.0, 0.5))):
    tree = {f"task_{n:04d}": {"obs": np.array(places, np.float32) + n, "reward": np.zeros(1)} for n in range(2)}
    card = SimpleNamespace(id=f"{family} {seed}", seed=seed, tasks=TASKS[:2], extra={"family": family})
    return Stored(card, tree)


def test_data_sets_are_where_their_agents_were(drawn, monkeypatch):
    blind = dataclasses.replace(line(), space=SPACE._replace(obs_shape=(5,)))
    logs = [log_of(ARC, 1), log_of(ARC, 0), log_of("gridworld/borel"), log_of(None)]
    one = found([], logs)["Figures 10 and 11"]
    (((arc, grid),),) = drawn
    assert arc.title == "point-semicircle-sparse/borel\nstart=fixed"
    np.testing.assert_array_equal(arc.points, [[0, 0], [1, 0.5], [1, 1], [2, 1.5]])
    assert arc.scene.low == (-2.0, -1.0) and [shape.role for shape in arc.scene.shapes] == ["floor"]
    assert "seed 0, 4 observations of 2 of 2 tasks" in one.pictures[0].caption
    assert len(grid.scene.shapes) == 25
    monkeypatch.setattr(borel_figures.registry, "find", lambda name: blind)
    assert found([], [log_of("line/toy", places=np.zeros((2, 5)))])["Figures 10 and 11"].lines == [
        "Figures 10 and 11 is left out: it lacks replay-logs of families that are seen from above (--logs REF)"
    ]


# ---- what there is not -----------------------------------------------------------------------------------------------


def test_of_nothing_every_figure_is_left_out():
    every = found([])
    assert list(every) == [
        *("Figures 1 and 5", "Figure 3", "Figure 4", "Table 1", "Figure 7", "Figures 10 and 11", "Film")
    ]
    for one in every.values():
        assert not one.pictures + one.files + one.table
        (line,) = one.lines
        assert line.startswith(f"{one.figure} is left out: it lacks ")


def test_a_page_shows_all_of_it():
    """Success in the first episode and the fraction of the Bayes-optimal return too, wherever they are known."""
    exact = {"bayes": 8.0}
    reports = [
        trials("BOReL", exact=exact),
        trials("no relabelling", exact=exact),
        look("BOReL"),
        look("no relabelling"),
    ]
    config = ReportConfig(paper="borel", method="BOReL", reference="no relabelling", proposition=False)
    order = work(config, reports)
    made = report.run(order)
    names = {name.rpartition(".")[2] for name in made.files}
    assert {"png", "gif", "html", "md", "txt", "csv", "json"} <= names
    assert made.files["search-point-semicircle-sparse-borel-start-fixed.gif"].startswith(b"GIF8")
    for name in ("table.md", "table.txt", "page.html"):
        words = " ".join(made.files[name].decode().replace("&#39;", "'").split())
        assert "Figures of BOReL" in words and "Figure 4 is left out: it lacks an evaluation labelled 'BOReL'" in words
        assert "goal in" in words and "of Bayes-" in words and "spread at" in words
    assert "data:image/gif;base64," in made.files["page.html"].decode()
    text = made.files["table.txt"].decode()
    assert max(map(len, text.split("\n"))) <= 80
    figures = {one["figure"]: one for one in json.loads(made.files["table.json"])["paper"]["figures"]}
    assert figures["Figure 7"]["table"][1][0] == "BOReL, point-semicircle-sparse"
    assert set(figures["Figure 3"]["files"]) <= set(made.files)


def test_fields_of_the_paper():
    assert set(PARTS["borel"]) >= {*borel_looks.PLAIN, *borel_looks.PEERS}
    assert {part for row in borel_figures.DATA_SETS.values() for part in row[:2]} <= set(PARTS["borel"])
    assert ReportConfig(paper="borel").label_of("pearl") == "PEARL"
