"""Locomotion for accelerators: a body's MJCF stepped by one of brax's physics pipelines, inside a compiled scan.

engine=brax             brax's mjx pipeline: MuJoCo's own equations in jax, for parity with the C engine
engine=brax-generalized reduced coordinates, projected-gradient contacts
engine=brax-spring      maximal coordinates, joints as springs
engine=brax-positional  maximal coordinates, joints and contacts by position-based dynamics

Observation, outcome, reward, start and termination are the Body's and the family's own functions, the C engine's too: a
pipeline only moves qpos and qvel, and what else a View holds is computed from these by MuJoCo's kinematics in mjx, from
the body's own model. The simulator's state of engine=brax is what was seen, so that, as on the C engine, every control
step begins with `qacc_warmstart` zero and is a pure function of (qpos, qvel); the other pipelines carry their own.

Physics that fail (a number that is not finite, or beyond the C engine's LIMIT) hold the last finite state until the
episode is reset: `State.diverged` is set, the observation is the last finite one, the outcome 0, the reward that of
standing there, and the episode is not terminal (no bootstrap would be a claim about the task).

Differs from the C engine: float32; mjx has no PGS solver, so that models that ask for it (humanoid) get Newton's, which
solves the same convex problem; where a capsule stands on a plane at more than 60 degrees (the ant's feet) mjx turns the
friction pyramid another way, and a step in contact differs. The three pipelines of brax integrate by semi-implicit
Euler whatever the model says (RK4 for ant, hopper, walker, humanoid), at brax's own time steps where these are shorter,
with the constants that brax's model of that body states (`<custom>`, solver iterations); they know no `ref` (joints are
shifted by it) and no bodies without joints (fused into their parents; observations keep the body's own); gears, masses
and frictions stay the body's, though brax tuned some gears of its own for spring and positional.
"""

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from pipelines.core.errors import UsageError
from pipelines.core.types import Array, DeviceFamily, Solid
from pipelines.tasks.body import Body, View, asset
from pipelines.tasks.body import load as load_model
from pipelines.tasks.mujoco_engine import LIMIT, models

# they print which optional packages are missing, and warn that jaxopt rests
with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import brax
    from brax import actuator
    from brax.generalized import pipeline as generalized
    from brax.io import mjcf
    from brax.mjx import pipeline as mjx_pipeline
    from brax.positional import pipeline as positional
    from brax.spring import pipeline as spring
    from mujoco import mjx

ENGINES: dict[str, Any] = {
    "brax": mjx_pipeline,
    "brax-spring": spring,
    "brax-positional": positional,
    "brax-generalized": generalized,
}
# The longest time step brax's own environments give spring and positional (seconds), and brax's model of the body.
TIME_STEPS = {"half_cheetah": 0.003125, "ant": 0.005, "hopper": 0.001, "walker2d": 0.001, "humanoid": 0.0015}
KINEMATIC = {"com", "cinert", "cvel"}  # fields of View that need the kinematics of the whole tree


DIFFERS = {
    engine: f"{engine}: brax's own physics, by Euler's method in float32, with brax's constants; not MuJoCo's equations"
    for engine in ENGINES
} | {"brax": "brax: MuJoCo's equations in float32 (mjx); friction pyramids of the ant's feet are turned another way"}


class State(NamedTuple):
    """What an episode depends on. `physics`: the pipeline's own state, () where qpos and qvel are all of it."""

    anchor: View  # where the next velocity is measured from: qpos, qvel, torso, com
    obs: Array  # [O]
    physics: Any
    diverged: Array  # [] bool


class Loaded(NamedTuple):
    """A body's models. `model` gives kinematics, `system` is what the pipeline steps, `shift` its qpos' offset."""

    name: str
    pipeline: Any
    model: Any  # mjx.Model of the body as edited
    system: Any  # brax System
    shift: np.ndarray  # [nq]: the model's qpos less the system's
    substeps: int  # pipeline steps per control step
    dt: float  # seconds per control step
    torso: int  # its body's index in `model`
    low: np.ndarray  # [A] ctrl range
    high: np.ndarray


@contextlib.contextmanager
def _tracing() -> Iterator[None]:
    """brax promotes ranks and uses deprecated names of mjx; both while tracing only."""
    with warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
        warnings.simplefilter("ignore")
        yield


# ---- models ----------------------------------------------------------------------------------------------------------


def _brax_name(body: Body) -> str:
    """The body among brax's own models: that of `walker2d_v5.xml` is `walker2d`."""
    return next(name for name in TIME_STEPS if body.mjcf.startswith(name))


def _suited(body: Body, model: mujoco.MjModel, parts: int) -> tuple[mujoco.MjModel, np.ndarray]:
    """The body as brax's own pipelines accept it, from its loaded `model`. -> (model, shift of qpos [nq])

    Bodies keep the masses of `model`, whoever weighed them, and are then fused where no joint parts them. `ref` moves
    what qpos 0 means and nothing else, so that it can be left to the observer.
    """
    spec = mujoco.MjSpec.from_file(str(asset(body.mjcf)))
    if body.edit is not None:
        body.edit(spec)
    spec.compile()  # gives elements their ids
    spec.compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_FALSE
    spec.compiler.settotalmass = -1
    for part in spec.bodies[1:]:
        part.explicitinertial = True
        part.mass, part.inertia = model.body_mass[part.id], model.body_inertia[part.id]
        part.ipos, part.iquat = model.body_ipos[part.id], model.body_iquat[part.id]
    shift = np.where(np.isin(np.arange(model.nq), model.jnt_qposadr[model.jnt_type >= 2]), model.qpos0, 0.0)
    for joint in spec.joints:
        if joint.ref:
            joint.range, joint.springref, joint.ref = joint.range - joint.ref, joint.springref - joint.ref, 0.0
        turning = [other for other in joint.parent.joints if other.type == mujoco.mjtJoint.mjJNT_HINGE]
        if joint.type == mujoco.mjtJoint.mjJNT_SLIDE and turning:
            joint.pos = turning[0].pos  # brax wants one position a body; a slide's means nothing
    spec.option.integrator, spec.option.solver = mujoco.mjtIntegrator.mjINT_EULER, model.opt.solver
    spec.option.timestep = model.opt.timestep / parts
    spec.compiler.fusestatic = True
    tuned = mujoco.MjSpec.from_file(str(Path(brax.__file__).parent / "envs" / "assets" / f"{_brax_name(body)}.xml"))
    spec.option.iterations = tuned.option.iterations
    for number in tuned.numerics:
        if number.name != "init_qpos":
            spec.add_numeric(name=number.name, data=number.data)
    suited = spec.compile()
    mjcf.validate_model(suited)
    return suited, shift


def load(body: Body, engine: str) -> Loaded:
    """The body's models for `engine`. Raises UsageError where the pipeline refuses the model."""
    model = load_model(body)
    if model.opt.solver == mujoco.mjtSolver.mjSOL_PGS:
        model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
    stepped, shift, parts, ranges = model, np.zeros(model.nq), 1, model.actuator_ctrlrange.copy()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecated attributes in gymnasium's files, and that brax rests
            if engine in ("brax-spring", "brax-positional"):
                parts = int(np.ceil(model.opt.timestep / TIME_STEPS[_brax_name(body)] - 1e-9))
            if engine != "brax":
                stepped, shift = _suited(body, model, parts)
            system = mjcf.load_model(stepped)
            kinematic = mjx.put_model(model)
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise UsageError(f"engine={engine} cannot load {body.mjcf}: {error}", "engine=mujoco can") from error
    return Loaded(
        name=engine,
        pipeline=ENGINES[engine],
        model=kinematic,
        system=system,
        shift=shift,
        substeps=body.frame_skip * parts,
        dt=body.frame_skip * float(model.opt.timestep),
        torso=mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "torso"),
        low=ranges[:, 0],
        high=ranges[:, 1],
    )


def check(body: Body, options: Mapping[str, str]) -> None:
    """Raises UsageError where a View of this body cannot be had from that engine."""
    engine = options["engine"]
    if engine == "brax":
        return
    if "cfrc_ext" in body.needs:
        raise UsageError(
            f"contact_forces=computed of {body.name} with engine={engine}: that pipeline has no contact forces",
            "contact_forces=zero, or engine=mujoco or engine=brax",
        )
    if body.cartesian == "lagged":
        raise UsageError(
            f"cartesian=lagged of {body.name} with engine={engine}: no sub-step of that pipeline is MuJoCo's",
            "cartesian=exact, or engine=mujoco or engine=brax",
        )


# ---- one control step ------------------------------------------------------------------------------------------------


def _vary(loaded: Loaded, body: Body, task: Array) -> Loaded:
    """The models with this task's factors applied; constants derived from what they change stay the nominal ones."""
    if body.factors is None:
        return loaded
    new = {name: getattr(loaded.model, name) * factor for name, factor in body.factors(task).items()}
    system = loaded.system.replace(**new)
    link, dof = system.link, system.dof  # brax's own copies of the same numbers
    rotational = jax.vmap(jnp.diag)(jnp.asarray(system.body_inertia)[1:])
    link = link.replace(inertia=link.inertia.replace(mass=jnp.asarray(system.body_mass)[1:], i=rotational))
    system = system.replace(link=link, dof=dof.replace(damping=jnp.asarray(system.dof_damping)))
    return loaded._replace(model=loaded.model.replace(**new), system=system)


def _initial(loaded: Loaded, qpos: Array, qvel: Array) -> Any:
    """The pipeline's whole state at (qpos, qvel)."""
    return loaded.pipeline.init(loaded.system, qpos - jnp.asarray(loaded.shift, qpos.dtype), qvel)


def _place(loaded: Loaded, qpos: Array, qvel: Array) -> Any:
    """A state of mjx at (qpos, qvel), all else empty: every step of mjx begins by computing it."""
    shapes = jax.eval_shape(loaded.pipeline.init, loaded.system, qpos, qvel)
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    data = mjx.make_data(loaded.system).replace(qpos=qpos, qvel=qvel)
    return empty.replace(
        q=qpos, qd=qvel, **{field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    )


def _see(loaded: Loaded, body: Body, physics: Any, ctrl: Array) -> View:
    """What the body shows after a step that ended in `physics`."""
    qpos, qvel = physics.q + jnp.asarray(loaded.shift, physics.q.dtype), physics.qd
    lagged = body.cartesian == "lagged"
    found: dict[str, Any] = {}
    if KINEMATIC & body.needs:
        data = physics
        if not lagged:
            data = mjx.make_data(loaded.model).replace(qpos=qpos, qvel=qvel)
            data = mjx.com_vel(loaded.model, mjx.com_pos(loaded.model, mjx.kinematics(loaded.model, data)))
        mass = jnp.asarray(loaded.model.body_mass)
        found = {"com": mass @ data.xipos / mass.sum(), "cinert": data._impl.cinert, "cvel": data.cvel}
    if "qfrc_actuator" in body.needs:
        own = loaded.name == "brax"
        found["qfrc_actuator"] = physics.qfrc_actuator if own else actuator.to_tau(loaded.system, ctrl, physics.q, qvel)
    if "cfrc_ext" in body.needs:
        found["cfrc_ext"] = mjx.rne_postconstraint(loaded.system, physics)._impl.cfrc_ext
    torso = physics.xpos[loaded.torso] if lagged else body.torso(qpos)
    return View(qpos, qvel, torso, **{name: found[name] for name in body.needs})


def _move(loaded: Loaded, body: Body, state: State, action: Array) -> tuple[View, Any]:
    """One control step. -> (what is seen after it, the pipeline's state after it)"""
    low, high = jnp.asarray(loaded.low, action.dtype), jnp.asarray(loaded.high, action.dtype)
    ctrl = low + (jnp.clip(action, -1.0, 1.0) + 1.0) / 2.0 * (high - low)
    fresh = loaded.name == "brax"
    physics = _place(loaded, state.anchor.qpos, state.anchor.qvel) if fresh else state.physics
    physics = jax.lax.fori_loop(
        0, loaded.substeps, lambda _, before: loaded.pipeline.step(loaded.system, before, ctrl), physics
    )
    return _see(loaded, body, physics, ctrl), () if fresh else physics


def _sound(seen: View, physics: Any) -> Array:
    """Whether all numbers of a state are finite, and qpos and qvel within the C engine's limit. -> [] bool"""
    leaves = [leaf for leaf in jax.tree.leaves((seen, physics)) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    bounded = jnp.abs(jnp.concatenate([seen.qpos, seen.qvel])).max() < LIMIT
    return jnp.stack([bounded, *(jnp.isfinite(leaf).all() for leaf in leaves)]).all()


def _anchor(seen: View) -> View:
    return View(seen.qpos, seen.qvel, seen.torso, com=seen.com)


def family(common: dict[str, Any], body: Body, options: Mapping[str, str]) -> DeviceFamily:
    """The family on the engine that `options` names. Raises UsageError for what that engine cannot do."""
    check(body, options)
    loaded = load(body, options["engine"])

    def reset(task: Array, key: Array) -> tuple[State, Array]:
        with _tracing():
            qpos, qvel = (jnp.asarray(part, jnp.result_type(float)) for part in body.start(body.noise(key)))
            return _begin(_vary(loaded, body, task), body, qpos, qvel)

    def step(task: Array, state: State, action: Array, key: Array) -> tuple[State, Array, Array, Array, Array]:
        with _tracing():
            seen, physics = _move(_vary(loaded, body, task), body, state, action)
            sound = _sound(seen, physics) & ~state.diverged
            new = (_anchor(seen), body.observe(seen), physics)
            anchor, obs, physics = jax.tree.map(
                lambda after, before: jnp.where(sound, after, before), new, (state.anchor, state.obs, state.physics)
            )
            outcome = jnp.where(sound, body.measure(state.anchor, seen, loaded.dt), 0.0)
            terminal = jnp.zeros((), bool) if body.healthy is None else sound & ~body.healthy(seen)
            reward = common["reward"](task, state.obs, action, obs, outcome)
            return State(anchor, obs, physics, ~sound), obs, reward, terminal, outcome

    solid = Solid(
        model=lambda row: models(body, load_model(body), np.asarray(row, np.float64)[None])[0],
        qpos=lambda states: np.asarray(states.anchor.qpos),
        substeps=body.frame_skip,
    )
    about = dataclasses.replace(common["about"], differs=(*common["about"].differs, DIFFERS[loaded.name]))
    fields = {**common, "solid": solid, "may_fail": True, "about": about, "engine": loaded.name}
    return DeviceFamily(**fields, reset=reset, step=step)


def _begin(loaded: Loaded, body: Body, qpos: Array, qvel: Array) -> tuple[State, Array]:
    """The state at (qpos, qvel), as if controls had been zero. -> (state, obs [O])"""
    fresh = loaded.name == "brax"
    bare = fresh and body.cartesian == "exact" and not body.needs
    physics = _place(loaded, qpos, qvel) if bare else _initial(loaded, qpos, qvel)
    seen = _see(loaded, body, physics, jnp.zeros(len(loaded.low)))
    obs = body.observe(seen)
    return State(_anchor(seen), obs, () if fresh else physics, jnp.zeros((), bool)), obs
