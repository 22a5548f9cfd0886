"""Files that a command writes where the user wants them."""

from pathlib import Path

import pytest

from omrl_cli import files
from pipelines.core.errors import StageFailed, UsageError


@pytest.mark.parametrize(
    ("kind", "name", "cause", "hint"),
    [
        ("video", "a.avi", "--video a.avi", "its name must end in .gif or .mp4"),
        ("figure", "a.html", "--figure a.html", "its name must end in .png"),
        ("html", "there.html", "there.html exists", "--force overwrites it"),
        ("picture", "no/a.png", "there is no folder no", "mkdir -p no"),
    ],
)
def test_what_cannot_be_written_is_refused_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str, cause: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.html").write_text("old")
    with pytest.raises(UsageError) as caught:
        files.check({kind: Path(name)}, force=False)
    assert (caught.value.cause, caught.value.hint) == (cause, hint)
    files.check({"html": Path("new.html"), "figure": Path("a.png")}, force=False)
    files.check({"html": Path("there.html")}, force=True)


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    files.write(path, b"one", "inspect")
    files.write(path, b"other", "inspect")
    assert path.read_bytes() == b"other"
    (folder := tmp_path / "b.png").mkdir()
    with pytest.raises(StageFailed, match=r"cannot write .*b\.png"):
        files.write(folder, b"one", "inspect")
    assert sorted(tmp_path.iterdir()) == [path, folder]
