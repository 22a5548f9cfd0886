"""The families of bodies that walk, run and hop, on either engine (facts: mql 1, 9; mbml 1, 8.3; borel 1).

v is the velocity over a control step, p the torso's place after it, u the control: the action cut to [-1, 1] and scaled
to the actuators' range. What an observation does not show of these stands in `outcome`.

Differs (each family's own differences are in its `About`):
- discount 0.99 everywhere; tiMe and MBML state it for their learners.
- quaternions of disturbed starts are unit ones, as MuJoCo made them when the papers used it.
- tiMe writes the norm of the action; we read its square, as the group's later code has it.
- references: `random` is measured on the C engine, whatever the engine; the best is not known.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import jax

from pipelines.core.families import FAMILIES
from pipelines.core.types import About, HostFamily, Scene, Shape, Space, Task, TaskFamily
from pipelines.tasks import navigation, returns, task_lists
from pipelines.tasks.bodies import ant, cheetah, hopper, humanoid, walker
from pipelines.tasks.body import Body, namespace

DISCOUNT = 0.99
GOAL_RADIUS = 0.2  # of BOReL's disc; of the marks in pictures
Reward = Callable[[Any, Any, Any, Any, Any], Any]
Options = Mapping[str, str]

# ---- rewards: (task [..., P], obs, action, next_obs, outcome) -> [...] -----------------------------------------------


def effort(action: Any, scale: float = 1.0) -> Any:
    """|u|^2 of the control that `action [..., A]` becomes. -> [...]"""
    xp = namespace(action)
    return xp.sum((scale * xp.clip(action, -1.0, 1.0)) ** 2, axis=-1)


def velocity_reward(alive: float, cost: float) -> Reward:
    """alive - |v - v*| - cost |u|^2; task [1] = (v*), outcome [1] = (v)"""

    def reward(task: Any, obs: Any, action: Any, next_obs: Any, outcome: Any) -> Any:
        return alive - namespace(outcome).abs(outcome[..., 0] - task[..., 0]) - cost * effort(action)

    return reward


def cheetah_dir_reward(task: Any, obs: Any, action: Any, next_obs: Any, outcome: Any) -> Any:
    """g v - 0.05 |u|^2; task [1] = (g), outcome [1] = (v)"""
    return task[..., 0] * outcome[..., 0] - 0.05 * effort(action)


def walker_reward(task: Any, obs: Any, action: Any, next_obs: Any, outcome: Any) -> Any:
    """v + 1 - 0.001 |u|^2, whatever the task; outcome [1] = (v)"""
    return outcome[..., 0] + 1.0 - 1e-3 * effort(action)


def direction_reward(weight: float, alive: float, cost: float, scale: float = 1.0) -> Reward:
    """weight <v, (cos g, sin g)> + alive - cost |u|^2 - contact; task [1] = (g), outcome [3] = (v_x, v_y, contact)"""

    def reward(task: Any, obs: Any, action: Any, next_obs: Any, outcome: Any) -> Any:
        xp, angle = namespace(outcome), task[..., 0]
        forward = outcome[..., 0] * xp.cos(angle) + outcome[..., 1] * xp.sin(angle)
        return weight * forward + alive - cost * effort(action, scale) - outcome[..., 2]

    return reward


def goal_reward(contacts: bool, lagged: bool, sparse: bool = False) -> Reward:
    """-|p - g|_1 - 0.1 |u|^2 - contact, or 1[|p - g| <= 0.2] - 0.1 |u|^2 where `sparse`; task [..., g_x, g_y].

    p is observed, first, unless it lags: then it is outcome [2]. Contact forces are observed, last, if there are any.
    """

    def reward(task: Any, obs: Any, action: Any, next_obs: Any, outcome: Any) -> Any:
        xp = namespace(next_obs)
        gap = (outcome if lagged else next_obs[..., :2]) - task[..., -2:]
        if sparse:
            near = xp.sum(gap**2, axis=-1) <= GOAL_RADIUS**2
            paid = xp.where(near, xp.ones_like(gap[..., 0]), xp.zeros_like(gap[..., 0]))
        else:
            paid = -xp.sum(xp.abs(gap), axis=-1)
        contact = ant.contact_cost(next_obs[..., -6 * ant.NUM_BODIES :]) if contacts else 0.0
        return paid - 0.1 * effort(action) - contact

    return reward


# ---- bodies, by what the options say ---------------------------------------------------------------------------------


def _cheetah(options: Options) -> Body:
    return cheetah.make(options["cartesian"])


def _hopper(options: Options) -> Body:
    return hopper.make(options["cartesian"])


def _walker(options: Options) -> Body:
    return walker.make(options["cartesian"], options["masses"], float(options["control_step"]))


def _ant(paid: str, contacts: bool) -> Callable[[Options], Body]:
    return lambda options: ant.make(
        paid, contacts, options["cartesian"], options["contact_forces"], masses=options["masses"]
    )


def _humanoid(options: Options) -> Body:
    return humanoid.make(options["cartesian"], options["contact_forces"], options["masses"])


STARTS = {
    "uniform": navigation.start_uniform,
    "excluding": navigation.start_excluding,
    "fixed": navigation.start_fixed,
}


def _still_ant(options: Options) -> Body:
    begin = STARTS[options["start"]]

    def places(key: Any) -> Any:
        return begin(jax.numpy.zeros(0), key)[0]

    return ant.make("place", False, options["cartesian"], masses=options["masses"], places=places)


# ---- the families ----------------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """A row of the table: what moves, what is paid, and what a listing says. `differs`: of the variants."""

    body: Callable[[Options], Body]
    reward: Callable[[Options], Reward]
    formula: str
    start: str
    ends: str
    source: str
    differs: tuple[str, ...] = ()
    scene: Callable[[Task], Scene] | None = None  # of tasks that are places; the observation then begins with x, y


def disc_scene(task: Task) -> Scene:
    """A goal somewhere within 3 of the origin."""
    goal = Shape("circle", (task.params["x"], task.params["y"], GOAL_RADIUS), "goal")
    return Scene((-3.5, -3.5), (3.5, 3.5), (goal,))


def _always(reward: Reward) -> Callable[[Options], Reward]:
    return lambda options: reward


def _ant_goal(options: Options) -> Reward:
    return goal_reward(contacts=True, lagged=options["cartesian"] == "lagged")


def _ant_semicircle(options: Options) -> Reward:
    return goal_reward(False, options["cartesian"] == "lagged", sparse=options["reward"] == "sparse")


NOISY = "standing at the origin, qpos + U(-0.1, 0.1), qvel + N(0, 0.1^2)"
STILL = "standing at the origin, qpos and qvel + U(-{0}, {0})"
NEVER = "never before the horizon"
FALLEN_ANT = "torso's height outside [0.2, 1]"
FALLEN_HUMANOID = "root's height outside [1, 2]"
ZERO_FORCES = "MBML's MuJoCo 2.0 left contact forces zero: 84 dead observations (contact_forces=zero)"
REAL_FORCES = "MQL pins no MuJoCo; contact forces as before 2.0 (contact_forces=computed)"
MQL_SEED = "MQL's tasks depend on the run's seed; these are seed 0's"
PEARL_CHEETAH = "the same 130 velocities in every run (NumPy seed 1337); horizon 200"

VELOCITY = _always(velocity_reward(0.0, 0.05))
VELOCITY_TEXT = "-|v - v*| - 0.05 |u|^2"
ANT_DIR = _always(direction_reward(1.0, 1.0, 0.5))
ANT_DIR_TEXT = "<v, (cos g, sin g)> + 1 - 0.5 |u|^2 - 0.0005 |clip(forces, -1, 1)|^2"
ANT_GOAL_TEXT = "-|p - g|_1 - 0.1 |u|^2 - 0.0005 |clip(forces, -1, 1)|^2"
HUMANOID_TEXT = "{} <v, (cos g, sin g)> + 5 - 0.1 |u|^2 - min(0.5e-6 |forces|^2, 10), u = 0.4 a, v of the mass centre"
WALKER_TEXT = "v + 1 - 0.001 |u|^2"
FALLEN_WALKER = "height outside (0.8, 2), or |pitch| >= 1"
WALKER_OLD = "masses and inertias of MuJoCo 1.31's capsules (masses=old), control step 0.016 s (control_step)"


def _humanoid_reward(weight: float) -> Callable[[Options], Reward]:
    return _always(direction_reward(weight, 5.0, 0.1, humanoid.CONTROL))


TABLE: dict[str, Kind] = {
    "halfcheetah-vel/time": Kind(
        *(_cheetah, VELOCITY, VELOCITY_TEXT, NOISY, NEVER, "tiMe 5.2"),
        ("29 velocities k/20 in (0, 1.5), tests midway; horizon 200", "the paper gives no grid and prints |u|"),
    ),
    "halfcheetah-vel/mbml": Kind(
        *(_cheetah, VELOCITY, VELOCITY_TEXT, NOISY, NEVER, "MBML 5.1"),
        ("10 hand-picked velocities, none below 0.5; horizon 1000",),
    ),
    "halfcheetah-vel/borel": Kind(
        *(_cheetah, VELOCITY, VELOCITY_TEXT, NOISY, NEVER, "BOReL 5"),
        ("velocities of U(0, 3) by our seeds, BOReL's order of draws being unknown; scored over 2 episodes of 200",),
    ),
    "halfcheetah-vel/mql": Kind(*(_cheetah, VELOCITY, VELOCITY_TEXT, NOISY, NEVER, "MQL 5.1; PEARL"), (PEARL_CHEETAH,)),
    "halfcheetah-dir/mql": Kind(
        *(_cheetah, _always(cheetah_dir_reward), "g v - 0.05 |u|^2", NOISY, NEVER, "MQL 5.1; PEARL")
    ),
    "hopper-vel/time": Kind(
        *(_hopper, _always(velocity_reward(1.0, 1e-3)), "1 - |v - v*| - 0.001 |u|^2", STILL.format(0.005)),
        *("height <= 0.7, |pitch| >= 0.2, or anything else >= 100", "tiMe 5.2"),
        ("16 velocities spaced evenly over [0, 2.35]: the paper gives no grid, and prints |u|",),
    ),
    "ant-dir/mbml": Kind(_ant("velocity", True), ANT_DIR, ANT_DIR_TEXT, NOISY, FALLEN_ANT, "MBML 5.1", (ZERO_FORCES,)),
    "ant-fwd-back/mql": Kind(
        _ant("velocity", False), ANT_DIR, ANT_DIR_TEXT, NOISY, FALLEN_ANT, "MQL 5.1; PEARL", (REAL_FORCES,)
    ),
    "ant-goal/mbml": Kind(
        *(_ant("place", True), _ant_goal, ANT_GOAL_TEXT, NOISY, NEVER, "MBML 5.1"),
        ("goals in a sector of 120 degrees, radius 3 (the paper says an arc); ood from 120 to 180", ZERO_FORCES),
        scene=disc_scene,
    ),
    "ant-goal/mql": Kind(
        *(_ant("place", True), _ant_goal, ANT_GOAL_TEXT, NOISY, NEVER, "MQL 5.1; PEARL"),
        ("goals in a disc of radius 3", MQL_SEED, REAL_FORCES),
        scene=disc_scene,
    ),
    "ant-semicircle/borel": Kind(
        _still_ant,
        _ant_semicircle,
        "1[|p - g| <= 0.2] - 0.1 |u|^2; reward=dense: -|p - g|_1 - 0.1 |u|^2",
        "standing still, xy in [-1.5, 1.5] x [-0.5, 1.5]; excluding: not where 0.8 <= |xy| <= 1.2; fixed: the origin",
        NEVER,
        "BOReL 5",
        ("29 observations, no contact forces", "angles by our seeds, BOReL's order of draws being unknown"),
        scene=navigation.semicircle_scene,
    ),
    "humanoid-dir/mbml-m": Kind(
        *(_humanoid, _humanoid_reward(6.25), HUMANOID_TEXT.format(6.25), STILL.format(0.01), FALLEN_HUMANOID),
        "MBML 5.1",
        ("the forward term is 5 times MQL's, so that the direction matters beside + 5", ZERO_FORCES),
    ),
    "humanoid-dir/mbml": Kind(
        *(_humanoid, _humanoid_reward(1.25), HUMANOID_TEXT.format(1.25), STILL.format(0.01), FALLEN_HUMANOID),
        "MBML's code",
        (ZERO_FORCES,),
    ),
    "humanoid-dir/mql": Kind(
        *(_humanoid, _humanoid_reward(1.25), HUMANOID_TEXT.format(1.25), STILL.format(0.01), FALLEN_HUMANOID),
        "MQL 5.1; PEARL",
        (MQL_SEED, REAL_FORCES),
    ),
    "walker-params/mbml": Kind(
        *(_walker, _always(walker_reward), WALKER_TEXT, STILL.format(0.005), FALLEN_WALKER, "MBML 5.1"),
        ("exponents U(-2, 2), ood 2 <= |e| <= 3", WALKER_OLD),
    ),
    "walker-params/mql": Kind(
        *(_walker, _always(walker_reward), WALKER_TEXT, STILL.format(0.005), FALLEN_WALKER, "MQL 5.1; PEARL"),
        ("exponents U(-3, 3)", MQL_SEED, WALKER_OLD),
    ),
}


def place(obs: Any) -> Any:
    return obs[..., :2]


def build(name: str, options: Options) -> TaskFamily:
    """The family `family/variant` on the engine that its options name."""
    kind, lists = TABLE[name], task_lists.lists
    body = kind.body(options)
    ones = (1.0,) * body.action_dim

    def tasks(split: str) -> tuple[Task, ...]:
        return lists(name).get(split, ())

    common: dict[str, Any] = {
        "name": name,
        "space": Space((body.obs_dim,), (body.action_dim,), low=tuple(-one for one in ones), high=ones),
        "horizon": FAMILIES[name].horizon,
        "discount": DISCOUNT,
        "tasks": tasks,
        "reward": kind.reward(options),
        "outcome": body.outcome,
        "terminates": body.healthy is not None,
        "dynamics": body.factors is not None,
        "about": About(kind.formula, kind.start, kind.ends, kind.source, kind.differs),
        "references": returns.random_only(functools.partial(_on_the_c_engine, name, tuple(options.items()))),
        "position": place if kind.scene else None,
        "scene": kind.scene,
        "goal_reward": 0.0 if options.get("reward") == "sparse" else None,  # off the goal effort alone is paid for
    }
    if options["engine"] == "mujoco":
        from pipelines.tasks import mujoco_engine

        return mujoco_engine.family(common, body, options)
    from pipelines.tasks import brax_engine

    return cast(TaskFamily, brax_engine.family(common, body, options))


@functools.cache
def _on_the_c_engine(name: str, options: tuple[tuple[str, str], ...]) -> HostFamily:
    return cast(HostFamily, build(name, {**dict(options), "engine": "mujoco"}))
