"""Config of evaluation: what is played, how, and what is read of it. jax-free."""

from typing import Any, Literal

from pydantic import Field, model_validator

from pipelines.core.configs.adapt import AdaptConfig
from pipelines.core.configs.base import Config, later, nearest
from pipelines.core.configs.stages import Mapping
from pipelines.core.errors import UsageError

COUNTED = ("all", "last")
AS_SETTLED = AdaptConfig.model_validate({})


class EvalConfig(Config):
    """A policy on the tasks of a split."""

    label: str = Field("", description="the row's name in tables; empty: derived from the policy's artifact")
    split: Literal["train", "test", "ood"] = "test"
    protocol: Literal["zero-shot", "episodes", "adapt", "probe", "look"] = Field(
        "zero-shot",
        description="zero-shot: each episode is a new task; episodes: trial_episodes in one task, what was seen is "
        "carried on; adapt: MQL's policy first adapts to one episode of the task; probe: nothing is played, the "
        "encoder alone is asked; look: a trial in each of look_tasks is kept whole, with what a belief-model "
        "(--belief) makes of it, for figures",
    )
    episodes: int = Field(64, ge=1, description="episodes per task; with protocol=episodes, trials of them")
    curve_episodes: int = Field(8, ge=0, description="episodes, or trials, per task and snapshot; 0: no curve")
    curve_points: int | None = later(
        None, ge=1, description="snapshots that are played, evenly spaced, the last one among them; None: all of them"
    )
    match: Literal["own", "nearest"] = Field(
        "own", description="policy-sets: a test task gets its own policy, or the nearest training task's"
    )
    mapping: Mapping = "auto"
    trial_episodes: int = later(5, ge=1, description="k: consecutive episodes of a trial (protocol=episodes or look)")
    counted: str = later(
        "all",
        coerce_numbers_to_str=True,
        description="which episodes of a trial make its return, a mean: all, last, N or A-B, the first being 1",
    )
    context_rows: int = later(
        128, ge=1, description="rows of a task's log that the memory is shown first (--context), or a draw of --probe"
    )
    context_pick: Literal["uniform", "first", "last"] = later(
        "uniform", description="which rows of --context: drawn anew for each episode or trial, or those of an end"
    )
    checkpoint: Literal["last", "best-on-train", "best-on-test"] = later(
        "last",
        description="which snapshot is evaluated: the best of those played with curve_episodes on the training tasks, "
        "or on the test tasks, as the papers do (then tables say so)",
    )
    probe_draws: int = later(20, ge=2, description="contexts drawn of each task's log (--probe)")
    probe_first: int | None = later(
        None, ge=1, description="they are drawn from the first N rows, where logs overlap most; None: from all"
    )

    adapt: AdaptConfig = later(AS_SETTLED)
    look_tasks: int = later(4, ge=1, description="protocol=look: tasks of the split that are looked at")

    @model_validator(mode="before")
    @classmethod
    def _plays_only(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("protocol") == "finetune":
            raise UsageError("fine-tuning learns: it is a stage of its own", "omrl finetune --policy REF")
        return data

    @model_validator(mode="after")
    def _fits_together(self) -> "EvalConfig":
        if self.protocol == "episodes":
            parse_counted(self.counted, self.trial_episodes)
        else:
            for name in ("counted",) if self.protocol == "look" else ("trial_episodes", "counted"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise UsageError(
                        f"{name} is about trials, protocol={self.protocol} has none", "--protocol episodes"
                    )
        if self.protocol != "adapt" and self.adapt != AS_SETTLED:
            raise UsageError(f"protocol={self.protocol} adapts nothing, adapt.* says how", "--protocol adapt")
        if self.checkpoint != "last" and not self.curve_episodes:
            cause = f"checkpoint={self.checkpoint} needs curve_episodes: how often each snapshot is played"
            raise UsageError(cause, "for example --set curve_episodes=8")
        return self


def parse_counted(text: str, trial_episodes: int) -> tuple[int, int]:
    """`all`, `last`, `N`, `A-B` -> the first and the last episode that count, the first of a trial being 1. Raises
    UsageError, also where a trial has fewer."""
    if text in COUNTED:
        return (1 if text == "all" else trial_episodes), trial_episodes
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise UsageError(f"counted={text} is none of all, last, N, A-B", nearest(text, list(COUNTED), "rules"))
    begin, end = int(first), int(last or first)
    if not 1 <= begin <= end:
        raise UsageError(f"counted={text} counts no episode", "episodes are numbered from 1, as in counted=3-5")
    if end > trial_episodes:
        cause = f"counted={text}: a trial has {trial_episodes} episode{'s' * (trial_episodes > 1)}"
        raise UsageError(cause, f"--set trial_episodes={end} plays as many")
    return begin, end
