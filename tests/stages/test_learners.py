import numpy as np
import pytest

from pipelines.core.errors import StageFailed, UsageError, WrongKind
from pipelines.stages import learners
from tests.toys import DISCOUNT, SPACE, log_artifact, make_log


def test_a_log_is_read_back_in_the_order_of_its_tasks():
    logs, tasks, space, discount = learners.read_log(log_artifact())
    np.testing.assert_array_equal(logs.size, [7, 8, 9])
    assert [task.name for task in tasks] == ["toy 0", "toy 1", "toy 2"]
    assert (space, discount) == (SPACE, DISCOUNT)
    np.testing.assert_array_equal(logs.reward[1, :8], make_log(1, (4, 4)).reward)


@pytest.mark.parametrize("column", ["obs", "action", "reward"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_log_with_values_that_are_no_numbers_names_column_and_task(column, bad):
    log = log_artifact()
    for task in (0, 2):
        log.tree[f"task_{task:04d}"][column].flat[3] = bad
    with pytest.raises(StageFailed, match=f"the log's {column} is not finite in task toy 0, toy 2"):
        learners.read_log(log)


def test_too_few_tasks():
    _, tasks, *_ = learners.read_log(log_artifact(1))
    with pytest.raises(UsageError, match="distill needs at least 2 tasks, the log has 1"):
        learners.want_tasks(tasks, 2, "distill")
    learners.want_tasks(tasks, 1, "train")


def test_an_unknown_algorithm_on_a_card():
    with pytest.raises(WrongKind, match="unknown algorithm 'trpo'"):
        learners.make("trpo", {}, SPACE, DISCOUNT)


def test_a_field_on_a_card_that_this_version_does_not_know():
    with pytest.raises(UsageError, match=r"'agent\.hiden'"):
        learners.make("batch-sac", {"hiden": [8]}, SPACE, DISCOUNT)


def test_a_model_card_holds_what_a_policy_is_rebuilt_from():
    log = log_artifact()
    config = learners.SacConfig(hidden=(8, 8))
    card = learners.model_card("batch-sac", config, log.card)
    assert card == log.card.extra | {"algorithm": "batch-sac", "agent": config.identity()}
    again = learners.make(card["algorithm"], card["agent"], SPACE, DISCOUNT)
    assert again.acting_type is learners.sac.Acting
