import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines.core.configs.base import Config, later
from pipelines.core.errors import CheckFailed, WrongKind
from pipelines.store.card import (
    Card,
    Leaf,
    canonical,
    code_fingerprint,
    content_digest,
    package_versions,
    plain,
    read_card,
    recipe_id,
    seal,
)

FIELDS = {
    "kind": "replay-log", "name": "point", "id": "0123456789ab", "generation": 2, "digest": "d" * 64,
    "stage": "collect", "version": 1, "config": {"steps": 3, "rate": 1e-3}, "seed": 0,
    "tasks": [{"id": 0, "name": "ost é"}],
    "parents": {"log": {"id": "a" * 12, "digest": "b"}, "teachers": [{"id": "c" * 12, "digest": "d"}]},
    "arrays": {"obs": {"dtype": "float32", "shape": [3, 4]}}, "files": {"files/a": "e" * 64}, "metrics": {"r": None},
    "extra": {}, "code": {"sha256": "f" * 64}, "packages": {"jax": "0.10.2"}, "platform": {"cores": 2},
    "seconds": 1.25, "created": "2026-01-01T00:00:00.000000+00:00",
}  # fmt: skip


def test_a_card_comes_back_as_it_was_written(tmp_path):
    card = Card.model_validate(FIELDS)
    (tmp_path / "card.json").write_bytes(card.to_bytes())
    assert read_card(tmp_path / "card.json") == card
    assert card.ref == "0123456789ab@2"
    assert [parent.id for parent in card.all_parents()] == ["a" * 12, "c" * 12]


def test_every_changed_byte_of_a_card_is_noticed(tmp_path):
    path = tmp_path / "card.json"
    whole = Card.model_validate(FIELDS).to_bytes()
    for index, byte in enumerate(whole):
        path.write_bytes(whole[:index] + bytes([byte ^ 1 << index % 8]) + whole[index + 1 :])
        with pytest.raises(CheckFailed, match=r"card\.json is damaged") as failure:
            read_card(path)
        assert "--force" in failure.value.hint


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"3", b'{"seal": 1}', b"{}", b"[" * 100_000])
def test_what_is_no_card_is_damaged(tmp_path, content):
    (tmp_path / "card.json").write_bytes(content)
    with pytest.raises(CheckFailed):
        read_card(tmp_path / "card.json")


@pytest.mark.parametrize("changed", [{"format": 2}, {"surprise": 1}, {"seed": "zero"}])
def test_a_whole_card_of_another_version_is_no_damage(tmp_path, changed):
    (tmp_path / "card.json").write_bytes(seal({"format": 1, **FIELDS, **changed}))
    with pytest.raises(WrongKind):
        read_card(tmp_path / "card.json")


class Nested(Config):
    rate: float = 0.1
    name: str = "a"


def test_recipe_id_is_a_hash_of_the_recipe_alone():
    base = recipe_id("train", 1, {"rate": 0.1, "name": "a"}, 0, {"log": "x"})
    assert len(base) == 12
    assert set(base) <= set("0123456789abcdef")
    assert recipe_id("train", 1, {"name": "a", "rate": 0.1}, 0, {"log": "x"}) == base
    assert recipe_id("train", 1, Nested(), 0, {"log": "x"}) == base
    others = {
        recipe_id("eval", 1, Nested(), 0, {"log": "x"}), recipe_id("train", 2, Nested(), 0, {"log": "x"}),
        recipe_id("train", 1, Nested(rate=0.2), 0, {"log": "x"}), recipe_id("train", 1, Nested(), 1, {"log": "x"}),
        recipe_id("train", 1, Nested(), 0, {"log": "y"}), recipe_id("train", 1, Nested(), 0, {"log": ["x"]}),
        recipe_id("train", 1, Nested(), 0, {"log": ["x", "y"]}),
        recipe_id("train", 1, Nested(), 0, {"log": ["y", "x"]}),
    }  # fmt: skip
    assert len(others | {base}) == 9


def test_a_field_that_came_later_changes_no_id_while_it_does_what_was_done_before():
    class Inner(Config):
        rate: float = 0.1

    class Before(Config):
        inner: Inner = Inner()

    class InnerSince(Inner):
        extra: int = later(3)

    class Since(Config):
        inner: InnerSince = InnerSince()
        keep: str = later("all", description="rows that are kept")

    def ids(config: Config) -> str:
        return recipe_id("collect", 1, config, 0, {})

    assert ids(Since()) == ids(Before())
    assert len({ids(Before()), ids(Since(keep="first")), ids(Since(inner=InnerSince(extra=4)))}) == 3


def test_content_digest_depends_on_each_of_its_parts_and_not_on_order():
    leaf = Leaf(dtype="float32", shape=(2,))
    base = content_digest({"a": (leaf, "1"), "b": (leaf, "2")}, [], {})
    assert content_digest({"b": (leaf, "2"), "a": (leaf, "1")}, [], {}) == base
    changed = [
        content_digest({"a": (leaf, "1"), "c": (leaf, "2")}, [], {}),
        content_digest({"a": (leaf, "2"), "b": (leaf, "1")}, [], {}),
        content_digest({"a": (Leaf(dtype="int32", shape=(2,)), "1"), "b": (leaf, "2")}, [], {}),
        content_digest({"a": (Leaf(dtype="float32", shape=(1, 2)), "1"), "b": (leaf, "2")}, [], {}),
        content_digest({"a": (leaf, "1"), "b": (leaf, "2")}, [{"id": 0}], {}),
        content_digest({"a": (leaf, "1"), "b": (leaf, "2")}, [], {"family": "point"}),
    ]
    assert len({base, *changed}) == 7


def test_plain_is_json():
    value = {
        "a": (1, np.float32(0.5)),
        3: np.arange(2),
        "inf": math.inf,
        "nan": [np.nan],
        "yes": np.True_,
        "none": None,
    }
    assert plain(value) == {"a": [1, 0.5], "3": [0, 1], "inf": None, "nan": [None], "yes": True, "none": None}
    assert json.loads(canonical(value)) == plain(value)
    with pytest.raises(TypeError, match="object"):
        plain({"a": object()})


def test_fingerprint_covers_the_sources_and_is_quick():
    code = code_fingerprint()
    assert len(code.sha256) == 64
    assert code_fingerprint() is code
    versions = package_versions()
    assert {"jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"} <= set(versions)
    assert versions["numpy"] == np.__version__


def test_git_revision_of_a_checkout(tmp_path):
    from pipelines.store.card import _git_revision

    assert _git_revision(tmp_path) is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    assert _git_revision(tmp_path) is None
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert _git_revision(tmp_path) == head
    subprocess.run([*git, "pack-refs", "--all"], check=True)
    assert _git_revision(tmp_path) == head
    subprocess.run([*git, "worktree", "add", "-q", str(tmp_path / "other"), "-b", "side"], check=True)
    assert _git_revision(tmp_path / "other") == head
    subprocess.run([*git, "checkout", "-q", "--detach"], check=True)
    assert _git_revision(tmp_path) == head


def test_listing_imports_nothing_heavy():
    modules = "pipelines.store.card, pipelines.store.faults, pipelines.store.shelf, pipelines.store.checkpoint"
    code = f"import sys, {modules}; print([m for m in ('jax', 'numpy', 'orbax', 'flax') if m in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
