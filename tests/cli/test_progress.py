"""What a stage tells: rows that survive a resumption, TensorBoard events that agree, lines at a human pace."""

import json
from pathlib import Path

import pytest

from omrl_cli import console, progress
from omrl_cli.progress import Lines, Pace, Teller, read_rows


def steps(folder: Path) -> list[int]:
    return [step for step, _ in read_rows(folder / "metrics.jsonl")]


def tell(folder: Path, resumed: bool, *at: int) -> None:
    with Teller("x", folder, resumed) as teller:
        for step in at:
            teller.metrics(step, {"loss": step / 2})


def test_rows_past_a_resumed_cursor_are_rewritten(tmp_path: Path) -> None:
    tell(tmp_path, False, 10, 20, 30, 40)
    tell(tmp_path, True, 30, 40, 50)
    assert steps(tmp_path) == [10, 20, 30, 40, 50]
    tell(tmp_path, False, 10)
    assert steps(tmp_path) == [10]


def test_a_torn_row_goes(tmp_path: Path) -> None:
    tell(tmp_path, False, 10, 20)
    whole = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(whole[:-5])
    tell(tmp_path, True, 20, 30)
    assert steps(tmp_path) == [10, 20, 30]


def test_nothing_told_nothing_lost(tmp_path: Path) -> None:
    tell(tmp_path, False, 10)
    tell(tmp_path, True)
    assert steps(tmp_path) == [10]


def test_values_that_json_lacks_are_null(tmp_path: Path) -> None:
    with Teller("x", tmp_path, False) as teller:
        teller.metrics(1, {"a": float("nan"), "b": float("inf"), "c": 1})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "a": None, "b": None, "c": 1.0}


def test_events_hold_the_same_numbers_once(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event

    tell(tmp_path, False, 10, 20, 30)
    tell(tmp_path, True, 20, 30)
    (file,) = (tmp_path / "tb").iterdir()
    content, seen = file.read_bytes(), []
    while content:  # length [8], its checksum [4], the event, its checksum [4]
        length = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + length])
        seen += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        content = content[16 + length :]
    assert seen == [(10, "loss", 5.0), (20, "loss", 10.0), (30, "loss", 15.0)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """`clock[0]` is what time it is."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    console.configure(0, 0, False)
    return now


def test_lines_come_every_few_seconds_and_at_the_end(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines("train")
    for done in range(0, 101, 10):
        lines.show(done, 100, "updates", f"loss {done}")
        clock[0] += 1
    assert capsys.readouterr().err.splitlines() == [
        "train  50/100 updates  10/s  ETA 5.0 s  loss 50",
        "train  100/100 updates  10/s  loss 100",
    ]


def test_rate_counts_from_where_this_process_began(clock: list[float]) -> None:
    pace = Pace()
    pace.update(5000, "updates")
    assert pace.rate(5000) == 0
    clock[0] += 2
    pace.update(5100, "updates")
    assert pace.describe(5100, 6000, "updates") == "5100/6000 updates  50/s  ETA 18.0 s"
    pace.update(1, "episodes")
    assert pace.describe(1, 10, "episodes") == "1/10 episodes"


def test_bar_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console, "live", lambda: True)
    with Teller("train", tmp_path, False) as teller:
        teller.progress(3, 10, "updates", "loss 1")
        teller.note("a note")
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "3/10 updates  loss 1" in seen.err
    assert "a note" in seen.err


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    console.configure(1, 0, False)
    console.talk("nothing")
    assert not console.live()
    console.configure(0, 1, False)
    console.talk("something", console.VERBOSE)
    assert capsys.readouterr().err == "something\n"
    console.configure(0, 0, False)


def test_units() -> None:
    assert [console.size(n) for n in (12, 1234, 12_345_678, 3.2e9, 5e12)] == [
        "12 B",
        "1.2 kB",
        "12.3 MB",
        "3.2 GB",
        "5.0 TB",
    ]
    assert [console.duration(s) for s in (3.21, 75, 4000)] == ["3.2 s", "1 min 15 s", "1 h 06 min"]
    assert console.table(("name", "n"), [("a", 5), ("long", 12)]) == "name   n\na      5\nlong  12"
