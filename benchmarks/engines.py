"""Control steps a second of the task families: `python -m benchmarks.engines`, and a part of `make bench`.

The C engine runs closed loop: 64 environments, uniform actions, observations, rewards and resets included. In turn with
it, in the same run: Gymnasium's SyncVectorEnv of the same body, and mujoco.rollout open loop, with the same models,
from states met on the way, computing nothing but states. envpool runs in a process of its own. Families that are
stepped inside a scan run 256 environments over one horizon. How to read the tables: benchmarks/README.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import mujoco.rollout
import numpy as np

from benchmarks import machine, peer
from benchmarks.spread import Spread, digits, seconds, table
from pipelines.core import platform
from pipelines.core.families import FAMILIES
from pipelines.core.types import DeviceFamily, HostFamily, task_rows
from pipelines.tasks import mujoco_engine, registry

ENVIRONMENTS = 64
SCANNED = 256
OPEN_STEPS = 10  # control steps of one open-loop call
KEPT = 8  # sets of states that open-loop calls begin from
ENVPOOL = (peer.FOLDER / "envpool.txt", peer.FOLDER / ".venv-envpool")


class Work(NamedTuple):
    """A body: our family, and Gymnasium's environment of it."""

    name: str
    family: str
    env: str


WORKS = (
    Work("cheetah", "halfcheetah-vel/mql", "HalfCheetah-v5"),
    Work("hopper", "hopper-vel/time", "Hopper-v5"),
    Work("walker", "walker-params/mbml", "Walker2d-v5"),
    Work("ant", "ant-dir/mbml", "Ant-v5"),
    Work("ant, contact forces", "ant-goal/mql", "Ant-v5"),
    Work("humanoid", "humanoid-dir/mbml", "Humanoid-v5"),
    Work("humanoid, contact forces", "humanoid-dir/mql", "Humanoid-v5"),
)


@dataclass(frozen=True)
class Row:
    """One body. Rates in control steps of one environment per second; None: not measured."""

    name: str
    family: str
    steps_per_s: Spread
    gymnasium: Spread
    open_loop: Spread
    envpool: Spread | None

    def ratio(self, other: Spread | None) -> float | None:
        return None if other is None else self.steps_per_s.median / other.median


@dataclass(frozen=True)
class Scanned:
    """One family that is stepped inside a scan."""

    family: str
    steps_per_s: Spread


# ---- the C engine and what stands beside it --------------------------------------------------------------------------


class Closed:
    """Our simulator in closed loop."""

    def __init__(self, family: HostFamily) -> None:
        rows = task_rows(family.tasks("train"), np.float64)
        self.simulator = cast(mujoco_engine.Bodies, family.simulate(rows[np.arange(ENVIRONMENTS) % len(rows)]))
        self._family, self._rng, self._step = family, np.random.default_rng(0), 0
        keys = jax.random.split(jax.random.key(0), 16 * ENVIRONMENTS)
        self._noise = np.asarray(jax.vmap(family.noise)(keys))
        self._begin(np.ones(ENVIRONMENTS, bool))

    def _begin(self, ended: np.ndarray) -> None:
        if ended.any():
            self.simulator.reset(ended, self._noise[self._rng.integers(len(self._noise), size=ENVIRONMENTS)])

    def run(self, steps: int) -> None:
        for _ in range(steps):
            action = self._rng.uniform(-1, 1, (ENVIRONMENTS, *self._family.space.action_shape))
            stepped = self.simulator.step(action)
            self._step += 1
            over = self._step % self._family.horizon == 0
            self._begin(stepped.terminal | stepped.diverged | over)


class OpenLoop:
    """mujoco.rollout from states that the closed loop met."""

    def __init__(self, closed: Closed, frame_skip: int) -> None:
        self._models = closed.simulator.models
        self._size = mujoco.mj_stateSize(self._models[0], mujoco_engine.PHYSICS)
        threads = platform.num_cores()
        self._data = [mujoco.MjData(self._models[0]) for _ in range(threads)]
        self._rollout = mujoco.rollout.Rollout(nthread=threads if threads > 1 else 0)
        rng, low, high = np.random.default_rng(1), *self._models[0].actuator_ctrlrange.T
        actions = rng.uniform(low, high, (ENVIRONMENTS, OPEN_STEPS, len(low)))
        self._control = np.repeat(actions, frame_skip, axis=1)
        self._starts, self._next = [], 0
        for _ in range(KEPT):
            closed.run(25)
            self._starts.append(np.ascontiguousarray(closed.simulator.state()[:, : self._size]))
        chunks = (None, max(1, ENVIRONMENTS // threads))
        self._chunk = min(chunks, key=lambda chunk: seconds(lambda: self._call(chunk)))

    def _call(self, chunk: int | None) -> None:
        start = self._starts[self._next % KEPT]
        self._next += 1
        self._rollout.rollout(self._models, self._data, start, self._control, chunk_size=chunk)

    def run(self, steps: int) -> None:
        for _ in range(max(1, steps // OPEN_STEPS)):
            self._call(self._chunk)


class Gymnasium:
    """SyncVectorEnv in closed loop."""

    def __init__(self, env: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the cheetah's model has a deprecated attribute
            self._envs = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make(env)] * ENVIRONMENTS)
        self._rng, self._space = np.random.default_rng(0), self._envs.single_action_space
        self._envs.reset(seed=0)

    def run(self, steps: int) -> None:
        low, high = self._space.low, self._space.high
        for _ in range(steps):
            self._envs.step(self._rng.uniform(low, high, (ENVIRONMENTS, *low.shape)).astype(np.float32))


def in_turn(runs: list[Callable[[int], None]], repeats: int, repeat_s: float) -> list[Spread]:
    """Rates of `runs`, each called with a number of steps that takes about `repeat_s`, one after another `repeats`
    times, so that what else the machine does falls on all of them."""
    lengths = []
    for run in runs:
        run(2 * OPEN_STEPS)
        probe = seconds(lambda: run(2 * OPEN_STEPS))  # noqa: B023 - called at once
        lengths.append(OPEN_STEPS * max(1, round(2 * repeat_s / probe)))
    found: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for rates, run, length in zip(found, runs, lengths, strict=True):
            rates.append(ENVIRONMENTS * length / seconds(lambda: run(length)))  # noqa: B023
    return [Spread.of(rates) for rates in found]


def envpool_rate(env: str, repeats: int, repeat_s: float) -> Spread:
    """Raises PeerMissing where envpool cannot be installed or run."""
    python = peer.install(*ENVPOOL)
    numbers = {"envs": ENVIRONMENTS, "threads": platform.num_cores(), "repeats": repeats, "seconds": repeat_s}
    flags = [f"--env={env}", *(f"--{name}={value}" for name, value in numbers.items())]
    said = peer.call([str(python), str(peer.FOLDER / "steps_envpool.py"), *flags])
    return Spread.of(json.loads(said.splitlines()[-1])["steps_per_s"])


def measure(work: Work, repeats: int, repeat_s: float, with_envpool: bool) -> Row:
    """One body."""
    family = cast(HostFamily, registry.find(work.family))
    closed = Closed(family)
    skip = round(_control_step(work) / closed.simulator.models[0].opt.timestep)
    ours, gym, rollout = in_turn([closed.run, Gymnasium(work.env).run, OpenLoop(closed, skip).run], repeats, repeat_s)
    closed.simulator.__exit__()
    pool = envpool_rate(work.env, repeats, repeat_s) if with_envpool else None
    return Row(work.name, work.family, ours, gym, rollout, pool)


def _control_step(work: Work) -> float:
    """Seconds, as the papers have it."""
    return {"cheetah": 0.05, "hopper": 0.008, "walker": 0.016, "ant": 0.05, "humanoid": 0.015}[work.name.split(",")[0]]


# ---- families in a scan ----------------------------------------------------------------------------------------------


def scan_of(family: DeviceFamily) -> Callable[[], None]:
    """One horizon of SCANNED environments under uniform actions, compiled; observations and rewards are computed."""
    rows = task_rows(family.tasks("train"))
    tasks, space = jnp.asarray(rows[np.arange(SCANNED) % len(rows)]), family.space

    def actions(key: Any) -> Any:
        shape = (SCANNED, *space.action_shape)
        if space.num_actions is not None:
            return jax.random.randint(key, shape, 0, space.num_actions, space.action_dtype)
        return jax.random.uniform(key, shape, minval=jnp.asarray(space.low), maxval=jnp.asarray(space.high))

    @jax.jit
    def run(key: Any) -> Any:
        state, obs = jax.vmap(family.reset)(tasks, jax.random.split(key, SCANNED))

        def one(carry: Any, key: Any) -> Any:
            state, total, _ = carry
            act_key, step_key = jax.random.split(key)
            keys = jax.random.split(step_key, SCANNED)
            state, obs, reward, *_ = jax.vmap(family.step)(tasks, state, actions(act_key), keys)
            return (state, total + reward, obs), None

        start = (state, jnp.zeros(SCANNED), obs)
        return jax.lax.scan(one, start, jax.random.split(key, family.horizon))[0][1:]

    key = jax.random.key(0)
    return lambda: jax.block_until_ready(run(key))


def measure_scan(name: str, repeats: int, repeat_s: float) -> Scanned:
    family = cast(DeviceFamily, registry.find(name))
    run, amount = scan_of(family), SCANNED * family.horizon
    run()
    calls = max(1, round(repeat_s / seconds(run)))
    rates = [calls * amount / seconds(lambda: [run() for _ in range(calls)]) for _ in range(repeats)]
    return Scanned(name, Spread.of(rates))


def scanned_families() -> tuple[str, ...]:
    return tuple(name for name, entry in FAMILIES.items() if entry.module != "locomotion")


# ---- memory ----------------------------------------------------------------------------------------------------------


def humanoids_peak_mb() -> float:
    """Peak memory of a process that steps 64 humanoids, jax and mujoco included."""
    code = (
        "import resource; from benchmarks.engines import Closed, registry\n"
        "closed = Closed(registry.find('humanoid-dir/mql')); closed.run(50)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return int(said) / unit


# ---- what is printed -------------------------------------------------------------------------------------------------

COLUMNS = (
    "body",
    "family",
    "steps/s: median [min, max]",
    "SyncVectorEnv",
    "ratio",
    "open loop",
    "ratio",
    "envpool",
    "ratio",
)


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"


def row_cells(row: Row) -> list[str]:
    cells = [row.name, row.family, str(row.steps_per_s)]
    for other in (row.gymnasium, row.open_loop, row.envpool):
        cells += ["-" if other is None else digits(other.median), _times(row.ratio(other))]
    return cells


def run_all(repeats: int, repeat_s: float, with_peer: bool) -> dict[str, Any]:
    """Measures, prints, and gives the figures for a program."""
    if with_peer:
        try:
            envpool_rate(WORKS[0].env, 1, 0.1)
        except peer.PeerMissing as error:
            print(f"envpool  left out: {error}")
            with_peer = False
    rows, scanned = [], []
    for work in WORKS:
        print(f"measuring {work.name}", file=sys.stderr, flush=True)
        rows.append(measure(work, repeats, repeat_s, with_peer))
    print(
        f"\nC engine, {ENVIRONMENTS} environments, {platform.num_cores()} threads, mujoco {mujoco.__version__}, "
        f"gymnasium {gymnasium.__version__}\n\n{table(COLUMNS, [row_cells(row) for row in rows])}"
    )
    for name in scanned_families():
        print(f"measuring {name}", file=sys.stderr, flush=True)
        scanned.append(measure_scan(name, repeats, repeat_s))
    lines = [[row.family, str(row.steps_per_s)] for row in scanned]
    print(f"\nin a scan, {SCANNED} environments\n\n{table(('family', 'steps/s: median [min, max]'), lines)}")
    peak = humanoids_peak_mb()
    print(f"\npeak memory of a process with 64 humanoids: {peak:.0f} MB")
    return {
        "bodies": [asdict(row) for row in rows],
        "scanned": [asdict(row) for row in scanned],
        "humanoids_peak_mb": peak,
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short repeats: a look, not a figure to keep")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--peer", action=argparse.BooleanOptionalAction, default=True, help="run envpool, too")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="omrl-bench-") as cache:
        os.environ["OMRL_CACHE"] = cache
        platform.prepare()
        found = machine.describe()
        if found["load"] > 0.5 * found["cores"]:
            print(f"warning: the machine is busy (load {found['load']:.1f}): figures will be low", file=sys.stderr)
        figures = run_all(*((5, 0.3) if options.quick else (9, 2.0)), options.peer)
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": found} | figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
