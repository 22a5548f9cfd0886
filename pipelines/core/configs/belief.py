"""Configs of the belief: a variational model of what a task may be, as an agent comes to know it. jax-free."""

from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from pipelines.core.configs.base import DECAY, Config, later
from pipelines.core.configs.stages import Split, of_paper, whole_blocks
from pipelines.core.errors import UsageError

Widths = tuple[PositiveInt, ...]


class BeliefConfig(Config):
    """VariBAD's model as BOReL learns it from logs (section 3)."""

    trial_episodes: int = Field(2, ge=1, description="k, consecutive episodes of a trial")
    tasks_per_update: int | None = Field(8, ge=1, description="tasks of an update, drawn anew; None, or too many: all")
    trials_per_task: int = Field(8, ge=1, description="trials of each of them")
    learning_rate: float = Field(3e-4, gt=0)
    decay_updates: int | None = later(None, ge=1, description=DECAY)
    latent_dim: int = Field(5, ge=1, description="Z")
    width: int = Field(128, ge=1, description="of the recurrent layer")
    embed_action: int = Field(16, ge=0, description="width of the action's embedding; 0: actions are not seen")
    embed_obs: int = Field(32, ge=1, description="of the embedding of an observation and its flag")
    embed_reward: int = Field(16, ge=1)
    image_features: int = Field(50, ge=1, description="what a convolutional net makes of an image, before embed_obs")
    scale_obs: bool = Field(True, description="nets see observations of mean 0 and deviation 1 on the log")
    scale_reward: bool = Field(False, description="the same of rewards; then squared errors count in deviations, too")
    reward_head: Literal["gaussian", "bernoulli", "cells"] = Field(
        "gaussian",
        description="how rewards are decoded: squared error; whether paid (paid_above), told by the transition; or with"
        " one logit for each cell of a grid, whatever the way there",
    )
    reward_inputs: tuple[Literal["next_obs", "obs", "action"], ...] = Field(
        ("next_obs", "obs", "action"), description="what of a transition the reward decoder sees beside the latent"
    )
    paid_above: float = Field(0.5, description="bernoulli and cells: what counts as paid")
    cells: Widths = Field((5, 5), description="cells: the grid's size; observations are its whole numbers")
    decode_state: bool | None = Field(
        None, description="whether successors are decoded, too; None: where tasks differ in their dynamics"
    )
    decoder_hidden: Widths = Field((32, 32), min_length=1, description="of each decoder")
    kl_weight: float = Field(0.05, ge=0, description="of the divergences beside the reconstruction")
    kl_to: Literal["previous", "standard"] = Field(
        "previous", description="what each posterior is held to: the one before it, or N(0, I)"
    )
    over_steps: Literal["sum", "mean"] = Field(
        "sum",
        description="of the steps that a latent decodes: their sum (the ELBO), or their mean, as the released code has"
        " it but for the grid, which makes kl_weight weigh as many times more as a trial has steps",
    )
    elbo_terms: int | None = Field(
        None, ge=1, description="latents of a trial that count, drawn for each update; None: all of them, L + 1"
    )
    decode_terms: int | None = Field(None, ge=1, description="steps that each of them decodes; None: all of them, L")
    chunk: int | None = Field(
        None, ge=1, description="latents decoded at once: memory and speed; None: 16 on a CPU, 4096 on an accelerator"
    )

    @model_validator(mode="after")
    def _decodes(self) -> "BeliefConfig":
        if self.reward_head != "cells" and not self.reward_inputs:
            raise UsageError("reward_inputs is empty", "for example --set 'reward_inputs=[next_obs]'")
        if self.reward_head != "cells" and "action" in self.reward_inputs and not self.embed_action:
            kept = ", ".join(name for name in self.reward_inputs if name != "action") or "next_obs"
            cause = "embed_action=0: reward_inputs has the action, and actions are not seen"
            raise UsageError(cause, f"--set 'reward_inputs=[{kept}]', or a width for embed_action")
        return self


class BeliefStageConfig(BeliefConfig):
    """The model, and how long it learns. A layer may hold `papers` and `paper`: see `of_paper`."""

    updates: int = Field(10_000, ge=1)
    block_updates: int = Field(100, ge=1, description="updates in one compiled call")
    num_snapshots: int = Field(5, ge=0, description="models kept along the way, evenly spaced")
    learn_from: Split = Field("train", description="split of the tasks whose log this is; a log of others is refused")

    @model_validator(mode="before")
    @classmethod
    def _of_paper(cls, data: Any) -> Any:
        return of_paper(data, "row")

    @model_validator(mode="after")
    def _whole_blocks(self) -> "BeliefStageConfig":
        whole_blocks("updates", self.updates, "block_updates", self.block_updates)
        return self
