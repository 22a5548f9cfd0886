"""What a report says of trials, of checkpoints and of probes, from evaluations whose numbers are known."""

import csv
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.core.configs.report import ReportConfig
from pipelines.core.errors import UsageError
from pipelines.core.statistics import interval
from pipelines.stages import report, report_probes, tables
from pipelines.stages.results import sections

from .evaluations import EPISODES, Stored, evaluation, toward, work

NAMES = ("0deg", "90deg", "180deg")


def trials(label="MBML", seed=0, protocol="episodes 2-3 of 3"):
    """An evaluation in trials of three: the first pays 30 less than what counts, the others 5 less and 5 more."""
    made = evaluation(label, toward(), seed)
    counted = made.tree["returns"]
    made.tree["episode_returns"] = np.stack([counted - 30, counted - 5, counted + 5], -1)
    made.card.extra |= {"protocol": protocol, "trial_episodes": 3, "counted": [2, 3]}
    return made


def probe(label="tiMe", seed=0, share=0.8, family="point-semicircle/time", played=False, draws=6):
    """A probe: share `share` give or take 0.1; alone, or beside an evaluation."""
    rng = np.random.default_rng([seed, *map(ord, label)])
    arrays = {
        "mean": rng.normal(size=(draws, 3, 3, 4)).astype(np.float32),
        "share": share + np.linspace(-0.1, 0.1, draws),
        "stray": np.full(draws, 0.25),
        "nearest_own": np.full(draws, 1.0),
        "nearest_reward": np.full(draws, 0.75),
        "nearest_states": np.linspace(0, 0.5, draws),
    }
    said = {"log": "log", "rewards": "known", "tasks": list(NAMES)}
    said |= {"rows": 128, "first": None, "draws": draws, "pairs_left_out": 0}
    if played:
        made = evaluation(label, toward(), seed)
        made.card.extra["probe"] = said
        made.tree["probe"] = arrays
        return made
    tasks = [{"id": n, "name": name, "params": {"angle": 90.0 * n}} for n, name in enumerate(NAMES)]
    extra = {"label": label, "family": family, "protocol": "probe", "probe": said}
    return Stored(
        SimpleNamespace(id=f"{label} {seed}", seed=seed, tasks=tasks, extra=extra, config={}), {"probe": arrays}
    )


def make(reports):
    return report.run(work(ReportConfig(proposition=False), reports))


def text(made, name):
    return made.files[name].decode()


# ---- trials and checkpoints ------------------------------------------------------------------------------------------


def test_returns_by_episode():
    reports = [trials(seed=seed) for seed in range(3)]
    head, row = tables.by_episode(sections(reports)[0])
    assert [name.replace("\n", " ") for name in head] == [
        "method", "episode 1", "episode 2", "episode 3", "mean of what counts", "sum",
    ]  # fmt: skip
    each = np.stack([one.tree["episode_returns"].mean((0, 1)) for one in reports])
    wanted = [*each.T, each[:, 1:].mean(1), each.sum(1)]
    for cell, values in zip(row[1:], wanted, strict=True):
        assert cell.split("\n")[0] == f"{interval(values).point:.1f}"
        assert cell.split("\n")[1].startswith("[")
    lines = {line["stat"]: line for line in csv.DictReader(io.StringIO(tables.as_csv(sections(reports))))}
    assert float(lines["sum_return"]["point"]) == pytest.approx(interval(each.sum(1)).point)
    assert float(lines["episode_1_return"]["low"]) == pytest.approx(interval(each[:, 0]).low)
    (method,) = tables.as_json(sections(reports))[0]["methods"]
    assert method["all"]["episode_3_return"]["point"] == pytest.approx(interval(each[:, 2]).point)


def test_trials_beside_single_episodes():
    """Each row says how it was evaluated where not all were so; trials of other lengths have fewer columns."""
    short = trials("BOReL", protocol="all 2 episodes of a trial")
    short.tree["episode_returns"] = short.tree["episode_returns"][..., :2]
    table = sections([evaluation("tiMe", toward(), 0), trials(), short])
    said = tables.caption(table[0])
    assert f"mean over {EPISODES} episodes or trials" in said
    assert "tiMe: zero-shot; MBML: episodes 2-3 of 3; BOReL: all 2 episodes of a trial." in said
    assert [row[0] for row in tables.by_episode(table[0])] == ["method", "MBML", "BOReL"]
    assert tables.by_episode(table[0])[2][3] == ""
    assert "episode 3" in tables.as_markdown(table)
    assert "Returns by episode of a trial" in text(make([trials()]), "page.html")


@pytest.mark.parametrize("count", [6, 7])
def test_the_plain_table_of_episodes_fits_a_terminal(count):
    reports = [trials("a method with a name that goes on, and on, and on", seed) for seed in range(2)]
    for one in reports:
        one.tree["episode_returns"] = 1000 + np.repeat(one.tree["episode_returns"][..., :1], count, -1)
    found = tables.as_text(sections(reports))
    assert max(map(len, found.split("\n"))) <= 100
    assert ("what counts" in found) == (count == 6)
    assert ("table.md" in found) == (count == 7)


def test_without_trials_nothing_is_said_of_them():
    table = sections([evaluation("tiMe", toward(), 0)])
    assert tables.by_episode(table[0]) == []
    assert "trial" not in tables.as_text(table) + tables.as_markdown(table)
    assert "episodes with" not in tables.caption(table[0])
    assert tables.caption(table[0]).endswith("size of the latter.")


def test_a_checkpoint_chosen_on_the_test_tasks_is_told():
    chosen = evaluation("tiMe", toward(), 0)
    chosen.card.extra["protocol"] = "zero-shot, checkpoint chosen on the test tasks"
    made = make([chosen, evaluation("pooled batch SAC", toward(), 0)])
    for name in ("table.md", "table.txt", "page.html"):
        found = " ".join(text(made, name).split())
        assert "checkpoint chosen on the test tasks" in found
        assert "tiMe: zero-shot, checkpoint chosen on the test tasks; pooled batch SAC: zero-shot." in found
    assert json.loads(text(made, "table.json"))["sections"][0]["methods"][0]["protocol"].endswith("on the test tasks")


# ---- probes ----------------------------------------------------------------------------------------------------------


def test_probes_of_several_seeds():
    reports = [probe(seed=seed, share=share) for seed, share in enumerate((0.5, 0.6, 0.9))]
    (found,) = report_probes.gather(reports)
    assert tuple(found.share) == pytest.approx(tuple(interval(np.array([0.5, 0.6, 0.9]))))
    head, row = report_probes.grid([found])
    assert row == [
        "tiMe", f"{found.share.point:.2f}\n{found.share.bounds()}", "0.25", "–", "100%", "75%", "25%", "33%", "3",
    ]  # fmt: skip
    assert len(head) == len(row)
    assert "sure_share" not in found.numbers()  # as in reports of before, and of encoders that give points


def test_shares_in_units_of_deviations():
    reports = [probe(seed=seed) for seed in range(2)]
    for report_, share in zip(reports, (0.2, 0.6), strict=True):
        report_.tree["probe"]["sure_share"] = np.full(6, share)
    (found,) = report_probes.gather(reports)
    assert found.numbers()["sure_share"].point == pytest.approx(0.4)
    assert report_probes.grid([found])[1][3] == "0.40"


def test_a_probe_of_one_seed_has_the_interval_of_its_draws():
    (found,) = report_probes.gather([probe()])
    draws = 0.8 + np.linspace(-0.1, 0.1, 6)
    assert found.share == interval(draws)
    assert found.share.known


def test_a_report_of_probes_alone():
    made = make([probe(), probe("batch PEARL", share=0.1)])
    assert sorted(name for name in made.files if name.endswith(".png")) == [
        "point-semicircle-time-probe-batch-pearl.png",
        "point-semicircle-time-probe-time.png",
    ]
    for name in ("table.md", "table.txt", "page.html"):
        assert "Inference probe" in text(made, name)
        assert "0.80" in text(made, name)
        assert "batch PEARL" in text(made, name)
    assert max(map(len, text(made, "table.txt").split("\n"))) <= 100
    data = json.loads(text(made, "table.json"))
    assert data["sections"] == []
    assert [one["reward_share"]["point"] for one in data["probes"]] == pytest.approx([0.8, 0.1])
    assert data["probes"][0]["reports"] == ["tiMe 0"]
    lines = list(csv.DictReader(io.StringIO(text(made, "table.csv"))))
    assert [line["stat"] for line in lines[:2]] == ["reward_share", "stray"]
    assert made.arrays["table"]["point"].tolist() == [float(line["point"]) for line in lines]
    assert made.metrics["point-semicircle/time/probe/tiMe/reward_share"] == pytest.approx(0.8)


def test_a_probe_beside_an_evaluation():
    made = make([probe(played=True), evaluation("pooled batch SAC", toward(), 0)])
    assert len(json.loads(text(made, "table.json"))["sections"][0]["methods"]) == 2
    assert "Inference probe" in text(made, "page.html")
    assert "0°" in str(report_probes.gather([probe(played=True)])[0].names)
    plain = make([evaluation("pooled batch SAC", toward(), 0)])
    assert "probe" not in text(plain, "table.json")
    assert not any("robe" in text(plain, name) for name in ("table.md", "table.txt", "page.html"))


def test_probes_of_several_families_name_them():
    elsewhere = probe(family="ant-goal/mbml")
    elsewhere.card.id = "elsewhere"
    assert [row[0] for row in report_probes.grid(report_probes.gather([probe(), elsewhere]))] == [
        "method",
        "tiMe, point-semicircle/time",
        "tiMe, ant-goal/mbml",
    ]


def test_an_encoder_that_reads_nothing_has_no_share():
    nothing = probe()
    nothing.tree["probe"]["share"] = np.full(6, np.nan)
    made = make([nothing])
    assert json.loads(text(made, "table.json"))["probes"][0]["reward_share"]["point"] is None
    assert "–" in text(made, "table.txt")
    assert "point-semicircle/time/probe/tiMe/reward_share" not in made.metrics


def test_what_must_not_be_mixed():
    assert len(report_probes.gather([probe(), probe()])) == 1  # the same artifact twice
    twice = probe(share=0.2)
    twice.card.id = "another"
    with pytest.raises(UsageError, match="both probe 'tiMe', seed 0"):
        report_probes.gather([probe(), twice])
    other = probe(seed=1)
    other.card.extra["probe"]["tasks"] = ["0deg", "90deg"]
    with pytest.raises(UsageError, match="different tasks"):
        report_probes.gather([probe(), other])
