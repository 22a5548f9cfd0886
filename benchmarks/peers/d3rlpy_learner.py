"""d3rlpy's learners with the sizes and constants of omrl's, and minibatches out of plain arrays.

d3rlpy builds a minibatch row by row in Python; here one is gathered by index, which is faster.
What cannot be set alike: d3rlpy's CQL bootstraps from the policy's mode, omrl's from one of its actions; weights begin
as torch's. omrl's CQL has half the squared error beside alpha times the gap: twice d3rlpy's conservative weight.
"""

from typing import Any

import numpy as np
import torch
from d3rlpy.algos import BCQConfig, CQLConfig, SACConfig
from d3rlpy.dataset import TransitionMiniBatch
from d3rlpy.models.encoders import VectorEncoderFactory

ALGORITHMS = ("bcq", "cql", "sac")
Rows = dict[str, np.ndarray]


def make(name: str, sizes: dict[str, Any], obs: int, action: int, threads: int) -> Any:
    """`sizes`: hidden, batch_size, learning_rate, discount, target_rate; for BCQ vae_hidden, num_candidates and so on,
    for CQL num_actions and conservative_weight, named as in omrl's configs."""
    torch.set_num_threads(threads)
    rate, nets = sizes["learning_rate"], VectorEncoderFactory(list(sizes["hidden"]))
    common = {
        "batch_size": sizes["batch_size"],
        "gamma": sizes["discount"],
        "tau": sizes["target_rate"],
        "actor_learning_rate": rate,
        "critic_learning_rate": rate,
        "actor_encoder_factory": nets,
        "critic_encoder_factory": nets,
    }
    if name == "bcq":
        config: Any = BCQConfig(
            **common,
            imitator_learning_rate=rate,
            imitator_encoder_factory=VectorEncoderFactory(list(sizes["vae_hidden"])),
            n_action_samples=sizes["num_candidates"],
            action_flexibility=sizes["perturbation_scale"],
            lam=sizes["min_weight"],
            beta=sizes["kl_weight"],
        )
    elif name == "cql":
        config = CQLConfig(
            **common,
            temp_learning_rate=rate,
            alpha_learning_rate=0.0,
            initial_alpha=1.0,
            conservative_weight=2 * sizes["conservative_weight"],
            n_action_samples=sizes["num_actions"],
        )
    else:
        config = SACConfig(**common, temp_learning_rate=rate)
    learner = config.create(device="cpu:0")
    learner.create_impl((obs,), action)
    return learner


def minibatch(rows: Rows, chosen: np.ndarray) -> TransitionMiniBatch:
    """Rows `chosen [B]` of plain columns `[N, ...]`; every interval is 1, and nobody reads the next action."""
    size = len(chosen)
    return TransitionMiniBatch(
        observations=rows["obs"][chosen],
        actions=rows["action"][chosen],
        rewards=rows["reward"][chosen, None],
        next_observations=rows["next_obs"][chosen],
        next_actions=np.zeros_like(rows["action"][chosen]),
        terminals=rows["terminal"][chosen, None].astype(np.float32),
        intervals=np.ones((size, 1), np.float32),
        transitions=[],
    )


def read(path: str) -> Rows:
    """The columns of an npz, numbers as float32."""
    with np.load(path) as held:
        return {name: held[name] if held[name].dtype == bool else held[name].astype(np.float32) for name in held}
