"""
Stage `measure`: decodes each image once, measures it, and stores the normalised image.

Reads images.parquet and the segments of `download`; writes measures.parquet and images-NNNNN.tar.
The images are measured in partitions of a tar, each a pure function of its `Partition`, so the bytes
do not depend on the number of workers. A finished partition lies in `work/measure`, named by the hash
of everything that it depends on, until the tars are published: a stage killed at any moment continues
from there. What the run before has measured of the same stored bytes is copied, so that a grown
listing costs only its new images.
"""

import functools
import hashlib
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import __version__ as pillow_version
from PIL import features

from curation import image as images
from curation import measured, tars, workers
from curation.params.measure import Params
from curation.spans import SpanReader
from personae import container, files, squares, tables
from personae.engine import Engine
from personae.errors import UnreadableImage
from personae.progress import Progress

log = logging.getLogger(__name__)

SCHEMA = pa.schema(
    {
        "post_id": pa.int64(),
        "error": pa.string(),
        "detail": pa.string(),
        "measured": pa.float64(),
        "threshold": pa.float64(),
        "file_format": pa.string(),
        "mode": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "sha256": pa.string(),
        "phash": pa.binary(32),
        "phash_quality": pa.int32(),
        "border_white": pa.float64(),
        "saturation": pa.float64(),
        "sharpness": pa.float64(),
        "contrast": pa.float64(),
        "image_tar": pa.string(),
        "offset": pa.int64(),
        "image_bytes": pa.int64(),
        "image_sha256": pa.string(),
    }
)
_STORED = ("post_id", "segment", "offset", "file_bytes", "sha256", "width", "height")
_ROUNDED = 1  # pixels: boards round the sides of a thumbnail
_TAR_BYTES = b"personae.tar_bytes"
_MOST_IMAGES = 200  # of a partition: few enough that the workers end at about the same time
_BLOCK = 1 << 20  # bytes that are copied or compared at once


class SegmentImage(NamedTuple):
    """The bytes of one post in a segment, and the size that the board listed."""

    post_id: int
    segment: str
    offset: int
    """Of the first byte of the image in the segment."""
    file_bytes: int
    sha256: str
    width: int | None
    """Pixels, as listed; None or 0 when the board lists no size."""
    height: int | None


@dataclass(frozen=True, slots=True)
class Partition:
    """Consecutive images of one tar."""

    number: int
    """Of the tar."""
    rows: tuple[SegmentImage, ...]
    params: Params
    segments_dir: Path
    stem: Path
    """Path of the unfinished work without suffix: the hash of all that decides its bytes."""
    measure_dir: Path
    """Folder of the earlier run."""
    earlier: pa.Table | None = field(default=None, compare=False, repr=False)
    """Rows of the earlier run, which change no byte; None if there are none to use."""

    @property
    def tar_name(self) -> str:
        """Name of the tar when the stage is done."""
        return f"images-{self.number:05d}.tar"

    @property
    def tar_path(self) -> Path:
        """Path of the members of the tar until they are published."""
        return self.stem.with_suffix(".tar")

    @property
    def table_path(self) -> Path:
        """Path of the rows until they are published."""
        return self.stem.with_suffix(".parquet")

    def is_done(self) -> bool:
        """Returns whether members and rows are both there, readable and complete."""
        try:
            table = pq.read_table(self.table_path)
            tar_bytes = int((table.schema.metadata or {})[_TAR_BYTES])
            return tar_bytes == self.tar_path.stat().st_size and len(table) == len(self.rows)
        except (OSError, KeyError, ValueError, pa.ArrowException):
            return False


def run(params: Params, *, data_dir: Path, work_dir: Path, engine: Engine = "local") -> None:
    """
    Measures every stored image.

    Raises:
        MissingInput: A table or a segment of `download` is absent.
        TamperedData: The bytes at an offset do not have the recorded sha256.
        WorkerLost: A worker process or a node was lost; finished partitions stay in `work_dir`.
        AlreadyRunning: Another process works in `work_dir/measure`.
    """
    work = work_dir / "measure"
    with files.locked(work):
        partitions = _partitions(params, data_dir / "download", work)
        waiting = [partition for partition in partitions if not partition.is_done()]
        total = sum(len(partition.rows) for partition in partitions)
        log.info(
            "measure: %d images in %d partitions, %d of them done by a run that was stopped; %d images "
            "were measured before",
            total,
            len(partitions),
            len(partitions) - len(waiting),
            sum(len(part.earlier) for part in partitions if part.earlier is not None),
        )
        _measure_all(waiting, params.workers, engine=engine, work=work)
        table = _publish(partitions, params, data_dir / "measure")
        measured.remember(data_dir, code=_code())
        # The folder itself stays: it carries the lock.
        for path in sorted(work.iterdir()):
            path.unlink()
    counts = Counter(error or "decoded" for error in table["error"].to_pylist())
    log.info(
        "measure: %d posts: %s",
        total,
        ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items())),
    )


def measure_partition(partition: Partition) -> int:
    """
    Measures the images of one partition; returns their number.

    Offsets are those within the partition. The rows are written after the members of the tar and
    record their size; `Partition.is_done` compares both.
    """
    rows = []
    segments = SpanReader(
        partition.segments_dir,
        stage="download",
        table="images.parquet",
        remedy="Restore the segment from a copy. Without a copy, move data/download away and run "
        "stage 'download' again.",
    )
    earlier = measured.EarlierImages(partition.earlier, partition.measure_dir)
    with files.whole_file(partition.tar_path) as tar, segments, earlier:
        for stored in partition.rows:
            workers.check_for_stop()
            known = earlier.get(stored.post_id, stored.sha256)
            if known and _has_listed_size(known.row, stored):
                row, encoded = known
            else:
                data = segments.read(
                    stored.post_id,
                    stored.segment,
                    offset=stored.offset,
                    size=stored.file_bytes,
                    sha256=stored.sha256,
                )
                row, encoded = measure_one(data, stored, partition.params)
            if encoded:
                row |= {"image_tar": partition.tar_name, "offset": tar.tell() + tars.BLOCK}
                tar.write(tars.member(f"{stored.post_id}.{partition.params.format}", encoded))
            rows.append(row)
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    metadata = {_TAR_BYTES: str(partition.tar_path.stat().st_size)}
    tables.write(partition.table_path, table.replace_schema_metadata(metadata))
    return len(rows)


def measure_one(data: bytes, stored: SegmentImage, params: Params) -> tuple[dict[str, Any], bytes]:
    """Returns the row of one image and the encoded normalised image, empty if it is unreadable."""
    row: dict[str, Any] = {"post_id": stored.post_id, "sha256": stored.sha256}
    try:
        decoded = squares.decode(data, max_pixels=params.max_pixels, side=params.side)
        row |= {
            "file_format": decoded.file_format,
            "mode": decoded.mode,
            "width": decoded.width,
            "height": decoded.height,
        }
        _check_size(decoded, stored)
    except UnreadableImage as error:
        return row | {
            "error": error.reason,
            "detail": error.detail[:200],
            "measured": error.measured,
            "threshold": error.threshold,
        }, b""
    edge = squares.border(decoded.image)
    square = squares.normalise(
        decoded.image, side=params.side, background=params.background, edge=edge
    )
    encoded = images.encode(square, params.format, quality=params.quality)
    row |= images.measure(decoded.image, edge=edge)._asdict()
    row |= {"image_bytes": len(encoded), "image_sha256": hashlib.sha256(encoded).hexdigest()}
    return row, encoded


def _partitions(params: Params, source: Path, work: Path) -> list[Partition]:
    data_dir = source.parent
    table = tables.read(source / "images.parquet", _STORED, stage="download").sort_by("post_id")
    stored = [SegmentImage(**row) for row in table.to_pylist()]
    versions = _versions()
    earlier = measured.earlier(data_dir, params, versions, code=_code(), schema=SCHEMA)
    partitions = []
    for first in range(0, len(stored), params.pictures_per_tar):
        number, end = first // params.pictures_per_tar, first + params.pictures_per_tar
        for start in range(first, min(end, len(stored)), _MOST_IMAGES):
            rows = tuple(stored[start : min(end, start + _MOST_IMAGES)])
            partition = Partition(
                number=number,
                rows=rows,
                params=params,
                segments_dir=source / "segments",
                stem=work / _digest(number, rows, params, versions),
                measure_dir=data_dir / "measure",
                earlier=measured.of_posts(earlier, [row.post_id for row in rows]),
            )
            partitions.append(partition)
    return partitions


def _digest(
    number: int, rows: Sequence[SegmentImage], params: Params, versions: Mapping[str, str]
) -> str:
    """Returns the hash of everything that decides the bytes of a partition."""
    settings = params.model_dump(exclude={"workers"})
    described = json.dumps([number, settings, versions, _code(), rows], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:32]


def _check_size(decoded: squares.DecodedImage, stored: SegmentImage) -> None:
    """Refuses an image whose size is not the listed size."""
    difference = _difference(decoded.width, decoded.height, stored)
    if difference > _ROUNDED:
        raise UnreadableImage(
            "wrong_size",
            f"{decoded.width} × {decoded.height}, listed as {stored.width} × {stored.height}",
            measured=difference,
            threshold=_ROUNDED,
        )


def _has_listed_size(row: dict[str, Any], stored: SegmentImage) -> bool:
    """Returns whether an image that was measured before has the size that is listed now."""
    return _difference(row["width"], row["height"], stored) <= _ROUNDED


def _difference(width: int, height: int, stored: SegmentImage) -> int:
    """
    Returns the largest difference of a side to the listed side, pixels; 0 where no size is listed.

    Boards round the sides of a thumbnail, and list some images before they are turned upright: one
    pixel more or less and exchanged sides are accepted.
    """
    if not stored.width or not stored.height:
        return 0
    listed = sorted((stored.width, stored.height))
    actual = sorted((width, height))
    return max(abs(listed[0] - actual[0]), abs(listed[1] - actual[1]))


def _measure_all(
    waiting: Sequence[Partition], most: int | None, *, engine: Engine, work: Path
) -> None:
    """Measures the partitions, `most` at once, and shows the progress."""
    counts = workers.mapped(
        measure_partition, waiting, engine=engine, workers=most, stage="measure", shared_dir=work
    )
    done = 0
    with Progress("measure, partitions", len(waiting)) as progress:
        for count in counts:
            done += count
            progress.advance(text=f"{done} images")


def _publish(partitions: Sequence[Partition], params: Params, out_dir: Path) -> pa.Table:
    """
    Joins the partitions to tars in `out_dir`, then writes the table: if it is there, all is there.

    A table of an earlier run is removed only when a tar that it describes is about to change.
    """
    files.make_folder(out_dir)
    table_path = out_dir / "measures.parquet"
    by_tar = {name: list(parts) for name, parts in groupby(partitions, attrgetter("tar_name"))}
    surplus = [path for path in sorted(out_dir.glob("images-*.tar")) if path.name not in by_tar]
    changed = [name for name, parts in by_tar.items() if not _is_equal(parts, out_dir / name)]
    if surplus or changed:
        table_path.unlink(missing_ok=True)
    for path in [*surplus, *sorted(out_dir.glob("*.part"))]:
        path.unlink()
    for name in changed:
        with files.whole_file(out_dir / name) as file:
            file.writelines(_content(by_tar[name]))
    pieces = [_rows(parts) for parts in by_tar.values()]
    table = pa.concat_tables([SCHEMA.empty_table(), *pieces])
    metadata = {
        "personae.params": params.model_dump_json(exclude={"workers"}),
        "personae.versions": json.dumps(_versions(), sort_keys=True),
    }
    table = table.combine_chunks().replace_schema_metadata(metadata)
    tables.write(table_path, table)
    return table


def _content(partitions: Sequence[Partition]) -> Iterator[bytes]:
    """Yields the bytes of one tar: the members of its partitions, and its end."""
    size = 0
    for partition in partitions:
        with partition.tar_path.open("rb") as members:
            while block := members.read(_BLOCK):
                size += len(block)
                yield block
    yield tars.end(size)


def _is_equal(partitions: Sequence[Partition], path: Path) -> bool:
    """Returns whether `path` is a file of exactly the bytes of one tar."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        blocks = _content(partitions)
        return all(file.read(len(block)) == block for block in blocks) and not file.read(1)


def _rows(partitions: Sequence[Partition]) -> pa.Table:
    """Returns the rows of one tar."""
    tables_of, start = [], 0
    for partition in partitions:
        rows = tables.read(partition.table_path, list(SCHEMA.names), stage="measure")
        offsets = pc.add(rows["offset"], start)
        rows = rows.set_column(SCHEMA.get_field_index("offset"), SCHEMA.field("offset"), offsets)
        tables_of.append(rows.replace_schema_metadata(None))
        start += partition.tar_path.stat().st_size
    return pa.concat_tables(tables_of)


def _versions() -> dict[str, str]:
    """Returns the versions of the libraries that decide a byte of the output."""
    codecs = {
        "libjpeg": features.version("libjpeg_turbo") or features.version("jpg"),
        "libwebp": features.version("webp"),
        "zlib": features.version("zlib_ng") or features.version("zlib"),
        "littlecms": features.version("littlecms2"),
    }
    return {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "pillow": pillow_version,
        "numpy": np.__version__,
    } | {name: version or "absent" for name, version in codecs.items()}


@functools.cache
def _code() -> str:
    """Returns a digest of the program, so that unfinished work of another version is not used."""
    modules = (container, images, squares, tars)
    sources = (Path(__file__), *(Path(str(module.__file__)) for module in modules))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
