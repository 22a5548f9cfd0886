"""What a stage will cost before it ever ran: an order of magnitude, from the sizes of nets and batches. jax-free."""

import itertools
from collections.abc import Sequence
from typing import Any

from pipelines.core.configs.base import resolve
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.configs.stages import parse_keep
from pipelines.core.families import Entry

FLOPS_PER_S = 4e10  # small nets on two laptop cores; `make bench` measures it
COMPILE_S = 6.0  # a stage's first compile; a warm cache takes a fifth
PROGRAM_BYTES = 1.2e9  # jax, its compiler and what it compiles: 0.8 to 1.5 GB (benchmarks/results/sizes.md)
ARTIFACT_BYTES = 4e4  # card, metrics, events
FLOAT_BYTES = 4
RELABELLED_BYTES = 24  # of a row: two indices, the log's number, its place, reward, spread
IMAGE_DIM = 4_096  # observations of more numbers go through a convolutional net ..
IMAGE_FLOPS = 4.4e7  # .. which takes so many operations for an image of 64 x 64 x 3
LOG_COLUMNS = 5  # of a row, beside observation and action: reward, episode, step, behaviour, ends


def mlp(sizes: Sequence[int]) -> tuple[float, float]:
    """(floating-point operations of one forward row, parameters) of a net with these layer sizes."""
    weights = sum(a * b for a, b in itertools.pairwise(sizes))
    return 2.0 * weights, weights + sum(sizes[1:])


def _sac(agent: Any, family: Entry, extra: int = 0) -> tuple[float, float]:
    """(operations of one row of an update, parameters): actor 4 forward passes' worth, each critic 6."""
    features = family.obs_dim + extra
    actor = mlp([features, *agent.hidden, 2 * family.action_dim])
    critic = mlp([features + family.action_dim, *(getattr(agent, "critic_hidden", None) or agent.hidden), 1])
    return 4 * actor[0] + 12 * critic[0], actor[1] + 2 * critic[1]


def _td3(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of one row of an update, parameters): actor 3 + 1 / delay, critics 2 of target and 6 + 2 / delay."""
    actor = mlp([family.obs_dim, *agent.hidden, family.action_dim])
    critic = mlp([family.obs_dim + family.action_dim, *agent.hidden, 1])
    often = 1 / agent.actor_delay
    return (1 + 3 * often) * actor[0] + (8 + 3 * often) * critic[0], actor[1] + 2 * critic[1]


def _dqn(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of one row of an update, parameters); the listing does not count discrete actions: few."""
    net = mlp([family.obs_dim, *agent.hidden, 5])
    return 5 * net[0], net[1]


def _discrete_bcq(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of one row of an update, parameters): DQN, and a behaviour net beside it."""
    values = _dqn(agent, family)
    return 1.8 * values[0], 2 * values[1]


def _bcq(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of one row of an update, parameters); every candidate of the target is a row of its own."""
    pair, act = family.obs_dim + family.action_dim, family.action_dim
    latent = 2 * act if agent.latent_dim is None else agent.latent_dim
    encoder = mlp([pair, *agent.vae_hidden, 2 * latent])
    generator = mlp([family.obs_dim + latent, *agent.vae_hidden, act])
    critic, perturbation = mlp([pair, *agent.hidden, 1]), mlp([pair, *agent.hidden, act])
    proposed = agent.num_candidates * (generator[0] + perturbation[0] + 2 * critic[0])
    learned = 3 * encoder[0] + 4 * generator[0] + 8 * critic[0] + 3 * perturbation[0]
    return proposed + learned, encoder[1] + generator[1] + 2 * critic[1] + perturbation[1]


def _ddpg(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of one row of an update, parameters): actor 4, critic 6 forward passes' worth."""
    actor = mlp([family.obs_dim, *agent.hidden, family.action_dim])
    critic = mlp([family.obs_dim + family.action_dim, *agent.hidden, 1])
    return 4 * actor[0] + 6 * critic[0], actor[1] + critic[1]


def _cql(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of one row of an update, parameters): SAC, and the critics' gradient on three proposals."""
    row, params = _sac(agent, family)
    critic = mlp([family.obs_dim + family.action_dim, *agent.hidden, 1])
    return row + 2 * 3 * (3 * agent.num_actions) * critic[0], params


def _iql(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of one row of an update, parameters): actor 3, value 5, each critic 4."""
    actor = mlp([family.obs_dim, *agent.hidden, family.action_dim])
    value = mlp([family.obs_dim, *agent.hidden, 1])
    critic = mlp([family.obs_dim + family.action_dim, *agent.hidden, 1])
    return 3 * actor[0] + 5 * value[0] + 8 * critic[0], actor[1] + value[1] + 2 * critic[1]


def _bc(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of one row of an update, parameters)."""
    actor = mlp([family.obs_dim, *agent.hidden, family.action_dim])
    return 3 * actor[0], actor[1]


PER_TASK = {
    "sac": _sac,
    "td3": _td3,
    "dqn": _dqn,
    "batch-sac": _sac,
    "bcq": _bcq,
    "cql": _cql,
    "td3bc": _td3,
    "iql": _iql,
    "ddpg": _ddpg,
    "bc": _bc,
    "discrete-bcq": _discrete_bcq,
}


def _time(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of one row of an update, parameters) of tiMe; a gradient costs three forward passes."""
    pair, latent = family.obs_dim + family.action_dim, agent.latent_dim
    f = mlp([pair + 1 + family.obs_dim, *agent.encoder_hidden, latent])
    e = mlp([pair, *agent.embed_hidden, agent.embed_dim])
    p = mlp([agent.embed_dim + latent, *agent.predictor_hidden, 1 + family.obs_dim])
    q = mlp([pair + latent, *agent.q_hidden, 1])
    row, params = 3 * (agent.context_size * f[0] + e[0] + p[0] + q[0]), f[1] + e[1] + p[1] + q[1]
    if agent.act != "generator":
        return row, params
    actor = _actor(agent, family)
    return row + actor[0], params + actor[1]


def _actor(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of one row of an update, parameters) of the nets that imitate the teachers' actions; theirs are asked
    beside them, of unknown size."""
    pair, noise = family.obs_dim + family.action_dim, 2 * family.action_dim
    wide = agent.generator_hidden or agent.q_hidden
    generator = mlp([family.obs_dim + noise + agent.latent_dim, *wide, family.action_dim])
    perturbation = mlp([pair + agent.latent_dim, *(agent.perturbation_hidden or agent.q_hidden), family.action_dim])
    return 3 * (generator[0] + perturbation[0]), generator[1] + perturbation[1]


def _mbml(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of one row of an update, parameters); the encoder sees contexts, and T triplets of each task."""
    pair, tasks = family.obs_dim + family.action_dim, family.num_train
    encoder = mlp([pair + 1 + family.obs_dim, *agent.encoder_hidden, 2 * agent.latent_dim])
    q, actor = mlp([pair + agent.latent_dim, *agent.q_hidden, 1]), _actor(agent, family)
    seen = agent.context_size + agent.foreign_size
    if agent.triplet:
        seen = agent.num_contexts * seen if agent.relabel == "none" else seen + 2 * tasks * agent.context_size
    return 3 * (seen / agent.batch_size * encoder[0] + q[0]) + actor[0], encoder[1] + q[1] + actor[1]


def _belief(config: Any, family: Entry) -> tuple[float, float]:
    """(operations of one trial of an update, parameters): every step is encoded, and decoded from every latent."""
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


def _mql(agent: Any, family: Entry) -> tuple[float, float]:
    """(operations of one row of an update, parameters) of TD3 with a context; small products are as slow as if they
    were three times their size."""
    if agent.context == "none":
        return _td3(agent, family)
    wide = family._replace(obs_dim=family.obs_dim + agent.context_dim)
    element, gates = family.obs_dim + family.action_dim + 1, 3 * agent.context_dim
    gru = mlp([element + agent.context_dim, gates])
    (row, params), often = _td3(agent, wide), 1 / agent.actor_delay
    return row + 3 * agent.history * (5 + 4 * often) * gru[0], params + 4 * gru[1]


def _online(config: Any, family: Entry) -> tuple[float, float]:
    """(operations of one row of an update, parameters); PEARL's update has so many rows of each of its tasks."""
    agent = config.agent
    if config.algorithm == "borel":
        return _borel_online(config, family)
    if config.algorithm != "pearl":
        return _mql(agent, family)
    row, params = _sac(agent, family, agent.latent_dim)
    inputs = 2 * family.obs_dim + family.action_dim + 1
    encoder = mlp([inputs, *agent.encoder_hidden, 2 * agent.latent_dim])
    tasks = agent.tasks_per_update or config.num_tasks or family.num_train
    return tasks * (row + 4 * agent.context_size / agent.batch_size * encoder[0]), params + encoder[1]


def _borel_online(config: Any, family: Entry) -> tuple[float, float]:
    """(operations of one row of an update, parameters): the drawn trials are encoded, now and then to teach the
    belief, and every drawn task has so many rows."""
    agent, believing = config.agent, resolve(BeliefConfig, config.agent.belief)
    learner = "dqn" if family.discrete else agent.learner
    wide = family._replace(obs_dim=family.obs_dim + 1 + 2 * believing.latent_dim)
    row, params = {"dqn": _dqn, "cql": _cql}.get(learner, _sac)(agent, wide)
    trial, more = _belief(believing, family)
    tasks = agent.tasks_per_update or config.num_tasks or family.num_train
    often = 1 / 6 + 1 / agent.belief_every  # reading a trial is a sixth of learning from it, or less
    return tasks * (row + often * agent.trials_per_task * trial / agent.batch_size), params + more


def _row_bytes(family: Entry) -> int:
    return FLOAT_BYTES * (family.obs_dim + family.action_dim + LOG_COLUMNS)


def estimate(stage: str, config: Any, family: Entry, num_tasks: int | None = None) -> dict[str, float]:
    """{"memory_bytes", "disk_bytes", "seconds"} of one run of `stage` on `family`; `num_tasks`: of the log that it
    learns from, where it is known."""
    copies = 1 + getattr(config, "num_snapshots", 0)
    there = family.num_tasks(config.split) if stage == "collect" else family.num_train
    tasks = getattr(config, "num_tasks", None) or num_tasks or there
    family = family._replace(num_train=tasks)
    flops = disk = held = 0.0
    match stage:
        case "collect":
            row, params = PER_TASK[config.algorithm](config.agent, family)
            updates = config.steps - config.random_steps
            if config.block_updates is not None:
                updates = updates // config.block_steps * config.block_updates
            flops = tasks * updates * config.agent.batch_size * row
            which, most = parse_keep(config.keep)
            kept = config.steps if which == "all" else min(most, config.steps)
            disk = tasks * kept * _row_bytes(family)
            held = tasks * config.steps * _row_bytes(family)
            copies = 1 + (-(-config.steps // config.snapshot_every) if config.snapshot_every else config.num_snapshots)
            disk += tasks * copies * params * FLOAT_BYTES
        case "train":
            row, params = PER_TASK[config.algorithm](config.agent, family)
            flops, disk = tasks * config.updates * config.agent.batch_size * row, tasks * copies * params * FLOAT_BYTES
        case "relabel":
            one, params = mlp([family.obs_dim + family.action_dim, *config.model.hidden, 1])
            learned = config.updates * config.model.batch_size if config.reward == "model" else 0
            flops = tasks * config.model.members * 3 * learned * one
            disk = tasks * (tasks - 1) * config.rows_per_pair * RELABELLED_BYTES
            if config.dynamics == "differ" or (config.dynamics == "auto" and family.dynamics):
                net = config.transition
                one, _ = mlp([family.obs_dim + family.action_dim, *net.hidden, family.obs_dim])
                flops += tasks * net.members * 3 * config.transition_updates * net.batch_size * one
                disk += tasks * (tasks - 1) * config.rows_per_pair * FLOAT_BYTES * family.obs_dim
        case "replay":
            disk = tasks**2 * config.episodes * family.horizon * _row_bytes(family)
        case "belief":
            row, params = _belief(config, family)
            together = tasks if config.tasks_per_update is None else min(config.tasks_per_update, tasks)
            flops = config.updates * together * config.trials_per_task * row
            disk = copies * params * FLOAT_BYTES
        case "online":
            row, params = _online(config, family)
            steps = config.trials * config.trial_episodes * family.horizon * config.iterations + config.random_steps
            flops = config.iterations * config.updates * config.agent.batch_size * row
            disk = steps * _row_bytes(family) + copies * params * FLOAT_BYTES
        case "metatrain" if config.online:
            disk = 1e6  # a copy of the policy
        case "metatrain" if config.algorithm in ("mql", "td3-context", "td3"):
            row, params = _mql(config.agent, family)
            flops, disk = config.updates * config.agent.batch_size * row, copies * params * FLOAT_BYTES
        case "metatrain" if config.algorithm == "batch-pearl":
            row, params = _sac(config.agent, family, config.agent.latent_dim)
            inputs = 2 * family.obs_dim + family.action_dim + 1
            encoder = mlp([inputs, *config.agent.encoder_hidden, 2 * config.agent.latent_dim])
            each = config.agent.batch_size * row + 4 * config.agent.context_size * encoder[0]
            flops, disk = tasks * config.updates * each, copies * (params + encoder[1]) * FLOAT_BYTES
        case "metatrain" if config.algorithm == "borel":
            agent = config.agent
            learner = "dqn" if family.discrete else agent.learner
            extra = 1 + 2 * agent.belief.get("latent_dim", 5)  # the flag, and the belief of the model that is given
            wide = family._replace(obs_dim=family.obs_dim + extra)
            row, params = {"dqn": _dqn, "cql": _cql}.get(learner, _sac)(agent, wide)
            rows = (agent.tasks_per_update or tasks) * agent.batch_size
            flops, disk = config.updates * rows * row, copies * params * FLOAT_BYTES
        case "metatrain" if config.algorithm == "contextual-bcq":
            agent = config.agent
            row, params = _bcq(agent, family._replace(obs_dim=family.obs_dim + agent.identity_dim))
            inputs = 2 * family.obs_dim + family.action_dim + 1
            encoder = mlp([inputs, *agent.encoder_hidden, 2 * agent.identity_dim])
            each = agent.batch_size * row + 4 * agent.context_size * encoder[0]
            flops, disk = tasks * config.updates * each, copies * (params + encoder[1]) * FLOAT_BYTES
        case "metatrain":
            row, params = _sac(config.agent, family)
            flops, disk = config.updates * config.agent.batch_size * row, copies * params * FLOAT_BYTES
        case "distill":
            row, params = (_mbml if config.method == "mbml" else _time)(config.agent, family)
            flops, disk = tasks * config.updates * config.agent.batch_size * row, copies * params * FLOAT_BYTES
        case "eval":
            disk = family.num_test * config.episodes * family.horizon * family.obs_dim * FLOAT_BYTES
        case "finetune":  # the meta-policy's nets are not in the config: as if they were SAC's
            row, params = _sac(config.agent, family)
            arms = 1 + (config.scratch != "none")
            flops = family.num_test * arms * config.steps * config.agent.batch_size * row
            held = family.num_test * arms * (config.warmup_steps + config.steps) * _row_bytes(family)
            disk = family.num_test * config.episodes * family.horizon * family.obs_dim * FLOAT_BYTES
        case "report":
            disk = 1e6  # the page and its pictures
    memory = PROGRAM_BYTES + 4 * max(disk, held)  # optimiser moments, targets and a checkpoint's host copy
    return {"memory_bytes": memory, "disk_bytes": disk + ARTIFACT_BYTES, "seconds": COMPILE_S + flops / FLOPS_PER_S}
