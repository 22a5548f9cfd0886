"""Looking into a store: ls, show, lineage, diff, verify, gc."""

import json
from pathlib import Path

import pytest

from pipelines.store.shelf import Shelf

from .counting import Counting


@pytest.fixture
def filled(omrl, recipe: Path) -> dict[str, str]:
    """Step -> id in a store where the counting recipe ran once."""
    steps = json.loads(omrl("run", recipe, "--json").out)["steps"]
    return {step["step"]: step["id"] for step in steps}


def test_ls(omrl, filled: dict[str, str]) -> None:
    lines = omrl("ls").out.splitlines()
    assert lines[0].split() == ["alias", "id", "generation", "seed", "made", "took"]
    assert [line.split()[:2] for line in lines[1:]] == [
        ["count/count@1", filled["few"]],
        ["count/count@2", filled["many"]],
        ["total/sum@1", filled["total"]],
    ]
    assert len(omrl("ls", "--kind", "count").out.splitlines()) == 3
    data = json.loads(omrl("ls", "--json", "--kind", "total").out)["artifacts"]
    assert [(one["id"], one["metrics"]) for one in data] == [(filled["total"], {"total": 21.0})]


def test_empty_store(omrl) -> None:
    said = omrl("ls")
    assert (said.code, said.out) == (0, "")
    assert "nothing in" in said.err
    assert json.loads(omrl("ls", "--json").out) == {"artifacts": []}
    assert omrl("gc").code == 0
    for command in (["show", "x"], ["lineage", "x"], ["diff", "x", "y"], ["verify", "x"]):
        assert omrl(*command).code == 3


def test_show(omrl, filled: dict[str, str]) -> None:
    text = omrl("show", filled["many"][:6]).out
    assert text.startswith("alias: count/count@2\n")
    assert "config: {label: many, upto: 5}" in text or "upto: 5" in text
    card = json.loads(omrl("show", "total/sum", "--json").out)
    assert card["id"] == filled["total"]
    assert [parent["id"] for parent in card["parents"]["counts"]] == [filled["few"], filled["many"]]


def test_lineage_goes_up_to_the_roots(omrl, filled: dict[str, str], recipe: Path, counting: Counting) -> None:
    few, many, total = filled["few"], filled["many"], filled["total"]
    assert omrl("lineage", total).out.splitlines() == [
        f"total/sum@1  {total}@1  sum seed 0",
        f"├─ counts: count/count@1  {few}@1  count seed 0",
        f"└─ counts: count/count@2  {many}@1  count seed 0",
    ]
    tree = json.loads(omrl("lineage", total, "--json").out)
    assert [one["ref"] for one in tree["parents"]["counts"]] == [f"{few}@1", f"{many}@1"]
    assert tree["parents"]["counts"][0]["parents"] == {}


def test_lineage_says_which_bits_are_gone(omrl, filled: dict[str, str], store: Path) -> None:
    gone = Shelf(store).folder(filled["few"], 1)
    (gone / "card.json").unlink()
    assert f"├─ counts: {filled['few']}  these bits are not in this store" in omrl("lineage", filled["total"]).out


def test_diff(omrl, filled: dict[str, str]) -> None:
    data = json.loads(omrl("diff", filled["few"], filled["many"], "--json").out)
    assert data["config"] == {"upto": [3, 5], "label": ["", "many"]}
    assert data["metrics"] == {"total": [6.0, 15.0]}
    assert data["program"] == {}
    lines = omrl("diff", filled["few"], filled["many"]).out.splitlines()
    assert [line.split() for line in lines if line.startswith("total")] == [["total", "6", "15", "9"]]
    assert omrl("diff", filled["few"], filled["few"]).out.endswith("no difference\n")


def test_verify(omrl, filled: dict[str, str]) -> None:
    assert "is whole" in omrl("verify", filled["few"]).out
    assert json.loads(omrl("verify", filled["few"], "--json").out)["whole"] is True


def test_gc_removes_superseded_generations_and_keeps_what_can_be_resumed(
    omrl, filled: dict[str, str], recipe: Path, counting: Counting, store: Path
) -> None:
    assert omrl("gc").out == ""
    counting.bits = 1.0
    omrl("run", recipe, "--only", "total", "--force")
    omrl("run", recipe, "--only", "total", "--force")
    counting.stop_at = 2
    omrl("run", recipe, "--seed", "1", "--only", "few")
    said = omrl("gc", "--dry-run", "--json")
    removed = [Path(one["path"]) for one in json.loads(said.out)["removed"]]
    assert removed == [Shelf(store).folder(filled["total"], generation) for generation in (1, 2)]
    assert removed[0].exists()
    assert "kept 1 unfinished" in omrl("gc").err
    assert Shelf(store).generations(filled["total"]) == [3]
    assert "an unfinished run: checkpoint at 2" in omrl("gc", "--unfinished").out
    assert not Shelf(store).work_dirs()


def test_damaged_and_running_ones_are_named_by_ls(omrl, filled: dict[str, str], store: Path) -> None:
    (Shelf(store).folder(filled["few"], 1) / "card.json").write_text("{}")
    with Shelf(store).claim("0" * 12):
        said = omrl("ls")
    assert said.code == 0
    assert "damaged: " in said.err
    assert f"running: {'0' * 12}" in said.err
    assert len(said.out.splitlines()) == 3
