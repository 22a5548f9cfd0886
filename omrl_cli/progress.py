"""How a stage talks while it runs: metrics to files, progress to the person watching."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from omrl_cli import console
from pipelines.store.disk import room_for

LINE_EVERY_S = 5.0  # plain lines, where stderr is no terminal
FLUSH_EVERY_S = 10  # TensorBoard files
ROW_COPIES = 4  # a row of metrics.jsonl, and its event with framing


class Teller:
    """core.work.Tell for one run of one stage. `folder` gets metrics.jsonl and tb/.

    `resumed` keeps the rows that an earlier process wrote, up to where this one takes over.
    """

    def __init__(self, title: str, folder: Path, resumed: bool) -> None:
        self._progress: Bar | Lines = Bar(title) if console.live() else Lines(title)
        self._rows = Rows(folder, resumed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.close()
        self._rows.close()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """One row at `step`."""
        self._rows.write(step, {name: float(value) for name, value in values.items()})

    def progress(self, done: int, total: int, unit: str, headline: str = "") -> None:
        """`done` of `total` units."""
        self._progress.show(done, total, unit, headline)

    def note(self, text: str) -> None:
        """A line of talk."""
        console.talk(text)


class Rows:
    """metrics.jsonl, and the same numbers as TensorBoard events. The JSON lines are the truth: on resumption the events
    are written again from the lines that stand."""

    def __init__(self, folder: Path, resumed: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._events = folder / "metrics.jsonl", folder / "tb"
        self._writer: Any = None
        self._fresh = True  # nothing written by this process yet
        self._flushed = time.monotonic()
        if not resumed:
            self._path.unlink(missing_ok=True)
            shutil.rmtree(self._events, ignore_errors=True)

    def write(self, step: int, values: dict[str, float]) -> None:
        line = _line(step, values)
        with room_for(ROW_COPIES * len(line), self._path.parent, "the metrics"):
            if self._fresh:
                self._take_over(step)
            with self._path.open("a") as file:
                file.write(line)
            self._event(step, values)

    def close(self) -> None:
        if self._writer is not None:
            with room_for(0, self._path.parent, "the metrics"):
                self._writer.close()

    def _take_over(self, step: int) -> None:
        """Drops the rows at or past `step`, and a row that was torn when its process died."""
        # Not SummaryWriter: its thread dies of a full disk without a word, and its queue then blocks for ever.
        from tensorboardX.event_file_writer import EventsWriter

        kept = [row for row in read_rows(self._path) if row[0] < step]
        self._path.write_text("".join(_line(*row) for row in kept))
        shutil.rmtree(self._events, ignore_errors=True)
        self._events.mkdir(parents=True)
        self._writer = EventsWriter(str(self._events / "events"))
        for row in kept:
            self._event(*row)
        self._fresh = False

    def _event(self, step: int, values: Mapping[str, float | None]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items() if value is not None]
        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))
        if time.monotonic() - self._flushed > FLUSH_EVERY_S:
            self._writer.flush()
            self._flushed = time.monotonic()


def read_rows(path: Path) -> list[tuple[int, dict[str, float | None]]]:
    """(step, values) of the rows of a metrics.jsonl; a torn last line is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            break
        rows.append((values.pop("step"), values))
    return rows


def _line(step: int, values: Mapping[str, float | None]) -> str:
    finite = {name: value if value is not None and value - value == 0 else None for name, value in values.items()}
    return json.dumps({"step": step, **finite}) + "\n"


class Pace:
    """Rate and time left, of what this process did: what came before a resumption, and compilation, do not count."""

    def __init__(self) -> None:
        self._unit, self._first, self._start = "", 0, 0.0

    def update(self, done: int, unit: str) -> None:
        """A new unit, or a count that fell, is a new phase."""
        if unit != self._unit or done < self._first:
            self._unit, self._first, self._start = unit, done, time.monotonic()

    def rate(self, done: int) -> float:
        """Units per second; 0 while unknown."""
        elapsed = time.monotonic() - self._start
        return (done - self._first) / elapsed if elapsed > 0 else 0.0

    def describe(self, done: int, total: int, unit: str, headline: str = "") -> str:
        """`6000/60000 updates  410/s  ETA 2 min 12 s  critic_loss 0.3`"""
        parts = [f"{done}/{total} {unit}"]
        if rate := self.rate(done):
            parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s")
            if done < total:
                parts.append(f"ETA {console.duration((total - done) / rate)}")
        return "  ".join([*parts, headline] if headline else parts)


class Lines:
    """Progress as a plain line every few seconds, and one at the end of each phase."""

    def __init__(self, title: str) -> None:
        self._title, self._pace, self._last = title, Pace(), time.monotonic()

    def show(self, done: int, total: int, unit: str, headline: str) -> None:
        self._pace.update(done, unit)
        now = time.monotonic()
        if now - self._last >= LINE_EVERY_S or done >= total:
            self._last = now
            console.talk(f"{self._title}  {self._pace.describe(done, total, unit, headline)}")

    def close(self) -> None:
        """Nothing to tidy up."""


class Bar:
    """Progress as one moving line on a terminal."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(24),
            TextColumn("{task.fields[text]}", markup=False),
        )
        self._title, self._pace = title, Pace()
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task(title, total=None, text="compiling")
        self._bar.start()

    def show(self, done: int, total: int, unit: str, headline: str) -> None:
        self._pace.update(done, unit)
        text = self._pace.describe(done, total, unit, headline)
        self._bar.update(self._task, completed=done, total=total, text=text)

    def close(self) -> None:
        self._bar.stop()
