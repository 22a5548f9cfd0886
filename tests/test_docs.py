"""The commands of the README and of docs/ are executed: each ```sh block with `<!-- test -->` on the line before it.

A block with `<!-- file: NAME -->` before it is that file in the folder where the commands run.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from omrl_cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILE = re.compile(r"<!-- file: (\S+) -->\n+```\w*\n(.*?)```", re.DOTALL)
BLOCK = re.compile(r"<!-- test -->\n+```sh\n(.*?)```", re.DOTALL)


def commands(text: str) -> list[str]:
    """The `omrl` lines of the marked blocks; continued lines joined, prompts and comments cut."""
    lines = [line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    cut = [line.strip().removeprefix("$ ") for line in lines]
    return [line for line in cut if line.startswith("omrl ")]


def test_extraction() -> None:
    text = "<!-- test -->\n```sh\n$ omrl ls  # all\nmake demo\nomrl show \\\n  x &\n```\n```sh\nomrl gc\n```\n"
    assert commands(text) == ["omrl ls  # all", "omrl show    x &"]


def words(line: str) -> tuple[list[str], bool]:
    """(arguments of `omrl`, whether the line goes on while the next ones run)"""
    _, *arguments = shlex.split(line, comments=True)
    return (arguments[:-1], True) if arguments[-1] == "&" else (arguments, False)


def test_words() -> None:
    assert words("omrl ls --json  # all") == (["ls", "--json"], False)
    assert words("omrl show x &") == (["show", "x"], True)


def files(text: str) -> dict[str, str]:
    """name -> content of the marked blocks."""
    return dict(FILE.findall(text))


def test_files() -> None:
    assert files("<!-- file: a.py -->\n```python\nx = 1\n```\n```python\ny = 2\n```\n") == {"a.py": "x = 1\n"}


NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]


@pytest.mark.parametrize("page", NAMES)
def test_a_page_names_commands_and_options_that_there_are(page: str) -> None:
    """What the fast tests can tell of a page: each line parses."""
    found = commands((ROOT / page).read_text())
    assert found
    for line in found:
        parse(words(line)[0])


def test_a_line_that_does_not_parse() -> None:
    with pytest.raises(typer.TyperException, match="--famliy"):
        parse(["collect", "--famliy", "point-semicircle/time"])


def parse(arguments: list[str]) -> None:
    """Raises where the command line would refuse; runs nothing."""
    command: Any = typer.main.get_command(main.app)
    while hasattr(command, "commands"):
        name, *arguments = arguments
        assert name in command.commands, f"no subcommand {name}"
        command = command.commands[name]
    command.make_context("omrl", arguments)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", NAMES)
def test_a_page_works(page: str, tmp_path: Path) -> None:
    """All in one store and in order, for the later commands look at what the earlier ones made."""
    text = (ROOT / page).read_text()
    found = commands(text)
    assert found
    for name, content in files(text).items():
        (tmp_path / name).write_text(content)
    env = {
        **os.environ,
        "OMRL_STORE": str(tmp_path / "store"),
        "OMRL_PRESET": "tiny",
        "CI": "1",
        "PYTHONPATH": str(ROOT),
    }
    beside: list[subprocess.Popen[bytes]] = []
    for line in found:
        arguments, goes_on = words(line)
        if "--preset" in arguments:  # whatever the page says, tiny is what a test can wait for
            arguments[arguments.index("--preset") + 1] = "tiny"
        command = [sys.executable, "-m", "omrl_cli.main", *arguments]
        if goes_on:
            beside.append(subprocess.Popen(command, cwd=tmp_path, env=env))
            continue
        said = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert said.returncode == 0, f"{line}\n{said.stdout}\n{said.stderr}"
    assert [one.wait(timeout=100) for one in beside] == [0] * len(beside)


def test_the_example_is_as_short_as_the_page_says() -> None:
    lines = files((ROOT / "docs/own-family.md").read_text())["puck.py"].splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 40
