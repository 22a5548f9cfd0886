"""What the peers that are written in torch share: a net, their options, and how they wait for their turns."""

import argparse
from collections.abc import Callable, Sequence

import torch
import turns
from torch import nn


def mlp(size: int, hidden: Sequence[int], out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(size, width), nn.ReLU()]
        size = width
    return nn.Sequential(*layers, nn.Linear(size, out))


def options(numbers: Sequence[str], widths: Sequence[str] = (), **choices: Sequence[str]) -> argparse.Namespace:
    """The command line: whole numbers, widths of layers (`300,300`) and words out of `choices`, beside what all peers
    are given. Sets threads and seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", help="npz of columns, for those who do not draw noise of their own")
    parser.add_argument("--seconds", type=float, required=True, help="of one turn")
    for name in (*numbers, "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in widths:
        parser.add_argument(f"--{name}", type=lambda text: [int(one) for one in text.split(",")], required=True)
    for name, words in choices.items():
        parser.add_argument(f"--{name}", choices=words, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    return args


def serve(args: argparse.Namespace, run: Callable[[], object], updates: int = 1) -> None:
    """`run()` makes `updates` updates, whenever it is our turn."""
    facts = {"threads": args.threads, "versions": {"torch": torch.__version__}}
    turns.take_turns(facts, run, updates, args.seconds)
