"""
Small copies of the images in the shards, by post.

730 images of 128 pixels would make the page larger than all else on it.
"""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from personae import files, tables
from personae.build.shards import decoded
from personae.errors import BadShard

_SIDE = 96  # pixels; the page shows 76
_QUALITY = 80


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """The images of the shards in `shards_dir`, which have `side` pixels."""

    shards_dir: Path
    side: int
    places: Mapping[int, tuple[str, int, int]]
    """Shard, offset and size of each image, by post."""

    def webp(self, post_id: int) -> bytes:
        """
        Returns a small copy of the image of a post.

        Raises:
            BadShard: No shard has the post, or its shard is absent, is shorter than its table states,
                or holds no image at the offset.
        """
        if post_id not in self.places:
            raise BadShard(
                f"Image {post_id} is in no shard: the predictions or the splits were made from other "
                "shards. Run `dvc repro`."
            )
        shard, offset, size = self.places[post_id]
        try:
            # Only the file name: a path in a table must not lead out of the folder of the shards.
            data = files.read_range(self.shards_dir / Path(shard).name, offset, size)
        except OSError as error:
            raise BadShard(
                f"Shard {shard} cannot be read ({error}): run stage 'shards' again."
            ) from error
        if len(data) != size:
            raise BadShard(
                f"Shard {shard} ends before image {post_id} of {size} bytes does: "
                "run stage 'shards' again."
            )
        return _small(decoded(data, side=self.side, source=f"post {post_id} in {shard}"))


def opened(shards_dir: Path, *, side: int) -> Thumbnails:
    """
    Returns the images of the shards, whose height and width are `side` pixels.

    Raises:
        MissingInput, MissingColumn: The table of the samples is absent, or lacks a column.
    """
    columns = ("post_id", "shard", "image_offset", "image_bytes")
    table = tables.read(shards_dir / "samples.parquet", columns, stage="shards")
    rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
    places = {post_id: (shard, offset, size) for post_id, shard, offset, size in rows}
    return Thumbnails(shards_dir, side, places)


def data_url(webp: bytes) -> str:
    """Returns the address that holds the image itself."""
    return f"data:image/webp;base64,{base64.b64encode(webp).decode('ascii')}"


def _small(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY)
    return buffer.getvalue()
