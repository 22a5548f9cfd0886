"""`make results`: runs the tables of the README with all their seeds, commits them to files, and renders them.

    python -m benchmarks.results                  run what is missing, write benchmarks/results/*.json, render, judge
    python -m benchmarks.results --only time-point
    python -m benchmarks.results --render         no runs: README and verdicts from the committed files

Resumable: a killed run goes on where it stopped, artifact by artifact and checkpoint by checkpoint.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import targets

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
PAGES = (README, ROOT / "docs" / "results.md")  # where tables stand, each between markers of its own
SEEDS = {
    "time-point": "0-4",
    "time-point-random": "0-2",
    "time-point-ablations": "0-2",
    "time-point-spread": "0-4",
    "mbml-disjoint": "0-4",
    "mbml-umaze-goal": "0-4",
    "mbml-halfcheetah-vel": "0-4",
    "mbml-ant-goal": "0-2",
    "time-halfcheetah": "0-2",
    "borel-gridworld": "0-4",
    "borel-point-semicircle-sparse": "0-4",
    "borel-halfcheetah-vel": "0-2",
    "borel-escape-room": "0-2",
    "borel-point-wind": "0-2",
    "mql-halfcheetah-vel": "0-4",
    "mql-halfcheetah-dir": "0-4",
    "compare-point-semicircle": "0-4",
}
PRESET = "small"
LONG = ("time-point", "time-point-random", "time-point-ablations", "time-point-spread")  # shown with every task
BOREL_PICTURES = ("behaviour", "figure-3", "figure-4", "figure-7", "figures-10-11")  # before the domain's name
MQL_PICTURES = ("figure-2", "figure-3", "figure-4", "figure-4-curves", "figure-5")  # the whole name
COMPARED = "### Every method, by its own protocol"
BRIEF_PICTURES = ("learning", "scores", "probe-mbml", "probe-neither", "figure-3")
PICTURES = ("learning", "reference-ends", "method-ends", "scores", "sweep", "probe-mbml", "probe-neither", "figure-3")


def omrl(*args: str) -> str:
    """stdout of an omrl command; its talk goes to this terminal. Exits with its code where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "omrl_cli.main", *args], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


def git(*args: str) -> str:
    return subprocess.run(["git", *args], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()


def run(recipe: str, extra: list[str]) -> None:
    """Runs a recipe with its seeds and writes its figures and cards."""
    found = json.loads(omrl("run", recipe, "--preset", PRESET, "--seeds", SEEDS[recipe], "--resume", "--json", *extra))
    page = Path(found["pages"][-1]).parent
    cards = {step["ref"]: json.loads(omrl("show", step["ref"], "--json")) for step in found["steps"]}
    kept = (
        "kind",
        "stage",
        "seed",
        "config",
        "digest",
        "parents",
        "metrics",
        "code",
        "packages",
        "platform",
        "seconds",
    )
    data = {
        "recipe": recipe,
        "preset": PRESET,
        "seeds": SEEDS[recipe],
        "command": f"omrl run {recipe} --preset {PRESET} --seeds {SEEDS[recipe]}",
        "commit": git("rev-parse", "HEAD"),
        "table": json.loads((page / "table.json").read_text()),
        "steps": [
            {"step": step["step"], "id": step["id"], **{name: cards[step["ref"]].get(name) for name in kept}}
            for step in found["steps"]
        ],
    }
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{recipe}.json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    (OUT / f"{recipe}.md").write_text((page / "table.md").read_text())
    (OUT / f"{recipe}.csv").write_text((page / "table.csv").read_text())
    for png in sorted(page.glob("*.png")):
        if name := picture(recipe, png.stem):
            shutil.copy(png, OUT / f"{recipe}-{name}.png")


def picture(recipe: str, stem: str) -> str | None:
    """What a page's picture is called among the results; None: it stays on the page.

    `point-semicircle-time-test-learning` -> `learning`, `figure-7-gridworld-borel` -> `figure-7`
    """
    if recipe.startswith("mql"):
        return stem if stem in MQL_PICTURES else None
    if recipe.startswith("compare"):
        return "compared" if stem.endswith("-compared") else None
    wanted = (*PICTURES, "proposition") if recipe in LONG else () if recipe.startswith("borel") else BRIEF_PICTURES
    if not (stem.endswith(wanted) or stem.startswith(BOREL_PICTURES)):
        return None
    named = next((name for name in BOREL_PICTURES if stem.startswith(name)), stem)
    return next((name for name in PICTURES if stem.endswith(name)), named)


def render(text: str, recipe: str, table: str) -> str | None:
    """`text` with what stands between the recipe's markers replaced by `table`; None without markers."""
    begin, end = f"<!-- results:{recipe} -->", f"<!-- /results:{recipe} -->"
    pattern = re.compile(re.escape(begin) + r".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(text):
        return None
    return pattern.sub(lambda match: f"{begin}\n{table.strip()}\n{end}", text)


def brief(table: str) -> str:
    """A table without what only a reader of benchmarks/results wants: all tasks one by one, and ids."""
    blocks = re.split(r"\n\n+", table.strip())
    gone = ("| task |", "Evaluations, by", "Probes, by", "### Figures of", "- ")
    kept = [block for block in blocks if not block.startswith(gone)]
    return "\n\n".join(f"**{block[4:]}**" if block.startswith("### ") else block for block in kept)


def shown(recipe: str, table: str) -> str:
    """What the pages show of a recipe's table; of a comparison the part that puts the methods beside each other."""
    if recipe.startswith("compare"):
        return brief(table[table.index(COMPARED) :])
    whole = re.sub(r"^### .*\n", "", table, count=1)
    return whole if recipe in LONG else brief(whole)


def render_pages() -> None:
    """Puts every table into the page that has its markers. Raises SystemExit where none has."""
    texts = {page: page.read_text() for page in PAGES}
    for recipe in SEEDS:
        table = OUT / f"{recipe}.md"
        if not table.exists():
            continue
        new = {page: render(text, recipe, shown(recipe, table.read_text())) for page, text in texts.items()}
        if all(text is None for text in new.values()):
            raise SystemExit(f"no page has markers <!-- results:{recipe} --> ... <!-- /results:{recipe} -->")
        texts |= {page: text for page, text in new.items() if text is not None}
    for page, text in texts.items():
        page.write_text(text)


def load() -> dict[str, dict[str, Any]]:
    return {recipe: json.loads(path.read_text()) for recipe in SEEDS if (path := OUT / f"{recipe}.json").exists()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(SEEDS), help="these recipes (repeat)")
    parser.add_argument("--render", action="store_true", help="run nothing")
    parser.add_argument("--accept-stale", action="store_true", help="artifacts of another code version count as made")
    asked = parser.parse_args()
    for recipe in () if asked.render else asked.only or SEEDS:
        run(recipe, ["--accept-stale"] if asked.accept_stale else [])
    render_pages()
    lines = targets.judge(load())
    print("\n".join(lines))
    raise SystemExit(5 if any(line.startswith("MISSED") for line in lines) else 0)


if __name__ == "__main__":
    main()
