"""The subcommands that look: at how policies play, at what the store holds, at what there is to run."""

from pathlib import Path
from typing import Annotated

import typer

from omrl_cli.options import Common, Configuring, command, group, help_alone, option, role

app = group()
config_app = group(help="Show configs.")

Ref = Annotated[str, typer.Argument(metavar="REF", help="An id, the beginning of one, id@generation, or an alias.")]


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


# ---- the store -------------------------------------------------------------------------------------------------------


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


# ---- what there is to run --------------------------------------------------------------------------------------------


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


@config_app.callback(invoke_without_command=True)
def config(context: typer.Context) -> None:
    """Without a subcommand: the help."""
    help_alone(context)


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
