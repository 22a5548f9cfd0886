import shutil

import numpy as np
import pytest

from pipelines.core.errors import CheckFailed, InputMissing
from pipelines.store.card import read_card
from pipelines.store.disk import files_under
from pipelines.store.shelf import Shelf

from .making import arrays, make
from .test_arrays import assert_same


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    shelf = Shelf(tmp_path_factory.mktemp("store"))
    return shelf.artifact(make(shelf))


@pytest.fixture
def copy(stored, tmp_path):
    """The same artifact in a store of its own, to be damaged."""
    shutil.copytree(stored.path.parents[2], tmp_path / "store")
    return Shelf(tmp_path / "store").artifact(stored.card.id)


def test_arrays_come_back(stored):
    expected = arrays()
    expected["policy"] = {"mean": np.asarray(0.5), "count": np.asarray(7, np.int32), "nothing": {}}
    assert_same(stored.arrays(), expected)
    stored.verify()


def test_extra_files_come_back(stored):
    assert stored.file("page.html").read_bytes() == b"<html></html>"
    assert stored.file("figures/left.png").read_bytes() == b"\x89PNG"
    assert stored.file("metrics.jsonl").read_text().startswith('{"step": 1')
    assert stored.file("tb/events").read_bytes() == b"\x00\x01"
    with pytest.raises(InputMissing, match=r"no file 'table\.csv'") as missing:
        stored.file("table.csv")
    assert "page.html" in missing.value.hint


def test_every_file_is_on_the_card(stored):
    assert {*stored.card.files, "card.json"} == set(files_under(stored.path))
    assert sum(name.startswith("arrays/state/") for name in stored.card.files) >= 4


def test_one_flipped_bit_in_any_file_is_noticed_and_the_file_is_named(copy):
    for name, path in files_under(copy.path).items():
        whole = path.read_bytes()
        for at in {0, len(whole) // 2, len(whole) - 1} if whole else {0}:
            # An empty file has no byte to flip: it gets one.
            path.write_bytes(whole[:at] + bytes([(whole[at] if whole else 0) ^ 0x10]) + whole[at + 1 :])
            if name == "card.json":
                with pytest.raises(CheckFailed, match=r"card\.json"):
                    read_card(path)
            else:
                with pytest.raises(CheckFailed, match=f"{path} is damaged") as failure:
                    copy.arrays()
                assert "--force" in failure.value.hint
            path.write_bytes(whole)
    copy.arrays()


def test_a_missing_file_is_noticed(copy):
    for path in files_under(copy.path).values():
        if path.name != "card.json":
            path.rename(path.with_name("elsewhere"))
            with pytest.raises(CheckFailed, match=f"{path} is missing"):
                copy.check_files()
            path.with_name("elsewhere").rename(path)


def test_a_damaged_extra_file_is_not_given_out(copy):
    (copy.path / "files" / "page.html").write_bytes(b"<html><html>")
    with pytest.raises(CheckFailed, match=r"page\.html"):
        copy.file("page.html")


def test_verify_compares_the_bits_with_the_digest(copy):
    wrong = type(copy)(copy.card.model_copy(update={"extra": {"family": "ring"}}), copy.path)
    wrong.arrays()
    with pytest.raises(CheckFailed, match="does not hold the bits"):
        wrong.verify()
