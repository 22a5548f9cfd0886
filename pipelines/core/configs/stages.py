"""One config per stage. jax-free."""

from typing import Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny, model_validator

from pipelines.core.configs.algorithms import (
    BcConfig,
    BcqConfig,
    BorelConfig,
    ContextualBcqConfig,
    CqlConfig,
    DdpgConfig,
    DiscreteBcqConfig,
    DqnConfig,
    IqlConfig,
    MbmlConfig,
    MqlConfig,
    PearlConfig,
    PooledTd3Config,
    SacConfig,
    Td3BcConfig,
    Td3Config,
    TimeConfig,
)
from pipelines.core.configs.base import Config, later, merge, nearest, resolve
from pipelines.core.errors import UsageError
from pipelines.core.families import entry_of

Mapping = Literal["auto", "map", "vmap"]
Split = Literal["train", "test", "ood"]
KEEP = ("all", "first", "last")


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
    learn_from: Split = later("train", description="split of the tasks whose log this is; a log of others is refused")

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
    """One ordinary agent per task, online; everything it saw is kept in order.

    A layer may also hold `papers`, collectors of the papers by paper and body, and `paper`, which of them is meant: see
    `choose_collector`; and `bodies`, {body: fields}, of which the row of the family's body is taken, or that of "".
    """

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
    warmup: Literal["uniform", "policy"] = later(
        "uniform", description="what acts in the random_steps: nobody, or the policy before it has learned"
    )
    block_updates: int | None = later(
        None, ge=1, description="updates after each block; None: one for each step (on device engines right after it)"
    )
    num_envs: int = later(1, ge=1, description="environments of each task, stepped together; they share the steps")
    keep: str = later("all", description="rows of each task that the log keeps: all, first:N or last:N")
    snapshot_every: int | None = later(
        None, ge=1, description="steps from one snapshot to the next; then num_snapshots is not read"
    )
    overlap: bool = later(
        False, description="host engines: physics go on while the learner learns, with the policy of the block before"
    )
    num_tasks: int | None = later(None, ge=1, description="tasks of the split; None: all of them")
    which_tasks: Literal["first", "spread"] = later(
        "first",
        description="which num_tasks those are: the first, or some evenly spread from the first to the last",
    )
    log_as: str | None = later(
        None, description="family whose rewards the log holds, where agents learn from others (BOReL's ant: dense ones)"
    )
    split: Split = later("train", description="whose tasks; nothing learns from a log of others unless it is told to")

    @model_validator(mode="before")
    @classmethod
    def _of_family(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        own = {name: value for name, value in data.items() if name not in ("papers", "paper", "bodies")}
        family = str(data.get("family", cls.model_fields["family"].default))
        chosen = choose_collector(data.get("papers"), data.get("paper"), family)
        bodies = data.get("bodies", {})
        return merge(chosen, bodies.get(body_of(family), bodies.get("", {})), own)

    @classmethod
    def _default_choice(cls, data: dict[str, Any]) -> str:
        entry = entry_of(str(data.get("family", "")))
        return "dqn" if entry and entry.discrete else "sac"

    @model_validator(mode="after")
    def _whole_blocks(self) -> "CollectConfig":
        whole_blocks("steps", self.steps, "block_steps", self.block_steps)
        whole_blocks("block_steps", self.block_steps, "num_envs", self.num_envs)
        parse_keep(self.keep)
        return self

    @model_validator(mode="after")
    def _tasks_that_there_are(self) -> "CollectConfig":
        if entry := entry_of(self.family):
            enough_tasks(self.num_tasks, entry.num_tasks(self.split), self.family, self.split)
        return self


def enough_tasks(wanted: int | None, there: int, family: str, split: str = "train") -> None:
    """Raises UsageError where the split has no task, or `wanted` are more than it has."""
    kind = "training" if split == "train" else split
    if not there:
        raise UsageError(f"{family} has no {kind} tasks", "--split train or --split test")
    if wanted is not None and wanted > there:
        cause = f"num_tasks={wanted}: {family} has {there} {kind} task{'s' if there > 1 else ''}"
        raise UsageError(cause, f"--set num_tasks={there} takes them all")


def body_of(family: str) -> str:
    """`ant-goal` of `ant-goal/mbml,engine=brax`."""
    return family.partition(",")[0].partition("/")[0]


def of_paper(data: Any, what: str) -> Any:
    """Layers of a stage whose family is not in its config: under them the row of `papers` that `paper` names."""
    if not isinstance(data, dict):
        return data
    own = {name: value for name, value in data.items() if name not in ("papers", "paper")}
    return merge(choose_collector(data.get("papers"), data.get("paper"), "", what), own)


def choose_collector(papers: Any, paper: str | None, family: str, what: str = "collector") -> dict[str, Any]:
    """The row of `papers`, {paper: {body: fields}, "": fields}, that is meant.

    `paper` is `mbml` (the row of the family's body, as in `ant-goal/...`) or `mbml/ant-goal`; without it a family's own
    variant says which paper it is of (`mbml-m` is of `mbml`), and the fields under "" serve where there is no such row.
    Raises UsageError for a row that there is not.
    """
    if papers is None:
        if paper is not None:
            raise UsageError(f"paper={paper} chooses a {what} of the preset `paper`", "add --preset paper")
        return {}
    body, _, variant = family.partition(",")[0].partition("/")
    columns = {name: rows for name, rows in papers.items() if name}
    if paper is None:
        of = next((name for name in columns if variant == name or variant.startswith(f"{name}-")), "")
        return dict(columns.get(of, {}).get(body, papers[""]))
    column, _, row = str(paper).partition("/")
    if column not in columns:
        raise UsageError(f"paper={paper}: no such paper", nearest(column, list(columns), "papers"))
    if (row or body) not in columns[column]:
        hint = nearest(row or body, list(columns[column]), "bodies")
        raise UsageError(f"{column} has no {what} for {row or body}", f"{hint} (--set paper={column}/BODY takes it)")
    return dict(columns[column][row or body])


def parse_keep(text: str) -> tuple[str, int]:
    """`all`, `first:N`, `last:N` -> ("first", N); N is 0 for all. Raises UsageError."""
    which, colon, count = text.partition(":")
    if which not in KEEP:
        raise UsageError(f"keep={text} is none of all, first:N, last:N", nearest(which, list(KEEP), "rules"))
    if which == "all" and not colon:
        return which, 0
    if which == "all" or not count.isdecimal() or int(count) < 1:
        raise UsageError(
            f"keep={text} is none of all, first:N, last:N", "N is a number of rows, as in keep=first:200000"
        )
    return which, int(count)


class TrainConfig(LearnerConfig):
    """Per-task batch RL, from the log only."""

    AGENTS: ClassVar[dict[str, type[Config]]] = {
        "batch-sac": SacConfig,
        "bcq": BcqConfig,
        "cql": CqlConfig,
        "td3bc": Td3BcConfig,
        "iql": IqlConfig,
        "ddpg": DdpgConfig,
        "bc": BcConfig,
        "discrete-bcq": DiscreteBcqConfig,
    }

    algorithm: Literal["batch-sac", "bcq", "cql", "td3bc", "iql", "ddpg", "bc", "discrete-bcq"] = "batch-sac"
    mapping: Mapping = "auto"
    select: Literal["last", "online"] = later(
        "last", description="which policy of each task is kept; online: the best of those played on the training task"
    )
    eval_every: int | None = later(
        None,
        ge=1,
        description="updates from one online evaluation on the training tasks to the next; None: there is none",
    )
    eval_episodes: int = later(10, ge=1, description="episodes of each task in an online evaluation")

    @model_validator(mode="after")
    def _judged(self) -> "TrainConfig":
        if self.eval_every is not None:
            whole_blocks("eval_every", self.eval_every, "block_updates", self.block_updates)
        elif self.select == "online":
            often = f"for example --set eval_every={self.block_updates}"
            raise UsageError("select=online needs eval_every: how often the policies are played", often)
        return self


class DistillConfig(LearnerConfig):
    """One policy from the logs and the per-task policies. A layer may hold `papers` and `paper`: see `of_paper`."""

    SELECTOR: ClassVar[str] = "method"
    AGENTS: ClassVar[dict[str, type[Config]]] = {"time": TimeConfig, "mbml": MbmlConfig}

    method: Literal["time", "mbml"] = "time"

    @model_validator(mode="before")
    @classmethod
    def _of_paper(cls, data: Any) -> Any:
        return of_paper(data, "row")


class MetatrainConfig(LearnerConfig):
    """One policy from all logs at once. A layer may hold `papers` and `paper`: see `of_paper`.

    With `online` there is nothing left to learn, and of the other fields only `algorithm` is read and decides the id.
    """

    AGENTS: ClassVar[dict[str, type[Config]]] = {
        "batch-sac": SacConfig,
        "batch-pearl": PearlConfig,
        "contextual-bcq": ContextualBcqConfig,
        "borel": BorelConfig,
        "mql": MqlConfig,
        "td3-context": MqlConfig,
        "td3": PooledTd3Config,
    }

    algorithm: Literal["batch-sac", "batch-pearl", "contextual-bcq", "borel", "mql", "td3-context", "td3", "pearl"] = (
        "batch-sac"
    )
    online: bool = later(
        False, description="take the policy that the log was made by (`omrl metatrain --online` makes both)"
    )

    def identity(self) -> dict[str, Any]:
        return {"algorithm": self.algorithm, "online": True} if self.online else super().identity()

    @model_validator(mode="after")
    def _pearl_is_online(self) -> "MetatrainConfig":
        if self.algorithm == "pearl" and not self.online:
            raise UsageError("pearl learns online", "--online, or --algorithm batch-pearl to learn from a log")
        return self

    @model_validator(mode="before")
    @classmethod
    def _of_paper(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("online") is True:  # what presets say of learning is not of this
            return {name: data[name] for name in ("algorithm", "online") if name in data}
        return of_paper(data, "row")
