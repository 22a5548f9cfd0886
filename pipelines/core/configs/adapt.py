"""Config of adapting to a new task (MQL section 3.2), a part of evaluation's. jax-free."""

from typing import Any, Literal

from pydantic import Field, NonNegativeFloat

from pipelines.core.configs.base import Config


class AdaptConfig(Config):
    """One round: updates on the new task's rows (Eq. 18), then weighted ones on the meta-training log's (Eq. 19).

    What is None is as `settings` has it for the family's body.
    """

    settings: Literal["paper", "code"] = Field(
        "paper", description="whose numbers and habits: the paper's equations and Table 1, or the released scripts"
    )
    body: str | None = Field(None, description="whose row of them, such as ant-goal; None: the family's")
    new_updates: int | None = Field(None, ge=0, description="Eq. 18: updates on the new task's rows")
    old_updates: int | None = Field(None, ge=0, description="Eq. 19: updates on the meta-training log's rows")
    new_batch: int | None = Field(None, ge=0, description="rows of an update of Eq. 18; 0: as many as there are")
    old_batch: int | None = Field(None, ge=1, description="rows of an update of Eq. 19")
    learning_rate: float | None = Field(None, gt=0, description="of both; None, in the paper's too: the policy's own")
    proximal: Literal["ess"] | NonNegativeFloat | None = Field(
        None, description="lambda of the proximal term: 1 - ESS, or a number (0: there is none)"
    )
    proximal_new: bool | None = Field(None, description="whether Eq. 18 has the term, too")
    half: bool | None = Field(None, description="lambda / 2 times the squared distance, or lambda times it")
    anchored: Literal["actor", "both"] | None = Field(None, description="what is held near the meta-policy")
    clip: float | None = Field(None, gt=0, description="the greatest beta, or the greatest logit of it")
    clip_on: Literal["value", "logit"] | None = None
    floor: float | None = Field(None, ge=0, description="a smaller beta is 0")
    features: Literal["z", "obs+z"] | None = Field(None, description="what the logistic regression sees of a row")
    strength: float | None = Field(None, gt=0, description="its C: the weight of the rows against |w|^2 / 2")
    balanced: bool | None = Field(
        None, description="beta is the ratio of densities (Eq. 10), however many rows of each kind it was fitted on"
    )
    new_rows: Literal["once", "bootstrap"] | None = Field(
        None, description="fitted on each row of the new task once, or on as many draws of them"
    )
    recent: int | None = Field(
        None, ge=0, description="and on rows among the last so many of each training task; 0: among all"
    )


def decided(config: AdaptConfig, *rows: dict[str, Any]) -> AdaptConfig:
    """The config with what it leaves open taken from `rows`, the later ones winning."""
    said = {name: value for name, value in config if value is not None}
    merged: dict[str, Any] = {}
    for row in (*rows, said):
        merged |= row
    return AdaptConfig.model_validate(merged)
