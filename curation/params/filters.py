"""Section `filters` of params.yaml: the measures below which an image is refused, and the exclude file."""

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

EXCLUDABLE: Final = ("post", "tag", "artist", "sha256", "md5")
"""What a rule of the exclude file may name."""


class Params(BaseModel):
    """Section `filters`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_side: int = Field(
        64,
        ge=0,
        description="least long side of the fetched image, pixels; smaller images show no detail. "
        "Use 0 for folders of small images",
    )
    min_saturation: float = Field(
        0.06,
        ge=0,
        le=1,
        description="least saturation of the pixels that are not white, 0..1; of 4,000 drawings of "
        "the demo board the 20 grey drawings reach 0.042, the coloured drawings start at 0.081",
    )
    min_contrast: float = Field(
        0.02,
        ge=0,
        le=0.5,
        description="least standard deviation of grey, 0..0.5; 0.02 is five of 255 levels. Of 7,256 "
        "illustrations three are below: one is blank, two show a speck",
    )
    min_sharpness: float = Field(
        20.0,
        ge=0,
        description="least variance of the Laplacian at 64 pixels, squared grey levels; of 7,256 "
        "illustrations a blank image and a speck are below 20, the next is at 53",
    )
    exclude: str = Field(
        "exclude.txt",
        min_length=1,
        description="file of rules that exclude posts, as `python -m curation remove` writes; without "
        "the file, none. Another path is to be named in dvc.yaml too",
    )
