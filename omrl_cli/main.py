"""The `omrl` command line: its subcommands put together, and the error boundary.

stdout is data, stderr is talk. Exit codes: 0 ok, 1 the stage failed, 2 usage or config, 3 input missing, 4 wrong kind
or incompatible version, 5 a check failed, 130 interrupted. Nothing heavy is imported before a subcommand needs it.
"""

import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from omrl_cli import __version__, console, looking, making
from omrl_cli.options import group, help_alone, option
from pipelines.core.errors import OmrlError

app = group(
    name="omrl", help="Offline meta-RL: from training logs of many agents to one policy for tasks it has never seen."
)
app.add_typer(making.app)  # a group without a name lends its subcommands, in this order
app.add_typer(looking.app)
app.add_typer(looking.config_app, name="config")


@app.callback(invoke_without_command=True)
def top(
    context: typer.Context, version: Annotated[bool, option("--version", help="Print the version and stop.")] = False
) -> None:
    """Without a subcommand: the version, or the help."""
    if version:
        console.out(f"omrl {__version__}")
    else:
        help_alone(context)


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
