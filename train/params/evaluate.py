"""Section `evaluate` of params.yaml: what is measured."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Params(BaseModel):
    """Section `evaluate`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mirror: bool = Field(
        default=False,
        description="also evaluate the mean over each image and its mirror image (msr_mirrored)",
    )
    ten_views: bool = Field(
        default=False,
        description="also evaluate the mean over ten views: the crops at the corners and the centre, "
        "and their mirror images (msr_ten_views); of runs with `augment.crop`",
    )
    latency_batches: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field(
        (1, 256), description="images per timed call"
    )
    latency_warm_up: int = Field(50, ge=0, description="most calls before the timed calls")
    latency_calls: int = Field(200, ge=1, description="most timed calls for each batch size")
    latency_seconds: float = Field(
        3.0,
        gt=0,
        le=3600,
        description="seconds after which no call starts, for each batch size",
    )
