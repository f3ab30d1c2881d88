"""Section `recover` of params.yaml: the trunk, the tails, and when an image leaves at the exit."""

from pydantic import BaseModel, ConfigDict, Field

from personae.balance import Balance


class Params(BaseModel):
    """Section `recover`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trunk: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="blocks of the trunk, which every image passes; unset: as many as have nearest "
        "to half of the operations",
    )
    tails: int = Field(1, ge=1, le=2, description="tails that an image without early exit passes")
    routed: float = Field(
        0.5,
        ge=0,
        le=1,
        description="share of the training images that are sent to the tail that a prediction "
        "would choose, if that tail has their label; the others go by their label",
    )
    mix: float | None = Field(
        None,
        ge=0,
        le=1,
        description="a: weight of the tail inside its labels, 0: of the exit alone; unset: chosen "
        "on the validation images",
    )
    exit_at: float | None = Field(
        None,
        ge=0,
        le=2,
        description="theta: an image with such a probability at the exit passes no tail, 0: no "
        "image does, above 1: every image does; unset: chosen on the validation images",
    )
    balance: Balance = Field(
        "none",
        description="equal numbers of images per label: resample (drawn anew each epoch), "
        "fixed (drawn once), weights (all images, weighted loss); none: all images",
    )
