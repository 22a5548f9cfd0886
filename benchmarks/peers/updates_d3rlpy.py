"""Gradient steps of d3rlpy's SAC and BCQ. A step is `update` on a minibatch that is gathered by index."""

import argparse
import json

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
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="of one turn")
    args = parser.parse_args()
    rows, rng = d3rlpy_learner.read(args.rows), np.random.default_rng(0)
    shape = rows["obs"].shape[1], rows["action"].shape[1]
    learner = d3rlpy_learner.make(args.algorithm, args.sizes, *shape, args.threads)

    def one() -> None:
        chosen = rng.integers(len(rows["reward"]), size=args.sizes["batch_size"])
        learner.update(d3rlpy_learner.minibatch(rows, chosen))

    versions = {"d3rlpy": d3rlpy.__version__, "torch": torch.__version__}
    turns.take_turns({"threads": args.threads, "versions": versions}, one, 1, args.seconds)


if __name__ == "__main__":
    main()
