"""`omrl eval --protocol adapt`: whose log it weighs, and which it refuses. (docs/mql.md runs one from end to end.)"""

import shutil
from pathlib import Path

import pytest

from pipelines.store.shelf import Shelf
from tests.cli.test_eval import BRIEF, FEW, POINT, SHORT, told

MQL = ("--algorithm", "mql", *BRIEF, "--set", "agent.history=2", "--name", "mql", "--json")


def test_the_log_that_the_policy_was_learned_from(omrl, store: Path) -> None:
    for name, seed in (("mine", 3), ("other", 4)):
        told(omrl("collect", *POINT, *SHORT, "--seed", seed, "--name", name, "--json"))
    policy = told(omrl("metatrain", "--log", "replay-log/mine", *MQL))
    adapt = ("eval", "--policy", policy["id"], "--protocol", "adapt", *FEW)
    for named in ((), ("--log", "own"), ("--log", "replay-log/mine")):
        said = omrl(*adapt, *named, "--dry-run")
        assert said.code == 0, said.err
    other = omrl(*adapt, "--log", "replay-log/other")
    assert (other.code, "was learned from the log" in other.err, "--log own" in other.err) == (4, True, True)
    wrong = omrl(*adapt, "--log", policy["id"])
    assert (wrong.code, "--log wants a replay-log" in wrong.err) == (4, True)
    unasked = omrl("eval", "--policy", policy["id"], "--log", "own", *FEW)
    assert (unasked.code, "adapts nothing and reads no --log" in unasked.err) == (2, True)
    shelf = Shelf(store)
    mine = shelf.find("replay-log/mine")
    shutil.rmtree(shelf.folder(mine.id, mine.generation))
    gone = omrl(*adapt)
    assert (gone.code, "was learned from is not there" in gone.err) == (3, True)


@pytest.mark.parametrize(
    ("options", "cause", "hint"),
    [
        (("--set", "adapt.proximal=0.1"), "protocol=zero-shot adapts nothing", "--protocol adapt"),
        (("--protocol", "adapt", "--set", "adapt.setings=code"), "unknown field 'adapt.setings'", "adapt.settings"),
        (("--protocol", "adapt", "--set", "adapt.clip_on=beta"), "none of its values", "value"),
    ],
)
def test_what_means_nothing_is_refused(omrl, options, cause, hint) -> None:
    said = omrl("eval", *options)
    assert said.code == 2
    assert cause in said.err and hint in said.err
