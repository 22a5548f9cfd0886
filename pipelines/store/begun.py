"""What a run began with, kept beside its checkpoint: going on with other code or other inputs would not give the bits
of a run that was never interrupted."""

from collections.abc import Mapping
from pathlib import Path

from pipelines.core.configs.base import Config
from pipelines.core.errors import CheckFailed
from pipelines.store.card import Code, Parent, code_fingerprint, package_versions, seal, unseal

NAME = "begun.json"


class Begun(Config):
    """As on the card that the run is to end with."""

    parents: dict[str, Parent | list[Parent]]
    code: Code
    packages: dict[str, str]


def write(folder: Path, parents: Mapping[str, Parent | list[Parent]]) -> None:
    """Notes this program and these inputs in the folder of a run."""
    begun = Begun(parents=dict(parents), code=code_fingerprint(), packages=package_versions())
    (folder / NAME).write_bytes(seal(begun.model_dump(mode="json")))


def read(folder: Path) -> Begun | None:
    """What the run there began with; None where it does not say, or was killed while it wrote that."""
    try:
        return Begun.model_validate(unseal(folder / NAME, ""))
    except (OSError, CheckFailed):
        return None
