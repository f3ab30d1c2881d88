"""
The layout that `datasets.load_dataset` reads: Parquet files with the images inside.

The files are data/train-00000.parquet and so on, validation for val. The metadata of their schema
names the features, so that `image` is decoded and `label` has its names
(https://huggingface.co/docs/datasets/about_dataset_features).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from curation.export.build import ExportedBuild, ExportedSample, plain_labels
from curation.workers import check_for_stop

SPLIT_NAMES: Final = {"train": "train", "val": "validation", "test": "test"}
"""The names of the splits in the files: `validation` is the one that is recognised."""
_FIELDS: Final = {
    "label": pa.int64(),
    "post_id": pa.int64(),
    "white_background": pa.bool_(),
    "rating": pa.string(),
    "tags": pa.string(),
    "copyrights": pa.string(),
    "artist": pa.string(),
    "source_url": pa.string(),
    "licence": pa.string(),
    "original_url": pa.string(),
    "original_path": pa.string(),
}
FIELDS: Final = tuple(_FIELDS)
"""The columns beside `image`."""
_FILE_BYTES = 500_000_000  # as the viewers of the format recommend
_GROUP_ROWS = 1000


@dataclass(frozen=True, slots=True)
class ParquetFile:
    """One file to write."""

    path: Path
    build: ExportedBuild
    """The samples of the file."""
    split: str


def plan(build: ExportedBuild, folder: Path) -> list[ParquetFile]:
    """Makes `folder`/data, and returns its files in their order."""
    (folder / "data").mkdir()
    return [
        ParquetFile(folder / "data" / f"{SPLIT_NAMES[split]}-{number:05d}.parquet", piece, split)
        for split in build.splits
        for number, piece in enumerate(
            build.pieces(split, bytes_of_piece=_FILE_BYTES, samples_of_group=_GROUP_ROWS)
        )
    ]


def write(file: ParquetFile) -> int:
    """Writes one file, and returns its number of samples."""
    schema = _schema(file.build.labels)
    leaves = {label: leaf for leaf, label in enumerate(file.build.labels)}
    samples = file.build.samples(file.split)
    with pq.ParquetWriter(file.path, schema, compression="zstd") as writer:
        while group := list(islice(samples, _GROUP_ROWS)):
            check_for_stop()
            rows = [_row(sample, file.build, leaves) for sample in group]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return int(file.build.chosen.num_rows)


def files(folder: Path, split: str) -> Iterator[Path]:
    """Yields the files of a split in their order."""
    yield from sorted((folder / "data").glob(f"{SPLIT_NAMES[split]}-*.parquet"))


def _row(sample: ExportedSample, build: ExportedBuild, leaves: dict[str, int]) -> dict[str, Any]:
    columns = sample.columns
    return columns | {
        "image": {
            "bytes": sample.image,
            "path": f"{sample.post_id}.{build.manifest.image.format}",
        },
        "label": leaves[columns["label"]],
        "tags": " ".join(columns["tags"]),
        "copyrights": " ".join(columns["copyrights"]),
    }


def _schema(labels: tuple[str, ...]) -> pa.Schema:
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    for name, kind in _FIELDS.items():
        features[name] = {"dtype": str(kind), "_type": "Value"}
    features["label"] = {"names": list(plain_labels(labels).values()), "_type": "ClassLabel"}
    info = json.dumps({"info": {"features": features}}, ensure_ascii=False)
    return pa.schema({"image": image, **_FIELDS}, metadata={"huggingface": info})
