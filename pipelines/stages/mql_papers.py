"""MQL and PEARL at the papers' scale and at `small`, by body. jax-free (facts 2.4 to 2.6, 5.2).

`mql` is the released script of each body, `mql-table` Table 1 of the paper with its header turned by one column, which
is how it agrees with the scripts. A family's own variant chooses the script; `--set paper=mql-table/BODY` the table.
From logs (`OFFLINE`) there are as many updates as online.

Not followed: a run ends after 5,000,000 steps if every episode reaches the horizon, and after fewer if not; PEARL has
twin critics with target copies in place of its value net, its contexts are drawn from all of a task's rows, a trial of
its collection has four episodes, two of them with z of the prior (facts 5.2: five, three of them; ten on
halfcheetah-dir), and it begins with uniform actions as MQL does, not with its own policy's 2,000 steps of each task;
its iterations are of 4,000 steps with as many updates to a step as published, for as many steps as MQL's; it is tested
in three episodes, where published tests go on until 600 steps. At `small` its KL is a mean over tasks, its context
holds 64 rows with the next observation, its temperature is learned, and there are fewer updates to a step.
"""

from copy import copy
from typing import Any

Row = dict[str, Any]

HORIZON = 200
STEPS = 5_000_000
PEARL_TRIALS = 5  # of four episodes, in an iteration
RAMP = 100_000  # rows until which an iteration makes as many updates as its episodes were long


def _agents(rate: float, explore: float, smooth: float, delay: int, history: int, width: int, unbounded: bool) -> Row:
    common = {
        "hidden": [300, 300],
        "learning_rate": rate,
        "explore_noise": explore,
        "target_noise": smooth,
        "actor_delay": delay,
        "discount": 0.99,
    }
    context = {**common, "history": history, "context_dim": width}
    context |= {"eval_window": "unbounded"} if unbounded else {}
    return {"mql": context, "td3-context": context, "td3": common}


def _pearl(context: int, tasks: int, kl_weight: float = 0.1) -> Row:
    """Temperature 1 of rewards times 5, z drawn once an episode; `tasks` in an update."""
    return {
        "hidden": [300, 300, 300],
        "latent_dim": 5,
        "context_size": context,
        "tasks_per_update": tasks,
        "kl_weight": kl_weight,
        "kl_over_tasks": "sum",
        "context_next_obs": False,
        "learn_temperature": False,
        "scale_reward": False,
        "reward_scale": 0.2,
        "resample": "episode",
        "discount": 0.99,
    }


class Body:
    """A body's row of facts 2.5 (or of the table): what it learns with, and the loop around it."""

    def __init__(
        self, tasks: int, random: int, episodes: int, updates: int, agents: Row, pearl: Row, pearl_updates: int,
        table: Row | None = None,
    ) -> None:  # fmt: skip
        """`random` steps of all tasks together; iterations of `episodes` and `updates`; PEARL's have their own number
        of updates; `table`: its own agents."""
        self.tasks, self.random, self.episodes, self.updates = tasks, random, episodes, updates
        self.agents, self.pearl, self.pearl_updates, self.table = agents, pearl, pearl_updates, table or {}

    @property
    def iterations(self) -> int:
        return STEPS // (HORIZON * self.episodes)

    def online(self) -> Row:
        return {
            "random_steps": self.random,
            "iterations": self.iterations,
            "block_iterations": self.iterations // 500,
            "updates": self.updates,
            "ramp_rows": RAMP,
            "trials": self.episodes,
            "agents": {**self.agents, "pearl": self.pearl},
            "loops": {
                "pearl": {
                    "iterations": STEPS // (HORIZON * PEARL_TRIALS * 4),
                    "block_iterations": 5,
                    "updates": self.pearl_updates,
                    "ramp_rows": 0,
                    "trials": PEARL_TRIALS,
                }
            },
        }

    def offline(self) -> Row:
        return {"updates": self.iterations * self.updates, "agents": {**self.agents, "batch-pearl": self.pearl}}

    def of_table(self) -> "Body":
        found = copy(self)
        found.updates, found.agents = self.table["updates"], self.table["agents"]
        return found


BODIES = {
    "humanoid-dir": Body(
        100, 100_000, 1, 500,
        _agents(3e-4, 0.2, 0.3, 3, 15, 20, unbounded=True), _pearl(256, 16), 3_200,
        {"updates": 1_000, "agents": _agents(3e-4, 0.3, 0.3, 2, 20, 20, unbounded=True)},
    ),
    "halfcheetah-vel": Body(
        100, 50_000, 1, 200,
        _agents(1e-3, 0.3, 0.3, 2, 20, 15, unbounded=False), _pearl(100, 16), 1_600,
        {"updates": 200, "agents": _agents(1e-3, 0.3, 0.3, 2, 20, 15, unbounded=False)},
    ),
    "ant-fwd-back": Body(
        2, 10_000, 5, 1_000,
        _agents(3e-4, 0.2, 0.4, 4, 25, 30, unbounded=True), _pearl(256, 4), 3_200,
        {"updates": 1_000, "agents": _agents(3e-4, 0.2, 0.4, 4, 25, 30, unbounded=True)},
    ),
    "ant-goal": Body(
        150, 225_000, 5, 200,
        _agents(4e-4, 0.3, 0.3, 4, 40, 40, unbounded=True), _pearl(256, 10, 1.0), 3_200,
        {"updates": 200, "agents": _agents(4e-4, 0.3, 0.3, 4, 10, 30, unbounded=True)},
    ),
    "walker-params": Body(
        40, 80_000, 5, 200,
        _agents(8e-4, 0.2, 0.2, 3, 10, 30, unbounded=False), {**_pearl(100, 10), "context_next_obs": True}, 3_200,
        {"updates": 200, "agents": _agents(8e-4, 0.2, 0.2, 3, 10, 30, unbounded=False)},
    ),
    "halfcheetah-dir": Body(
        2, 10_000, 1, 500,
        _agents(3e-4, 0.3, 0.3, 2, 20, 20, unbounded=False), _pearl(256, 4), 800,
        {"updates": 500, "agents": _agents(3e-4, 0.3, 0.2, 2, 20, 20, unbounded=False)},
    ),
}  # fmt: skip
_PLAIN = {
    "iterations": 5_000,
    "agents": BODIES["halfcheetah-vel"].agents,
    "loops": {"pearl": {"iterations": 1_250}},
}

ONLINE: dict[str, Any] = {
    "": _PLAIN,
    "mql": {body: row.online() for body, row in BODIES.items()},
    "mql-table": {body: row.of_table().online() for body, row in BODIES.items()},
}
OFFLINE: dict[str, Any] = {
    "mql": {body: row.offline() for body, row in BODIES.items()},
    "mql-table": {body: row.of_table().offline() for body, row in BODIES.items()},
}

# ---- small: two cores, at most half an hour a seed -------------------------------------------------------------------

_SMALL_NETS = {"hidden": [128, 128], "batch_size": 128}


def _small(
    body: str, iterations: int, updates: int, random: int, episodes: int = 1, scale: float = 1.0, history: int = 20,
    pearl_updates: int = 150,
) -> Row:  # fmt: skip
    """The body's own noises, and its windows up to `history`, on smaller nets. `scale`: of the rewards. PEARL's
    iterations, with their own number of updates, are of a trial of four episodes, as many in all as the others'."""

    def cut(agent: Row) -> Row:
        window = {"history": min(agent["history"], history)} if "history" in agent else {}
        return {**agent, **window, **_SMALL_NETS, "reward_scale": scale, "learning_rate": 1e-3}

    agents = {name: cut(agent) for name, agent in BODIES[body].agents.items()}
    pearl = {**_SMALL_NETS, "learning_rate": 1e-3, "encoder_hidden": [128, 128], "tasks_per_update": 4}
    return {
        "random_steps": random,
        "iterations": iterations,
        "block_iterations": 10,
        "updates": updates,
        "trials": episodes,
        "agents": {**agents, "pearl": {**pearl, "reward_scale": scale, "resample": "episode"}},
        "loops": {"pearl": {"iterations": iterations * episodes // 4, "updates": pearl_updates, "trials": 1}},
    }


_SMALL_POINT = {"hidden": [128, 128], "batch_size": 128, "learning_rate": 1e-3, "obs_scale": 10.0, "reward_scale": 10.0}
_POINT_CONTEXT = {"history": 10, "context_dim": 10}
SMALL: dict[str, Any] = {
    "": {
        "agent": _SMALL_POINT,
        "agents": {"mql": _POINT_CONTEXT, "td3-context": _POINT_CONTEXT, "pearl": {"tasks_per_update": 8}},
        "iterations": 1_000,
        "loops": {"pearl": {"iterations": 250}},
    },
    "halfcheetah-vel": _small("halfcheetah-vel", 1_000, 100, 10_000),
    "halfcheetah-dir": _small("halfcheetah-dir", 600, 150, 4_000),
    "ant-fwd-back": _small("ant-fwd-back", 400, 120, 4_000, episodes=2),
    "ant-goal": _small("ant-goal", 800, 40, 30_000, history=10, pearl_updates=100),
    "walker-params": _small("walker-params", 800, 80, 8_000, episodes=2),
    "humanoid-dir": _small("humanoid-dir", 600, 35, 10_000, scale=5.0, history=8, pearl_updates=50),
}
