"""Two small stages that really run, checkpoint and store: `count` and `sum`, and a recipe of them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pipelines.core.configs.base import Config
from pipelines.core.work import Product, Work
from pipelines.stages.registry import StageSpec


class CountConfig(Config):
    """Of the stage `count`."""

    upto: int = 3
    label: str = ""


class SumConfig(Config):
    """Of the stage `sum`."""

    scale: float = 1.0


@dataclass
class Counting:
    """What the test stages do, and how often they did it."""

    stop_at: int | None = None  # Ctrl-C after the checkpoint at this cursor
    stop_total: bool = False  # Ctrl-C after a checkpoint of the sum
    bits: float = 0.0  # added to every result, as if the code had changed
    runs: list[str] = field(default_factory=list)

    def count(self, work: Work) -> Product:
        """Adds 1 + 2 + ... + upto to the seed."""
        config: CountConfig = work.config
        self.runs.append(f"count {work.seed}")
        cursor, total = work.checkpoint.load(np.zeros(())) or (0, np.asarray(float(work.seed)))
        for step in range(cursor + 1, config.upto + 1):
            total = np.asarray(total + step)
            work.tell.metrics(step, {"total": float(total)})
            work.tell.progress(step, config.upto, "step", f"total {total:g}")
            if step == self.stop_at:
                work.checkpoint.save(step, total)
                raise KeyboardInterrupt
        metrics, tasks = {"total": float(total)}, [{"id": 0, "name": "only"}]
        return Product({"total": total + self.bits}, metrics, tasks, {"label": config.label}, name="count")

    def sum(self, work: Work) -> Product:
        """Adds what the counts made; also a page."""
        config: SumConfig = work.config
        self.runs.append(f"sum {work.seed}")
        total = config.scale * sum(one.arrays()["total"] for one in work.inputs["counts"])
        if self.stop_total:
            work.checkpoint.save(1, np.asarray(total))
            raise KeyboardInterrupt
        files = {"table.txt": f"total {total:g}\n".encode(), "page.html": b"<html></html>"}
        return Product({"total": np.asarray(total)}, {"total": float(total)}, files=files, name="sum")


@dataclass(frozen=True)
class TestSpec(StageSpec):
    """A stage that lives in a fixture instead of a module."""

    __test__ = False
    runner: Callable[[Work], Product] | None = None

    def load(self) -> Callable[[Work], Product]:
        assert self.runner is not None
        return self.runner


RECIPE = """
name: counting
help: counts, then adds
presets: [small, tiny]
steps:
  few: {stage: count}
  many: {stage: count, label: many, config: {upto: 5}, presets: {tiny: {upto: 4}}}
  total: {stage: sum, inputs: {counts: [few, many]}, each_seed: false}
"""
