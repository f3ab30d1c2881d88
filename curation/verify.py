"""
Checks of a finished data set, which use none of the code that packs shards.

Checked are the manifest and its root hash, each shard and each member, samples.parquet, the stored
and normalised images, and the catalog. A data set may come from anyone: nothing that it says is
taken for a path or for an amount of memory before it is compared with the files.
"""

import hashlib
import io
import json
import mmap
import stat
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curation import catalog_check
from curation.documents import ClassesDocument, ManifestDocument, NormalisedFormat
from curation.spans import SpanReader
from personae import tables
from personae.errors import AlreadyRunning, BadTable, PersonaeError
from personae.selection import SCHEMA as SAMPLES

_DOWNLOADED = pa.schema(
    {
        "post_id": pa.int64(),
        "segment": pa.string(),
        "offset": pa.int64(),
        "file_bytes": pa.int64(),
        "sha256": pa.string(),
    }
)
_MEASURED = pa.schema(
    {
        "post_id": pa.int64(),
        "image_tar": pa.string(),
        "offset": pa.int64(),
        "image_bytes": pa.int64(),
        "image_sha256": pa.string(),
    }
)
_STORED = (
    ("download/images.parquet", "download/segments", "download", _DOWNLOADED),
    ("measure/measures.parquet", "measure", "measure", _MEASURED),
)
_BLOCK = 512  # bytes of a tar header, and of the unit that data is filled up to
_LEAST_SAMPLE = 6 * _BLOCK  # three headers, each with data
_FORMATS = ("PNG", "WEBP", "JPEG")


def problems(data_dir: Path) -> Iterator[str]:
    """
    Yields a sentence for each promise that does not hold; nothing for a sound data set.

    Raises:
        MissingInput: There is no data set to check.
        AlreadyRunning: Another program has the catalog open for writing.
    """
    folder = data_dir / "shards"
    tables.check(folder / "samples.parquet", ["post_id"], stage="shards")
    try:
        manifest = ManifestDocument.read(folder / "manifest.json")
        classes = ClassesDocument.read(folder / "classes.json")
        yield from _manifest(folder, manifest)
        rows: list[dict[str, Any]] = sample_table(folder, manifest).to_pylist()
        yield from _counts(rows, manifest)
        yield from _labels(rows, manifest, classes)
        yield from _shards(folder, manifest, rows, _image_hashes(data_dir))
        yield from _stored(data_dir)
    except AlreadyRunning:
        raise
    except PersonaeError as error:
        yield str(error)
    else:
        yield from catalog_check.problems(data_dir, manifest)


def _manifest(folder: Path, manifest: ManifestDocument) -> Iterator[str]:
    lines = sorted((entry.shard, entry.sha256) for entry in manifest.shards)
    root = hashlib.sha256("".join(f"{sha}  {name}\n" for name, sha in lines).encode()).hexdigest()
    if root != manifest.root_sha256:
        yield f"The root hash of the listed shards is {root}, not {manifest.root_sha256}."
    listed = {name for name, _ in lines}
    present = {path.name for path in folder.glob("*.tar")}
    yield from (f"{name} is in the folder but not listed." for name in sorted(present - listed))
    yield from (
        f"{path.name} was left by a build that was killed."
        for path in sorted(folder.glob("*.part"))
    )
    yield from (
        f"The manifest has no hash of {name}."
        for name in ("classes.json", "samples.parquet")
        if name not in manifest.files
    )
    expected = dict(lines) | manifest.files
    for name, sha256 in sorted(expected.items()):
        path = folder / name
        if not path.exists():
            yield f"{name} is listed but absent."
        elif not stat.S_ISREG(path.stat().st_mode):
            yield f"{name} is no regular file."
        else:
            with path.open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
            if actual != sha256:
                yield f"{name} has the sha256 {actual}, not {sha256}."


def sample_table(folder: Path, manifest: ManifestDocument) -> pa.Table:
    """
    Returns samples.parquet of a folder of shards, which may have been made by anyone.

    Raises:
        BadTable: The table has more rows than its shards can hold: a small file of Parquet may
            claim any number of equal rows.
    """
    path = folder / "samples.parquet"
    sizes = sum(_size(folder / entry.shard) for entry in manifest.shards)
    with tables.translated_errors(path, stage="shards"):
        count = pq.read_metadata(path).num_rows
    if count > sizes // _LEAST_SAMPLE:
        raise BadTable(f"{path} has {count} rows, more than its shards can hold.")
    return tables.read_complete(path, SAMPLES, stage="shards")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _counts(rows: list[dict[str, Any]], manifest: ManifestDocument) -> Iterator[str]:
    """Compares counts of the manifest with samples.parquet."""
    by_split = Counter(row["split"] for row in rows)
    by_shard = Counter(row["shard"] for row in rows)
    for split, samples in manifest.samples.items():
        if by_split.pop(split, 0) != samples:
            yield f"The manifest counts {samples} samples in {split}; samples.parquet has another number."
    yield from (f"The manifest lacks the split {split}." for split in sorted(by_split))
    for entry in manifest.shards:
        if entry.split != entry.shard.partition("-")[0]:
            yield f"{entry.shard} has the split {entry.split} in the manifest."
        if by_shard[entry.shard] != entry.samples:
            yield (
                f"{entry.shard} has {entry.samples} samples by the manifest, "
                f"{by_shard[entry.shard]} by samples.parquet."
            )
    for shard in sorted(set(by_shard) - {entry.shard for entry in manifest.shards}):
        yield f"samples.parquet names {shard}, which the manifest does not list."


def _labels(
    rows: list[dict[str, Any]], manifest: ManifestDocument, classes: ClassesDocument
) -> Iterator[str]:
    """Compares labels and splits of samples.parquet with the classes and the shards' names."""
    if len(classes.labels) != manifest.labels:
        yield f"classes.json has {len(classes.labels)} labels, not {manifest.labels}."
    if len(set(classes.labels)) != len(classes.labels):
        yield "classes.json has a label twice."
    names = dict(enumerate(classes.labels))
    for row in rows:
        if names.get(row["leaf"]) != row["label"]:
            yield f"Post {row['post_id']} has leaf {row['leaf']}, which is not '{row['label']}'."
        if row["split"] != row["shard"].partition("-")[0]:
            yield f"Post {row['post_id']} of split {row['split']} is in {row['shard']}."
    if len({row["post_id"] for row in rows}) != len(rows):
        yield "samples.parquet has two rows of one post."


def _image_hashes(data_dir: Path) -> dict[int, str] | None:
    """Returns the sha256 of each normalised image by post; None where `measure` did not run."""
    path = data_dir / "measure" / "measures.parquet"
    if not path.exists():
        return None
    table = tables.read_complete(path, _MEASURED, stage="measure", nullable=True)
    return dict(zip(table["post_id"].to_pylist(), table["image_sha256"].to_pylist(), strict=True))


def _shards(
    folder: Path,
    manifest: ManifestDocument,
    rows: list[dict[str, Any]],
    hashes: Mapping[int, str] | None,
) -> Iterator[str]:
    by_shard: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_shard.setdefault(row["shard"], []).append(row)
    for entry in manifest.shards:
        path = folder / entry.shard
        if not path.is_file():
            continue
        size = path.stat().st_size
        if size != entry.bytes:
            yield f"{path.name} has {size} bytes, not {entry.bytes}."
        if not size:
            yield f"{path.name} is empty."
            continue
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            position = 0
            for row in sorted(by_shard.get(path.name, []), key=lambda row: int(row["offset"])):
                if row["offset"] != position:
                    yield f"{path.name} has a gap or an overlap at byte {position}."
                position = row["offset"] + row["sample_bytes"]
                sha256 = None if hashes is None else hashes.get(row["post_id"]) or "none"
                wrong = _sample(data, row, manifest.image, sha256)
                if wrong:
                    yield f"Post {row['post_id']} at byte {row['offset']} of {path.name}: {wrong}."
            yield from _end(path.name, data, position)


def _end(name: str, data: mmap.mmap, position: int) -> Iterator[str]:
    """Checks that a shard ends after its last sample: with two empty blocks, and nothing else."""
    rest = data[max(position, 0) :]
    if any(rest):
        yield f"{name} has bytes after its last sample, at byte {position}."
    if len(rest) < 2 * _BLOCK or len(data) % tarfile.RECORDSIZE:
        yield f"{name} ends without the end of a tar."


def _sample(
    data: mmap.mmap, row: Mapping[str, Any], image: NormalisedFormat, image_sha256: str | None
) -> str | None:
    """Returns what is wrong with one sample, or None."""
    start, end = row["offset"], row["offset"] + row["sample_bytes"]
    if not 0 <= start <= end <= len(data):
        return f"samples.parquet says that it ends at byte {end}, and the shard has {len(data)}"
    try:
        position, contents = start, []
        for kind in (image.format, "cls", "json"):
            content, position = _member(data, position, f"{row['post_id']}.{kind}", end=end)
            contents.append(content)
        if position != end:
            return f"has bytes after its third member, at byte {position}"
        encoded, leaf, facts = contents
        if (start + _BLOCK, len(encoded)) != (row["image_offset"], row["image_bytes"]):
            return (
                f"its image has offset {start + _BLOCK} and {len(encoded)} bytes, which disagrees "
                "with samples.parquet"
            )
        return _annotation(leaf, facts, row) or _image(encoded, image, image_sha256)
    except (tarfile.TarError, ValueError, AttributeError, RecursionError) as error:
        return f"unreadable ({error})"


def _annotation(leaf: bytes, facts: bytes, row: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with label and record of a sample, or None."""
    if leaf != str(row["leaf"]).encode():
        return "its .cls is another leaf"
    record = json.loads(facts)
    names = ["post_id", "label", "leaf", "split", "white_background"]
    if any(record.get(name) != row[name] for name in names):
        return "its .json disagrees with samples.parquet"
    return None


def _member(data: mmap.mmap, position: int, name: str, *, end: int) -> tuple[bytes, int]:
    """
    Returns the content of the tar member at `position`, and the position after it.

    Raises:
        tarfile.TarError, ValueError: There is no member, or another than a regular file `name`.
    """
    block = data[position : position + _BLOCK]
    header = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    if header.type != tarfile.REGTYPE or header.name != name or header.linkname:
        raise ValueError(f"holds {header.name!r} of type {header.type!r} instead of {name}")
    if block[257:265] != tarfile.POSIX_MAGIC:
        raise ValueError(f"{name} has no header of the format ustar")
    content = position + _BLOCK
    following = content + header.size + -header.size % _BLOCK
    if header.size < 0 or following > end:
        raise ValueError(f"{name} claims {header.size} bytes, more than its sample has")
    if any(data[content + header.size : following]):
        raise ValueError(f"{name} is filled up with other bytes than zero")
    return data[content : content + header.size], following


def _image(encoded: bytes, image: NormalisedFormat, sha256: str | None) -> str | None:
    """Returns what is wrong with the image of a sample, or None."""
    if sha256 is not None and hashlib.sha256(encoded).hexdigest() != sha256:
        return "its image has not the sha256 of measures.parquet"
    try:
        with Image.open(io.BytesIO(encoded), formats=_FORMATS) as opened:
            if opened.size != (image.side, image.side):
                return f"its image has {opened.size[0]} × {opened.size[1]} pixels"
            opened.load()
    except Exception as error:  # noqa: BLE001  # whatever Pillow raises, the image is unreadable
        return f"its image is unreadable ({type(error).__name__})"
    return None


def _stored(data_dir: Path) -> Iterator[str]:
    """Checks the bytes of segments and normalised images; a data set may lack either."""
    for table, folder, stage, schema in _STORED:
        path = data_dir / table
        if not path.exists():
            continue
        reported = set()
        rows = tables.read_complete(path, schema, stage=stage, nullable=True)
        remedy = f"Run stage '{stage}' again." if stage == "measure" else "Restore it from a copy."
        reader = SpanReader(data_dir / folder, stage=stage, table=path.name, remedy=remedy)
        with reader:
            for post_id, name, offset, size, sha256 in zip(
                *(rows[column].to_pylist() for column in schema.names), strict=True
            ):
                if name is None and stage == "measure":  # it could not be decoded
                    continue
                if None in (post_id, name, offset, size, sha256):
                    yield f"{table} has an empty value in the row of post {post_id}."
                    continue
                try:
                    reader.read(post_id, name, offset=offset, size=size, sha256=sha256)
                except PersonaeError as error:
                    if str(error) not in reported:  # an absent file concerns many images
                        reported.add(str(error))
                        yield str(error)
