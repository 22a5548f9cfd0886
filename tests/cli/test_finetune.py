"""`omrl finetune` from its log to a table, on the tiny preset."""

import json
from pathlib import Path

import pytest

from pipelines.store.shelf import Shelf

TINY = ("--preset", "tiny")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_a_log_to_a_table(omrl, store: Path) -> None:
    assert omrl("collect", *TINY, "--name", "log").code == 0
    policy = omrl("metatrain", *TINY, "--log", "replay-log/log", "--algorithm", "contextual-bcq").out.strip()
    said = omrl("finetune", *TINY, "--policy", policy, "--json")
    assert said.code == 0, said.err
    (card,) = (card for card in Shelf(store).cards() if card.kind == "report")
    assert card.id in said.out
    assert card.stage == "finetune"
    assert {"return", "scratch_return", "score"} <= card.metrics.keys()
    assert card.extra["label"] == "contextual BCQ, fine-tuned"
    lines = Shelf(store).artifact(card).file("metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == sorted(set(steps))
    assert "up to date" in omrl("finetune", *TINY, "--policy", policy).err
    made = omrl("report", "--reports", card.id, "--set", "proposition=false")
    assert made.code == 0, made.err
    page = Shelf(store).artifact(Shelf(store).find(made.out.strip()))
    assert "contextual BCQ, fine-tuned" in page.file("table.csv").read_text()
    assert "finetune" in page.file("page.html").read_text()


def test_eval_says_where_fine_tuning_is(omrl) -> None:
    said = omrl("config", "show", "eval", "--set", "protocol=finetune")
    assert said.code == 2
    assert "hint: omrl finetune --policy" in said.err


def test_what_does_not_fit_is_refused(omrl) -> None:
    said = omrl("config", "show", "finetune", "--set", "steps=1500")
    assert said.code == 2
    assert "steps=1500 is not a multiple of epoch_steps=1000" in said.err
    said = omrl("config", "show", "finetune", "--preset", "paper", "--set", "paper=mbml/ant-dri")
    assert "did you mean ant-dir?" in said.err
    said = omrl("config", "show", "finetune", "--preset", "paper", "--set", "paper=mbml/walker-params", "--json")
    assert json.loads(said.out)["steps"] == 390_000
