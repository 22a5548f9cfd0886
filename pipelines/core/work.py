"""What a stage is given and what it gives back. jax-free: the command line and the store share these types."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipelines.core.configs.base import Config
from pipelines.core.crew import ALONE, Crew

Tree = Any  # a nested dict of arrays, or a NamedTuple of them


class Artifact(Protocol):
    """A parent artifact: its card, and its arrays when asked for."""

    @property
    def card(self) -> Any: ...

    def arrays(self, only: Collection[str] | None = None) -> dict[str, Any]:
        """The tree as nested dicts of numpy arrays: all of it, or what lies under the names `only` at its top. Raises
        CheckFailed if a file is damaged."""

    def file(self, name: str) -> Path:
        """Path of an extra file (`metrics.jsonl`, `page.html`). Raises InputMissing."""


class Checkpoint(Protocol):
    """Where a long stage keeps what resuming needs. Cursors only grow."""

    def load(self, target: Tree) -> tuple[int, Tree] | None:
        """(cursor, tree) of the newest whole checkpoint in the structure of `target`, or None on a fresh start."""

    def save(self, cursor: int, tree: Tree) -> None:
        """Keeps `tree` (device or host arrays) durably; the previous checkpoint stays until this one is whole."""

    def due(self) -> bool:
        """True once enough wall time has passed since the last save. Bits never depend on when that is."""

    def part(self, number: int) -> "Checkpoint":
        """The place of part `number` of a work that is done in several, beside those of the others."""


class Tell(Protocol):
    """How a stage talks: progress for a person, metrics for machines. Never prints itself."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """One row of metrics.jsonl and TensorBoard at `step`. Rows at or past a resumed cursor are rewritten."""

    def progress(self, done: int, total: int, unit: str, headline: str = "") -> None:
        """Progress with rate and ETA; `headline` is the metric that matters, already formatted."""

    def note(self, text: str) -> None:
        """A line of talk on stderr."""


@dataclass(frozen=True)
class Work:
    """One run of one stage. `inputs[role]` is an Artifact, or a list of them where the role takes many."""

    config: Config
    seed: int
    inputs: Mapping[str, Any]
    checkpoint: Checkpoint
    tell: Tell
    tasks_at_once: int | None = None  # what fits; None: all
    part: tuple[int, int] = (0, 1)  # which part of how many, where a stage does its tasks in groups
    crew: Crew = ALONE  # the processes that share the groups


@dataclass(frozen=True)
class Product:
    """What a stage made. `arrays` is a nested dict of arrays, `metrics` flat numbers for the card, `tasks` the task
    table as JSON, `extra` JSON that the next stage needs (family, space, algorithm), `files` name -> content."""

    arrays: dict[str, Any]
    metrics: Mapping[str, float] = field(default_factory=dict)
    tasks: Sequence[Mapping[str, Any]] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    name: str = ""  # what the alias is called: `replay-log/<name>@3`
