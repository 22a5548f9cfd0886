"""What a report says of fine-tuning, from curves whose crossing is known."""

import csv
import io
import json

import numpy as np
import pytest

from pipelines.core.configs.report import ReportConfig
from pipelines.core.errors import UsageError
from pipelines.core.statistics import interval
from pipelines.stages import report, report_finetuning
from pipelines.stages.finetune import speed_up
from pipelines.stages.report_finetuning import SCRATCH, WARM

from .evaluations import evaluation, toward, work

STEPS = np.arange(0, 120, 20)
LABEL, BESIDE = "MBML, fine-tuned", "random nets beside MBML, fine-tuned"


def tuned(seed=0, label=LABEL, family="point-semicircle/time", scratch="sac", faster=25.0):
    """Random nets rise from -100 to 0 in 100 interactions, evenly; the initialised begin as they are `faster` later and
    end 10 above. Each seed and task has a place of its own, which both arms share."""
    made = evaluation(label, toward(), seed, family=family)
    at = np.random.default_rng([seed, 7]).normal(0, 40, 3)
    slow = STEPS - 100.0
    made.tree["curve_step"] = STEPS
    made.tree["curve_return"] = np.minimum(slow + faster, 10.0)[:, None] + at
    if scratch != "none":
        made.tree["scratch_curve_return"] = slow[:, None] + at
    before = {WARM: 30, SCRATCH: 10} if scratch != "none" else {WARM: 30}
    made.card.extra |= {"protocol": "finetune", "interactions_before": before}
    made.card.config["scratch"] = scratch
    made.card.id += f" {family} tuned {faster}"
    return made


def make(reports, **config):
    return report.run(work(ReportConfig(**{"proposition": False, **config}), reports))


def text(made, name):
    return made.files[name].decode()


def test_the_numbers_by_hand():
    """80 of 100 interactions; with what came before, 110 of 110."""
    (one,) = report_finetuning.gather([tuned(seed) for seed in (2, 0, 1)])
    assert [card.seed for card in one.cards] == [0, 1, 2]
    mine, other = one.numbers(LABEL), one.numbers(BESIDE)
    assert mine["tuning_reached"] == (80, 80, 80, 3)
    assert mine["tuning_share"][:3] == pytest.approx((0.8, 0.8, 0.8))
    assert mine["tuning_share_of_all"].point == pytest.approx(110 / 110)
    assert other["tuning_reached"].point == 100
    assert (other["tuning_share"].point, other["tuning_share_of_all"].point) == (1, 1)
    ends = np.array([run.tree["curve_return"][-1].mean() for run in (tuned(0), tuned(1), tuned(2))])
    assert mine["tuning_end"] == interval(ends)
    assert mine["tuning_start"].point == pytest.approx(mine["tuning_end"].point - 85)


def test_of_one_seed_it_is_what_the_stage_says():
    made = tuned(0, faster=50.0)
    (one,) = report_finetuning.gather([made])
    needed, saved = speed_up(STEPS, made.tree["curve_return"], made.tree["scratch_curve_return"])
    assert one.reached[LABEL].needed.point == needed == 60  # at 50 it would be: the next evaluation
    assert 1 - one.share(LABEL, False).point == pytest.approx(saved)
    assert one.reached[LABEL].drawn == "tasks"
    assert "tasks (one seed)" in report_finetuning.caption([one])
    assert "seeds, with all their tasks" in report_finetuning.caption(report_finetuning.gather([tuned(0), tuned(1)]))


def test_a_line_for_each_arm_in_every_table():
    made = make([*(tuned(seed) for seed in range(3)), *(evaluation("tiMe", toward(), seed) for seed in range(3))])
    rows = report_finetuning.grid(report_finetuning.gather([tuned(seed) for seed in range(3)]))
    assert [row[0] for row in rows[1:]] == [LABEL, BESIDE]
    assert rows[1][3:] == ["80\n[80, 80]", "0.80\n[0.80, 0.80]", "1.00\n[1.00, 1.00]", "3"]
    for name in ("table.md", "table.txt", "page.html"):
        found = " ".join(text(made, name).split())
        assert "Fine-tuning" in found
        assert "80 of 100 interactions: 20% [20%, 20%] saved (n=3)" in found
    lines = list(csv.DictReader(io.StringIO(text(made, "table.csv"))))
    found = {(line["label"], line["stat"]): line for line in lines if line["stat"].startswith("tuning")}
    assert float(found[LABEL, "tuning_share"]["low"]) == pytest.approx(0.8)
    assert float(found[BESIDE, "tuning_reached"]["point"]) == 100
    (data,) = json.loads(text(made, "table.json"))["finetuning"]
    assert data["arms"][LABEL]["tuning_reached"] == {"point": 80, "low": 80, "high": 80, "n": 3}
    assert (data["seeds"], data["resampled"], data["steps"]) == ([0, 1, 2], "seeds", 100)
    assert made.metrics[f"point-semicircle/time/test/{LABEL}/tuning_share"] == pytest.approx(0.8)
    assert "finetuning.png" in made.files
    assert max(map(len, text(made, "table.txt").split("\n"))) <= 80
    methods = json.loads(text(made, "table.json"))["sections"][0]["methods"]
    assert [one["label"] for one in methods] == [LABEL, "tiMe"]  # the policies as they end, beside the others


def test_what_is_never_reached_is_said_so():
    made = make([tuned(seed, faster=-40.0) for seed in range(2)])
    assert "never is where SAC from random nets ends" in " ".join(text(made, "table.txt").split())
    assert "never" in text(made, "table.md").split("| MBML, fine-tuned")[2]
    (data,) = json.loads(text(made, "table.json"))["finetuning"]
    assert data["arms"][LABEL]["tuning_reached"]["point"] is None
    assert f"point-semicircle/time/test/{LABEL}/tuning_reached" not in made.metrics


def test_the_panel_has_both_curves_and_the_crossing():
    (one,) = report_finetuning.gather([tuned(seed) for seed in range(3)])
    drawn = report_finetuning.panel(one)
    assert [line.label for line in drawn.lines] == [LABEL, "SAC from random nets"]
    for line, name in zip(drawn.lines, ("curve_return", "scratch_curve_return"), strict=True):
        each = np.stack([tuned(seed).tree[name].mean(-1) for seed in range(3)])
        np.testing.assert_allclose(line.band.point, each.mean(0))
        assert (line.band.low < line.band.point).all()
    assert drawn.mark == (80, pytest.approx(one.curves[BESIDE][:, -1].mean()))
    assert drawn.words == "20% saved"


def test_nothing_learned_beside_it():
    (one,) = report_finetuning.gather([tuned(scratch="none")])
    assert (one.beside, one.reached, list(one.curves)) == ("", {}, [LABEL])
    made = make([tuned(scratch="none")])
    assert len(json.loads(text(made, "table.json"))["finetuning"][0]["arms"]) == 1
    assert report_finetuning.panel(one).mark is None


def test_families_have_lines_and_panels_of_their_own():
    found = report_finetuning.gather([tuned(), tuned(family="ant-goal/mbml")])
    assert [row[0] for row in report_finetuning.grid(found)[1:]] == [
        f"{arm}, {family}, test tasks"
        for family in ("point-semicircle/time", "ant-goal/mbml")
        for arm in (LABEL, BESIDE)
    ]
    assert "n = 1 training" in report_finetuning.pictures(found)[0].caption


@pytest.mark.parametrize("field", ["curve_step", "interactions_before", "scratch", "tasks"])
def test_seeds_that_were_fine_tuned_otherwise(field):
    other = tuned(1)
    match field:
        case "curve_step":
            other.tree["curve_step"] = STEPS * 2
        case "interactions_before":
            other.card.extra["interactions_before"] = {WARM: 0, SCRATCH: 10}
        case "scratch":
            other.card.config["scratch"] = "same"
        case "tasks":
            other.card.tasks.reverse()
    with pytest.raises(UsageError, match=f"differ in {field}"):
        report_finetuning.gather([tuned(0), other])


def test_without_fine_tuning_nothing_is_said_of_it():
    made = make([evaluation("tiMe", toward(), 0)])
    assert "finetuning" not in text(made, "table.json")
    assert not any("ine-tun" in text(made, name) for name in ("table.md", "table.txt", "page.html"))
