"""What omrl has on offer: families, recipes, configs."""

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omrl_cli import console
from omrl_cli.options import Common, Configuring
from pipelines.core.names import SPLITS

WIDTH = 100  # columns that a listing may take
MOST_PARAMS = 4  # of a task that text shows; --json shows all


def families(common: Common, name: str | None) -> None:
    """`omrl families` and `omrl families NAME`."""
    if name is None:
        _all_families(common)
        return
    found = describe(name)
    if common.as_json:
        console.out_json(found)
    else:
        console.out("\n".join(_page(found)))


def _all_families(common: Common) -> None:
    """Reads the listing only: nothing is built, nothing heavy imported."""
    from pipelines.core.families import FAMILIES
    from pipelines.core.own import entry_points

    others = {name: point.value for name, point in entry_points().items() if name not in FAMILIES}
    if common.as_json:
        listed = [{"name": name, **entry._asdict()} for name, entry in FAMILIES.items()]
        console.out_json({"families": listed, "installed": others})
        return
    rows: list[tuple[str, str, str, str, str, str]] = []
    for name, entry in FAMILIES.items():
        counts = "/".join(map(str, [entry.num_train, entry.num_test, *([entry.num_ood] if entry.num_ood else [])]))
        rows.append((name, counts, str(entry.obs_dim), str(entry.action_dim), str(entry.horizon), entry.help))
    rows += [(name, "-", "-", "-", "-", f"installed: {value}") for name, value in others.items()]
    head = "family", "tasks", "obs", "action", "horizon", "what it is"
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head) - 1)]
    lines: list[list[str]] = []
    for name, *numbers, text in [head, *rows]:
        first, *more = textwrap.wrap(text, WIDTH - sum(widths) - 2 * len(widths))
        lines.append([name, *(cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)), first])
        lines += [[""] * len(widths) + [line] for line in more]
    console.out(console.table(lines[0], lines[1:]))
    console.talk("tasks: train/test/ood; `omrl families NAME` shows one; --family path/to/file.py:NAME brings your own")


def describe(name: str) -> dict[str, Any]:
    """All that a family says of itself. Builds it, and so imports jax."""
    from pipelines.core import platform
    from pipelines.core.families import FAMILIES, entry_of, parse
    from pipelines.core.own import refuse_unknown

    refuse_unknown(name)
    entry = entry_of(name)
    options = parse(name).options if entry else {}
    platform.prepare()
    from pipelines.core.types import DeviceFamily
    from pipelines.tasks import registry

    family: Any = registry.find(name)
    kind = name.partition(",")[0]
    siblings = [other for other in FAMILIES if other.partition("/")[0] == kind.partition("/")[0] and other != kind]
    return {
        "name": family.name,
        "help": entry.help if entry else "",
        "engine": options.get("engine", {"device": "jax", "host": "the user's"}.get(family.engine, family.engine)),
        "kind": "device" if isinstance(family, DeviceFamily) else "host",
        "space": family.space.to_json(),
        "horizon": family.horizon,
        "discount": family.discount,
        "outcome": list(family.outcome),
        "terminates": family.terminates,
        "dynamics": family.dynamics,
        "scripted": list(family.scripted),
        "about": dataclasses.asdict(family.about),
        "options": {option: list(values) for option, values in entry.options.items()} if entry else {},
        "evaluation": dict(entry.evaluation) if entry else {},
        "variants": siblings,
        "tasks": {split: [task.to_json() for task in family.tasks(split)] for split in SPLITS},
    }


def _page(found: Mapping[str, Any]) -> Iterator[str]:
    """The lines of `omrl families NAME`, none longer than WIDTH."""
    space, about, tasks = found["space"], found["about"], found["tasks"]
    yield found["name"]
    if found["help"]:
        yield from textwrap.wrap(found["help"], WIDTH)
    yield ""
    counts = ", ".join(f"{len(tasks[split])} {split}" for split in SPLITS if tasks[split])
    ends = about["ends"] if about["ends"] or not found["terminates"] else "in terminal states"
    yield from _line("engine", f"{found['engine']} ({found['kind']} family)")
    yield from _line("observation", f"{space['obs_dtype']} {list(space['obs_shape'])}")
    yield from _line("action", _actions(space))
    yield from _line("horizon", f"{found['horizon']} steps, discount {found['discount']:g}")
    yield from _line("tasks", f"{counts}; they differ in {'dynamics' if found['dynamics'] else 'reward'}")
    yield from _line("reward", about["reward"])
    yield from _line("start", about["start"])
    yield from _line("end", ends)
    yield from _line("outcome", ", ".join(found["outcome"]))
    yield from _line("scripted", ", ".join(f"--actor {actor}" for actor in found["scripted"]))
    yield from _line("source", about["source"])
    for text in about["differs"]:
        yield from _line("differs", text)
    for option, values in found["options"].items():
        yield from _line("option", f"{option} = {' | '.join(values)}  (default {values[0]})")
    for option, value in found["evaluation"].items():
        yield from _line("evaluation", f"always {option}={value}")
    yield from _line("variants", ", ".join(found["variants"]))
    for split in SPLITS:
        if tasks[split]:
            yield ""
            same = split != "train" and [t["id"] for t in tasks[split]] == [t["id"] for t in tasks["train"]]
            yield from [f"{split} tasks: the train tasks"] if same else _tasks(split, tasks[split])


def _number(value: float) -> str:
    """Five digits; what is left of 0 after rounding is 0."""
    return f"{round(value, 9) + 0.0:.5g}"


def _line(label: str, text: str) -> list[str]:
    """`label  text`, wrapped under itself; nothing where there is no text."""
    return textwrap.wrap(text, WIDTH, initial_indent=f"{label:<13}", subsequent_indent=" " * 13) if text else []


def _actions(space: Mapping[str, Any]) -> str:
    if space["num_actions"] is not None:
        return f"{space['num_actions']} discrete ({space['action_dtype']})"
    bounds = sorted(set(zip(space["low"], space["high"], strict=True)))
    ranges = ", ".join(f"[{low:g}, {high:g}]" for low, high in bounds)
    return f"{space['action_dtype']} {list(space['action_shape'])} in {ranges}"


def _tasks(split: str, tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every task with its numbers where they are few, else its name."""
    names = list(tasks[0]["params"])
    if len(names) == 1:
        title, words = f"{split} tasks, {names[0]}:", [_number(task["params"][names[0]]) for task in tasks]
    elif len(names) <= MOST_PARAMS:
        title = f"{split} tasks, name ({', '.join(names)}):"
        words = [f"{t['name']} ({', '.join(_number(v) for v in t['params'].values())})" for t in tasks]
    else:
        title, words = f"{split} tasks, {len(names)} numbers each (--json shows them):", [t["name"] for t in tasks]
    glued = "; ".join(word.replace(" ", "\0") for word in words)  # a task is not broken in two
    lines = textwrap.wrap(glued, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return [title, *(line.replace("\0", " ") for line in lines)]


def recipes(common: Common) -> None:
    """`omrl recipes`."""
    from pipelines.core.recipe import load, shipped

    found = [load(name) for name in shipped()]
    if common.as_json:
        console.out_json({"recipes": [recipe.model_dump(mode="json") for recipe in found]})
        return
    rows = [(recipe.name, ", ".join(recipe.presets), len(recipe.steps), recipe.help) for recipe in found]
    console.out(console.table(("recipe", "presets", "steps", "what it is"), rows))


def config_show(common: Configuring, stage: str, diff_default: bool) -> None:
    """`omrl config show`."""
    from omrl_cli.orders import configure, spec_of

    spec = spec_of(stage)
    chosen = configure(spec, common.preset, sets=common.sets).model_dump(mode="json")
    if diff_default:
        chosen = differing(chosen, spec.config().model_dump(mode="json"))
    if common.as_json:
        console.out_json(chosen)
    else:
        console.out(console.as_yaml(chosen))


def differing(value: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `value` that `default` lacks or has otherwise, nested alike."""
    out: dict[str, Any] = {}
    for name, inner in value.items():
        other = default.get(name)
        if isinstance(inner, Mapping) and isinstance(other, Mapping):
            if deeper := differing(inner, other):
                out[name] = deeper
        elif name not in default or inner != other:
            out[name] = inner
    return out
