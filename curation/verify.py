"""
Checks of a finished data set, which use none of the code that packs shards.

Checked are the manifest and its root hash, each shard and each member, samples.parquet, the stored
and normalised images, and the tables of the catalog and its view `leaks`.
"""

import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
from PIL import Image

from curation import catalog
from curation.documents import ClassesDocument, ManifestDocument, NormalisedFormat
from curation.spans import SpanReader
from personae import tables
from personae.errors import PersonaeError

_COLUMNS = (
    "post_id",
    "split",
    "label",
    "leaf",
    "white_background",
    "shard",
    "offset",
    "sample_bytes",
    "image_offset",
    "image_bytes",
)


_STORED = (
    (
        "download/images.parquet",
        "download/segments",
        "download",
        ("post_id", "segment", "offset", "file_bytes", "sha256"),
    ),
    (
        "measure/measures.parquet",
        "measure",
        "measure",
        ("post_id", "image_tar", "offset", "image_bytes", "image_sha256"),
    ),
)


def problems(data_dir: Path) -> Iterator[str]:
    """
    Yields a sentence for each promise that does not hold; nothing for a sound data set.

    Raises:
        MissingInput: There is no data set to check.
    """
    folder = data_dir / "shards"
    tables.check(folder / "samples.parquet", ["post_id"], stage="shards")
    try:
        manifest = ManifestDocument.read(folder / "manifest.json")
        classes = ClassesDocument.read(folder / "classes.json")
        yield from _manifest(folder, manifest)
        rows = tables.read(folder / "samples.parquet", _COLUMNS, stage="shards").to_pylist()
        yield from _rows(rows, manifest, classes)
        yield from _shards(folder, manifest, rows)
        yield from _stored(data_dir)
    except PersonaeError as error:
        yield str(error)
    else:
        yield from _catalog(data_dir, manifest)


def _manifest(folder: Path, manifest: ManifestDocument) -> Iterator[str]:
    lines = sorted((entry.shard, entry.sha256) for entry in manifest.shards)
    root = hashlib.sha256("".join(f"{sha}  {name}\n" for name, sha in lines).encode()).hexdigest()
    if root != manifest.root_sha256:
        yield f"The root hash of the listed shards is {root}, not {manifest.root_sha256}."
    listed = {name for name, _ in lines}
    present = {path.name for path in folder.glob("*.tar")}
    yield from (f"{name} is listed but absent." for name in sorted(listed - present))
    yield from (f"{name} is in the folder but not listed." for name in sorted(present - listed))
    yield from (
        f"{path.name} was left by a build that was killed."
        for path in sorted(folder.glob("*.part"))
    )
    expected = dict(lines) | manifest.files
    for name, sha256 in sorted(expected.items()):
        path = folder / name
        if path.exists():
            with path.open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
            if actual != sha256:
                yield f"{name} has the sha256 {actual}, not {sha256}."


def _rows(
    rows: list[dict[str, Any]], manifest: ManifestDocument, classes: ClassesDocument
) -> Iterator[str]:
    """Compares counts of the manifest and labels of the classes with samples.parquet."""
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
    if len(classes.labels) != manifest.labels:
        yield f"classes.json has {len(classes.labels)} labels, not {manifest.labels}."
    names = dict(enumerate(classes.labels))
    for row in rows:
        if names.get(row["leaf"]) != row["label"]:
            yield f"Post {row['post_id']} has leaf {row['leaf']}, which is not '{row['label']}'."
    if len({row["post_id"] for row in rows}) != len(rows):
        yield "samples.parquet has two rows of one post."


def _shards(folder: Path, manifest: ManifestDocument, rows: list[dict[str, Any]]) -> Iterator[str]:
    by_shard: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_shard.setdefault(row["shard"], []).append(row)
    for entry in manifest.shards:
        path = folder / entry.shard
        if not path.exists():
            continue
        data = path.read_bytes()
        if len(data) != entry.bytes:
            yield f"{path.name} has {len(data)} bytes, not {entry.bytes}."
        position = 0
        for row in sorted(by_shard.get(path.name, []), key=lambda row: int(row["offset"])):
            if row["offset"] != position:
                yield f"{path.name} has a gap or an overlap at byte {position}."
            position = row["offset"] + row["sample_bytes"]
            wrong = _sample(data, row, manifest.image)
            if wrong:
                yield f"Post {row['post_id']} at byte {row['offset']} of {path.name}: {wrong}."
        if any(data[position:]):
            yield f"{path.name} has bytes after its last sample, at byte {position}."


def _sample(data: bytes, row: Mapping[str, Any], image: NormalisedFormat) -> str | None:
    """Returns what is wrong with one sample, or None."""
    span = data[row["offset"] : row["offset"] + row["sample_bytes"]]
    try:
        with tarfile.open(fileobj=io.BytesIO(span), mode="r:") as tar:
            members = tar.getmembers()
            names = [f"{row['post_id']}.{kind}" for kind in (image.format, "cls", "json")]
            if [member.name for member in members] != names:
                return f"holds {', '.join(member.name for member in members)}"
            wrong = _image(span, members[0], row, image)
            if wrong:
                return wrong
            leaf, facts = (span[each.offset_data :][: each.size] for each in members[1:])
            if leaf != str(row["leaf"]).encode():
                return "its .cls is another leaf"
            record = json.loads(facts)
            names = ["post_id", "label", "leaf", "split", "white_background"]
            if any(record.get(name) != row[name] for name in names):
                return "its .json disagrees with samples.parquet"
    except (tarfile.TarError, OSError, ValueError, AttributeError, RecursionError) as error:
        return f"unreadable ({error})"
    return None


def _image(
    span: bytes, member: tarfile.TarInfo, row: Mapping[str, Any], image: NormalisedFormat
) -> str | None:
    """Returns what is wrong with position, length or side of a sample's image, or None."""
    start, size = member.offset_data, member.size
    if (row["offset"] + start, size) != (row["image_offset"], row["image_bytes"]):
        return (
            f"its image has offset {row['offset'] + start} and {size} bytes, which disagrees with "
            "samples.parquet"
        )
    with Image.open(io.BytesIO(span[start : start + size])) as opened:
        if opened.size != (image.side, image.side):
            return f"its image has {opened.size[0]} × {opened.size[1]} pixels"
    return None


def _stored(data_dir: Path) -> Iterator[str]:
    """Checks the bytes of segments and normalised images; a data set may lack either."""
    for table, folder, stage, columns in _STORED:
        path = data_dir / table
        if not path.exists():
            continue
        reported = set()
        rows = tables.read(path, columns, stage=stage)
        remedy = f"Run stage '{stage}' again." if stage == "measure" else "Restore it from a copy."
        reader = SpanReader(data_dir / folder, stage=stage, table=path.name, remedy=remedy)
        with reader:
            for post_id, name, offset, size, sha256 in zip(
                *(rows[column].to_pylist() for column in columns), strict=True
            ):
                if name is None:
                    continue
                try:
                    reader.read(post_id, name, offset=offset, size=size, sha256=sha256)
                except PersonaeError as error:
                    if str(error) not in reported:  # an absent file concerns many images
                        reported.add(str(error))
                        yield str(error)


def _catalog(data_dir: Path, manifest: ManifestDocument) -> Iterator[str]:
    """Checks that the catalog is of this build, and that `leaks` is empty unless the split is given."""
    path = data_dir / "catalog" / "catalog.duckdb"
    try:
        with closing(catalog.connect(path)) as connection:
            # A view could be made to read files.
            connection.execute("SET enable_external_access = false")
            build = connection.execute("SELECT root_sha256, versions FROM builds").fetchall()
            if build != [(manifest.root_sha256, json.dumps(manifest.versions, sort_keys=True))]:
                yield "The catalog is of another build than the shards. Run stage 'catalog' again."
            mode = connection.execute("SELECT params ->> '$.split.mode' FROM builds").fetchall()
            if mode != [("given",)]:  # a given split promises nothing; `leaks` only reports on it
                query = "SELECT kind, post_a, split_a, post_b, split_b FROM leaks"
                for kind, post_a, split_a, post_b, split_b in connection.execute(query).fetchall():
                    yield f"Leak ({kind}): post {post_a} in {split_a}, post {post_b} in {split_b}."
        for name in catalog.changed_tables(path, data_dir):
            yield f"Table '{name}' of the catalog differs from its file. Run stage 'catalog' again."
    except PersonaeError as error:
        yield str(error)
    except duckdb.Error as error:
        yield f"The catalog cannot be read: {str(error).splitlines()[0]}."
