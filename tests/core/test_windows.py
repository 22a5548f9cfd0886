"""Windows of history out of a log, by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.core.windows import after, before, windows
from tests.toys import make_log, spoiled, stacked

LENGTH = 3
# six rows: an episode of four (rows 0 to 3), then one of two (rows 4 and 5)
LOG = make_log(0, (4, 2), terminal=(0,))
LOGS = jax.tree.map(jnp.asarray, stacked(make_log(1, (5, 2, 3)), LOG))
NOTHING, OPENS = "-", "x0"
BEFORE = [
    [NOTHING, NOTHING, OPENS],
    [NOTHING, OPENS, 0],
    [OPENS, 0, 1],
    [0, 1, 2],
    [NOTHING, NOTHING, OPENS],
    [NOTHING, OPENS, 4],
]
AFTER = [
    [NOTHING, NOTHING, 0],
    [NOTHING, 0, 1],
    [0, 1, 2],
    [1, 2, 3],
    [NOTHING, NOTHING, 4],
    [NOTHING, 4, 5],
]


def named(part, row):
    """Which rows a window's elements are, told by their rewards: row n is paid about 10 n."""
    first = LOG.obs[0] if row < 4 else LOG.obs[5]
    found = []
    for k in range(LENGTH):
        if part.held[row, k]:
            n = round(float(part.rows.reward[row, k]) / 10)
            np.testing.assert_array_equal(part.rows.reward[row, k], LOG.reward[n])
            np.testing.assert_array_equal(part.rows.action[row, k], LOG.action[n])
            np.testing.assert_array_equal(part.rows.obs[row, k], LOG.obs[n + LOG.episode[n]])
            found.append(n)
        elif part.opens[row, k]:
            np.testing.assert_array_equal(part.rows.obs[row, k], first)
            found.append(OPENS)
        else:
            found.append(NOTHING)
    return found


def test_six_rows_across_the_end_of_an_episode():
    found = windows(LOGS, jnp.ones(6, int), jnp.arange(6), LENGTH)
    assert [named(before(found), row) for row in range(6)] == BEFORE
    assert [named(after(found), row) for row in range(6)] == AFTER


def test_a_window_after_a_row_is_the_one_before_the_next():
    """Once the opening element has left it, from step L on."""
    log = jax.tree.map(jnp.asarray, stacked(make_log(0, (7,))))
    found = windows(log, jnp.zeros(7, int), jnp.arange(7), LENGTH)
    for t in range(6):
        same = all(np.array_equal(a[t], b[t + 1]) for a, b in zip(after(found), before(found), strict=True)
                   if not isinstance(a, tuple))  # fmt: skip
        assert same == (t >= LENGTH - 1), t


def test_an_episode_of_one_step():
    log = jax.tree.map(jnp.asarray, stacked(make_log(0, (1, 1, 1))))
    found = windows(log, jnp.zeros(3, int), jnp.arange(3), LENGTH)
    assert before(found).held.sum() == 0
    assert before(found).opens.tolist() == after(found).held.tolist() == [[False, False, True]] * 3


def test_the_future_is_not_seen():
    """Everything from row 2 on is spoilt, and all other episodes and tasks: what led to row 2 keeps its bits."""
    bad = spoiled(LOG)
    column = {name: np.concatenate([getattr(LOG, name)[:2], getattr(bad, name)[2:]]) for name in ("action", "reward")}
    obs = np.concatenate([LOG.obs[:2], bad.obs[2:]])
    spoilt = LOG._replace(obs=obs, **column)
    logs = jax.tree.map(jnp.asarray, stacked(spoiled(make_log(1, (5, 2, 3))), spoilt))
    row, task = jnp.array([0, 1, 2]), jnp.ones(3, int)
    for whole, found in zip(before(windows(LOGS, task, row, LENGTH)), before(windows(logs, task, row, LENGTH)),
                            strict=True):  # fmt: skip
        if isinstance(whole, tuple):
            whole, found = ([one.action, one.reward, one.obs] for one in (whole, found))
        assert [np.asarray(one).tobytes() for one in whole] == [np.asarray(one).tobytes() for one in found]
