"""Differences between methods, paired by seed."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.core.statistics import interval
from pipelines.stages import report_differences as differences
from pipelines.stages.results import Row, Run, Section

TASKS = ({"name": "a", "params": {}}, {"name": "b", "params": {}})


def section(scores, scored=True):
    """Of {label: {seed: (score of task a, of task b)}}; random pays 0, the oracle 1."""

    def run(label, seed, values):
        extra = {"label": label, "family": "f", "split": "test", "horizon": 2, "protocol": "zero-shot", "episodes": 1}
        card = SimpleNamespace(id=f"{label}{seed}", seed=seed, tasks=TASKS, extra=extra | {"discount": 0.9})
        oracle = np.full(2, 1.0 if scored else np.nan)
        data = {"returns": np.array(values)[:, None], "random_return": np.zeros(2), "oracle_return": oracle}
        return Run(card, data)

    rows = [Row(label, tuple(run(label, *item) for item in seeds.items())) for label, seeds in scores.items()]
    return Section("f", "test", tuple(rows))


MINE = {0: (0.9, 0.8), 1: (0.3, 0.2), 2: (0.6, 0.5)}
WORSE = {seed: (a - 0.1, b - 0.2) for seed, (a, b) in MINE.items()}


def test_what_seeds_have_in_common_cancels():
    """The seeds differ by 0.6, the methods by 0.1 and 0.2 in each of them."""
    (one,) = differences.gather([section({"MBML": MINE, "Neither": WORSE})], "MBML")
    assert one.seeds == (0, 1, 2)
    assert one.value == pytest.approx((0.15, 0.15, 0.15, 3))
    assert one.verdict == "above"
    np.testing.assert_allclose(one.value, interval(np.tile([0.1, 0.2], (3, 1))))
    (other,) = differences.gather([section({"MBML": MINE, "Neither": WORSE})], "Neither")
    assert (other.verdict, other.value.point) == ("below", pytest.approx(-one.value.point))
    paired_wrongly = {seed: WORSE[(seed + 1) % 3] for seed in WORSE}
    (control,) = differences.gather([section({"MBML": MINE, "Neither": paired_wrongly})], "MBML")
    assert control.verdict == "open"


def test_only_seeds_that_both_have():
    short = {0: (0.0, 0.0), 1: (0.0, 0.0), 7: (9.0, 9.0)}
    (one,) = differences.gather([section({"MBML": MINE, "Neither": short})], "MBML")
    assert one.seeds == (0, 1)
    assert differences.gather([section({"MBML": MINE, "Neither": {0: (0.0, 0.0)}})], "MBML") == []
    assert differences.gather([section({"MBML": MINE})], "tiMe") == []


def test_returns_where_there_is_no_oracle():
    (one,) = differences.gather([section({"MBML": MINE, "Neither": WORSE}, scored=False)], "MBML")
    assert one.value.point == pytest.approx(0.15)
    assert "differences of returns" in differences.as_markdown([one])


def test_the_texts():
    found = differences.gather([section({"MBML": MINE, "Neither": WORSE})], "MBML")
    text = differences.as_text(found)
    assert "MBML against the others, seed by seed" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "| Neither | 0.15 [0.15, 0.15] | above | 3 |" in differences.as_markdown(found)
    (told,) = differences.as_json(found)
    assert (told["method"], told["other"], told["seeds"]) == ("MBML", "Neither", [0, 1, 2])
    (record,) = differences.records(found)
    assert (record.label, record.stat, record.n) == ("MBML", "score_minus Neither", 3)
    assert differences.as_text([]) == differences.as_markdown([]) == ""
    nothing = found[0]._replace(value=found[0].value._replace(low=math.nan, high=math.nan))
    assert nothing.verdict == "open"
