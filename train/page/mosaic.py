"""
Draws test images for the mosaic by seed and reads them from the shards, with predictions.

The page shows small copies: 730 images of 128 pixels would make it larger than all else on it.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from personae import tables
from personae.build.shards import decoded
from personae.errors import BadShard
from train.page.summary import SeedPredictions

_SIDE = 96  # pixels; the page shows 76
_QUALITY = 80


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
    *,
    shards_dir: Path,
    side: int,
) -> list[list[Tile]]:
    """
    Reads the images of the chosen rows from the shards, label by label.

    Args:
        rows: For each label, rows of its test images.
        flat: Predictions of the flat network.
        hierarchical: Predictions of a hierarchy, if there is one.
        shards_dir: Folder of the shards.
        side: Height and width of their images in pixels.

    Raises:
        BadShard: A shard is absent, is shorter than its table states, or holds no image at an offset.
    """
    places = _places(shards_dir)
    lines = []
    for line in rows:
        tiles = []
        for row in line:
            post_id = int(flat.trained.post_id[row])
            data = _bytes(shards_dir, places, post_id)
            tiles.append(
                Tile(
                    post_id=post_id,
                    webp=_small(
                        decoded(data, side=side, source=f"post {post_id} in {places[post_id][0]}")
                    ),
                    label=int(flat.trained.label[row]),
                    flat=int(flat.predicted[row]),
                    hierarchical=None if hierarchical is None else int(hierarchical.predicted[row]),
                )
            )
        lines.append(tiles)
    return lines


def _places(shards_dir: Path) -> dict[int, tuple[str, int, int]]:
    columns = ("post_id", "shard", "image_offset", "image_bytes")
    table = tables.read(shards_dir / "samples.parquet", columns, stage="shards")
    rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
    return {post_id: (shard, offset, size) for post_id, shard, offset, size in rows}


def _bytes(shards_dir: Path, places: Mapping[int, tuple[str, int, int]], post_id: int) -> bytes:
    if post_id not in places:
        raise BadShard(
            f"Test image {post_id} of the predictions is in no shard: they were made from other "
            "shards. Run `dvc repro`."
        )
    shard, offset, size = places[post_id]
    try:
        # Only the file name: a path in a table must not lead out of the folder of the shards.
        with (shards_dir / Path(shard).name).open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise BadShard(
            f"Shard {shard} cannot be read ({error}): run stage 'shards' again."
        ) from error
    if len(data) != size:
        raise BadShard(
            f"Shard {shard} ends before image {post_id} does ({len(data)} of {size} bytes): "
            "run stage 'shards' again."
        )
    return data


def _small(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY)
    return buffer.getvalue()
