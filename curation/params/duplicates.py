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
        description="largest difference of images with near hashes, 0..2: one minus the correlation of "
        "pixels or edges. Copies are below 0.2, other illustrations above 0.29",
    )
    keep: Literal["one", "all"] = Field(
        "one",
        description="one: keep one post of a group; all: keep every post and only report the "
        "groups, for a data set that is compared as it was published",
    )
    families: bool = Field(True, description="treat parent and child posts as one image")
    artwork: Literal["one_split", "one_image", "ignore"] = Field(
        "one_split",
        description="images of one label with the same drawing on any background: keep them in one "
        "split, keep one image of them, or do not search (60 ms per image and core)",
    )
    artwork_inliers: int = Field(
        12,
        ge=5,
        description="least keypoints that agree in two images of one drawing; of 40 pairs with 12 to "
        "14, 3 are false, of 40 with 10 or 11, 4",
    )
    copy_difference: float = Field(
        0.15,
        ge=0,
        le=2,
        description="largest difference of near duplicates by keypoints, 0..2, where one image, moved, "
        "covers the other; copies are below 0.12",
    )
    copy_overlap: float = Field(
        0.75,
        ge=0,
        le=1,
        description="least share of both images compared so, 0..1; allows a crop or frame of 6 %",
    )
    source_posts: int = Field(
        8,
        ge=0,
        description="number of posts of one source URL, by id, that are kept in one split; later "
        "posts stay unlinked. 0: ignore sources",
    )
    workers: int | None = Field(
        None, ge=1, description="processes at once; unset: one per core. Changes no output"
    )
