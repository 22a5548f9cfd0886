"""What an artifact says of itself. Reads no arrays and imports neither jax nor orbax, so that listing is quick.

A card holds the recipe (stage, version, config, seed, parents), of which `id` is the hash; the bits, of which `digest`
is the hash; every file's sha256; and `seal`, the sha256 of the card itself, so that a changed byte is noticed."""

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipelines.core.configs.base import Config
from pipelines.core.errors import CheckFailed, WrongKind

FORMAT = 1  # of the card and of the folder beside it; a reader refuses any other
ID_LENGTH = 12
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "mujoco", "brax")


class Leaf(Config):
    """One array of the tree. `dtype` is numpy's name of it, or "dict" for a dict that holds nothing."""

    dtype: str
    shape: tuple[int, ...] = ()


class Parent(Config):
    """Which recipe, and which bits of it, an artifact was made from."""

    id: str
    digest: str


class Code(Config):
    """The program that ran: sha256 over its sources, and the git revision when it ran in a checkout."""

    sha256: str
    git: str | None = None


class Card(Config):
    """Everything about one generation of an artifact except its arrays and files."""

    format: int = FORMAT
    kind: str
    name: str
    id: str
    generation: int
    digest: str
    stage: str
    version: int
    config: dict[str, Any]
    seed: int
    parents: dict[str, Parent | list[Parent]]
    tasks: list[dict[str, Any]]
    arrays: dict[str, Leaf]
    files: dict[str, str]
    metrics: dict[str, float | None]
    extra: dict[str, Any]
    code: Code
    packages: dict[str, str]
    platform: dict[str, Any]
    seconds: float
    created: str  # UTC, ISO 8601 with microseconds: sorts as text

    @property
    def ref(self) -> str:
        """`id@generation`, which names these very bits."""
        return f"{self.id}@{self.generation}"

    def all_parents(self) -> list[Parent]:
        """The parents of every role, in order."""
        return [parent for role in self.parents.values() for parent in (role if isinstance(role, list) else [role])]

    def to_bytes(self) -> bytes:
        """The file `card.json`."""
        return seal(self.model_dump(mode="json"))


def read_card(path: Path) -> Card:
    """The card at `path`. Raises CheckFailed if a byte of it changed, WrongKind if another version of omrl wrote it."""
    body = unseal(path, "make the artifact again with --force")
    if body.get("format") != FORMAT:
        raise WrongKind(
            f"{path} has format {body.get('format')}, this omrl reads {FORMAT}", "use the omrl that wrote it"
        )
    try:
        return Card.model_validate(body)
    except ValidationError as error:
        raise WrongKind(f"{path} has fields that this omrl does not know", "use the omrl that wrote it") from error


def seal(body: Mapping[str, Any]) -> bytes:
    """JSON for a person to read, ended by the sha256 of itself."""
    text = _render({**body, "seal": ""})
    return _render({**body, "seal": hashlib.sha256(text.encode()).hexdigest()}).encode()


def unseal(path: Path, hint: str) -> dict[str, Any]:
    """The content of a sealed file, seal removed. Raises CheckFailed unless it is byte for byte what `seal` wrote."""
    content = path.read_bytes()
    try:
        body = json.loads(content)
        body.pop("seal")
        whole = seal(body) == content
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise CheckFailed(f"{path} is damaged", hint)
    return dict(body)


def _render(body: Mapping[str, Any]) -> str:
    return json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: tuples and arrays become lists, numpy scalars numbers, NaN and infinities None."""
    if isinstance(value, Config):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # arrays and scalars of numpy and jax
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    raise TypeError(f"{type(value).__name__} {value!r} cannot stand on a card")


def canonical(value: Any) -> bytes:
    """The one JSON text of `value`, whatever the order of its keys."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def recipe_id(
    stage: str, version: int, config: Config | Mapping[str, Any], seed: int, parents: Mapping[str, str | Sequence[str]]
) -> str:
    """The name of what this recipe makes. `parents` are ids by role, in order where a role takes many."""
    decides = config.identity() if isinstance(config, Config) else config
    recipe = {"stage": stage, "version": version, "config": decides, "seed": seed, "parents": parents}
    return hashlib.sha256(canonical(recipe)).hexdigest()[:ID_LENGTH]


def content_digest(leaves: Mapping[str, tuple[Leaf, str]], tasks: Any, extra: Any) -> str:
    """The hash of the bits. `leaves` is path -> (leaf, sha256 of its bytes in C order). Orbax's files cannot serve:
    they hold random names and times."""
    rows = [[path, leaf.dtype, list(leaf.shape), sha256] for path, (leaf, sha256) in sorted(leaves.items())]
    return hashlib.sha256(canonical({"arrays": rows, "tasks": tasks, "extra": extra})).hexdigest()


@functools.cache
def code_fingerprint() -> Code:
    """Hash of every .py, .yaml and .j2 file of omrl_cli and pipelines, as shipped; read once per process."""
    sha256 = hashlib.sha256()
    root = Path(__file__).parents[2]
    for package in ("omrl_cli", "pipelines"):
        for path in sorted((root / package).rglob("*")):
            if path.suffix in (".py", ".yaml", ".j2"):
                sha256.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return Code(sha256=sha256.hexdigest(), git=_git_revision(root))


def _git_revision(root: Path) -> str | None:
    """The commit that `root` has checked out, without starting git (which takes longer than the rest of a card)."""
    git = root / ".git"
    try:
        if git.is_file():  # a worktree or a submodule points elsewhere
            git = (root / git.read_text().removeprefix("gitdir:").strip()).resolve()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        ref = head.removeprefix("ref:").strip()
        shared = git / "commondir"
        git = (git / shared.read_text().strip()).resolve() if shared.exists() else git
        if (git / ref).exists():
            return (git / ref).read_text().strip()
        packed = (git / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {ref}")), None)
    except OSError:
        return None


@functools.cache
def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def package_versions() -> dict[str, str]:
    """name -> version of the installed packages that decide the bits; none of them is imported."""
    return {name: version for name in PACKAGES if (version := _installed(name))}
