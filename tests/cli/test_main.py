"""The doorway itself: exit codes, where text goes, what gets imported."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from omrl_cli import __version__, browse, main
from pipelines.core import errors

from .conftest import environment

HEAVY = ("jax", "jaxlib", "flax", "orbax", "matplotlib", "mujoco", "brax", "gymnasium", "tensorboardX", "rich", "numpy")


def test_version_and_help(omrl) -> None:
    assert omrl("--version").out == f"omrl {__version__}\n"
    for arguments in ([], ["--help"], ["-h"]):
        said = omrl(*arguments)
        assert (said.code, said.err) == (0, "")
        assert all(name in said.out for name in ("collect", "distill", "metatrain", "lineage", "doctor"))
        assert "..." not in said.out.partition("Commands:")[2]  # every line of help is whole


def test_help_goes_from_making_to_looking(omrl) -> None:
    listed = omrl("--help").out.partition("Commands:")[2].split("\n  ")[1:]
    making = ["collect", "import", "train", "relabel", "replay", "belief", "distill", "metatrain"]
    making += ["eval", "finetune", "report", "run"]
    looking = ["rollout", "ls", "show", "inspect", "export", "lineage", "diff", "verify", "gc", "families", "recipes"]
    assert [line.split()[0] for line in listed] == [*making, *looking, "doctor", "config"]


def test_a_group_alone_prints_its_help(omrl) -> None:
    said = omrl("config")
    assert (said.code, said.err) == (0, "")
    assert said.out == omrl("config", "--help").out
    assert "show  Print a stage's resolved config" in said.out


@pytest.mark.parametrize("below", ["", "store"])
def test_a_store_that_is_a_file_is_refused(omrl, tmp_path: Path, below: str) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    for arguments in (["collect"], ["collect", "--dry-run"], ["run", "time-point"], ["ls"], ["show", "a"]):
        said = omrl(*arguments, "--store", file / below)
        assert (said.code, said.out) == (2, "")
        cause = f"error: --store {file / below}: {file} is a file"
        assert said.err == f"{cause}\nhint: --store (or OMRL_STORE) wants a folder\n"
    assert file.read_text() == "mine"


def test_no_help_is_cut(omrl) -> None:
    for command in ("collect", "train", "distill", "metatrain", "eval", "report", "run"):
        said = omrl(command, "--help")
        assert said.code == 0
        assert all(name in said.out for name in ("--store", "--json", "--dry-run", "--resume", "OMRL_PRESET"))


@pytest.mark.parametrize(
    ("arguments", "cause", "hint"),
    [
        (["colect"], "No such command 'colect'", "did you mean 'collect'?"),
        (["ls", "--kid", "x"], "No such option: --kid", "did you mean --kind?"),
        (["zzz"], "No such command 'zzz'", "see `omrl --help`"),
        (["show"], "Missing argument 'REF'", "see `omrl show --help`"),
        (["collect", "--seed", "x"], "Invalid value for '--seed'", "see `omrl collect --help`"),
        (["collect", "--seed", "-1"], "Invalid value for '--seed'", "see `omrl collect --help`"),
        (["collect", "--preset", "smal"], "unknown preset 'smal' of collect", "did you mean small?"),
        (["collect", "--set", "steps"], "--set wants field=value, got 'steps'", "for example"),
        (["collect", "--set", "stps=3"], "unknown field 'stps'", "did you mean steps?"),
        (["ls", "--kind", "replaylog"], "unknown kind 'replaylog'", "did you mean replay-log?"),
    ],
)
def test_usage_errors_name_the_nearest_match(omrl, arguments: list[str], cause: str, hint: str) -> None:
    said = omrl(*arguments)
    assert (said.code, said.out) == (2, "")
    first, second = said.err.splitlines()
    assert first.startswith(f"error: {cause}")
    assert second.startswith(f"hint: {hint}")


@pytest.mark.parametrize(
    ("kind", "code"),
    [("StageFailed", 1), ("UsageError", 2), ("InputMissing", 3), ("WrongKind", 4), ("CheckFailed", 5)],
)
def test_exit_codes(omrl, monkeypatch: pytest.MonkeyPatch, kind: str, code: int) -> None:
    def fail(*arguments: object) -> None:
        raise getattr(errors, kind)("the cause", "the hint")

    monkeypatch.setattr(browse, "ls", fail)
    said = omrl("ls")
    assert (said.code, said.err) == (code, "error: the cause\nhint: the hint\n")
    assert "Traceback" in omrl("ls", "--debug").err


def test_an_unexpected_error_is_one_line_unless_asked(omrl, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise ValueError("first line\nsecond line")

    monkeypatch.setattr(browse, "ls", fail)
    said = omrl("ls")
    assert (said.code, said.err) == (1, "error: ValueError: first line\nhint: --debug shows where it came from\n")
    monkeypatch.setenv("OMRL_DEBUG", "1")
    assert "Traceback" in omrl("ls").err


def test_ctrl_c_anywhere_is_130(omrl, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(browse, "ls", interrupt)
    assert omrl("ls").code == 130
    monkeypatch.setattr(main, "app", interrupt)
    assert omrl("ls").code == 130


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["ls"],
        ["collect", "--help"],
        ["recipes"],
        ["families"],
        ["config", "show", "collect"],
        ["run", "time-point", "--dry-run"],
        ["collect", "--dry-run"],
        ["show", "nothing"],
        ["gc"],
    ],
)
def test_looking_imports_nothing_heavy(arguments: list[str], store: Path) -> None:
    program = (
        "import sys; from omrl_cli.main import main\n"
        f"main({arguments!r})\n"
        f"sys.exit(str([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=False
    )
    assert found.stderr.splitlines()[-1] == "[]"


def test_a_reader_that_closes_the_pipe_is_no_failure(store: Path) -> None:
    program = [sys.executable, "-m", "omrl_cli.main", "config", "show", "distill"]
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        found = subprocess.run(
            program, stdout=closed, stderr=subprocess.PIPE, text=True, env=environment(), check=False
        )
    assert (found.returncode, found.stderr) == (0, "")


def test_output_has_no_escape_codes(shell) -> None:
    for more in ({"NO_COLOR": "1"}, {"FORCE_COLOR": "1", "CI": ""}, {"TERM": "dumb"}):
        said = shell("recipes", **more)
        assert said.code == 0
        assert not re.search("\x1b", said.out + said.err)


def test_recipes_and_families(omrl) -> None:
    assert "time-point" in omrl("recipes").out
    assert [one["name"] for one in json.loads(omrl("recipes", "--json").out)["recipes"]]
    assert "point-semicircle/time" in omrl("families").out
    assert "point-semicircle/spread" in {one["name"] for one in json.loads(omrl("families", "--json").out)["families"]}
