"""A recipe is a named chain of stages in one small YAML file: steps, what flows between them, and their config.

    name: time-point
    help: one line
    presets: [small, tiny]              # the ones it offers; the first is the default
    steps:
      log: {stage: collect, config: {family: point-semicircle/time}}
      teachers: {stage: train, inputs: {log: log}}
      scores: {stage: eval, inputs: {policy: teachers}, label: batch SAC, presets: {tiny: {episodes: 2}}}
      page: {stage: report, inputs: {reports: [scores]}, each_seed: false}

A step runs once per seed and takes its inputs' artifacts of the same seed; one with `each_seed: false` runs once and
takes those of all seeds. Layers of a step's config: the stage's preset < `config` < `presets[preset]` < the user's.
`like: log` makes a step the step `log`, whatever a variant made of it, with the differences that it writes; an input of
null is one that it does not take.

One file may hold several recipes that differ in little: `variants: {hopper: {log: {config: {...}}}}` makes the recipe
NAME-hopper, whose step `log` is the file's with these differences; `{variant}` in its texts is `hopper`. Steps that a
shipped recipe has already are not written twice: `takes: {recipe: mbml-{variant}, steps: [log, teachers]}`, and under
`if_there` those that only some variants of it have.
Free of jax; stage and role names are judged by whoever knows the stages.
"""

import copy
import functools
import graphlib
from collections.abc import Collection, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from pipelines.core.configs.base import Config, merge, nearest, resolve
from pipelines.core.errors import UsageError


class Step(Config):
    """One step. `inputs[role]` names the step, or the steps, whose artifacts the role takes."""

    stage: str
    inputs: dict[str, str | list[str]] = Field(default_factory=dict)
    label: str = Field("", description="what tables and figures call it; the field `label` of the stage's config")
    config: dict[str, Any] = Field(default_factory=dict)
    presets: dict[str, dict[str, Any]] = Field(default_factory=dict)
    each_seed: bool = True

    def layers(self, preset: str) -> list[dict[str, Any]]:
        """The recipe's own differences, weakest first."""
        label = {"label": self.label} if self.label else {}
        return [label, self.config, self.presets.get(preset, {})]


class Recipe(Config):
    """A chain of steps. Raises UsageError (from `load`) for an unknown input or a cycle."""

    name: str
    help: str = ""
    presets: list[str] = Field(["small", "tiny"], min_length=1)
    steps: dict[str, Step] = Field(min_length=1)

    def order(self) -> list[str]:
        """Step names, inputs before those who take them; otherwise as written. Raises UsageError for a cycle."""
        graph: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
        for name, step in self.steps.items():
            graph.add(name, *parents(step))
        try:
            return list(graph.static_order())
        except graphlib.CycleError as error:
            raise UsageError(f"recipe {self.name}: steps in a circle: {' <- '.join(error.args[1])}") from error


def parents(step: Step) -> list[str]:
    """Names of all steps that `step` takes something from."""
    return [name for value in step.inputs.values() for name in as_list(value)]


def as_list(value: str | Sequence[str]) -> list[str]:
    """A name or several -> several."""
    return [value] if isinstance(value, str) else list(value)


@functools.cache
def shipped() -> dict[str, dict[str, Any]]:
    """Name -> what its YAML says, of every recipe that comes with omrl; of a file with variants, each of them. Read
    once, and not to be changed."""
    folder = resources.files("pipelines.recipes")
    files = {entry.name: entry.read_text() for entry in folder.iterdir() if entry.name.endswith(".yaml")}
    found = {name: one for file, text in files.items() for name, one in recipes_in(text, file).items()}
    return dict(sorted(found.items()))


def load(name: str) -> Recipe:
    """The shipped recipe of that name, or the one in the YAML file of that path; `file.yaml:NAME` says which of several
    there. Raises UsageError."""
    known = shipped()
    if name in known:
        return checked(known[name], name)
    file, _, which = name.partition(":")
    if Path(file).suffix in (".yaml", ".yml") or Path(file).is_file():
        try:
            text = Path(file).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"recipe file {file}: {error}", "give a shipped recipe's name, or a file's path"
            ) from error
        return parse(text, file, which)
    raise UsageError(f"unknown recipe {name!r}", nearest(name, list(known), "shipped recipes"))


def parse(text: str, source: str, which: str = "") -> Recipe:
    """The recipe in `text`, of several the one named `which`; `source` is what errors call it. Raises UsageError."""
    found = recipes_in(text, source)
    if len(found) == 1 and which in ("", *found):
        return checked(next(iter(found.values())), source)
    if which not in found:
        cause = f"recipe {source} has no {which!r}" if which else f"recipe {source} holds {len(found)}"
        raise UsageError(cause, nearest(which, list(found), f"say {source}:NAME; there is"))
    return checked(found[which], which)


def recipes_in(text: str, source: str) -> dict[str, dict[str, Any]]:
    """Name -> what the YAML in `text` says of that recipe. Raises UsageError."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        cause = f"recipe {source} is not YAML: {' '.join(str(error).split())}"
        raise UsageError(cause, "it needs name and steps; see `omrl recipes`") from error
    if not isinstance(data, dict):
        raise UsageError(f"recipe {source} is not a mapping", "it needs name and steps; see `omrl recipes`")
    variants = data.pop("variants", None)
    if variants is None:
        return {str(data.get("name", "")): data}
    if not isinstance(variants, dict) or not isinstance(data.get("steps"), dict):
        raise UsageError(f"recipe {source}: variants are {{name: {{step: differences}}}}", "see `omrl recipes`")
    return {f"{data.get('name', '')}-{name}": varied(data, str(name), steps or {}) for name, steps in variants.items()}


def varied(data: dict[str, Any], variant: str, differences: dict[str, Any]) -> dict[str, Any]:
    """The recipe `data` with a variant's differences. A step of None is left out of it, and out of what took it."""
    merged = copy.deepcopy(merge(data["steps"], differences))  # what is left out of one variant stays in the others
    steps = {name: step for name, step in merged.items() if step is not None}
    _forget(steps, data["steps"].keys() - steps.keys())
    own: dict[str, Any] = _filled(data | {"steps": steps}, variant)
    return own | {"name": f"{data.get('name', '')}-{variant}"}


def _filled(data: Any, variant: str) -> Any:
    """A copy with `{variant}` in texts replaced."""
    if isinstance(data, dict):
        return {_filled(name, variant): _filled(value, variant) for name, value in data.items()}
    if isinstance(data, list):
        return [_filled(value, variant) for value in data]
    return data.replace("{variant}", variant) if isinstance(data, str) else data


def _forget(steps: dict[str, Any], gone: Collection[str]) -> None:
    """Takes steps that are not there out of the lists of those who took them."""
    for step in steps.values():
        inputs = step.get("inputs", {}) if isinstance(step, dict) else {}
        lists = {role: value for role, value in inputs.items() if isinstance(value, list)}
        inputs |= {role: [one for one in value if one not in gone] for role, value in lists.items()}


def with_taken(data: dict[str, Any], source: str) -> dict[str, Any]:
    """`data` with the steps that it takes from a shipped recipe before its own, and all of them written out. Raises
    UsageError."""
    takes = data.get("takes")
    if takes is None:
        return _written_out(data, source)
    name, wanted = str(takes.get("recipe")), takes.get("steps", [])
    others = shipped()
    if name not in others:
        raise UsageError(f"recipe {source} takes from unknown recipe {name!r}", nearest(name, list(others), "recipes"))
    steps = with_taken(others[name], name)["steps"]
    for step in wanted:
        if step not in steps:
            raise UsageError(f"recipe {source}: {name} has no step {step!r}", nearest(step, list(steps), "its steps"))
    own = {key: value for key, value in data.items() if key != "takes"}
    maybe, mine = takes.get("if_there", []), copy.deepcopy(data.get("steps", {}))
    _forget(mine, {step for step in maybe if step not in steps})
    taken = {step: steps[step] for step in [*wanted, *maybe] if step in steps}
    return _written_out(own | {"steps": taken | mine}, source)


def _written_out(data: dict[str, Any], source: str) -> dict[str, Any]:
    """`data` with steps that are like others in full, and without inputs of None. Raises UsageError."""
    steps = data.get("steps")
    if not isinstance(steps, dict):
        return data
    return data | {"steps": {name: _whole(steps, name, source, ()) for name in steps}}


def _whole(steps: dict[str, Any], name: str, source: str, seen: tuple[str, ...]) -> Any:
    """The step `name`, on top of the one that it is like; `seen` are those that are like it."""
    step = steps[name]
    if not isinstance(step, dict):
        return step
    if other := str(step.get("like") or ""):
        if other in (*seen, name):
            raise UsageError(f"recipe {source}: steps alike in a circle: {' <- '.join((*seen, name, other))}")
        if other not in steps:
            cause = f"recipe {source}: step {name} is like unknown step {other!r}"
            raise UsageError(cause, nearest(other, list(steps), "steps"))
        own = {key: value for key, value in step.items() if key != "like"}
        step = merge(_whole(steps, other, source, (*seen, name)), own)
    if isinstance(inputs := step.get("inputs"), dict):
        step = step | {"inputs": {role: value for role, value in inputs.items() if value is not None}}
    return step


def checked(data: dict[str, Any], source: str) -> Recipe:
    """Raises UsageError."""
    try:
        recipe = resolve(Recipe, with_taken(data, source))
    except UsageError as error:
        raise UsageError(f"recipe {source}: {error.cause}", error.hint) from error
    for name, step in recipe.steps.items():
        for parent in parents(step):
            if parent not in recipe.steps:
                raise UsageError(
                    f"recipe {source}: step {name} takes from unknown step {parent!r}",
                    nearest(parent, list(recipe.steps), "steps"),
                )
    recipe.order()
    return recipe
