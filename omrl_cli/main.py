"""The `omrl` command line: one function per subcommand, and the error boundary.

stdout is data, stderr is talk. Exit codes: 0 ok, 1 the stage failed, 2 usage or config, 3 input missing, 4 wrong kind
or incompatible version, 5 a check failed, 130 interrupted. Nothing heavy is imported before a subcommand needs it.
"""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from omrl_cli import __version__, console
from omrl_cli.options import Common, Configuring, OneStage, Running, command, option
from pipelines.core.errors import OmrlError, UsageError

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
app = typer.Typer(
    name="omrl",
    help="Offline meta-RL: from training logs of many agents to one policy for tasks it has never seen.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
)
config_app = typer.Typer(help="Show configs.", rich_markup_mode=None, context_settings=SETTINGS, no_args_is_help=True)
app.add_typer(config_app, name="config")

Ref = Annotated[str, typer.Argument(metavar="REF", help="An id, the beginning of one, id@generation, or an alias.")]


@app.callback(invoke_without_command=True)
def top(
    context: typer.Context, version: Annotated[bool, option("--version", help="Print the version and stop.")] = False
) -> None:
    """Without a subcommand: the version, or the help."""
    if version:
        console.out(f"omrl {__version__}")
    elif context.invoked_subcommand is None:
        console.out(context.get_help())


# ------------------------------------------------------------------------------------------------------ stages
def role(name: str, help: str) -> Any:
    """The option that gives a stage one of its inputs."""
    return option(f"--{name}", metavar="REF", help=help, show_default=False)


def field(name: str, help: str) -> Any:
    """The option that sets one of a stage's config fields; `--set` sets any."""
    return option(f"--{name}", help=help, show_default=False)


@command(app, OneStage)
def collect(
    common: OneStage,
    *,
    family: Annotated[str | None, field("family", "Task family; `omrl families` lists them.")] = None,
) -> None:
    """Train one agent per task, keep everything: -> replay-log."""
    _stage("collect", common, {}, {"family": family})


@command(app, OneStage, name="import")
def import_(
    common: OneStage,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A folder or a file that holds logs.")],
    *,
    format: Annotated[
        str | None, field("format", "auto, borel, minari, d4rl, npz, focal, macaw, mbml or mapping.")
    ] = None,
    mapping: Annotated[
        Path | None, option("--mapping", metavar="FILE", help="YAML: which array is which column (docs/logs.md).")
    ] = None,
    family: Annotated[str | None, field("family", "The family that the tasks are of, if it is known.")] = None,
    horizon: Annotated[int | None, field("horizon", "Steps of an episode; the family's if left out.")] = None,
    allow_pickle: Annotated[
        bool | None,
        typer.Option("--allow-pickle", help="Read pickles (focal, mbml): arrays only.", show_default=False),
    ] = None,
) -> None:
    """Take in logs that somebody else wrote: -> replay-log."""
    from omrl_cli import data

    flags = {"format": format, "family": family, "horizon": horizon, "allow_pickle": allow_pickle}
    data.import_(common, source, mapping, flags)


@command(app, OneStage)
def train(
    common: OneStage,
    *,
    log: Annotated[str | None, role("log", "The replay-log to learn from.")] = None,
    algorithm: Annotated[str | None, field("algorithm", "batch-sac, bcq, cql, td3bc, iql, bc or discrete-bcq.")] = None,
) -> None:
    """Learn a policy per task: replay-log -> policy-set."""
    _stage("train", common, {"log": [log]}, {"algorithm": algorithm})


@command(app, OneStage)
def relabel(
    common: OneStage,
    *,
    log: Annotated[str | None, role("log", "The replay-log whose rows are to be relabelled.")] = None,
    reward: Annotated[str | None, field("reward", "model (ensembles learned from the log) or known.")] = None,
    rows_per_pair: Annotated[
        int | None, field("rows-per-pair", "Rows kept of each ordered pair of tasks; 4096 if left out.")
    ] = None,
) -> None:
    """Pay rows as in other tasks: replay-log -> relabelled-log."""
    _stage("relabel", common, {"log": [log]}, {"reward": reward, "rows_per_pair": rows_per_pair})


@command(app, OneStage)
def distill(
    common: OneStage,
    *,
    log: Annotated[str | None, role("log", "The replay-log that the teachers learned from.")] = None,
    teachers: Annotated[str | None, role("teachers", "The policy-set to distil.")] = None,
    method: Annotated[str | None, field("method", "time.")] = None,
) -> None:
    """Make one policy of many: replay-log, policy-set -> meta-policy."""
    _stage("distill", common, {"log": [log], "teachers": [teachers]}, {"method": method})


@command(app, OneStage)
def metatrain(
    common: OneStage,
    *,
    log: Annotated[str | None, role("log", "The replay-log to learn from.")] = None,
    algorithm: Annotated[str | None, field("algorithm", "batch-sac (pooled over tasks) or batch-pearl.")] = None,
) -> None:
    """Learn one policy from all logs: replay-log -> meta-policy."""
    _stage("metatrain", common, {"log": [log]}, {"algorithm": algorithm})


@command(app, OneStage, name="eval")
def evaluate(
    common: OneStage,
    *,
    policy: Annotated[
        str | None, role("policy", "What to try: a meta-policy, a policy-set, or a replay-log's agents.")
    ] = None,
    split: Annotated[str | None, field("split", "train, test or ood.")] = None,
    episodes: Annotated[int | None, field("episodes", "Episodes per task.")] = None,
) -> None:
    """Play a policy on the tasks of a split: policy -> report."""
    _stage("eval", common, {"policy": [policy]}, {"split": split, "episodes": episodes})


@command(app, OneStage)
def report(
    common: OneStage,
    *,
    reports: Annotated[list[str] | None, role("reports", "A report of `omrl eval`; may be repeated.")] = None,
) -> None:
    """Tables, figures and one HTML page: reports -> page."""
    _stage("report", common, {"reports": reports or []}, {})


def _stage(name: str, common: OneStage, refs: dict[str, Any], flags: dict[str, Any]) -> None:
    from omrl_cli import stage

    given = {role: [ref for ref in found if ref is not None] for role, found in refs.items()}
    stage.run(name, common, given, flags)


@command(app, Running)
def run(
    common: Running,
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name (`omrl recipes`) or a YAML file.")
    ],
    *,
    seeds: Annotated[str | None, option("--seeds", metavar="LIST", help="Training seeds, as 0-4 or 0,2,5.")] = None,
    seed: Annotated[int | None, option("--seed", metavar="N", min=0, help="One training seed; 0 if left out.")] = None,
    only: Annotated[
        list[str] | None, option("--only", metavar="STEP", help="Run this step alone; may be repeated.")
    ] = None,
) -> None:
    """Run a chain of stages, except what is up to date.

    --set takes step.field=value here.
    """
    from omrl_cli import recipe as recipes

    if seeds is not None and seed is not None:
        raise UsageError("--seed and --seeds together", "--seeds alone can say both")
    recipes.command(common, recipe, recipes.parse_seeds(seeds) if seeds is not None else [seed or 0], only)


@command(app, Common)
def rollout(
    common: Common,
    *,
    policy: Annotated[
        str | None, role("policy", "Who plays: a meta-policy, a policy-set, or a replay-log's agents.")
    ] = None,
    actor: Annotated[
        str | None, option("--actor", metavar="NAME", help="Or random, zero, or oracle where the family has one.")
    ] = None,
    family: Annotated[
        str | None,
        option("--family", metavar="NAME", help="What is played; the policy's own, as evaluated, if left out."),
    ] = None,
    split: Annotated[str, option("--split", metavar="NAME", help="train, test or ood.")] = "test",
    task: Annotated[list[str] | None, option("--task", metavar="NAME", help="Only this task; may be repeated.")] = None,
    episodes: Annotated[int, option("--episodes", metavar="N", min=1, help="Of each task.")] = 8,
    seed: Annotated[int, option("--seed", metavar="N", min=0, help="Of starts and random actions.")] = 0,
    match: Annotated[
        str, option("--match", metavar="HOW", help="Of a policy-set, a task's own policy, or the nearest task's.")
    ] = "own",
    video: Annotated[
        Path | None, option("--video", metavar="FILE", help="*.gif or *.mp4 of the first task's first episode.")
    ] = None,
    html: Annotated[
        Path | None, option("--html", metavar="FILE", help="That episode as a 3D page; its viewer is loaded online.")
    ] = None,
    picture: Annotated[
        Path | None, option("--picture", metavar="FILE", help="*.png of all episodes from above.")
    ] = None,
    force: Annotated[bool, option("--force", help="Overwrite files that exist.")] = False,
) -> None:
    """Play a policy or a scripted actor: returns, pictures, videos."""
    from omrl_cli import rollout as rollouts

    given = {"video": video, "html": html, "picture": picture}
    outputs = {kind: path for kind, path in given.items() if path is not None}
    request = rollouts.Request(policy, actor, family, split, task or [], episodes, seed, match, outputs, force)
    rollouts.run(common, request)


# ------------------------------------------------------------------------------------------------------ looking
@command(app, Common)
def ls(
    common: Common,
    *,
    kind: Annotated[
        str | None, option("--kind", metavar="KIND", help="Only this kind: replay-log, policy-set, ...")
    ] = None,
) -> None:
    """List the artifacts in the store."""
    from omrl_cli import browse

    browse.ls(common, kind)


@command(app, Common)
def show(common: Common, ref: Ref) -> None:
    """Show what an artifact says of itself."""
    from omrl_cli import browse

    browse.show(common, ref)


@command(app, Common)
def inspect(
    common: Common,
    ref: Ref,
    *,
    html: Annotated[Path | None, option("--html", metavar="FILE", help="All of it as one *.html page.")] = None,
    figure: Annotated[Path | None, option("--figure", metavar="FILE", help="*.png of how tasks overlap.")] = None,
    force: Annotated[bool, option("--force", help="Overwrite files that exist.")] = False,
) -> None:
    """Will a log work: returns, overlap, methods that fit."""
    from omrl_cli import data

    data.inspect(common, ref, {k: v for k, v in {"html": html, "figure": figure}.items() if v is not None}, force)


@command(app, Common)
def export(
    common: Common,
    ref: Ref,
    target: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    *,
    format: Annotated[str, option("--format", metavar="NAME", help="borel, minari or npz.")] = "borel",
    force: Annotated[bool, option("--force", help="Overwrite an export that is there.")] = False,
) -> None:
    """Write a replay-log as others read it."""
    from omrl_cli import data

    data.export(common, ref, target, format, force)


@command(app, Common)
def lineage(common: Common, ref: Ref) -> None:
    """Show what an artifact was made from, up to the roots."""
    from omrl_cli import browse

    browse.lineage(common, ref)


@command(app, Common)
def diff(
    common: Common,
    first: Annotated[str, typer.Argument(metavar="A", help="An artifact.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
) -> None:
    """Compare configs, origins and metrics of two artifacts."""
    from omrl_cli import browse

    browse.diff(common, first, second)


@command(app, Common)
def verify(common: Common, ref: Ref) -> None:
    """Read all of an artifact and check that no byte changed."""
    from omrl_cli import browse

    browse.verify(common, ref)


@command(app, Common)
def gc(
    common: Common,
    *,
    unfinished: Annotated[bool, option("--unfinished", help="Unfinished runs with a checkpoint, too.")] = False,
    dry_run: Annotated[bool, option("--dry-run", help="Print what would go, and stop.")] = False,
) -> None:
    """Remove what no one needs: old generations, leftovers."""
    from omrl_cli import browse

    browse.gc(common, unfinished, dry_run)


@command(app, Common)
def families(
    common: Common,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show this one: `family/variant,option=value`.")
    ] = None,
) -> None:
    """List the task families, or show one."""
    from omrl_cli import catalogue

    catalogue.families(common, name)


@command(app, Common)
def recipes(common: Common) -> None:
    """List the shipped recipes."""
    from omrl_cli import catalogue

    catalogue.recipes(common)


@command(config_app, Configuring, name="show")
def config_show(
    common: Configuring,
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="collect, train, distill, metatrain, eval or report.")],
    *,
    diff_default: Annotated[
        bool, option("--diff-default", help="Only fields that differ from their defaults.")
    ] = False,
) -> None:
    """Print a stage's resolved config as YAML."""
    from omrl_cli import catalogue

    catalogue.config_show(common, stage, diff_default)


@command(app, Common)
def doctor(common: Common) -> None:
    """Check versions, devices, store and disk.

    Exits with 5 if something is known to be bad.
    """
    from omrl_cli import doctor as checks

    checks.run(common)


# ------------------------------------------------------------------------------------------------------ the boundary
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and gives the exit code. Every error ends here, as one line of cause and one of hint."""
    signal.signal(signal.SIGTERM, _terminated)  # as Ctrl-C: a stage saves, and says how to go on
    try:
        code = app(arguments, prog_name="omrl", standalone_mode=False)
    except OmrlError as error:
        console.trace(error)
        console.error(error.cause, error.hint)
        return error.exit_code
    except typer.TyperException as error:
        console.error(*_usage(error))
        return 2
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        console.trace(error)
        first = str(error).strip().splitlines() or ["no message"]
        console.error(
            f"{type(error).__name__}: {first[0]}", "" if console.debugging() else "--debug shows where it came from"
        )
        return 1
    if code == 130:  # typer turns Ctrl-C into this
        console.error("interrupted")
    return code if isinstance(code, int) else 0


def _terminated(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _usage(error: Any) -> tuple[str, str]:
    """Typer's message -> (cause, hint); the hint is its nearest match, else where to look."""
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    cause, found, match = text.partition(" Did you mean ")
    if not found:
        cause, found, match = text.partition(" (Possible options: ")
        match = match.rstrip(")")
    if found:
        return cause.rstrip("."), f"did you mean {match.rstrip('?')}?"
    context = getattr(error, "ctx", None)
    return " ".join(cause.split()).rstrip("."), f"see `{context.command_path if context else 'omrl'} --help`"


if __name__ == "__main__":
    sys.exit(main())
