"""Returns of the zero and the uniform policy on the published evaluation tasks: `python -m benchmarks.anchors`.

They pin the engine, the bodies and the rewards together. The numbers beside them are those of facts/mql-pearl.md 1.5,
measured on mujoco 4.0.0. Writes results/anchors.json, which a test measures again, and results/anchors.md.
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple, cast

import mujoco
import numpy as np

from benchmarks.spread import table
from pipelines.core.types import HostFamily, task_rows
from pipelines.tasks import registry, returns

RESULTS = Path(__file__).parent / "results"
NUM_EPISODES = 200


class Anchor(NamedTuple):
    """What was measured before: (zero, uniform), with the old lengths where episodes can end."""

    family: str
    old: tuple[float, float]
    old_lengths: tuple[float | None, float | None] = (None, None)
    note: str = ""


ANCHORS = (
    Anchor("halfcheetah-vel/mql", (-284, -335)),
    Anchor("halfcheetah-dir/mql", (0, -21)),
    Anchor("ant-fwd-back/mql", (198, -33), (None, 81)),
    Anchor("ant-goal/mql", (-494, -771)),
    Anchor("humanoid-dir/mql", (196, 112), (40, 23)),
    Anchor("walker-params/mql", (43, 0), (50, 9), "MuJoCo 1.31's masses, the default"),
    Anchor("walker-params/mql,masses=modern", (43, 0), (50, 9), "masses as the old anchor had them"),
)
POLICIES = {"zero": returns.nothing, "uniform": returns.anything}


def measure(family: str, policy: str, num_episodes: int, seed: int) -> dict[str, float]:
    """Mean return and length of at least `num_episodes`, as many on every test task; the standard error is of the mean
    over these very tasks."""
    built = cast(HostFamily, registry.find(family))
    rows = task_rows(built.tasks("test"), np.float64)
    each = -(-num_episodes // len(rows))
    played = returns.play(built, np.repeat(rows, each, axis=0), POLICIES[policy], seed)
    spread = played.returns.reshape(len(rows), each).var(axis=1, ddof=1)
    error = math.sqrt(float(spread.mean()) / (each * len(rows)))
    return {"return": float(played.returns.mean()), "error": error, "length": float(played.lengths.mean())}


def page(found: dict[str, Any]) -> str:
    def cells(anchor: Anchor) -> list[str]:
        said = [anchor.family]
        for policy, old, length in zip(POLICIES, anchor.old, anchor.old_lengths, strict=True):
            row = found["families"][anchor.family][policy]
            was = f"{old:g}" if length is None else f"{old:g} ({length:g} steps)"
            said += [f"{row['return']:.1f} +- {row['error']:.1f}", f"{row['length']:.0f}", was]
        return [*said, anchor.note]

    header = ["family", "zero", "steps", "before", "uniform", "steps", "before", ""]
    return (
        f"# Anchors: undiscounted returns on the test tasks, mujoco {found['mujoco']}\n\n"
        f"Mean of {found['episodes']} episodes or more, as many on every task, +- standard error; mean length.\n"
        "`before`: facts/mql-pearl.md, mujoco 4.0.0.\n\n"
        f"```\n{table(header, [cells(anchor) for anchor in ANCHORS])}\n```\n"
    )


def main() -> None:
    families = {
        anchor.family: {policy: measure(anchor.family, policy, NUM_EPISODES, 0) for policy in POLICIES}
        for anchor in ANCHORS
    }
    found = {"mujoco": mujoco.__version__, "episodes": NUM_EPISODES, "families": families}
    (RESULTS / "anchors.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "anchors.md").write_text(page(found))
    print(page(found))


if __name__ == "__main__":
    main()
