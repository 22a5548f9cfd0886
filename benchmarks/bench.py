"""`make bench`: updates a second of SAC and tiMe on this machine, beside the machine's own ceiling and a peer; then
control steps a second of the task families (`benchmarks.engines`).

    python -m benchmarks.bench                 everything, some minutes
    python -m benchmarks.bench --quick         the same table from short repeats
    python -m benchmarks.bench --json FILE     the figures for a program, too

How to read the table: benchmarks/README.md.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax

from benchmarks import engines, machine, peer
from benchmarks.spread import Spread, digits, rates, seconds, table
from benchmarks.work import MOST_UPDATES, SIZES, WORKS, Size, flop_per_update, prepare
from pipelines.core import platform

TASKS = (1, 3, 16)
EXPECTED_SHARE = 0.3  # of the peak, to choose how many updates make a block of about the right length


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    repeats: int
    repeat_s: float
    peak_sizes: tuple[int, ...]


FULL = Effort(repeats=9, repeat_s=2.0, peak_sizes=(256, 512, 1024, 2048, 4096))
QUICK = Effort(repeats=5, repeat_s=0.2, peak_sizes=(256, 512, 1024))


@dataclass(frozen=True)
class Row:
    """One line of the table. `updates_per_s` counts updates of one task for SAC, updates across all T for tiMe."""

    work: str
    size: Size
    tasks: int
    block_updates: int
    updates_per_s: Spread
    gflop_per_update: float
    share_of_peak: float
    compile_cold_s: float
    compile_warm_s: float
    peer_ratio: float | None  # median over median; None where there is no peer


def block_length(flop: float, peak_gflops: float, repeat_s: float) -> int:
    """Updates in one compiled block that takes about `repeat_s`: 5 to the stages' 500. `flop` of one step of it."""
    return max(5, min(MOST_UPDATES, round(EXPECTED_SHARE * peak_gflops * 1e9 * repeat_s / flop)))


def first_call(fresh: Callable[[], Callable[[], None]]) -> tuple[Callable[[], None], float]:
    """A new program, and by how many seconds its first call is longer than its later ones: trace, compile or load."""
    run = fresh()
    first = seconds(run)
    return run, max(0.0, first - min(seconds(run) for _ in range(2)))


def measure(name: str, size: Size, tasks: int, effort: Effort, peak: float, rival: Spread | None) -> Row:
    """One row. `peak` in GFLOP/s; `rival` is the peer's rate on one task."""
    flop = flop_per_update(name, size, tasks)
    per_step = tasks if name == "SAC" else 1  # updates that one step of the block counts for
    updates = block_length(flop * per_step, peak, effort.repeat_s)
    fresh = prepare(name, size, tasks, updates)
    run, cold_s = first_call(fresh)
    del run
    jax.clear_caches()
    run, warm_s = first_call(fresh)
    calls = max(1, round(effort.repeat_s / seconds(run)))
    found = rates(lambda: [run() for _ in range(calls)], calls * updates * per_step, effort.repeats)
    return Row(
        work=name,
        size=size,
        tasks=tasks,
        block_updates=updates,
        updates_per_s=found,
        gflop_per_update=flop / 1e9,
        share_of_peak=found.median * flop / 1e9 / peak,
        compile_cold_s=cold_s,
        compile_warm_s=warm_s,
        peer_ratio=found.median / rival.median if rival and name == "SAC" else None,
    )


# ---- what is printed ------------------------------------------------------------------------------------------------

COLUMNS = (
    "work",
    "nets",
    "batch",
    "O",
    "A",
    "T",
    "updates/s: median [min, max]",
    "GFLOP/update",
    "of peak",
    "cold s",
    "warm s",
    "/ peer",
)
NOTES = """\
updates/s     SAC: updates of one task, all T tasks together. tiMe: updates across tasks, each on a batch of every task.
GFLOP/update  matrix products of one such update, counted in its program; `of peak` is their rate over the peak.
cold, warm    by how many seconds a program's first call is longer than later ones: with an empty compilation cache,
              and with a filled one after the caches in memory were cleared.
/ peer        over stable-baselines3's gradient steps a second, which takes T tasks one after another."""


def row_cells(row: Row) -> list[str]:
    size = row.size
    return [
        row.work,
        f"{size.name} {size.width}x{size.width}",
        *(str(number) for number in (size.batch, size.obs, size.action, row.tasks)),
        str(row.updates_per_s),
        digits(row.gflop_per_update),
        f"{row.share_of_peak:.0%}",
        f"{row.compile_cold_s:.1f}",
        f"{row.compile_warm_s:.1f}",
        "-" if row.peer_ratio is None else f"{row.peer_ratio:.2f}x",
    ]


def machine_lines(found: dict[str, Any], peak: dict[str, Any]) -> str:
    memory = "unknown" if found["memory_gb"] is None else f"{found['memory_gb']:.1f} GB"
    return "\n".join(
        [
            f"machine  {found['cpu']}, {found['cores']} cores, memory {memory}, load {found['load']:.1f}",
            f"jax      {found['jax']}, jaxlib {found['jaxlib']}, {found['devices']} {found['device']} device(s), "
            f"NPROC {found['nproc'] or 'unset'}, XLA_FLAGS {found['xla_flags'] or 'unset'}, "
            f"matmul precision {found['matmul_precision']}",
            f"peak     {digits(peak['gflops'])} GFLOP/s, float32 product of {peak['size']}x{peak['size']} matrices, "
            f"{peak['layout']}",
        ]
    )


def peer_line(size: Size, rival: dict[str, Any]) -> str:
    return (
        f"peer     SAC {size.name}: {rival['updates_per_s']} updates/s, "
        f"stable-baselines3 {rival['stable_baselines3']}, torch {rival['torch']}, {rival['threads']} thread(s)"
    )


def peer_rates(effort: Effort) -> dict[str, dict[str, Any]]:
    """Size -> the peer's rate; empty, and said in one line, where it cannot be had."""
    try:
        peer.install()
        return {size.name: peer.measure(size, platform.num_cores(), effort.repeats, effort.repeat_s) for size in SIZES}
    except peer.PeerMissing as error:
        print(f"peer     left out: {error}")
        return {}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short repeats: a look, not a figure to keep")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument(
        "--peer", action=argparse.BooleanOptionalAction, default=True, help="run the peer (installed on demand)"
    )
    options = parser.parse_args(arguments)
    effort = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(prefix="omrl-bench-") as cache:
        os.environ["OMRL_CACHE"] = cache  # empty: the first compile of every program is a cold one
        platform.prepare()
        run_all(effort, options.peer, options.json)


def run_all(effort: Effort, with_peer: bool, target: Path | None) -> None:
    found = machine.describe()
    if found["load"] > 0.5 * found["cores"]:
        print(f"warning: the machine is busy (load {found['load']:.1f}): figures will be low", file=sys.stderr)
    peak = machine.matmul_peak(effort.peak_sizes, effort.repeats)
    print(machine_lines(found, peak), flush=True)
    rivals = peer_rates(effort) if with_peer else {}
    for size in SIZES:
        if size.name in rivals:
            print(peer_line(size, rivals[size.name]), flush=True)
    rows = []
    for name in WORKS:
        for size in SIZES:
            rival = rivals[size.name]["updates_per_s"] if size.name in rivals else None
            for tasks in TASKS:
                print(f"measuring {name} {size.name} T={tasks}", file=sys.stderr, flush=True)
                rows.append(measure(name, size, tasks, effort, peak["gflops"], rival))
    print(f"\n{table(COLUMNS, [row_cells(row) for row in rows])}\n\n{NOTES}")
    stepping = engines.run_all(effort.repeats, effort.repeat_s, with_peer)
    if target is not None:
        peers = {size: rival | {"updates_per_s": asdict(rival["updates_per_s"])} for size, rival in rivals.items()}
        figures = {"machine": found, "peak": peak, "effort": asdict(effort), "peer": peers}
        target.write_text(
            json.dumps(figures | {"rows": [asdict(row) for row in rows], "engines": stepping}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
