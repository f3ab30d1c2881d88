"""
A synthetic data folder for the benchmarks of the catalog and of the browse page.

Every table that the catalog loads, with 20 of 5,000 tags a post, some much more frequent than others,
120 labels, and refusals of two stages; predictions of three runs and two seeds. The bytes of 10,000
drawings stand for those of all posts.
"""

import hashlib
import io
import shutil
import tarfile
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curation import catalog
from curation.documents import CertificateDocument, ManifestDocument, NormalisedFormat, ShardEntry

LABELS, TAGS, DRAWINGS, SIDE = 120, 5_000, 10_000, 64
RUNS = (("flat", 0), ("flat", 1), ("uppsala", 0), ("uppsala", 1), ("hdcnn", 0), ("hdcnn", 1))
MOST_PREDICTED = 100_000
"""Images with a prediction; a run predicts test images alone."""
FIRST_POST = 1_000
"""Id of the first post, which is a sample."""
_NO_SHA256 = "0" * 64


def write(
    folder: Path, posts: int, *, shared_images: bool, tags_of_post: int = 20
) -> tuple[Path, Path]:
    """
    Writes the tables, the images and the predictions; returns the data and the results folder.

    Args:
        folder: An empty folder.
        posts: Number of posts.
        shared_images: Whether the recorded hashes are those of the drawings, so that images can be
            read. If not, each post has a hash of its own, as in a data set without copies, and images
            of the first 10,000 posts alone can be read.
        tags_of_post: General tags that are drawn for each post.
    """
    data_dir, results_dir = folder / "data", folder / "results"
    with duckdb.connect() as connection:
        connection.execute(f"SET temp_directory = '{folder / 'spilled'}'")
        connection.execute("SET preserve_insertion_order = false")
        connection.execute("SET memory_limit = '2GB'")
        connection.execute("SET enable_progress_bar = false")
        connection.register("drawings", _images(data_dir))
        sizes = {"posts": posts, "labels": LABELS, "tags": TAGS, "drawings": DRAWINGS}
        sizes |= {"predicted": MOST_PREDICTED, "shared_images": shared_images}
        sizes |= {"tags_of_post": tags_of_post}
        for name, value in sizes.items():
            connection.execute(f"SET VARIABLE {name} = {value}")
        connection.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
        views = (
            "SELECT view_name FROM duckdb_views() WHERE NOT internal AND contains(view_name, '/')"
        )
        for (name,) in connection.execute(views).fetchall():
            path = data_dir / f"{name}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            _copy(connection, name, path)
        tested = connection.sql(
            "SELECT post_id, split, leaf FROM named WHERE sampled AND split <> 'train' "
            "ORDER BY post_id LIMIT getvariable('predicted')"
        ).to_arrow_table()
    _documents(data_dir, posts * 2 // 5)
    _predictions(results_dir, tested)
    return data_dir, results_dir


def _copy(connection: duckdb.DuckDBPyConnection, name: str, path: Path) -> None:
    """Writes a view as Parquet; DuckDB itself would write hashes as bytes of any length."""
    if name != "measure/measures":
        connection.execute(f"COPY (FROM \"{name}\") TO '{path}' (FORMAT parquet)")
        return
    batches = connection.sql(f'FROM "{name}"').to_arrow_reader(1 << 17)
    index = batches.schema.get_field_index("phash")
    schema = batches.schema.set(index, pa.field("phash", pa.binary(32)))
    with pq.ParquetWriter(path, schema) as writer:
        for batch in batches:
            writer.write_batch(batch.cast(schema))


def _images(data_dir: Path) -> pa.Table:
    """Writes the files of images; returns the position, size and sha256 of each drawing."""
    random = np.random.default_rng(0)
    content, rows = bytearray(), []
    for drawing in range(DRAWINGS):
        coarse = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "PNG")
        data = buffer.getvalue()
        row = {"drawing": drawing, "offset": len(content) + 512, "bytes": len(data)}
        rows.append(row | {"sha256": hashlib.sha256(data).hexdigest()})
        # The header of the first post with this drawing: `get` compares it.
        header = tarfile.TarInfo(f"{FIRST_POST + 10 * drawing}.png")
        header.size = len(data)
        content += header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)
    names = ("shards/train-000000.tar", "shards/val-000000.tar", "shards/test-000000.tar")
    for name in (*names, "measure/images-00000.tar", "download/segments/00000.tar"):
        (data_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (data_dir / name).write_bytes(content)
    return pa.Table.from_pylist(rows)


def _documents(data_dir: Path, samples: int) -> None:
    shares = {"train": 0.6, "val": 0.15, "test": 0.25}
    splits: dict[Any, int] = {split: int(samples * share) for split, share in shares.items()}
    ManifestDocument(
        shards=tuple(
            ShardEntry(
                shard=f"{split}-000000.tar",
                split=split,
                samples=count,
                bytes=0,
                sha256=catalog.sha256(data_dir / "shards" / f"{split}-000000.tar"),
            )
            for split, count in splits.items()
        ),
        root_sha256=_NO_SHA256,
        files={},
        samples=splits,
        labels=LABELS,
        image=NormalisedFormat(side=SIDE, format="png"),
        versions={},
    ).write(data_dir / "shards" / "manifest.json")
    CertificateDocument(
        distance=31,
        passed=True,
        posts=samples,
        posts_without_hash=0,
        pairs_told_apart=0,
        pairs_within={},
        closest=None,
        labels={},
        least_difference=0.0,
        like=(),
        mode="hash",
        seed=0,
        shares={},
    ).write(data_dir / "split" / "certificate.json")


def _predictions(results_dir: Path, tested: pa.Table) -> None:
    """Writes the same predictions for every run: four of five are right."""
    random = np.random.default_rng(0)
    leaves = tested["leaf"].to_numpy()
    is_wrong = random.random(len(leaves)) < 0.2
    predicted = np.where(is_wrong, (leaves + random.integers(1, 4, len(leaves))) % LABELS, leaves)
    probabilities = random.random((len(leaves), LABELS), dtype=np.float32)
    probabilities[np.arange(len(leaves)), predicted] += 1
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    flat = pa.array(probabilities.ravel())
    lists = pa.ListArray.from_arrays(np.arange(len(leaves) + 1, dtype=np.int32) * LABELS, flat)
    table = pa.table(
        {
            "post_id": tested["post_id"],
            "split": tested["split"],
            "white_background": pa.array(np.zeros(len(leaves), dtype=bool)),
            "label": tested["leaf"],
            "predicted": predicted.astype(np.int32),
            "probabilities": lists,
        }
    )
    first = results_dir / "predictions.parquet"
    results_dir.mkdir(parents=True)
    pq.write_table(table, first, compression="zstd")
    for run, seed in RUNS:
        (results_dir / run / str(seed)).mkdir(parents=True)
        shutil.copy(first, results_dir / run / str(seed) / "predictions.parquet")
