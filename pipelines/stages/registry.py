"""What stages there are, what they take and what they make. jax-free: modules load when a stage runs."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field

from pipelines.core.configs import stages as configs
from pipelines.core.configs.base import Config
from pipelines.core.configs.belief import BeliefStageConfig
from pipelines.core.configs.eval import EvalConfig
from pipelines.core.configs.finetune import FinetuneConfig
from pipelines.core.configs.io import ImportConfig
from pipelines.core.configs.online import OnlineConfig
from pipelines.core.configs.relabel import RelabelConfig, ReplayConfig
from pipelines.core.configs.report import ReportConfig
from pipelines.core.work import Product, Work


@dataclass(frozen=True)
class Role:
    """What may be given for an input. `many`: a list of artifacts."""

    kinds: tuple[str, ...]
    required: bool = True
    many: bool = False


@dataclass(frozen=True)
class StageSpec:
    """A stage: `version` grows when the same config would give another artifact."""

    name: str
    help: str
    config: type[Config]
    produces: str
    consumes: dict[str, Role] = field(default_factory=dict)
    version: int = 1
    module: str = ""  # where its `run` is, if not in one of its name
    divided: bool = False  # whether several processes share its tasks
    command: str = ""  # how it is run, if not by its name

    def load(self) -> Callable[[Work], Product]:
        """The stage's `run`; imports jax."""
        module = importlib.import_module(f"pipelines.stages.{self.module or self.name}")
        run: Callable[[Work], Product] = module.run
        return run


_LOG = Role(("replay-log",))

STAGES: dict[str, StageSpec] = {
    spec.name: spec
    for spec in (
        StageSpec(
            "collect",
            "one agent per task, everything it saw, in order",
            configs.CollectConfig,
            "replay-log",
            divided=True,
        ),
        StageSpec("import", "logs that somebody else wrote", ImportConfig, "replay-log", module="import_"),
        StageSpec(
            "train", "one batch-RL policy per task", configs.TrainConfig, "policy-set", {"log": _LOG}, divided=True
        ),
        StageSpec(
            "relabel",
            "which rows would have been paid what in other tasks",
            RelabelConfig,
            "relabelled-log",
            {"log": _LOG, "replay": Role(("replay-log",), required=False)},
            version=2,
            divided=True,
        ),
        StageSpec(
            "replay",
            "every task's agent, played in the other tasks",
            ReplayConfig,
            "replay-log",
            {"policies": Role(("replay-log", "policy-set"))},
            divided=True,
        ),
        StageSpec(
            "belief",
            "what a task may be, after every step of a trial (BOReL's VAE)",
            BeliefStageConfig,
            "belief-model",
            {
                "log": _LOG,
                "relabelled": Role(("relabelled-log",), required=False),
                "replay": Role(("replay-log",), required=False),
            },
        ),
        StageSpec(
            "online",
            "one policy learned across tasks while they are collected (the first half of `metatrain --online`)",
            OnlineConfig,
            "replay-log",
            command="metatrain --online",
        ),
        StageSpec(
            "distill",
            "one policy from logs and per-task policies (tiMe, MBML)",
            configs.DistillConfig,
            "meta-policy",
            {"log": _LOG, "teachers": Role(("policy-set",)), "relabelled": Role(("relabelled-log",), required=False)},
        ),
        StageSpec(
            "metatrain",
            "one policy from all logs at once (pooled batch SAC, batch PEARL, contextual BCQ, BOReL, MQL)",
            configs.MetatrainConfig,
            "meta-policy",
            {
                "log": _LOG,
                "belief": Role(("belief-model",), required=False),
                "relabelled": Role(("relabelled-log",), required=False),
                "replay": Role(("replay-log",), required=False),
            },
        ),
        StageSpec(
            "eval",
            "episodes on the tasks of a split",
            EvalConfig,
            "report",
            {
                "policy": Role(("meta-policy", "policy-set", "replay-log")),
                "context": Role(("replay-log",), required=False),
                "log": Role(("replay-log",), required=False),
                "probe": Role(("replay-log",), required=False),
                "relabelled": Role(("relabelled-log",), required=False),
                "belief": Role(("belief-model",), required=False),
            },
        ),
        StageSpec(
            "finetune",
            "a meta-policy made the start of SAC in each task (MBML section 5.3)",
            FinetuneConfig,
            "report",
            {"policy": Role(("meta-policy",))},
        ),
        StageSpec(
            "report",
            "tables, figures and one page from reports",
            ReportConfig,
            "page",
            {
                "reports": Role(("report",), many=True),
                "policies": Role(("meta-policy",), required=False, many=True),
                "relabelled": Role(("relabelled-log",), required=False, many=True),
                "logs": Role(("replay-log",), required=False, many=True),
            },
        ),
    )
}
