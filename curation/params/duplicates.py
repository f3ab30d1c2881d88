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
    artwork: Literal["one_split", "one_image", "ignore"] = Field(
        "one_split",
        description="images of one label that show the same drawing, by keypoints, on whatever "
        "background. one_split: keep them in one split; one_image: keep one of them; ignore: do not "
        "search. The search takes 15 ms per image and core",
    )
    artwork_inliers: int = Field(
        10,
        ge=5,
        description="least keypoints that agree in two images of one drawing. At 10, 39 of 40 pairs "
        "of illustrations with 10 or 11 are one drawing; at 8, 37 of 40 with 8 or 9",
    )
    source_posts: int = Field(
        8,
        ge=0,
        description="number of posts of one source URL, by id, that are kept in one split; later posts "
        "stay unlinked, as the pages of a gallery do. 0: ignore sources",
    )
    workers: int | None = Field(
        None, ge=1, description="processes; unset: one per core. The output does not depend on it"
    )
