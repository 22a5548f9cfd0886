"""Configs of the models that relabelling learns. jax-free."""

from pydantic import Field, PositiveInt

from pipelines.core.configs.base import Config

Widths = tuple[PositiveInt, ...]


class ModelConfig(Config):
    """An ensemble of models of one task; defaults are MBML's reward ensembles."""

    members: int = Field(20, ge=1, description="1: nobody to disagree with, so that every row passes")
    hidden: Widths = (128,)
    batch_size: int = Field(128, ge=1)
    learning_rate: float = Field(3e-4, gt=0)
    bootstrap: bool = Field(False, description="each member learns from a sample of the rows of its own")


class TransitionConfig(ModelConfig):
    """An ensemble of models of one task's dynamics; sizes are MBML's."""

    hidden: Widths = (256,) * 6
    change: bool = Field(True, description="what is learned is s' - s; false: s' itself, as published")
