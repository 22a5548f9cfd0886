"""Several processes at one stage: one `jax.distributed` job on one store, which all of them see.

Each works on its share of the groups of tasks (stages/parts.py) and leaves it as checkpoints; the leader, process 0,
decides what is to be done, gathers the shares and writes the artifact. They meet at the same points in the same order:
before a stage runs, when the shares are done, when the artifact is stored. jax-free: `platform.join` makes a crew.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pipelines.core.errors import StageFailed, UsageError

FAILED, GO, KEEP, RUN, RESUME = range(-1, 4)  # what a process says when it meets the others
HINT = "--cluster auto finds the job of Slurm, MPI or a TPU pod; HOST:PORT,N,I says it"


class Dismissed(Exception):
    """Ends a follower's run of a stage."""


@dataclass(eq=False)
class Crew:
    """Process `number` of `count`; `gather(word)` waits for all of them and gives the word of each. One that fails says
    so to the others, who then stop, too."""

    number: int = 0
    count: int = 1
    gather: Callable[[int], list[int]] = lambda word: [word]
    broken: bool = field(default=False, init=False)

    @property
    def leads(self) -> bool:
        return self.number == 0

    def meet(self, word: int = GO) -> int:
        """Waits for all the others. -> the leader's word. Raises StageFailed if another process failed."""
        if self.count == 1 or self.broken:
            return word
        said = self.gather(word)
        failed = [number for number, one in enumerate(said) if one == FAILED]
        self.broken = bool(failed)
        if failed and self.number not in failed:
            who = ", ".join(str(number) for number in failed)
            raise StageFailed(
                f"process {who} of {self.count} failed", "its own message says why; with --resume all go on from there"
            )
        return said[0]

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Whoever is thrown out of it, tells the others."""
        try:
            yield
        except BaseException:
            self.meet(FAILED)
            raise


ALONE = Crew()


def place(text: str) -> tuple[str, int, int] | None:
    """`HOST:PORT,N,I` -> (coordinator, processes, number of this one); `auto` -> None. Raises UsageError."""
    if text == "auto":
        return None
    address, *numbers = text.split(",")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or len(numbers) != 2 or not all(one.isdecimal() for one in numbers):
        raise UsageError(f"--cluster {text} is neither auto nor HOST:PORT,N,I", HINT)
    count, number = (int(one) for one in numbers)
    if number >= count:
        raise UsageError(f"--cluster {text}: process {number} of {count}", "processes are counted from 0")
    return address, count, number
