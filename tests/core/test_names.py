"""Names as parts of names."""

import pytest

from pipelines.core.families import FAMILIES
from pipelines.core.names import slug


@pytest.mark.parametrize(
    "text, want",
    [
        ("point-semicircle/time", "point-semicircle-time"),
        ("ant-goal/mql,engine=brax", "ant-goal-mql-engine-brax"),
        ("my/families.py:LINE", "my-families-py-LINE"),
        ("/tmp/a b.py:LINE", "tmp-a-b-py-LINE"),
        ("tiMe  (k = 3)", "tiMe-k-3"),
        ("Über", "ber"),  # aliases are typed in shells
    ],
)
def test_a_slug_is_letters_digits_and_dashes(text, want):
    assert slug(text) == slug(want) == want


def test_what_leaves_nothing_is_called_something_else():
    assert (slug("--"), slug("", "eval"), slug("本", "eval"), slug("a", "eval")) == ("", "eval", "eval", "a")


def test_the_families_that_are_listed_keep_different_names():
    assert len({slug(name) for name in FAMILIES}) == len(FAMILIES)
