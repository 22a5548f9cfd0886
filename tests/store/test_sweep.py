import pytest

from pipelines.core.errors import InputMissing, StageFailed, UsageError
from pipelines.store.checkpoint import DiskCheckpoint
from pipelines.store.shelf import Shelf

from .making import make, recipe, state


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path)


def swept(shelf, **options):
    return [str(garbage.path.relative_to(shelf.root)) for garbage in shelf.garbage(**options)]


def test_older_generations_go_and_the_newest_stays(shelf):
    cards = [make(shelf, scale=scale) for scale in (1, 2, 3)]
    id = cards[0].id
    expected = [f"objects/{id}/1", f"objects/{id}/2"]
    assert swept(shelf, dry_run=True) == expected
    assert shelf.generations(id) == [1, 2, 3]
    assert swept(shelf, keep=[id]) == []
    found = shelf.garbage()
    assert all(garbage.bytes > 1000 and "3 is newer" in garbage.why for garbage in found)
    assert shelf.generations(id) == [3]
    assert swept(shelf) == []
    assert make(shelf).generation == 4
    assert shelf.verify(id).generation == 4


def test_what_a_kept_card_was_made_from_stays_to_the_first_ancestor(shelf):
    log = make(shelf, scale=1)
    policy = make(shelf, seed=1, parents={"log": log})
    report = make(shelf, seed=2, parents={"policies": [policy]})
    make(shelf, scale=2)
    make(shelf, seed=1, scale=2, parents={"log": log})
    make(shelf, scale=3)
    assert swept(shelf) == [f"objects/{log.id}/2"]
    assert shelf.find(f"{log.id}@1").digest == report_parent(shelf, policy).digest
    shelf.remove(report.id)
    assert swept(shelf) == [f"objects/{policy.id}/1"]


def report_parent(shelf, policy):
    (parent,) = shelf.find(f"{policy.id}@1").all_parents()
    return parent


def test_of_equal_generations_the_newest_stands_for_all(shelf):
    log, again = make(shelf), make(shelf)
    make(shelf, seed=1, parents={"log": log})
    assert log.digest == again.digest
    assert swept(shelf) == [f"objects/{log.id}/1"]


def test_a_damaged_newest_generation_keeps_itself_and_the_last_whole_one(shelf):
    cards = [make(shelf, scale=scale) for scale in (1, 2, 3)]
    path = shelf.folder(cards[2].id, 3) / "card.json"
    path.write_bytes(path.read_bytes()[:-5])
    assert swept(shelf) == [f"objects/{cards[0].id}/1"]


def test_work_that_no_process_holds_goes_unless_its_id_is_kept(shelf):
    with shelf.claim(recipe()) as claim:
        DiskCheckpoint(claim.checkpoint).save(12, state(1))
        assert swept(shelf) == []
    (garbage,) = shelf.garbage(dry_run=True)
    assert garbage.path == shelf.work(recipe())
    assert "checkpoint at 12" in garbage.why
    assert swept(shelf, keep=[recipe()]) == []
    assert swept(shelf) == [f"work/{recipe()}"]
    assert shelf.work_dirs() == []


def test_halves_and_leftovers_go(shelf):
    card = make(shelf)
    (shelf.trash / "x").mkdir(parents=True)
    (shelf.trash / "x" / "y").write_bytes(b"12345")
    (shelf.root / "objects" / card.id / "9").mkdir()
    found = {garbage.path.name: garbage for garbage in shelf.garbage()}
    assert (found["x"].bytes, found["9"].why) == (5, "has no card")
    assert shelf.garbage() == []
    assert list(shelf.trash.iterdir()) == []
    assert shelf.verify(card.id) == card


def test_remove_takes_what_it_was_given_and_its_alias(shelf):
    first, second = make(shelf), make(shelf, scale=2)
    other = make(shelf, seed=1)
    assert [garbage.path.name for garbage in shelf.remove(f"{first.id}@1")] == ["1"]
    assert shelf.find("replay-log/point-time@1") == second
    assert len(shelf.remove("replay-log/point-time@1")) == 1
    with pytest.raises(InputMissing):
        shelf.find(first.id)
    assert shelf.cards() == [other]
    assert shelf.aliases() == {"replay-log/point-time@2": other.id}
    make(shelf)
    assert shelf.alias(first.id) == "replay-log/point-time@3"


def test_a_parent_is_not_removed_while_its_child_is_there(shelf):
    log = make(shelf)
    child = make(shelf, seed=1, parents={"log": log})
    with pytest.raises(UsageError, match=f"{log.ref} is what {child.ref} was made from"):
        shelf.remove(log.id)
    make(shelf)
    shelf.remove(f"{log.id}@1")
    with pytest.raises(UsageError):
        shelf.remove(log.id)
    shelf.remove(child.id)
    shelf.remove(log.id)
    assert shelf.ids() == []


def test_what_is_being_written_is_not_removed(shelf):
    card = make(shelf)
    with shelf.claim(card.id), pytest.raises(StageFailed, match="being written"):
        shelf.remove(card.id)
    assert shelf.find(card.id) == card
