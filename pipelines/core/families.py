"""What there is to run on, for listings and estimates: jax-free. `pipelines.tasks.registry` builds the families.

A family is named `family/variant`, and its options follow after commas: `ant-goal/mql,engine=brax,contact_forces=zero`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from pipelines.core.configs.base import nearest
from pipelines.core.errors import UsageError

Options = Mapping[str, tuple[str, ...]]  # values by option, the default first


class Entry(NamedTuple):
    """A family's line in a listing, and the sizes that decide what a run costs."""

    help: str
    num_train: int
    num_test: int
    obs_dim: int
    action_dim: int
    horizon: int
    num_ood: int = 0
    module: str = "point"  # the file in pipelines.tasks that builds it
    options: Options = MappingProxyType({})
    # what evaluation overrules: the protocol, whatever the log was made with
    evaluation: Mapping[str, str] = MappingProxyType({})
    discrete: bool = False
    dynamics: bool = False  # whether tasks differ in their dynamics

    def num_tasks(self, split: str) -> int:
        """Of a split: train, test or ood."""
        return {"train": self.num_train, "test": self.num_test, "ood": self.num_ood}[split]


_ENGINES = ("mujoco", "brax", "brax-spring", "brax-positional", "brax-generalized")
_PLANAR: Options = {"engine": _ENGINES, "cartesian": ("exact", "lagged")}
_ZERO: Options = {**_PLANAR, "contact_forces": ("zero", "computed"), "masses": ("modern", "old")}
_COMPUTED: Options = {**_ZERO, "contact_forces": ("computed", "zero")}
_WALKER: Options = {**_PLANAR, "masses": ("old", "modern"), "control_step": ("0.016", "0.008")}
_STARTS: Options = {"start": ("uniform", "excluding", "fixed")}
_FIXED = {"start": "fixed"}


def _moving(
    help: str, train: int, test: int, obs: int, action: int, horizon: int, options: Options, ood: int = 0
) -> Entry:
    return Entry(help, train, test, obs, action, horizon, ood, "locomotion", options)


FAMILIES: dict[str, Entry] = {
    "point-semicircle/time": Entry(
        "a point, 1 of 3 goals on a semicircle of radius 10 (tiMe 5.1); test = training goals", 3, 3, 2, 2, 20
    ),
    "point-semicircle/spread": Entry(
        "the same point; 15 training goals, 14 unseen test goals at their midpoints", 15, 14, 2, 2, 20
    ),
    "point-semicircle/disjoint": Entry(
        "the same point; 2 goals whose logs hardly overlap (MBML Fig. 1); test = training goals", 2, 2, 2, 2, 20
    ),
    "point-semicircle-sparse/borel": Entry(
        "a point, paid inside a goal disc on the unit semicircle (BOReL)",
        *(80, 20, 2, 2, 60, 0, "navigation", _STARTS, _FIXED),
    ),
    "point-wind/borel": Entry(
        "a point in a constant wind, one goal; dynamics differ (BOReL)",
        *(40, 10, 2, 2, 25, 0, "navigation"),
        dynamics=True,
    ),
    "escape-room/borel": Entry(
        "a point in a round room, finds the door; dynamics differ (BOReL)",
        *(60, 5, 2, 2, 60, 0, "navigation", {"start": ("uniform", "fixed")}, _FIXED),
        dynamics=True,
    ),
    "gridworld/borel": Entry(
        "5x5 grid, 21 candidate goals, discrete actions (BOReL); test = training goals",
        *(21, 21, 2, 1, 15, 0, "gridworld", {"start": ("uniform", "fixed")}, _FIXED, True),
    ),
    "umaze-goal/mbml-m": Entry(
        "a particle in a U-shaped maze, goals in its arms (MBML)", 10, 10, 4, 2, 300, 0, "umaze"
    ),
    "reacher-image/borel": Entry(
        "a 2-link arm seen as 3 grey 64x64 frames, target on a quarter circle (BOReL)",
        40,
        10,
        12_288,
        2,
        100,
        0,
        "reacher",
    ),
    "halfcheetah-vel/time": _moving("cheetah, target velocity in [0, 1.5] (tiMe 5.2)", 29, 3, 20, 6, 200, _PLANAR),
    "halfcheetah-vel/mbml": _moving("cheetah, target velocity, 'hard' (MBML)", 10, 8, 20, 6, 1000, _PLANAR, 8),
    "halfcheetah-vel/borel": _moving("cheetah, target velocity in [0, 3] (BOReL)", 100, 20, 20, 6, 200, _PLANAR),
    "halfcheetah-vel/mql": _moving("cheetah, target velocity in [0, 3] (MQL, PEARL)", 100, 30, 20, 6, 200, _PLANAR),
    "halfcheetah-dir/mql": _moving("cheetah, forward or backward (MQL); test = training", 2, 2, 20, 6, 200, _PLANAR),
    "hopper-vel/time": _moving("hopper, target velocity in [0, 2.35] (tiMe 5.2)", 16, 3, 14, 3, 1000, _PLANAR),
    "ant-dir/mbml": _moving("ant, direction within 120 degrees (MBML)", 10, 8, 111, 8, 200, _ZERO, 8),
    "ant-fwd-back/mql": _moving("ant, forward or backward (MQL); test = training", 2, 2, 27, 8, 200, _COMPUTED),
    "ant-goal/mbml": _moving("ant, goal in a sector of 120 degrees, radius 3 (MBML)", 10, 8, 113, 8, 200, _ZERO, 8),
    "ant-goal/mql": _moving("ant, goal in a disc of radius 3 (MQL, PEARL)", 150, 30, 113, 8, 200, _COMPUTED),
    "ant-semicircle/borel": _moving(
        "ant, goal on the unit semicircle; sparse or dense reward (BOReL)",
        *(80, 20, 29, 8, 200, {**_PLANAR, "reward": ("sparse", "dense"), **_STARTS, "masses": ("modern", "old")}),
    )._replace(evaluation={"start": "fixed", "reward": "sparse"}),
    "humanoid-dir/mbml-m": _moving("humanoid, direction, forward reward x 5 (MBML)", 10, 8, 376, 17, 200, _ZERO, 8),
    "humanoid-dir/mbml": _moving("humanoid, direction (MBML, not in the paper)", 10, 8, 376, 17, 200, _ZERO, 8),
    "humanoid-dir/mql": _moving("humanoid, direction (MQL, PEARL)", 100, 30, 376, 17, 200, _COMPUTED),
    "walker-params/mbml": _moving(
        "walker, mass, inertia, damping, friction vary (MBML)", 30, 8, 17, 6, 200, _WALKER, 8
    )._replace(dynamics=True),
    "walker-params/mql": _moving(
        "walker, mass, inertia, damping, friction vary (MQL, PEARL)", 40, 10, 17, 6, 200, _WALKER
    )._replace(dynamics=True),
}


class Named(NamedTuple):
    """A family's full name, taken apart. `options` holds all of them, defaults included."""

    family: str
    options: dict[str, str]

    def __str__(self) -> str:
        """Canonical: options in the listing's order, defaults left out."""
        offered = FAMILIES[self.family].options
        said = [f",{option}={self.options[option]}" for option in offered if self.options[option] != offered[option][0]]
        return self.family + "".join(said)


def parse(name: str, evaluation: bool = False) -> Named:
    """`family/variant,option=value,...`. Raises UsageError with the nearest name, option or value.

    `evaluation` applies what the protocol says of evaluation (the start, the reward) whatever the name says.
    """
    family, *assignments = name.split(",")
    if family not in FAMILIES:
        raise UsageError(f"unknown family {family!r}", nearest(family, list(FAMILIES), "families"))
    entry = FAMILIES[family]
    options = {option: values[0] for option, values in entry.options.items()}
    for assignment in assignments:
        option, _, value = assignment.partition("=")
        if option not in entry.options:
            hint = nearest(option, list(entry.options), "options") if entry.options else "it has none"
            raise UsageError(f"{family} has no option {option!r}", hint)
        if value not in entry.options[option]:
            raise UsageError(f"{option}={value} of {family}", nearest(value, list(entry.options[option]), "values"))
        options[option] = value
    return Named(family, options | (dict(entry.evaluation) if evaluation else {}))


def kernel(name: str) -> str:
    """What of a full name decides rewards and dynamics: all but where episodes begin and what computes them."""
    family, *said = (str(parse(name)) if entry_of(name) else name).split(",")
    return ",".join([family, *(one for one in said if one.partition("=")[0] not in ("start", "engine"))])


def entry_of(name: str) -> Entry | None:
    """The listing's line for a full name, None for a family that is not ours."""
    return FAMILIES.get(name.partition(",")[0])
