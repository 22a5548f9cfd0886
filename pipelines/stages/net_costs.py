"""What an update costs, from the sizes of nets: (floating-point operations of one row of it, parameters). jax-free."""

import itertools
from collections.abc import Sequence
from typing import Any

from pipelines.core.configs.base import resolve
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.families import Entry

IMAGE_DIM = 4_096  # observations of more numbers go through a convolutional net ..
IMAGE_FLOPS = 4.4e7  # .. which takes so many operations for an image of 64 x 64 x 3


def mlp(sizes: Sequence[int]) -> tuple[float, float]:
    """(floating-point operations of one forward row, parameters) of a net with these layer sizes."""
    weights = sum(a * b for a, b in itertools.pairwise(sizes))
    return 2.0 * weights, weights + sum(sizes[1:])


def sac(agent: Any, family: Entry, extra: int = 0) -> tuple[float, float]:
    """(operations of a row, parameters): actor 4 forward passes' worth, each critic 6."""
    features = family.obs_dim + extra
    actor = mlp([features, *agent.hidden, 2 * family.action_dim])
    critic = mlp([features + family.action_dim, *(getattr(agent, "critic_hidden", None) or agent.hidden), 1])
    return 4 * actor[0] + 12 * critic[0], actor[1] + 2 * critic[1]


def td3(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of a row, parameters): actor 3 + 1 / delay, critics 2 of target and 6 + 2 / delay."""
    actor = mlp([family.obs_dim, *agent.hidden, family.action_dim])
    critic = mlp([family.obs_dim + family.action_dim, *agent.hidden, 1])
    often = 1 / agent.actor_delay
    return (1 + 3 * often) * actor[0] + (8 + 3 * often) * critic[0], actor[1] + 2 * critic[1]


def dqn(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of a row, parameters); the listing does not count discrete actions: few."""
    net = mlp([family.obs_dim, *agent.hidden, 5])
    return 5 * net[0], net[1]


def discrete_bcq(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of a row, parameters): DQN, and a behaviour net beside it."""
    values = dqn(agent, family)
    return 1.8 * values[0], 2 * values[1]


def bcq(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of a row, parameters); every candidate of the target is a row of its own."""
    pair, act = family.obs_dim + family.action_dim, family.action_dim
    latent = 2 * act if agent.latent_dim is None else agent.latent_dim
    encoder = mlp([pair, *agent.vae_hidden, 2 * latent])
    generator = mlp([family.obs_dim + latent, *agent.vae_hidden, act])
    critic, perturbation = mlp([pair, *agent.hidden, 1]), mlp([pair, *agent.hidden, act])
    proposed = agent.num_candidates * (generator[0] + perturbation[0] + 2 * critic[0])
    learned = 3 * encoder[0] + 4 * generator[0] + 8 * critic[0] + 3 * perturbation[0]
    return proposed + learned, encoder[1] + generator[1] + 2 * critic[1] + perturbation[1]


def ddpg(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of a row, parameters): actor 4, critic 6 forward passes' worth."""
    actor = mlp([family.obs_dim, *agent.hidden, family.action_dim])
    critic = mlp([family.obs_dim + family.action_dim, *agent.hidden, 1])
    return 4 * actor[0] + 6 * critic[0], actor[1] + critic[1]


def cql(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of a row, parameters): SAC, and the critics' gradient on three proposals."""
    row, params = sac(agent, family)
    critic = mlp([family.obs_dim + family.action_dim, *agent.hidden, 1])
    return row + 2 * 3 * (3 * agent.num_actions) * critic[0], params


def iql(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of a row, parameters): actor 3, value 5, each critic 4."""
    actor = mlp([family.obs_dim, *agent.hidden, family.action_dim])
    value = mlp([family.obs_dim, *agent.hidden, 1])
    critic = mlp([family.obs_dim + family.action_dim, *agent.hidden, 1])
    return 3 * actor[0] + 5 * value[0] + 8 * critic[0], actor[1] + value[1] + 2 * critic[1]


def bc(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of a row, parameters)."""
    actor = mlp([family.obs_dim, *agent.hidden, family.action_dim])
    return 3 * actor[0], actor[1]


PER_TASK = {
    "sac": sac,
    "td3": td3,
    "dqn": dqn,
    "batch-sac": sac,
    "bcq": bcq,
    "cql": cql,
    "td3bc": td3,
    "iql": iql,
    "ddpg": ddpg,
    "bc": bc,
    "discrete-bcq": discrete_bcq,
}


def time(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of a row, parameters) of tiMe; a gradient costs three forward passes."""
    pair, latent = family.obs_dim + family.action_dim, agent.latent_dim
    f = mlp([pair + 1 + family.obs_dim, *agent.encoder_hidden, latent])
    e = mlp([pair, *agent.embed_hidden, agent.embed_dim])
    p = mlp([agent.embed_dim + latent, *agent.predictor_hidden, 1 + family.obs_dim])
    q = mlp([pair + latent, *agent.q_hidden, 1])
    row, params = 3 * (agent.context_size * f[0] + e[0] + p[0] + q[0]), f[1] + e[1] + p[1] + q[1]
    if agent.act != "generator":
        return row, params
    actor = imitator(agent, family)
    return row + actor[0], params + actor[1]


def imitator(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of a row, parameters) of the nets that imitate the teachers' actions; theirs are asked
    beside them, of unknown size."""
    pair, noise = family.obs_dim + family.action_dim, 2 * family.action_dim
    wide = agent.generator_hidden or agent.q_hidden
    generator = mlp([family.obs_dim + noise + agent.latent_dim, *wide, family.action_dim])
    perturbation = mlp([pair + agent.latent_dim, *(agent.perturbation_hidden or agent.q_hidden), family.action_dim])
    return 3 * (generator[0] + perturbation[0]), generator[1] + perturbation[1]


def mbml(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of a row, parameters); the encoder sees contexts, and T triplets of each task."""
    pair, tasks = family.obs_dim + family.action_dim, family.num_train
    encoder = mlp([pair + 1 + family.obs_dim, *agent.encoder_hidden, 2 * agent.latent_dim])
    q, actor = mlp([pair + agent.latent_dim, *agent.q_hidden, 1]), imitator(agent, family)
    seen = agent.context_size + agent.foreign_size
    if agent.triplet:
        seen = agent.num_contexts * seen if agent.relabel == "none" else seen + 2 * tasks * agent.context_size
    return 3 * (seen / agent.batch_size * encoder[0] + q[0]) + actor[0], encoder[1] + q[1] + actor[1]


def belief(config: Any, family: Entry) -> tuple[float, float]:
    """(operations of a trial, parameters): every step is encoded, and decoded from every latent."""
    steps = config.trial_episodes * family.horizon
    seen = family.obs_dim if family.obs_dim < IMAGE_DIM else config.image_features
    embed = mlp([seen + 1, config.embed_obs])
    inputs = config.embed_obs + config.embed_action + config.embed_reward
    memory = mlp([inputs + config.width, 3 * config.width])
    first = mlp([config.latent_dim + 2 * config.embed_obs + config.embed_action, config.decoder_hidden[0]])
    behind = mlp([*config.decoder_hidden, 1])
    pairs = min(config.elbo_terms or steps + 1, steps + 1) * min(config.decode_terms or steps, steps)
    if config.reward_head == "cells":
        pairs = steps + 1  # a latent is one row, whatever it decodes
    images = 3 * IMAGE_FLOPS if family.obs_dim >= IMAGE_DIM else 0.0
    each = steps * (embed[0] * 3 + memory[0] + first[0] + images) + pairs * behind[0]
    return 3 * each, 3 * embed[1] + memory[1] + first[1] + behind[1]


def mql(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of a row, parameters) of TD3 with a context; small products are as slow as if they
    were three times their size."""
    if agent.context == "none":
        return td3(agent, family)
    wide = family._replace(obs_dim=family.obs_dim + agent.context_dim)
    element, gates = family.obs_dim + family.action_dim + 1, 3 * agent.context_dim
    gru = mlp([element + agent.context_dim, gates])
    (row, params), often = td3(agent, wide), 1 / agent.actor_delay
    return row + 3 * agent.history * (5 + 4 * often) * gru[0], params + 4 * gru[1]


def pearl(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of a row, parameters); every task of an update has its context encoded."""
    row, params = sac(agent, family, agent.latent_dim)
    encoder = mlp([_seen(family), *agent.encoder_hidden, 2 * agent.latent_dim])
    return row + 4 * agent.context_size / agent.batch_size * encoder[0], params + encoder[1]


def contextual_bcq(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of a row, parameters); every task has its context encoded."""
    row, params = bcq(agent, family._replace(obs_dim=family.obs_dim + agent.identity_dim))
    encoder = mlp([_seen(family), *agent.encoder_hidden, 2 * agent.identity_dim])
    return row + 4 * agent.context_size / agent.batch_size * encoder[0], params + encoder[1]


def _seen(family: Entry) -> int:
    """Numbers of a transition."""
    return 2 * family.obs_dim + family.action_dim + 1


def borel(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of a row, parameters): a learner on states with the flag and the belief of the model
    that is given."""
    wide = family._replace(obs_dim=family.obs_dim + 1 + 2 * agent.belief.get("latent_dim", 5))
    return {"dqn": dqn, "cql": cql}.get("dqn" if family.discrete else agent.learner, sac)(agent, wide)


def borel_online(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of a row, parameters): the drawn trials are encoded, now and then to teach the
    belief."""
    row, params = borel(agent, family)
    trial, more = belief(resolve(BeliefConfig, agent.belief), family)
    often = 1 / 6 + 1 / agent.belief_every  # reading a trial is a sixth of learning from it, or less
    return row + often * agent.trials_per_task * trial / agent.batch_size, params + more


ACROSS = {  # what learns across tasks from logs; in an update of those below every drawn task has so many rows
    "batch-sac": sac,
    "mql": mql,
    "td3-context": mql,
    "td3": mql,
    "batch-pearl": pearl,
    "contextual-bcq": contextual_bcq,
    "borel": borel,
}
ONLINE = {**ACROSS, "pearl": pearl, "borel": borel_online}
OF_EACH_TASK = ("batch-pearl", "pearl", "contextual-bcq", "borel")
