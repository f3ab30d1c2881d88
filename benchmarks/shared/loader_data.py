"""Shards of random images for the loader benchmarks, in the format of stage `shards`."""

import hashlib
import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from personae.build.documents import ImageDocument, IndexedShard, LabelIndex, ShardIndex

SAMPLES, PER_SHARD, SIDE, LABELS = 5000, 1000, 128, 10


def random_image(rng: np.random.Generator, side: int = SIDE) -> Image.Image:
    """Returns a gradient with flat shapes and some noise, which takes about as long to decode as a drawing."""
    ramp = np.linspace(0, 1, side)[:, None, None]
    ground = rng.integers(0, 256, 3) * ramp + rng.integers(0, 256, 3) * (1 - ramp)
    pixels = np.broadcast_to(ground, (side, side, 3)).copy()
    for _ in range(6):
        top, left = rng.integers(0, side - side // 4, 2)
        tall, wide = rng.integers(side // 16, side // 3, 2)
        pixels[top : top + tall, left : left + wide] = rng.integers(0, 256, 3)
    pixels += rng.normal(0, 3, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def write(folder: Path, *, samples: int = SAMPLES, side: int = SIDE) -> Path:
    """Writes shards of JPEG images: a training set, and small validation and test sets."""
    folder.mkdir(parents=True)
    rng, entries, rows = np.random.default_rng(0), [], []
    for split, count in (("train", samples), ("val", LABELS * 2), ("test", LABELS * 2)):
        for start in range(0, count, PER_SHARD):
            path = folder / f"{split}-{start // PER_SHARD:06d}.tar"
            numbers = range(start, min(start + PER_SHARD, count))
            with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
                rows += [
                    _add(archive, path.name, split, n, random_image(rng, side)) for n in numbers
                ]
            entries.append(
                IndexedShard(
                    shard=path.name,
                    split=split,
                    samples=len(numbers),
                    bytes=path.stat().st_size,
                    sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                )
            )
    pq.write_table(pa.Table.from_pylist(rows), folder / "samples.parquet")
    labels = tuple(f"label_{number}" for number in range(LABELS))
    LabelIndex(labels=labels).write(folder / "classes.json")
    ShardIndex(
        shards=tuple(entries),
        root_sha256="0" * 64,
        image=ImageDocument(side=side, format="jpg"),
        labels=LABELS,
        samples=dict(Counter(row["split"] for row in rows)),
    ).write(folder / "manifest.json")
    return folder


def _add(
    archive: tarfile.TarFile, shard: str, split: str, number: int, image: Image.Image
) -> dict[str, object]:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    post_id = number + {"train": 0, "val": 10**6, "test": 2 * 10**6}[split]
    leaf = number % LABELS
    record = {"post_id": post_id, "white_background": False, "leaf": leaf}
    content = buffer.getvalue()
    offset = 0
    for suffix, data in (
        ("jpg", content),
        ("cls", str(leaf).encode()),
        ("json", json.dumps(record).encode()),
    ):
        member = tarfile.TarInfo(f"{post_id:09d}.{suffix}")
        member.size = len(data)
        if suffix == "jpg":
            offset = archive.offset + tarfile.BLOCKSIZE
        archive.addfile(member, io.BytesIO(data))
    return record | {
        "split": split,
        "shard": shard,
        "image_offset": offset,
        "image_bytes": len(content),
    }
