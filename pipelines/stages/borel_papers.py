"""BOReL's learner at the paper's scale, by body, for `metatrain --algorithm borel --preset paper`. jax-free.

`--set paper=borel/gridworld` takes a body's row. Facts 6; what is said of the image reacher is its PEARL fork's and the
ant's. Not followed: rlkit's initial weights.
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


_GRID: Row = {**_PLAIN, "hidden": [64, 64], "discount": 0.99}

BOREL: dict[str, Any] = {
    "borel": {
        "gridworld": {"algorithm": "borel", "updates": 250_000, "block_updates": 250, "agent": _GRID},
        "point-semicircle-sparse": _sac(5_000_000, 128, 0.01, 0.9, first_trials=500),
        "ant-semicircle": _sac(6_000_000, 256, 0.2, 0.99, actor_learning_rate=3e-5),
        "halfcheetah-vel": _sac(1_000_000, 256, 0.2, 0.99),
        "point-wind": _sac(2_000_000, 64, 0.01, 0.9),
        "escape-room": _sac(5_000_000, 128, 0.01, 0.9),
        "reacher-image": _sac(3_000_000, 256, 0.2, 0.99),
    }
}
