"""A point that must find its goal from what it is paid: TD3 with a context does, TD3 without one cannot.

Both learn online with the same seed, nets and budget. Scores are 0 for uniform actions and 1 for the optimum, averaged
over the three goals; a policy that is blind to the task goes for the best compromise.
"""

import numpy as np
import pytest

from pipelines.tasks.point import TIME, references
from tests.toys import run

pytestmark = pytest.mark.optimised
SEED = 1
MARGIN = 0.15
AGENT = {"hidden": [64, 64], "batch_size": 64, "learning_rate": 1e-3, "obs_scale": 10.0, "reward_scale": 10.0,
         "explore_noise": 0.3}  # fmt: skip
LOOP = {"family": "point-semicircle/time", "random_steps": 600, "iterations": 160, "block_iterations": 20,
        "updates": 20}  # fmt: skip


def score(algorithm: str) -> float:
    window = {"history": 4, "context_dim": 8} if algorithm == "td3-context" else {}
    log = run("online", {}, LOOP, {"algorithm": algorithm, "agent": {**AGENT, **window}}, seed=SEED)
    policy = run("metatrain", {"log": log}, {"algorithm": algorithm, "online": True}, seed=SEED)
    found = run("eval", {"policy": policy}, {"episodes": 16, "curve_episodes": 0})
    known = [references(task) for task in TIME.tasks("test")]
    low, high = (np.array([one[name] for one in known]) for name in ("random", "oracle"))
    return float(((found.tree["returns"].mean(1) - low) / (high - low)).mean())


def test_the_context_finds_the_goal():
    context, blind = score("td3-context"), score("td3")
    assert context > blind + MARGIN, (context, blind)
