"""One config per algorithm. Defaults are sane; presets and `--set` are differences."""

from typing import Literal

from pydantic import Field

from pipelines.core.configs.base import Config

Widths = tuple[int, ...]


class SacConfig(Config):
    """Soft actor-critic (Haarnoja et al. 2018b), online, batch and pooled."""

    hidden: Widths = (256, 256)
    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(3e-4, gt=0)
    discount: float | None = Field(None, description="None: the family's own", ge=0, lt=1)
    target_rate: float = Field(0.005, gt=0, le=1, description="Polyak rate of the target critics, every update")
    init_temperature: float = Field(1.0, gt=0)
    target_entropy: float | None = Field(None, description="None: minus the action dimension")
    obs_scale: float = Field(1.0, gt=0, description="learning online: observations are divided by it")
    reward_scale: float = Field(1.0, gt=0, description="learning online: critics learn rewards divided by it")


class DqnConfig(Config):
    """Double DQN (van Hasselt et al. 2016), for families with discrete actions."""

    hidden: Widths = (256, 256)
    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(3e-4, gt=0)
    discount: float | None = Field(None, description="None: the family's own", ge=0, lt=1)
    target_rate: float = Field(0.005, gt=0, le=1, description="Polyak rate of the target net, every update")
    double: bool = Field(True, description="the online net chooses the action that the target net values")
    explore_start: float = Field(1.0, ge=0, le=1, description="probability of a uniform action at the first update")
    explore_end: float = Field(0.05, ge=0, le=1)
    explore_steps: int = Field(10_000, ge=1, description="updates from the one to the other")
    obs_scale: float = Field(1.0, gt=0, description="learning online: observations are divided by it")
    reward_scale: float = Field(1.0, gt=0, description="learning online: values are learned of rewards divided by it")


class PearlConfig(SacConfig):
    """Batch PEARL (Rakelly et al. 2019; tiMe section 2.4, Eq. 2): SAC on (s, z), z ~ q(z | context)."""

    latent_dim: int = Field(5, ge=1)
    encoder_hidden: Widths = (200, 200, 200)
    context_size: int = Field(64, ge=1, description="transitions in a training context")
    kl_weight: float = Field(0.1, ge=0)
    context_next_obs: bool = Field(True, description="the encoder sees s' as in Eq. 2; the original code leaves it out")
    resample: Literal["step", "episode"] = Field(
        "step", description="z follows the posterior at every step, or is drawn once at the start of an episode"
    )


class TimeConfig(Config):
    """tiMe's second phase (Algorithm 1) with Q only; defaults are appendix B's toy experiment."""

    latent_dim: int = Field(32, ge=1, description="size of the inferred MDP identity")
    context_size: int = Field(1, ge=1, description="transitions in a training context")
    encoder_hidden: Widths = Field((256,), description="f, per transition; the mean over the set enters the last layer")
    embed_hidden: Widths = Field((256,), description="E")
    embed_dim: int = Field(256, ge=1)
    predictor_hidden: Widths = Field((256,), description="P, the low-capacity net")
    q_hidden: Widths = Field((256, 256), description="Q_S")
    batch_size: int = Field(64, ge=1, description="transitions of each task in one update")
    learning_rate: float = Field(3e-4, gt=0)
    predict_reward: bool = True
    predict_next_obs: bool = Field(False, description="reward-only families do not need it (the OpenReview version)")
    scale_terms: bool = Field(True, description="scale the auxiliary terms to the size of the Q term")
    num_shots: int = Field(100, ge=1, description="random shooting: actions tried per step")
