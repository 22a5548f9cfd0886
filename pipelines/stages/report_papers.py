"""What a report says of a paper: which of its figures are where, and what the others lack. No jax."""

from collections.abc import Sequence
from typing import Any

from pipelines.core.configs.report import ReportConfig
from pipelines.stages import tables
from pipelines.stages.paper_figures import Found

NAMES = {"time": "tiMe", "mbml": "MBML"}


def as_text(config: ReportConfig, found: Sequence[Found]) -> str:
    """For a terminal; empty without a paper."""
    if config.paper is None:
        return ""
    return "\n".join(["", f"Figures of {NAMES[config.paper]}", *map(tables.wrap, _listed(found))]) + "\n"


def as_markdown(config: ReportConfig, found: Sequence[Found]) -> str:
    """A list; empty without a paper."""
    if config.paper is None:
        return ""
    listed = "\n".join(f"- {line}" for line in _listed(found))
    return f"\n### Figures of {NAMES[config.paper]}\n\n{listed}\n"


def as_json(config: ReportConfig, found: Sequence[Found]) -> dict[str, Any]:
    """By figure: the files that show it, and what it lacks."""
    figures = [{"figure": one.figure, "files": names_of(one), "lacks": list(one.lacks)} for one in found]
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
