"""Config of the report stage. pydantic only."""

from typing import Any, Literal

from pydantic import Field, model_validator

from pipelines.core.configs.base import Config, later, nearest
from pipelines.core.errors import UsageError

# what the parts of a paper's figures are labelled where nobody says otherwise: as the recipes label them
PARTS: dict[str, dict[str, str]] = {
    "time": {"scratch": "SAC from scratch"},
    "mbml": {
        "contextual": "contextual BCQ",
        "pearl": "batch PEARL",
        "teachers": "BCQ",
        "ddpg": "DDPG",
        "neither": "Neither",
        "no_triplet": "No triplet",
        "no_relabelling": "No relabelling",
        "ground_truth": "ground truth",
        "no_ensemble": "No ensemble",
        "margin_0": "margin 0",
        "margin_4": "margin 4",
        "margin_8": "margin 8",
    },
    "borel": {
        "uniform": "BOReL",
        "plain": "no relabelling",
        "no_replay": "no replay",
        "cql": "BOReL + CQL",
        "mbml": "MBML",
        "pearl": "PEARL",
        "online": "BOReL online",
        "excluding": "BOReL, excluding",
        "excluding_cql": "BOReL + CQL, excluding",
        "fixed": "BOReL, fixed",
        "fixed_cql": "BOReL + CQL, fixed",
    },
    "mql": {
        "context": "TD3-context",
        "td3": "TD3",
        "pearl": "PEARL",
        "new_only": "MQL, Eq. 18 only",
        "tenth": "MQL, λ 0.1",
        "half": "MQL, λ 0.5",
        "scripts": "MQL, released scripts",
        "window_own": "TD3-context offline, window 20",
        "window_short": "TD3-context offline, window 5",
        "window_long": "TD3-context offline, window 40",
        "context_small": "TD3-context offline, context 5",
        "context_large": "TD3-context offline, context 40",
    },
}
FOLLOWED: dict[str, dict[str, str]] = {
    "mbml": {"method": "MBML", "reference": "contextual BCQ"},
    "borel": {"method": "BOReL", "reference": "no relabelling"},
    "mql": {"method": "MQL", "reference": "TD3-context"},
}


class ReportConfig(Config):
    """What the report compares and draws. Labels are those that the evaluations were given."""

    title: str = Field("omrl report", description="heading of the page")
    method: str = Field("tiMe", description="label of the method that the figures follow")
    reference: str = Field("pooled batch SAC", description="label of the method it is held against")
    proposition: bool = Field(True, description="compute and draw Proposition 1 (a few seconds)")
    sweep: dict[str, float] = Field({}, description="label -> the value that was varied to make it; drawn if not empty")
    sweep_axis: str = Field("share of random steps at the start of the logs", description="what `sweep` varies")
    common: tuple[int, ...] = later(
        (), description="episodes of a trial, the first being 1, in which all methods are held beside each other"
    )
    paper: Literal["time", "mbml", "borel", "mql"] | None = later(
        None, description="whose figures are drawn, as far as there is what they need, and said where there is not"
    )
    labels: dict[str, str] = later(
        {}, description="part of a paper's figure -> its label here, where it is another: {scratch: my SAC}"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_paper(cls, data: Any) -> Any:
        return {**FOLLOWED.get(data.get("paper") or "", {}), **data} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _episodes_in_order(self) -> "ReportConfig":
        if any(n < 1 for n in self.common) or list(self.common) != sorted(set(self.common)):
            raise UsageError(f"common={list(self.common)} are no episodes of a trial in order", "as common=[1,2,5]")
        return self

    @model_validator(mode="after")
    def _parts_that_there_are(self) -> "ReportConfig":
        if self.labels and self.paper is None:
            raise UsageError(
                "labels are of the parts of a paper's figures", "say which: --paper time, mbml, borel or mql"
            )
        for part in self.labels:
            if part not in PARTS[self.paper or ""]:
                raise UsageError(f"labels.{part}: no such part", nearest(part, list(PARTS[self.paper or ""]), "parts"))
        return self

    def label_of(self, part: str) -> str:
        """What a part of the paper's figures is labelled."""
        return self.labels.get(part) or PARTS[self.paper or ""][part]
