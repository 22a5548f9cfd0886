"""What a stage will cost before it ever ran: an order of magnitude, from the sizes of nets and batches. jax-free."""

from collections.abc import Callable
from typing import Any, NamedTuple

from pipelines.core.configs.stages import parse_keep
from pipelines.core.families import Entry
from pipelines.stages import net_costs

FLOPS_PER_S = 4e10  # small nets on two laptop cores; `make bench` measures it
COMPILE_S = 6.0  # a stage's first compile; a warm cache takes a fifth
PROGRAM_BYTES = 1.2e9  # jax, its compiler and what it compiles: 0.8 to 1.5 GB (benchmarks/results/sizes.md)
ARTIFACT_BYTES = 4e4  # card, metrics, events
FLOAT_BYTES = 4
RELABELLED_BYTES = 24  # of a row: two indices, the log's number, its place, reward, spread
PICTURE_BYTES = POLICY_BYTES = 1e6  # the page and its pictures; a copy of a policy
LOG_COLUMNS = 5  # of a row, beside observation and action: reward, episode, step, behaviour, ends


class Cost(NamedTuple):
    """Operations, and bytes: written, and held beside that while the stage runs."""

    flops: float = 0.0
    disk: float = 0.0
    held: float = 0.0


def _row_bytes(family: Entry) -> int:
    return FLOAT_BYTES * (family.obs_dim + family.action_dim + LOG_COLUMNS)


def _kept(config: Any, params: float) -> float:
    """Bytes of a policy and its snapshots."""
    return (1 + config.num_snapshots) * params * FLOAT_BYTES


def _played(config: Any, family: Entry) -> float:
    """Bytes of the paths of an evaluation."""
    return family.num_test * config.episodes * family.horizon * family.obs_dim * FLOAT_BYTES


def _collect(config: Any, family: Entry, tasks: int) -> Cost:
    row, params = net_costs.PER_TASK[config.algorithm](config.agent, family)
    updates = config.steps - config.random_steps
    if config.block_updates is not None:
        updates = updates // config.block_steps * config.block_updates
    which, most = parse_keep(config.keep)
    kept = config.steps if which == "all" else min(most, config.steps)
    copies = 1 + (-(-config.steps // config.snapshot_every) if config.snapshot_every else config.num_snapshots)
    disk = tasks * (kept * _row_bytes(family) + copies * params * FLOAT_BYTES)
    return Cost(tasks * updates * config.agent.batch_size * row, disk, tasks * config.steps * _row_bytes(family))


def _train(config: Any, family: Entry, tasks: int) -> Cost:
    row, params = net_costs.PER_TASK[config.algorithm](config.agent, family)
    return Cost(tasks * config.updates * config.agent.batch_size * row, tasks * _kept(config, params))


def _relabel(config: Any, family: Entry, tasks: int) -> Cost:
    pair = family.obs_dim + family.action_dim
    one, _ = net_costs.mlp([pair, *config.model.hidden, 1])
    learned = config.updates * config.model.batch_size if config.reward == "model" else 0
    flops = tasks * config.model.members * 3 * learned * one
    row = RELABELLED_BYTES
    if config.dynamics == "differ" or (config.dynamics == "auto" and family.dynamics):
        net = config.transition
        one, _ = net_costs.mlp([pair, *net.hidden, family.obs_dim])
        flops += tasks * net.members * 3 * config.transition_updates * net.batch_size * one
        row += FLOAT_BYTES * family.obs_dim
    return Cost(flops, tasks * (tasks - 1) * config.rows_per_pair * row)


def _import(config: Any, family: Entry, tasks: int) -> Cost:
    """Nobody knows before the files are read."""
    return Cost()


def _replay(config: Any, family: Entry, tasks: int) -> Cost:
    return Cost(disk=tasks**2 * config.episodes * family.horizon * _row_bytes(family))


def _belief(config: Any, family: Entry, tasks: int) -> Cost:
    trial, params = net_costs.belief(config, family)
    together = tasks if config.tasks_per_update is None else min(config.tasks_per_update, tasks)
    return Cost(config.updates * together * config.trials_per_task * trial, _kept(config, params))


def _updates(config: Any, row: float, tasks: int) -> float:
    """Operations of one update across tasks, a row of which takes `row`."""
    if config.algorithm not in net_costs.OF_EACH_TASK:
        return config.agent.batch_size * row
    return (getattr(config.agent, "tasks_per_update", None) or tasks) * config.agent.batch_size * row


def _online(config: Any, family: Entry, tasks: int) -> Cost:
    row, params = net_costs.ONLINE[config.algorithm](config.agent, family)
    steps = config.trials * config.trial_episodes * family.horizon * config.iterations + config.random_steps
    flops = config.iterations * config.updates * _updates(config, row, tasks)
    return Cost(flops, steps * _row_bytes(family) + _kept(config, params))


def _metatrain(config: Any, family: Entry, tasks: int) -> Cost:
    if config.online:
        return Cost(disk=POLICY_BYTES)
    row, params = net_costs.ACROSS[config.algorithm](config.agent, family)
    return Cost(config.updates * _updates(config, row, tasks), _kept(config, params))


def _distill(config: Any, family: Entry, tasks: int) -> Cost:
    row, params = (net_costs.mbml if config.method == "mbml" else net_costs.time)(config.agent, family)
    return Cost(tasks * config.updates * config.agent.batch_size * row, _kept(config, params))


def _eval(config: Any, family: Entry, tasks: int) -> Cost:
    return Cost(disk=_played(config, family))


def _finetune(config: Any, family: Entry, tasks: int) -> Cost:
    """The meta-policy's nets are not in the config: as if they were SAC's."""
    row, _ = net_costs.sac(config.agent, family)
    arms = 1 + (config.scratch != "none")
    flops = family.num_test * arms * config.steps * config.agent.batch_size * row
    held = family.num_test * arms * (config.warmup_steps + config.steps) * _row_bytes(family)
    return Cost(flops, _played(config, family), held)


def _report(config: Any, family: Entry, tasks: int) -> Cost:
    return Cost(disk=PICTURE_BYTES)


OF_STAGE: dict[str, Callable[[Any, Entry, int], Cost]] = {
    "collect": _collect,
    "train": _train,
    "relabel": _relabel,
    "import": _import,
    "replay": _replay,
    "belief": _belief,
    "online": _online,
    "metatrain": _metatrain,
    "distill": _distill,
    "eval": _eval,
    "finetune": _finetune,
    "report": _report,
}


def estimate(stage: str, config: Any, family: Entry, num_tasks: int | None = None) -> dict[str, float]:
    """{"memory_bytes", "disk_bytes", "seconds"} of one run of `stage` on `family`; `num_tasks`: of the log that it
    learns from, where it is known."""
    there = family.num_tasks(config.split) if stage == "collect" else family.num_train
    tasks = getattr(config, "num_tasks", None) or num_tasks or there
    cost = OF_STAGE[stage](config, family._replace(num_train=tasks), tasks)
    memory = PROGRAM_BYTES + 4 * max(cost.disk, cost.held)  # optimiser moments, targets, a checkpoint's host copy
    seconds = COMPILE_S + cost.flops / FLOPS_PER_S
    return {"memory_bytes": memory, "disk_bytes": cost.disk + ARTIFACT_BYTES, "seconds": seconds}
