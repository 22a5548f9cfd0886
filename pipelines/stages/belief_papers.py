"""BOReL's belief at the paper's scale, by body, for `belief --preset paper`. jax-free.

`--set paper=borel/gridworld` takes a body's row. Facts 3: what the released code has, its means over time
(`over_steps`) where it has them. Updates are 100 epochs. Of the image reacher the paper says nothing here: its rewards
are decoded as the cheetah's are, for as long as 40 tasks take in wind.
"""

from typing import Any

Row = dict[str, Any]

_CODE: Row = {"scale_obs": False, "over_steps": "mean"}  # nothing is normalised
_SEEN = ["next_obs", "obs", "action"]


def _moving(updates: int, **fields: Any) -> Row:
    """Dense rewards of a body: 4 tasks of an update."""
    return {**_CODE, "updates": updates, "tasks_per_update": 4, "reward_inputs": _SEEN, **fields}


_GRID: Row = {
    "scale_obs": False,
    "updates": 19_200,
    "trial_episodes": 4,
    "embed_action": 0,
    "embed_reward": 8,
    "width": 64,
    "reward_head": "cells",
}

BELIEF: dict[str, Any] = {
    "": {"updates": 20_000},
    "borel": {
        "gridworld": _GRID,
        "point-semicircle-sparse": {**_CODE, "updates": 82_000, "reward_inputs": ["next_obs"]},
        "ant-semicircle": _moving(514_000),
        "halfcheetah-vel": _moving(642_500),
        "point-wind": {**_CODE, "updates": 41_000, "reward_inputs": ["next_obs", "action"], "decode_state": True},
        "escape-room": {
            **_CODE,
            "updates": 20_000,
            "reward_inputs": ["obs", "action"],
            "reward_head": "bernoulli",
            "decode_state": True,
        },
        "reacher-image": _moving(41_000, tasks_per_update=8),
    },
}
