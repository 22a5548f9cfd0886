"""The only place that prints: data to stdout, talk to stderr."""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

QUIET, NORMAL, VERBOSE = -1, 0, 1
_settings = {"level": NORMAL, "debug": False, "process": 0}


def configure(quiet: int, verbose: int, debug: bool) -> None:
    """What `-q`, `-v` (each may be repeated) and `--debug` said."""
    _settings.update(level=verbose - quiet, debug=debug)


def follow(process: int) -> None:
    """This is a further process of a crew: the first one prints the results, and this one's talk says whose it is."""
    _settings["process"] = process


def debugging() -> bool:
    """True where an error shall show its traceback."""
    return bool(_settings["debug"])


def live() -> bool:
    """True where a moving progress bar makes sense: stderr is a terminal, and nobody asked for calm."""
    if os.environ.get("CI") or os.environ.get("TERM") == "dumb" or _settings["level"] < NORMAL or _settings["process"]:
        return False
    return sys.stderr.isatty()


def out(text: str) -> None:
    """A result."""
    if not _settings["process"]:
        _print(text, sys.stdout)


def out_json(value: Any) -> None:
    """A result as one JSON object. NaN and infinities, which JSON lacks, become null."""
    out(json.dumps(_finite(value), indent=2, default=str))


def talk(text: str, level: int = NORMAL) -> None:
    """A line for the person watching, on stderr."""
    if _settings["level"] >= level:
        _print(f"process {_settings['process']}: {text}" if _settings["process"] else text, sys.stderr)


def error(cause: str, hint: str = "") -> None:
    """Two lines at most: what went wrong, and what to do next."""
    _print(f"error: {cause}", sys.stderr)
    if hint:
        _print(f"hint: {hint}", sys.stderr)


def trace(exception: BaseException) -> None:
    """The traceback, where --debug asked for it."""
    if debugging():
        import traceback

        _print("".join(traceback.format_exception(exception)).rstrip(), sys.stderr)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns aligned by spaces; numbers (int, float) to the right, everything else to the left."""
    body = [list(row) for row in rows]
    cells = [list(head)] + [[cell(value) for value in row] for row in body]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    right = [bool(body) and all(isinstance(row[i], int | float) for row in body) for i in range(len(head))]
    lines = (
        "  ".join(
            text.rjust(width) if flush else text.ljust(width)
            for text, width, flush in zip(row, widths, right, strict=True)
        )
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def cell(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def as_yaml(value: Mapping[str, Any]) -> str:
    """One line for each field, lists of plain values on one line."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Has a representer that others shall not get."""

    def sequence(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
        flow = not any(isinstance(item, list | dict) for item in items)
        return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=flow)

    Dumper.add_representer(list, sequence)
    text: str = yaml.dump(dict(value), Dumper=Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True)
    return text.rstrip()


def size(num_bytes: float) -> str:
    """12_345_678 -> '12.3 MB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def duration(seconds: float) -> str:
    """4000 -> '1 h 07 min', 75 -> '1 min 15 s', 3.2 -> '3.2 s'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _print(text: str, stream: TextIO) -> None:
    """A reader that closed the pipe (`omrl ls | head -1`) is no failure."""
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        # What is left in the buffer would raise again when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
