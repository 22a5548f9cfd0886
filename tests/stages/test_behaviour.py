"""A replay-log plays: its agents as they ended are policies, and the report's first baseline."""

import numpy as np
import pytest

from pipelines.core.errors import WrongKind
from tests.toys import run

TINY = {"steps": 120, "random_steps": 60, "block_steps": 60}


def test_the_behaviour_policies_are_those_of_the_last_snapshot():
    log = run("collect", {}, TINY)
    report = run("eval", {"policy": log})
    assert report.card.extra["label"] == "behaviour SAC"
    assert report.tree["returns"].shape == (3, 4)
    np.testing.assert_allclose(report.tree["curve_return"][-1], report.tree["returns"].mean(1), rtol=0.2)
    for kernel in (log.tree["snapshots"]["actor"]["Dense_0"]["kernel"],):
        kernel[-1] = 0.0  # the control: other weights at the end, other returns
    changed = run("eval", {"policy": log})
    assert (changed.tree["returns"] != report.tree["returns"]).any()
    np.testing.assert_array_equal(changed.tree["curve_return"][0], report.tree["curve_return"][0])


def test_a_log_without_snapshots_is_refused():
    log = run("collect", {}, TINY, {"num_snapshots": 0})
    with pytest.raises(WrongKind, match="kept no behaviour policy"):
        run("eval", {"policy": log})
