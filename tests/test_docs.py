"""The README's commands are executed: each ```sh block that has `<!-- test -->` on the line before it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"<!-- test -->\n+```sh\n(.*?)```", re.DOTALL)


def commands(text: str) -> list[str]:
    """The `omrl` lines of the marked blocks; continued lines joined, prompts and comments cut."""
    lines = [line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    cut = [line.strip().removeprefix("$ ") for line in lines]
    return [line for line in cut if line.startswith("omrl ")]


def test_extraction() -> None:
    text = "<!-- test -->\n```sh\n$ omrl ls  # all\nmake demo\nomrl show \\\n  x\n```\n```sh\nomrl gc\n```\n"
    assert commands(text) == ["omrl ls  # all", "omrl show    x"]


@pytest.mark.timeout(900)
def test_the_readme_works(tmp_path: Path) -> None:
    """All in one store and in order, for the later commands look at what the earlier ones made."""
    found = commands((ROOT / "README.md").read_text())
    if not found:
        pytest.skip("the README has no marked commands yet")
    env = {
        **os.environ,
        "OMRL_STORE": str(tmp_path / "store"),
        "OMRL_PRESET": "tiny",
        "CI": "1",
        "PYTHONPATH": str(ROOT),
    }
    for line in found:
        arguments = shlex.split(line, comments=True)[1:]
        if "--preset" in arguments:  # whatever the README says, tiny is what a test can wait for
            arguments[arguments.index("--preset") + 1] = "tiny"
        said = subprocess.run(
            [sys.executable, "-m", "omrl_cli.main", *arguments],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert said.returncode == 0, f"{line}\n{said.stdout}\n{said.stderr}"
