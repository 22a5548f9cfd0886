"""Small logs, small nets and a `Work` that lives in memory: what the tests of the learning rooms share."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.algos import borel, mbml_batch
from pipelines.algos.belief import make_encoder
from pipelines.algos.distilled import teaching
from pipelines.algos.time import Data
from pipelines.core.configs.base import Config, resolve
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.samplers import Pool
from pipelines.core.trees import stack_logs, task_leaf
from pipelines.core.types import (
    Algorithm,
    Log,
    Relabelled,
    Space,
    Task,
)
from pipelines.core.work import Product, Work
from pipelines.stages import belief_view, learners
from pipelines.stages.belief import located
from pipelines.stages.presets import PRESETS
from pipelines.stages.registry import STAGES

SPACE = Space(obs_shape=(3,), action_shape=(2,), low=(-1.0, -1.0), high=(1.0, 1.0))
GRID = Space(obs_shape=(3,), action_shape=(), num_actions=4, action_dtype="int32")
DISCOUNT = 0.9

# ---- logs ------------------------------------------------------------------------------------------------------------


def make_log(
    seed: int, lengths: Sequence[int] = (4, 3, 5), terminal: Sequence[int] = (1,), space: Space = SPACE
) -> Log:
    """One task's log in numpy: episodes of `lengths` rows, those numbered in `terminal` end so, the others are cut.

    Everything is random; rewards follow the row number n as 10 n + noise, so that a row can be told by its reward.
    """
    rng = np.random.default_rng(seed)
    num_rows, ends = sum(lengths), np.cumsum(lengths) - 1
    episode = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    is_end = np.isin(np.arange(num_rows), ends)
    dies = np.isin(episode, terminal) & is_end
    return Log(
        obs=rng.normal(size=(num_rows + len(lengths), *space.obs_shape)).astype(np.float32),
        action=rng.uniform(-1, 1, (num_rows, *space.action_shape)).astype(np.float32)
        if space.num_actions is None
        else rng.integers(0, space.num_actions, num_rows).astype(np.int32),
        reward=(10 * np.arange(num_rows) + rng.uniform(-1, 1, num_rows)).astype(np.float32),
        terminal=dies,
        truncated=is_end & ~dies,
        outcome=np.zeros((num_rows, 0), np.float32),
        episode=episode,
        step=np.concatenate([np.arange(length) for length in lengths]).astype(np.int32),
        behaviour=np.zeros(num_rows, np.int32),
        size=np.int32(num_rows),
    )


def stacked(*logs: Log) -> Log:
    """Logs of several tasks as the stages stack them: `[T, ...]`, shorter ones padded."""
    return stack_logs([log._asdict() for log in logs])


def at(tree: Any, *index: Any) -> Any:
    """What stands there in every leaf."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def spoiled(tree: Any) -> Any:
    """The same tree with NaN for every real number."""
    return jax.tree.map(
        lambda leaf: np.full_like(leaf, np.nan) if np.issubdtype(leaf.dtype, np.floating) else leaf, tree
    )


# ---- algorithms ------------------------------------------------------------------------------------------------------

_SAC = {"hidden": (8,), "batch_size": 6}
_BELIEF = {"latent_dim": 2, "width": 6, "embed_action": 3, "embed_obs": 4, "embed_reward": 3}
_BOREL = {**_SAC, "tasks_per_update": 2, "belief": _BELIEF}
AGENTS: dict[str, dict[str, Any]] = {  # `borel/cql`: the algorithm borel, with differences
    "sac": _SAC,
    "td3": _SAC,
    "dqn": {**_SAC, "explore_steps": 10},
    "batch-sac": _SAC,
    "bcq": {**_SAC, "vae_hidden": (8,), "num_candidates": 3},
    "cql": {**_SAC, "num_actions": 2},
    "td3bc": _SAC,
    "iql": _SAC,
    "ddpg": _SAC,
    "bc": _SAC,
    "discrete-bcq": _SAC,
    "pooled-batch-sac": _SAC,
    "batch-pearl": {**_SAC, "latent_dim": 3, "encoder_hidden": (8,), "context_size": 4},
    "contextual-bcq": {
        **_SAC,
        "vae_hidden": (8,),
        "num_candidates": 3,
        "identity_dim": 3,
        "encoder_hidden": (8,),
        "context_size": 4,
    },
    "mql": {**_SAC, "context_dim": 3, "history": 2},
    "td3-context": {**_SAC, "context_dim": 3, "history": 2},
    "pooled-td3": _SAC,
    "time": {
        "latent_dim": 3,
        "context_size": 2,
        "encoder_hidden": (8,),
        "embed_hidden": (8,),
        "embed_dim": 4,
        "predictor_hidden": (8,),
        "q_hidden": (8,),
        "batch_size": 6,
        "num_shots": 5,
    },
    "mbml": {
        "latent_dim": 3,
        "context_size": 4,
        "foreign_size": 5,
        "num_contexts": 2,
        "encoder_hidden": (8,),
        "q_hidden": (8,),
        "batch_size": 6,
        "num_candidates": 3,
        "noise_dim": 4,
        "noise_clip": 0.5,
        "perturbation_scale": 0.05,
    },
    "borel": _BOREL,
    "borel/cql": {**_BOREL, "learner": "cql", "num_actions": 2},
    "borel/dqn": _BOREL,
    "borel/end": {**_BOREL, "boundary": "end", "tasks_per_update": None},
}


def make(name: str, **fields: Any) -> Algorithm:
    """The algorithm `name` with nets of 8 units, on a family of discount DISCOUNT; where it distils, from BCQ."""
    config = {**AGENTS[name], **fields}
    taught = name == "mbml" or config.get("act") == "generator"
    asks = {"teach": teaching(make("bcq"), 0.5)} if taught else {}
    return learners.make(name.partition("/")[0], config, space_of(name), DISCOUNT, **asks)


def space_of(name: str) -> Space:
    """Where algorithm `name` acts."""
    return GRID if name in learners.DISCRETE or name == "borel/dqn" else SPACE


def logs_of(num_tasks: int, space: Space = SPACE) -> Log:
    """`num_tasks` logs of unequal sizes."""
    lengths = [(4, 3, 5), (2, 6), (1, 1, 7, 3)]
    return stacked(*(make_log(seed, lengths[seed % 3], space=space) for seed in range(num_tasks)))


def data_of(name: str) -> Any:
    """What algorithm `name` learns from: one log, or the logs of three tasks (and their teachers' values)."""
    if name.startswith("borel"):
        return believed(name)
    if name not in learners.SHARED:
        return make_log(0, space=space_of(name))
    logs = logs_of(3)
    if name not in ("time", "mbml"):
        return logs
    values = np.random.default_rng(0).normal(size=logs.reward.shape).astype(np.float32)
    if name == "time":
        return Data(logs, values)
    return mbml_batch.Data(logs, values, teachers_of(logs), pool_of(logs))


def believed(name: str) -> Any:
    """Logs of three tasks with the beliefs of an untrained model of trials of two episodes of three steps; the second
    episode of each log dies."""
    space = space_of(name)
    logs = stacked(*(make_log(seed, (3,) * (4 + seed), space=space) for seed in range(3)))
    encoder = make_encoder(resolve(BeliefConfig, _BELIEF), space)
    coder = jax.tree.map(np.asarray, encoder.init(jax.random.key(2)))
    where = located(logs, [Task(n, str(n), "train", {}) for n in range(3)], 2, 3)
    found = belief_view.views(encoder, coder, space, logs, where, 2 * 3)
    return borel.Data(logs, found, coder)


def teachers_of(logs: Log) -> Any:
    """Untrained BCQ teachers of the tasks of `logs`."""
    algorithm = make("bcq")
    keys = jax.random.split(jax.random.key(1), len(logs.size))
    return jax.tree.map(np.asarray, algorithm.acting(jax.jit(jax.vmap(algorithm.init))(keys, logs)))


def pool_of(logs: Log, rows_per_pair: int = 3) -> Pool:
    """The first rows of every other task's log under each task's reward, which is 1000 (i + 1) + 100 (j + 1) + row."""
    count, some = len(logs.size), np.arange(rows_per_pair, dtype=np.int32)
    others = [[j for j in range(count) if j != i] for i in range(count)]
    task = np.repeat(np.array(others, np.int32), rows_per_pair, 1)
    row = np.tile(some, (count, count - 1))
    paid = 1_000 * (1 + np.arange(count)[:, None]) + 100 * (1 + task) + row
    nothing = np.zeros_like(row)
    empty = np.zeros((*row.shape, 0), np.float32)
    found = Relabelled(nothing, task, row, paid.astype(np.float32), nothing.astype(np.float32), empty, nothing - 1)
    size = np.where(np.eye(count, dtype=bool), 0, rows_per_pair).astype(np.int32)
    return Pool(*jax.tree.map(jnp.asarray, (found, (np.cumsum(size, 1) - size).astype(np.int32), size)))


# ---- stages ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stored:
    """An artifact that lives in memory."""

    card: Any
    tree: dict[str, Any]

    def arrays(self, only: Collection[str] | None = None) -> dict[str, Any]:
        return self.tree if only is None else {name: self.tree[name] for name in only if name in self.tree}

    def file(self, name: str) -> Path:
        raise FileNotFoundError(name)


@dataclass
class Talk:
    """Keeps what a stage says."""

    rows: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    headlines: list[str] = field(default_factory=list)

    def metrics(self, step: int, values: Any) -> None:
        self.rows.append((step, dict(values)))

    def progress(self, done: int, total: int, unit: str, headline: str = "") -> None:
        self.headlines.append(headline)

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass
class Memory:
    """A checkpoint in numpy: what goes in is copied, as a disk would. `every`: how many blocks until one is due."""

    every: int | None = None
    kept: list[tuple[int, list[np.ndarray]]] = field(default_factory=list)
    asked: int = 0
    parts: dict[int, "Memory"] = field(default_factory=dict)

    def part(self, number: int) -> "Memory":
        return self.parts.setdefault(number, Memory(self.every))

    def load(self, target: Any) -> tuple[int, Any] | None:
        if not self.kept:
            return None
        cursor, leaves = self.kept[-1]
        return cursor, jax.tree.unflatten(jax.tree.structure(target), [leaf.copy() for leaf in leaves])

    def save(self, cursor: int, tree: Any) -> None:
        self.kept.append((cursor, [np.array(leaf) for leaf in jax.tree.leaves(tree)]))

    def due(self) -> bool:
        self.asked += 1
        return self.every is not None and self.asked % self.every == 0


def work(stage: str, inputs: Any, *layers: Any, seed: int = 0, checkpoint: Any = None, tell: Any = None) -> Work:
    """A run of `stage` on its `tiny` preset with `layers` over it."""
    config = resolve(STAGES[stage].config, PRESETS[stage]["tiny"], *layers)
    return Work(config, seed, inputs, checkpoint or Memory(), tell or Talk())


def stored(stage: str, product: Product, config: Config, seed: int = 0) -> Stored:
    """`product` as the artifact that the next stage is given."""
    card = SimpleNamespace(
        kind=STAGES[stage].produces,
        id=stage,
        digest=f"bits of {stage}",
        seed=seed,
        tasks=list(product.tasks),
        extra=dict(product.extra),
        config=config.model_dump(mode="json"),
        arrays=shapes_of(product.arrays),
    )
    return Stored(card, product.arrays)


def log_of(artifact: Stored, task: int = 0) -> Log:
    """One task's log out of a replay-log."""
    columns = artifact.tree[task_leaf(task)]
    return Log(**{name: columns[name] for name in Log._fields})


def bits(made: Any) -> dict[str, bytes]:
    """path -> the bytes of each array of an artifact, or of a tree."""
    tree = made.tree if isinstance(made, Stored) else made
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in jax.tree.leaves_with_path(tree)}


def shapes_of(tree: dict[str, Any]) -> dict[str, Any]:
    """path -> what has a shape, as a card's table of arrays."""
    return {
        "/".join(str(key.key) for key in path): SimpleNamespace(shape=np.shape(leaf))
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def run(stage: str, inputs: Any = None, *layers: Any, seed: int = 0) -> Stored:
    """Runs `stage` tiny and gives its artifact."""
    order = work(stage, inputs or {}, *layers, seed=seed)
    return stored(stage, STAGES[stage].load()(order), order.config, seed)


def log_artifact(num_tasks: int = 3, family: str = "line/toy") -> Stored:
    """A replay-log of toy tasks of unequal sizes."""
    logs = [make_log(seed, (4, 3 + seed)) for seed in range(num_tasks)]
    tasks = [Task(7 * n, f"toy {n}", "train", {"x": float(n)}).to_json() for n in range(num_tasks)]
    extra = {"family": family, "space": SPACE.to_json(), "horizon": 9, "discount": DISCOUNT}
    columns = [{name: np.array(column) for name, column in log._asdict().items()} for log in logs]
    tree = {task_leaf(n): task for n, task in enumerate(columns)}
    about = {"tasks": tasks, "extra": extra, "arrays": shapes_of(tree), "config": {}}
    return Stored(SimpleNamespace(kind="replay-log", id="log", digest="bits of log", seed=0, **about), tree)
