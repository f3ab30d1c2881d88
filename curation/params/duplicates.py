"""Section `duplicates` of params.yaml: which images count as one."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Params(BaseModel):
    """Section `duplicates`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    distance: int = Field(
        31,
        ge=0,
        le=31,
        description="largest distance of near duplicates, bits of 256, 0..31; 31 is published by the "
        "authors of PDQ. Of 7,256 illustrations no pair of different families is below 40",
    )
    max_difference: float = Field(
        0.3,
        ge=0,
        le=2,
        description="largest difference of near duplicates, 0..2: one minus the correlation of the "
        "pixels at 32 × 32. 400 copies cropped by 2 % per side are below 0.15, recoloured reach 0.26",
    )
    keep: Literal["one", "all"] = Field(
        "one",
        description="one: keep one post of a group; all: keep every post and only report the "
        "groups, for a data set that is compared as it was published",
    )
    families: bool = Field(True, description="treat parent and child posts as one image")
    source_posts: int = Field(
        8,
        ge=0,
        description="number of posts of one source URL, by id, that count as one image; later posts "
        "stay unlinked, as the pages of a gallery do. 0: ignore sources",
    )
