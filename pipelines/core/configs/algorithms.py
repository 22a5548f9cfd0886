"""One config per algorithm. Defaults are sane; presets and `--set` are differences."""

from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from pipelines.core.configs.base import DECAY, Config, later
from pipelines.core.errors import UsageError

Widths = tuple[PositiveInt, ...]


class SoftConfig(Config):
    """What soft actor-critics have in common."""

    hidden: Widths = (256, 256)
    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(3e-4, gt=0)
    discount: float | None = Field(None, description="None: the family's own", ge=0, lt=1)
    target_rate: float = Field(0.005, gt=0, le=1, description="Polyak rate of the target critics, every update")
    init_temperature: float = Field(1.0, gt=0)
    target_entropy: float | None = Field(None, description="None: minus the action dimension")
    obs_scale: float = Field(1.0, gt=0, description="learning online: observations are divided by it")
    reward_scale: float = Field(1.0, gt=0, description="learning online: critics learn rewards divided by it")
    actor_learning_rate: float | None = later(
        None, description="of actor and temperature; None: the critics', learning_rate", gt=0
    )
    learn_temperature: bool = later(True, description="false: it stays at init_temperature")
    decay_updates: int | None = later(None, ge=1, description=DECAY)


class SacConfig(SoftConfig):
    """Soft actor-critic (Haarnoja et al. 2018b), online, batch and pooled."""

    critic_hidden: Widths | None = later(None, description="of the critics; None: as the actor, hidden")
    log_std_min: float = later(-10.0, description="the policy's log deviation is held above it", lt=2)


class Td3Config(Config):
    """TD3 (Fujimoto et al. 2018), online."""

    hidden: Widths = (256, 256)
    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(3e-4, gt=0)
    discount: float | None = Field(None, description="None: the family's own", ge=0, lt=1)
    target_rate: float = Field(0.005, gt=0, le=1, description="Polyak rate of all targets, at every actor update")
    actor_delay: int = Field(2, ge=1, description="updates of the critics for one of the actor")
    target_noise: float = Field(0.2, ge=0, description="deviation of the noise on the target's action")
    target_noise_clip: float = Field(0.5, ge=0)
    explore_noise: float = Field(0.1, ge=0, description="deviation of the noise on the behaviour policy's action")
    obs_scale: float = Field(1.0, gt=0, description="learning online: observations are divided by it")
    reward_scale: float = Field(1.0, gt=0, description="learning online: critics learn rewards divided by it")


class MqlConfig(Td3Config):
    """MQL's meta-training (Fakoor et al. 2020, section 3.1): TD3 across tasks, with the GRU's context of an episode."""

    hidden: Widths = (300, 300)
    context: Literal["gru", "none"] = Field("gru", description="none: TD3 on the state alone")
    context_dim: int = Field(20, ge=1, description="of the GRU's hidden state, the context z")
    history: int = Field(20, ge=1, description="steps in the window that the GRU runs over")
    first_element: Literal["noise", "none"] = Field(
        "noise", description="what opens an episode's windows: (noise, 0, x_0) as in the released code, or nothing"
    )
    eval_window: Literal["growing", "padded", "unbounded"] = Field(
        "growing",
        description="acting, a young episode's window is as short as it is (released code, in evaluation), or filled up"
        " with zeros (its training and collecting); unbounded: it never forgets what the episode has shown",
    )
    eval_history: int | None = Field(None, ge=1, description="steps in the window while acting; None: history")
    draw: Literal["rows", "tasks"] = Field(
        "rows", description="rows of an update: uniform over all tasks' rows (released code), or over tasks first"
    )
    scale_obs: bool = Field(True, description="from logs: nets see observations of mean 0 and deviation 1 on them")
    scale_reward: bool = Field(True, description="from logs: critics learn rewards divided by their deviation on them")


class PooledTd3Config(MqlConfig):
    """The same without a context: vanilla TD3 on the objective of all tasks."""

    context: Literal["none"] = "none"


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
    decay_updates: int | None = later(None, ge=1, description=DECAY)
    obs_scale: float = Field(1.0, gt=0, description="learning online: observations are divided by it")
    reward_scale: float = Field(1.0, gt=0, description="learning online: values are learned of rewards divided by it")


class PearlConfig(SoftConfig):
    """Batch PEARL (Rakelly et al. 2019; tiMe section 2.4, Eq. 2): SAC on (s, z), z ~ q(z | context)."""

    latent_dim: int = Field(5, ge=1)
    encoder_hidden: Widths = (200, 200, 200)
    context_size: int = Field(64, ge=1, description="transitions in a training context")
    kl_weight: float = Field(0.1, ge=0)
    context_next_obs: bool = Field(True, description="the encoder sees s' as in Eq. 2; the original code leaves it out")
    resample: Literal["step", "episode"] = Field(
        "step", description="z follows the posterior at every step, or is drawn once at the start of an episode"
    )
    tasks_per_update: int | None = later(
        None, ge=1, description="tasks drawn with replacement for an update; None: every task once"
    )
    kl_over_tasks: Literal["mean", "sum"] = later("mean", description="the KL of an update's tasks; the code's: sum")
    scale_reward: bool = later(
        True, description="critics learn rewards divided by their deviation on the logs; false: by reward_scale"
    )
    prior_episodes: int = later(
        0, ge=0, description="first episodes of a task whose z is drawn from the prior, whatever has been seen by then"
    )


class TimeConfig(Config):
    """tiMe's second phase (Algorithm 1); defaults are appendix B's toy experiment."""

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
    act: Literal["auto", "generator", "shooting", "cem"] = later(
        "auto",
        description="how actions are found: candidates of G_S and xi_S, uniform ones, or cross-entropy search on Q_S;"
        " auto: the generator where the teachers perturb, else shooting",
    )
    generator_hidden: Widths | None = later(None, description="G_S; None: as q_hidden")
    perturbation_hidden: Widths | None = later(None, description="xi_S; None: as q_hidden")
    num_candidates: int = later(10, ge=1, description="actions that G_S proposes per step")
    noise_dim: int | None = later(None, ge=0, description="of G_S's noise; None: the teachers'")
    noise_clip: float | None = later(None, gt=0, description="noise is held within it; None: the teachers'")
    perturbation_scale: float | None = later(None, ge=0, le=1, description="Phi; None: the teachers', 0: no xi_S")
    cem_rounds: int = later(5, ge=1, description="cem: how often num_shots actions are drawn and the best kept")
    cem_elites: int = later(10, ge=1, description="cem: how many are kept")


class MbmlConfig(Config):
    """MBML's second phase (Li et al. 2020, Algorithm 1); its ablations are relabel and triplet."""

    relabel: Literal["ensemble", "known", "none"] = Field(
        "ensemble", description="who paid the relabelled rows: learned ensembles, the family itself, or there are none"
    )
    triplet: bool = Field(
        True, description="triplet loss on relabelled rows, Eqs. 8 and 9; without relabelling batch-hard, Eq. 11"
    )
    margin: float = Field(2.0, ge=0, description="m, of the triplet loss")
    num_contexts: int = Field(10, ge=1, description="batch-hard: context sets of each task, N")
    batch_hard: Literal["task", "anchor"] = Field(
        "task",
        description="batch-hard: one triple of each task, their mean (Eq. 11); one of each set, their sum (code)",
    )
    latent_dim: int = Field(20, ge=1, description="size of the inferred task identity z")
    context_size: int = Field(64, ge=1, description="a task's own transitions in a training context")
    foreign_size: int = Field(
        64, ge=0, description="relabelled transitions beside them; more of the task's own where there is no relabelling"
    )
    encoder_hidden: Widths = Field((200, 200, 200), description="of the task encoder")
    q_hidden: Widths = Field((256, 256), description="Q_D")
    generator_hidden: Widths | None = Field(None, description="G_D; None: as q_hidden")
    perturbation_hidden: Widths | None = Field(None, description="xi_D; None: as q_hidden")
    batch_size: int = Field(128, ge=1, description="transitions of each task in one update")
    learning_rate: float = Field(3e-4, gt=0)
    kl_weight: float = Field(0.1, ge=0, description="beta, of KL(q || N(0, I))")
    kl_over: Literal["mean", "sum"] = Field("mean", description="tasks: their mean (Eq. 3), or their sum (code)")
    q_units: Literal["reward", "standard"] = Field(
        "reward", description="units of the value whose squared error counts: as they are, or of deviation 1"
    )
    prior_factor: bool = Field(False, description="posteriors count N(0, I) among their factors")
    min_variance: float = later(1e-7, gt=0, description="of a transition's factor; 1e-7 in the code")
    resample: Literal["episode", "step"] = Field(
        "episode", description="z is drawn at the start of an episode, or follows the posterior at every step"
    )
    num_candidates: int = Field(10, ge=1, description="actions that G_D proposes per step")
    noise_dim: int | None = Field(None, ge=0, description="of G_D's noise; None: the teachers'")
    noise_clip: float | None = Field(None, gt=0, description="noise is held within it; None: the teachers'")
    perturbation_scale: float | None = Field(None, ge=0, le=1, description="Phi; None: the teachers', 0: no xi_D")


# ---- batch RL: one task, its log only ------------------------------------------------------------------------------


class BatchConfig(Config):
    """What batch-RL algorithms have in common."""

    hidden: Widths = Field((256, 256), description="of every net that has no field of its own")
    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(3e-4, gt=0)
    discount: float | None = Field(None, description="None: the family's own", ge=0, lt=1)
    target_rate: float = Field(0.005, gt=0, le=1, description="Polyak rate of the targets, every update")
    scale_obs: bool = Field(True, description="nets see observations of mean 0 and deviation 1 on the log")
    scale_reward: bool = Field(True, description="critics learn rewards divided by their deviation on the log")


class BcConfig(Config):
    """Behaviour cloning."""

    hidden: Widths = (256, 256)
    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(3e-4, gt=0)
    scale_obs: bool = Field(True, description="the net sees observations of mean 0 and deviation 1 on the log")
    kind: Literal["gaussian", "deterministic"] = Field(
        "gaussian", description="most likely Gaussian of one deviation per action entry, or least squares"
    )


class BcqConfig(BatchConfig):
    """BCQ (Fujimoto et al. 2019a); MBML's sizes: hidden 400-300, vae_hidden 750-750, batch_size 100."""

    vae_hidden: Widths = Field((256, 256), description="of encoder and generator")
    latent_dim: int | None = Field(None, description="None: twice the action dimension", ge=1)
    num_candidates: int = Field(10, ge=1, description="actions that the generator proposes, in targets and acting")
    perturbation_scale: float = Field(0.05, ge=0, le=1, description="Phi, of actions in [-1, 1]")
    min_weight: float = Field(0.75, ge=0, le=1, description="lambda: of the lesser critic in the target, Eq. 13")
    kl_weight: float = Field(0.5, ge=0, description="of the VAE's mean KL beside its mean squared error")
    noise_clip: float = Field(0.5, gt=0, description="latent noise is held within it when actions are generated")
    perturbation_hidden: Widths | None = later(None, description="of xi; None: as the critics, hidden")


class ContextualBcqConfig(BcqConfig):
    """Contextual BCQ (MBML section 5.1): BCQ whose nets see an inferred task identity z."""

    batch_size: int = Field(128, ge=1, description="transitions of each task in one update")
    identity_dim: int = Field(20, ge=1, description="of z; latent_dim is the VAE's")
    encoder_hidden: Widths = Field((200, 200, 200), description="of the task encoder")
    context_size: int = Field(128, ge=1, description="transitions in a training context")
    encoder_loss: Literal["value", "value+vae"] = Field(
        "value",
        description="what the task encoder learns from: the critics' loss (the paper), or the VAE's too (the code)",
    )
    resample: Literal["step", "episode"] = Field(
        "episode", description="z is drawn once at the start of an episode, or follows the posterior at every step"
    )


class DdpgConfig(BatchConfig):
    """DDPG (Lillicrap et al. 2016) on a log, the learner of MetaGenRL in MBML's Fig. 5."""

    explore_noise: float = Field(0.1, ge=0, description="deviation of the noise on an exploring policy's action")


class CqlConfig(SoftConfig):
    """CQL(H) (Kumar et al. 2020) on SAC."""

    conservative_weight: float = Field(5.0, ge=0, description="alpha; where it is learned, at the first update")
    num_actions: int = Field(10, ge=1, description="of each of the three proposals in the log-sum-exp")
    lagrange_gap: float | None = Field(None, description="tau: alpha is learned to hold the gap there; None: fixed")
    soft_target: bool = Field(False, description="the target counts the entropy, as SAC's does")
    scale_obs: bool = Field(True, description="nets see observations of mean 0 and deviation 1 on the log")
    scale_reward: bool = Field(True, description="critics learn rewards divided by their deviation on the log")


class BorelConfig(SacConfig):
    """BOReL's off-policy learner (Dorfman et al. 2021, section 3): SAC, CQL or DQN on states with beliefs."""

    learner: Literal["auto", "sac", "cql", "dqn"] = Field(
        "auto", description="what learns; auto: dqn where actions are discrete, else sac"
    )
    batch_size: int = Field(256, ge=1, description="rows of each drawn task in one update")
    tasks_per_update: int | None = Field(16, ge=1, description="drawn with replacement; None: every task once")
    first_trials: int | None = Field(None, ge=1, description="rows of the first trials of each log, only; None: of all")
    boundary: Literal["start", "end"] = Field(
        "start",
        description="what the first action of a trial's next episode is chosen on: where it begins, or where the last"
        " one ended, as in the released code",
    )
    data: Literal["own", "mixed"] = Field(
        "own", description="rows of the log itself, or of its trials as --relabelled mixed them"
    )
    belief_reset: Literal["never", "paid", "terminal"] = later(
        "never",
        description="rows before which the states' beliefs begin anew: none, or, as in the released code, those that"
        " end in the goal (paid more than the belief-model's paid_above, or terminal); evaluation never begins anew",
    )
    paid_ends: bool = later(
        False,
        description="nothing is bootstrapped behind a row that is paid more than the belief-model's paid_above, as in"
        " the released code, whose terminals say 'in the goal'",
    )
    scale_obs: bool = Field(True, description="nets see states of mean 0 and deviation 1 on the log")
    scale_reward: bool = Field(
        True, description="critics learn rewards divided by their deviation on the logs; false: by reward_scale"
    )
    conservative_weight: float = Field(2.0, ge=0, description="cql: alpha")
    num_actions: int = Field(10, ge=1, description="cql: of each of the three proposals in the log-sum-exp")
    soft_target: bool = Field(False, description="cql: the target counts the entropy, as SAC's does")
    double: bool = Field(False, description="dqn: the online net chooses the action that the target net values")
    belief: dict[str, Any] = Field({}, description="how beliefs are inferred: the belief-model's, filled in from it")


class OnlineBorelConfig(BorelConfig):
    """BOReL's learner and its belief, learned together (off-policy VariBAD).

    `belief` holds fields of the belief-model, but for how many tasks and trials it learns from: those of an update are
    its own. There is no log to fit scales to: obs_scale and reward_scale stand in, and of the belief obs_scale too.
    """

    trials_per_task: int = Field(4, ge=1, description="trials of each drawn task in one update, whole")
    belief_every: int = Field(5, ge=1, description="updates of the policy for one of the belief")
    explore_start: float = Field(1.0, ge=0, le=1, description="dqn: probability of a uniform action at first")
    explore_end: float = Field(0.05, ge=0, le=1)
    explore_steps: int = Field(10_000, ge=1, description="dqn: updates from the one to the other")

    @model_validator(mode="after")
    def _of_its_own_trials(self) -> "OnlineBorelConfig":
        if self.data == "mixed":
            cause = "agent.data=mixed: online there are no trials of other agents to mix in, and no rewards to relabel"
            raise UsageError(cause, "leave it out; `omrl relabel` mixes the trials of a log")
        for name, without in (("first_trials", None), ("belief_reset", "never")):
            if getattr(self, name) != without:
                raise UsageError(f"agent.{name} is about the beliefs of a log", "leave it out with --online")
        return self


class Td3BcConfig(Td3Config):
    """TD3+BC (Fujimoto & Gu 2021)."""

    bc_alpha: float = Field(2.5, gt=0, description="alpha: weight of the value, of mean size 1, beside the cloning")
    scale_obs: bool = Field(True, description="nets see observations of mean 0 and deviation 1 on the log")
    scale_reward: bool = Field(True, description="critics learn rewards divided by their deviation on the log")


class IqlConfig(BatchConfig):
    """IQL (Kostrikov et al. 2022)."""

    expectile: float = Field(0.7, gt=0, lt=1, description="tau")
    inverse_temperature: float = Field(3.0, ge=0, description="beta, of advantages in the critics' units")
    max_weight: float = Field(100.0, gt=0, description="the weights exp(beta A) are cut here")


class DiscreteBcqConfig(BatchConfig):
    """Discrete BCQ (Fujimoto et al. 2019b), for families with discrete actions."""

    threshold: float = Field(0.3, ge=0, le=1, description="an action is admitted from this share of the likeliest's")
    logit_weight: float = Field(0.01, ge=0, description="of the mean squared logit beside the cloning loss")
