"""What a round of adaptation costs: that it is the published one, and that all tasks are in it."""

import re

from benchmarks import adapting
from pipelines.core.configs.algorithms import MqlConfig
from pipelines.core.configs.base import resolve


def test_the_settings_are_the_published_ones():
    code, paper = (adapting.config_of(name) for name in ("code", "paper"))
    assert (code.new_updates, code.old_updates, code.old_batch) == (10, 100, 1280)
    assert (paper.new_updates, paper.old_updates, paper.old_batch) == (10, 100, 256)


def test_a_row_and_what_is_said_of_it(monkeypatch, capsys):
    monkeypatch.setattr(adapting, "OLD_TASKS", 2)
    small = resolve(MqlConfig, {"hidden": [4], "context_dim": 2, "history": 2})
    row = adapting.measure("code", small, 2, 2, new_updates=1, old_updates=1, old_batch=4)
    assert (row.tasks, row.updates, row.task_s.repeats) == (2, "1 x 200 + 1 x 4", 2)
    assert re.search(r"code: round 2 of 2, [0-9.]+ s a task", capsys.readouterr().err)
    text = " ".join(adapting.cells(row))
    assert re.search(r"code 2 1 x 200 \+ 1 x 4 .* <= 1 (reached|MISSED)", text)
    assert len(adapting.cells(row)) == len(adapting.COLUMNS)
