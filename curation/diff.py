"""
`python -m curation diff OLD NEW`: compares the samples of two builds.

Reads manifest.json, samples.parquet and the shards of both folders, which may have been made by
anyone. The reasons of removed samples come from the decisions of NEW, where it has them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from curation import verify
from curation.documents import ManifestDocument
from curation.errors import TamperedData
from curation.spans import SpanReader
from personae import tables

_DECIDING = ("decide", "download", "filters", "duplicates", "persona", "split")


class ChangedSample(NamedTuple):
    """One sample that differs; `before` and `after` are None where the build lacks it."""

    post_id: int
    label: str
    split: str
    detail: str
    """Reason of a removed sample, or what the split or the label was before; else empty."""


@dataclass(frozen=True, slots=True)
class BuildDiff:
    """What differs between two builds; lists are in the order of the post ids."""

    old_root_sha256: str
    new_root_sha256: str
    added: tuple[ChangedSample, ...]
    removed: tuple[ChangedSample, ...]
    moved: tuple[ChangedSample, ...]
    """Samples in another split; `detail` is the old split."""
    relabelled: tuple[ChangedSample, ...]
    """Samples with another label; `detail` is the old label."""
    rewritten: tuple[ChangedSample, ...]
    """Samples whose image has other bytes."""
    splits: dict[str, tuple[int, int]]
    """Number of samples of each split, old and new."""
    labels: dict[str, tuple[int, int]]
    """Number of samples of each label, old and new."""
    shards: dict[str, str]
    """Shards that differ: added, removed or changed."""
    equal_shards: int


def compare(old_dir: Path, new_dir: Path) -> BuildDiff:
    """
    Returns what differs between the builds in two data folders.

    Images are read only where the shards that hold them differ.

    Raises:
        MissingInput, MissingColumn, BadDocument, BadTable: A folder has no build, or a damaged one.
        TamperedData: A position of samples.parquet does not lie in its shard, or a post stands twice.
    """
    old, new = _read(old_dir / "shards"), _read(new_dir / "shards")
    joined = old.samples.join(
        new.samples, "post_id", join_type="full outer", left_suffix="_old", right_suffix="_new"
    ).sort_by("post_id")
    is_old, is_new = pc.is_valid(joined["split_old"]), pc.is_valid(joined["split_new"])
    removed = joined.filter(pc.and_(is_old, pc.invert(is_new)))
    added = joined.filter(pc.and_(is_new, pc.invert(is_old)))
    both = joined.filter(pc.and_(is_old, is_new))
    moved = both.filter(pc.not_equal(both["split_old"], both["split_new"]))
    relabelled = both.filter(pc.not_equal(both["label_old"], both["label_new"]))
    rewritten = both.filter(pa.array(_has_other_bytes(both, old, new), pa.bool_()))
    shards = {
        name: "removed" if name not in new.hashes else "changed" if name in old.hashes else "added"
        for name in sorted(old.hashes.keys() | new.hashes.keys())
        if old.hashes.get(name) != new.hashes.get(name)
    }
    return BuildDiff(
        old_root_sha256=old.root_sha256,
        new_root_sha256=new.root_sha256,
        added=_changed(added, "new"),
        removed=_changed(removed, "old", _reasons(removed["post_id"].to_pylist(), new_dir)),
        moved=_changed(moved, "new", moved["split_old"].to_pylist()),
        relabelled=_changed(relabelled, "new", relabelled["label_old"].to_pylist()),
        rewritten=_changed(rewritten, "new"),
        splits=_counts(old, new, "split"),
        labels=_counts(old, new, "label"),
        shards=shards,
        equal_shards=len(new.hashes.keys() - shards.keys()),
    )


def to_json(changes: BuildDiff) -> dict[str, Any]:
    """Returns everything that differs as plain JSON values."""
    samples = {name: [change._asdict() for change in getattr(changes, name)] for name in _KINDS}
    return asdict(changes) | samples


def described(changes: BuildDiff, *, limit: int) -> Iterator[str]:
    """Yields the lines that tell a person what differs, at most `limit` samples of each kind."""
    yield f"old {changes.old_root_sha256}"
    yield f"new {changes.new_root_sha256}"
    if changes.old_root_sha256 == changes.new_root_sha256:
        yield "The builds are equal."
        return
    yield (
        f"shards: {changes.equal_shards} equal, {len(changes.shards)} not: "
        + _shortened([f"{name} {kind}" for name, kind in changes.shards.items()], limit)
    )
    for name, title in _KINDS.items():
        samples = getattr(changes, name)
        yield f"{title}: {len(samples)}"
        for change in samples[:limit]:
            detail = f" ({_DETAIL.get(name, '')}{change.detail})" if change.detail else ""
            yield f"  {change.post_id} {change.label}, {change.split}{detail}"
        if len(samples) > limit:
            yield f"  and {len(samples) - limit} more: raise --limit, or use --json"
    for title, counts in (("split", changes.splits), ("label", changes.labels)):
        for name, (before, after) in counts.items():
            if before != after:
                yield f"{title} {name}: {before} samples, then {after} ({after - before:+d})"


_KINDS: Final = {
    "removed": "removed",
    "added": "added",
    "moved": "in another split",
    "relabelled": "with another label",
    "rewritten": "with another image",
}
_DETAIL: Final = {"moved": "before: ", "relabelled": "before: "}


@dataclass(frozen=True, slots=True)
class _Build:
    """The samples of one build, and the hash of each shard."""

    folder: Path
    root_sha256: str
    samples: pa.Table
    hashes: Mapping[str, str]


def _read(folder: Path) -> _Build:
    tables.check(folder / "samples.parquet", ["post_id"], stage="shards")
    manifest = ManifestDocument.read(folder / "manifest.json")
    samples = verify.sample_table(folder, manifest)
    if pc.count_distinct(samples["post_id"]).as_py() != samples.num_rows:
        raise TamperedData(f"{folder / 'samples.parquet'} has two rows of one post.")
    hashes = {entry.shard: entry.sha256 for entry in manifest.shards}
    return _Build(folder, manifest.root_sha256, samples, hashes)


def _has_other_bytes(both: pa.Table, old: _Build, new: _Build) -> list[bool]:
    """Returns for each sample of both builds whether its image differs."""
    with _reader(old.folder) as old_images, _reader(new.folder) as new_images:
        return [
            not _is_same_position(row, old, new)
            and _image(old_images, row, "old") != _image(new_images, row, "new")
            for batch in both.to_batches(max_chunksize=10_000)
            for row in batch.to_pylist()
        ]


def _is_same_position(row: Mapping[str, Any], old: _Build, new: _Build) -> bool:
    """Returns whether a sample lies at one position of two equal shards: it is not read then."""
    sha256 = old.hashes.get(row["shard_old"])
    return (
        sha256 is not None
        and sha256 == new.hashes.get(row["shard_new"])
        and row["image_offset_old"] == row["image_offset_new"]
        and row["image_bytes_old"] == row["image_bytes_new"]
    )


def _reader(folder: Path) -> SpanReader:
    return SpanReader(
        folder, stage="shards", table="samples.parquet", remedy="Run stage 'shards' again."
    )


def _image(reader: SpanReader, row: Mapping[str, Any], side: str) -> bytes:
    return reader.read(
        row["post_id"],
        row[f"shard_{side}"],
        offset=row[f"image_offset_{side}"],
        size=row[f"image_bytes_{side}"],
    )


def _changed(
    samples: pa.Table, side: str, details: Sequence[str] | None = None
) -> tuple[ChangedSample, ...]:
    columns = [samples[name].to_pylist() for name in ("post_id", f"label_{side}", f"split_{side}")]
    return tuple(map(ChangedSample, *columns, details or [""] * samples.num_rows))


def _counts(old: _Build, new: _Build, column: str) -> dict[str, tuple[int, int]]:
    before, after = (Counter(build.samples[column].to_pylist()) for build in (old, new))
    return {name: (before[name], after[name]) for name in sorted(before.keys() | after.keys())}


def _reasons(posts: Sequence[int], data_dir: Path) -> list[str]:
    """Returns for each removed post the stages of NEW that refused it, with their reasons."""
    reasons: dict[int, list[str]] = defaultdict(list)
    sought = pa.array(posts, pa.int64())
    columns = ["post_id", "kept", "reason"]
    for stage in _DECIDING if posts else ():
        path = data_dir / stage / "decisions.parquet"
        if not path.exists():
            continue
        for batch in tables.batches(path, columns, stage=stage):
            for row in batch.filter(pc.is_in(batch["post_id"], sought)).to_pylist():
                if not row["kept"]:
                    reasons[row["post_id"]].append(f"{stage}: {row['reason']}")
    return [", ".join(reasons[post_id]) or "no decision" for post_id in posts]


def _shortened(names: Sequence[str], most: int) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
