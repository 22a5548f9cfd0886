"""MQL's adaptation of 30 tasks at once with the cheetah's published settings: `python -m benchmarks.adapting`, and a
part of `make bench`.

The fit, Eq. 18 and Eq. 19 as stages/adapting.py runs them, on 200 rows of each new task and the log of 100 training
tasks. All of it is noise; what a round costs is not. Playing the episode that is adapted to is the engine's (see
`benchmarks.engines`) and is not in these figures; compiling is told beside them. The released scripts' settings draw
five times the rows, and are measured on eight tasks.

    python -m benchmarks.adapting             some minutes; every round is told as it ends
    python -m benchmarks.adapting --quick     3 tasks, one round: a look, not a figure to keep
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine
from benchmarks.loads import SHAPE
from benchmarks.spread import Spread, digits, seconds, table
from benchmarks.work import DISCOUNT, random_logs
from pipelines.algos import mql
from pipelines.algos.adaptation import Round
from pipelines.core import platform
from pipelines.core.configs.adapt import AdaptConfig
from pipelines.core.configs.algorithms import MqlConfig
from pipelines.core.configs.base import resolve
from pipelines.core.learn import stage_key, task_keys
from pipelines.core.taskmap import TaskAxis
from pipelines.stages.adapt_papers import settled
from pipelines.stages.mql_papers import BODIES

BODY, OLD_TASKS, STEPS = "halfcheetah-vel", 100, 200
ROWS = (("paper", 30, 3), ("code", 8, 2))  # settings, tasks, rounds
WANTED_S = 1.0  # a task
PUBLISHED = "6.5 to 7.9"  # seconds a task of the released code on another machine (facts on speed)


@dataclass(frozen=True)
class Row:
    """One line: seconds a task of all that adapt at once."""

    settings: str
    tasks: int
    updates: str
    task_s: Spread
    compile_s: float


def config_of(settings: str, **fields: int) -> AdaptConfig:
    return settled(resolve(AdaptConfig, {"settings": settings}, fields), BODY)


def rounds(config: AdaptConfig, agent: MqlConfig, tasks: int) -> Callable[[], None]:
    """-> `run()`: a round in all tasks, on resident data."""
    core = mql.Core(agent, SHAPE.space, DISCOUNT, config.learning_rate)
    axis = TaskAxis(tasks)
    logs = random_logs(SHAPE, OLD_TASKS)
    state = jax.tree.map(np.asarray, jax.jit(core.init)(stage_key(0, "bench"), logs))
    start = mql.Adaptable(*(getattr(state, name) for name in mql.Adaptable._fields))
    new = random_logs(SHAPE, tasks)._replace(size=jnp.full(tasks, STEPS, jnp.int32))
    new = jax.tree.map(lambda leaf: leaf[:, None, : STEPS + STEPS] if leaf.ndim > 1 else leaf[:, None], new)
    new = new._replace(
        **{name: getattr(new, name)[:, :, :STEPS] for name in new._fields if name not in ("obs", "size")}
    )
    run = Round(config, core).run
    program = axis.over_tasks(lambda step, start, logs, new, key: run(start, logs, new, key), shared=2)
    keys = axis.put(task_keys(stage_key(0, "bench"), range(tasks)))
    held = axis.replicate(start), axis.replicate(logs), axis.put(new), keys
    return lambda: jax.block_until_ready(program(0, *held))


def measure(settings: str, agent: MqlConfig, tasks: int, repeats: int, **fields: int) -> Row:
    config = config_of(settings, **fields)
    run = rounds(config, agent, tasks)
    print(f"{settings}: compiling, and a first round of {tasks} tasks", file=sys.stderr, flush=True)
    first = seconds(run)
    taken = []
    for number in range(repeats):
        taken.append(seconds(run) / tasks)
        said = f"{settings}: round {number + 1} of {repeats}, {digits(taken[-1])} s a task"
        print(said, file=sys.stderr, flush=True)
    found = Spread.of(taken)
    batch = config.new_batch or STEPS
    updates = f"{config.new_updates} x {batch} + {config.old_updates} x {config.old_batch}"
    return Row(settings, tasks, updates, found, first - found.median * tasks)


COLUMNS = ("settings", "T", "updates x rows", "s a task", "wanted", "", "compiling")


def cells(row: Row) -> list[str]:
    verdict = "reached" if row.task_s.median <= WANTED_S else "MISSED"
    said = (f"<= {WANTED_S:g}", verdict, f"{digits(row.compile_s)} s")
    return [row.settings, str(row.tasks), row.updates, str(row.task_s), *said]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapting", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 tasks and one round: a look, not a figure to keep")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(arguments)
    platform.prepare()
    sizes = [(settings, 3, 1) for settings, *_ in ROWS] if options.quick else ROWS
    agent = resolve(MqlConfig, {**BODIES[BODY].agents["mql"], "batch_size": 256})
    rows = [measure(settings, agent, tasks, repeats) for settings, tasks, repeats in sizes]
    print(table(COLUMNS, [cells(row) for row in rows]))
    print(f"\nMQL on {BODY}: history 20, GRU 15, 300-300. The released code takes {PUBLISHED} s a task.")
    if options.json is not None:
        figures = {"machine": machine.describe(), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
