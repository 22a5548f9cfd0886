"""What a report says of a paper: which of its figures are where, and what the others lack. No jax."""

from collections.abc import Sequence
from typing import Any

from pipelines.core.configs.report import ReportConfig
from pipelines.stages import tables
from pipelines.stages.paper_given import Found

NAMES = {"time": "tiMe", "mbml": "MBML", "borel": "BOReL", "mql": "MQL"}


def as_text(config: ReportConfig, found: Sequence[Found]) -> str:
    """For a terminal; empty without a paper."""
    if config.paper is None:
        return ""
    blocks = [["", f"Figures of {NAMES[config.paper]}", *map(tables.wrap, _listed(found))]]
    with_table = [one for one in found if one.table]
    blocks += [["", one.figure, tables.wrap(one.caption), "", *tables.drawn(one.table)] for one in with_table]
    return "\n".join(line for block in blocks for line in block) + "\n"


def as_markdown(config: ReportConfig, found: Sequence[Found]) -> str:
    """A list; empty without a paper."""
    if config.paper is None:
        return ""
    listed = "\n".join(f"- {line}" for line in _listed(found))
    blocks = [f"### Figures of {NAMES[config.paper]}", listed]
    for one in found:
        blocks += [f"{one.figure}. {one.caption}", tables.markdown(one.table)] if one.table else []
    return "\n" + "\n\n".join(blocks) + "\n"


def as_json(config: ReportConfig, found: Sequence[Found]) -> dict[str, Any]:
    """By figure: the files that show it, its table, and what it lacks."""
    figures = [
        {"figure": one.figure, "files": names_of(one), "lacks": list(one.lacks)}
        | ({"table": [list(row) for row in one.table]} if one.table else {})
        for one in found
    ]
    return {"paper": config.paper, "figures": figures}


def names_of(one: Found) -> list[str]:
    """Files that show a figure."""
    return [*one.files, *(drawn.name for drawn in one.pictures)]


def _listed(found: Sequence[Found]) -> list[str]:
    """Which files show a figure, and what is left out."""
    out = []
    for one in found:
        out += [f"{one.figure}: {', '.join(names_of(one))}"] if names_of(one) else []
        out += one.lines
    return out
