"""BOReL's belief in torch: GRU encoder, every latent decodes the whole trial; published form or split decoder.

Written from the paper's equations and the published sizes; no code of it is here. `published` decodes trial by trial,
each pair of a latent and a step through embeddings and decoder; `split` embeds each step once and splits the decoder's
first layer into a part for the latent and a part for the step, some trials at once. Fused Adam moves everything.
"""

import argparse

import torch
from in_torch import options, serve
from torch import nn
from torch.nn import functional

LEARNING_RATE, KL_WEIGHT = 3e-4, 0.05
EMBED = {"action": 16, "obs": 32, "reward": 16}


class Step:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        wide = {"action": args.action, "obs": args.obs + 1, "reward": 1}
        self.see = nn.ModuleDict({name: nn.Linear(wide[name], EMBED[name]) for name in wide})
        self.look = nn.ModuleDict({name: nn.Linear(wide[name], EMBED[name]) for name in ("action", "obs")})
        self.memory = nn.GRU(sum(EMBED.values()), args.width)
        self.heads = nn.Linear(args.width, 2 * args.latent)
        first = args.latent + 2 * EMBED["obs"] + EMBED["action"]
        self.first, self.second, self.last = nn.Linear(first, 32), nn.Linear(32, 32), nn.Linear(32, 1)
        nets = (self.see, self.look, self.memory, self.heads, self.first, self.second, self.last)
        self.optimizer = torch.optim.Adam(
            [weight for net in nets for weight in net.parameters()], LEARNING_RATE, fused=True
        )

    def rest(self, first: torch.Tensor) -> torch.Tensor:
        return self.last(self.second(first.relu()).relu())[..., 0]

    def looked(self, obs: torch.Tensor, after: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        seen = self.look["obs"](after).relu(), self.look["obs"](obs).relu(), self.look["action"](action).relu()
        return torch.cat(seen, -1)

    def published(self, z: torch.Tensor, rows: tuple[torch.Tensor, ...], reward: torch.Tensor) -> torch.Tensor:
        """z [B, N, Z], rows [L, B, *], reward [L, B] -> []"""
        total, (count, length) = torch.zeros(()), (z.shape[1], reward.shape[0])
        for b in range(z.shape[0]):
            wide = [row[:, b].expand(count, length, -1) for row in rows]
            pairs = torch.cat([z[b, :, None].expand(-1, length, -1), self.looked(*wide)], -1)
            total = total + ((self.rest(self.first(pairs)) - reward[:, b]) ** 2).mean(1).sum()
        return total / z.shape[0]

    def split(self, z: torch.Tensor, rows: tuple[torch.Tensor, ...], reward: torch.Tensor) -> torch.Tensor:
        latent, weight = self.args.latent, self.first.weight
        of_latent = z @ weight[:, :latent].T
        of_step = functional.linear(self.looked(*rows), weight[:, latent:], self.first.bias).transpose(0, 1)
        total = torch.zeros(())
        for b in range(z.shape[0]):
            out = self.rest(of_latent[b, :, None] + of_step[b])
            total = total + ((out - reward[:, b]) ** 2).mean(1).sum()
        return total / z.shape[0]

    def __call__(self) -> None:
        args = self.args
        lead = (args.steps, args.trials)
        obs, after = torch.randn(*lead, args.obs + 1), torch.randn(*lead, args.obs + 1)
        action, reward = torch.randn(*lead, args.action), torch.randn(*lead)
        columns = {"action": action, "obs": after, "reward": reward[..., None]}
        seen = torch.cat([self.see[name](columns[name]).relu() for name in columns], -1)
        hidden = torch.cat([torch.zeros(1, args.trials, args.width), self.memory(seen)[0]])
        mean, log_variance = self.heads(hidden).transpose(0, 1).chunk(2, -1)
        z = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape)
        decode = self.split if args.form == "split" else self.published
        nothing = torch.zeros_like(mean[:, :1])
        m0, l0 = (torch.cat([nothing, leaf[:, :-1]], 1) for leaf in (mean, log_variance))
        ratio = log_variance - l0
        kl = 0.5 * (ratio.exp() + (mean - m0) ** 2 * (-l0).exp() - 1 - ratio).sum(-1)
        loss = decode(z, (obs, after, action), reward) + KL_WEIGHT * kl.sum(1).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def main() -> None:
    args = options(("obs", "action", "steps", "trials", "width", "latent"), form=("published", "split"))
    serve(args, Step(args))


if __name__ == "__main__":
    main()
