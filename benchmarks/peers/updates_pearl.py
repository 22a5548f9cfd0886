"""PEARL's meta-gradient step in torch, as published: a value net beside two critics, rows of each drawn task gathered
one task after another, the posterior of each task made in turn.

Written from the paper's equations, the published sizes and what the facts say of the step; no code of it is here. Rows
lie there as numbers and are drawn by row numbers; each net has an Adam of its own.
"""

import argparse
import copy
import math

import torch
from in_torch import mlp, options, serve
from torch import nn
from torch.nn import functional

ROWS, LEARNING_RATE, RATE, GAMMA, REWARD_SCALE = 6_000, 3e-4, 0.005, 0.99, 5.0
KL_WEIGHT, PENALTY, LEAST_VARIANCE = 0.1, 1e-3, 1e-7


def adam(net: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(net.parameters(), LEARNING_RATE)


class Rows:
    """Noise of one task."""

    def __init__(self, args: argparse.Namespace) -> None:
        action = torch.randn(ROWS, args.action).tanh()
        ends = torch.zeros(ROWS, 1)
        self.columns = torch.randn(ROWS, args.obs), action, torch.randn(ROWS, 1), torch.randn(ROWS, args.obs), ends

    def draw(self, count: int) -> list[torch.Tensor]:
        chosen = torch.randint(ROWS, (count,))
        return [column[chosen] for column in self.columns]


class Step:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args, latent = args, args.latent
        self.tasks = [Rows(args) for _ in range(args.tasks)]
        self.encoder = mlp(args.obs + args.action + 1, args.encoder, 2 * latent)
        self.critics = [mlp(args.obs + args.action + latent, args.hidden, 1) for _ in range(2)]
        self.value = mlp(args.obs + latent, args.hidden, 1)
        self.target = copy.deepcopy(self.value)
        self.actor = mlp(args.obs + latent, args.hidden, 2 * args.action)
        self.optimizers = {net: adam(net) for net in (self.encoder, *self.critics, self.value, self.actor)}

    def posterior(self) -> tuple[torch.Tensor, torch.Tensor]:
        """-> (mean, variance) [T, Z] of contexts of all drawn tasks: a product of Gaussians for each"""
        contexts = torch.stack([torch.cat(rows.draw(self.args.context)[:3], -1) for rows in self.drawn])
        means, spreads = self.encoder(contexts).chunk(2, -1)
        variances = functional.softplus(spreads)
        found = []
        for mean, variance in zip(means, variances, strict=True):
            precision = 1 / variance.clamp(min=LEAST_VARIANCE)
            together = 1 / precision.sum(0)
            found.append((together * (mean * precision).sum(0), together))
        mean, variance = zip(*found, strict=True)
        return torch.stack(mean), torch.stack(variance)

    def act(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """-> (action, its log-probability, the penalty on mean and deviation)"""
        mean, log_std = self.actor(obs).chunk(2, -1)
        log_std = log_std.clamp(-20, 2)
        noise = torch.randn_like(mean)
        u = mean + log_std.exp() * noise
        log_normal = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
        log_prob = (log_normal - 2 * (math.log(2) - u - functional.softplus(-2 * u))).sum(-1, keepdim=True)
        return u.tanh(), log_prob, PENALTY * ((mean**2).mean() + (log_std**2).mean())

    def down(self, loss: torch.Tensor, *nets: nn.Module) -> None:
        for net in nets:
            self.optimizers[net].zero_grad()
        loss.backward()
        for net in nets:
            self.optimizers[net].step()

    def __call__(self) -> None:
        args = self.args
        self.drawn = [self.tasks[number] for number in torch.randint(args.tasks, (args.tasks,))]
        batches = [rows.draw(args.batch) for rows in self.drawn]
        obs, action, reward, next_obs, terminal = (torch.cat(column) for column in zip(*batches, strict=True))
        mean, variance = self.posterior()
        z = mean + variance.sqrt() * torch.randn_like(mean)
        wide = torch.cat([one.repeat(args.batch, 1) for one in z])
        detached = wide.detach()
        with torch.no_grad():
            value = self.target(torch.cat([next_obs, detached], -1))
            wanted = REWARD_SCALE * reward + (1 - terminal) * GAMMA * value
        pair = torch.cat([obs, action, wide], -1)
        kl = KL_WEIGHT * 0.5 * (variance + mean**2 - 1 - variance.log()).sum()
        loss = kl + sum(((critic(pair) - wanted) ** 2).mean() for critic in self.critics)
        self.down(loss, self.encoder, *self.critics)
        seen = torch.cat([obs, detached], -1)
        new, log_prob, penalty = self.act(seen)
        least = torch.min(*(critic(torch.cat([obs, new, detached], -1)) for critic in self.critics))
        self.down(((self.value(seen) - (least - log_prob).detach()) ** 2).mean(), self.value)
        with torch.no_grad():
            for old, weight in zip(self.target.parameters(), self.value.parameters(), strict=True):
                old.lerp_(weight, RATE)
        self.down((log_prob - least).mean() + penalty, self.actor)


def main() -> None:
    args = options(("tasks", "batch", "context", "latent", "obs", "action"), ("hidden", "encoder"))
    serve(args, Step(args))


if __name__ == "__main__":
    main()
