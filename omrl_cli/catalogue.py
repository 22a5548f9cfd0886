"""What omrl has on offer: families, recipes, configs."""

from collections.abc import Mapping
from typing import Any

from omrl_cli import console
from omrl_cli.options import Common, Configuring


def families(common: Common) -> None:
    """`omrl families`."""
    from pipelines.core.families import FAMILIES

    if common.as_json:
        console.out_json({"families": [{"name": name, **entry._asdict()} for name, entry in FAMILIES.items()]})
        return
    rows = [(name, f"{entry.num_train} / {entry.num_test}", entry.help) for name, entry in FAMILIES.items()]
    console.out(console.table(("family", "train / test tasks", "what it is"), rows))


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
