"""Evaluations of the point family as the eval stage would store them, from agents whose behaviour is written down here.

Not trained: a test of the report needs to know the answer. `toward` walks to its own goal, `blind` to one place that it
takes for every task, with a critic that promises more than it gets.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from pipelines.core.work import Checkpoint, Work

HORIZON, DISCOUNT, EPISODES = 20, 0.95, 8
Agent = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # goals [T, 2] -> where it walks to [T, P, 2]


@dataclass(frozen=True)
class Stored:
    """An artifact that lives in memory."""

    card: Any
    tree: dict[str, Any]

    def arrays(self) -> dict[str, Any]:
        return self.tree

    def file(self, name: str) -> Path:
        raise FileNotFoundError(name)


@dataclass
class Talk:
    """Keeps what a stage says."""

    notes: list[str] = field(default_factory=list)

    def metrics(self, step: int, values: Any) -> None: ...

    def progress(self, done: int, total: int, unit: str, headline: str = "") -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


def work(config: Any, reports: Sequence[Stored], checkpoint: Checkpoint | None = None) -> Work:
    """A run of the report stage on `reports`."""
    return Work(config, 0, {"reports": list(reports)}, checkpoint, Talk())  # type: ignore[arg-type]


def toward(noise: float = 0.4) -> Agent:
    """Ends near the goal of each task."""
    return lambda goals, rng: goals[:, None] + rng.normal(0, noise, (len(goals), EPISODES, 2))


def blind(place: tuple[float, float], noise: float = 0.3) -> Agent:
    """Ends near `place` in every task."""
    return lambda goals, rng: np.asarray(place) + rng.normal(0, noise, (len(goals), EPISODES, 2))


def walk(targets: np.ndarray) -> np.ndarray:
    """Straight to targets [..., 2] by steps of at most 1 per axis. -> [..., H + 1, 2]"""
    path = [np.zeros_like(targets)]
    for _ in range(HORIZON):
        path.append(path[-1] + np.clip(targets - path[-1], -1, 1))
    return np.stack(path, axis=-2)


def rewards(path: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Minus the distance to the goal after each move. [T, ..., H + 1, 2], [T, 2] -> [T, ..., H]"""
    away = path[..., 1:, :] - goals.reshape(len(goals), *([1] * (path.ndim - 2)), 2)
    return -np.linalg.norm(away, axis=-1)


def evaluation(
    label: str,
    agent: Agent,
    seed: int = 0,
    angles: Sequence[float] = (0.0, 90.0, 180.0),
    family: str = "point-semicircle/time",
    optimism: float = 0.05,
    snapshots: int = 9,
    oracle: bool = True,
) -> Stored:
    """One evaluation. The value estimate is the discounted return made smaller in size by the share `optimism`."""
    rng = np.random.default_rng([seed, *map(ord, label)])
    goals = 10 * np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], axis=-1)
    path = walk(agent(goals, rng))
    paid = rewards(path, goals)
    returns, discounted = paid.sum(-1), (paid * DISCOUNT ** np.arange(HORIZON)).sum(-1).mean(-1)
    best = rewards(walk(goals), goals).sum(-1)
    lost = rewards(np.zeros((len(goals), HORIZON + 1, 2)), goals).sum(-1)
    rise = 1 - np.exp(-np.linspace(0, 5, snapshots))[:, None] if snapshots else np.zeros((0, 1))
    wobble = rng.normal(0, 2.0, (snapshots, len(goals)))
    grown = lost * (1 - rise) + returns.mean(-1) * rise + wobble
    known = 1.0 if oracle else np.nan
    tree = {
        "returns": returns,
        "obs": path,
        "value": discounted * (1 - optimism),
        "discounted_return": discounted,
        "random_return": lost,
        "oracle_return": best * known,
        "ceiling_return": (lost + 0.92 * (best - lost)) * known,
        "curve_step": 500 * (1 + np.arange(snapshots)),
        "curve_return": grown,
        "curve_value": (lost * 0.3 * (1 - rise) + discounted * (1 - optimism) * rise) + wobble / 3,
        "curve_discounted": grown * (discounted / returns.mean(-1)),
    }
    tasks = [
        {"id": i, "name": f"{a:g}deg", "split": "test", "params": {"angle": a, "x": float(x), "y": float(y)}}
        for i, (a, (x, y)) in enumerate(zip(angles, goals, strict=True))
    ]
    extra = {"label": label, "family": family, "split": "test", "protocol": "zero-shot"}
    extra |= {"episodes": EPISODES, "horizon": HORIZON, "discount": DISCOUNT}
    identity = hashlib.sha256(repr((label, seed, family, optimism, oracle, snapshots)).encode()).hexdigest()[:12]
    card = SimpleNamespace(id=identity, seed=seed, tasks=tasks, extra=extra, config={})
    return Stored(card, tree)
