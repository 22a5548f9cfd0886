"""stable-baselines3's SAC on the CPU: gradient steps on a full replay buffer. Prints one JSON object per line.

Run by `benchmarks.peer` in an environment of its own (requirements.txt); it shares no code with omrl.
"""

import argparse
import json
import time

import gymnasium
import numpy as np
import stable_baselines3
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger

LEARNING_RATE = 3e-4  # omrl's default; no measured cost depends on it


class Spaces(gymnasium.Env):
    """Two spaces: the learner needs them to build its nets, and nobody steps."""

    def __init__(self, obs: int, action: int) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (obs,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (action,), np.float32)


def full_buffer(model: SAC, rows: int, obs: int, action: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(rows):
        now, after = rng.normal(size=(2, 1, obs)).astype(np.float32)
        act = np.tanh(rng.normal(size=(1, action))).astype(np.float32)
        model.replay_buffer.add(now, after, act, rng.normal(size=1), np.zeros(1), [{}])


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("width", "batch", "obs", "action", "rows", "repeats"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="of one repeat")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = SAC(
        "MlpPolicy",
        Spaces(args.obs, args.action),
        learning_rate=LEARNING_RATE,
        batch_size=args.batch,
        buffer_size=args.rows,
        policy_kwargs={"net_arch": [args.width, args.width]},
        device="cpu",
        seed=0,
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    full_buffer(model, args.rows, args.obs, args.action)

    def rate(updates: int) -> float:
        begin = time.perf_counter()
        model.train(gradient_steps=updates, batch_size=args.batch)
        return updates / (time.perf_counter() - begin)

    rate(5)
    updates = max(5, round(rate(20) * args.seconds))
    found = {
        "updates_per_s": [rate(updates) for _ in range(args.repeats)],
        "threads": args.threads,
        "torch": torch.__version__,
        "stable_baselines3": stable_baselines3.__version__,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
