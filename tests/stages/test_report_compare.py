"""All methods in one table: what their own protocols count, and the same episodes for all."""

import json
import math

import numpy as np
import pytest

from pipelines.core.configs.report import ReportConfig
from pipelines.core.errors import UsageError
from pipelines.core.statistics import interval
from pipelines.figures.beside import beside_of
from pipelines.figures.panels import Rungs
from pipelines.stages import report, report_compare
from pipelines.stages.results import sections

from .evaluations import EPISODES, blind, evaluation, toward, work

SEEDS, K = (0, 1, 2), 3


def trials(label, seed, counted, **options):
    """Three episodes of a trial, the n-th of which returns 10 n more than the evaluation's own."""
    made = evaluation(label, toward(), seed, **options)
    each = made.tree["returns"][..., None] + 10 * np.arange(K)
    first, last = counted
    made.tree.update(episode_returns=each, returns=each[..., first - 1 : last].mean(-1))
    made.card.extra |= {"protocol": f"episodes {first}-{last} of {K}"}
    return made


def adapted(label, seed, **options):
    """Before adapting 7 less than after."""
    made = evaluation(label, toward(), seed, **options)
    told = {"before": made.tree["returns"] - 7, "rows": np.full(3, 20), "beta": np.ones(3), "ess": np.ones(3)}
    made.tree.update({f"adapt_{name}": value for name, value in told.items()})
    made.card.extra |= {"protocol": "adapt"}
    names = ("before", "gain", "gain_spread", "spread_before", "spread_after", "rows", "beta", "ess", "lambda")
    made.card.metrics = {f"adapt/{name}": 1.0 for name in names}
    return made


def three(**options):
    return [
        *(trials("MBML", seed, (2, 3), **options) for seed in SEEDS),
        *(adapted("MQL", seed, **options) for seed in SEEDS),
        *(evaluation("tiMe", blind((0, 9)), seed, **options) for seed in SEEDS),
    ]


def returns(reports, shift=0.0):
    return interval(np.array([one.tree["returns"].mean() + shift for one in reports]))


def test_the_same_episodes_of_all():
    """Without an oracle numbers are returns, and their differences those that were put in."""
    reports = three(oracle=False)
    (one,) = report_compare.gather(sections(reports), (1, 3))
    mbml, mql, time = one.lines
    own = returns(reports[:3])
    assert own.n == len(SEEDS) and EPISODES > 1
    np.testing.assert_allclose(mbml.own, own)
    np.testing.assert_allclose(mbml.common[1], returns(reports[:3], -15.0))  # counted: 10 and 20 more than the first
    np.testing.assert_allclose(mbml.common[3], returns(reports[:3], 5.0))
    np.testing.assert_allclose(mql.common[1], returns(reports[3:6], -7.0))
    np.testing.assert_allclose(mql.common[3], mql.own)
    np.testing.assert_allclose(time.common[1], time.own)
    assert math.isnan(time.common[3].point)


def test_scores_where_there_is_an_oracle():
    reports = three()
    (section,) = sections(reports)
    (one,) = report_compare.gather([section], (1, 2))
    row = section.rows[0]
    each = np.stack([run.score(run.data["episode_returns"][..., 1].mean(-1)) for run in row.runs])
    assert one.lines[0].common[2] == interval(each)
    assert one.lines[0].own == row.overall
    assert one.lines[0].common[2].point < one.lines[0].own.point  # which counts the third, too


def test_an_episode_that_was_not_played_is_empty():
    (one,) = report_compare.gather(sections(three()), (1, 4))
    assert [math.isnan(line.common[4].point) for line in one.lines] == [True, False, True]
    told = three()
    for one in told[:3]:
        one.card.extra["context"] = {"from": "own"}  # the memory was shown rows of a log
    (one,) = report_compare.gather(sections(told), (1,))
    assert math.isnan(one.lines[0].common[1].point) and not math.isnan(one.lines[1].common[1].point)
    assert report_compare.gather(sections(three()), ()) == []
    assert report_compare.gather(sections(three()[:3]), (1,)) == []  # one method is compared with nothing


def test_the_texts():
    found = report_compare.gather(sections(three()), (1, 2))
    text, marked = report_compare.as_text(found), report_compare.as_markdown(found)
    assert max(map(len, text.splitlines())) <= 80
    assert "MQL: adapts to an episode like its first" in " ".join(text.split())
    assert "| method | its own protocol | own | episode 1 | episode 2 | n |" in marked
    assert "| MBML | episodes 2-3 of 3 |" in marked
    assert "| random |  | 0.00 | 0.00 | 0.00 |  |" in marked
    assert report_compare.as_text([]) == report_compare.as_markdown([]) == ""
    (told,) = report_compare.as_json(found)
    assert [one["protocol"] for one in told["methods"]] == ["episodes 2-3 of 3", "adapt", "zero-shot"]
    assert told["methods"][2]["episode 2"]["point"] is None
    lines = list(report_compare.records(found))
    assert [line.stat for line in lines] == ["score_in_episode 1", "score_in_episode 2"] * 3


def test_it_is_on_the_page():
    made = report.run(work(ReportConfig(common=(1, 2), proposition=False), three()))
    picture = "point-semicircle-time-test-compared.png"
    assert made.files[picture].startswith(b"\x89PNG")
    page = made.files["page.html"].decode()
    assert page.count(f"{report_compare.HEADING}:</p>") == 1
    assert report_compare.HEADING in made.files["table.txt"].decode()
    assert b"score_in_episode 2" in made.files["table.csv"]
    assert "compared" in json.loads(made.files["table.json"])
    without = report.run(work(ReportConfig(proposition=False), three()))
    assert picture not in without.files
    assert "compared" not in json.loads(without.files["table.json"])


def test_panels_share_their_methods_and_their_scale():
    (one,) = report_compare.gather(sections(three()), (1, 2))
    dots = [report_compare.Dots(line.row.label, 0, *map(np.array, line.own[:3])) for line in one.lines]
    figure = beside_of([Rungs("own protocol", dots, "score"), Rungs("episode 1", dots, "score")])
    left, right = figure.axes
    assert left.get_xlim() == right.get_xlim()
    assert [text.get_text() for text in left.get_yticklabels()] == ["MBML", "MQL", "tiMe"]
    assert not any(text.get_visible() for text in right.get_yticklabels())


@pytest.mark.parametrize("common", [(0, 1), (2, 1), (1, 1)])
def test_episodes_are_numbers_in_order(common):
    with pytest.raises(UsageError, match="in order"):
        ReportConfig(common=common)
