"""Names that several rooms use."""

import re

SPLITS = ("train", "test", "ood")


def slug(text: str, fallback: str = "") -> str:
    """`text` as part of a name: its letters and digits, and a dash for whatever is between them.

    `ant-goal/mql,engine=brax` -> `ant-goal-mql-engine-brax`; `fallback` where nothing is left.
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-") or fallback
