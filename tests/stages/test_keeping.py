"""What of a collection becomes its log, on logs that were written here."""

import numpy as np
import pytest

from pipelines.core.types import Log, transitions
from pipelines.stages.keeping import in_order, kept
from tests.toys import make_log, stacked


def rows_of(log: Log) -> list[tuple]:
    """Each row as bytes, with what it points at."""
    rows = transitions(log, np.arange(int(log.size)))
    columns = (rows.obs, rows.action, rows.reward, rows.next_obs, rows.terminal, log.step, log.behaviour)
    return list(zip(*([one.tobytes() for one in column] for column in columns), strict=True))


def assert_sound(log: Log) -> None:
    """Episodes count from 0, each is contiguous and ends once, and no slot is left over."""
    size = int(log.size)
    assert all(len(column) == size for name, column in log._asdict().items() if name not in ("obs", "size"))
    assert len(log.obs) == size + int(log.episode[-1]) + 1
    opens = np.diff(log.episode, prepend=-1)
    assert set(opens) <= {0, 1}
    np.testing.assert_array_equal(opens == 1, np.append(True, (log.terminal | log.truncated)[:-1]))
    assert log.terminal[-1] or log.truncated[-1]
    assert log.episode.dtype == log.size.dtype == np.int32


# ---- environments ----------------------------------------------------------------------------------------------------

LENGTHS = ((4, 3, 5), (2, 6, 4), (4, 7, 1))


def test_episodes_stand_in_the_order_in_which_they_began():
    """Began at row 0, 4, 7 of the first environment, 0, 2, 8 of the second, 0, 4, 11 of the third."""
    each = [make_log(seed, lengths) for seed, lengths in enumerate(LENGTHS)]
    log = in_order(stacked(*each))
    assert_sound(log)
    np.testing.assert_array_equal(np.bincount(log.episode), [4, 2, 4, 6, 3, 7, 5, 4, 1])
    parts = [(0, 0), (1, 0), (2, 0), (1, 1), (0, 1), (2, 1), (0, 2), (1, 2), (2, 2)]
    want = []
    for env, episode in parts:
        found = rows_of(each[env])
        want += [found[row] for row in np.flatnonzero(each[env].episode == episode)]
    assert rows_of(log) == want


def test_what_ran_in_an_environment_when_recording_stopped_is_truncated_there():
    """Rows as a collection leaves them: nothing says of the last one of each environment that it ends anything."""
    each = [make_log(seed, lengths) for seed, lengths in enumerate(LENGTHS)]
    for log in each:
        log.truncated[-1] = False
    each[1].terminal[-1] = True
    log = in_order(stacked(*each))
    assert_sound(log)
    assert not (log.terminal & log.truncated).any()


def test_one_environment_is_left_as_it_is():
    log = make_log(0)
    for name, column in in_order(stacked(log))._asdict().items():
        np.testing.assert_array_equal(column, getattr(log, name), err_msg=name)


# ---- rows that are kept ----------------------------------------------------------------------------------------------


def log_12() -> Log:
    """Episodes of 4, 3 (terminal) and 5 rows, with slots that were never used."""
    log = make_log(0)
    return log._replace(obs=np.concatenate([log.obs, np.zeros((9, 3), np.float32)]))


@pytest.mark.parametrize(
    ("rule", "first", "last", "cut"),
    [
        ("all", 0, 12, False),
        ("first:12", 0, 12, False),
        ("first:99", 0, 12, False),
        ("first:4", 0, 4, False),
        ("first:7", 0, 7, False),  # a terminal row ends no recording
        ("first:1", 0, 1, True),
        ("first:9", 0, 9, True),
        ("last:12", 0, 12, False),
        ("last:99", 0, 12, False),
        ("last:11", 4, 12, False),
        ("last:8", 4, 12, False),
        ("last:7", 7, 12, False),
        ("last:5", 7, 12, False),
        ("last:1", 7, 12, False),  # never less than an episode
    ],
)
def test_rows_that_are_kept(rule, first, last, cut):
    whole, log = log_12(), kept(log_12(), rule)
    assert_sound(log)
    assert rows_of(log) == rows_of(whole)[first:last]
    np.testing.assert_array_equal(log.terminal, whole.terminal[first:last])
    np.testing.assert_array_equal(log.truncated[:-1], whole.truncated[first : last - 1])
    assert log.truncated[-1] == (cut or whole.truncated[last - 1])
    assert not whole.truncated[[0, 8]].any()  # what was given is left as it was
