"""
Stage `measure`: one decode per image, its figures and the normalised image.

Reads images.parquet and the segments of `download`; writes measures.parquet and images-NNNNN.tar.
The images are measured in partitions, each a pure function of its `Partition`, so the bytes do
not depend on the number of workers. A finished partition lies in `work/measure`, named by the hash
of everything it depends on, until the whole stage is done: a stage killed anywhere goes on there.
"""

import hashlib
import json
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import __version__ as pillow_version
from PIL import features
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import Progress

from curation import image as pictures
from curation.errors import TamperedData, UnreadableImage, WorkerLost
from personae import tables
from personae.errors import MissingInput

log = logging.getLogger(__name__)

SCHEMA = pa.schema(
    {
        "post_id": pa.int64(),
        "error": pa.string(),
        "detail": pa.string(),
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
_BLOCK = 512
_REPORT_SECONDS = 5.0


class Params(BaseModel):
    """Section `measure`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: int = Field(
        48, ge=8, le=2048, description="side of the normalised square, pixels; 48 trains in minutes"
    )
    format: pictures.Format = Field(
        "png", description="png and webp lose nothing; png encodes fastest at small sizes"
    )
    quality: int = Field(
        95, ge=1, le=100, description="JPEG quality, for `format: jpg` alone; 95 hides its blocks"
    )
    background: pictures.Background = Field(
        "border", description="colour of the margin: the image's mean border colour, or white"
    )
    max_pixels: int = Field(
        40_000_000,
        ge=1,
        le=pictures.MAX_PIXELS,
        description="largest image to decode, pixels; 40 million take about 0.5 GB of memory",
    )
    pictures_per_tar: int = Field(
        1000, ge=1, description="images in a partition and a tar: what a kill can cost at most"
    )
    workers: int | None = Field(
        None, ge=1, description="processes; none is one per core. The output does not depend on it"
    )


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the bytes of one post lie, and what the board said of them."""

    post_id: int
    segment: str
    offset: int
    """Of the first byte of the image in the segment."""
    file_bytes: int
    sha256: str
    width: int | None
    """Pixels, as listed; None or 0 when the board did not say."""
    height: int | None


@dataclass(frozen=True, slots=True)
class Partition:
    """Everything that decides the bytes of one tar and its rows, and where they go."""

    number: int
    rows: tuple[Stored, ...]
    params: Params
    segments_dir: Path
    work_dir: Path
    versions: tuple[tuple[str, str], ...]

    @property
    def tar_name(self) -> str:
        """Name of the tar when the stage is done."""
        return f"images-{self.number:05d}.tar"

    @property
    def stem(self) -> Path:
        """Path of the unfinished work without suffix: the hash of all that decides its bytes."""
        inputs = [self.number, self.params.model_dump(exclude={"workers"}), self.versions]
        described = json.dumps([*inputs, [asdict(row) for row in self.rows]], sort_keys=True)
        return self.work_dir / hashlib.sha256(described.encode()).hexdigest()[:32]


def run(params: Params, *, data_dir: Path, work_dir: Path) -> None:
    """
    Measures every stored image.

    Raises:
        MissingInput: A table or a segment of `download` is absent.
        TamperedData: The bytes at an offset do not have the recorded sha256.
        WorkerLost: A worker process was killed; what is finished stays in `work_dir`.
    """
    found, code = _versions(), _code()
    source = data_dir / "download"
    table = tables.read(source / "images.parquet", _STORED, stage="download").sort_by("post_id")
    stored = [Stored(**row) for row in table.to_pylist()]
    size, work = params.pictures_per_tar, work_dir / "measure"
    partitions = [
        Partition(
            number=start // size,
            rows=tuple(stored[start : start + size]),
            params=params,
            segments_dir=source / "segments",
            work_dir=work,
            versions=(*found.items(), ("code", code)),
        )
        for start in range(0, len(stored), size)
    ]
    work.mkdir(parents=True, exist_ok=True)
    waiting = [each for each in partitions if not each.stem.with_suffix(".parquet").exists()]
    log.info(
        "measure: %d images in %d partitions, %d of them done before",
        len(stored),
        len(partitions),
        len(partitions) - len(waiting),
    )
    _measure_all(waiting, params.workers or len(os.sched_getaffinity(0)))
    table = _publish(partitions, params, found, data_dir / "measure")
    shutil.rmtree(work)
    counts = Counter(error or "decoded" for error in table["error"].to_pylist())
    log.info(
        "measure: %d posts: %s",
        len(stored),
        ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items())),
    )


def measure_partition(partition: Partition) -> int:
    """
    Measures the images of one partition; returns their number.

    The tar is in place before the table, and the table is what says that the partition is done.
    """
    rows = []
    part = partition.stem.with_suffix(f".{os.getpid()}.part")
    with ExitStack() as stack:
        tar = stack.enter_context(part.open("wb"))
        open_segments: dict[str, int] = {}
        for stored in partition.rows:
            if stored.segment not in open_segments:
                descriptor = _opened(partition.segments_dir / stored.segment)
                stack.callback(os.close, descriptor)
                open_segments[stored.segment] = descriptor
            row, encoded = measure_one(
                _bytes(open_segments[stored.segment], stored), stored, partition.params
            )
            if encoded:
                name = f"{stored.post_id}.{partition.params.format}"
                tar.write(_header(name, len(encoded)))
                row |= {"image_tar": partition.tar_name, "offset": tar.tell()}
                tar.write(encoded + bytes(-len(encoded) % _BLOCK))
            rows.append(row)
        tar.write(bytes(2 * _BLOCK + -(tar.tell() + 2 * _BLOCK) % tarfile.RECORDSIZE))
        tar.flush()
        os.fsync(tar.fileno())
    part.replace(partition.stem.with_suffix(".tar"))
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    tables.write(partition.stem.with_suffix(".parquet"), table)
    return len(rows)


def measure_one(data: bytes, stored: Stored, params: Params) -> tuple[dict[str, Any], bytes]:
    """Returns the row of one image and its normalised encoding, empty when it gives none."""
    row: dict[str, Any] = {"post_id": stored.post_id, "sha256": stored.sha256}
    try:
        picture = pictures.decode(data, max_pixels=params.max_pixels, side=params.side)
        row |= {
            "file_format": picture.file_format,
            "mode": picture.mode,
            "width": picture.width,
            "height": picture.height,
        }
        _check_size(picture, stored)
    except UnreadableImage as error:
        return row | {"error": error.reason, "detail": error.detail[:200]}, b""
    square = pictures.normalise(picture.image, side=params.side, background=params.background)
    encoded = pictures.encode(square, params.format, quality=params.quality)
    row |= asdict(pictures.measure(picture.image))
    row |= {"image_bytes": len(encoded), "image_sha256": hashlib.sha256(encoded).hexdigest()}
    return row, encoded


def _check_size(picture: pictures.Picture, stored: Stored) -> None:
    """A board's thumbnail is what it says it is within a pixel, upright or not: booru-api 4.5."""
    if not stored.width or not stored.height:
        return
    listed = sorted((stored.width, stored.height))
    seen = sorted((picture.width, picture.height))
    if max(abs(listed[0] - seen[0]), abs(listed[1] - seen[1])) > 1:
        raise UnreadableImage(
            "wrong_size",
            f"{picture.width} × {picture.height}, listed as {stored.width} × {stored.height}",
        )


def _measure_all(waiting: Sequence[Partition], workers: int) -> None:
    """Runs the partitions and shows how far they are."""
    total = sum(len(partition.rows) for partition in waiting)
    console = Console(stderr=True)
    done, told, started = 0, time.monotonic(), time.monotonic()
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("measure", total=total)
        for pictures_done in _results(waiting, min(workers, len(waiting))):
            done += pictures_done
            progress.advance(bar, pictures_done)
            if not console.is_terminal and time.monotonic() - told > _REPORT_SECONDS:
                told = time.monotonic()
                log.info("measure: %d of %d, %.0f/s", done, total, done / (told - started))


def _results(waiting: Sequence[Partition], workers: int) -> Iterator[int]:
    if workers <= 1:
        yield from map(measure_partition, waiting)
        return
    context = multiprocessing.get_context("spawn")  # no lock or thread of ours is copied half-held
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent)
    try:
        yield from pool.map(measure_partition, waiting)
    except BrokenProcessPool as error:
        raise WorkerLost(
            "A worker process of stage 'measure' ended before its work did: most often the system "
            "ran out of memory. Run the stage again, it goes on where it stopped; fewer `workers` "
            "or a smaller `max_pixels` need less."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """A worker leaves interruption to its parent, and ends when that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _publish(
    partitions: Sequence[Partition], params: Params, versions: dict[str, str], out_dir: Path
) -> pa.Table:
    """Copies the tars into place, then writes the table: where it stands, all is there."""
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "measures.parquet").unlink(missing_ok=True)
    names = {partition.tar_name for partition in partitions}
    for path in [*out_dir.glob("images-*.tar"), *out_dir.glob("*.part")]:
        if path.name not in names:
            path.unlink()
    for partition in partitions:
        part = out_dir / f"{partition.tar_name}.part"
        shutil.copyfile(partition.stem.with_suffix(".tar"), part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(out_dir / partition.tar_name)
    columns = list(SCHEMA.names)
    pieces = [
        tables.read(partition.stem.with_suffix(".parquet"), columns, stage="measure")
        for partition in partitions
    ]
    table = pa.concat_tables(pieces).combine_chunks() if pieces else SCHEMA.empty_table()
    metadata = {
        "personae.params": params.model_dump_json(exclude={"workers"}),
        "personae.versions": json.dumps(versions, sort_keys=True),
    }
    tables.write(out_dir / "measures.parquet", table.replace_schema_metadata(metadata))
    return table


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise MissingInput(
            f"{path} cannot be opened: {error.strerror}. Stage 'download' writes it: run it again."
        ) from error


def _bytes(descriptor: int, stored: Stored) -> bytes:
    data = os.pread(descriptor, stored.file_bytes, stored.offset)
    if len(data) != stored.file_bytes or hashlib.sha256(data).hexdigest() != stored.sha256:
        raise TamperedData(
            f"The {stored.file_bytes} bytes of post {stored.post_id} at byte {stored.offset} of "
            f"{stored.segment} do not have the sha256 that images.parquet records: the segment was "
            "changed or cut. Restore it, or remove data/download and fetch again."
        )
    return data


def _header(name: str, size: int) -> bytes:
    """A USTAR header with time, owner and group zeroed and mode 0644."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def _versions() -> dict[str, str]:
    """Versions of whatever decides a byte of the output."""
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


def _code() -> str:
    """A digest of the program itself, so that unfinished work of another version is not taken up."""
    sources = (Path(__file__), Path(str(pictures.__file__)))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
