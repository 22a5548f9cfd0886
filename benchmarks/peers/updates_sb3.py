"""Gradient steps of stable-baselines3's SAC, or of SBX's (its JAX twin), on a full replay buffer.

`train(gradient_steps=...)` as `learn` calls it: drawing the rows is part of it. SBX compiles the steps of one call into
one program, so that it is given many at once.
"""

import argparse

import gymnasium
import numpy as np
import stable_baselines3
import turns
from stable_baselines3.common.logger import Logger

LEARNING_RATE = 3e-4  # no measured cost depends on it
STEPS = {"sb3": 5, "sbx": 200}  # of one call


class Spaces(gymnasium.Env):
    """Two spaces: the learner needs them to build its nets, and nobody steps."""

    def __init__(self, obs: int, action: int) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (obs,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (action,), np.float32)


def learner(library: str, threads: int) -> tuple[type, dict[str, str]]:
    """-> (its SAC, versions)"""
    if library == "sbx":  # XLA reads the number of threads from NPROC
        import jax
        import sbx

        return sbx.SAC, {"sbx": sbx.__version__, "jax": jax.__version__}
    import torch

    torch.set_num_threads(threads)
    return stable_baselines3.SAC, {"stable_baselines3": stable_baselines3.__version__, "torch": torch.__version__}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", choices=tuple(STEPS), required=True)
    parser.add_argument("--rows", required=True, help="npz: obs, action, reward, next_obs, terminal")
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="of one turn")
    args = parser.parse_args()
    rows = np.load(args.rows)
    kind, versions = learner(args.library, args.threads)
    model = kind(
        "MlpPolicy",
        Spaces(rows["obs"].shape[1], rows["action"].shape[1]),
        learning_rate=LEARNING_RATE,
        batch_size=args.batch,
        buffer_size=len(rows["reward"]),
        policy_kwargs={"net_arch": [args.width, args.width]},
        device="cpu",
        seed=0,
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    columns = (rows[name][:, None] for name in ("obs", "next_obs", "action", "reward", "terminal"))
    for obs, next_obs, action, reward, terminal in zip(*columns, strict=True):
        model.replay_buffer.add(obs, next_obs, action, reward, terminal.astype(np.float32), [{}])
    steps = STEPS[args.library]
    facts = {"threads": args.threads, "versions": versions}
    turns.take_turns(facts, lambda: model.train(gradient_steps=steps, batch_size=args.batch), steps, args.seconds)


if __name__ == "__main__":
    main()
