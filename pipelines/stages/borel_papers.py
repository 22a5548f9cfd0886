"""BOReL's learner at the paper's scale, by body, for `metatrain --algorithm borel --preset paper`, and its online
variant, with PEARL beside it, at the paper's scale and at `small` (two cores, minutes a seed). jax-free.

`--set paper=borel/gridworld` takes a body's row. Facts 6; what is said of the image reacher is its PEARL fork's and the
ant's. Not followed: rlkit's initial weights. Of the online variant facts 9 say little (iterations and tasks on the
grid, weights of the divergence, decoders): its nets are those of the logs, and an iteration is a trial and as many
updates as a collector makes for one. PEARL's are those of facts 8.3.
"""

from typing import Any

Row = dict[str, Any]

_PLAIN: Row = {"scale_obs": False, "scale_reward": False}  # nets see states and rewards as they are


def _sac(updates: int, width: int, temperature: float, discount: float, **fields: Any) -> Row:
    """Blocks of 1,000 updates; SAC of a fixed temperature."""
    agent = {
        **_PLAIN,
        "hidden": [width, width],
        "log_std_min": -20.0,
        "init_temperature": temperature,
        "learn_temperature": False,
        "discount": discount,
        **fields,
    }
    return {"algorithm": "borel", "updates": updates, "block_updates": 1_000, "agent": agent}


_GOAL: Row = {"paid_ends": True}  # the code's terminals say 'in the goal', where there is one
_GRID: Row = {**_PLAIN, **_GOAL, "hidden": [64, 64], "discount": 0.99}

BOREL: dict[str, Any] = {
    "borel": {
        "gridworld": {"algorithm": "borel", "updates": 250_000, "block_updates": 250, "agent": _GRID},
        "point-semicircle-sparse": _sac(5_000_000, 128, 0.01, 0.9, first_trials=500, **_GOAL),
        # soft_target: where CQL learns, its critics count the entropy as SAC's do
        "ant-semicircle": _sac(6_000_000, 256, 0.2, 0.99, actor_learning_rate=3e-5, soft_target=True),
        "halfcheetah-vel": _sac(1_000_000, 256, 0.2, 0.99),
        "point-wind": _sac(2_000_000, 64, 0.01, 0.9, **_GOAL),
        "escape-room": _sac(5_000_000, 128, 0.01, 0.9, **_GOAL),
        "reacher-image": _sac(3_000_000, 256, 0.2, 0.99, scale_obs=True),  # bytes
    }
}

# ---- online ----------------------------------------------------------------------------------------------------------


def _online(
    body: str, updates: int, iterations: int, belief: Row, pearl: Row, agent: Row | None = None, **fields: Any
) -> Row:
    """A trial and `updates` an iteration; the nets of BOReL's row of the body, `agent` over them."""
    drop = ("first_trials", *_PLAIN)
    agent = {n: value for n, value in BOREL["borel"][body]["agent"].items() if n not in drop} | (agent or {})
    k = 4 if body == "gridworld" else 2
    return {
        "trial_episodes": k,
        "iterations": iterations,
        "block_iterations": iterations // 100,
        "updates": updates,
        "agents": {"borel": {**agent, "belief": {"trial_episodes": k, **belief}}, "pearl": pearl},
        **fields,
    }


def _pearl(context: int, reward_scale: float, discount: float) -> Row:
    """Temperature 1 of rewards times 1 / `reward_scale`, KL of weight 1, z drawn once an episode."""
    return {
        "hidden": [300, 300, 300],
        "context_size": context,
        "kl_weight": 1.0,
        "kl_over_tasks": "sum",
        "context_next_obs": False,
        "tasks_per_update": 16,
        "learn_temperature": False,
        "scale_reward": False,
        "reward_scale": reward_scale,
        "resample": "episode",
        "discount": discount,
    }


_WIDE: Row = {"decoder_hidden": [64, 32], "kl_weight": 1.0}
_NAVIGATING, _MOVING = _pearl(1_024, 0.01, 0.9), _pearl(256, 0.2, 0.99)
_ANT: Row = {"tasks_per_update": 8, "actor_learning_rate": None}  # the slow actor is that of the logs
_CELLS: Row = {"embed_action": 0, "embed_reward": 8, "width": 64, "reward_head": "cells", "kl_weight": 1.0}
_ARC: Row = {**_WIDE, "kl_weight": 0.1, "reward_inputs": ["next_obs"]}
_WIND: Row = {**_WIDE, "reward_inputs": ["next_obs", "action"], "decode_state": True}
_DOOR: Row = {**_WIDE, "reward_inputs": ["obs", "action"], "reward_head": "bernoulli", "decode_state": True}

BOREL_ONLINE: dict[str, Any] = {
    "borel": {
        "gridworld": _online("gridworld", 40, 30_000, _CELLS, {}, num_tasks=16, which_tasks="spread"),
        "point-semicircle-sparse": _online("point-semicircle-sparse", 250, 30_000, _ARC, _NAVIGATING),
        "ant-semicircle": _online("ant-semicircle", 1_000, 30_000, _WIDE, _MOVING, _ANT),
        "halfcheetah-vel": _online("halfcheetah-vel", 1_000, 30_000, _WIDE, _MOVING),
        "point-wind": _online("point-wind", 250, 30_000, _WIND, _NAVIGATING),
        "escape-room": _online("escape-room", 250, 30_000, _DOOR, _NAVIGATING),
        "reacher-image": _online("reacher-image", 1_000, 30_000, _WIDE, {}, {"obs_scale": 255.0}),
    }
}


def _small(body: str, iterations: int, updates: int, random: int, agent: Row, **fields: Any) -> Row:
    """The belief of the body's own row on less wide nets, some of its terms; no more tasks than a minute can see."""
    row = BOREL_ONLINE["borel"][body]
    belief = {**row["agents"]["borel"]["belief"], "width": 64, "learning_rate": 1e-3, "kl_weight": 0.05}
    belief |= {"decoder_hidden": [32, 32]} | ({} if body == "gridworld" else {"elbo_terms": 20, "decode_terms": 60})
    borel = {"learning_rate": 1e-3, "batch_size": 32, "hidden": [64, 64], **agent, "belief": belief}
    pearl = {"hidden": [64, 64], "batch_size": 128, "learning_rate": 1e-3, "encoder_hidden": [64, 64]}
    pearl |= {"tasks_per_update": 4, "context_size": 128, "resample": "episode"}
    return {
        "trial_episodes": row["trial_episodes"],
        "random_steps": random,
        "iterations": iterations,
        "block_iterations": 10,
        "updates": updates,
        "trials": 4,
        "agents": {"borel": borel, "pearl": pearl},
        **fields,
    }


_FOUR: Row = {"num_tasks": 4, "which_tasks": "spread"}
_COLD: Row = {"init_temperature": 0.01, "learn_temperature": False}
BOREL_SMALL: dict[str, Any] = {
    "gridworld": _small("gridworld", 1_000, 40, 5_000, {"explore_end": 0.0, "explore_steps": 15_000}),
    "point-semicircle-sparse": _small("point-semicircle-sparse", 300, 50, 20_000, _COLD),
    "point-wind": _small("point-wind", 300, 40, 8_000, _COLD),
    "escape-room": _small("escape-room", 300, 50, 20_000, _COLD),
    "ant-semicircle": _small("ant-semicircle", 100, 100, 8_000, {"hidden": [128, 128]}, **_FOUR),
}
