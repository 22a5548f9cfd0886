"""MQL's meta-training step in torch: TD3 whose actor and critics see the last hidden state of a GRU over a window.

Written from the paper's equations and the published sizes; no code of it is here. Windows are gathered by row numbers,
as omrl does, and the twin critics share one GRU; fused Adam moves each side.
"""

import argparse
import copy

import numpy as np
import torch
from in_torch import mlp, options, serve
from torch import nn

GAMMA, RATE, LEARNING_RATE, NOISE, CLIP = 0.99, 0.005, 1e-3, 0.3, 0.5


class Side(nn.Module):
    """A GRU and the nets that see its last hidden state."""

    def __init__(self, element: int, context: int, size: int, hidden: list[int], out: int, count: int) -> None:
        super().__init__()
        self.gru = nn.GRU(element, context, batch_first=True)
        self.heads = nn.ModuleList([mlp(size + context, hidden, out) for _ in range(count)])

    def context(self, window: torch.Tensor) -> torch.Tensor:
        return self.gru(window)[1][0]


class Step:
    def __init__(self, args: argparse.Namespace) -> None:
        held = np.load(args.rows)
        names = ("obs", "action", "reward", "next_obs", "terminal")
        self.rows = {name: torch.from_numpy(held[name].astype(np.float32)) for name in names}
        self.elements = torch.cat([self.rows["action"], self.rows["reward"][:, None], self.rows["obs"]], -1)
        self.args, self.count = args, 0
        obs, action = held["obs"].shape[1], held["action"].shape[1]
        element = obs + action + 1
        self.actor = Side(element, args.context, obs, args.hidden, action, 1)
        self.critic = Side(element, args.context, obs + action, args.hidden, 1, 2)
        self.actor_target, self.critic_target = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self.actor_opt, self.critic_opt = (
            torch.optim.Adam(net.parameters(), LEARNING_RATE, fused=True) for net in (self.actor, self.critic)
        )
        self.ago = torch.arange(-args.history, 0)

    def __call__(self) -> None:
        args, rows = self.args, self.rows
        chosen = torch.randint(args.history, len(self.elements), (args.batch,))
        obs, action, reward, next_obs, terminal = (column[chosen] for column in rows.values())
        before = self.elements[chosen[:, None] + self.ago]
        after = self.elements[chosen[:, None] + self.ago + 1]
        with torch.no_grad():
            noise = (torch.randn_like(action) * NOISE).clamp(-CLIP, CLIP)
            seen = torch.cat([next_obs, self.actor_target.context(after)], -1)
            next_action = (self.actor_target.heads[0](seen).tanh() + noise).clamp(-1, 1)
            pair = torch.cat([next_obs, next_action, self.critic_target.context(after)], -1)
            value = torch.min(*(head(pair) for head in self.critic_target.heads))[:, 0]
            target = reward + GAMMA * (1 - terminal) * value
        pair = torch.cat([obs, action, self.critic.context(before)], -1)
        loss = sum(((head(pair)[:, 0] - target) ** 2).mean() for head in self.critic.heads)
        self.critic_opt.zero_grad()
        loss.backward()
        self.critic_opt.step()
        if self.count % args.delay == 0:
            self.improve(obs, before)
        self.count += 1

    def improve(self, obs: torch.Tensor, before: torch.Tensor) -> None:
        with torch.no_grad():
            context = self.critic.context(before)
        action = self.actor.heads[0](torch.cat([obs, self.actor.context(before)], -1)).tanh()
        self.critic.requires_grad_(False)
        loss = -self.critic.heads[0](torch.cat([obs, action, context], -1)).mean()
        self.actor_opt.zero_grad()
        loss.backward()
        self.actor_opt.step()
        self.critic.requires_grad_(True)
        with torch.no_grad():
            for net, target in ((self.actor, self.actor_target), (self.critic, self.critic_target)):
                torch._foreach_lerp_(list(target.parameters()), list(net.parameters()), RATE)


def main() -> None:
    args = options(("batch", "history", "context", "delay"), ("hidden",))
    step = Step(args)

    def several() -> None:
        for _ in range(args.delay):
            step()

    serve(args, several, args.delay)


if __name__ == "__main__":
    main()
