"""
Stage `shards`: packs the normalised images of `measure` into WebDataset tars.

Equal inputs and parameters give equal bytes: USTAR headers with zeroed metadata, a fixed order, no
compression. Each shard is a pure function of its `ShardSpec`. A shard that is there with these bytes
is kept as it is, so that a small change of the data set rewrites few files. manifest.json is written
last, so its presence says that the data set is complete; `verify` checks everything that it promises.
"""

import hashlib
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from curation import documents, tars, workers
from curation.documents import (
    ClassesDocument,
    ManifestDocument,
    NormalisedFormat,
    ShardEntry,
)
from curation.params.shards import Params
from curation.spans import SpanReader
from personae import files, tables
from personae.engine import Engine
from personae.errors import MissingInput
from personae.selection import SCHEMA, SPLITS

log = logging.getLogger(__name__)

# Samples: 20,000 take one process as long as two, which must start first, here or on a cluster.
_LEAST_PARALLEL = 100_000


@dataclass(frozen=True, slots=True)
class ShardSample:
    """One image with its label, and the position of its bytes in a tar of `measure`."""

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
    provenance: Mapping[str, str] | None = None
    """Original, source, artist, rating and licence, where parameter `provenance` is on."""

    def described(self) -> bytes:
        """Returns the JSON member: the facts that a reader of the shard alone needs."""
        names = ("post_id", "label", "leaf", "split", "white_background", "group_id")
        facts = {name: getattr(self, name) for name in names} | dict(self.provenance or {})
        return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class ShardSpec:
    """Everything that decides the bytes of one shard."""

    shard: str
    extension: str
    samples: tuple[ShardSample, ...]


def plan(samples: Sequence[ShardSample], params: Params, *, extension: str) -> list[ShardSpec]:
    """
    Distributes the samples to shards: each split in the order of sha256 of `seed:post_id`.

    The order mixes the labels and does not depend on the order of `samples`. With boundaries by hash,
    it is that of sha256 of `shards:seed:post_id`, whose first bits are the number of the shard: stage
    `split` draws by the other hash, so that a split has a narrow range of it.
    """
    specs = []
    for split in SPLITS:
        ordered = sorted(
            (
                (_digest(sample.post_id, params), sample)
                for sample in samples
                if sample.split == split
            ),
            key=lambda entry: (entry[0], entry[1].post_id),
        )
        bits = _bits(len(ordered), params.samples_per_shard)
        by_shard: dict[int, list[ShardSample]] = defaultdict(list)
        for rank, (digest, sample) in enumerate(ordered):
            is_by_hash = params.boundaries == "hash"
            number = _first(digest, bits) if is_by_hash else rank // params.samples_per_shard
            by_shard[number].append(sample)
        for number, members in by_shard.items():
            specs.append(ShardSpec(f"{split}-{number:06d}.tar", extension, tuple(members)))
    return sorted(specs, key=lambda spec: spec.shard)


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard to write, from a tar in `measure_dir` to `out_dir`."""

    spec: ShardSpec
    measure_dir: Path
    out_dir: Path


class PackedShard(NamedTuple):
    """One shard that is there, whole."""

    entry: ShardEntry
    rows: pa.Table
    """Its rows of samples.parquet, in the order of the shard."""
    is_written: bool
    """False if it was there before with the same bytes."""


def pack(task: ShardTask) -> PackedShard:
    """
    Writes one shard, whole or not at all, unless it is there with the same bytes.

    Raises:
        MissingInput: A tar of `measure` is absent.
        TamperedData: An image does not have the sha256 that `measure` recorded.
    """
    spec, path = task.spec, task.out_dir / task.spec.shard
    measured = SpanReader(
        task.measure_dir,
        stage="measure",
        table="measures.parquet",
        remedy="Run stage 'measure' again.",
    )
    rows: list[dict[str, Any]] = []
    with measured:
        is_kept = _is_equal(path, _pieces(spec, measured, rows))
        if not is_kept:
            rows.clear()
            with files.whole_file(path) as file:
                file.writelines(_pieces(spec, measured, rows))
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    return PackedShard(_entry(path, len(rows)), table, not is_kept)


def _pieces(spec: ShardSpec, measured: SpanReader, rows: list[dict[str, Any]]) -> Iterator[bytes]:
    """Yields the bytes of a shard sample by sample, and adds the row of each sample to `rows`."""
    start = 0
    for sample in spec.samples:
        workers.check_for_stop()
        image = measured.read(
            sample.post_id,
            sample.image_tar,
            offset=sample.offset,
            size=sample.image_bytes,
            sha256=sample.image_sha256,
        )
        piece = (
            tars.member(f"{sample.post_id}.{spec.extension}", image)
            + tars.member(f"{sample.post_id}.cls", str(sample.leaf).encode())
            + tars.member(f"{sample.post_id}.json", sample.described())
        )
        rows.append(
            {name: getattr(sample, name, None) for name in SCHEMA.names}
            | {
                "shard": spec.shard,
                "offset": start,
                "sample_bytes": len(piece),
                "image_offset": start + tars.BLOCK,
            }
        )
        start += len(piece)
        yield piece
    yield tars.end(start)


def _is_equal(path: Path, pieces: Iterable[bytes]) -> bool:
    """Returns whether `path` is a file of exactly these bytes; stops at the first difference."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return all(file.read(len(piece)) == piece for piece in pieces) and not file.read(1)


def _digest(post_id: int, params: Params) -> bytes:
    salt = "shards:" if params.boundaries == "hash" else ""
    return hashlib.sha256(f"{salt}{params.seed}:{post_id}".encode()).digest()


def _bits(samples: int, per_shard: int) -> int:
    """Returns the bits of the hash that number the shards: 2 to this power hold the samples."""
    return max(0, -(-samples // per_shard) - 1).bit_length()


def _first(digest: bytes, bits: int) -> int:
    """Returns the first `bits` bits of a digest as a number."""
    return int.from_bytes(digest) >> (8 * len(digest) - bits)


def run(
    params: Params,
    *,
    data_dir: Path,
    work_dir: Path,  # noqa: ARG001  # every stage has this signature
    engine: Engine = "local",
) -> None:
    """
    Writes the shards, `samples.parquet`, `classes.json` and, last, `manifest.json`.

    Raises:
        WorkerLost: A worker process or a node was lost; finished shards stay.
        MissingInput: A table of an earlier stage is absent, or lacks an image or post of the split.
        TamperedData: An image does not have the sha256 that `measure` recorded.
    """
    out_dir = data_dir / "shards"
    files.make_folder(out_dir)
    files.remove(out_dir / "manifest.json")  # the build is unfinished from here on
    recorded = _metadata(data_dir / "measure" / "measures.parquet")
    settings = recorded["personae.params"]
    samples = _samples(data_dir)
    if params.provenance:
        samples = _with_provenance(samples, data_dir)
    specs = plan(samples, params, extension=settings["format"])
    _clear(out_dir, keep={spec.shard for spec in specs})
    tasks = [ShardTask(spec, data_dir / "measure", out_dir) for spec in specs]
    is_small = params.workers is None and len(samples) < _LEAST_PARALLEL
    packed = list(
        workers.mapped(
            pack,
            tasks,
            engine="local" if is_small else engine,
            workers=1 if is_small else params.workers,
            stage="shards",
            shared_dir=data_dir,
        )
    )
    table = pa.concat_tables([SCHEMA.empty_table(), *(shard.rows for shard in packed)])
    table = table.sort_by("post_id").combine_chunks()
    # Left out where it is off, so that a data set keeps the bytes that older versions gave it.
    unset = {"workers"} | (set() if params.provenance else {"provenance"})
    unset |= {"boundaries"} if params.boundaries == "count" else set()
    metadata = {"personae.params": params.model_dump_json(exclude=unset)}
    tables.write(out_dir / "samples.parquet", table.replace_schema_metadata(metadata))
    classes = _classes(data_dir)
    classes.write(out_dir / "classes.json")
    shards = [shard.entry for shard in packed]
    counts = Counter(sample.split for sample in samples)
    manifest = ManifestDocument(
        shards=tuple(shards),
        root_sha256=documents.root_sha256(shards),
        files={name: _sha256(out_dir / name) for name in ("classes.json", "samples.parquet")},
        samples={split: counts[split] for split in SPLITS},
        labels=len(classes.labels),
        image=_format(settings),
        versions=recorded["personae.versions"],
    )
    manifest.write(out_dir / "manifest.json")
    log.info(
        "shards: %d samples (%s) in %d shards, %d of them written, root %s",
        len(samples),
        ", ".join(f"{split} {counts[split]}" for split in SPLITS),
        len(shards),
        sum(shard.is_written for shard in packed),
        manifest.root_sha256,
    )


def _format(settings: Mapping[str, Any]) -> NormalisedFormat:
    """Returns how stage `measure` made the images; the usual margin leaves no trace."""
    margin = {"background": "white"} if settings.get("background") == "white" else {}
    return NormalisedFormat(side=settings["side"], format=settings["format"], **margin)


def _samples(data_dir: Path) -> list[ShardSample]:
    split_columns = ["post_id", "label", "leaf", "group_id", "split", "white_background"]
    image_columns = ["post_id", "image_tar", "offset", "image_bytes", "image_sha256"]
    split = tables.read(data_dir / "split" / "split.parquet", split_columns, stage="split")
    measures_path = data_dir / "measure" / "measures.parquet"
    measured = tables.read(measures_path, image_columns, stage="measure")
    samples = []
    for row in split.join(measured, "post_id", join_type="left outer").to_pylist():
        if row["image_tar"] is None:
            raise MissingInput(
                f"Post {row['post_id']} is in the split but has no normalised image: the tables "
                "come from different runs. Run the stages from 'measure' on again."
            )
        if row["split"] not in SPLITS:
            raise MissingInput(
                f"Post {row['post_id']} has the split {row['split']!r}, not train, val or test. "
                "Run stage 'split' again."
            )
        samples.append(ShardSample(**row))
    return samples


def _with_provenance(samples: Sequence[ShardSample], data_dir: Path) -> list[ShardSample]:
    """
    Returns the samples with what the source lists of each.

    Raises:
        MissingInput, MissingColumn: The table of `listing` is absent, or lacks a column or a post.
    """
    columns = ("post_id", "rating", "source", "tags_artist", "licence", "variants")
    packed = pa.array([sample.post_id for sample in samples], pa.int64())
    listed: dict[int, dict[str, str]] = {}
    path = data_dir / "listing" / "posts.parquet"
    for batch in tables.batches(path, columns, stage="listing"):
        for row in batch.filter(pc.is_in(batch["post_id"], packed)).to_pylist():
            urls = [each["url"] for each in row["variants"] if each["type"] == "original"]
            listed[row["post_id"]] = {
                "original": urls[0] if urls else "",
                "source": row["source"] or "",
                "artist": " ".join(row["tags_artist"]),
                "rating": row["rating"],
                "licence": row["licence"] or "",
            }
    absent = [sample.post_id for sample in samples if sample.post_id not in listed]
    if absent:
        raise MissingInput(
            f"Post {absent[0]} is in the split but not in {path}: the tables come from different "
            "runs. Run the stages from 'listing' on again."
        )
    return [replace(sample, provenance=listed[sample.post_id]) for sample in samples]


def _classes(data_dir: Path) -> ClassesDocument:
    """Returns the labels in leaf order, with copyright and base of each."""
    path = data_dir / "persona" / "classes.parquet"
    table = tables.read(path, ["label", "leaf", "base", "copyright"], stage="persona")
    rows = table.sort_by("leaf").to_pylist()
    return ClassesDocument(
        labels=tuple(row["label"] for row in rows),
        base={row["label"]: row["base"] for row in rows},
        copyright={row["label"]: row["copyright"] for row in rows},
    )


def _metadata(path: Path) -> dict[str, Any]:
    """Returns the parameters and library versions that `measure` recorded with its table."""
    names = ("personae.params", "personae.versions")
    recorded = {name: tables.recorded(path, name, stage="measure") for name in names}
    if absent := [name for name, values in recorded.items() if not values]:
        raise MissingInput(
            f"{path} does not record how its images were made (no metadata {', '.join(absent)}). "
            "Run stage 'measure' again."
        )
    return recorded


def _clear(out_dir: Path, *, keep: Collection[str]) -> None:
    """Removes what an earlier build left, the shards of the names in `keep` apart."""
    for pattern in ("*-??????.tar", "*.part", "samples.parquet", "classes.json"):
        for path in out_dir.glob(pattern):
            if path.name not in keep or not path.is_file():
                path.unlink()


def _entry(path: Path, samples: int) -> ShardEntry:
    return ShardEntry(
        shard=path.name,
        split=path.name.partition("-")[0],
        samples=samples,
        bytes=path.stat().st_size,
        sha256=_sha256(path),
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
