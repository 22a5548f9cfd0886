"""Steps of an ensemble of reward nets r(s, a) of one task in torch, in two ways.

published  as MBML takes it: net after net in a Python loop, one minibatch for all of them, one Adam, and every net's
           predictions on as many rows of each other task, which it logs
batched    the members stacked into one batched product per layer (`torch.baddbmm`), Adam fused
Written from the description of the published step; no code of it is here.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
import turns
from torch import nn

LEARNING_RATE = 3e-4  # no measured cost depends on it


class Data:
    """Rows of one task in torch, drawn with replacement."""

    def __init__(self, path: str, batch: int) -> None:
        held = np.load(path)
        self.inputs = torch.from_numpy(np.concatenate([held["obs"], held["action"]], axis=1))
        self.reward = torch.from_numpy(held["reward"])
        self.batch = batch

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = torch.randint(len(self.reward), (self.batch,))
        return self.inputs[chosen], self.reward[chosen]


def published(data: Data, members: int, hidden: int, other_tasks: int) -> Callable[[], None]:
    size = data.inputs.shape[1]
    nets = [nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, 1)) for _ in range(members)]
    optimizer = torch.optim.Adam([weight for net in nets for weight in net.parameters()], lr=LEARNING_RATE)

    def step() -> None:
        inputs, reward = data.draw()
        losses = [((net(inputs)[:, 0] - reward) ** 2).mean() for net in nets]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
        with torch.no_grad():
            for _ in range(other_tasks):
                inputs, _ = data.draw()
                for net in nets:
                    net(inputs)

    return step


def batched(data: Data, members: int, hidden: int, other_tasks: int) -> Callable[[], None]:
    size = data.inputs.shape[1]
    shapes = ((members, size, hidden), (members, 1, hidden), (members, hidden, 1), (members, 1, 1))
    weights = [nn.Parameter(torch.randn(shape) / shape[1] ** 0.5) for shape in shapes]
    first, first_bias, last, last_bias = weights
    optimizer = torch.optim.Adam(weights, lr=LEARNING_RATE, fused=True)

    def step() -> None:
        inputs, reward = data.draw()
        x = torch.baddbmm(first_bias, inputs.expand(members, *inputs.shape), first).relu()
        predicted = torch.baddbmm(last_bias, x, last)[..., 0]
        loss = ((predicted - reward) ** 2).mean(1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


STEPS = {"published": published, "batched": batched}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--step", choices=tuple(STEPS), required=True)
    parser.add_argument("--rows", required=True, help="npz: obs, action, reward")
    for name in ("members", "hidden", "batch", "other-tasks", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="of one turn")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    one = STEPS[args.step](Data(args.rows, args.batch), args.members, args.hidden, args.other_tasks)

    def ten() -> None:
        for _ in range(10):
            one()

    facts = {"threads": args.threads, "versions": {"torch": torch.__version__}}
    turns.take_turns(facts, ten, 10, args.seconds)


if __name__ == "__main__":
    main()
