"""
What `duplicates` and `shards` would leave on the synthetic tables of `table_data`.

The duplicate groups are those that `table_data` plants, so that the stages after `duplicates` can be
measured at sizes where its search takes an hour. Every post of a split becomes a sample.
"""

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.shared.table_data import Chunk, append, chunks, ids_of
from curation.documents import ManifestDocument, NormalisedFormat, ShardEntry
from curation.duplicates import GROUPS, LINKS
from curation.links import REASONS
from curation.params.duplicates import Params
from personae import decisions, tables

JOINED = {"file": "exact", "near": "near", "mirrored": "near", "child": "family"}
"""The posts that show the image of the first of their block, and how they are linked to it."""
SAMPLE_BYTES = 9_216
_SAMPLES_OF_SHARD = 10_000
_NEAR_BITS = 20
_NO_SHA256 = "0" * 64


def write_duplicates(data_dir: Path, posts: int) -> None:
    """Writes the tables of `duplicates`: the first post of each planted group is kept."""
    out = data_dir / "duplicates"
    params = {"personae.params": Params().model_dump_json(exclude={"workers"})}
    with ExitStack() as stack:
        writers: dict[Path, Any] = {}
        for chunk in chunks(posts):
            groups, decided, links = _duplicates(chunk)
            append(stack, writers, out / "groups.parquet", groups.replace_schema_metadata(params))
            append(stack, writers, out / "decisions.parquet", decided)
            append(stack, writers, out / "links.parquet", links)
    tables.write(out / "apart.parquet", LINKS.empty_table())


def _duplicates(chunk: Chunk) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Returns groups, decisions and links of a chunk."""
    kinds = list(REASONS)
    link = np.full(len(chunk.row), -1)
    for kind, joins in JOINED.items():
        link[chunk.kinds[kind]] = kinds.index(joins)
    is_joined = link >= 0
    is_near = link == kinds.index("near")
    is_linked = is_joined | chunk.kinds["source"]
    names = pa.array([*kinds, None], pa.string())
    bits = pa.array(np.full(len(link), _NEAR_BITS, np.int32), mask=~is_near)
    first_ids = ids_of(chunk.first)
    groups = pa.table(
        {
            "post_id": chunk.post_ids,
            "group_id": np.where(is_joined, first_ids, chunk.post_ids),
            "representative": ~is_joined,
            "link": names.take(pa.array(link % len(names))),
            "distance": bits,
        },
        schema=GROUPS,
    )
    reasons = pa.array([*REASONS.values(), None], pa.string())
    decided = decisions.table(
        "duplicates",
        chunk.post_ids,
        reasons.take(pa.array(link % len(names))),
        measured=bits.cast(pa.float64()),
        threshold=pa.array(np.full(len(link), 31.0), mask=~is_near),
    )
    of_link = np.where(is_joined, link, kinds.index("source"))
    nothing = {name: pa.nulls(len(link), LINKS.field(name).type) for name in LINKS.names[3:]}
    links = pa.table(
        {
            "post_a": first_ids,
            "post_b": chunk.post_ids,
            "link": names.take(pa.array(of_link)),
            **nothing,
            "distance": bits,
        }
    ).select(LINKS.names)
    is_filtered = chunk.is_stored & ~chunk.kinds["grey"]  # what `filters` keeps
    kept, linked = pa.array(is_filtered), pa.array(is_filtered & is_linked)
    return groups.filter(kept), decided.filter(kept), links.filter(linked)


def write_samples(data_dir: Path) -> int:
    """Writes the table and the manifest of `shards` for all posts of the split; returns their number."""
    columns = ["post_id", "split", "label", "leaf", "white_background"]
    path = data_dir / "split" / "split.parquet"
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        writers: dict[Path, Any] = {}
        # As large as the row groups that stage `shards` writes.
        for batch in tables.batches(path, columns, stage="split", rows=1 << 20):
            table = pa.Table.from_batches([batch])
            number = np.zeros(batch.num_rows, np.int64)
            split = batch.column("split").to_numpy(zero_copy_only=False)
            for name in sorted(set(split)):
                rows = np.flatnonzero(split == name)
                number[rows] = counts[name] + np.arange(len(rows))
                counts[name] += len(rows)
            shards = number // _SAMPLES_OF_SHARD
            offset = number % _SAMPLES_OF_SHARD * SAMPLE_BYTES
            names = [f"{of}-{at:06d}.tar" for of, at in zip(split, shards.tolist(), strict=True)]
            more = {
                "shard": pa.array(names),
                "offset": offset,
                "sample_bytes": np.full(len(offset), SAMPLE_BYTES),
                "image_offset": offset + 512,
                "image_bytes": np.full(len(offset), SAMPLE_BYTES - 512),
            }
            for name, column in more.items():
                table = table.append_column(name, pa.array(column))
            append(stack, writers, data_dir / "shards" / "samples.parquet", table)
    _write_manifest(data_dir, counts)
    return counts.total()


def _write_manifest(data_dir: Path, counts: Counter[Any]) -> None:
    entries = [
        ShardEntry(
            shard=f"{split}-{shard:06d}.tar",
            split=split,
            samples=min(_SAMPLES_OF_SHARD, count - shard * _SAMPLES_OF_SHARD),
            bytes=0,
            sha256=_NO_SHA256,
        )
        for split, count in sorted(counts.items())
        for shard in range(-(-count // _SAMPLES_OF_SHARD))
    ]
    ManifestDocument(
        shards=tuple(entries),
        root_sha256=_NO_SHA256,
        files={},
        samples=dict(counts),
        labels=1,
        image=NormalisedFormat(side=48, format="png"),
        versions={},
    ).write(data_dir / "shards" / "manifest.json")
