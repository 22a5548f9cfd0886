"""Lines of blocks. jax-free."""

from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """One block a value, from `low` to `high`."""
    span = (high - low) or 1.0
    return "".join(BLOCKS[min(7, max(0, int(8 * (value - low) / span)))] for value in values)
