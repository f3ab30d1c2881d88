"""
A synthetic data folder for the stages `measure` and `shards`: images that all differ, and their split.

The images are JPEGs of 180 pixels, the smallest variant of Danbooru, of smooth random colours with a
drawn patch. The folder holds what the two stages read, and nothing else.
"""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curation import tars

_SIDE, _BASES, _LABELS = 180, 24, 20
_PER_SEGMENT = 2000
_SPLITS = ("train", "train", "val", "test", "train")


def make(data_dir: Path, images: int) -> None:
    """Writes the tables and segments of `images` posts; the same number gives the same bytes."""
    chance = np.random.default_rng(0)
    bases = [_base(chance) for _ in range(_BASES)]
    rows = []
    for start in range(0, images, _PER_SEGMENT):
        name = f"segment-{start // _PER_SEGMENT:05d}.tar"
        path = data_dir / "download" / "segments" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for post_id in range(start + 1, min(start + _PER_SEGMENT, images) + 1):
                data = _encoded(bases[post_id % _BASES], chance)
                offset = file.tell() + tars.BLOCK
                file.write(tars.member(f"{post_id}.jpg", data))
                rows.append(
                    {
                        "post_id": post_id,
                        "segment": name,
                        "offset": offset,
                        "file_bytes": len(data),
                        "sha256": hashlib.sha256(data).hexdigest(),
                        "width": _SIDE,
                        "height": _SIDE,
                    }
                )
    pq.write_table(pa.Table.from_pylist(rows), data_dir / "download" / "images.parquet")
    _write_split(data_dir, images)


def _write_split(data_dir: Path, images: int) -> None:
    labels = [f"persona_{number:02d}" for number in range(_LABELS)]
    samples = [
        {
            "post_id": post_id,
            "label": labels[post_id % _LABELS],
            "leaf": post_id % _LABELS,
            "group_id": post_id,
            "split": _SPLITS[post_id // _LABELS % len(_SPLITS)],
            "white_background": False,
        }
        for post_id in range(1, images + 1)
    ]
    classes = [
        {"label": label, "leaf": leaf, "base": "", "copyright": ""}
        for leaf, label in enumerate(labels)
    ]
    for name, table in (("split/split", samples), ("persona/classes", classes)):
        path = data_dir / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(table), path)


def root_sha256(data_dir: Path) -> str:
    """Returns the root hash of the shards in the folder."""
    manifest = json.loads((data_dir / "shards" / "manifest.json").read_bytes())
    return str(manifest["root_sha256"])


def _base(chance: np.random.Generator) -> Image.Image:
    colours = chance.integers(0, 256, (9, 9, 3), np.uint8)
    return Image.fromarray(colours).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)


def _encoded(base: Image.Image, chance: np.random.Generator) -> bytes:
    image = base.copy()
    left, top = (int(value) for value in chance.integers(0, _SIDE - 40, 2))
    patch = Image.fromarray(chance.integers(0, 256, (6, 6, 3), np.uint8))
    image.paste(patch.resize((40, 40), Image.Resampling.NEAREST), (left, top))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()
