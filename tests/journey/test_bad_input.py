"""Wrong input: its own exit code, a cause, a hint that names the nearest match or what there is, and no trace."""

from pathlib import Path

import pytest

from pipelines.core.trees import task_leaf

from .driving import LOG, TEACHERS, TIME, Tasks, Tree, Whole, assert_refused, assert_tidy, say, sets

pytestmark = pytest.mark.timeout(900)

WRONG = [
    # unknown words, of which the nearest is named, and a wrong value
    ("metatrain --preset tinny", 2, "unknown preset 'tinny' of metatrain", "did you mean tiny?"),
    ("collect --set agent.learning_rat=1", 2, "unknown field 'agent.learning_rat'", "mean agent.learning_rate?"),
    ("run time-point --set log.step=9", 2, "step log: unknown field 'step'", "did you mean steps?"),
    ("run time-point --set lag.steps=9", 2, "recipe time-point has no step 'lag'", "did you mean log?"),
    ("run time-pint", 2, "unknown recipe 'time-pint'", "did you mean time-point?"),
    ("colect", 2, "No such command 'colect'", "did you mean 'collect'?"),
    ("run time-point --seeds 4-0", 2, "--seeds '4-0' is no list of seeds", "0-4"),
    # parents that are not there
    ("train", 3, "train needs --log, a replay-log", "there is replay-log/point-semicircle-time@1"),
    (f"distill --log {LOG}", 3, "distill needs --teachers, a policy-set", "there is policy-set/"),
    ("metatrain --log replay-log/point-semicircle-tame", 3, "--log: no artifact", "did you mean replay-log/point-semi"),
    ("eval --policy 0000", 3, "--policy: no artifact '0000'", "there is meta-policy/"),
    # parents of the wrong kind
    (f"train --log {TEACHERS}", 4, "--log wants a replay-log", "there is replay-log/"),
    (f"distill --log {LOG} --teachers {TIME}", 4, "--teachers wants a policy-set", "there is policy-set/"),
    ("eval --policy report/tiMe", 4, "--policy wants a meta-policy or policy-set or replay-log", "there is "),
    (f"report --reports report/tiMe --reports {LOG}", 4, "--reports wants a report", "there is report/"),
]


@pytest.mark.parametrize(("line", "code", "cause", "hint"), WRONG, ids=[line for line, *_ in WRONG])
def test_refused(whole: Whole, line: str, code: int, cause: str, hint: str) -> None:
    assert_refused(say(whole.store, *line.split()), code, cause, hint)


def test_unknown_family(tmp_path: Path) -> None:
    said = say(tmp_path / "store", "collect", "--family", "point-semicircle/tiem")
    assert_refused(said, 2, "unknown family 'point-semicircle/tiem'", "did you mean point-semicircle/time?")
    assert not (tmp_path / "store").exists()


META = {
    "batch-pearl": "metatrain --algorithm batch-pearl",
    "time": f"distill --teachers {TEACHERS}",
}


@pytest.mark.parametrize("method", META)
def test_one_task_is_too_few_for_a_meta_method(whole: Whole, method: str, tmp_path: Path) -> None:
    store = whole.copy(tmp_path / "store", {whole.ids["log"], whole.ids["teachers"]})
    rest = (task_leaf(1), task_leaf(2))

    def first(arrays: Tree, tasks: Tasks) -> tuple[Tree, Tasks]:
        return {name: tree for name, tree in arrays.items() if name not in rest}, tasks[:1]

    log = whole.log_like(first, store)
    said = say(store, *META[method].split(), "--log", log.id, *sets("updates=200"))
    assert_refused(said, 2, "needs at least 2 tasks, the log has 1", "omrl train")
    assert_tidy(store)
