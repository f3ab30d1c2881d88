"""Draws test images for the mosaic by seed and reads them from the shards, with predictions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.page.summary import SeedPredictions
from train.page.thumbnails import Thumbnails


@dataclass(frozen=True, slots=True)
class Tile:
    """One test image. `hierarchical` is None where there is no run with a hierarchy."""

    post_id: int
    webp: bytes
    """A small copy of the image."""
    label: int
    flat: int
    hierarchical: int | None

    @property
    def outcome(self) -> str:
        """Which network predicted the label correctly: both, hierarchy, flat or neither."""
        flat = self.flat == self.label
        other = flat if self.hierarchical is None else self.hierarchical == self.label
        if flat == other:
            return "both" if flat else "neither"
        return "flat" if flat else "hierarchy"


def choose(flat: SeedPredictions, *, leaves: int, each: int, seed: int) -> list[list[int]]:
    """Returns for each label the rows of at most `each` of its test images, drawn by `seed`."""
    drawn = np.random.default_rng(seed).permutation(len(flat.predicted))
    labels = flat.trained.label[drawn]
    return [[int(row) for row in drawn[labels == leaf][:each]] for leaf in range(leaves)]


def read(
    rows: Sequence[Sequence[int]],
    flat: SeedPredictions,
    hierarchical: SeedPredictions | None,
    thumbnails: Thumbnails,
) -> list[list[Tile]]:
    """
    Reads the images of the chosen rows, label by label.

    Args:
        rows: For each label, rows of its test images.
        flat: Predictions of the flat network.
        hierarchical: Predictions of a hierarchy, if there is one.
        thumbnails: The images of the shards.

    Raises:
        BadShard: As `Thumbnails.webp`.
    """
    return [
        [
            Tile(
                post_id=int(flat.trained.post_id[row]),
                webp=thumbnails.webp(int(flat.trained.post_id[row])),
                label=int(flat.trained.label[row]),
                flat=int(flat.predicted[row]),
                hierarchical=None if hierarchical is None else int(hierarchical.predicted[row]),
            )
            for row in line
        ]
        for line in rows
    ]
