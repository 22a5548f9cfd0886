"""Configs of the models that relabelling needs, and of relabelling. jax-free."""

from typing import Literal

from pydantic import Field, model_validator

from pipelines.core.configs.base import Config
from pipelines.core.configs.stages import Mapping, whole_blocks

Widths = tuple[int, ...]


class ModelConfig(Config):
    """An ensemble of models of one task; defaults are MBML's reward ensembles."""

    members: int = Field(20, ge=2)
    hidden: Widths = (128,)
    batch_size: int = Field(128, ge=1)
    learning_rate: float = Field(3e-4, gt=0)
    bootstrap: bool = Field(False, description="each member learns from a sample of the rows of its own")


class RelabelConfig(Config):
    """Rows of every task's log under every other task's reward."""

    reward: Literal["model", "known"] = Field(
        "model", description="ensembles learned from the log, or the family's own"
    )
    model: ModelConfig = Field(default_factory=lambda: ModelConfig.model_validate({}))
    updates: int = Field(4_000, ge=1, description="of each task's ensemble")
    block_updates: int = Field(500, ge=1, description="updates in one compiled call")
    threshold: float | None = Field(
        None, gt=0, description="greatest spread of a row that is kept; None: a tenth of the rewards' deviation"
    )
    rows_per_pair: int = Field(
        4_096, ge=1, description="of each ordered pair of tasks, uniformly among those that pass"
    )
    rows_tried: int | None = Field(None, ge=1, description="rows of a log that are looked at, uniformly; None: all")
    least_rows: int = Field(64, ge=0, description="a pair with fewer is reported")
    mapping: Mapping = "auto"

    @model_validator(mode="after")
    def _whole_blocks(self) -> "RelabelConfig":
        whole_blocks("updates", self.updates, "block_updates", self.block_updates)
        return self
