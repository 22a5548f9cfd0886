"""Configs of relabelling rows, and of playing policies again in other tasks. jax-free."""

from typing import Literal

from pydantic import Field, model_validator

from pipelines.core.configs.base import Config, later
from pipelines.core.configs.models import ModelConfig, TransitionConfig
from pipelines.core.configs.stages import Mapping, whole_blocks
from pipelines.core.errors import UsageError

_TRANSITION = TransitionConfig.model_validate({})


class RelabelConfig(Config):
    """Rows of every task's log under every other task's reward, and dynamics where they differ."""

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
    dynamics: Literal["auto", "same", "differ"] = later(
        "auto", description="whether successors are relabelled, too; auto: as the family says, same without one"
    )
    transition: TransitionConfig = later(_TRANSITION, description="ensembles of the dynamics, where they differ")
    transition_updates: int = later(
        20_000, ge=1, description="of each task's ensemble of its dynamics, in blocks of block_updates"
    )
    next_threshold: float | None = later(
        None,
        gt=0,
        description="greatest spread of a successor, a mean over its numbers; None: a tenth of their changes'",
    )
    apply: Literal["stored", "on-the-fly"] = later(
        "stored", description="rows are kept, or the ensembles, which whoever learns from them asks"
    )
    unit: Literal["row", "episode"] = later(
        "row", description="what is kept: single rows, or whole episodes in the place of a trial's own"
    )
    trial_episodes: int = later(2, ge=2, description="unit=episode: k, consecutive episodes of a trial")
    half: Literal["first", "last", "either", "both", "any"] = later(
        "either",
        description="unit=episode: which half of a trial is replaced; either: drawn for each trial; both: each by a"
        " draw of its own, so that nothing in a trial is its own agent's; any: drawn among first, last and both",
    )
    mixed: Literal["all", "drawn"] = later(
        "all", description="unit=episode: which trials; drawn: as many draws with replacement as there are trials"
    )
    sources: Literal["one", "each"] = later(
        "one", description="unit=episode: a half comes from one trial, or each of its episodes from a draw of its own"
    )

    mixes: int = later(
        1, ge=1, description="unit=episode: how often trials are mixed, each time anew; what is learned from holds all"
    )

    @model_validator(mode="after")
    def _whole_blocks(self) -> "RelabelConfig":
        whole_blocks("updates", self.updates, "block_updates", self.block_updates)
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> "RelabelConfig":
        if self.unit == "episode" and self.apply != "stored":
            raise UsageError("apply=on-the-fly is for single rows; episodes are mixed once", "leave out --set unit=...")
        if self.unit == "episode" and self.rows_tried is not None:
            raise UsageError("rows_tried is for single rows; episodes are looked at whole", "leave out rows_tried")
        if self.unit == "row" and self.mixes > 1:
            raise UsageError("mixes is for whole episodes; single rows are not mixed", "--set unit=episode")
        return self


class ReplayConfig(Config):
    """Every task's agent, played in the other tasks (BOReL's policy replay)."""

    episodes: int = Field(10, ge=1, description="of each policy in each task")
    policies: int | None = Field(20, ge=1, description="of other tasks in each task, drawn; None: all of them")
    own: bool = Field(False, description="whether a task's own policy may be drawn, too, as in BOReL's code")
    snapshot: int = Field(-1, description="which of the kept policies acts, counted from 0; -1: the last")
    explore: float = Field(1.0, ge=0, le=1, description="1: as the agents did when they learned; 0: greedily")
    mapping: Mapping = "auto"
