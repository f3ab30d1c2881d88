"""
Checks of a finished data set, by code that shares nothing with the code that wrote it.

Every hash, every offset and every promise: manifest and root hash, each shard and each member, the
tables beside them, and the catalog's view `leaks`.
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

from curation import catalog
from curation.errors import CurationError
from personae import tables

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


def problems(data_dir: Path) -> Iterator[str]:
    """
    Yields one sentence for each promise that does not hold; nothing for a sound data set.

    Raises:
        MissingInput: There is no data set to check.
    """
    folder = data_dir / "shards"
    tables.check(folder / "samples.parquet", ["post_id"], stage="shards")
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        classes = json.loads((folder / "classes.json").read_bytes())
        yield from _manifest(folder, manifest)
        rows = tables.read(folder / "samples.parquet", _COLUMNS, stage="shards").to_pylist()
        yield from _rows(rows, manifest, classes)
        yield from _shards(folder, manifest, rows)
    except FileNotFoundError as error:
        yield f"{error.filename} is absent: the build was not finished, or a file was removed."
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"manifest.json or classes.json in {folder} is damaged: {error!r}."
    except CurationError as error:
        yield str(error)
    else:
        yield from _catalog(data_dir, manifest)


def _manifest(folder: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    lines = sorted((entry["shard"], entry["sha256"]) for entry in manifest["shards"])
    root = hashlib.sha256("".join(f"{sha}  {name}\n" for name, sha in lines).encode()).hexdigest()
    if root != manifest["root_sha256"]:
        yield f"The root hash of the listed shards is {root}, not {manifest['root_sha256']}."
    listed = {name for name, _ in lines}
    present = {path.name for path in folder.glob("*.tar")}
    yield from (f"{name} is listed but absent." for name in sorted(listed - present))
    yield from (f"{name} is in the folder but not listed." for name in sorted(present - listed))
    yield from (f"{path.name} is left of a torn build." for path in sorted(folder.glob("*.part")))
    expected = {entry["shard"]: entry["sha256"] for entry in manifest["shards"]} | manifest["files"]
    for name, sha256 in sorted(expected.items()):
        path = folder / name
        if path.exists():
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != sha256:
                yield f"{name} has the sha256 {found}, not {sha256}."


def _rows(
    rows: list[dict[str, Any]], manifest: Mapping[str, Any], classes: Mapping[str, Any]
) -> Iterator[str]:
    """Counts of the manifest and names of the classes against samples.parquet."""
    by_split = Counter(row["split"] for row in rows)
    by_shard = Counter(row["shard"] for row in rows)
    for split, samples in manifest["samples"].items():
        if by_split.pop(split, 0) != samples:
            yield f"The manifest counts {samples} samples in {split}, samples.parquet does not."
    yield from (f"The manifest does not know the split {split}." for split in sorted(by_split))
    for entry in manifest["shards"]:
        if by_shard[entry["shard"]] != entry["samples"]:
            yield f"{entry['shard']} should hold {entry['samples']} samples, by samples.parquet not."
    if len(classes["labels"]) != manifest["labels"]:
        yield f"classes.json has {len(classes['labels'])} labels, not {manifest['labels']}."
    names = dict(enumerate(classes["labels"]))
    for row in rows:
        if names.get(row["leaf"]) != row["label"]:
            yield f"Post {row['post_id']} has leaf {row['leaf']}, which is not '{row['label']}'."
    if len({row["post_id"] for row in rows}) != len(rows):
        yield "samples.parquet names a post twice."


def _shards(folder: Path, manifest: Mapping[str, Any], rows: list[dict[str, Any]]) -> Iterator[str]:
    by_shard: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_shard.setdefault(row["shard"], []).append(row)
    for entry in manifest["shards"]:
        path = folder / entry["shard"]
        if not path.exists():
            continue
        data = path.read_bytes()
        if len(data) != entry["bytes"]:
            yield f"{path.name} has {len(data)} bytes, not {entry['bytes']}."
        position = 0
        for row in sorted(by_shard.get(path.name, []), key=lambda row: int(row["offset"])):
            if row["offset"] != position:
                yield f"{path.name} has a gap or an overlap at byte {position}."
            position = row["offset"] + row["sample_bytes"]
            wrong = _sample(data, row, str(manifest["image"]["format"]))
            if wrong:
                yield f"Post {row['post_id']} at byte {row['offset']} of {path.name}: {wrong}."
        if any(data[position:]):
            yield f"{path.name} goes on after its last sample, at byte {position}."


def _sample(data: bytes, row: Mapping[str, Any], extension: str) -> str | None:
    """What is wrong with one sample, or None."""
    span = data[row["offset"] : row["offset"] + row["sample_bytes"]]
    try:
        with tarfile.open(fileobj=io.BytesIO(span), mode="r:") as tar:
            members = tar.getmembers()
            names = [f"{row['post_id']}.{kind}" for kind in (extension, "cls", "json")]
            if [member.name for member in members] != names:
                return f"holds {', '.join(member.name for member in members)}"
            place = (members[0].offset_data + row["offset"], members[0].size)
            if place != (row["image_offset"], row["image_bytes"]):
                return f"its image lies at {place}, not where samples.parquet says"
            leaf, facts = (span[each.offset_data :][: each.size] for each in members[1:])
            if leaf != str(row["leaf"]).encode():
                return "its .cls is another leaf"
            told = json.loads(facts)
            names = ["post_id", "label", "leaf", "split", "white_background"]
            if any(told.get(name) != row[name] for name in names):
                return "its .json says otherwise than samples.parquet"
    except (tarfile.TarError, ValueError, AttributeError) as error:
        return f"unreadable ({error})"
    return None


def _catalog(data_dir: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    """The catalog is of this build, and its view `leaks` is empty unless the split was given."""
    try:
        with closing(catalog.connect(data_dir / "catalog" / "catalog.duckdb")) as connection:
            build = connection.execute("SELECT root_sha256, versions FROM builds").fetchall()
            if build != [
                (manifest["root_sha256"], json.dumps(manifest["versions"], sort_keys=True))
            ]:
                yield "The catalog is of another build than the shards. Run stage 'catalog' again."
            query = "SELECT params ->> '$.split.mode' FROM builds"
            if connection.execute(query).fetchall() == [("given",)]:
                return  # the source's own sides promise nothing; `leaks` tells what they share
            query = "SELECT kind, post_a, split_a, post_b, split_b FROM leaks"
            for kind, post_a, split_a, post_b, split_b in connection.execute(query).fetchall():
                yield f"Leak ({kind}): post {post_a} in {split_a}, post {post_b} in {split_b}."
    except CurationError as error:
        yield str(error)
    except duckdb.Error as error:
        yield f"The catalog cannot be read: {str(error).splitlines()[0]}."
