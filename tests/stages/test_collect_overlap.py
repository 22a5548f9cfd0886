"""Physics beside the learner: a simulator and a learner of uncertain speed, and bits that do not depend on them."""

import time

import numpy as np
import pytest

from pipelines.core.errors import StageFailed
from pipelines.core.types import transitions
from pipelines.stages import collect_host
from pipelines.stages.registry import STAGES
from pipelines.tasks import registry
from tests.lines import Hosted, hosted, line
from tests.toys import AGENTS, Memory, Stored, Talk, bits, log_of, stored, work

TINY = {
    "family": "line/toy",
    "steps": 60,
    "random_steps": 20,
    "block_steps": 10,
    "num_snapshots": 6,
    "agent": AGENTS["sac"],
    "overlap": True,
}
FAMILY = line(horizon=7, ends_at=0.9, num_tasks=3)


def collect(monkeypatch, *layers, family=None, checkpoint=None, tell=None) -> Stored:
    monkeypatch.setattr(registry, "find", lambda name: family or hosted(FAMILY))
    order = work("collect", {}, TINY, *layers, checkpoint=checkpoint, tell=tell)
    return stored("collect", STAGES["collect"].load()(order), order.config)


def test_bits_do_not_depend_on_which_of_them_is_faster(monkeypatch):
    whole = bits(collect(monkeypatch))
    assert bits(collect(monkeypatch)) == whole
    step, learned = Hosted.step, collect_host.Collection._update_beside

    def dawdle(self, action):
        time.sleep(0.003)
        return step(self, action)

    def late(self, *args):
        future = learned(self, *args)
        if future is not None:
            future.result()  # all updates are made before the physics begin
        return future

    monkeypatch.setattr(Hosted, "step", dawdle)
    assert bits(collect(monkeypatch)) == whole
    monkeypatch.setattr(Hosted, "step", step)
    monkeypatch.setattr(collect_host.Collection, "_update_beside", late)
    assert bits(collect(monkeypatch)) == whole


@pytest.mark.slow
@pytest.mark.parametrize("layer", [{}, {"num_envs": 2, "block_updates": 5}], ids=["one", "two"])
def test_resumed_it_gives_the_bits_of_an_uninterrupted_run(monkeypatch, layer):
    kept, tell = Memory(every=1), Talk()
    whole = bits(collect(monkeypatch, layer, checkpoint=kept, tell=tell))
    assert [cursor for cursor, _ in kept.kept] == [10, 20, 30, 40, 50]
    for held in list(kept.kept):
        assert bits(collect(monkeypatch, layer, checkpoint=Memory(kept=[held]))) == whole
    assert [step for step, _ in tell.rows] == [10, 20, 30, 40, 50, 60]


def test_what_acts_has_learned_from_all_blocks_but_the_last(monkeypatch):
    log = log_of(collect(monkeypatch))
    np.testing.assert_array_equal(log.behaviour, np.maximum(np.arange(60) // 10 * 10 - 10 - 20, 0))
    rows = transitions(log, np.arange(60))
    np.testing.assert_allclose(rows.next_obs, rows.obs + rows.action, atol=1e-6)
    np.testing.assert_array_equal(log.step == 0, np.append(True, (rows.terminal | rows.truncated)[:-1]))


def test_no_block_goes_unlearned(monkeypatch):
    """Each is learned from once and in order, the last one too. The first updates follow the third block: until it ends
    the actions are those of a run without the overlap."""
    begin, learned = collect_host.Collection.begin, []

    def watched(self, keys):
        learn = self._learn
        self._learn = lambda step, *args: (learned.append(step), learn(step, *args))[1]
        return begin(self, keys)

    monkeypatch.setattr(collect_host.Collection, "begin", watched)
    one = log_of(collect(monkeypatch))
    assert learned == [0, 10, 20, 30, 40, 50]
    other = log_of(collect(monkeypatch, {"overlap": False}))
    np.testing.assert_array_equal(one.action[:30], other.action[:30])
    assert (one.action[30:40] != other.action[30:40]).any()


@pytest.mark.slow
def test_a_single_block_learns_after_all(monkeypatch):
    layer = {"steps": 30, "block_steps": 30}
    assert bits(collect(monkeypatch, layer)) == bits(collect(monkeypatch, layer, {"overlap": False}))


def test_where_the_simulator_cannot_be_restored_the_rows_that_wait_are_cut(monkeypatch):
    family = hosted(line(horizon=7, num_tasks=3), restorable=False)
    kept = Memory(every=1)
    collect(monkeypatch, family=family, checkpoint=kept)
    held = next(one for one in kept.kept if one[0] == 20)
    log = log_of(collect(monkeypatch, family=family, checkpoint=Memory(kept=[held])), 1)
    np.testing.assert_array_equal(np.flatnonzero(log.truncated[:30]), [6, 13, 19, 26])
    rows = transitions(log, np.arange(60))
    np.testing.assert_allclose(rows.next_obs, rows.obs + rows.action, atol=1e-6)
    assert rows.obs[20, 0] in (0.0, 0.5)


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_found(monkeypatch):
    """One block later than without the overlap: it is told of when it is known."""
    with pytest.raises(StageFailed, match="is not finite"):
        collect(monkeypatch, {"agent": {**AGENTS["sac"], "learning_rate": 1e30}})
