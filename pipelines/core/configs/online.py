"""The config of `metatrain --online`: one policy learned across tasks while they are collected. jax-free."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipelines.core.configs.algorithms import MqlConfig, OnlineBorelConfig, PearlConfig, PooledTd3Config
from pipelines.core.configs.base import Config, later, merge, resolve
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.configs.stages import AgentConfig, body_of, choose_collector, enough_tasks, whole_blocks
from pipelines.core.errors import UsageError
from pipelines.core.families import entry_of

TRIAL_EPISODES = 2  # of BOReL's trials, where nobody says
# what PEARL does online unless told otherwise: explore a task for two episodes, then two with what they showed
ASKED: dict[str, dict[str, Any]] = {
    "pearl": {"trial_episodes": 4, "agents": {"pearl": {"resample": "episode", "prior_episodes": 2}}}
}


class OnlineConfig(AgentConfig):
    """Iterations: some updates on all that was seen, then some episodes of tasks drawn at random.

    A layer may hold `papers`, `paper` and `bodies` as those of `collect` may, and these `loops`: fields of an algorithm
    that does not go round as the others do. BOReL learns from trials of
    `trial_episodes`, which are its belief's too; PEARL has four, two of them exploration, unless told otherwise.
    """

    AGENTS: ClassVar[dict[str, type[Config]]] = {
        "mql": MqlConfig,
        "td3-context": MqlConfig,
        "td3": PooledTd3Config,
        "pearl": PearlConfig,
        "borel": OnlineBorelConfig,
    }

    family: str = "point-semicircle/spread"
    algorithm: Literal["mql", "td3-context", "td3", "pearl", "borel"] = "mql"
    num_tasks: int | None = Field(None, ge=1, description="training tasks; None: all of them")
    which_tasks: Literal["first", "spread"] = later(
        "first", description="which num_tasks those are: the first, or some evenly spread from the first to the last"
    )
    random_steps: int = Field(
        1_500, ge=1, description="uniform actions at the start, at least so many in all tasks, each its share"
    )
    random_length: int | None = Field(
        None,
        ge=1,
        description="steps after which an episode of uniform actions is cut; None: a quarter of the horizon, or, of"
        " borel's trials, all of it",
    )
    iterations: int = Field(500, ge=1)
    block_iterations: int = Field(10, ge=1, description="iterations from one line of metrics to the next")
    updates: int = Field(20, ge=1, description="in each iteration, before its episodes")
    ramp_rows: int = Field(
        0, ge=0, description="until so many rows were seen, as many updates as the last episodes were long on average"
    )
    trials: int = Field(1, ge=1, description="in each iteration, of tasks drawn uniformly with replacement")
    trial_episodes: int = Field(1, ge=1, description="consecutive episodes of a task, between which memory is kept")
    num_snapshots: int = Field(10, ge=1, description="policies kept along the way, evenly spaced")

    @model_validator(mode="before")
    @classmethod
    def _of_family(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        own = {name: value for name, value in data.items() if name not in ("papers", "paper", "bodies")}
        family = str(data.get("family", cls.model_fields["family"].default))
        chosen = choose_collector(data.get("papers"), data.get("paper"), family, "row")
        bodies = data.get("bodies", {})
        rows = merge(chosen, bodies.get(body_of(family), bodies.get("", {})))
        algorithm = own.get("algorithm", cls.model_fields["algorithm"].default)
        found = merge(rows, rows.pop("loops", {}).get(algorithm, {}), own)
        return merge(ASKED.get(found.get("algorithm", ""), {}), of_trials(found))

    @model_validator(mode="after")
    def _fits(self) -> "OnlineConfig":
        whole_blocks("iterations", self.iterations, "block_iterations", self.block_iterations)
        if isinstance(self.agent, OnlineBorelConfig):
            resolve(BeliefConfig, self.agent.belief, prefix="agent.belief.")
        if entry := entry_of(self.family):
            enough_tasks(self.num_tasks, entry.num_train, self.family)
        return self


def of_trials(data: dict[str, Any]) -> dict[str, Any]:
    """The layers, merged; BOReL's have as many episodes in the trials that are played as in those of the belief. Raises
    UsageError where two numbers are said."""
    if data.get("algorithm") != "borel":
        return data
    agent = merge(data.get("agents", {}).get("borel", {}), data.get("agent", {}))
    wanted, believed = data.get("trial_episodes"), agent.get("belief", {}).get("trial_episodes")
    if None not in (wanted, believed) and wanted != believed:
        cause = f"trial_episodes={wanted}, and the belief's trials have {believed}"
        raise UsageError(cause, f"--set trial_episodes={believed}: online they are the same trials")
    k = next((number for number in (wanted, believed) if number is not None), TRIAL_EPISODES)
    return merge(data, {"trial_episodes": k, "agent": {"belief": {"trial_episodes": k}}})
