"""Two processes at one stage, on one machine: what they make together is what one makes alone."""

import json
import signal
import socket

import pytest

from pipelines.store.shelf import Shelf

from .driving import STAGES, assert_readable, assert_refused, assert_tidy

pytestmark = pytest.mark.optimised  # parts of another size round alike only where programs are optimised

TRAIN, POLICIES = STAGES["train"].arguments, STAGES["train"].step


@pytest.fixture
def both(start):
    """Starts two processes of one job, `both(store, *arguments)`; `other_store` is the second one's, if it differs."""

    def begin(store, *arguments, other_store=None, **variables):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        stores = (store, other_store or store)
        return [
            start(at, *arguments, "--cluster", f"127.0.0.1:{port},2,{number}", OMRL_DEVICES=1, **variables)
            for number, at in enumerate(stores)
        ]

    return begin


def test_two_processes_make_what_one_makes(whole, tmp_path, both):
    """The same bits; the first process prints the result and keeps what both had to tell."""
    store = whole.copy(tmp_path / "store", {whole.ids["log"]})
    leader, follower = (one.end() for one in both(store, *TRAIN))
    assert (leader.code, leader.out) == (0, f"{whole.ids[POLICIES]}\n"), leader.err
    assert (follower.code, follower.out) == (0, ""), follower.err
    assert all(line.startswith("process 1: ") for line in follower.err.splitlines() if line.startswith("proc"))
    assert "part 1 of 2: 2 tasks, of process 0" in leader.err
    assert "process 1: part 2 of 2: 1 tasks, of process 1" in follower.err
    card, alone = Shelf(store).find(whole.ids[POLICIES]), whole.card(POLICIES)
    assert (card.digest, card.platform["processes"], alone.platform["processes"]) == (alone.digest, 2, 1)
    rows = [json.loads(line) for line in Shelf(store).artifact(card).file("metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(20, 401, 20))
    names = {name for row in rows for name in row if name.startswith("critic_loss/")}
    assert names == {f"critic_loss/{task['name']}" for task in alone.tasks}
    again = [one.end() for one in both(store, *TRAIN)]
    assert [one.code for one in again] == [0, 0], again
    assert "up to date" in again[0].err


def test_both_are_interrupted_and_go_on_to_the_same_bits(whole, tmp_path, both):
    store = whole.copy(tmp_path / "store", {whole.ids["log"]})
    running = both(store, *TRAIN)
    running[0].until_blocks(2)
    for one in running:
        one.process.send_signal(signal.SIGINT)
    said = [one.end() for one in running]
    assert [one.code for one in said] == [130, 130], said
    resumed = [one.end() for one in both(store, *TRAIN, "--resume")]
    assert [one.code for one in resumed] == [0, 0], resumed
    assert "resumed at update" in resumed[0].err
    assert Shelf(store).find(whole.ids[POLICIES]).digest == whole.card(POLICIES).digest
    Shelf(store).verify(whole.ids[POLICIES])
    assert_tidy(store)


def test_one_that_fails_stops_the_other(whole, tmp_path, both):
    """Here the second process looks into a store of its own, which has no log."""
    store = whole.copy(tmp_path / "store", {whole.ids["log"]})
    leader, follower = (one.end() for one in both(store, *TRAIN, other_store=tmp_path / "elsewhere"))
    assert follower.code == 3 and "replay-log" in follower.err
    assert_refused(leader, 1, "process 1 of 2 failed", "--resume")


def test_a_job_that_is_not_there_is_refused(whole, start):
    assert_refused(start(whole.store, *TRAIN, "--cluster", "nowhere").end(), 2, "neither auto nor", "--cluster auto")
    assert_refused(start(whole.store, *TRAIN, "--cluster", "auto").end(), 2, "--cluster auto", "HOST:PORT,N,I")


@pytest.mark.slow
def test_one_that_is_killed_ends_the_other_and_both_go_on_to_the_same_bits(whole, tmp_path, both):
    """The other one notices when no sign of life has come for some time."""
    store = whole.copy(tmp_path / "store", {whole.ids["log"]})
    leader, follower = both(store, *TRAIN)
    leader.until_blocks(2)
    assert follower.end(signal.SIGKILL).code == -signal.SIGKILL
    assert leader.end().code not in (0, 130)
    assert_readable(store, whole.ids[POLICIES], there=False)
    resumed = [one.end() for one in both(store, *TRAIN, "--resume")]
    assert [one.code for one in resumed] == [0, 0], resumed
    assert Shelf(store).find(whole.ids[POLICIES]).digest == whole.card(POLICIES).digest
    assert_tidy(store)
