"""Section `measure` of params.yaml: what is decoded, and the normalised image."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Background = Literal["border", "white"]
Format = Literal["png", "webp", "jpg"]
MAX_PIXELS = 89_478_485  # above this number Pillow warns of a decompression bomb


class Params(BaseModel):
    """Section `measure`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: int = Field(
        48,
        ge=8,
        le=2048,
        description="side of the normalised square, pixels, 8..2048; at 48 a CNN trains in minutes",
    )
    format: Format = Field(
        "png", description="png and webp are lossless; png encodes fastest at small sizes"
    )
    quality: int = Field(
        95, ge=1, le=100, description="JPEG quality, 1..100, only with --format jpg"
    )
    background: Background = Field(
        "border", description="colour of the margin: mean colour of the image's border, or white"
    )
    max_pixels: int = Field(
        40_000_000,
        ge=1,
        le=MAX_PIXELS,
        description="largest image to decode, pixels; 40 million need up to 1.3 GB per worker",
    )
    pictures_per_tar: int = Field(1000, ge=1, description="images in a tar")
    workers: int | None = Field(
        None, ge=1, description="processes at once; unset: one per core. Changes no output"
    )
