"""One config per stage. jax-free."""

from typing import Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny, model_validator

from pipelines.core.configs.algorithms import (
    BcConfig,
    BcqConfig,
    CqlConfig,
    DiscreteBcqConfig,
    DqnConfig,
    IqlConfig,
    PearlConfig,
    SacConfig,
    Td3BcConfig,
    Td3Config,
    TimeConfig,
)
from pipelines.core.configs.base import Config, merge, nearest, resolve
from pipelines.core.errors import UsageError
from pipelines.core.families import entry_of

Mapping = Literal["auto", "map", "vmap"]


class AgentConfig(Config):
    """A stage that runs one of several algorithms; `agent` is the config of the one that `SELECTOR` names.

    A layer may also hold `agents`, a table {algorithm: fields of its agent}: the chosen one's row lies under `agent`,
    so that one preset has something to say to each of them.
    """

    SELECTOR: ClassVar[str] = "algorithm"
    AGENTS: ClassVar[dict[str, type[Config]]] = {}

    agent: SerializeAsAny[Config] = Config()

    @model_validator(mode="before")
    @classmethod
    def _agent_of_algorithm(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        chosen = data.get(cls.SELECTOR, cls._default_choice(data))
        data = dict(data)
        agent, table = data.get("agent", {}), data.pop("agents", {})
        for name in table:
            if name not in cls.AGENTS:
                raise UsageError(f"agents.{name}: no such algorithm", nearest(name, list(cls.AGENTS), "algorithms"))
        if chosen in cls.AGENTS and isinstance(agent, dict):
            agent = resolve(cls.AGENTS[chosen], merge(table.get(chosen, {}), agent), prefix="agent.")
        return {**data, cls.SELECTOR: chosen, "agent": agent}

    @classmethod
    def _default_choice(cls, data: dict[str, Any]) -> str:
        """The algorithm where none is named."""
        return str(cls.model_fields[cls.SELECTOR].default)


class LearnerConfig(AgentConfig):
    """A stage that learns from logs in blocks of updates."""

    updates: int = Field(10_000, ge=1)
    block_updates: int = Field(500, ge=1, description="updates in one compiled call")
    num_snapshots: int = Field(10, ge=0, description="policies kept along the way, evenly spaced")

    @model_validator(mode="after")
    def _whole_blocks(self) -> "LearnerConfig":
        whole_blocks("updates", self.updates, "block_updates", self.block_updates)
        return self


def whole_blocks(total_name: str, total: int, block_name: str, block: int) -> None:
    """A last block of another size would compile anew. Raises UsageError."""
    if total % block:
        fits = next(size for size in range(min(block, total), 0, -1) if total % size == 0)
        raise UsageError(
            f"{total_name}={total} is not a multiple of {block_name}={block}", f"for example --set {block_name}={fits}"
        )


class CollectConfig(AgentConfig):
    """One ordinary agent per task, online; everything it saw is kept in order."""

    AGENTS: ClassVar[dict[str, type[Config]]] = {"sac": SacConfig, "td3": Td3Config, "dqn": DqnConfig}

    family: str = "point-semicircle/time"
    algorithm: Literal["sac", "td3", "dqn"] = Field(
        "sac", description="where none is named: dqn if actions are discrete"
    )
    steps: int = Field(6_000, ge=1, description="environment steps per task")
    random_steps: int = Field(1_500, ge=1, description="uniform actions at the start; learning begins after them")
    block_steps: int = Field(500, ge=1, description="environment steps in one compiled call")
    num_snapshots: int = Field(10, ge=0, description="behaviour policies kept along the way, evenly spaced")
    mapping: Mapping = "auto"

    @classmethod
    def _default_choice(cls, data: dict[str, Any]) -> str:
        entry = entry_of(str(data.get("family", "")))
        return "dqn" if entry and entry.discrete else "sac"

    @model_validator(mode="after")
    def _whole_blocks(self) -> "CollectConfig":
        whole_blocks("steps", self.steps, "block_steps", self.block_steps)
        return self


class TrainConfig(LearnerConfig):
    """Per-task batch RL, from the log only."""

    AGENTS: ClassVar[dict[str, type[Config]]] = {
        "batch-sac": SacConfig,
        "bcq": BcqConfig,
        "cql": CqlConfig,
        "td3bc": Td3BcConfig,
        "iql": IqlConfig,
        "bc": BcConfig,
        "discrete-bcq": DiscreteBcqConfig,
    }

    algorithm: Literal["batch-sac", "bcq", "cql", "td3bc", "iql", "bc", "discrete-bcq"] = "batch-sac"
    mapping: Mapping = "auto"


class DistillConfig(LearnerConfig):
    """One policy from the logs and the per-task policies."""

    SELECTOR: ClassVar[str] = "method"
    AGENTS: ClassVar[dict[str, type[Config]]] = {"time": TimeConfig}

    method: Literal["time"] = "time"


class MetatrainConfig(LearnerConfig):
    """One policy from all logs at once."""

    AGENTS: ClassVar[dict[str, type[Config]]] = {"batch-sac": SacConfig, "batch-pearl": PearlConfig}

    algorithm: Literal["batch-sac", "batch-pearl"] = "batch-sac"


class EvalConfig(Config):
    """Episodes on the tasks of a split."""

    label: str = Field("", description="the row's name in tables; empty: derived from the policy's artifact")
    split: Literal["train", "test", "ood"] = "test"
    protocol: Literal["zero-shot"] = "zero-shot"
    episodes: int = Field(64, ge=1, description="episodes per task")
    curve_episodes: int = Field(8, ge=0, description="episodes per task and snapshot; 0: no curve")
    match: Literal["own", "nearest"] = Field(
        "own", description="policy-sets: a test task gets its own policy, or the nearest training task's"
    )
    mapping: Mapping = "auto"
