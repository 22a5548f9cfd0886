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
Free of jax; stage and role names are judged by whoever knows the stages.
"""

import graphlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from pipelines.core.configs.base import Config, nearest, resolve
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


def shipped() -> dict[str, str]:
    """Name -> YAML text of every recipe that comes with omrl."""
    folder = resources.files("pipelines.recipes")
    found = (entry for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return {entry.name.removesuffix(".yaml"): entry.read_text() for entry in sorted(found, key=lambda e: e.name)}


def load(name: str) -> Recipe:
    """The shipped recipe of that name, or the one in the YAML file of that path. Raises UsageError."""
    known = shipped()
    if name in known:
        return parse(known[name], name)
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        try:
            return parse(path.read_text(), name)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"recipe file {name}: {error}", "give a shipped recipe's name, or a file's path"
            ) from error
    raise UsageError(f"unknown recipe {name!r}", nearest(name, list(known), "shipped recipes"))


def parse(text: str, source: str) -> Recipe:
    """The recipe in `text`; `source` is what errors call it. Raises UsageError."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        cause = f"recipe {source} is not YAML: {' '.join(str(error).split())}"
        raise UsageError(cause, "it needs name and steps; see `omrl recipes`") from error
    if not isinstance(data, dict):
        raise UsageError(f"recipe {source} is not a mapping", "it needs name and steps; see `omrl recipes`")
    try:
        recipe = resolve(Recipe, data)
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
