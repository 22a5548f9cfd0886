"""Every body on every pipeline of brax: compile time, steps a second, and returns beside the C engine's.

    python -m benchmarks.brax_pipelines                  everything; half an hour on two cores
    python -m benchmarks.brax_pipelines --only hopper    measures the families whose name has `hopper` in it again
    python -m benchmarks.brax_pipelines --envs 2048 --results DIR    as an accelerator wants it, kept elsewhere

Writes brax-pipelines.json and .md after every line, keeping the lines that are not measured again.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine
from benchmarks.bench import first_call
from benchmarks.spread import Spread, rates, table
from pipelines.core import platform
from pipelines.core.types import DeviceFamily, HostFamily, task_rows
from pipelines.tasks import registry, returns

RESULTS = Path(__file__).parent / "results"
ENGINES = ("brax", "brax-generalized", "brax-spring", "brax-positional")
FAMILIES = ("halfcheetah-vel/mql", "hopper-vel/time", "walker-params/mql", "ant-goal/mbml", "humanoid-dir/mbml")
POLICIES = {"zero": returns.nothing, "uniform": returns.anything}
CHUNK = 20  # control steps in one compiled call
MOST_STEPS = 200  # of an episode here, whatever the family's horizon: those of longer ones have fallen by then
REPEATS = 3


class Program(NamedTuple):
    """A family's two compiled programs, on E environments of P-dimensional tasks."""

    begin: Callable[..., Any]  # (tasks [E, P], keys [E]) -> states
    run: Callable[
        ..., Any
    ]  # (tasks, states, actions [CHUNK, E, A]) -> (states, (reward, terminal, diverged) [CHUNK, E])


def program(family: DeviceFamily) -> Program:
    """Freshly jitted: nothing of an earlier program is used again."""

    def begin(tasks: Any, keys: Any) -> Any:
        return jax.vmap(family.reset)(tasks, keys)[0]

    def run(tasks: Any, states: Any, actions: Any) -> Any:
        keys = jax.random.split(jax.random.key(0), len(tasks))  # physics draw nothing

        def step(states: Any, action: Any) -> Any:
            states, _, reward, terminal, _ = jax.vmap(family.step)(tasks, states, action, keys)
            return states, (reward, terminal, states.diverged)

        return jax.lax.scan(step, states, actions)

    return Program(jax.jit(begin), jax.jit(run))


def play(made: Program, space: Any, tasks: np.ndarray, choose: returns.Choose, seed: int) -> returns.Played:
    """`returns.play` on a device family: the same starts and the same actions, drawn in the same order."""
    rng, count = np.random.default_rng(seed), len(tasks)
    rows = jnp.asarray(tasks, jnp.float32)
    states = made.begin(rows, jax.random.split(jax.random.key(seed), count))
    total, lengths = np.zeros(count), np.zeros(count, int)
    alive, lost = np.ones(count, bool), np.zeros(count, bool)
    for _ in range(MOST_STEPS // CHUNK):
        actions = np.stack([choose(rng, (count, *space.action_shape)) for _ in range(CHUNK)])
        states, rest = made.run(rows, states, jnp.asarray(actions, jnp.float32))
        for reward, terminal, diverged in zip(*(np.asarray(part) for part in rest), strict=True):
            lost |= alive & diverged
            alive &= ~diverged
            total += np.where(alive, reward, 0.0)
            lengths += alive
            alive &= ~terminal
        if not alive.any():
            break
    return returns.Played(total, lengths, lost)


@dataclass(frozen=True)
class Returns:
    """Of one policy: mean and standard error, mean length, episodes that diverged; and the mean difference from the C
    engine's returns, episode by episode (same task, start and actions), with its standard error."""

    mean: float
    error: float
    length: float
    diverged: int
    gap: float | None
    gap_error: float | None

    @classmethod
    def of(cls, played: returns.Played, reference: np.ndarray | None) -> "Returns":
        mean, error = mean_and_error(played.returns)
        gap, gap_error = (None, None) if reference is None else mean_and_error(played.returns - reference)
        lost = int(np.count_nonzero(played.diverged))
        return cls(mean, error, float(played.lengths.mean()), lost, gap, gap_error)

    def cells(self) -> list[str]:
        lost = f", {self.diverged} lost" if self.diverged else ""
        gap = "-" if self.gap is None else f"{self.gap:+.2f} +- {self.gap_error:.2f}"
        return [f"{self.mean:.1f} +- {self.error:.1f} ({self.length:.0f}{lost})", gap]


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


@dataclass(frozen=True)
class Row:
    """One line of the table. `load`: of the machine when `steps_per_s` was measured."""

    family: str
    engine: str
    envs: int
    load: float
    cold_s: float | None
    warm_s: float | None
    steps_per_s: Spread | None
    returns: dict[str, Returns]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Row":
        speed = data["steps_per_s"]
        kept = {policy: Returns(**found) for policy, found in data["returns"].items()}
        return cls(**{**data, "steps_per_s": None if speed is None else Spread(**speed), "returns": kept})


def tasks_of(family: Any, count: int) -> np.ndarray:
    """`[count, P]`: the test tasks, over and over."""
    rows = task_rows(family.tasks("test"), np.float64)
    return np.tile(rows, (-(-count // len(rows)), 1))[:count]


def on_the_c_engine(name: str, episodes: int) -> dict[str, returns.Played]:
    """What brax's returns stand beside, by policy. An episode ends after MOST_STEPS here, too."""
    family = cast(HostFamily, registry.find(name))
    short = replace(family, horizon=min(family.horizon, MOST_STEPS))
    tasks = tasks_of(family, episodes)
    return {policy: returns.play(short, tasks, choose, 0) for policy, choose in POLICIES.items()}


def steps_per_s(made: Program, rows: Any, keys: Any, actions: Any) -> Spread:
    """Control steps of all environments a second, from where CHUNK steps have led."""
    states = jax.block_until_ready(made.run(rows, made.begin(rows, keys), actions))[0]
    return rates(lambda: jax.block_until_ready(made.run(rows, states, actions)), CHUNK * len(rows), REPEATS)


def measure(name: str, engine: str, envs: int, reference: dict[str, returns.Played]) -> Row:
    """One family on one pipeline."""
    family = cast(DeviceFamily, registry.find(f"{name},engine={engine}"))
    tasks = tasks_of(family, envs)
    rows, keys = jnp.asarray(tasks, jnp.float32), jax.random.split(jax.random.key(0), envs)
    action = np.random.default_rng(0).uniform(-1, 1, (CHUNK, envs, *family.space.action_shape))
    actions, made = jnp.asarray(action, jnp.float32), program(family)

    def fresh() -> Callable[[], None]:
        nonlocal made
        made = program(family)
        return lambda: jax.block_until_ready(made.run(rows, made.begin(rows, keys), actions))

    jax.clear_caches()
    cold_s = first_call(fresh)[1]
    jax.clear_caches()
    warm_s = first_call(fresh)[1]
    speed = steps_per_s(made, rows, keys, actions)
    found = {
        policy: Returns.of(play(made, family.space, tasks, choose, 0), reference[policy].returns)
        for policy, choose in POLICIES.items()
    }
    return Row(name, engine, envs, machine.load(), cold_s, warm_s, speed, found)


# ---- what is printed -------------------------------------------------------------------------------------------------

COLUMNS = (
    *("family", "engine", "load", "cold s", "warm s", "steps/s: median [min, max]"),
    *("zero action", "gap", "uniform", "gap"),
)
NOTES = """\
cold, warm    by how many seconds a first call (resets and {chunk} control steps) is longer than later ones: with an
              empty compilation cache, and with a filled one after the caches in memory were cleared.
steps/s       control steps of {envs} environments mapped by vmap in one scan, uniform actions, observations and
              rewards included.
zero, uniform mean return of {envs} episodes over the test tasks, cut after {most} steps, +- standard error (mean
              length; `lost`: episodes whose physics failed). The same starts and actions on every engine.
gap           mean difference from the C engine's return, episode by episode, +- standard error. engine=brax is mjx,
              MuJoCo's own equations; the others are other physics (see pipelines/tasks/brax_engine.py).
load          of the machine, after steps/s was measured: other work was running where it is above its cores.
Refused       at build, by option and engine: contact_forces=computed and cartesian=lagged on all but engine=brax."""


def cells(row: Row) -> list[str]:
    timed = [] if row.steps_per_s is None else [f"{row.cold_s:.1f}", f"{row.warm_s:.1f}", str(row.steps_per_s)]
    said = [row.family, row.engine, f"{row.load:.1f}", *(timed or ["-", "-", "-"])]
    return said + [cell for policy in POLICIES for cell in row.returns[policy].cells()]


def page(found: dict[str, Any], rows: list[Row]) -> str:
    memory = "unknown" if found["memory_gb"] is None else f"{found['memory_gb']:.1f} GB"
    return (
        "# Every body on every pipeline of brax\n\n"
        f"{found['cpu']}, {found['cores']} cores, memory {memory}; {found['kind']} x {found['devices']}; "
        f"jax {found['jax']}, brax {found['brax']}, mujoco {found['mujoco']}.\n\n"
        f"```\n{table(COLUMNS, [cells(row) for row in rows])}\n```\n\n"
        f"```\n{NOTES.format(chunk=CHUNK, envs=rows[-1].envs, most=MOST_STEPS)}\n```\n"
    )


def kept(path: Path) -> list[Row]:
    """The rows of an earlier run."""
    return [Row.from_json(row) for row in json.loads(path.read_text())["rows"]] if path.exists() else []


def run_all(envs: int, only: str, results: Path) -> None:
    found = machine.describe() | {name: version(name) for name in ("brax", "mujoco")}
    if found["load"] > 0.5 * found["cores"]:
        print(f"warning: the machine is busy (load {found['load']:.1f}): figures will be low", file=sys.stderr)
    target = results / "brax-pipelines.json"
    order = [(name, engine) for name in FAMILIES for engine in ("mujoco", *ENGINES)]
    rows = {(row.family, row.engine): row for row in kept(target)}

    def keep(row: Row) -> None:
        rows[row.family, row.engine] = row
        print("  ".join(cells(row)), file=sys.stderr, flush=True)
        whole = [rows[line] for line in order if line in rows]
        figures = {"machine": found, "chunk": CHUNK, "steps": MOST_STEPS, "rows": [asdict(row) for row in whole]}
        target.write_text(json.dumps(figures, indent=1) + "\n")
        target.with_suffix(".md").write_text(page(found, whole))

    for name in (name for name in FAMILIES if only in name):
        reference = on_the_c_engine(name, envs)
        known = {policy: Returns.of(played, None) for policy, played in reference.items()}
        keep(Row(name, "mujoco", envs, machine.load(), None, None, None, known))
        for engine in ENGINES:
            keep(measure(name, engine, envs, reference))
    print(target.with_suffix(".md").read_text())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.brax_pipelines", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--envs", type=int, default=32, help="environments mapped together, and episodes")
    parser.add_argument("--only", default="", help="part of a family's name")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the table is kept")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="omrl-bench-") as cache:
        os.environ["OMRL_CACHE"] = cache  # empty: the first compile of every program is a cold one
        platform.prepare()
        run_all(options.envs, options.only, options.results)


if __name__ == "__main__":
    main()
