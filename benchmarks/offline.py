"""Batch RL from one collected log, beside its behaviour policies, cloning, and d3rlpy: `python -m benchmarks.offline`.

The log is SAC's on three cheetahs of halfcheetah-vel/mql. BCQ, CQL, TD3+BC, IQL and behaviour cloning learn from it,
each seed anew; d3rlpy's BCQ and CQL learn from the same rows, scaled alike, with the same sizes and as many updates
(peers/d3rlpy_learner.py says what differs), and act in the same simulator. It takes the better part of an hour on two
cores, most of it CQL's: smaller nets and minibatches than the published, and fewer updates, the same for everybody.

    python -m benchmarks.offline                       runs what is missing, then writes results/offline.{json,md}
    python -m benchmarks.offline --only d3rlpy-cql-1   one run (repeat): its beginning is enough
    python -m benchmarks.offline --render              no runs: from those that are there
    python -m benchmarks.offline --tiny                proves the pipes, writes to build/offline-tiny

A run is a file in build/offline, named ours-ALGORITHM-SEED or d3rlpy-ALGORITHM-SEED-TASK: what is there is not run
again. `log` comes first.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import cheetahs, peer, rivals
from benchmarks.collectors import difference
from benchmarks.results import OUT
from benchmarks.runs import BUILD, FAMILY, Runs, seeds_of, sets, stage
from benchmarks.spread import table
from pipelines.core import platform, statistics
from pipelines.core.configs.base import resolve
from pipelines.core.normaliser import Normaliser, fit
from pipelines.core.trees import from_dict, task_leaf
from pipelines.core.types import Log, task_rows, transitions
from pipelines.stages.learners import PER_TASK
from pipelines.store.catalogue import Catalogue

THREADS = 2  # of the peer, unless --threads says otherwise
LABELS = {"bcq": "BCQ", "cql": "CQL", "td3bc": "TD3+BC", "iql": "IQL", "bc": "behaviour cloning"}
THEIRS = ("bcq", "cql")
WIDE: dict[str, Any] = {"hidden": [256, 256], "batch_size": 128, "learning_rate": 3e-4}
OWN: dict[str, dict[str, Any]] = {"bcq": {"vae_hidden": [256, 256]}, "cql": {"num_actions": 4}}
Make = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Plan:
    """What is made: a log of `steps` a task, and policies of `updates` updates."""

    folder: Path
    seeds: tuple[int, ...]
    steps: int
    updates: int
    block: int
    episodes: int  # of each task, in an evaluation
    agents: dict[str, dict[str, Any]]
    collector: dict[str, Any]
    threads: int = THREADS

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def runs(self) -> Runs:
        return Runs(self.folder)


FULL = Plan(
    folder=BUILD / "offline",
    seeds=(0, 1, 2),
    steps=10_000,
    updates=3_000,
    block=500,
    episodes=32,
    agents={name: WIDE | OWN.get(name, {}) for name in LABELS},
    collector={"random_steps": 1_000, "block_steps": 50, "agent": {**WIDE, "batch_size": 256}},
)
_NARROW = {"hidden": [16, 16], "batch_size": 16, "learning_rate": 3e-4}
TINY = Plan(
    folder=BUILD / "offline-tiny",
    seeds=(0, 1),
    steps=400,
    updates=20,
    block=20,
    episodes=2,
    agents={name: {**_NARROW, **({"vae_hidden": [16, 16]} if name == "bcq" else {})} for name in LABELS},
    collector={"random_steps": 200, "block_steps": 50, "agent": _NARROW},
)


# ---- runs ------------------------------------------------------------------------------------------------------------


def collect(plan: Plan) -> dict[str, Any]:
    """The log that everybody learns from. -> {"id", "returns": [task][episode]}"""
    fields = {"steps": plan.steps, "num_snapshots": 1, **plan.collector}
    made = stage(plan.store, "collect", "--family", FAMILY, "--seed", "0", *sets(fields))
    arrays = Catalogue(plan.store).artifact(made["id"]).arrays()
    returns = [arrays[task_leaf(index)]["returns"].tolist() for index in range(len(cheetahs.WANTED))]
    return {"id": made["id"], "returns": returns, "seconds": made["seconds"], "config": made["config"]}


def evaluated(plan: Plan, policy: str, seed: int) -> list[list[float]]:
    """Returns `[task][episode]` of a policy-set, or of a log's last behaviour policies, on the training tasks."""
    fields = {"episodes": plan.episodes, "curve_episodes": 0}
    words = ("eval", "--policy", policy, "--split", "train", "--seed", str(seed))
    made = stage(plan.store, *words, *sets(fields))
    found: list[list[float]] = Catalogue(plan.store).artifact(made["id"]).arrays()["returns"].tolist()
    return found


def train(plan: Plan, algorithm: str, seed: int, log: str) -> dict[str, Any]:
    fields = {
        "updates": plan.updates,
        "block_updates": plan.block,
        "num_snapshots": 0,
        "agent": plan.agents[algorithm],
    }
    words = ("train", "--log", log, "--algorithm", algorithm, "--seed", str(seed))
    made = stage(plan.store, *words, *sets(fields))
    return {"returns": evaluated(plan, made["id"], seed), "seconds": made["seconds"], "config": made["config"]}


def scaled_rows(plan: Plan, log: str, index: int) -> tuple[dict[str, np.ndarray], Normaliser]:
    """One task's rows as omrl's learners see them, and the scales."""
    columns = Catalogue(plan.store).artifact(log).arrays()[task_leaf(index)]
    own: Log = jax.tree.map(jnp.asarray, from_dict(Log, columns))
    normaliser, rows = fit(own), transitions(own, jnp.arange(own.size))
    seen = {
        "obs": normaliser.obs(rows.obs),
        "action": rows.action,
        "reward": rows.reward / normaliser.reward_std,
        "next_obs": normaliser.obs(rows.next_obs),
        "terminal": rows.terminal,
    }
    return {name: np.asarray(column) for name, column in seen.items()}, normaliser


def train_theirs(plan: Plan, algorithm: str, seed: int, index: int, log: str) -> dict[str, Any]:
    """One task by d3rlpy, with the config that our policies of that algorithm have. Raises PeerMissing."""
    rows, normaliser = scaled_rows(plan, log, index)
    config = resolve(PER_TASK[algorithm][1], plan.agents[algorithm], {"discount": cheetahs.family().discount})
    with tempfile.TemporaryDirectory(prefix="omrl-bench-") as folder:
        path = Path(folder) / "rows.npz"
        np.savez(path, **rows)  # type: ignore[arg-type]
        flags = {"algorithm": algorithm, "rows": path, "sizes": config.model_dump_json()}
        flags |= {"updates": plan.updates, "seed": seed, "threads": plan.threads}
        with rivals.Rival(rivals.command("d3rlpy", "offline_d3rlpy.py", flags), plan.threads) as rival:
            returns = play(rival, normaliser, index, plan.episodes, seed)
            return {"returns": returns, **rival.facts}


def play(rival: rivals.Rival, normaliser: Normaliser, index: int, episodes: int, seed: int) -> list[float]:
    """Returns of whole episodes of one task in our simulator, the actions being the peer's."""
    family = cheetahs.family()
    rows = np.tile(task_rows((cheetahs.chosen()[index],), np.float64), (episodes, 1))
    noise = np.asarray(jax.vmap(family.noise)(jax.random.split(jax.random.key(seed), episodes)))
    total = np.zeros(episodes)
    with family.simulate(rows) as simulator:
        obs = simulator.reset(np.ones(episodes, bool), noise)
        for _ in range(family.horizon):
            seen = np.asarray(normaliser.obs(jnp.asarray(obs, jnp.float32)))
            stepped = simulator.step(np.asarray(rival.ask({"obs": seen.tolist()})["action"]))
            total, obs = total + stepped.reward, stepped.obs
    return [float(one) for one in total]


def todo(plan: Plan, log: Callable[[], str]) -> dict[str, Make]:
    """Every run but the log's, in the order in which they are made, seed by seed."""
    made: dict[str, Make] = {}

    def add(name: str, make: Callable[..., dict[str, Any]], *args: Any) -> None:
        made[name] = lambda: make(plan, *args, log())

    def behaviour(plan: Plan, seed: int, log: str) -> dict[str, Any]:
        return {"returns": evaluated(plan, log, seed)}

    for seed in plan.seeds:
        add(f"behaviour-{seed}", behaviour, seed)
        for algorithm in LABELS:
            add(f"ours-{algorithm}-{seed}", train, algorithm, seed)
        for algorithm in THEIRS:
            for index in range(len(cheetahs.WANTED)):
                add(f"d3rlpy-{algorithm}-{seed}-{index}", train_theirs, algorithm, seed, index)
    return made


def run(plan: Plan, only: list[str]) -> None:
    """What is missing of the runs whose names begin as `only` says, or of all. Raises PeerMissing."""

    def log() -> str:
        return str(plan.runs.ensure("log", lambda: collect(plan))["id"])

    log()
    for name, make in todo(plan, log).items():
        if not only or any(name.startswith(beginning) for beginning in only):
            plan.runs.ensure(name, make)


# ---- what comes of it ------------------------------------------------------------------------------------------------


def scores(plan: Plan, who: str) -> tuple[np.ndarray, float]:
    """`[S, T]` mean returns of the seeds that are whole, and seconds of training in all. `who`: behaviour, ours-bcq,
    d3rlpy-cql, ..."""
    found, took = [], 0.0
    for seed in plan.seeds:
        ones = [f"-{index}" for index in range(len(cheetahs.WANTED))] if who.startswith("d3rlpy") else [""]
        each = [plan.runs.find(f"{who}-{seed}{one}") for one in ones]
        whole = [one for one in each if one is not None]
        if len(whole) < len(each):
            continue
        took += sum(one.get("seconds", 0.0) for one in whole)
        returns = whole[0]["returns"] if ones == [""] else [one["returns"] for one in whole]
        found.append([float(np.mean(task)) for task in returns])
    return np.array(found).reshape(len(found), len(cheetahs.WANTED)), took


def compare(plan: Plan) -> dict[str, Any]:
    """The log's returns, every policy's, and ours beside d3rlpy's."""
    log = plan.runs.find("log")
    if log is None:
        raise SystemExit(f"there is no log in {plan.folder}")
    labels = {"behaviour": "behaviour policy, greedy"}
    labels |= {f"ours-{name}": label for name, label in LABELS.items()}
    labels |= {f"d3rlpy-{name}": f"{LABELS[name]}, d3rlpy" for name in THEIRS}
    rows = []
    for who, label in labels.items():
        each, took = scores(plan, who)
        if each.size:
            interval = statistics.interval(each)._asdict()
            rows.append({"who": who, "label": label, "scores": each.tolist(), "iqm": interval, "seconds": took})
    by = {row["who"]: np.array(row["scores"]) for row in rows}
    gaps = {
        name: difference(by[f"ours-{name}"], by[f"d3rlpy-{name}"])._asdict()
        for name in THEIRS
        if {f"ours-{name}", f"d3rlpy-{name}"} <= by.keys()
    }
    return {
        "tasks": [task.name for task in cheetahs.chosen()],
        "steps": plan.steps,
        "updates": plan.updates,
        "episodes": plan.episodes,
        "agents": plan.agents,
        "log": [float(np.mean(task)) for task in log["returns"]],
        "log_end": [float(np.mean(task[-max(1, len(task) // 10) :])) for task in log["returns"]],
        "rows": rows,
        "differences": gaps,
    }


def page(found: dict[str, Any]) -> str:
    def line(label: str, seeds: str, iqm: str, each: list[float]) -> list[str]:
        return [label, seeds, iqm, *(f"{one:.1f}" for one in each)]

    lines = [
        line("the log, all episodes", "", "", found["log"]),
        line("the log, its last tenth", "", "", found["log_end"]),
    ]
    for row in found["rows"]:
        each, iqm = np.array(row["scores"]), statistics.Interval(**row["iqm"]).brief(1)
        lines.append(line(row["label"], str(len(each)), iqm, [float(one) for one in each.mean(0)]))
    header = ["policy", "seeds", "IQM [95% interval]", *found["tasks"]]
    gaps = [f"- {LABELS[name]}: {statistics.Interval(**gap).brief(1)}" for name, gap in found["differences"].items()]
    sizes = [f"- {LABELS[name]}: {_words(agent)}" for name, agent in found["agents"].items()]
    return "\n".join(
        [
            "# Batch RL from one log",
            f"\nSAC's log of {found['steps']:,} steps on each of three tasks of halfcheetah-vel, {found['updates']:,} "
            f"updates, {found['episodes']}\nepisodes of each task in an evaluation. Returns.\n",
            f"```\n{table(header, lines)}\n```",
            *(["\nOurs minus d3rlpy's, difference of IQMs [95% interval]:\n", *gaps] if gaps else []),
            "\nSizes:\n",
            *sizes,
            "",
        ]
    )


def _words(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in fields.items())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="runs that begin so (repeat)")
    parser.add_argument("--seeds", type=seeds_of, metavar="0-2", help="of training, in place of the plan's")
    parser.add_argument("--threads", type=int, default=THREADS, metavar="N", help="of the peer")
    parser.add_argument("--render", action="store_true", help="run nothing")
    parser.add_argument("--tiny", action="store_true", help="a look at the pipes")
    options = parser.parse_args(arguments)
    plan = replace(TINY if options.tiny else FULL, threads=options.threads)
    if options.seeds:
        plan = replace(plan, seeds=tuple(options.seeds))
    platform.prepare()
    if not options.render:
        try:
            run(plan, options.only)
        except peer.PeerMissing as error:
            raise SystemExit(f"the peer: {error}") from error
    if options.only:
        return
    folder = plan.folder / "results" if options.tiny else OUT
    folder.mkdir(parents=True, exist_ok=True)
    found = compare(plan)
    (folder / "offline.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "offline.md").write_text(page(found))
    print(page(found))


if __name__ == "__main__":
    main()
