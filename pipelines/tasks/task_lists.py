"""The published task lists, drawn again by their own generators (facts: mql 1.3, 1.4, 9; mbml 1.4, 8.3; borel 1, 7).

Every list is {split: tasks}. NumPy's legacy generator never changes its streams, so that these are the papers' numbers.
An id says which task it is whatever list it stands in: single numbers in millionths, otherwise the place in its split
plus 10,000 for each split before it (train, test, ood).

Differs:
- tiMe gives no grids: cheetah 0.05 k for k = 1..29 (30 equal segments; its three tests are midpoints), hopper 16 values
  from 0 to 2.35, ends included (all three tests unseen).
- MQL draws the ant's, humanoid's and walker's tasks with its run's seed; these are those of its seed 0.
- MBML's ood walkers: how its coin and its exponents follow one another is not known; ours toss first, group by group.
- BOReL draws a task from each run's seed and keeps no list; ours are one draw of each split, as in `navigation`: seed 0
  for training tasks, 73 (that of its evaluation) for test tasks.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

from pipelines.core.names import SPLITS
from pipelines.core.types import Task
from pipelines.tasks import navigation

Lists = dict[str, tuple[Task, ...]]
HARD = (3, 5, 8, 15, 16, 17, 23, 24, 29, 31)  # MBML's hand-picked velocities
NARROW = (0, 1, 4, 10, 12, 14, 17, 21, 26, 27)  # MBML's hand-picked directions
SECTOR = 2 * math.pi / 3


def legacy(seed: int) -> np.random.RandomState:
    """The generator that `np.random.seed(seed)` sets up."""
    return np.random.RandomState(seed)


def _numbers(name: str, unit: str, **values: Sequence[float] | np.ndarray) -> Lists:
    """Tasks of one number each."""

    def one(value: float, split: str) -> Task:
        return Task(round(value * 1_000_000), f"{value:.6g}{unit}", split, {name: value})

    return {split: tuple(one(float(value), split) for value in listed) for split, listed in values.items()}


def _goals(**values: np.ndarray) -> Lists:
    """Tasks of one point [N, 2] each."""

    def one(at: int, place: int, split: str, point: np.ndarray) -> Task:
        x, y = (float(value) for value in point)
        return Task(10_000 * at + place, f"({x:.4g}, {y:.4g})", split, {"x": x, "y": y})

    return {
        split: tuple(one(SPLITS.index(split), place, split, point) for place, point in enumerate(points))
        for split, points in values.items()
    }


def _polar(angle: np.ndarray, radius: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)


# ---- velocities ------------------------------------------------------------------------------------------------------


def cheetah_time() -> Lists:
    return _numbers("velocity", " m/s", train=np.arange(1, 30) / 20, test=[0.475, 1.075, 1.475])


def cheetah_mbml() -> Lists:
    rng = legacy(1337)
    train = rng.uniform(0, 1.5, 32)[list(HARD)]
    return _numbers("velocity", " m/s", train=train, test=rng.uniform(0.5, 1.5, 8), ood=rng.uniform(1.5, 2.5, 8))


def cheetah_borel() -> Lists:
    train, test = legacy(navigation.TRAIN_SEED).uniform(0, 3, 100), legacy(navigation.TEST_SEED).uniform(0, 3, 20)
    return _numbers("velocity", " m/s", train=train, test=test)


def cheetah_mql() -> Lists:
    drawn = legacy(1337).uniform(0, 3, 130)
    return _numbers("velocity", " m/s", train=drawn[:100], test=drawn[100:])


def hopper_time() -> Lists:
    return _numbers("velocity", " m/s", train=np.linspace(0, 2.35, 16), test=[0.2, 1.1, 2.0])


# ---- directions ------------------------------------------------------------------------------------------------------


def cheetah_dir() -> Lists:
    def both(split: str) -> tuple[Task, ...]:
        named = enumerate([("backward", -1.0), ("forward", 1.0)])
        return tuple(Task(place, name, split, {"direction": value}) for place, (name, value) in named)

    return {"train": both("train"), "test": both("test")}


def ant_fwd_back() -> Lists:
    def both(split: str) -> tuple[Task, ...]:
        named = enumerate([("forward", 0.0), ("backward", math.pi)])
        return tuple(Task(place, name, split, {"angle": value}) for place, (name, value) in named)

    return {"train": both("train"), "test": both("test")}


def directions_mbml() -> Lists:
    """The ant's and the humanoid's."""
    rng = legacy(1337)
    train = (rng.uniform(0, 1.5, 32) * math.pi)[list(NARROW)]
    test = rng.uniform(0, 1, 8) * SECTOR
    return _numbers("angle", " rad", train=train, test=test, ood=rng.uniform(2 / 3, 1, 8) * math.pi)


def humanoid_mql() -> Lists:
    drawn = legacy(0).uniform(0, 2 * math.pi, 130)
    return _numbers("angle", " rad", train=drawn[:100], test=drawn[100:])


# ---- goals -----------------------------------------------------------------------------------------------------------


def ant_goal_mbml() -> Lists:
    rng = legacy(1337)

    def drawn(count: int, low: float, high: float) -> np.ndarray:
        angle = rng.uniform(low, high, count)
        return _polar(angle, 3 * np.sqrt(rng.uniform(0, 1, count)))

    return _goals(train=drawn(10, 0, SECTOR), test=drawn(8, 0, SECTOR), ood=drawn(8, SECTOR, math.pi))


def ant_goal_mql() -> Lists:
    rng = legacy(0)
    angle = 2 * math.pi * rng.random_sample(180)
    goals = _polar(angle, 3 * np.sqrt(rng.random_sample(180)))
    return _goals(train=goals[:150], test=goals[150:])


def ant_semicircle_borel() -> Lists:
    """The point robot's angles, on the unit semicircle too."""
    return {split: navigation.semicircle_tasks(split) for split in ("train", "test")}


# ---- walker: a multiplier for every element of four arrays -----------------------------------------------------------

# field of the model, shape, base of the multiplier base^e, in the order of the draws
PARAMETERS = (
    ("mass", (8, 1), 1.5),
    ("inertia", (8, 3), 1.5),
    ("damping", (9, 1), 1.3),
    ("friction", (8, 3), 1.5),
)


def parameter_names() -> tuple[str, ...]:
    """mass/0, ..., inertia/0/x, ..., damping/0, ..., friction/0/slide, ...: 65 of them, in the order of the draws.

    Body 0 is the world and the first three degrees of freedom are undamped: their multipliers change nothing. Geom 0 is
    the floor.
    """
    parts = {"inertia": ("/x", "/y", "/z"), "friction": ("/slide", "/spin", "/roll")}
    return tuple(
        f"{name}/{row}{part}"
        for name, (count, _), _ in PARAMETERS
        for row in range(count)
        for part in parts.get(name, ("",))
    )


def _walkers(at: int, split: str, exponents: Sequence[Sequence[np.ndarray]]) -> tuple[Task, ...]:
    """`exponents`: for each task one array for each of PARAMETERS."""
    names = parameter_names()
    made = []
    for place, drawn in enumerate(exponents):
        factors = [base**e for e, (_, _, base) in zip(drawn, PARAMETERS, strict=True)]
        values = np.concatenate([factor.ravel() for factor in factors])
        params = dict(zip(names, values.tolist(), strict=True))
        made.append(Task(10_000 * at + place, f"{split} {place}", split, params))
    return tuple(made)


def walker_mql() -> Lists:
    rng = legacy(0)
    drawn = [[rng.uniform(-3, 3, shape) for _, shape, _ in PARAMETERS] for _ in range(50)]
    return {"train": _walkers(0, "train", drawn[:40]), "test": _walkers(1, "test", drawn[40:])}


def walker_mbml() -> Lists:
    def within(seed: int, count: int) -> list[list[np.ndarray]]:
        rng = legacy(seed)
        return [[rng.uniform(-2, 2, shape) for _, shape, _ in PARAMETERS] for _ in range(count)]

    rng = legacy(2337)

    def beyond(shape: tuple[int, int]) -> np.ndarray:
        return rng.uniform(-3, -2, shape) if rng.uniform() < 0.5 else rng.uniform(2, 3, shape)

    ood = [[beyond(shape) for _, shape, _ in PARAMETERS] for _ in range(8)]
    return {
        "train": _walkers(0, "train", within(1337, 30)),
        "test": _walkers(1, "test", within(2337, 8)),
        "ood": _walkers(2, "ood", ood),
    }


MAKERS = {
    "halfcheetah-vel/time": cheetah_time,
    "halfcheetah-vel/mbml": cheetah_mbml,
    "halfcheetah-vel/borel": cheetah_borel,
    "halfcheetah-vel/mql": cheetah_mql,
    "halfcheetah-dir/mql": cheetah_dir,
    "hopper-vel/time": hopper_time,
    "ant-dir/mbml": directions_mbml,
    "ant-fwd-back/mql": ant_fwd_back,
    "ant-goal/mbml": ant_goal_mbml,
    "ant-goal/mql": ant_goal_mql,
    "ant-semicircle/borel": ant_semicircle_borel,
    "humanoid-dir/mbml-m": directions_mbml,
    "humanoid-dir/mbml": directions_mbml,
    "humanoid-dir/mql": humanoid_mql,
    "walker-params/mbml": walker_mbml,
    "walker-params/mql": walker_mql,
}


@functools.cache
def lists(family: str) -> Lists:
    """{split: tasks} of `family/variant`."""
    return MAKERS[family]()
