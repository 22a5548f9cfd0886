"""What an evaluation may be asked for."""

import pytest

from pipelines.core.configs.base import resolve
from pipelines.core.configs.eval import EvalConfig, parse_counted
from pipelines.core.errors import UsageError


@pytest.mark.parametrize(("text", "found"), [("all", (1, 5)), ("last", (5, 5)), ("2", (2, 2)), ("3-5", (3, 5))])
def test_counting(text, found):
    assert parse_counted(text, 5) == found


@pytest.mark.parametrize(
    ("fields", "cause", "hint"),
    [
        ({"protocol": "episode"}, "'episode' is none of its values", "did you mean episodes?"),
        ({"protocol": "finetune"}, "a stage of its own", "omrl finetune"),
        ({"checkpoint": "best-on-tran"}, "none of its values", "did you mean best-on-train?"),
        ({"protocol": "episodes", "counted": "lst"}, "none of all, last, N, A-B", "did you mean last?"),
        ({"protocol": "episodes", "counted": "3-6"}, "a trial has 5 episodes", "trial_episodes=6"),
        ({"protocol": "episodes", "trial_episodes": 1, "counted": "2"}, "a trial has 1 episode", "trial_episodes=2"),
        ({"protocol": "episodes", "counted": "0-2"}, "counts no episode", "numbered from 1"),
        ({"protocol": "episodes", "counted": "4-3"}, "counts no episode", "numbered from 1"),
        ({"counted": "last"}, "protocol=zero-shot has none", "--protocol episodes"),
        ({"trial_episodes": 2}, "protocol=zero-shot has none", "--protocol episodes"),
    ],
)
def test_configs_that_mean_nothing(fields, cause, hint):
    with pytest.raises(UsageError, match=cause) as caught:
        resolve(EvalConfig, fields)
    assert hint in caught.value.hint


def test_a_number_may_be_written_as_one():
    assert resolve(EvalConfig, {"protocol": "episodes", "counted": 3}).counted == "3"
