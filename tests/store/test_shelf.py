import json
import signal

import numpy as np
import pytest

from pipelines.core.errors import StageFailed
from pipelines.core.work import Product
from pipelines.store.card import code_fingerprint, package_versions, read_card
from pipelines.store.checkpoint import DiskCheckpoint
from pipelines.store.shelf import Shelf

from .making import CONFIG, arrays, file_limit, make, product, put, recipe, start, state


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path / "store")


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# ---------------------------------------------------------------------------------------------------- the whole thing
def test_a_put_artifact_is_there_with_everything_on_its_card(shelf):
    log = make(shelf)
    card = make(shelf, seed=1, parents={"log": log, "others": [log, log]}, kind="policy-set", name="a b/c")
    assert card == shelf.find(card.id) == read_card(shelf.folder(card.id, 1) / "card.json")
    assert (card.kind, card.name, card.stage, card.version, card.seed) == ("policy-set", "a-b-c", "collect", 1, 1)
    assert (card.generation, card.config, card.extra) == (1, CONFIG, {"family": "point"})
    assert card.parents["log"].model_dump() == {"id": log.id, "digest": log.digest}
    assert card.all_parents() == [card.parents["log"]] * 3
    assert card.metrics == {"return": -3.5, "none": None}
    assert card.tasks == [{"id": 0, "name": "east", "params": {"angle": 0.0}}]
    assert card.arrays["obs"].model_dump() == {"dtype": "float32", "shape": (3, 4)}
    assert (card.code, card.packages, card.platform) == (code_fingerprint(), package_versions(), {"cores": 2})
    assert (card.seconds, card.created[:2]) == (1.5, "20")
    json.loads((shelf.folder(card.id, 1) / "card.json").read_text(), parse_constant=pytest.fail)
    assert shelf.aliases() == {"replay-log/point-time@1": log.id, "policy-set/a-b-c@1": card.id}
    assert shelf.verify(card.id) == card
    assert names(shelf.root) == ["aliases.json", "aliases.lock", "objects", "work"]
    assert names(shelf.root / "work") == []


def test_same_content_same_digest_and_one_changed_value_another(shelf):
    first, again, other = make(shelf), make(shelf), make(shelf, scale=np.nextafter(1, 2, dtype=np.float32))
    assert [card.generation for card in (first, again, other)] == [1, 2, 3]
    assert first.id == again.id == other.id
    assert first.digest == again.digest != other.digest
    assert make(shelf, seed=5).digest == first.digest
    assert shelf.artifact(first).arrays()["obs"][2, 3] == 11
    assert list(shelf.aliases()) == ["replay-log/point-time@1", "replay-log/point-time@2"]


def test_a_page_without_arrays(shelf):
    with shelf.claim(recipe()) as claim:
        card = put(shelf, claim, Product({}, files={"page.html": b"<p>"}))
    assert shelf.artifact(card).arrays() == {}
    assert card.name == "collect"
    assert shelf.verify(card) == card


def test_a_product_that_cannot_be_stored_leaves_nothing_but_its_checkpoint(shelf, tmp_path):
    for made, error in [
        (Product({"a": [1, 2]}), TypeError),
        (Product({"a": np.ones(2)}, extra={"model": object()}), TypeError),
        (Product({"a": np.ones(2)}, files={"../../../../escaped": b""}), ValueError),
    ]:
        with shelf.claim(recipe()) as claim:
            DiskCheckpoint(claim.checkpoint).save(1, state(1))
            with pytest.raises(error):
                put(shelf, claim, made)
    with pytest.raises(ValueError, match="not the id of this recipe"), shelf.claim("0" * 12) as claim:
        put(shelf, claim, product())
    assert shelf.ids() == []
    assert names(shelf.root / "work") == [recipe()]
    assert names(shelf.work(recipe())) == ["checkpoint", "generation", "lock"]
    assert not list(tmp_path.rglob("escaped"))


# ---------------------------------------------------------------------------------------------------- claims
def test_a_claim_keeps_the_work_of_an_unfinished_run_and_tidies_up_after_an_empty_one(shelf):
    with shelf.claim(recipe()) as claim:
        assert (claim.id, claim.generation) == (recipe(), 1)
    assert names(shelf.root / "work") == []
    with shelf.claim(recipe()) as claim:
        DiskCheckpoint(claim.checkpoint).save(1, state(1))
        (claim.folder / "metrics.jsonl").write_text("{}\n")
        (claim.folder / "out").mkdir()
    with shelf.claim(recipe()) as claim:
        assert names(claim.folder) == ["checkpoint", "generation", "lock", "metrics.jsonl"]
        claim.clear()
        assert names(claim.folder) == ["generation", "lock"]
    assert names(shelf.root / "work") == []


def test_a_checkpoint_of_a_finished_generation_is_not_resumed(shelf):
    with shelf.claim(recipe()) as claim:
        DiskCheckpoint(claim.checkpoint).save(1, state(1))
    left = shelf.work(recipe()).rename(shelf.root / "aside")
    make(shelf)
    left.rename(shelf.work(recipe()))
    with shelf.claim(recipe()) as claim:
        assert claim.generation == 2
        assert DiskCheckpoint(claim.checkpoint).load(state(0)) is None


def test_a_second_process_is_told_who_writes(shelf):
    holding = start("hold", shelf.root)
    assert holding.stdout.readline() == "held\n"
    (work,) = shelf.work_dirs()
    assert (work.id, work.pid, work.cursor) == (recipe(), holding.pid, None)
    with (
        pytest.raises(StageFailed, match=f"is being written by process {holding.pid}") as failure,
        shelf.claim(recipe()),
    ):
        pytest.fail("two writers")
    assert failure.value.exit_code == 1
    with shelf.claim(recipe(seed=1)):
        pass
    assert shelf.garbage() == []
    holding.communicate("\n", timeout=60)
    with shelf.claim(recipe()):
        pass


def test_of_processes_that_claim_at_once_one_wins(shelf):
    racers = [start("race", shelf.root) for _ in range(3)]
    assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 3
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    losers = []
    while len(losers) < 2:
        losers += [racer for racer in racers if racer not in losers and racer.poll() is not None]
    (winner,) = [racer for racer in racers if racer not in losers]
    for loser in losers:
        _, errors = loser.communicate(timeout=60)
        assert f"is being written by process {winner.pid}" in errors or "by another process" in errors
    assert winner.communicate("\n", timeout=60)[0] == "won\n"
    assert winner.returncode == 0


# ---------------------------------------------------------------------------------------------------- kills
@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """point -> (store, exit code) of a process that was killed there while it put; all at once, to save time."""
    points = ["before-arrays", "arrays-no-card", "after-card", "in-rename"]
    roots = {point: tmp_path_factory.mktemp(point) for point in points}
    processes = {point: start("put", root, fault=point) for point, root in roots.items()}
    codes = {point: (process.communicate(timeout=120), process.returncode)[1] for point, process in processes.items()}
    return {point: (Shelf(roots[point]), codes[point]) for point in points}


@pytest.mark.parametrize("point", ["before-arrays", "arrays-no-card", "after-card"])
def test_a_kill_before_the_rename_leaves_no_artifact_and_a_rerun_makes_it(killed, point, shelf):
    store, code = killed[point]
    assert code == -signal.SIGKILL
    assert (store.cards(), store.damaged, store.aliases(), store.newest(recipe())) == ([], [], {}, None)
    assert store.work(recipe()).is_dir()
    again = make(store)
    assert again.generation == 1
    assert again.digest == make(shelf).digest
    assert store.verify("replay-log/point-time@1") == again
    assert names(store.root / "work") == []


def test_a_kill_after_the_rename_leaves_the_whole_artifact_and_a_reader_names_it(killed, shelf):
    store, code = killed["in-rename"]
    assert code == -signal.SIGKILL
    assert not (store.root / "aliases.json").exists()
    card = store.find("replay-log/point-time@1")
    assert store.verify(card) == card
    assert card.digest == make(shelf).digest
    (work,) = store.work_dirs()
    assert work.pid is None
    again = make(store)
    assert (again.generation, again.digest) == (2, card.digest)
    assert store.aliases() == {"replay-log/point-time@1": card.id}
    assert names(store.root / "work") == []


# ---------------------------------------------------------------------------------------------------- full disks
def large():
    return Product({"x": np.random.default_rng(0).normal(size=50_000)}, files={"page.html": b"x" * 1000})


def test_a_full_disk_is_said_with_both_numbers_and_keeps_the_checkpoint(shelf):
    with shelf.claim(recipe()) as claim:
        DiskCheckpoint(claim.checkpoint).save(1, state(1))
        with file_limit(100_000), pytest.raises(StageFailed) as failure:
            put(shelf, claim, large())
    assert f"needs {401_000 + 1024 + 65536} bytes, 100000 free at {shelf.root}" in failure.value.cause
    assert (failure.value.exit_code, "--resume" in failure.value.hint) == (1, True)
    assert shelf.ids() == []
    assert names(shelf.work(recipe())) == ["checkpoint", "generation", "lock"]
    with shelf.claim(recipe()) as claim:
        assert DiskCheckpoint(claim.checkpoint).load(state(0))[0] == 1
        assert put(shelf, claim, large()).generation == 1


def test_a_disk_that_is_full_before_the_work_begins(shelf):
    with file_limit(10), pytest.raises(StageFailed, match="10 free at"), shelf.claim(recipe()):
        pytest.fail("claimed without room for a lock")


def test_a_rerun_after_a_full_disk_has_the_same_bits(shelf, tmp_path):
    with file_limit(50_000), pytest.raises(StageFailed):
        make(shelf)
    assert make(shelf).digest == make(Shelf(tmp_path / "other")).digest


def test_reading_while_another_process_writes(shelf):
    """A reader never sees a card without its arrays, nor an id without a card."""
    writer = start("many", shelf.root)
    seen = 0
    while writer.poll() is None:
        for card in shelf.cards():
            shelf.artifact(card).check_files()
            seen += 1
    _, errors = writer.communicate()
    assert (writer.returncode, errors, shelf.damaged) == (0, "", [])
    assert seen > 0
    assert len(shelf.aliases()) == 5
    assert shelf.artifact("replay-log/point-time@5").arrays().keys() == arrays().keys()
