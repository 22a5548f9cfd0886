"""stable-baselines3's SAC on halfcheetah-vel, one task and one seed.

Prints one JSON object: the returns of its training episodes in order, and its seconds (learner and environments,
without imports).
"""

import argparse
import json
import time

import cheetah
import gymnasium
import mujoco
import stable_baselines3
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.monitor import Monitor


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--velocity", type=float, required=True, help="m/s")
    parser.add_argument("--sizes", type=json.loads, required=True, help="JSON: SAC's, as omrl's config names them")
    for name in ("seed", "steps", "random-steps", "block-steps", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sizes, begin = args.sizes, time.perf_counter()
    env = Monitor(cheetah.make(args.velocity))
    model = SAC(
        "MlpPolicy",
        env,
        learning_rate=sizes["learning_rate"],
        buffer_size=args.steps,
        learning_starts=args.random_steps,
        batch_size=sizes["batch_size"],
        tau=sizes["target_rate"],
        gamma=sizes["discount"],
        train_freq=(args.block_steps, "step"),
        gradient_steps=args.block_steps,
        ent_coef=f"auto_{sizes['init_temperature']}",
        policy_kwargs={"net_arch": list(sizes["hidden"])},
        device="cpu",
        seed=args.seed,
    )
    model.learn(args.steps)
    found = {
        "returns": env.get_episode_rewards(),
        "lengths": env.get_episode_lengths(),
        "seconds": time.perf_counter() - begin,
        "threads": args.threads,
        "versions": {
            "stable_baselines3": stable_baselines3.__version__,
            "torch": torch.__version__,
            "gymnasium": gymnasium.__version__,
            "mujoco": mujoco.__version__,
        },
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
