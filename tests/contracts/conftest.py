from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def _no_silent_broadcasts() -> Iterator[None]:
    """[B] against [B, 1] would make [B, B] without a word. For all threads: tasks are traced in their own."""
    before = jax.config.jax_numpy_rank_promotion
    jax.config.update("jax_numpy_rank_promotion", "raise")
    yield
    jax.config.update("jax_numpy_rank_promotion", before)
