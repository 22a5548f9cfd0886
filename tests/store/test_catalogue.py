import subprocess
import sys

import pytest

from pipelines.core.errors import CheckFailed, InputMissing, UsageError
from pipelines.store.shelf import Shelf

from .making import ROOT, make


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Two logs of one name, the first in two generations, a policy of the same name and a ring log."""
    shelf = Shelf(tmp_path_factory.mktemp("store"))
    for seed, kind, name in [(0, "replay-log", "point"), (0, "replay-log", "point"), (1, "replay-log", "point"),
                             (2, "meta-policy", "point"), (3, "replay-log", "ring")]:  # fmt: skip
        make(shelf, seed, kind=kind, name=name)
    return shelf


def test_an_empty_store_is_empty(tmp_path):
    shelf = Shelf(tmp_path / "nowhere")
    assert (shelf.cards(), shelf.ids(), shelf.aliases(), shelf.work_dirs(), shelf.garbage()) == ([], [], {}, [], [])
    assert shelf.newest("0" * 12) is None
    with pytest.raises(InputMissing, match="no artifact 'log'"):
        shelf.find("log")
    assert not (tmp_path / "nowhere").exists()


def test_cards_are_the_newest_generations_newest_last(shelf):
    cards = shelf.cards()
    assert [(card.seed, card.generation) for card in cards] == [(0, 2), (1, 1), (2, 1), (3, 1)]
    assert [card.generation for card in shelf.cards(every_generation=True) if card.seed == 0] == [1, 2]


def test_every_way_to_name_an_artifact(shelf):
    by_seed = {card.seed: card for card in shelf.cards()}
    first, second, policy, ring = (by_seed[seed] for seed in range(4))
    for ref, card in {
        first.id: first, first.id[:4]: first, f"{first.id}@2": first, f"{first.id[:5]}@2": first,
        "replay-log/point@1": first, "replay-log/point@2": second, "replay-log/point": second,
        "meta-policy/point": policy, "meta-policy/point@1": policy, "ring": ring, "ring@1": ring,
    }.items():  # fmt: skip
        assert shelf.find(ref) == card, ref
    assert shelf.find(f"{first.id}@1").generation == 1
    assert shelf.artifact(first).path == shelf.folder(first.id, 2)
    assert shelf.alias(second.id) == "replay-log/point@2"
    assert shelf.alias("f" * 12) == "f" * 12


def test_names_that_fit_nothing_or_too_much(shelf):
    id = shelf.cards()[0].id
    with pytest.raises(InputMissing) as missing:
        shelf.find("replay-log/pont")
    assert missing.value.hint.startswith("did you mean replay-log/point@")
    for ref in (f"{id}@3", f"{id}@", f"{id}@x"):
        with pytest.raises(InputMissing, match="no generation") as missing:
            shelf.find(ref)
        assert missing.value.hint == f"there is {id}@1, {id}@2"
    for ref in ("replay-log/point@9", id[:3], "../../etc", ""):
        with pytest.raises(InputMissing, match="no artifact"):
            shelf.find(ref)
    with pytest.raises(UsageError, match="meta-policy/point, replay-log/point"):
        shelf.find("point")


def test_a_beginning_that_two_ids_share(tmp_path):
    shelf = Shelf(tmp_path)
    make(shelf)
    (id,) = shelf.ids()
    twin = id[:8] + ("0000" if id[8:] != "0000" else "1111")
    (tmp_path / "objects" / twin / "1").mkdir(parents=True)
    (tmp_path / "objects" / twin / "1" / "card.json").write_bytes(
        shelf.folder(id, 1).joinpath("card.json").read_bytes()
    )
    with pytest.raises(UsageError, match=f"{id[:6]} could be any of"):
        shelf.find(id[:6])
    with pytest.raises(CheckFailed, match=f"is the card of {id}@1"):
        shelf.find(twin)


def test_one_damaged_card_does_not_hide_the_others(tmp_path):
    shelf = Shelf(tmp_path)
    cards = [make(shelf, seed) for seed in (0, 1)]
    path = shelf.folder(cards[0].id, 1) / "card.json"
    path.write_bytes(path.read_bytes().replace(b"point", b"paint", 1))
    assert shelf.cards() == [cards[1]]
    assert [str(path) in error.cause for error in shelf.damaged] == [True]
    with pytest.raises(CheckFailed, match="damaged"):
        shelf.find(cards[0].id)
    with pytest.raises(CheckFailed, match="damaged"):
        shelf.newest(cards[0].id)
    assert make(shelf, 0).generation == 2
    assert shelf.find(cards[0].id).digest == cards[0].digest
    assert [card.seed for card in shelf.cards()] == [1, 0]
    assert shelf.damaged == []


def test_a_generation_that_lost_its_card_is_none(tmp_path):
    shelf = Shelf(tmp_path)
    first, second = make(shelf), make(shelf)
    (shelf.folder(second.id, 2) / "card.json").unlink()
    assert shelf.find(first.id) == first
    assert make(shelf).generation == 2


LISTING = """
import sys
from pipelines.store.shelf import Shelf
shelf = Shelf(sys.argv[1])
shelf.cards(), shelf.aliases(), shelf.work_dirs(), shelf.find("ring"), shelf.garbage(dry_run=True)
print([module for module in ("jax", "numpy", "orbax") if module in sys.modules])
"""


def test_listing_stays_free_of_jax(shelf):
    done = subprocess.run([sys.executable, "-c", LISTING, shelf.root], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
