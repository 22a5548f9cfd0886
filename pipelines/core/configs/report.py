"""Config of the report stage. pydantic only."""

from pydantic import Field

from pipelines.core.configs.base import Config


class ReportConfig(Config):
    """What the report compares and draws. Labels are those that the evaluations were given."""

    title: str = Field("omrl report", description="heading of the page")
    method: str = Field("tiMe", description="label of the method that the figures follow")
    reference: str = Field("pooled batch SAC", description="label of the method it is held against")
    proposition: bool = Field(True, description="compute and draw Proposition 1 (a few seconds)")
    sweep: dict[str, float] = Field({}, description="label -> the value that was varied to make it; drawn if not empty")
    sweep_axis: str = Field("share of random steps at the start of the logs", description="what `sweep` varies")
