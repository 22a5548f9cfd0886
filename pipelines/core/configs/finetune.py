"""The config of `omrl finetune`. jax-free."""

from typing import Any, Literal

from pydantic import Field, model_validator

from pipelines.core.configs.algorithms import SacConfig
from pipelines.core.configs.base import Config
from pipelines.core.configs.stages import Mapping, of_paper, whole_blocks


class WarmSacConfig(SacConfig):
    """SAC that goes on from a meta-policy (MBML section 5.3, appendix J)."""

    average_rate: float = Field(
        0.1, gt=0, le=1, description="after each of its steps the policy is this part new and the rest old; 1: all new"
    )


class ImitationConfig(Config):
    """The new policy, made to do what the meta-policy did."""

    updates: int = Field(10_000, ge=1)
    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(3e-4, gt=0)
    likelihood: Literal["tanh", "plain"] = Field(
        "tanh", description="of actions under the policy, or, as the code has it, under its Gaussian before the tanh"
    )


class FinetuneConfig(Config):
    """A meta-policy made the start of SAC, in each task of a split. A layer may hold `papers` and `paper`: see
    `of_paper`."""

    label: str = Field("", description="the row's name in tables; empty: derived from the policy's artifact")
    split: Literal["train", "test", "ood"] = "test"
    collect_steps: int = Field(10_000, ge=1, description="steps of the meta-policy in each task, to imitate")
    latent: Literal["last", "all"] = Field(
        "last", description="what is held fixed: the latent of the last of its episodes, or one drawn after all of them"
    )
    imitation: ImitationConfig = ImitationConfig.model_validate({})
    warmup_steps: int = Field(10_000, ge=1, description="steps of the policy that SAC begins with, before it learns")
    steps: int = Field(350_000, ge=1, description="steps of each task while SAC learns")
    epoch_steps: int = Field(1_000, ge=1, description="steps, and then as many updates")
    eval_every: int = Field(1_000, ge=1, description="steps from one evaluation to the next")
    eval_episodes: int = Field(5, ge=1, description="episodes per task in one evaluation of the curves")
    episodes: int = Field(64, ge=1, description="episodes per task at the end")
    scratch: Literal["sac", "same", "none"] = Field(
        "sac",
        description="what is learned beside it from random nets: plain SAC, SAC by the same two minibatches, nothing",
    )
    agent: WarmSacConfig = WarmSacConfig.model_validate({})
    mapping: Mapping = "auto"

    @model_validator(mode="before")
    @classmethod
    def _of_paper(cls, data: Any) -> Any:
        return of_paper(data, "row")

    @model_validator(mode="after")
    def _whole_blocks(self) -> "FinetuneConfig":
        for name in ("collect_steps", "warmup_steps", "steps"):
            whole_blocks(name, getattr(self, name), "epoch_steps", self.epoch_steps)
        whole_blocks("imitation.updates", self.imitation.updates, "epoch_steps", self.epoch_steps)
        whole_blocks("eval_every", self.eval_every, "epoch_steps", self.epoch_steps)
        whole_blocks("steps", self.steps, "eval_every", self.eval_every)
        return self
