"""What is up to date is not made again."""

from .driving import (
    CHAIN,
    Running,  # noqa: F401
    Whole,
    say,
)


def test_the_second_run_makes_nothing_and_imports_nothing_heavy(whole: Whole) -> None:
    said = say(whole.store, *CHAIN, "--json", PYTHONPROFILEIMPORTTIME=1)
    assert said.code == 0
    assert [(step["id"], step["made"]) for step in said.json["steps"]] == [(id, False) for id in whole.ids.values()]
    assert said.err.count("up to date") == len(whole.ids)
    imported = {line.rpartition("|")[2].strip() for line in said.err.splitlines() if line.startswith("import time:")}
    assert "pipelines.store.shelf" in imported
    assert not imported & {"jax", "jaxlib", "flax", "optax", "orbax", "numpy", "matplotlib"}
