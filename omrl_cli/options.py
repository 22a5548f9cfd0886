"""What subcommands are made of: options that several share, each written once; `command` adds them to one's own."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from omrl_cli import console
from omrl_cli.files import existing
from pipelines.core.errors import UsageError

if TYPE_CHECKING:
    from pipelines.store.shelf import Shelf


def group(**more: Any) -> typer.Typer:
    """Subcommands that belong together."""
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
    return typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, context_settings=settings, **more)


def help_alone(context: typer.Context) -> None:
    """Prints the help of a group that was called without a subcommand."""
    if context.invoked_subcommand is None:
        console.out(context.get_help())


def option(*names: str, help: str, **more: Any) -> Any:
    """A typer option; `[T, B]` in its help stays as it is."""
    return typer.Option(*names, help=help, rich_help_panel=None, **more)


def role(name: str, help: str) -> Any:
    """The option that gives a stage one of its inputs."""
    return option(f"--{name}", metavar="REF", help=help, show_default=False)


def field(name: str, help: str) -> Any:
    """The option that sets one of a stage's config fields; `--set` sets any."""
    return option(f"--{name}", help=help, show_default=False)


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every subcommand understands."""

    store: Annotated[Path, option("--store", metavar="DIR", envvar="OMRL_STORE", help="Where artifacts live.")] = Path(
        "artifacts"
    )
    as_json: Annotated[bool, option("--json", help="Print one JSON object instead of text.")] = False
    quiet: Annotated[int, option("--quiet", "-q", count=True, help="Errors only.")] = 0
    verbose: Annotated[int, option("--verbose", "-v", count=True, help="Show the resolved config, too.")] = 0
    debug: Annotated[bool, option("--debug", envvar="OMRL_DEBUG", help="Show tracebacks.")] = False

    def shelf(self) -> "Shelf":
        """The store, which need not exist yet. Raises UsageError where a file is in its place."""
        from pipelines.store.shelf import Shelf

        there = existing(self.store)
        if not there.is_dir():
            raise UsageError(f"--store {self.store}: {there} is a file", "--store (or OMRL_STORE) wants a folder")
        return Shelf(self.store)


@dataclass(frozen=True, kw_only=True)
class Configuring(Common):
    """What gives a config: preset < file < environment (OMRL_SET="a=1;b.c=2") < flag."""

    preset: Annotated[
        str | None,
        option("--preset", metavar="NAME", envvar="OMRL_PRESET", help="tiny, small or paper.", show_default=False),
    ] = None
    sets: Annotated[
        list[str] | None, option("--set", "-s", metavar="FIELD=VALUE", help="One config field; may be repeated.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Running(Configuring):
    """What says how to run."""

    force: Annotated[bool, option("--force", help="Run again; the old generation stays.")] = False
    resume: Annotated[bool, option("--resume", help="Continue a run that was interrupted.")] = False
    accept_stale: Annotated[
        bool, option("--accept-stale", help="Take an artifact, or a checkpoint, that other code made as it is.")
    ] = False
    dry_run: Annotated[bool, option("--dry-run", help="Print the plan and stop; touches no device.")] = False
    devices: Annotated[
        int | None,
        option("--devices", metavar="N", envvar="OMRL_DEVICES", help="Host devices; one per core if left out."),
    ] = None
    tasks_at_once: Annotated[
        int | None,
        option(
            "--tasks-at-once",
            metavar="N",
            min=1,
            envvar="OMRL_TASKS_AT_ONCE",
            help="Work on N tasks, then on the next: where all do not fit. The bits stay the same.",
            show_default=False,
        ),
    ] = None
    cluster: Annotated[
        str | None,
        option(
            "--cluster",
            metavar="JOB",
            envvar="OMRL_CLUSTER",
            help="One of several processes that share the tasks: auto (Slurm, MPI, TPU pods) or HOST:PORT,N,I.",
            show_default=False,
        ),
    ] = None
    checkpoint_s: Annotated[
        float,
        option("--checkpoint-s", metavar="S", min=0, envvar="OMRL_CHECKPOINT_S", help="Seconds between checkpoints."),
    ] = 60.0


@dataclass(frozen=True, kw_only=True)
class OneStage(Running):
    """What a stage's own subcommand understands."""

    config: Annotated[Path | None, option("--config", metavar="FILE", help="YAML with config fields.")] = None
    seed: Annotated[
        int | None, option("--seed", metavar="N", min=0, help="Training seed; the inputs' own, or 0, if left out.")
    ] = None
    name: Annotated[str, option("--name", metavar="NAME", help="What the alias is called: KIND/NAME@N.")] = ""


T = TypeVar("T", bound=Common)


def command(
    app: typer.Typer, options: type[T], name: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers `function(common, **own)` as a subcommand with its own options and those of `options`."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def call(**given: Any) -> None:
            common = options(**{one.name: given.pop(one.name) for one in fields(options)})
            console.configure(common.quiet, common.verbose, common.debug)
            function(common, **given)

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        call.__signature__ = inspect.Signature([*own, *shared(options)])  # type: ignore[attr-defined]
        call.__annotations__ = {}
        app.command(name)(call)
        return call

    return register


def shared(options: type[Common]) -> Sequence[inspect.Parameter]:
    """The fields of an options class as keyword parameters."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    return [inspect.Parameter(one.name, keyword, default=one.default, annotation=one.type) for one in fields(options)]
