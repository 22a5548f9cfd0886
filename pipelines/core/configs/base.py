"""Configs are frozen pydantic models; preset, file, environment and flags are layers of differences over them."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from pipelines.core.errors import UsageError

DECAY = "updates over which learning rates fall to zero along a cosine; None: they stay"  # what `learn.falling` does


class Config(BaseModel):
    """Base of every config: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def identity(self) -> dict[str, Any]:
        """What decides the id of an artifact: every field but those that came `later` and stand at their default."""
        kinds = type(self).model_fields
        plain = self.model_dump(mode="json")
        out: dict[str, Any] = {}
        for name, value in self:
            if _came_later(kinds[name]) and value == kinds[name].default:
                continue
            out[name] = value.identity() if isinstance(value, Config) else plain[name]
        return out


def later(default: Any, **info: Any) -> Any:
    """A field that was added after artifacts had been made without it. Its default does what was done before, and while
    it has it those artifacts keep their ids."""
    return Field(default, json_schema_extra={"later": True}, **info)


def _came_later(field: FieldInfo) -> bool:
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("later"))


C = TypeVar("C", bound=Config)


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts merged from left to right; the rightmost value of a leaf wins."""
    out: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(out.get(name), Mapping)
            out[name] = merge(out[name], value) if both else value
    return out


def parse_set(assignment: str) -> dict[str, Any]:
    """`a.b=c` -> {"a": {"b": c}}, c read as YAML. Raises UsageError without an equals sign."""
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise UsageError(f"--set wants field=value, got {assignment!r}", "for example --set agent.batch_size=64")
    try:
        value: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {path}: {text!r} is not YAML", "quote the value for the shell") from error
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def flatten(config: Config | Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted field, value) of every leaf, in declaration order."""
    data = config.model_dump(mode="json") if isinstance(config, Config) else config
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def nearest(word: str, words: list[str], what: str) -> str:
    """A hint that names the nearest of `words`, or lists them all."""
    match = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"did you mean {match[0]}?" if match else f"{what}: {', '.join(sorted(words))}"


def resolve(config: type[C], *layers: Mapping[str, Any], prefix: str = "") -> C:
    """The config that the layers describe. Raises UsageError with the field's dotted name and its nearest match.

    `prefix` is where this config stands inside another (`agent.`).
    """
    try:
        return config.model_validate(merge(*layers))
    except ValidationError as error:
        raise _usage_error(config, error, prefix) from error


def _usage_error(config: type[Config], error: ValidationError, prefix: str) -> UsageError:
    first = error.errors()[0]
    dotted = prefix + ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = sorted({prefix + name for name, _ in flatten_fields(config)})
        return UsageError(f"unknown field {dotted!r}", nearest(dotted, known, "fields"))
    if first["type"] == "missing":
        return UsageError(f"field {dotted!r} has no value", f"give it with --set {dotted}=...")
    if first["type"] == "literal_error" and (words := re.findall(r"'([^']*)'", first["ctx"]["expected"])):
        given = str(first["input"])
        return UsageError(f"field {dotted!r}: {given!r} is none of its values", nearest(given, words, "values"))
    return UsageError(f"field {dotted!r}: {first['msg']} (got {first.get('input')!r})", "see `omrl config show`")


def flatten_fields(config: type[Config], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted field, annotation) of every leaf field of a config type."""
    for name, info in config.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, Config):
            yield from flatten_fields(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner
