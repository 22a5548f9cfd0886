"""MBML's baselines and fine-tuning at the paper's scale, by body, for `--preset paper`. jax-free.

`--set paper=mbml/ant-goal` takes a body's row; without it the sizes that all bodies share stand over tiMe's updates.
Facts 0, 4.4 and 6. Not followed: PEARL's value net (two critics with targets of their own are in its place) and its
penalty on the policy's mean and deviation; that the humanoid is fine-tuned from its snapshot after 400 of 1,000 epochs
(here, as the others, from the policy as it ends).
"""

from typing import Any

Row = dict[str, Any]

_CONTEXTUAL: Row = {"hidden": [1024] * 9, "perturbation_hidden": [1024] * 8, "vae_hidden": [1024] * 7}
_BODIES = ("ant-dir", "ant-goal", "humanoid-dir", "halfcheetah-vel", "walker-params", "umaze-goal")


def _pearl(context: int, tasks: int = 16, kl_weight: float = 0.1) -> Row:
    """`context` transitions of each of `tasks` tasks; temperature 1 of rewards times 5."""
    return {
        "hidden": [300, 300, 300],
        "context_size": context,
        "tasks_per_update": tasks,
        "kl_weight": kl_weight,
        "kl_over_tasks": "sum",
        "learn_temperature": False,
        "scale_reward": False,
        "reward_scale": 0.2,
        "resample": "episode",
    }


_PEARL = {
    "ant-dir": _pearl(256, tasks=4),
    "ant-goal": _pearl(256, tasks=10, kl_weight=1.0),
    "humanoid-dir": _pearl(256),
    "halfcheetah-vel": _pearl(100),
    "walker-params": _pearl(100),
    "umaze-goal": _pearl(128),
}


def _metatrain(body: str) -> Row:
    return {"updates": 100_000, "agents": {"batch-pearl": _PEARL[body], "contextual-bcq": _CONTEXTUAL}}


METATRAIN: dict[str, Any] = {
    "": {"updates": 20_000, "agents": {"contextual-bcq": _CONTEXTUAL}},
    "mbml": {body: _metatrain(body) for body in _BODIES},
}

# epochs of 1,000 steps; 5,000 steps of evaluation after each. SAC from random nets as the logs were collected
_SAC: Row = {"critic_hidden": [1024] * 7, "log_std_min": -20.0}
FINETUNE: dict[str, Any] = {
    "": {"agent": _SAC},
    "mbml": {
        **{body: {"agent": _SAC, "steps": 590_000, "eval_episodes": 25} for body in _BODIES[:3]},
        "halfcheetah-vel": {"agent": _SAC, "steps": 50_000, "eval_episodes": 5},
        "walker-params": {"agent": _SAC, "steps": 390_000, "eval_episodes": 25},
    },
}
