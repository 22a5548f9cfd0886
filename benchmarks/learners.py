"""Per-task learners beside their peers, in one run: `python -m benchmarks.learners`, and a part of `make bench`.

Gradient steps on resident data, drawing the minibatches included. We learn T tasks at once, one task-update counting as
one; a peer learns one task after another. Everybody takes turns, so that what else the machine does falls on all alike:
figures are medians [least, most] over the turns, and a ratio is one of two turns that follow each other.

    python -m benchmarks.learners                five turns of two seconds each (some minutes)
    python -m benchmarks.learners --quick        short turns: a look, not a figure to keep
    python -m benchmarks.learners --only BCQ     BCQ, SAC, rewards, MBML, MQL, PEARL, BOReL-SAC, BOReL-DQN or BOReL-VAE
    python -m benchmarks.learners --json FILE    the figures for a program, too
"""

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import beliefs, bench, distilling, exploring, loads, machine, recurrent, rivals
from benchmarks.across import Across
from benchmarks.distilling import TASKS
from benchmarks.loads import LOADS, Load
from benchmarks.peer import PeerMissing
from benchmarks.spread import Spread, digits, seconds, table
from pipelines.core import platform
from pipelines.core.configs.models import ModelConfig

THREADS = 2  # of a peer
Loaded = Load | Across
ALL: tuple[Loaded, ...] = (
    *LOADS,
    distilling.PUBLISHED,
    *recurrent.PUBLISHED,
    *exploring.PUBLISHED,
    beliefs.PUBLISHED,
)
PUBLISHED_RATE = 69.0  # steps a second of MBML's own reward ensemble on another machine of two cores


@dataclass(frozen=True)
class Beside:
    """A peer of a load: where it lives, its script and flags, and how many times its rate ours is to be."""

    load: str
    label: str
    wanted: float
    environment: str
    script: str
    flags: Callable[[Any], dict[str, Any]]


def _sb3(library: str) -> Callable[[Load], dict[str, Any]]:
    return lambda one: {"library": library, "width": 256, "batch": 256}


def _d3rlpy(algorithm: str) -> Callable[[Load], dict[str, Any]]:
    return lambda one: {"algorithm": algorithm, "sizes": one.config.model_dump_json()}


def _torch(step: str) -> Callable[[Load], dict[str, Any]]:
    def flags(one: Load) -> dict[str, Any]:
        config = one.config
        assert isinstance(config, ModelConfig)
        sizes = {"members": config.members, "hidden": config.hidden[0], "batch": config.batch_size}
        return {"step": step, **sizes, "other-tasks": one.tasks - 1}

    return flags


def _mbml(one: Any) -> dict[str, Any]:
    shape, config = loads.SHAPE, one.config
    widths = {name: ",".join(str(width) for width in getattr(config, f"{name}_hidden")) for name in _NETS}
    sizes = {"batch": config.batch_size, "own": config.context_size, "foreign": config.foreign_size}
    return sizes | widths | {"latent": config.latent_dim, "noise": config.noise_dim, "tasks": TASKS, "obs": shape.obs}


def _mql(one: Any) -> dict[str, Any]:
    config = one.config
    sizes = {"batch": config.batch_size, "history": config.history, "context": config.context_dim}
    return sizes | {"hidden": ",".join(map(str, config.hidden)), "delay": config.actor_delay}


def _pearl(one: Any) -> dict[str, Any]:
    config, shape = one.config, loads.SHAPE
    sizes = {"tasks": config.tasks_per_update, "batch": config.batch_size, "context": config.context_size}
    nets = {name: ",".join(map(str, getattr(config, name))) for name in ("hidden", "encoder_hidden")}
    nets = {"hidden": nets["hidden"], "encoder": nets["encoder_hidden"], "latent": config.latent_dim}
    return sizes | nets | {"obs": shape.obs, "action": shape.action}


def _borel(one: Any) -> dict[str, Any]:
    discrete, obs = one.space.num_actions, one.space.obs_dim + 1 + 2 * exploring.LATENT
    sizes = {"obs": obs, "action": discrete or one.space.action_dim, "learner": "dqn" if discrete else "sac"}
    batch = one.config.tasks_per_update * one.config.batch_size
    return sizes | {"batch": batch, "hidden": ",".join(map(str, one.config.hidden))}


def _belief(form: str) -> Callable[[Any], dict[str, Any]]:
    def flags(one: Any) -> dict[str, Any]:
        config, space, steps = one.config, one.space, beliefs.STEPS
        trials = config.tasks_per_update * config.trials_per_task
        sizes = {"obs": space.obs_dim, "action": space.action_dim, "width": config.width, "latent": config.latent_dim}
        return {"form": form, "trials": trials, "steps": steps, **sizes}

    return flags


_NETS = ("encoder", "q", "generator", "perturbation")
PEERS = (
    Beside("BCQ", "d3rlpy", 2.8, "d3rlpy", "updates_d3rlpy.py", _d3rlpy("bcq")),
    Beside("SAC", "stable-baselines3", 3.5, "learners", "updates_sb3.py", _sb3("sb3")),
    Beside("SAC", "d3rlpy", 3.5, "d3rlpy", "updates_d3rlpy.py", _d3rlpy("sac")),
    Beside("SAC", "SBX", 1.2, "learners", "updates_sb3.py", _sb3("sbx")),
    Beside("rewards", "published step, torch", 20.0, "learners", "updates_ensemble.py", _torch("published")),
    Beside("rewards", "batched step, torch", 3.0, "learners", "updates_ensemble.py", _torch("batched")),
    Beside("MBML", "torch", 2.0, "learners", "updates_mbml.py", _mbml),
    Beside("MQL", "torch", 4.0, "learners", "updates_mql.py", _mql),
    Beside("PEARL", "published step, torch", 2.5, "learners", "updates_pearl.py", _pearl),
    Beside("BOReL-SAC", "torch", 2.2, "learners", "updates_borel.py", _borel),
    Beside("BOReL-DQN", "torch", 3.5, "learners", "updates_borel.py", _borel),
    Beside("BOReL-VAE", "published step, torch", 5.0, "learners", "updates_belief.py", _belief("published")),
    Beside("BOReL-VAE", "split decoder, torch", 2.0, "learners", "updates_belief.py", _belief("split")),
)


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    turns: int
    turn_s: float
    peak_sizes: tuple[int, ...]


FULL = Effort(turns=5, turn_s=2.0, peak_sizes=bench.FULL.peak_sizes)
QUICK = Effort(turns=3, turn_s=0.2, peak_sizes=bench.QUICK.peak_sizes)


@dataclass(frozen=True)
class Row:
    """One line: us or a peer. `ratio` is ours over theirs, None for us."""

    load: str
    who: str
    tasks: int
    updates_per_s: Spread
    gflop_per_update: float
    share_of_peak: float
    ratio: Spread | None = None
    wanted: float | None = None
    facts: dict[str, Any] | None = None


def alternate(runners: Sequence[Callable[[], float]], turns: int) -> list[list[float]]:
    """Rates of each runner in `turns` rounds, one after another in each. -> [runner][turn]"""
    found: list[list[float]] = [[] for _ in runners]
    for _ in range(turns):
        for rates, run in zip(found, runners, strict=True):
            rates.append(run())
    return found


def ours(one: Loaded, flop: float, peak: float, turn_s: float) -> Callable[[], float]:
    """A compiled block of all tasks -> `turn()`, task-updates a second."""
    updates = bench.block_length(flop * one.tasks, peak, turn_s)
    run = one.block(updates)
    run()
    calls = max(1, round(turn_s / seconds(run)))

    def turn() -> float:
        return calls * updates * one.tasks / seconds(lambda: [run() for _ in range(calls)])

    return turn


def rows_of(one: Loaded, peers: Sequence[Beside], rates: list[list[float]], flop: float, peak: float) -> list[Row]:
    """Lines of one load from the rates `[us, *peers]` of its turns. `flop` of one update, `peak` in GFLOP/s."""

    def row(who: str, tasks: int, found: list[float], **more: Any) -> Row:
        spread = Spread.of(found)
        return Row(one.name, who, tasks, spread, flop / 1e9, spread.median * flop / 1e9 / peak, **more)

    mine, *theirs = rates
    lines = [row("omrl", one.tasks, mine)]
    for beside, found in zip(peers, theirs, strict=True):
        ratio = Spread.of([us / them for us, them in zip(mine, found, strict=True)])
        lines.append(row(beside.label, 1, found, ratio=ratio, wanted=beside.wanted))
    return lines


def measure(one: Loaded, effort: Effort, peak: float, rows: Path, with_peers: bool) -> tuple[list[Row], dict[str, Any]]:
    """One load beside its peers. -> (lines, what each peer said of itself); those that cannot be had are left out and
    that is said."""
    flop = one.flop()
    with contextlib.ExitStack() as stack:
        peers, running = [], []
        for beside in PEERS if with_peers else ():
            if beside.load != one.name:
                continue
            flags = beside.flags(one) | {"rows": rows, "threads": THREADS, "seconds": effort.turn_s}
            try:
                words = rivals.command(beside.environment, beside.script, flags)
                running.append(stack.enter_context(rivals.Rival(words, THREADS)))
                peers.append(beside)
            except PeerMissing as error:
                print(f"peer     {beside.label} left out: {error}")
        turn = ours(one, flop, peak, effort.turn_s)
        rates = alternate([turn, *(rival.turn for rival in running)], effort.turns)
        said = {beside.label: rival.facts for beside, rival in zip(peers, running, strict=True)}
    return rows_of(one, peers, rates, flop, peak), said


# ---- what is printed -------------------------------------------------------------------------------------------------

COLUMNS = ("load", "who", "T", "task-updates/s", "GFLOP", "of peak", "ours/theirs", "wanted", "")
NOTES = """\
task-updates/s  updates of one task, all T together: median [least, most] of the turns.
GFLOP, of peak  matrix products of one such update, counted in omrl's program, and their rate over the peak; a peer that
                does more products for the same update is credited with ours.
ours/theirs     median [least, most] over the rounds, in each of which everybody has one turn.
published step  as the paper's code lays it out, written anew. `rewards`: net after net in a Python loop, with the
                other tasks' rows forwarded for its log; MBML's own made {rate:g} steps a second on another machine
                (facts on speed)."""


def verdict(row: Row) -> str:
    if row.ratio is None or row.wanted is None:
        return ""
    return "reached" if row.ratio.median >= row.wanted else "MISSED"


def cells(row: Row) -> list[str]:
    return [
        row.load,
        row.who,
        str(row.tasks),
        str(row.updates_per_s),
        digits(row.gflop_per_update),
        f"{row.share_of_peak:.0%}",
        "" if row.ratio is None else str(row.ratio),
        "" if row.wanted is None else f">= {row.wanted:g}",
        verdict(row),
    ]


SPACES = f"; O {loads.SHAPE.obs}, A {loads.SHAPE.action}"


def page(rows: Sequence[Row], said: dict[str, dict[str, Any]], effort: Effort) -> str:
    """The table, and below it sizes and versions."""
    sizes = [
        f"{one.name:<9} {one.sizes}{SPACES if one.space == loads.SHAPE.space else ''}; {loads.ROWS:,} rows a task"
        for one in ALL
        if one.name in {row.load for row in rows}
    ]
    versions = [
        f"{label}: {', '.join(f'{name} {version}' for name, version in facts['versions'].items())}"
        for label, facts in said.items()
    ]
    timed = f"{effort.turns} rounds of turns of about {effort.turn_s:g} s; peers with {THREADS} threads"
    body = table(COLUMNS, [cells(row) for row in rows])
    return "\n".join([body, "", *sizes, timed, *versions, "", NOTES.format(rate=PUBLISHED_RATE)])


def run_all(effort: Effort, chosen: Sequence[Loaded], with_peers: bool, target: Path | None) -> None:
    found = machine.describe()
    if found["load"] > 0.5 * found["cores"]:
        print(f"warning: the machine is busy (load {found['load']:.1f}): figures will be low", file=sys.stderr)
    peak = machine.matmul_peak(effort.peak_sizes, effort.turns)
    print(bench.machine_lines(found, peak), flush=True)
    rows: list[Row] = []
    said: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="omrl-bench-") as folder:
        path = Path(folder) / "rows.npz"
        loads.write_rows(path)
        for one in chosen:
            print(f"measuring {one.name}", file=sys.stderr, flush=True)
            lines, facts = measure(one, effort, peak["gflops"], path, with_peers)
            rows += lines
            said |= {f"{one.name} {label}": value for label, value in facts.items()}
    print(f"\n{page(rows, said, effort)}")
    if target is not None:
        figures = {"machine": found, "peak": peak, "effort": asdict(effort), "peers": said}
        target.write_text(json.dumps(figures | {"rows": [asdict(row) for row in rows]}, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learners", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short turns: a look, not a figure to keep")
    parser.add_argument("--only", action="append", choices=[one.name for one in ALL], help="these (repeat)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--peer", action=argparse.BooleanOptionalAction, default=True, help="run the peers, too")
    options = parser.parse_args(arguments)
    platform.prepare()
    chosen = [one for one in ALL if not options.only or one.name in options.only]
    run_all(QUICK if options.quick else FULL, chosen, options.peer, options.json)


if __name__ == "__main__":
    main()
