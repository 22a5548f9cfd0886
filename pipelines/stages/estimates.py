"""What a stage will cost before it ever ran: an order of magnitude, from the sizes of nets and batches. jax-free."""

import itertools
from collections.abc import Sequence
from typing import Any

from pipelines.core.families import Entry

FLOPS_PER_S = 4e10  # small nets on two laptop cores; `make bench` measures it
COMPILE_S = 6.0  # a stage's first compile; a warm cache takes a fifth
PROGRAM_BYTES = 7e8  # jax, its compiler and one compiled block
ARTIFACT_BYTES = 4e4  # card, metrics, events
FLOAT_BYTES = 4


def mlp(sizes: Sequence[int]) -> tuple[float, float]:
    """(floating-point operations of one forward row, parameters) of a net with these layer sizes."""
    weights = sum(a * b for a, b in itertools.pairwise(sizes))
    return 2.0 * weights, weights + sum(sizes[1:])


def _sac(agent: Any, family: Entry, extra: int = 0) -> tuple[float, float]:
    """(operations of one row of an update, parameters): actor 4 forward passes' worth, each critic 6."""
    features = family.obs_dim + extra
    actor = mlp([features, *agent.hidden, 2 * family.action_dim])
    critic = mlp([features + family.action_dim, *agent.hidden, 1])
    return 4 * actor[0] + 12 * critic[0], actor[1] + 2 * critic[1]


def _time(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of one row of an update, parameters) of tiMe; a gradient costs three forward passes."""
    pair, latent = family.obs_dim + family.action_dim, agent.latent_dim
    f = mlp([pair + 1 + family.obs_dim, *agent.encoder_hidden, latent])
    e = mlp([pair, *agent.embed_hidden, agent.embed_dim])
    p = mlp([agent.embed_dim + latent, *agent.predictor_hidden, 1 + family.obs_dim])
    q = mlp([pair + latent, *agent.q_hidden, 1])
    return 3 * (agent.context_size * f[0] + e[0] + p[0] + q[0]), f[1] + e[1] + p[1] + q[1]


def estimate(stage: str, config: Any, family: Entry) -> dict[str, float]:
    """{"memory_bytes", "disk_bytes", "seconds"} of one run of `stage` on `family`."""
    tasks, copies = family.num_train, 1 + getattr(config, "num_snapshots", 0)
    flops = disk = 0.0
    match stage:
        case "collect":
            row, params = _sac(config.agent, family)
            flops = tasks * (config.steps - config.random_steps) * config.agent.batch_size * row
            disk = tasks * (config.steps * FLOAT_BYTES * (family.obs_dim + family.action_dim + 5))
            disk += tasks * copies * params * FLOAT_BYTES
        case "train":
            row, params = _sac(config.agent, family)
            flops, disk = tasks * config.updates * config.agent.batch_size * row, tasks * copies * params * FLOAT_BYTES
        case "metatrain" if config.algorithm == "batch-pearl":
            row, params = _sac(config.agent, family, config.agent.latent_dim)
            inputs = 2 * family.obs_dim + family.action_dim + 1
            encoder = mlp([inputs, *config.agent.encoder_hidden, 2 * config.agent.latent_dim])
            each = config.agent.batch_size * row + 4 * config.agent.context_size * encoder[0]
            flops, disk = tasks * config.updates * each, copies * (params + encoder[1]) * FLOAT_BYTES
        case "metatrain":
            row, params = _sac(config.agent, family)
            flops, disk = config.updates * config.agent.batch_size * row, copies * params * FLOAT_BYTES
        case "distill":
            row, params = _time(config.agent, family)
            flops, disk = tasks * config.updates * config.agent.batch_size * row, copies * params * FLOAT_BYTES
        case "eval":
            disk = family.num_test * config.episodes * family.horizon * family.obs_dim * FLOAT_BYTES
        case "report":
            disk = 1e6  # the page and its pictures
    memory = PROGRAM_BYTES + 4 * disk  # optimiser moments, targets and a checkpoint's host copy
    return {"memory_bytes": memory, "disk_bytes": disk + ARTIFACT_BYTES, "seconds": COMPILE_S + flops / FLOPS_PER_S}
