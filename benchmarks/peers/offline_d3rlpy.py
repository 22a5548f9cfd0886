"""A policy that d3rlpy learns from rows, and then the actions that it takes: {"obs": [[...]]} -> {"action": [[...]]}.

The rows, and the observations that it is asked about, are scaled already.
"""

import argparse
import json
import time

import d3rlpy
import d3rlpy_learner
import numpy as np
import torch
import turns


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--algorithm", choices=d3rlpy_learner.ALGORITHMS, required=True)
    parser.add_argument("--rows", required=True, help="npz: obs, action, reward, next_obs, terminal")
    parser.add_argument("--sizes", type=json.loads, required=True, help="JSON, as omrl's config has them")
    for name in ("updates", "seed", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    d3rlpy.seed(args.seed)
    rows, rng = d3rlpy_learner.read(args.rows), np.random.default_rng(args.seed)
    shape = rows["obs"].shape[1], rows["action"].shape[1]
    learner = d3rlpy_learner.make(args.algorithm, args.sizes, *shape, args.threads)
    begin = time.perf_counter()
    for _ in range(args.updates):
        chosen = rng.integers(len(rows["reward"]), size=args.sizes["batch_size"])
        learner.update(d3rlpy_learner.minibatch(rows, chosen))
    facts = {
        "seconds": time.perf_counter() - begin,
        "versions": {"d3rlpy": d3rlpy.__version__, "torch": torch.__version__},
    }

    def act(question: dict[str, list[list[float]]]) -> dict[str, list[list[float]]]:
        return {"action": learner.predict(np.asarray(question["obs"], np.float32)).tolist()}

    turns.answer(facts, act)


if __name__ == "__main__":
    main()
