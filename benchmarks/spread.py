"""Repeated measurements, and how they are written: median [least, most]."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Median, least and most of repeated rates."""

    median: float
    least: float
    most: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Raises ValueError without values."""
        if not values:
            raise ValueError("no measurements")
        return cls(statistics.median(values), min(values), max(values), len(values))

    def __str__(self) -> str:
        return f"{digits(self.median)} [{digits(self.least)}, {digits(self.most)}]"


def digits(value: float) -> str:
    """Three digits that count, without an exponent: 0.0123, 1.23, 123, 12300."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    places = 2 - math.floor(math.log10(abs(rounded)))  # 9.996 became 10.0
    return f"{rounded:.{max(places, 0)}f}"


def seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def rates(run: Callable[[], object], amount: float, repeats: int) -> Spread:
    """`amount` per second over `repeats` calls of `run`, which has been called before."""
    return Spread.of([amount / seconds(run) for _ in range(repeats)])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned to the left, two spaces apart."""
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]
    rule = ["-" * width for width in widths]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (header, rule, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)
