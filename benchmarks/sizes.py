"""What logs of real size take: seconds, bytes on disk, peak memory. `python -m benchmarks.sizes`

`--preset small` collects, trains BCQ and relabels on a cheetah, an ant, walkers and the maze; `--preset paper` collects
the gridworld's logs as BOReL did (21 tasks, 510 trials each). Each stage is a process of its own, and the first of a
family finds an empty compilation cache.

    python -m benchmarks.sizes                          runs what is missing, then writes results/sizes.{json,md} and
                                                        the README's table
    python -m benchmarks.sizes --only umaze-goal/mbml-m (repeat)
    python -m benchmarks.sizes --fresh                  runs again what is there, too
    python -m benchmarks.sizes --render                 no runs: from those that are there, and the committed ones

A family is a file in build/sizes, beside the store of its artifacts: one that is there is not run again, one that was
broken off begins anew. Seconds are an idle machine's only where `others` is near 0: the cores that others used.
"""

import argparse
import json
import os
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import machine
from benchmarks.results import OUT, README, render
from benchmarks.runs import BUILD, Runs, cold_cache, stage
from benchmarks.spread import digits
from pipelines.core.names import slug
from pipelines.store.catalogue import Catalogue
from pipelines.store.disk import size_of

FOLDER = BUILD / "sizes"
HEADER = ("family", "stage", "tasks", "of each task", "seconds", "others", "on disk", "peak memory")
UNITS = ("kB", "MB", "GB")


class Chain(NamedTuple):
    """What is run of one family."""

    family: str
    preset: str = "small"
    stages: tuple[str, ...] = ("collect", "train", "relabel")

    @property
    def name(self) -> str:
        return slug(self.family)

    def words(self, stage: str) -> tuple[str, ...]:
        """The command of a stage, without `omrl`."""
        of_log = ("--log", f"replay-log/{self.name}")
        what = {
            "collect": ("--family", self.family),
            "train": (*of_log, "--algorithm", "bcq"),
            "relabel": of_log,
        }[stage]
        return (stage, *what, "--preset", self.preset)


CHAINS = (
    Chain("gridworld/borel", "paper", ("collect",)),
    Chain("halfcheetah-vel/mbml"),
    Chain("ant-goal/mbml"),
    Chain("walker-params/mbml"),
    Chain("umaze-goal/mbml-m"),
)


# ---- runs ------------------------------------------------------------------------------------------------------------


def busy_s() -> float | None:
    """Seconds that all cores together have worked since the machine started; None where the system does not say."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_s() -> float:
    """Seconds that the processes which this one waited for have worked."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def watched(run: Callable[[], Any]) -> tuple[Any, float, float | None]:
    """-> (what `run` gives, its seconds, cores that others used meanwhile on average)"""
    busy, own, begin = busy_s(), own_s(), time.perf_counter()
    found = run()
    seconds, after = time.perf_counter() - begin, busy_s()
    if busy is None or after is None:
        return found, seconds, None
    return found, seconds, max(0.0, (after - busy - (own_s() - own)) / seconds)


def measure(chain: Chain, folder: Path) -> dict[str, Any]:
    """Runs the stages of a chain in a store of their own. -> its record"""
    store = folder / chain.name
    shutil.rmtree(store, ignore_errors=True)  # half a stage would be resumed, in half the time
    rows = []
    with cold_cache():
        for name in chain.stages:
            words = chain.words(name)
            made, seconds, others = watched(lambda: stage(store, *words))  # noqa: B023 - called at once
            card = Catalogue(store).find(made["id"])
            rows.append(
                {
                    "stage": name,
                    "command": " ".join(("omrl", *words)),
                    "id": card.id,
                    "tasks": len(card.tasks),
                    "config": card.config,
                    "dynamics": bool(card.extra.get("dynamics")),
                    "metrics": card.metrics,
                    "seconds": seconds,
                    "others": others,
                    "disk_bytes": size_of(Catalogue(store).folder(card.id, card.generation)),
                    "peak_memory_bytes": card.platform["peak_memory_bytes"],
                }
            )
    packages = {name: version for name, version in card.packages.items() if name in ("jax", "mujoco")}
    about = {"cpu": machine.cpu_model(), "memory_gb": machine.memory_gb(), "cores": os.cpu_count(), **packages}
    return {"family": chain.family, "preset": chain.preset, "machine": about, "rows": rows}


def run(only: list[str], fresh: bool, folder: Path = FOLDER) -> None:
    """What is missing of the families `only`, or of all; with `fresh` also what is there."""
    runs = Runs(folder)
    for chain in CHAINS:
        if only and chain.family not in only:
            continue
        if fresh:
            (folder / f"{chain.name}.json").unlink(missing_ok=True)
        runs.ensure(chain.name, lambda: measure(chain, folder))  # noqa: B023 - called at once


# ---- what comes of it ------------------------------------------------------------------------------------------------


def committed() -> dict[str, dict[str, Any]]:
    """family -> its record in results/sizes.json."""
    path = OUT / "sizes.json"
    return {one["family"]: one for one in json.loads(path.read_text())} if path.exists() else {}


def gathered(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """The records of all families, in order: those of this machine, else the committed ones. Exits without any."""
    runs, before = Runs(folder), committed()
    found = [runs.find(chain.name) or before.get(chain.family) for chain in CHAINS]
    if not any(found):
        raise SystemExit(f"there is nothing in {folder}")
    return [one for one in found if one]


def size(value: float) -> str:
    """Three digits and a decimal unit: 12.3 MB."""
    power = 1
    while power < len(UNITS) and value >= 999.5 * 1000**power:
        power += 1
    return f"{digits(value / 1000**power)} {UNITS[power - 1]}"


def amount(row: dict[str, Any]) -> str:
    """What a stage did for each task."""
    config = row["config"]
    if row["stage"] == "collect":
        return f"{config['steps']:,} steps"
    if row["dynamics"]:
        return f"{config['updates']:,} updates, {config['transition_updates']:,} of the dynamics"
    return f"{config['updates']:,} updates"


def cells(family: str, row: dict[str, Any]) -> list[str]:
    others = "" if row["others"] is None else f"{row['others']:.1f} cores"
    sizes = (size(row["disk_bytes"]), size(row["peak_memory_bytes"]))
    return [family, row["stage"], str(row["tasks"]), amount(row), f"{row['seconds']:.0f}", others, *sizes]


def page(found: list[dict[str, Any]]) -> str:
    """The table in Markdown, the machines, the commands."""
    lines = [HEADER, ("---", "---", "---:", "---", "---:", "---:", "---:", "---:")]
    lines += [cells(one["family"], row) for one in found for row in one["rows"]]
    machines = dict.fromkeys(_machine(one["machine"]) for one in found)
    commands = [row["command"] for one in found for row in one["rows"]]
    return (
        "Seconds of the whole command, the first of each family with an empty compilation cache; *others*: cores that\n"
        "other processes used meanwhile (0 on an idle machine). Peak memory is of the whole process.\n\n"
        + "\n".join(f"| {' | '.join(line)} |" for line in lines)
        + f"\n\nOn {'; '.join(machines)}:\n\n```sh\n"
        + "\n".join(commands)
        + "\n```\n"
    )


def _machine(about: dict[str, Any]) -> str:
    memory = "" if about["memory_gb"] is None else f", {about['memory_gb']:.0f} GB"
    versions = ", ".join(f"{name} {about[name]}" for name in ("jax", "mujoco") if name in about)
    return f"{about['cores']} cores ({about['cpu'].replace('(R)', '')}){memory}, {versions}"


def write(found: list[dict[str, Any]]) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "sizes.json").write_text(json.dumps(found, indent=1) + "\n")
    (OUT / "sizes.md").write_text(f"# Sizes\n\n{page(found)}")
    text = render(README.read_text(), "sizes", page(found))
    if text is None:
        raise SystemExit("README.md has no markers <!-- results:sizes --> ... <!-- /results:sizes -->")
    README.write_text(text)
    print(page(found))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    families = [chain.family for chain in CHAINS]
    parser.add_argument("--only", action="append", default=[], choices=families, help="these families (repeat)")
    parser.add_argument("--fresh", action="store_true", help="run again what is there")
    parser.add_argument("--render", action="store_true", help="run nothing")
    options = parser.parse_args(arguments)
    if not options.render:
        run(options.only, options.fresh)
    write(gathered())


if __name__ == "__main__":
    main()
