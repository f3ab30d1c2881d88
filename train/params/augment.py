"""Section `augment` of params.yaml: how training images are varied."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Params(BaseModel):
    """Section `augment`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rotation: float = Field(20.0, ge=0, le=180, description="largest rotation in degrees")
    zoom: float = Field(1.2, ge=1, le=4, description="largest enlargement factor; 1: none")
    shift: float = Field(0.2, ge=0, le=1, description="largest shift as a share of the side")
    flip: Literal["lr", "ud", "none"] = Field(
        "lr", description="mirror half of the images: left-right or up-down"
    )
    pad: int = Field(
        0,
        ge=0,
        le=64,
        description="pixels of padding for random crops",
    )
    crop: int | None = Field(
        None,
        ge=1,
        le=2048,
        description="side of random crops in pixels",
    )
    outside: Literal["border", "mean", "grey", "black", "reflect"] = Field(
        "border", description="fill beyond the edge of the image"
    )

    @model_validator(mode="after")
    def _check_crops(self) -> "Params":
        affine_fields = [
            n for n, v in (("rotation", 0), ("zoom", 1), ("shift", 0)) if getattr(self, n) != v
        ]
        if self.crops and affine_fields:
            raise ValueError(
                f"pad and crop exclude {', '.join(affine_fields)}: set rotation: 0, zoom: 1 and "
                "shift: 0, or leave pad and crop out"
            )
        return self

    @property
    def crops(self) -> bool:
        """Whether images are cropped by whole pixels instead of mapped by an affine map."""
        return self.pad > 0 or self.crop is not None

    def network_side(self, side: int) -> int:
        """Returns the side in pixels of the network's input, for images of `side` pixels."""
        return self.crop or side
