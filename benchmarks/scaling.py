"""How the time of a task-update grows with the tasks: `python -m benchmarks.scaling`, and a part of `make bench`.

1 to 32 tasks on one device, on two, and on two processes of one device each, which share the tasks as `--cluster` has
them do. The number of devices is fixed when jax starts, so each layout has processes of its own; in every round each
layout and each number of tasks has one turn. `of 2 tasks` is the time of a task-update
over that with 2 tasks in the same round and layout: median [least, most], at most MOST.

    python -m benchmarks.scaling                 BCQ and SAC, five rounds (ten minutes or so)
    python -m benchmarks.scaling --quick         short turns, up to 4 tasks
    python -m benchmarks.scaling --only SAC --json FILE
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import bench, learners, loads, machine, rivals
from benchmarks.learners import FULL, QUICK, Effort
from benchmarks.spread import Spread, digits, seconds, table
from pipelines.core import platform

TASKS = (1, 2, 4, 8, 16, 32)
MOST = 1.15  # of the time with 2 tasks
MEASURED = ("BCQ", "SAC")


class Layout(NamedTuple):
    processes: int
    devices: int  # of each

    def __str__(self) -> str:
        return f"{self.processes} x {self.devices}"


LAYOUTS = (Layout(1, 1), Layout(1, 2), Layout(2, 1))


@dataclass(frozen=True)
class Row:
    """One load, layout and number of tasks. `growth`: time of a task-update over that with 2 tasks."""

    load: str
    layout: Layout
    tasks: int
    updates_per_s: Spread
    growth: Spread
    share_of_peak: float


# ---- a layout's processes --------------------------------------------------------------------------------------------


def serve(load: str, tasks: Sequence[int], devices: int, peak: float, turn_s: float) -> None:
    """Runs `calls` blocks of each of {"tasks": T, "calls": C} that it is asked: the other end of `rivals.Rival`. Its
    facts are the updates of a block, {T: updates}."""
    from benchmarks.peers import turns

    platform.prepare(devices)
    one = loads.load(load)
    flop = one.flop()
    updates = {count: bench.block_length(flop * count, peak, turn_s) for count in tasks}
    runs = {count: one.block(updates[count], count) for count in tasks}
    for run in runs.values():
        run()

    def reply(question: Mapping[str, Any]) -> dict[str, Any]:
        for _ in range(question["calls"]):
            runs[question["tasks"]]()
        return {}

    turns.answer({"updates": updates}, reply)


def shares(processes: int, tasks: int) -> list[int]:
    """How many of the tasks each process has that has any."""
    return [count for one in range(processes) if (count := len(range(one, tasks, processes)))]


class Team:
    """The processes of a layout, compiled and waiting: each has its share of the tasks, as even as can be."""

    def __init__(self, layout: Layout, load: str, tasks: Sequence[int], peak: float, turn_s: float) -> None:
        self.layout = layout
        self._stack = contextlib.ExitStack()
        self._pool = ThreadPoolExecutor(layout.processes)
        counts = sorted({share for count in tasks for share in shares(layout.processes, count)})
        asked = {"load": load, "tasks": counts, "devices": layout.devices, "peak": peak, "turn_s": turn_s}
        words = [sys.executable, "-m", "benchmarks.scaling", "--serve", json.dumps(asked)]
        try:
            self._rivals = [
                self._stack.enter_context(rivals.Rival(words, platform.num_cores(), env=dict(os.environ)))
                for _ in range(layout.processes)
            ]
            self._calls = {count: max(1, round(turn_s / seconds(lambda: self._ask(count, 1)))) for count in tasks}  # noqa: B023
        except BaseException:
            self.close()
            raise

    def rate(self, tasks: int) -> float:
        """Task-updates a second of all processes together: what they do in the time that the last of them takes."""
        calls = self._calls[tasks]
        took = seconds(lambda: self._ask(tasks, calls))
        done = [self._rivals[0].facts["updates"][str(share)] * share for share in shares(self.layout.processes, tasks)]
        return calls * sum(done) / took

    def close(self) -> None:
        self._pool.shutdown()
        self._stack.close()

    def _ask(self, tasks: int, calls: int) -> None:
        questions = [{"tasks": share, "calls": calls} for share in shares(self.layout.processes, tasks)]
        list(self._pool.map(rivals.Rival.ask, self._rivals, questions))


# ---- measuring -------------------------------------------------------------------------------------------------------


def measure(load: str, tasks: Sequence[int], effort: Effort, peak: float) -> list[Row]:
    """All layouts and numbers of tasks of one load, `effort.turns` rounds."""
    flop = loads.load(load).flop()
    with contextlib.ExitStack() as stack:
        teams = [
            stack.enter_context(contextlib.closing(Team(layout, load, tasks, peak, effort.turn_s)))
            for layout in LAYOUTS
        ]

        def turn(team: Team, count: int) -> Any:
            return lambda: team.rate(count)

        rates = learners.alternate([turn(team, count) for team in teams for count in tasks], effort.turns)
    rows = []
    for at, layout in enumerate(LAYOUTS):
        own = dict(zip(tasks, rates[at * len(tasks) : (at + 1) * len(tasks)], strict=True))
        rows += rows_of(load, layout, own, flop, peak)
    return rows


def rows_of(load: str, layout: Layout, rates: Mapping[int, list[float]], flop: float, peak: float) -> list[Row]:
    """Lines of one layout from its task-updates a second, {tasks: [turn]}."""
    rows = []
    for count, found in rates.items():
        spread = Spread.of(found)
        growth = Spread.of([two / one for one, two in zip(found, rates[2], strict=True)])
        rows.append(Row(load, layout, count, spread, growth, spread.median * flop / 1e9 / peak))
    return rows


COLUMNS = ("load", "processes x devices", "T", "task-updates/s", "ms a task-update", "of peak", "of 2 tasks", "")


def cells(row: Row) -> list[str]:
    return [
        row.load,
        str(row.layout),
        str(row.tasks),
        str(row.updates_per_s),
        digits(1e3 / row.updates_per_s.median),
        f"{row.share_of_peak:.0%}",
        str(row.growth),
        "reached" if row.growth.median <= MOST else "MISSED",
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short turns, up to 4 tasks: a look")
    parser.add_argument("--only", action="append", choices=[one.name for one in loads.LOADS], help="these (repeat)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--serve", type=json.loads, metavar="JSON", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(**options.serve)
        return
    platform.prepare()
    effort, tasks = (QUICK, TASKS[:3]) if options.quick else (FULL, TASKS)
    found = machine.describe()
    peak = machine.matmul_peak(effort.peak_sizes, effort.turns)
    print(bench.machine_lines(found, peak), flush=True)
    rows: list[Row] = []
    for load in options.only or MEASURED:
        print(f"measuring {load}", file=sys.stderr, flush=True)
        rows += measure(load, tasks, effort, peak["gflops"])
    print(f"\n{table(COLUMNS, [cells(row) for row in rows])}")
    print(f"\nof 2 tasks: time of a task-update over that with 2 tasks, wanted <= {MOST}; T is padded to the devices")
    if options.json is not None:
        lines = [asdict(row) | {"layout": row.layout._asdict()} for row in rows]
        figures = {"machine": found, "peak": peak, "effort": asdict(effort), "rows": lines}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
