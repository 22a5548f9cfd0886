"""SAC collection beside stable-baselines3's SAC: `python -m benchmarks.collectors`, an hour or so. Three cheetahs of
halfcheetah-vel/mql, the same environment, reward and hyper-parameters.

We collect on all three tasks at once, the peer on one after another. Seeds 0 and 1 have 20,000 steps, seeds 2 to 4
have 10,000; 50 environment steps and 50 updates take turns on both sides. The peer's environment is Gymnasium's
HalfCheetah-v5 with the family's reward, observation and horizon (peers/cheetah.py), and is held against the family on
random transitions first. Seconds are those of seed 2, which has the machine to itself (2 threads for the peer): of the
stage and of the learner, compiling included, imports not. The other seeds may share the machine.

    python -m benchmarks.collectors                  runs what is missing; writes results/collectors.{json,md,png}
    python -m benchmarks.collectors --only ours:2    one run (repeat): ours:SEED or sb3:SEED; --threads 1 of the peer
    python -m benchmarks.collectors --render         no runs: from those that are there
    python -m benchmarks.collectors --tiny           proves the pipes, writes to build/collectors-tiny

A run is a file in build/collectors: what is there is not run again.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from benchmarks import cheetahs, curves, peer, rivals
from benchmarks.peers import cheetah
from benchmarks.results import OUT
from benchmarks.runs import BUILD, FAMILY, Runs, cold_cache, sets, stage
from benchmarks.spread import digits, table
from pipelines.core import statistics
from pipelines.core.trees import task_leaf
from pipelines.core.types import task_rows
from pipelines.store.catalogue import Catalogue
from pipelines.tasks import mujoco_engine

THREADS = 2
LAST = 10  # episodes behind a score
SIZES = {
    "hidden": [256, 256],
    "batch_size": 256,
    "learning_rate": 3e-4,
    "discount": 0.99,
    "target_rate": 0.005,
    "init_temperature": 1.0,
    "obs_scale": 1.0,
    "reward_scale": 1.0,
}
TOLERANCE = 1e-9  # of one control step from the same state, in SI units


@dataclass(frozen=True)
class Plan:
    """Which seeds have how many steps of a task, and how they are made."""

    folder: Path
    steps: dict[int, int]
    random_steps: int
    block_steps: int  # environment steps, then as many updates
    sizes: dict[str, Any]
    timed: tuple[int, ...]  # seeds that had the machine to themselves
    threads: int = THREADS  # of the peer

    @property
    def marks(self) -> list[int]:
        """Where scores are compared: every number of steps that some seed has."""
        return sorted(set(self.steps.values()))


FULL = Plan(BUILD / "collectors", {0: 20_000, 1: 20_000, 2: 10_000, 3: 10_000, 4: 10_000}, 1_000, 50, SIZES, (2,))
TINY = Plan(BUILD / "collectors-tiny", {0: 400, 1: 200}, 100, 50, SIZES | {"hidden": [16, 16], "batch_size": 16}, (0,))


# ---- the environment -------------------------------------------------------------------------------------------------


def parity(count: int = 300) -> dict[str, float]:
    """The peer's environment beside the family on `count` random transitions: the largest differences.

    `paid`: the family's reward of the peer's own transitions; `obs`, `reward`: one control step of our engine from the
    same state, the solver's warm start zero on both sides.
    """
    family, task, rng = cheetahs.family(), cheetahs.chosen()[1], np.random.default_rng(0)
    env, row = cheetah.make(cheetahs.velocity(task)), task_rows((task,), np.float64)
    model, data = env.unwrapped.model, env.unwrapped.data
    gaps: dict[str, list[float]] = {"paid": [], "obs": [], "reward": []}
    mujoco_engine.quiet()
    obs, _ = env.reset(seed=0)
    with family.simulate(row) as simulator:
        for _ in range(count):
            state, action = np.empty(mujoco.mj_stateSize(model, mujoco_engine.PHYSICS)), rng.uniform(-1, 1, 6)
            mujoco.mj_getState(model, data, state, mujoco_engine.PHYSICS)
            data.qacc_warmstart[:] = 0
            simulator.restore(np.concatenate([state, obs[-3:], obs])[None])
            next_obs, reward, _, over, info = env.step(action)
            paid = family.reward(row, obs[None], action[None], next_obs[None], np.array([[info["x_velocity"]]]))
            ours = simulator.step(action[None])
            gaps["paid"].append(abs(float(paid[0] - reward)))
            gaps["obs"].append(float(np.abs(ours.obs[0] - next_obs).max()))
            gaps["reward"].append(abs(float(ours.reward[0] - reward)))
            obs = env.reset()[0] if over else next_obs
    env.close()
    return {name: max(found) for name, found in gaps.items()}


# ---- runs ------------------------------------------------------------------------------------------------------------


def collect_ours(plan: Plan, seed: int) -> dict[str, Any]:
    """All tasks at once by `omrl collect`. -> {"returns": [task][episode], "seconds", ...}"""
    fields = {
        "steps": plan.steps[seed],
        "random_steps": plan.random_steps,
        "block_steps": plan.block_steps,
        "num_snapshots": 0,
        "agent": plan.sizes,
    }
    with tempfile.TemporaryDirectory(prefix="omrl-bench-") as folder:
        store = Path(folder)
        made = stage(store, "collect", "--family", FAMILY, "--seed", str(seed), *sets(fields))
        artifact = Catalogue(store).artifact(made["id"])
        arrays, card = artifact.arrays(), artifact.card
        returns = [arrays[task_leaf(index)]["returns"].tolist() for index in range(len(card.tasks))]
        return {"returns": returns, "seconds": made["seconds"], "config": made["config"], "versions": card.packages}


def collect_theirs(plan: Plan, seed: int, index: int) -> dict[str, Any]:
    """One task by stable-baselines3. Raises PeerMissing."""
    flags = {
        "velocity": cheetahs.velocity(cheetahs.chosen()[index]),
        "sizes": json.dumps(plan.sizes),
        "seed": seed,
        "steps": plan.steps[seed],
        "random-steps": plan.random_steps,
        "block-steps": plan.block_steps,
        "threads": plan.threads,
    }
    found: dict[str, Any] = json.loads(peer.call(rivals.command("learners", "collect_sb3.py", flags)).splitlines()[-1])
    return found


def run(plan: Plan, only: list[str]) -> None:
    """What is missing of the runs `only` (ours:SEED, sb3:SEED), or of all."""
    runs = Runs(plan.folder)
    with cold_cache():
        for seed in plan.steps:
            if not only or f"ours:{seed}" in only:
                runs.ensure(f"ours-{seed}", lambda: collect_ours(plan, seed))  # noqa: B023 - called at once
            if not only or f"sb3:{seed}" in only:
                for index in range(len(cheetahs.WANTED)):
                    runs.ensure(f"sb3-{seed}-{index}", lambda: collect_theirs(plan, seed, index))  # noqa: B023


# ---- what comes of it ------------------------------------------------------------------------------------------------

WHO = {"ours": "omrl", "sb3": "stable-baselines3"}
Curves = dict[str, dict[int, list[list[float]]]]  # who -> seed -> [task][episode]


def read(plan: Plan) -> tuple[Curves, dict[str, dict[int, float]]]:
    """-> (returns, seconds by who and seed) of the seeds that are whole."""
    runs = Runs(plan.folder)
    returns: Curves = {who: {} for who in WHO}
    took: dict[str, dict[int, float]] = {who: {} for who in WHO}
    for seed in plan.steps:
        mine = runs.find(f"ours-{seed}")
        if mine is not None:
            returns["ours"][seed], took["ours"][seed] = mine["returns"], mine["seconds"]
        theirs = [runs.find(f"sb3-{seed}-{index}") for index in range(len(cheetahs.WANTED))]
        whole = [one for one in theirs if one is not None]
        if len(whole) == len(theirs):
            returns["sb3"][seed] = [one["returns"] for one in whole]
            took["sb3"][seed] = sum(one["seconds"] for one in whole)
    return returns, took


def scores(returns: dict[int, list[list[float]]], steps: int, seeds: list[int]) -> np.ndarray:
    """`[S, T]`: mean return of the last LAST training episodes that ended by `steps`."""
    end = steps // cheetah.HORIZON
    return np.array([[np.mean(task[max(0, end - LAST) : end]) for task in returns[seed]] for seed in seeds])


def difference(mine: np.ndarray, theirs: np.ndarray) -> statistics.Interval:
    """IQM of `mine` [S, T] minus that of `theirs` [S', T], with the percentile interval of both resampled."""
    point = float(statistics.iqm(mine.ravel()) - statistics.iqm(theirs.ravel()))
    if min(len(mine), len(theirs)) < 2:
        return statistics.Interval(point, np.nan, np.nan, len(mine))
    low, high = np.quantile(statistics.bootstrap(mine, 0) - statistics.bootstrap(theirs, 1), [0.025, 0.975])
    return statistics.Interval(point, float(low), float(high), len(mine))


def compare(plan: Plan) -> dict[str, Any]:
    """Scores at every mark, and seconds, over the seeds that both sides have."""
    returns, took = read(plan)
    common = [seed for seed in plan.steps if all(seed in returns[who] for who in WHO)]
    if not common:
        raise SystemExit(f"no seed has all of its runs in {plan.folder}")
    marks = []
    for steps in plan.marks:
        seeds = [seed for seed in common if plan.steps[seed] >= steps]
        if not seeds:
            continue
        each = {who: scores(returns[who], steps, seeds) for who in WHO}
        marks.append(
            {
                "steps": steps,
                "seeds": seeds,
                "scores": {who: found.tolist() for who, found in each.items()},
                "iqm": {who: statistics.interval(found)._asdict() for who, found in each.items()},
                "difference": difference(each["ours"], each["sb3"])._asdict(),
            }
        )
    timed = [seed for seed in common if seed in plan.timed]
    total = {who: sum(took[who][seed] for seed in timed) for who in WHO}
    return {
        "tasks": [task.name for task in cheetahs.chosen()],
        "random_steps": plan.random_steps,
        "block_steps": plan.block_steps,
        "sizes": plan.sizes,
        "marks": marks,
        "seconds": {who: {seed: took[who][seed] for seed in timed} for who in WHO},
        "faster": total["sb3"] / total["ours"] if timed else None,
        "returns": {who: {seed: returns[who][seed] for seed in common} for who in WHO},
    }


def page(found: dict[str, Any]) -> str:
    lines = []
    for mark in found["marks"]:
        cells = [statistics.Interval(**mark["iqm"][who]).brief(1) for who in WHO]
        lines.append([f"{mark['steps']:,}", str(len(mark["seeds"])), *cells, _text(mark["difference"])])
    header = ["steps a task", "seeds", *WHO.values(), "difference"]
    sizes = ", ".join(f"{name} {value}" for name, value in found["sizes"].items())
    gaps = ", ".join(f"{name} {gap:.0e}" for name, gap in found["parity"].items())
    return (
        "# SAC collection beside stable-baselines3\n\n"
        f"halfcheetah-vel at {', '.join(found['tasks'])}; {sizes}.\n{found['random_steps']} uniform steps first, then "
        f"{found['block_steps']} step(s) and as many updates in turn.\nReturn of the last {LAST} training episodes: "
        "IQM over seeds and tasks [95% interval].\n\n"
        f"```\n{table(header, lines)}\n```\n\n"
        f"{_times(found)}"
        f"The peer's environment beside the family, largest differences: {gaps}.\n"
    )


def _times(found: dict[str, Any]) -> str:
    if found["faster"] is None:
        return ""
    seconds = {who: digits(sum(found["seconds"][who].values())) for who in WHO}
    seeds = ", ".join(str(seed) for seed in found["seconds"]["ours"])
    return (
        f"Seconds of seed {seeds}, alone on the machine: omrl {seconds['ours']} (all tasks at once), stable-baselines3 "
        f"{seconds['sb3']}\n(one after another, {THREADS} threads): {found['faster']:.1f} times as fast.\n\n"
    )


def _text(interval: dict[str, Any]) -> str:
    return statistics.Interval(**interval).brief(1)


def render(plan: Plan, folder: Path, gaps: dict[str, float]) -> None:
    found = compare(plan) | {"parity": gaps}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "collectors.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "collectors.md").write_text(page(found))
    labelled = {WHO[who]: list(found["returns"][who].values()) for who in WHO}
    (folder / "collectors.png").write_bytes(curves.overlaid(labelled, found["tasks"], cheetah.HORIZON))
    print(page(found))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="WHO:SEED", help="these runs (repeat)")
    parser.add_argument("--threads", type=int, default=THREADS, metavar="N", help="of the peer, in seeds not timed")
    parser.add_argument("--render", action="store_true", help="run nothing")
    parser.add_argument("--tiny", action="store_true", help="a look at the pipes, seconds")
    options = parser.parse_args(arguments)
    plan = replace(TINY if options.tiny else FULL, threads=options.threads)
    gaps = parity()
    if max(gaps.values()) > TOLERANCE:
        raise SystemExit(f"the peer's environment is another one: {gaps}")
    if not options.render:
        try:
            run(plan, options.only)
        except peer.PeerMissing as error:
            raise SystemExit(f"the peer: {error}") from error
    if not options.only:
        render(plan, plan.folder / "results" if options.tiny else OUT, gaps)


if __name__ == "__main__":
    main()
