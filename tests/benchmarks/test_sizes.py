"""What logs of real size take: the plan, what is told of it, and the committed table. Nothing is run."""

import shlex
import subprocess
import sys

import pytest

from benchmarks import results, runs, sizes
from omrl_cli.orders import configure, spec_of
from pipelines.core.families import FAMILIES
from pipelines.stages.presets import PRESETS
from pipelines.stages.registry import STAGES

COMMITTED = sizes.committed()
CHAINS = {chain.family: chain for chain in sizes.CHAINS}


def record(family: str, seconds: float = 10.0, stage: str = "collect") -> dict:
    chain = CHAINS[family]
    config = configure(spec_of(stage), chain.preset, None, {"family": family} if stage == "collect" else {})
    row = {
        "stage": stage,
        "command": "omrl " + " ".join(chain.words(stage)),
        "id": "0" * 12,
        "tasks": 4,
        "config": config.model_dump(mode="json"),
        "dynamics": stage == "relabel",
        "metrics": {},
        "seconds": seconds,
        "others": 0.26,
        "disk_bytes": 12_345_678,
        "peak_memory_bytes": 1_234_567_890,
    }
    about = {"cpu": "Some(R) Processor", "memory_gb": 25.3, "cores": 2, "jax": "0.1", "mujoco": "3"}
    return {"family": family, "preset": chain.preset, "machine": about, "rows": [row]}


def test_every_command_names_a_family_a_stage_and_a_preset_that_there_are():
    for family, chain in CHAINS.items():
        assert family in FAMILIES
        for stage in chain.stages:
            name, *flags = chain.words(stage)
            assert name in STAGES
            assert flags[-2:] == ["--preset", chain.preset]
            assert chain.preset in PRESETS[name]


def test_the_families_of_the_issue_are_there():
    bodies = [family.partition("/")[0] for family in CHAINS]
    assert bodies == ["gridworld", "halfcheetah-vel", "ant-goal", "walker-params", "umaze-goal"]
    assert all(chain.stages == ("collect", "train", "relabel") for chain in sizes.CHAINS[1:])


def test_what_others_use_is_told_apart():
    """A process of ours that works a while is not another's; what the system counts in hundredths is near that."""
    if sizes.busy_s() is None:
        pytest.skip("the system does not say")
    work = [sys.executable, "-c", "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"]
    before = sizes.own_s()
    done, seconds, others = sizes.watched(lambda: subprocess.run(work, check=True))
    assert done.returncode == 0
    assert sizes.own_s() - before >= 0.3
    assert seconds >= 0.3
    assert others >= 0


@pytest.mark.parametrize("busy", [None, 1.0])
def test_others_are_what_is_left(monkeypatch, busy):
    """In 4 seconds the machine worked 6 and our processes 4: half a core for others."""
    monkeypatch.setattr(sizes, "busy_s", iter([busy, busy and busy + 6.0]).__next__)
    monkeypatch.setattr(sizes, "own_s", iter([2.0, 6.0]).__next__)
    monkeypatch.setattr(sizes.time, "perf_counter", iter([100.0, 104.0]).__next__)
    assert sizes.watched(lambda: "done") == ("done", 4.0, busy and 0.5)


def test_a_family_is_run_once_and_again_only_when_asked(monkeypatch, tmp_path):
    made = []

    def measure(chain, folder):
        made.append(chain.family)
        return record(chain.family)

    monkeypatch.setattr(sizes, "measure", measure)
    maze = ["umaze-goal/mbml-m"]
    sizes.run(maze, False, tmp_path)
    sizes.run(maze, False, tmp_path)
    assert made == maze
    sizes.run(maze, True, tmp_path)
    assert made == 2 * maze
    sizes.run([], False, tmp_path)
    assert made == [*maze, *maze, *(family for family in CHAINS if family not in maze)]


def test_what_ran_here_goes_before_what_is_committed(monkeypatch, tmp_path):
    monkeypatch.setattr(sizes, "committed", lambda: {family: record(family, 1.0) for family in [*CHAINS][:2]})
    runs.Runs(tmp_path).ensure("gridworld-borel", lambda: record("gridworld/borel", 2.0))
    found = sizes.gathered(tmp_path)
    assert [(one["family"], one["rows"][0]["seconds"]) for one in found] == [
        ("gridworld/borel", 2.0),
        ("halfcheetah-vel/mbml", 1.0),
    ]
    monkeypatch.setattr(sizes, "committed", dict)
    with pytest.raises(SystemExit, match="nothing"):
        sizes.gathered(tmp_path / "empty")


@pytest.mark.parametrize(
    ("value", "said"),
    [(900, "0.900 kB"), (12_345_678, "12.3 MB"), (999_600, "1.00 MB"), (999_400, "999 kB"), (3.2e12, "3200 GB")],
)
def test_sizes_are_written_with_three_digits(value, said):
    assert sizes.size(value) == said


def test_a_row_says_what_was_done_for_each_task():
    lines = sizes.page([record("gridworld/borel"), record("walker-params/mbml", stage="relabel")]).splitlines()
    assert "| gridworld/borel | collect | 4 | 30,600 steps | 10 | 0.3 cores | 12.3 MB | 1.23 GB |" in lines
    assert any("4,000 updates, 4,000 of the dynamics" in line for line in lines)
    assert "On 2 cores (Some Processor), 25 GB, jax 0.1, mujoco 3:" in lines
    assert "omrl relabel --log replay-log/walker-params-mbml --preset small" in lines


# ---- the committed table ---------------------------------------------------------------------------------------------


def test_the_readme_shows_the_committed_table():
    found = [COMMITTED[family] for family in CHAINS]
    assert results.render(results.README.read_text(), "sizes", sizes.page(found)) == results.README.read_text()
    assert (results.OUT / "sizes.md").read_text().endswith(sizes.page(found))


@pytest.mark.parametrize("family", CHAINS)
def test_committed_sizes_are_of_the_presets_that_there_are(family):
    """A preset that changes wants its table made anew."""
    found, chain = COMMITTED[family], CHAINS[family]
    assert [row["stage"] for row in found["rows"]] == list(chain.stages)
    for row in found["rows"]:
        words = shlex.split(row["command"])[1:]
        assert tuple(words) == chain.words(row["stage"])
        flags = {"family": family} if row["stage"] == "collect" else {}
        flags |= {"algorithm": "bcq"} if row["stage"] == "train" else {}
        wanted = configure(spec_of(row["stage"]), chain.preset, None, flags)
        assert type(wanted).model_validate(row["config"]) == wanted
        assert row["tasks"] == (found["rows"][0]["config"].get("num_tasks") or FAMILIES[family].num_train)
        assert row["disk_bytes"] > 1e5
        assert row["peak_memory_bytes"] > 1e8


def test_borels_gridworld_logs_took_less_than_three_minutes():
    """Of 21 tasks, 510 trials of four episodes of 15 steps each: the committed run, on two cores."""
    (row,) = COMMITTED["gridworld/borel"]["rows"]
    assert (row["tasks"], row["config"]["steps"]) == (21, 510 * 4 * 15)
    assert row["seconds"] < 180
