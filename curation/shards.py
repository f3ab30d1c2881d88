"""
Stage `shards`: packs the normalised images of `measure` into WebDataset tars.

Equal inputs and parameters give equal bytes: USTAR headers with zeroed metadata, a fixed order, no
compression. Each shard is a pure function of its `ShardSpec`. manifest.json is written last, so its
presence says that the set is whole; `verify` checks everything that it promises.
"""

import contextlib
import hashlib
import json
import logging
import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from curation.errors import TamperedData
from personae import files, tables
from personae.errors import MissingInput

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
SCHEMA = pa.schema(
    {
        "post_id": pa.int64(),
        "split": pa.string(),
        "label": pa.string(),
        "leaf": pa.int32(),
        "white_background": pa.bool_(),
        "shard": pa.string(),
        "offset": pa.int64(),
        "sample_bytes": pa.int64(),
        "image_offset": pa.int64(),
        "image_bytes": pa.int64(),
    }
)
_BLOCK = 512


class Params(BaseModel):
    """Section `shards`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples_per_shard: int = Field(
        1000,
        ge=1,
        description="samples in a shard, the last of a split may have fewer; 1000 images of a "
        "few kilobytes make a file that copies fast and still spreads over workers",
    )
    seed: int = Field(0, ge=0, description="another seed mixes the samples of a split otherwise")


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its label, and where its bytes lie."""

    post_id: int
    label: str
    leaf: int
    split: str
    white_background: bool
    group_id: int
    image_tar: str
    offset: int
    """Of the first byte of the image in `image_tar`."""
    image_bytes: int
    image_sha256: str

    def described(self) -> bytes:
        """The JSON member: what a reader of the shard alone needs to know."""
        names = ("post_id", "label", "leaf", "split", "white_background", "group_id")
        facts = {name: getattr(self, name) for name in names}
        return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class ShardSpec:
    """Everything that decides the bytes of one shard."""

    shard: str
    extension: str
    samples: tuple[Sample, ...]


def plan(samples: Sequence[Sample], params: Params, *, extension: str) -> list[ShardSpec]:
    """
    Deals the samples to shards: each split in the order of sha256 of `seed:post_id`.

    The order mixes the labels and does not depend on the order of `samples`.
    """

    def place(sample: Sample) -> tuple[bytes, int]:
        digest = hashlib.sha256(f"{params.seed}:{sample.post_id}".encode()).digest()
        return digest, sample.post_id

    specs = []
    for split in SPLITS:
        ordered = sorted((sample for sample in samples if sample.split == split), key=place)
        step = params.samples_per_shard
        for number, start in enumerate(range(0, len(ordered), step)):
            name = f"{split}-{number:06d}.tar"
            specs.append(ShardSpec(name, extension, tuple(ordered[start : start + step])))
    return sorted(specs, key=lambda spec: spec.shard)


def pack(spec: ShardSpec, *, measure_dir: Path, out_dir: Path) -> list[dict[str, Any]]:
    """
    Writes one shard, whole or not at all; returns the rows of samples.parquet.

    Raises:
        TamperedData: An image is not the one that `measure` recorded.
    """
    rows = []
    part = out_dir / f"{spec.shard}.part"
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(part.open("wb"))
        sources: dict[str, BinaryIO] = {}
        for sample in spec.samples:
            if sample.image_tar not in sources:
                sources[sample.image_tar] = stack.enter_context(
                    _opened(measure_dir / sample.image_tar)
                )
            picture = _picture(sources[sample.image_tar], sample)
            start = file.tell()
            file.write(_member(f"{sample.post_id}.{spec.extension}", picture))
            file.write(_member(f"{sample.post_id}.cls", str(sample.leaf).encode()))
            file.write(_member(f"{sample.post_id}.json", sample.described()))
            rows.append(
                {name: getattr(sample, name, None) for name in SCHEMA.names}
                | {
                    "shard": spec.shard,
                    "offset": start,
                    "sample_bytes": file.tell() - start,
                    "image_offset": start + _BLOCK,
                }
            )
        file.write(_end(file.tell()))
        file.flush()
        os.fsync(file.fileno())
    part.replace(out_dir / spec.shard)
    return rows


def run(params: Params, *, data_dir: Path, work_dir: Path) -> None:  # noqa: ARG001  # every stage has this signature
    """
    Writes the shards, `samples.parquet`, `classes.json` and, last, `manifest.json`.

    Raises:
        MissingInput: A table of an earlier stage is absent, or lacks an image of the split.
        TamperedData: An image is not the one that `measure` recorded.
    """
    out_dir = data_dir / "shards"
    out_dir.mkdir(parents=True, exist_ok=True)
    _clear(out_dir)
    made = _metadata(data_dir / "measure" / "measures.parquet")
    settings = made["personae.params"]
    samples = _samples(data_dir)
    rows: list[dict[str, Any]] = []
    for spec in plan(samples, params, extension=settings["format"]):
        rows += pack(spec, measure_dir=data_dir / "measure", out_dir=out_dir)
    rows.sort(key=lambda row: int(row["post_id"]))
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    metadata = {"personae.params": params.model_dump_json()}
    tables.write(out_dir / "samples.parquet", table.replace_schema_metadata(metadata))
    classes = _classes(data_dir)
    files.write_json(out_dir / "classes.json", classes)
    shards = [
        _shard(out_dir / name, sum(row["shard"] == name for row in rows))
        for name in sorted({row["shard"] for row in rows})
    ]
    counts = Counter(row["split"] for row in rows)
    manifest = {
        "shards": shards,
        "root_sha256": root_sha256(shards),
        "files": {name: _sha256(out_dir / name) for name in ("classes.json", "samples.parquet")},
        "samples": {split: counts[split] for split in SPLITS},
        "labels": len(classes["labels"]),
        "image": {"side": settings["side"], "format": settings["format"]},
        "versions": made["personae.versions"],
    }
    files.write_json(out_dir / "manifest.json", manifest)
    log.info(
        "shards: %d samples (%s) in %d shards, root %s",
        len(rows),
        ", ".join(f"{split} {counts[split]}" for split in SPLITS),
        len(shards),
        manifest["root_sha256"],
    )


def root_sha256(shards: Sequence[Mapping[str, Any]]) -> str:
    """The sha256 of the lines `<sha256>  <shard>` in the order of names, as `sha256sum` prints."""
    ordered = sorted(shards, key=lambda entry: str(entry["shard"]))
    lines = "".join(f"{entry['sha256']}  {entry['shard']}\n" for entry in ordered)
    return hashlib.sha256(lines.encode()).hexdigest()


def picture(data_dir: Path, post_id: int) -> tuple[str, bytes]:
    """
    One sample's member name and image, read by its offset.

    Raises:
        MissingInput: No sample has this id.
    """
    out_dir = data_dir / "shards"
    table = tables.read(out_dir / "samples.parquet", SCHEMA.names, stage="shards")
    rows = table.filter(pc.field("post_id") == post_id).to_pylist()
    if not rows:
        raise MissingInput(
            f"No sample has the key {post_id}. What became of that post is told by the view "
            f"`journey`, WHERE post_id = {post_id}: see python -m curation query --help."
        )
    with _opened(out_dir / rows[0]["shard"]) as file:
        return _read_member(file, rows[0]["offset"])


def _samples(data_dir: Path) -> list[Sample]:
    sides = ["post_id", "label", "leaf", "group_id", "split", "white_background"]
    stored = ["post_id", "image_tar", "offset", "image_bytes", "image_sha256"]
    split = tables.read(data_dir / "split" / "split.parquet", sides, stage="split")
    measured = tables.read(data_dir / "measure" / "measures.parquet", stored, stage="measure")
    samples = []
    for row in split.join(measured, "post_id", join_type="left outer").to_pylist():
        if row["image_tar"] is None:
            raise MissingInput(
                f"Post {row['post_id']} is in the split but has no normalised image: the tables "
                "come from different runs. Run the stages from 'measure' on again."
            )
        samples.append(Sample(**row))
    return samples


def _classes(data_dir: Path) -> dict[str, Any]:
    """Labels in leaf order, and the copyright and base of each."""
    path = data_dir / "persona" / "classes.parquet"
    table = tables.read(path, ["label", "leaf", "base", "copyright"], stage="persona")
    rows = table.sort_by("leaf").to_pylist()
    return {
        "labels": [row["label"] for row in rows],
        "base": {row["label"]: row["base"] for row in rows},
        "copyright": {row["label"]: row["copyright"] for row in rows},
    }


def _metadata(path: Path) -> dict[str, Any]:
    """Parameters and library versions that `measure` recorded with its table."""
    tables.read(path, ["post_id"], stage="measure")
    found = pq.read_schema(path).metadata or {}
    names = ("personae.params", "personae.versions")
    absent = [name for name in names if name.encode() not in found]
    if absent:
        raise MissingInput(
            f"{path} does not say how its images were made (no metadata {', '.join(absent)}). "
            "Run stage 'measure' again."
        )
    return {name: json.loads(found[name.encode()]) for name in names}


def _clear(out_dir: Path) -> None:
    """Removes an earlier build, its manifest first: a set without one is known to be unfinished."""
    (out_dir / "manifest.json").unlink(missing_ok=True)
    for pattern in ("*-??????.tar", "*.part", "samples.parquet", "classes.json"):
        for path in out_dir.glob(pattern):
            path.unlink()


def _shard(path: Path, samples: int) -> dict[str, Any]:
    return {
        "shard": path.name,
        "split": path.name.partition("-")[0],
        "samples": samples,
        "bytes": path.stat().st_size,
        "sha256": _sha256(path),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _member(name: str, data: bytes) -> bytes:
    """A tar member: header with time, owner and group zeroed and mode 0644, data, padding."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    header = info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    return header + data + bytes(-len(data) % _BLOCK)


def _end(size: int) -> bytes:
    """Two empty blocks, and as many more as fill the record of 20 that tar programs expect."""
    return bytes(2 * _BLOCK + -(size + 2 * _BLOCK) % tarfile.RECORDSIZE)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise MissingInput(
            f"{path} cannot be opened: {error.strerror}. Run the stage that writes it again."
        ) from error
    with file:
        yield file


def _picture(file: BinaryIO, sample: Sample) -> bytes:
    file.seek(sample.offset)
    data = file.read(sample.image_bytes)
    if hashlib.sha256(data).hexdigest() != sample.image_sha256:
        raise TamperedData(
            f"The image of post {sample.post_id} at byte {sample.offset} of {sample.image_tar} "
            "does not have the sha256 that measures.parquet records: one of the two was changed. "
            "Run stage 'measure' again."
        )
    return data


def _read_member(file: BinaryIO, offset: int) -> tuple[str, bytes]:
    """Name and data of the member whose header stands at `offset`."""
    file.seek(offset)
    try:
        info = tarfile.TarInfo.frombuf(file.read(_BLOCK), "ascii", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise TamperedData(f"no tar header at byte {offset} ({error})") from error
    return info.name, file.read(info.size)
