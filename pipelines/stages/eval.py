"""eval: a policy-set, a meta-policy or a log's agents, played on the tasks of a split. -> report

Returns per task, normalised scores, and the value gap: Q(s0, a0) minus the discounted return of the same policy from
s0. Snapshots are evaluated too, so that return and value over training can be drawn without touching an environment
during training. How episodes follow each other, which of them count, what is shown first and which snapshot plays is
the protocol's (`protocols`, `contexts`, `adapting`); what the encoder reads is the probe's (`probing`), a trial kept
whole the look's (`looking`).
"""

from typing import Any

import jax
import numpy as np

from pipelines.core import own
from pipelines.core.errors import UsageError
from pipelines.core.learn import stage_key
from pipelines.core.names import slug
from pipelines.core.types import Task, TaskFamily
from pipelines.core.work import Product, Work
from pipelines.stages import adapting, looking, probing, protocols
from pipelines.stages.protocols import player as player
from pipelines.stages.seating import Bench, tasks_of
from pipelines.stages.seating import assign as assign
from pipelines.stages.seating import spread_over as spread_over
from pipelines.tasks import registry

LABELS = {
    "sac": "behaviour SAC",
    "td3": "behaviour TD3",
    "dqn": "behaviour DQN",
    "batch-sac": "batch SAC",
    "bcq": "BCQ",
    "cql": "CQL",
    "td3bc": "TD3+BC",
    "iql": "IQL",
    "ddpg": "DDPG",
    "bc": "behaviour cloning",
    "discrete-bcq": "discrete BCQ",
    "pooled-batch-sac": "pooled batch SAC",
    "batch-pearl": "batch PEARL",
    "contextual-bcq": "contextual BCQ",
    "borel": "BOReL",
    "mql": "MQL",
    "td3-context": "TD3-context",
    "pooled-td3": "TD3",
    "time": "tiMe",
    "mbml": "MBML",
}


def evaluate(bench: Bench, tasks: tuple[Task, ...], checkpoint: protocols.Checkpoint | None) -> dict[str, Any]:
    """All tasks, episodes and snapshots. -> the arrays of the report"""
    config = bench.config
    final_key, curve_key = jax.random.split(stage_key(bench.seed, "eval"))
    acting = protocols.snapshot(bench.snapshots, checkpoint.number) if checkpoint else bench.acting
    at = checkpoint.step if checkpoint else None  # a snapshot adapts on the log as it was then
    played = bench.seat(tasks, config.episodes, final_key).final(acting, at)
    out = {
        "returns": played.returns,
        "obs": played.path,
        "value": played.value.mean(1),
        "discounted_return": played.discounted.mean(1),
    }
    out |= {"episode_returns": played.each} if played.each is not None else {}
    out |= {"episode_success": played.success} if played.success is not None else {}
    out |= {"checkpoint_return": checkpoint.returns} if checkpoint else {}
    out |= adapting.arrays(played.adapted) if played.adapted else {}
    steps = bench.steps if config.curve_episodes else np.zeros(0, np.int32)
    curve = {name: np.zeros((0, len(tasks)), np.float32) for name in ("return", "value", "discounted")}
    if len(steps):
        seen = bench.along(tasks, config.curve_episodes, curve_key)
        found = [[protocols.means(getattr(one, name)) for one in seen] for name in ("returns", "value", "discounted")]
        curve = {name: np.stack(values) for name, values in zip(curve, found, strict=True)}
        curve |= adapting.curves([one.adapted for one in seen]) if played.adapted else {}
    return out | {"curve_step": steps} | {f"curve_{name}": values for name, values in curve.items()}


def label_of(config: Any, extra: Any) -> str:
    """What tables call a policy, by its card's `extra`."""
    label, trained = LABELS.get(extra["algorithm"], extra["algorithm"]), extra.get("trained")
    label = "PEARL" if (extra["algorithm"], trained) == ("batch-pearl", "online") else label
    label = "BOReL online" if (extra["algorithm"], trained) == ("borel", "online") else label
    return str(config.label or (f"{label} offline" if trained == "offline" else label))


def run(work: Work) -> Product:
    """Evaluates `inputs["policy"]`, probes it, or both. Raises UsageError for a split without tasks."""
    config: Any = work.config
    policy = work.inputs["policy"]
    made = policy.card.extra
    if "relabelled" in work.inputs and "probe" not in work.inputs:
        raise UsageError("a relabelled-log is what the probe reads rewards of", "--probe REF")
    if config.protocol == "probe":
        return probing.product(work, label_of(config, made))
    if config.protocol == "look":
        return looking.product(work, label_of(config, made))
    if "belief" in work.inputs:
        raise UsageError("a belief-model is asked what it makes of a trial that is looked at", "--protocol look")
    family = registry.find(made["family"], evaluation=True)
    of = made.get("split", "train")  # of a log's own agents
    tasks = tasks_of(family, config.split, (task["id"] for task in policy.card.tasks), of)
    label = label_of(config, made)
    bench = Bench(config, work.seed, policy, family, work.inputs.get("context"), work.inputs.get("log"))
    bench.check_context(tasks, label)  # what may refuse goes before what takes long
    probed = probing.beside(work, label)
    checkpoint = bench.choose()
    arrays = evaluate(bench, tasks, checkpoint)
    if bench.adapter and (said := bench.adapter.too_few(tasks, arrays["adapt_rows"])):
        work.tell.note(said)
    references = [family.references(task) for task in tasks]
    for name in ("random", "oracle", "ceiling"):
        arrays[f"{name}_return"] = np.asarray([one[name] for one in references], np.float64)
    context, adapter = bench.context, bench.adapter
    given = context or adapter
    extra = {
        "label": label,
        "family": family.name,
        **own.on_card(family.name),
        "split": config.split,
        "protocol": protocols.in_words(config, given.words if given else ""),
        "episodes": config.episodes,
        "horizon": family.horizon,
        "discount": family.discount,
        **protocols.on_card(config, context.on_card() if context else None, checkpoint),
    }
    extra |= {"adapt": adapter.on_card()} if adapter else {}
    metrics = scores(arrays, tasks)
    if known := of_trials(config, family, tasks):
        extra["trial_references"] = known
        metrics["bayes_fraction"] = float(arrays["episode_returns"].sum(-1).mean()) / known["bayes"]
    if probed is not None:
        arrays["probe"], extra["probe"] = probed.arrays, probed.said
        metrics |= probed.metrics
    return Product(arrays, metrics, [task.to_json() for task in tasks], extra, name=slug(label, "eval"))


def of_trials(config: Any, family: TaskFamily, tasks: tuple[Task, ...]) -> dict[str, float]:
    """What is known exactly of trials of k episodes, of all tasks of the split together: empty for other protocols,
    families and tasks."""
    if config.protocol != "episodes" or family.trial_references is None or tasks != family.tasks(config.split):
        return {}
    return family.trial_references(config.trial_episodes)


def scores(arrays: dict[str, Any], tasks: tuple[Task, ...]) -> dict[str, float]:
    """Mean return; of trials that of each episode, their sum and how often each reached the goal; (J - J_random) /
    (J_oracle - J_random) per task and on average where both are known; value gap."""
    low, high = arrays["random_return"], arrays["oracle_return"]
    found = {"return": float(arrays["returns"].mean())} | adapting.metrics(arrays)
    if (each := arrays.get("episode_returns")) is not None:
        found |= {f"return/episode {k + 1}": float(each[..., k].mean()) for k in range(each.shape[-1])}
        found["return/sum"] = float(each.sum(-1).mean())
    if (reached := arrays.get("episode_success")) is not None:
        found |= {f"success/episode {k + 1}": float(reached[..., k].mean()) for k in range(reached.shape[-1])}
    if np.isfinite(high - low).all():
        score = (arrays["returns"].mean(1) - low) / (high - low)
        per_task = {f"score/{task.name}": float(one) for task, one in zip(tasks, score, strict=True)}
        found = {"score": float(score.mean())} | found | per_task
    gap = arrays["value"] - arrays["discounted_return"]
    size = abs(float(arrays["discounted_return"].mean()))
    return found | ({"value_gap": float(gap.mean()) / size} if np.isfinite(gap).all() and size > 0 else {})
