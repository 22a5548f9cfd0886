"""Control steps a second of envpool's environments under uniform actions; runs in an environment of its own.

Prints one JSON object: {"steps_per_s": [...], "envpool": version}.
"""

import argparse
import json
import time

import envpool
import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--env", required=True)
    for name in ("envs", "threads", "repeats"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    env = envpool.make(options.env, env_type="gymnasium", num_envs=options.envs, num_threads=options.threads)
    rng, space = np.random.default_rng(0), env.action_space
    env.reset()

    def run(steps: int) -> float:
        begin = time.perf_counter()
        for _ in range(steps):
            env.step(rng.uniform(space.low, space.high, (options.envs, *space.shape)))
        return time.perf_counter() - begin

    run(20)
    steps = max(1, round(20 * options.seconds / run(20)))
    rates = [options.envs * steps / run(steps) for _ in range(options.repeats)]
    print(json.dumps({"steps_per_s": rates, "envpool": envpool.__version__}))


if __name__ == "__main__":
    main()
