"""The config of `import`. jax-free."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipelines.core.configs.base import Config

Format = Literal["auto", "borel", "minari", "d4rl", "npz", "focal", "macaw", "mbml", "mapping"]


class ImportConfig(Config):
    """Logs that somebody else wrote. What is made depends on `sha256`, never on where the source lies."""

    ELSEWHERE: ClassVar[frozenset[str]] = frozenset({"source", "allow_pickle"})  # do not decide the result

    source: str = Field("", description="a folder or a file")
    sha256: str = Field("", description="of what the source holds; empty: of what it holds now")
    format: Format = "auto"
    mapping: dict[str, Any] | None = Field(None, description="which file is which column, for format=mapping")
    family: str = Field("", description="empty: what the source says of itself, else none")
    horizon: int | None = Field(None, ge=1, description="steps of an episode; None: the family's, or the longest")
    discount: float | None = Field(None, gt=0, le=1, description="None: the family's, else 0.99")
    terminals: Literal["auto", "end", "ignore"] = Field(
        "auto", description="a terminal ends an episode, or means something else (borel: the agent is in the goal)"
    )
    actions: Literal["auto", "continuous", "discrete"] = Field("auto", description="auto: discrete if whole or one-hot")
    action_low: float | None = Field(
        None, description="of the space; None: the family's, the source's, -1, or the least"
    )
    action_high: float | None = Field(None, description="of the space; None as above")
    action_box: tuple[float, float] | None = Field(
        None, description="the box that the logged actions are in, if it is not the space's: they are rescaled"
    )
    out_of_range: Literal["refuse", "clip"] = Field("refuse", description="actions outside the space")
    tolerance: float = Field(
        1e-5, ge=0, description="next_obs further from the following obs, relatively, ends an episode"
    )
    allow_pickle: bool = Field(False, description="read pickles; only numpy arrays and plain containers are let in")

    @model_validator(mode="before")
    @classmethod
    def _content(cls, data: Any) -> Any:
        """A recipe names the source alone; the hash of what is there belongs to it."""
        if isinstance(data, dict) and data.get("source") and not data.get("sha256"):
            from pipelines.core.sources import fingerprint

            return {**data, "sha256": fingerprint(str(data["source"]))}
        return data

    def identity(self) -> dict[str, Any]:
        """Without the place, and without what only permits."""
        return {name: value for name, value in super().identity().items() if name not in self.ELSEWHERE}
