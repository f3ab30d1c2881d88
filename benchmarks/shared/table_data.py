"""
A synthetic data folder for the benchmarks of the table stages: what they read of the other stages.

Posts come in blocks of ten consecutive ids of one label. The first post of a block may have an equal
file, a near copy, a mirrored copy, a child and posts of the same source in its block. All other hashes
are random. A post has 30 tags. The bytes of 2,000 drawings stand for those of all posts. The tables
are written in chunks, so that memory does not grow with the posts.
"""

import hashlib
import io
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from curation.hamming import mirrored

BLOCK, DRAWINGS, SIDE, POSTS_OF_LABEL = 10, 1_000, 48, 1_000
CHUNK = 100_000
"""Posts that are made at once; whole blocks."""
GENERAL, ARTISTS, RANDOM_TAGS = 30_000, 50_000, 22
"""Different general tags and artists, and the general tags of a post that are drawn."""
SHARES = {
    "file": 0.1,
    "near": 0.2,
    "mirrored": 0.1,
    "child": 0.5,
    "source": 0.5,
    "grey": 0.2,
    "comic": 0.5,
    "crowd": 0.5,
}
"""Share of the blocks that have such a post."""
FORM = 10
"""Every tenth label is a form of the label before it."""

Ids = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Columns = dict[str, Any]


def write(data_dir: Path, posts: int, *, shared_images: bool = True) -> dict[str, int]:
    """
    Writes what `listing`, `download` and `measure` leave; returns the posts of each kind of `SHARES`.

    Stages `decide`, `filters`, `duplicates`, `persona` and `split` can then run one after another.

    Args:
        data_dir: An absent folder.
        posts: Number of posts.
        shared_images: Whether the recorded hashes are those of the drawings, so that `duplicates`
            can read images. If not, each file has a hash of its own, as in a data set without
            copies: the catalog would list each pair of samples with one drawing as a leak.
    """
    spans = _images(data_dir)
    _write_vocabulary(data_dir / "listing", labels_of(posts))
    counts = dict.fromkeys(SHARES, 0)
    with ExitStack() as stack:
        writers: dict[Path, Any] = {}
        for chunk in chunks(posts):
            for kind, flags in chunk.kinds.items():
                counts[kind] += int(flags.sum())
            stored = pa.array(chunk.is_stored)
            measures = _measures(chunk, spans)
            if not shared_images:
                measures["image_sha256"] = measures["sha256"]
            tables = {
                "listing/posts.parquet": pa.table(_posts(chunk)),
                "download/images.parquet": pa.table(_stored(chunk)).filter(stored),
                "measure/measures.parquet": pa.table(measures).filter(stored),
                "download/decisions.parquet": _kept("download", chunk.post_ids[chunk.is_stored]),
                "listing/decisions.parquet": _kept("listing", chunk.post_ids[:0]),
            }
            for name, table in tables.items():
                append(stack, writers, data_dir / name, table)
    return counts


def chunks(posts: int) -> Iterator["Chunk"]:
    """Yields all posts, at most `CHUNK` at once; a chunk is the same at each call."""
    labels = labels_of(posts)
    for start in range(0, posts, CHUNK):
        yield Chunk.of(start, min(posts, start + CHUNK), labels)


def labels_of(posts: int) -> int:
    """Returns the number of labels of a board with `posts` posts."""
    return max(2, posts // POSTS_OF_LABEL)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive posts, in whole blocks, with the random numbers of these posts alone."""

    random: np.random.Generator
    row: Ids
    """Number of each post, from 0 for the first of all chunks."""
    label: Ids
    """Number of the label of each post."""
    kinds: dict[str, Flags]
    """Which posts are of each kind: the first post of a block is of none."""

    @classmethod
    def of(cls, start: int, end: int, labels: int) -> "Chunk":
        """Returns the posts with the numbers `start` to `end` - 1; `start` begins a block."""
        random = np.random.default_rng([0, start])
        row = np.arange(start, end)
        kinds = {}
        for position, (kind, share) in enumerate(SHARES.items(), start=1):
            of_block = random.random(len(row) // BLOCK + 1) < share
            kinds[kind] = of_block[(row - start) // BLOCK] & (row % BLOCK == position)
        return cls(random, row, row // BLOCK % labels, kinds)

    @property
    def first(self) -> Ids:
        """Number of the first post of each post's block."""
        return np.asarray(self.row - self.row % BLOCK)

    @property
    def post_ids(self) -> Ids:
        """Ids, ascending."""
        return ids_of(self.row)

    @property
    def is_stored(self) -> Flags:
        """Which posts `decide` keeps."""
        return np.asarray(~(self.kinds["comic"] | self.kinds["crowd"]))

    @property
    def original(self) -> Ids:
        """Number of the post whose file each post has."""
        return np.where(self.kinds["file"], self.first, self.row)


def ids_of(row: Ids) -> Ids:
    """Returns the id of each post by its number."""
    return np.asarray(1_000 + 3 * row)


def _posts(chunk: Chunk) -> Columns:
    posts, random, kinds = len(chunk.row), chunk.random, chunk.kinds
    first_ids = ids_of(chunk.first)
    parent = np.where(kinds["child"], first_ids, 0)
    source = np.where(kinds["source"] | (chunk.row == chunk.first), first_ids, chunk.post_ids)
    moments = pa.array(1_700_000_000_000 + chunk.row * 1_000, pa.timestamp("ms", tz="UTC"))
    md5 = _digests(hashlib.md5, chunk.original)
    nothing = pa.nulls(posts, pa.string())
    never = pa.array(np.zeros(posts, np.bool_))
    return {
        "post_id": chunk.post_ids,
        "created_at_utc": moments,
        "updated_at_utc": moments,
        "md5": md5,
        "pixel_hash": md5,
        "rating": pa.repeat("g", posts),
        "image_width": np.full(posts, 900, np.int32),
        "image_height": random.integers(600, 1_200, posts).astype(np.int32),
        "file_ext": pa.repeat("jpg", posts),
        "file_bytes": np.full(posts, 200_000),
        "duration_seconds": pa.nulls(posts, pa.float64()),
        "parent_id": pa.array(parent, mask=parent == 0),
        "has_children": never,
        "is_pending": never,
        "is_flagged": never,
        "is_deleted": never,
        "is_banned": never,
        "score": random.integers(0, 50, posts).astype(np.int32),
        "uploader_id": chunk.row % 999,
        "source": _names("https://images.example/works/", source),
        **_tags(chunk),
        "variants": _variants(chunk.row),
        "given_label": nothing,
        "given_split": nothing,
        "given_group": nothing,
        "licence": nothing,
    }


def _stored(chunk: Chunk) -> Columns:
    posts = len(chunk.row)
    return {
        "post_id": chunk.post_ids,
        "segment": _names("segment_", chunk.row // 1_000),
        "offset": chunk.row,
        "file_bytes": np.full(posts, 9_000),
        "sha256": _digests(hashlib.sha256, chunk.original),
        "md5": _digests(hashlib.md5, chunk.original),
        "variant": pa.repeat("original", posts),
        "file_ext": pa.repeat("png", posts),
        "width": np.full(posts, SIDE, np.int32),
        "height": np.full(posts, SIDE, np.int32),
    }


def _measures(chunk: Chunk, spans: pa.Table) -> Columns:
    posts, random, kinds = len(chunk.row), chunk.random, chunk.kinds
    drawing = (chunk.row // BLOCK) % DRAWINGS + np.where(kinds["mirrored"], DRAWINGS, 0)
    of_post = spans.take(pa.array(drawing))
    return {
        "post_id": chunk.post_ids,
        "error": pa.nulls(posts, pa.string()),
        "detail": pa.nulls(posts, pa.string()),
        "measured": pa.nulls(posts, pa.float64()),
        "threshold": pa.nulls(posts, pa.float64()),
        "file_format": pa.repeat("PNG", posts),
        "mode": pa.repeat("RGB", posts),
        "width": np.full(posts, SIDE, np.int32),
        "height": np.full(posts, SIDE, np.int32),
        "sha256": _digests(hashlib.sha256, chunk.original),
        "phash": _fixed(_hashes(chunk)),
        "phash_quality": np.full(posts, 100, np.int32),
        "border_white": random.random(posts),
        "saturation": np.where(kinds["grey"], 0.01, 0.5),
        "sharpness": np.full(posts, 900.0),
        "contrast": np.full(posts, 0.2),
        "image_tar": pa.repeat("images-00000.tar", posts),
        **{name: of_post[name] for name in ("offset", "image_bytes", "image_sha256")},
    }


def _hashes(chunk: Chunk) -> npt.NDArray[np.uint64]:
    """Returns 256 random bits of each post; copies have those of the first post, with few changed."""
    random = chunk.random
    hashes = random.integers(0, 2**64, (len(chunk.row), 4), np.uint64)
    for kind, flips in (("file", 0), ("near", 28), ("mirrored", 20)):
        rows = np.flatnonzero(chunk.kinds[kind])
        copies = hashes[rows - rows % BLOCK]
        for _ in range(flips):
            word, bit = random.integers(0, 4, len(rows)), random.integers(0, 64, len(rows))
            copies[np.arange(len(rows)), word] ^= np.uint64(1) << bit.astype(np.uint64)
        hashes[rows] = mirrored(copies) if kind == "mirrored" else copies
    return hashes


def _images(data_dir: Path) -> pa.Table:
    """Writes the drawings, then their mirror images; returns the span of each."""
    random = np.random.default_rng(0)
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


def _write_vocabulary(folder: Path, labels: int) -> None:
    """Writes tags, implications and aliases: every tenth label is a form of the label before it."""
    folder.mkdir(parents=True)
    forms = np.arange(labels)
    forms = forms[forms % FORM == 1]
    names = [("tag_", GENERAL, 0), ("artist_", ARTISTS, 1), ("persona_", labels, 4)]
    tags = [
        pa.table(
            {
                "name": _names(prefix, np.arange(count)),
                "category": np.full(count, category, np.int8),
                "post_count": np.full(count, 1_000),
            }
        )
        for prefix, count, category in names
    ]
    pq.write_table(pa.concat_tables(tags), folder / "tags.parquet")
    pairs = {
        "implications": (_names("persona_", forms), _names("persona_", forms - 1)),
        "aliases": (_names("old_tag_", np.arange(100)), _names("tag_", np.arange(100))),
    }
    for name, (antecedent, consequent) in pairs.items():
        table = pa.table({"antecedent": antecedent, "consequent": consequent})
        pq.write_table(table, folder / f"{name}.parquet")


def _tags(chunk: Chunk) -> Columns:
    posts, random = len(chunk.row), chunk.random
    crowd, comic = chunk.kinds["crowd"], chunk.kinds["comic"]
    white = random.random(posts) < 0.3
    stated = [("solo", "2girls", crowd), ("1girl", "multiple_girls", crowd)]
    stated += [("looking_at_viewer", "comic", comic)]
    stated += [("simple_background", "white_background", white)]
    # Tag k of a post is one of those with k as the remainder, so that no post has a tag twice.
    strata = (GENERAL // RANDOM_TAGS * random.random((posts, RANDOM_TAGS)) ** 3).astype(np.int32)
    numbers = strata * RANDOM_TAGS + np.arange(RANDOM_TAGS, dtype=np.int32)
    plain = [name for pair in stated for name in pair[:2]]
    of_plain = [np.where(flags, 2 * n + 1, 2 * n) for n, (_, _, flags) in enumerate(stated)]
    codes = np.column_stack([*of_plain, numbers + len(plain)]).astype(np.int32)
    names = pa.array([*plain, *(f"tag_{number}" for number in range(GENERAL))])
    general = pa.DictionaryArray.from_arrays(codes.reshape(-1), names).cast(pa.string())
    one_each = np.arange(posts + 1, dtype=np.int32)
    characters = np.column_stack([chunk.label, chunk.label - 1])
    is_present = np.column_stack([np.ones(posts, np.bool_), chunk.label % FORM == 1])
    ends = np.concatenate([[0], np.cumsum(is_present.sum(axis=1))]).astype(np.int32)
    artists = (ARTISTS * random.random(posts) ** 2).astype(np.int64)
    singles = {
        "copyright": _names("work_", chunk.label // FORM),
        "artist": _names("artist_", artists),
        "meta": pa.repeat("highres", posts),
    }
    return {
        "tags_general": pa.ListArray.from_arrays(codes.shape[1] * one_each, general),
        "tags_character": pa.ListArray.from_arrays(
            ends, _names("persona_", characters[is_present])
        ),
        **{f"tags_{kind}": pa.ListArray.from_arrays(one_each, n) for kind, n in singles.items()},
    }


def _variants(row: Ids) -> pa.Array:
    posts = len(row)
    fields = {
        "type": pa.repeat("original", posts),
        "url": _names("/original/", row),
        "width": pa.array(np.full(posts, 900, np.int32)),
        "height": pa.array(np.full(posts, 900, np.int32)),
        "file_ext": pa.repeat("jpg", posts),
    }
    files = pa.StructArray.from_arrays(list(fields.values()), list(fields))
    return pa.ListArray.from_arrays(np.arange(posts + 1, dtype=np.int32), files)


def _kept(stage: str, post_ids: Ids) -> pa.Table:
    posts = len(post_ids)
    return pa.table(
        {
            "post_id": post_ids,
            "stage": pa.repeat(stage, posts),
            "kept": pa.array(np.ones(posts, np.bool_)),
            "reason": pa.nulls(posts, pa.string()),
            "measured": pa.nulls(posts, pa.float64()),
            "threshold": pa.nulls(posts, pa.float64()),
        }
    )


def _digests(algorithm: Any, numbers: Ids) -> pa.Array:
    return pa.array([algorithm(b"%d" % number).hexdigest() for number in numbers.tolist()])


def _names(prefix: str, numbers: Ids) -> pa.Array:
    return pa.array([f"{prefix}{number}" for number in numbers.tolist()], pa.string())


def _fixed(hashes: npt.NDArray[np.uint64]) -> pa.Array:
    buffer = pa.py_buffer(np.ascontiguousarray(hashes).tobytes())
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(hashes), [None, buffer])


def append(stack: ExitStack, writers: dict[Path, Any], path: Path, table: pa.Table) -> None:
    """Writes a table as the next row group of a file, which is open until the stack closes it."""
    if path not in writers:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = pq.ParquetWriter(path, table.schema, compression="zstd")
        writers[path] = stack.enter_context(writer)
    writers[path].write_table(table)
