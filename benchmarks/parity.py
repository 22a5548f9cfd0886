"""The C engine beside Gymnasium's v5 environments: `python -m benchmarks.parity` writes results/parity.md.

Random transitions of each environment are looked at in three ways:
  formulas     our observation, reward terms and termination on Gymnasium's own data before and after its step
  one step     qpos and qvel after one control step from the same state, the solver's warm start zero on both sides
  transitions  what Gymnasium returned (it keeps the warm start) beside what our engine returns from the same state
"""

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import mujoco
import numpy as np

from benchmarks.spread import table
from pipelines.tasks import locomotion, mujoco_engine
from pipelines.tasks.bodies import ant, cheetah, hopper, humanoid, walker
from pipelines.tasks.body import Body, View

RESULT = Path(__file__).parent / "results" / "parity.md"
SHOWN = {"torso": "xpos", "com": "subtree_com"}  # MjData's names for View's
LAGGING = ("torso", "com", "cinert", "cvel")
FIRST = {"torso": 1, "com": 0}


class Rival(NamedTuple):
    """A Gymnasium environment and our body in its configuration.

    `columns` of our observation are Gymnasium's, in its order; `clip` is where Gymnasium cuts velocities and we do not.
    `reward` of ours has Gymnasium's coefficients, on a task that points along x, and pays `alive` to the fallen, too.
    """

    env: str
    body: Callable[[str], Body]  # cartesian -> Body
    reward: locomotion.Reward
    task: tuple[float, ...]
    columns: np.ndarray
    control: float = 1.0  # controls are this times the action
    alive: float = 0.0
    clip: float = np.inf
    deviations: tuple[str, ...] = ()


def _ant(cartesian: str) -> Body:
    return ant.make("velocity", True, cartesian, "computed")


def _walker(cartesian: str) -> Body:
    body = walker.make(cartesian, masses="modern", control_step=0.008)
    return dataclasses.replace(body, mjcf="walker2d_v5.xml", factors=None)


def _running(cost: float, alive: float) -> locomotion.Reward:
    """v + alive - cost |u|^2"""
    return lambda task, obs, action, next_obs, outcome: outcome[..., 0] + alive - cost * locomotion.effort(action)


RIVALS = {
    "halfcheetah": Rival(
        *("HalfCheetah-v5", cheetah.make, _running(0.1, 0.0), (0.0,), np.arange(17)),
        deviations=("obs: the torso's position is added (20 for 17)", "control cost 0.05 for 0.1"),
    ),
    "hopper": Rival(
        *("Hopper-v5", hopper.make, _running(1e-3, 1.0), (0.0,), np.arange(11)),
        alive=1.0,
        clip=10.0,
        deviations=("obs: the torso's position is added (14 for 11)", "obs: velocities are not cut to +-10"),
    ),
    "ant": Rival(
        *("Ant-v5", _ant, locomotion.direction_reward(1.0, 1.0, 0.5), (0.0,)),
        np.delete(np.arange(111), np.arange(27, 33)),
        alive=1.0,
        deviations=("obs: contact forces include the world's, always zero (111 for 105)",),
    ),
    "walker": Rival(
        *("Walker2d-v5", _walker, locomotion.walker_reward, (0.0,), np.arange(17)),
        alive=1.0,
        deviations=("control step 0.016 s for 0.008 s", "right foot's friction 0.9 for 1.9", "masses of MuJoCo 1.31"),
    ),
    "humanoid": Rival(
        *("Humanoid-v5", lambda cartesian: humanoid.make(cartesian, "computed")),
        *(locomotion.direction_reward(1.25, 5.0, 0.1, humanoid.CONTROL), (0.0,)),
        # the world's cinert [45:55], cvel [185:191], cfrc_ext [292:298] and the root's qfrc_actuator [269:275]
        np.delete(np.arange(376), np.r_[45:55, 185:191, 269:275, 292:298]),
        control=humanoid.CONTROL,
        alive=5.0,
        deviations=("obs: the world's and the root's entries, always zero, are added (376 for 348)",),
    ),
}
SHARED = (
    "alive bonuses are paid to the fallen, too: Gymnasium v5 pays them to the healthy only",
    "Cartesian quantities are of the state observed (cartesian=exact), not of one on the way to it",
    "the solver's warm start is zero at every control step",
)


class Recorded(NamedTuple):
    """N transitions of a Gymnasium environment."""

    before: View  # [N, ...]
    after: View
    state: np.ndarray  # [N, S] full physics before
    action: np.ndarray  # [N, A] in [-1, 1]
    obs: np.ndarray  # [N, O'] Gymnasium's, after
    reward: np.ndarray  # [N]
    terminated: np.ndarray  # [N]
    info: list[dict[str, Any]]
    model: Any
    dt: float


def _see(data: Any, needs: frozenset[str]) -> View:
    fields = {"torso", *needs}
    values = {name: np.array(getattr(data, SHOWN.get(name, name))) for name in fields}
    values |= {name: value[FIRST[name]] for name, value in values.items() if name in FIRST}
    return View(data.qpos.copy(), data.qvel.copy(), **values)


def _stacked(views: list[View]) -> View:
    return View(*(None if column[0] is None else np.stack(column) for column in zip(*views, strict=True)))


def record(rival: Rival, count: int, seed: int = 0) -> Recorded:
    """`count` transitions under uniform actions. Every other episode goes on after its end, to see the fallen."""
    mujoco_engine.quiet()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = gymnasium.make(rival.env, max_episode_steps=200).unwrapped
    rng, needs = np.random.default_rng(seed), rival.body("lagged").needs
    rows, fallen = [], 0
    env.reset(seed=seed)
    for n in range(count):
        state = np.empty(mujoco.mj_stateSize(env.model, mujoco_engine.PHYSICS))
        mujoco.mj_getState(env.model, env.data, state, mujoco_engine.PHYSICS)
        before, action = _see(env.data, needs), rng.uniform(-1, 1, env.model.nu)
        obs, reward, terminated, _, info = env.step(rival.control * action)
        rows.append((before, _see(env.data, needs), state, action, obs, reward, terminated, info))
        fallen += terminated
        if n % 200 == 199 or (terminated and fallen % 2 == 0):
            env.reset(seed=seed + n)
    env.close()
    before, after, *arrays, info = zip(*rows, strict=True)
    state, action, obs, reward, terminated = map(np.stack, arrays)
    return Recorded(
        *(_stacked(list(before)), _stacked(list(after)), state, action, obs, reward, terminated),
        *(list(info), env.model, env.dt),
    )


def formulas(rival: Rival, seen: Recorded) -> dict[str, float]:
    """Largest differences of our functions on Gymnasium's data, by what they compute; `ended` counts disagreements."""
    body, tasks = rival.body("lagged"), np.tile(rival.task, (len(seen.action), 1))
    obs = body.observe(seen.after)
    outcome = body.measure(seen.before, seen.after, seen.dt)
    reward = rival.reward(tasks, body.observe(seen.before), seen.action, obs, outcome)
    healthy = np.ones(len(obs), bool) if body.healthy is None else body.healthy(seen.after)
    found = {
        "obs": np.abs(np.clip(obs[:, rival.columns], -rival.clip, rival.clip) - seen.obs).max(),
        "reward": np.abs(reward - rival.alive * ~healthy - seen.reward).max(),
        "ended": float((healthy == seen.terminated).sum()),
    }
    terms = {"x_velocity": outcome[:, 0]}
    if len(body.outcome) == 3:
        terms |= {"y_velocity": outcome[:, 1], "reward_contact": -outcome[:, 2]}
    for name, value in terms.items():
        found[name] = np.abs(value - [info[name] for info in seen.info]).max()
    return {name: float(value) for name, value in found.items()}


def one_step(rival: Rival, seen: Recorded) -> dict[str, float]:
    """Largest differences of qpos and qvel after one control step from the same states, without a warm start."""
    body = rival.body("exact")
    own = mujoco_engine.model_of(body)
    mover = mujoco_engine.physics(body, [own] * len(seen.action), 2)
    ours, _ = mover.advance(seen.state, rival.control * seen.action)
    mover.close()
    data, theirs = mujoco.MjData(seen.model), np.empty_like(ours)
    for n, (state, action) in enumerate(zip(seen.state, seen.action, strict=True)):
        mujoco.mj_setState(seen.model, data, state, mujoco_engine.PHYSICS)
        data.qacc_warmstart[:] = 0
        data.ctrl[:] = rival.control * action
        mujoco.mj_step(seen.model, data, nstep=body.frame_skip)
        mujoco.mj_getState(seen.model, data, theirs[n], mujoco_engine.PHYSICS)
    gap = np.abs(ours - theirs)[:, 1:]
    nq = own.nq
    return {"qpos": float(gap[:, :nq].max()), "qvel": float(gap[:, nq:].max())}


@dataclass(frozen=True)
class Gap:
    """Differences of whole transitions: the median and the largest over rows of the largest over columns."""

    median: float
    most: float

    @classmethod
    def of(cls, gaps: np.ndarray) -> "Gap":
        return cls(float(np.median(gaps)), float(gaps.max()))

    def __str__(self) -> str:
        return f"{self.median:.1e} / {self.most:.1e}"


def transitions(rival: Rival, seen: Recorded, cartesian: str) -> dict[str, Gap]:
    """Gymnasium's transitions beside our engine's from the same states, observations and rewards."""
    body, tasks = rival.body(cartesian), np.tile(rival.task, (len(seen.action), 1))
    nominal = mujoco_engine.model_of(body)
    with mujoco_engine.Bodies(body, nominal, tasks, rival.reward) as simulator:
        anchors = [getattr(seen.before, name) for name in ("torso", "com") if getattr(seen.before, name) is not None]
        if cartesian == "exact":  # where the torso and the mass centre are now, not where they were shown
            looked = mujoco_engine.physics(body, [nominal] * len(seen.action), 2)
            view = looked.look(seen.state, np.arange(len(seen.action)))
            looked.close()
            anchors = [getattr(view, name) for name in ("torso", "com") if getattr(view, name) is not None]
        simulator.restore(np.concatenate([seen.state, *anchors, body.observe(seen.before)], -1))
        stepped = simulator.step(seen.action)
    clipped = np.clip(stepped.obs[:, rival.columns], -rival.clip, rival.clip)
    reward = stepped.reward - rival.alive * stepped.terminal
    return {
        "obs": Gap.of(np.abs(clipped - seen.obs).max(-1)),
        "reward": Gap.of(np.abs(reward - seen.reward)),
    }


def lag(rival: Rival, seen: Recorded) -> dict[str, Gap]:
    """By how much Cartesian quantities differ from those of the state observed when they are shown as mj_step leaves
    them: of the state one sub-step earlier (Euler: cheetah), or of the last trial position (RK4: the others)."""
    views = {}
    for cartesian in ("lagged", "exact"):
        body = rival.body(cartesian)
        mover = mujoco_engine.physics(body, [mujoco_engine.model_of(body)] * len(seen.action), 2)
        views[cartesian] = mover.advance(seen.state, rival.control * seen.action)[1]
        mover.close()
    found = {}
    for field in LAGGING:
        pair = [getattr(views[cartesian], field) for cartesian in ("lagged", "exact")]
        if pair[0] is not None:
            found[field] = Gap.of(np.abs(pair[0] - pair[1]).reshape(len(seen.action), -1).max(-1))
    return found


def compare(name: str, count: int = 1_000) -> dict[str, Any]:
    """All three ways on one body."""
    rival = RIVALS[name]
    seen = record(rival, count)
    return {
        "formulas": formulas(rival, seen),
        "one step": one_step(rival, seen),
        "lagged": transitions(rival, seen, "lagged"),
        "exact": transitions(rival, seen, "exact"),
        "lag": lag(rival, seen),
        "ended": int(seen.terminated.sum()),
    }


def page(found: dict[str, dict[str, Any]], count: int) -> str:
    """The three tables, and what the papers' versions have that Gymnasium's have not."""
    checks = [
        [
            name,
            RIVALS[name].env,
            *(f"{row['formulas'][key]:.0e}" for key in ("obs", "reward", "x_velocity")),
            f"{row['formulas']['ended']:.0f} of {row['ended']}",
            *(f"{row['one step'][key]:.0e}" for key in ("qpos", "qvel")),
        ]
        for name, row in found.items()
    ]
    whole = [
        [name, *(str(row[cartesian][key]) for cartesian in ("lagged", "exact") for key in ("obs", "reward"))]
        for name, row in found.items()
    ]
    late = [[name, *(str(row["lag"].get(field, "-")) for field in LAGGING)] for name, row in found.items()]
    header = ["body", "Gymnasium", "obs", "reward", "velocity", "ends that differ", "qpos", "qvel"]
    listed = [f"- {name}: {'; '.join(RIVALS[name].deviations)}" for name in found]
    return "\n".join(
        [
            f"# The C engine beside Gymnasium {gymnasium.__version__}, mujoco {mujoco.__version__}",
            f"\n{count:,} random transitions each. Our formulas on Gymnasium's data, and one control step from the",
            "same state with a zero warm start on both sides: the largest differences.\n",
            f"```\n{table(header, checks)}\n```",
            "\nWhole transitions: what Gymnasium returned beside what our engine returns from the same state, median",
            "/ largest difference. Gymnasium keeps the solver's warm start, and shows Cartesian quantities that lag.\n",
            f"```\n{table(['body', 'obs, lagged', 'reward, lagged', 'obs, exact', 'reward, exact'], whole)}\n```",
            "\ncartesian=lagged beside cartesian=exact: median / largest difference of what is shown, in SI units.",
            "mj_step leaves what it had one sub-step earlier (Euler: halfcheetah), or at the last of four trial",
            "positions (RK4: the others).\n",
            f"```\n{table(['body', *LAGGING], late)}\n```",
            "\nWhat the papers' versions have otherwise than Gymnasium's:\n",
            *(f"- all: {line}" for line in SHARED),
            *listed,
            "",
        ]
    )


def main(count: int = 1_000) -> None:
    text = page({name: compare(name, count) for name in RIVALS}, count)
    RESULT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
