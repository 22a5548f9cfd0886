"""MBML's distillation step in torch: Q, G and xi of all tasks' teachers, KL, and triplets of relabelled contexts.

Written from the paper's equations and the published sizes; no code of it is here. What can be done at once is: the rows
of all tasks go through a net in one product, the teachers are stacked, one fused Adam moves everything. The values that
teachers give are looked up, as omrl does, and so are the relabelled rows.
"""

import argparse
import itertools

import numpy as np
import torch
from in_torch import mlp, options, serve
from torch.nn import functional

LEARNING_RATE, MARGIN, KL_WEIGHT, LEAST_VARIANCE = 3e-4, 2.0, 0.1, 1e-7


class Teachers:
    """BCQ's frozen generator and perturbation of K tasks, stacked."""

    def __init__(self, tasks: int, obs: int, action: int, noise: int) -> None:
        self.generator = self._stack(tasks, [obs + noise, 750, 750, action])
        self.perturbation = self._stack(tasks, [obs + action, 400, 300, action])

    def _stack(self, tasks: int, sizes: list[int]) -> list[torch.Tensor]:
        return [torch.randn(tasks, a, b) / a**0.5 for a, b in itertools.pairwise(sizes)]

    def _apply(self, weights: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        for weight in weights[:-1]:
            x = torch.bmm(x, weight).relu()
        return torch.bmm(x, weights[-1]).tanh()

    def teach(self, obs: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[K, B, O], [K, B, Z] -> (actions, perturbations) [K, B, A]"""
        action = self._apply(self.generator, torch.cat([obs, noise], -1))
        return action, self._apply(self.perturbation, torch.cat([obs, action], -1))


class Step:
    def __init__(self, args: argparse.Namespace) -> None:
        held = np.load(args.rows)
        self.rows = {name: torch.from_numpy(held[name]) for name in ("obs", "action", "reward", "next_obs")}
        self.args, action = args, held["action"].shape[1]
        self.q_values = torch.randn(args.tasks, len(held["reward"]))
        self.encoder = mlp(2 * args.obs + action + 1, args.encoder, 2 * args.latent)
        self.q = mlp(args.obs + action + args.latent, args.q, 1)
        self.generator = mlp(args.obs + args.noise + args.latent, args.generator, action)
        self.perturbation = mlp(args.obs + action + args.latent, args.perturbation, action)
        nets = (self.encoder, self.q, self.generator, self.perturbation)
        self.optimizer = torch.optim.Adam(
            [weight for net in nets for weight in net.parameters()], LEARNING_RATE, fused=True
        )
        self.teachers = Teachers(args.tasks, args.obs, action, args.noise)

    def drawn(self, *shape: int) -> torch.Tensor:
        """Row numbers; a task's log has as many rows as another's."""
        return torch.randint(len(self.rows["reward"]), shape)

    def factors(self, chosen: torch.Tensor, reward: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows `[..., L]`, perhaps paid otherwise -> sums over L of (precision, precision-weighted mean), [..., Z]"""
        rows = {name: column[chosen] for name, column in self.rows.items()}
        paid = rows["reward"] if reward is None else reward
        seen = torch.cat([rows["obs"], rows["action"], rows["next_obs"], paid[..., None]], -1)
        mean, raw = self.encoder(seen).chunk(2, -1)
        precision = 1 / functional.softplus(raw).clamp(min=LEAST_VARIANCE)
        return precision.sum(-2), (mean * precision).sum(-2)

    def posterior(self, *each: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        variance = 1 / sum(precision for precision, _ in each)
        return sum(weighted for _, weighted in each) * variance, variance

    def __call__(self) -> None:
        args, count = self.args, self.args.tasks
        chosen = self.drawn(count, args.batch)
        obs, action = self.rows["obs"][chosen], self.rows["action"][chosen]
        target = self.q_values.gather(1, chosen)
        noise = torch.randn(count, args.batch, args.noise).clamp(-0.5, 0.5)
        with torch.no_grad():
            proposed, xi = self.teachers.teach(obs, noise)
        own = self.factors(self.drawn(count, args.own))
        foreign = self.factors(self.drawn(count, args.foreign), torch.randn(count, args.foreign))
        pairs = self.drawn(count, count, args.own)
        anchor = self.posterior(self.factors(pairs, torch.randn(pairs.shape)))
        negative = self.posterior(self.factors(pairs))
        positive = tuple(leaf[:, None].expand(-1, count, -1) for leaf in self.posterior(own))
        gap = (kl(anchor, positive) - kl(anchor, negative) + MARGIN).relu()
        apart = gap[~torch.eye(count, dtype=torch.bool)].mean()
        q = self.posterior(own, foreign)
        z = (q[0] + q[1].sqrt() * torch.randn(q[0].shape))[:, None].expand(-1, args.batch, -1)
        known = z.detach()
        loss = ((self.q(torch.cat([obs, action, z], -1))[..., 0] - target) ** 2).mean() + apart
        loss = loss + KL_WEIGHT * (0.5 * (q[1] + q[0] ** 2 - 1 - q[1].log()).sum(-1)).mean()
        loss = loss + ((self.generator(torch.cat([obs, noise, known], -1)).tanh() - proposed) ** 2).sum(-1).mean()
        loss = loss + ((self.perturbation(torch.cat([obs, proposed, known], -1)).tanh() - xi) ** 2).sum(-1).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def kl(q: tuple[torch.Tensor, ...], p: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return 0.5 * ((q[1] + (q[0] - p[0]) ** 2) / p[1] - 1 + p[1].log() - q[1].log()).sum(-1)


def main() -> None:
    args = options(
        ("batch", "own", "foreign", "latent", "noise", "tasks", "obs"), ("encoder", "q", "generator", "perturbation")
    )
    serve(args, Step(args))


if __name__ == "__main__":
    main()
