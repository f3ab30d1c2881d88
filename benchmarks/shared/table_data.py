"""
A synthetic data folder for the benchmark of the table stages: what the stages after `measure` read.

Posts come in blocks of ten consecutive ids of one label. The first post of a block may have an equal
file, a near copy, a mirrored copy, a child and posts of the same source in its block. All other hashes
are random. The bytes of 2,000 drawings stand for those of all posts.
"""

import hashlib
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from curation.hamming import mirrored

BLOCK, DRAWINGS, SIDE, TAGS = 10, 1_000, 48, 5_000
TAGS_OF_POST, POSTS_OF_LABEL = 20, 1_000
SHARES = {"file": 0.1, "near": 0.2, "mirrored": 0.1, "child": 0.5, "source": 0.5, "grey": 0.2}
"""Share of the blocks that have such a post."""

Ids = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def write(data_dir: Path, posts: int) -> dict[str, int]:
    """Writes the tables and the images; returns the number of posts of each kind of `SHARES`."""
    random = np.random.default_rng(0)
    row = np.arange(posts)
    first = row - row % BLOCK
    kinds = _kinds(random, row)
    post_ids = 1_000 + 3 * row
    original = np.where(kinds["file"], first, row)
    hashes = _hashes(random, first, kinds)
    labels = row // BLOCK % max(2, posts // POSTS_OF_LABEL)
    label = _names("persona_", labels)
    md5 = pa.array([hashlib.md5(b"%d" % each).hexdigest() for each in original])  # noqa: S324  # as boards list it
    sha256 = pa.array([hashlib.sha256(b"%d" % each).hexdigest() for each in original])
    drawing = (row // BLOCK) % DRAWINGS + np.where(kinds["mirrored"], DRAWINGS, 0)
    images = _images(random, data_dir)
    spans = images.take(pa.array(drawing))
    parent = np.where(kinds["child"], post_ids[first], 0)
    source = np.where(kinds["source"] | (row == first), post_ids[first], post_ids)
    _write(
        data_dir / "listing" / "posts.parquet",
        {
            "post_id": post_ids,
            "md5": md5,
            "pixel_hash": md5,
            "parent_id": pa.array(parent, mask=parent == 0),
            "source": _names("https://images.example/works/", source),
            "score": random.integers(0, 50, posts).astype(np.int32),
            "image_width": np.full(posts, 900, np.int32),
            "image_height": random.integers(600, 1_200, posts).astype(np.int32),
            "given_label": pa.nulls(posts, pa.string()),
            "given_split": pa.nulls(posts, pa.string()),
            "given_group": pa.nulls(posts, pa.string()),
        }
        | _tags(random, label),
    )
    names = {"post_id": post_ids, "persona": label, "base": label}
    white = random.random(posts) < 0.3
    names |= {"copyright": _names("work_", labels % 90), "white_background_tag": white}
    _write(data_dir / "decide" / "kept.parquet", names)
    _write(
        data_dir / "download" / "images.parquet",
        {"post_id": post_ids, "segment": _names("segment_", row // 1_000), "offset": row}
        | {"file_bytes": np.full(posts, 9_000), "sha256": sha256},
    )
    _write(
        data_dir / "measure" / "measures.parquet",
        {
            "post_id": post_ids,
            "error": pa.nulls(posts, pa.string()),
            "measured": pa.nulls(posts, pa.float64()),
            "threshold": pa.nulls(posts, pa.float64()),
            "width": np.full(posts, SIDE, np.int32),
            "height": np.full(posts, SIDE, np.int32),
            "sha256": sha256,
            "phash": _fixed(hashes),
            "border_white": random.random(posts),
            "saturation": np.where(kinds["grey"], 0.01, 0.5),
            "sharpness": np.full(posts, 900.0),
            "contrast": np.full(posts, 0.2),
            "image_tar": pa.DictionaryArray.from_arrays(
                pa.array(np.zeros(posts, np.int32)), ["images-00000.tar"]
            ).cast(pa.string()),
        }
        | {name: spans[name] for name in ("offset", "image_bytes", "image_sha256")},
    )
    return {kind: int(flags.sum()) for kind, flags in kinds.items()}


def _kinds(random: np.random.Generator, row: Ids) -> dict[str, Flags]:
    """Returns which posts are of each kind: the first post of a block is of none."""
    kinds = {}
    for position, (kind, share) in enumerate(SHARES.items(), start=1):
        of_block = random.random(len(row) // BLOCK + 1) < share
        kinds[kind] = of_block[row // BLOCK] & (row % BLOCK == position)
    return kinds


def _hashes(
    random: np.random.Generator, first: Ids, kinds: dict[str, Flags]
) -> npt.NDArray[np.uint64]:
    """Returns 256 random bits of each post; copies have those of the first post, with few changed."""
    hashes = random.integers(0, 2**64, (len(first), 4), np.uint64)
    for kind, flips in (("file", 0), ("near", 28), ("mirrored", 20)):
        rows = np.flatnonzero(kinds[kind])
        copies = hashes[first[rows]]
        for _ in range(flips):
            word, bit = random.integers(0, 4, len(rows)), random.integers(0, 64, len(rows))
            copies[np.arange(len(rows)), word] ^= np.uint64(1) << bit.astype(np.uint64)
        hashes[rows] = mirrored(copies) if kind == "mirrored" else copies
    return hashes


def _images(random: np.random.Generator, data_dir: Path) -> pa.Table:
    """Writes the drawings, then their mirror images; returns the span of each."""
    drawings = [
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).resize((SIDE, SIDE))
        for _ in range(DRAWINGS)
    ]
    content, rows = bytearray(), []
    for image in [*drawings, *map(ImageOps.mirror, drawings)]:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        data = buffer.getvalue()
        row = {"offset": len(content), "image_bytes": len(data)}
        rows.append(row | {"image_sha256": hashlib.sha256(data).hexdigest()})
        content += data
    path = data_dir / "measure" / "images-00000.tar"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return pa.Table.from_pylist(rows)


def _tags(random: np.random.Generator, label: pa.Array) -> dict[str, pa.Array]:
    posts = len(label)
    numbers = (TAGS * random.random(posts * TAGS_OF_POST) ** 3).astype(np.int32)
    names = pa.array([f"tag_{number:04d}" for number in range(TAGS)])
    general = pa.DictionaryArray.from_arrays(numbers, names).cast(pa.string())
    one_each = np.arange(posts + 1, dtype=np.int32)
    empty = pa.ListArray.from_arrays(0 * one_each, pa.array([], pa.string()))
    return {
        "tags_general": pa.ListArray.from_arrays(TAGS_OF_POST * one_each, general),
        "tags_character": pa.ListArray.from_arrays(one_each, label),
        "tags_copyright": empty,
        "tags_artist": empty,
        "tags_meta": empty,
    }


def _names(prefix: str, numbers: Ids) -> pa.Array:
    return pa.array([f"{prefix}{number}" for number in numbers.tolist()])


def _fixed(hashes: npt.NDArray[np.uint64]) -> pa.Array:
    buffer = pa.py_buffer(np.ascontiguousarray(hashes).tobytes())
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(hashes), [None, buffer])


def _write(path: Path, columns: dict[str, pa.Array]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=100_000)
