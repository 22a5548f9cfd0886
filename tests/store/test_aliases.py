import json
import subprocess
import sys

import pytest

from pipelines.core.errors import CheckFailed
from pipelines.store.aliases import Aliases, clean_name
from pipelines.store.card import Card

from .making import ROOT, file_limit
from .test_card import FIELDS


def card(id, kind="replay-log", name="point", created="2026"):
    return Card.model_validate({**FIELDS, "id": id, "kind": kind, "name": name, "created": created})


def test_numbers_count_per_kind_and_name_oldest_first(tmp_path):
    aliases = Aliases(tmp_path)
    assert aliases.read() == {}
    aliases.give([card("b", created="2"), card("a", created="1"), card("c", kind="report"), card("d", name="ring")])
    expected = {"replay-log/point@1": "a", "replay-log/point@2": "b", "report/point@1": "c", "replay-log/ring@1": "d"}
    assert aliases.read() == expected
    assert aliases.give([card("a"), card("b")]) == expected


def test_a_removed_number_is_not_given_again(tmp_path):
    aliases = Aliases(tmp_path)
    aliases.give([card("a"), card("b")])
    aliases.drop("b")
    assert aliases.give([card("c")]) == {"replay-log/point@1": "a", "replay-log/point@3": "c"}


def test_every_changed_byte_of_the_file_is_noticed(tmp_path):
    aliases = Aliases(tmp_path)
    aliases.give([card("a")])
    whole = aliases.path.read_bytes()
    for index in range(len(whole)):
        aliases.path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        with pytest.raises(CheckFailed, match=r"aliases\.json is damaged"):
            aliases.read()


@pytest.mark.parametrize(
    "name, cleaned",
    [("point-semicircle/time", "point-semicircle-time"), ("a b@3", "a-b-3"), ("..", "unnamed"), ("", "unnamed")],
)
def test_clean_name(name, cleaned):
    assert clean_name(name) == cleaned


def test_a_full_disk_does_not_keep_names_from_readers(tmp_path):
    aliases = Aliases(tmp_path)
    with file_limit(0):
        assert aliases.give([card("a")]) == {"replay-log/point@1": "a"}
    assert aliases.read() == {}
    assert not [path for path in tmp_path.iterdir() if path.name != "aliases.lock"]


WRITER = """
import json, sys
from pathlib import Path
from pipelines.store.aliases import Aliases
from pipelines.store.card import Card
fields = json.loads(sys.argv[3])
for i in range(10):
    Aliases(Path(sys.argv[1])).give([Card.model_validate({**fields, "id": f"{sys.argv[2]}-{i}"})])
"""


def test_processes_at_once_give_every_number_once(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(n), json.dumps(FIELDS)], cwd=ROOT) for n in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    aliases = Aliases(tmp_path).read()
    assert sorted(aliases.values()) == sorted(f"{n}-{i}" for n in range(3) for i in range(10))
    assert {alias.rpartition("@")[2] for alias in aliases} == {str(number) for number in range(1, 31)}


def test_a_further_name(tmp_path):
    aliases = Aliases(tmp_path)
    aliases.give([card("a"), card("b", name="mine")])
    assert aliases.add(card("a"), "mine") == aliases.add(card("a"), "mine") == "replay-log/mine@2"
    assert aliases.add(card("a"), "point") == "replay-log/point@1"
    aliases.drop("a")
    assert aliases.read() == {"replay-log/mine@1": "b"}
    assert aliases.add(card("c"), "mine") == "replay-log/mine@3"
