"""BOReL's learners in torch on states with beliefs: SAC with a fixed temperature, or DQN; minibatches of 4,096 rows.

Written from the paper's equations and the published sizes; no code of it is here. States lie there whole, beliefs
included, and are drawn by row numbers; fused Adam moves the nets.
"""

import argparse
import copy
import math

import torch
from in_torch import mlp, options, serve
from torch import nn
from torch.nn import functional

ROWS, LEARNING_RATE, RATE, GAMMA, TEMPERATURE = 120_000, 3e-4, 0.005, 0.99, 0.2


def adam(*nets: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam([weight for net in nets for weight in net.parameters()], LEARNING_RATE, fused=True)


def follow(target: nn.Module, net: nn.Module) -> None:
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(net.parameters()), RATE)


class Rows:
    """Noise of the sizes that there would be."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.batch = args.batch
        discrete = args.learner == "dqn"
        action = torch.randint(args.action, (ROWS,)) if discrete else torch.randn(ROWS, args.action).tanh()
        ends = torch.zeros(ROWS)
        self.columns = torch.randn(ROWS, args.obs), action, torch.randn(ROWS), torch.randn(ROWS, args.obs), ends

    def draw(self) -> list[torch.Tensor]:
        chosen = torch.randint(ROWS, (self.batch,))
        return [column[chosen] for column in self.columns]


class Sac:
    def __init__(self, args: argparse.Namespace) -> None:
        self.rows = Rows(args)
        self.actor = mlp(args.obs, args.hidden, 2 * args.action)
        self.critics = nn.ModuleList([mlp(args.obs + args.action, args.hidden, 1) for _ in range(2)])
        self.target = copy.deepcopy(self.critics)
        self.actor_opt, self.critic_opt = adam(self.actor), adam(self.critics)

    def drawn(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_std = self.actor(obs).chunk(2, -1)
        log_std = log_std.clamp(-20, 2)
        noise = torch.randn_like(mean)
        u = mean + log_std.exp() * noise
        log_normal = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
        return u.tanh(), (log_normal - 2 * (math.log(2) - u - functional.softplus(-2 * u))).sum(-1)

    def __call__(self) -> None:
        obs, action, reward, next_obs, terminal = self.rows.draw()
        with torch.no_grad():
            next_action, log_prob = self.drawn(next_obs)
            pair = torch.cat([next_obs, next_action], -1)
            value = torch.min(*(critic(pair) for critic in self.target))[:, 0] - TEMPERATURE * log_prob
            wanted = reward + GAMMA * (1 - terminal) * value
        pair = torch.cat([obs, action], -1)
        loss = sum(((critic(pair)[:, 0] - wanted) ** 2).mean() for critic in self.critics)
        self.critic_opt.zero_grad()
        loss.backward()
        self.critic_opt.step()
        self.critics.requires_grad_(False)
        new, log_prob = self.drawn(obs)
        pair = torch.cat([obs, new], -1)
        loss = (TEMPERATURE * log_prob - torch.min(*(critic(pair) for critic in self.critics))[:, 0]).mean()
        self.actor_opt.zero_grad()
        loss.backward()
        self.actor_opt.step()
        self.critics.requires_grad_(True)
        follow(self.target, self.critics)


class Dqn:
    def __init__(self, args: argparse.Namespace) -> None:
        self.rows = Rows(args)
        self.net = mlp(args.obs, args.hidden, args.action)
        self.target, self.opt = copy.deepcopy(self.net), adam(self.net)

    def __call__(self) -> None:
        obs, action, reward, next_obs, terminal = self.rows.draw()
        with torch.no_grad():
            wanted = reward + GAMMA * (1 - terminal) * self.target(next_obs).max(-1).values
        loss = ((self.net(obs).gather(1, action[:, None])[:, 0] - wanted) ** 2).mean()
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
        follow(self.target, self.net)


def main() -> None:
    args = options(("batch", "obs", "action"), ("hidden",), learner=("sac", "dqn"))
    serve(args, {"sac": Sac, "dqn": Dqn}[args.learner](args))


if __name__ == "__main__":
    main()
