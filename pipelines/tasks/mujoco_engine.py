"""The C engine: B environments a call on the threads of this machine, in float64.

Every control step begins with a zero warm start of the constraint solver, so that it is a function of the physics
state alone: the same bits whatever the number of threads, the order of the batch, or which of two ways moves it.
`Rolled` is `mujoco.rollout`, the fastest, which shows qpos and qvel only; `Pooled` steps one MjData per thread and
serves where an observation or a measurement needs more, or Cartesian quantities that lag.

Physics that fails (a number that is not finite, or beyond LIMIT) never raises here: the environment goes back to where
it was and is reported as diverged.
"""

import copy
import functools
from collections import deque
from collections.abc import Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import mujoco
import mujoco.rollout
import numpy as np

from pipelines.core import platform
from pipelines.core.errors import StageFailed
from pipelines.core.types import HostFamily, Solid, Stepped
from pipelines.tasks.body import Body, View, load

PHYSICS = mujoco.mjtState.mjSTATE_FULLPHYSICS
# mj_step gives up on an acceleration beyond 1e10, which a time step of 2 ms turns into a velocity beyond this
LIMIT = 1e6
MOST_IN_CHUNK = 32  # environments that a thread takes at once
ANCHOR = ("torso", "com")  # Cartesian fields that the next velocity is measured from


def quiet() -> None:
    """Keeps mujoco from writing MUJOCO_LOG.TXT and to stdout. A failure is seen in the state instead."""
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(lambda message: None)


def models(body: Body, nominal: mujoco.MjModel, tasks: np.ndarray) -> list[mujoco.MjModel]:
    """One model per environment, shared by equal rows of `tasks` [B, P]; one for all where dynamics do not differ.

    Derived constants are not recomputed: the papers write the values straight into the model, and so does this.
    """
    if body.factors is None:
        return [nominal] * len(tasks)
    made: dict[bytes, mujoco.MjModel] = {}
    for row in tasks:
        if row.tobytes() not in made:
            model = copy.copy(nominal)
            for field, factor in body.factors(row).items():
                getattr(model, field)[:] *= factor
            made[row.tobytes()] = model
    return [made[row.tobytes()] for row in tasks]


class Physics(Protocol):
    """Moves B bodies. States are `[B, S]` in the layout of mjSTATE_FULLPHYSICS: time, qpos, qvel, ..."""

    def look(self, state: np.ndarray, rows: np.ndarray) -> View:
        """What is seen of bodies `rows` [R] that were put into `state` [R, S], without a control."""

    def advance(self, state: np.ndarray, control: np.ndarray) -> tuple[np.ndarray, View]:
        """One control step under `control` [B, nu]. -> state [B, S], view"""

    def close(self) -> None: ...


class Rolled:
    """By `mujoco.rollout`, one call per control step."""

    def __init__(self, body: Body, own: list[mujoco.MjModel], threads: int) -> None:
        self._body, self._models = body, own
        threads = min(threads, len(own))
        self._data = [mujoco.MjData(own[0]) for _ in range(threads)]
        self._rollout = mujoco.rollout.Rollout(nthread=threads if threads > 1 else 0)
        self._chunk = max(1, min(MOST_IN_CHUNK, -(-len(own) // threads)))
        size = mujoco.mj_stateSize(own[0], PHYSICS)
        self._states = np.empty((len(own), body.frame_skip, size))

    def _view(self, state: np.ndarray) -> View:
        model = self._models[0]
        qpos, qvel = state[:, 1 : 1 + model.nq], state[:, 1 + model.nq : 1 + model.nq + model.nv]
        return View(qpos, qvel, self._body.torso(qpos))

    def look(self, state: np.ndarray, rows: np.ndarray) -> View:
        return self._view(state)

    def advance(self, state: np.ndarray, control: np.ndarray) -> tuple[np.ndarray, View]:
        skip = self._body.frame_skip
        repeated = np.ascontiguousarray(np.broadcast_to(control[:, None], (len(control), skip, control.shape[-1])))
        self._rollout.rollout(
            self._models, self._data, state, repeated, nstep=skip, state=self._states, chunk_size=self._chunk
        )
        after = self._states[:, -1].copy()
        return after, self._view(after)

    def close(self) -> None:
        self._rollout.close()


class Pooled:
    """By one MjData per thread. Each thread takes chunks of environments until none is left."""

    def __init__(self, body: Body, own: list[mujoco.MjModel], threads: int) -> None:
        self._body, self._models = body, own
        self._data = [mujoco.MjData(own[0]) for _ in range(min(threads, len(own)))]
        self._pool = ThreadPoolExecutor(len(self._data))
        self._size = mujoco.mj_stateSize(own[0], PHYSICS)
        needs = body.needs | ({"torso"} if body.cartesian == "lagged" else set())
        # attribute of MjData, by field of View
        shown = {"torso": "xpos", "com": "subtree_com"}
        self._shown = {field: shown.get(field, field) for field in View._fields if field in needs}
        self._first = {"torso": 1, "com": 0}  # the row that counts: the torso is body 1, the whole tree hangs on 0
        # what mj_step leaves as it was on the way, and `_now` brings up to date
        self._late = {"com", "cinert", "cvel"} & self._shown.keys() if body.cartesian == "exact" else set()
        self._early = self._shown.keys() - self._late

    def _run(self, state: np.ndarray, rows: np.ndarray, control: np.ndarray | None) -> tuple[np.ndarray, View]:
        count, model = len(rows), self._models[0]
        after = np.empty((count, self._size))
        seen: dict[str, np.ndarray] = {}
        for field, attribute in self._shown.items():
            shape = getattr(self._data[0], attribute).shape
            seen[field] = np.empty((count, *(shape[1:] if field in self._first else shape)))
        size = max(1, min(MOST_IN_CHUNK, count // (4 * len(self._data))))
        chunks = deque(range(begin, min(begin + size, count)) for begin in range(0, count, size))

        def work(data: mujoco.MjData) -> None:
            while True:
                try:
                    chunk = chunks.popleft()
                except IndexError:
                    return
                for n in chunk:
                    own = self._models[rows[n]]
                    self._one(own, data, state[n], None if control is None else control[n])
                    mujoco.mj_getState(own, data, after[n], PHYSICS)
                    self._copy(data, seen, n, self._early)
                    if self._late:
                        self._now(own, data)
                        self._copy(data, seen, n, self._late)

        list(self._pool.map(work, self._data))
        qpos, qvel = after[:, 1 : 1 + model.nq], after[:, 1 + model.nq : 1 + model.nq + model.nv]
        return after, View(qpos, qvel, **({"torso": self._body.torso(qpos)} | seen))

    def _copy(self, data: mujoco.MjData, seen: dict[str, np.ndarray], n: int, fields: Set[str]) -> None:
        for field in fields:
            value = getattr(data, self._shown[field])
            seen[field][n] = value[self._first[field]] if field in self._first else value

    def _one(self, model: mujoco.MjModel, data: mujoco.MjData, state: np.ndarray, control: np.ndarray | None) -> None:
        mujoco.mj_setState(model, data, state, PHYSICS)
        data.qacc_warmstart[:] = 0
        if control is None:
            data.ctrl[:] = 0
            mujoco.mj_forward(model, data)
        else:
            data.ctrl[:] = control
            mujoco.mj_step(model, data, nstep=self._body.frame_skip)
        if "cfrc_ext" in self._shown:
            mujoco.mj_rnePostConstraint(model, data)

    def _now(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Positions and velocities of the state that mj_step arrived at, rather than of one on its way."""
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        if "cvel" in self._shown:
            mujoco.mj_comVel(model, data)

    def look(self, state: np.ndarray, rows: np.ndarray) -> View:
        return self._run(state, rows, None)[1]

    def advance(self, state: np.ndarray, control: np.ndarray) -> tuple[np.ndarray, View]:
        return self._run(state, np.arange(len(state)), control)

    def close(self) -> None:
        self._pool.shutdown()


def physics(body: Body, own: list[mujoco.MjModel], threads: int) -> Physics:
    """The faster of the two that shows what `body` needs."""
    return (Pooled if body.needs or body.cartesian == "lagged" else Rolled)(body, own, threads)


class Bodies:
    """The Simulator: a body per row of `tasks` [B, P]. `state` is physics, then where the next velocity is measured
    from, then the observation: contact forces are of the step that was made, and cannot be had from the physics."""

    def __init__(
        self,
        body: Body,
        nominal: mujoco.MjModel,
        tasks: np.ndarray,
        reward: Any,
        threads: int | None = None,
        make: Any = physics,
    ) -> None:
        quiet()
        self._body, self._tasks, self._reward = body, np.asarray(tasks, np.float64), reward
        self.models = models(body, nominal, self._tasks)
        self._physics: Physics = make(body, self.models, threads or platform.num_cores())
        low, high = nominal.actuator_ctrlrange.T
        self._middle, self._half = (low + high) / 2, (high - low) / 2
        self._dt = float(nominal.opt.timestep) * body.frame_skip
        self._nq, self._nv = nominal.nq, nominal.nv
        self._size = mujoco.mj_stateSize(nominal, PHYSICS)
        self._anchors = tuple(field for field in ANCHOR if field == "torso" or field in body.needs)
        self._all = np.zeros((len(tasks), self._size + 3 * len(self._anchors) + body.obs_dim))

    # ---- one row holds everything: physics | anchors | obs ----

    def _obs(self) -> np.ndarray:
        return self._all[:, -self._body.obs_dim :]

    def _before(self) -> View:
        at = self._size
        qpos, qvel = np.split(self._all[:, 1 : 1 + self._nq + self._nv], [self._nq], -1)
        return View(
            qpos, qvel, **{name: self._all[:, at + 3 * n : at + 3 * n + 3] for n, name in enumerate(self._anchors)}
        )

    def _joined(self, state: np.ndarray, view: View, obs: np.ndarray) -> np.ndarray:
        return np.concatenate([state, *(getattr(view, name) for name in self._anchors), obs], -1)

    def reset(self, mask: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """New episodes where `mask [B]`, begun from `noise [B, N]`. -> obs [B, O] of all."""
        rows = np.flatnonzero(mask)
        if len(rows):
            qpos, qvel = self._body.start(np.asarray(noise, np.float64)[rows])
            state = np.zeros((len(rows), self._size))
            state[:, 1 : 1 + self._nq + self._nv] = np.concatenate([qpos, qvel], -1)
            view = self._physics.look(state, rows)
            self._all[rows] = self._joined(state, view, self._body.observe(view))
        return self._obs().copy()

    def step(self, action: np.ndarray) -> Stepped:
        """`action [B, A]` in [-1, 1]. Raises StageFailed for an action that is not finite."""
        action = np.asarray(action, np.float64)
        if not np.isfinite(action).all():
            where = int(np.flatnonzero(~np.isfinite(action).all(-1))[0])
            raise StageFailed(f"the action of environment {where} is not finite: {action[where]}")
        control = self._middle + self._half * np.clip(action, -1, 1)
        before, obs = self._before(), self._obs().copy()
        state, view = self._physics.advance(np.ascontiguousarray(self._all[:, : self._size]), control)
        lost = ~(np.abs(state[:, 1:]) < LIMIT).all(-1)  # NaN compares as False
        lost |= state[:, 0] - self._all[:, 0] < 0.9 * self._dt  # mujoco.rollout stops at a warning
        if lost.any():
            state, view = _without(lost, state, view)
        next_obs = np.where(lost[:, None], obs, self._body.observe(view))
        outcome = np.where(lost[:, None], 0.0, self._body.measure(before, view, self._dt))
        healthy = np.ones(len(lost), bool) if self._body.healthy is None else self._body.healthy(view)
        reward = np.asarray(self._reward(self._tasks, obs, action, next_obs, outcome))
        self._all = np.where(lost[:, None], self._all, self._joined(state, view, next_obs))
        return Stepped(next_obs, reward, ~healthy & ~lost, outcome, lost)

    def state(self) -> np.ndarray:
        """`[B, S]` float64: all that the future depends on."""
        return self._all.copy()

    def restore(self, state: np.ndarray) -> np.ndarray:
        """Goes on from `state [B, S]`, to the bit. -> obs [B, O]"""
        self._all = np.array(state, np.float64)
        return self._obs().copy()

    def __enter__(self) -> "Bodies":
        return self

    def __exit__(self, *exc: Any) -> None:
        self._physics.close()


def _without(lost: np.ndarray, state: np.ndarray, view: View) -> tuple[np.ndarray, View]:
    """Zeros where physics failed, so that formulas meet numbers. Their results are not used."""
    state = np.where(lost[:, None], 0.0, state)
    shown = {name: value for name, value in view._asdict().items() if value is not None}
    shown = {name: np.where(lost.reshape(-1, *(1,) * (value.ndim - 1)), 0.0, value) for name, value in shown.items()}
    return state, View(**shown)


def model_of(body: Body) -> mujoco.MjModel:
    """The body's model for this engine, which keeps a failed state where mujoco would reset it."""
    model = load(body)
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    return model


def family(common: Mapping[str, Any], body: Body, options: Mapping[str, str]) -> HostFamily:
    """A family on this engine. `common`: the fields of TaskFamily; `body` names what the reward is given."""
    nominal = functools.cache(lambda: model_of(body))  # compiled when first simulated: a listing needs none

    def simulate(tasks: np.ndarray) -> Bodies:
        return Bodies(body, nominal(), tasks, common["reward"])

    solid = Solid(
        model=lambda task: models(body, nominal(), np.asarray(task, np.float64)[None])[0],
        qpos=lambda state: np.asarray(state)[:, 1 : 1 + nominal().nq],
        substeps=body.frame_skip,
    )
    fields = {"outcome": body.outcome, "solid": solid, **common}
    return HostFamily(**fields, simulate=simulate, noise=body.noise, engine="mujoco")
