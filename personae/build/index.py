"""
The index of a build: all samples of the shards, or those of a selection.

Reads data/shards/{manifest.json,classes.json} and the selection that `data.selection` names. The
labels of a selection are those with a sample in it, and their leaves are numbered anew in the old
order: training sees what it would see in shards of these samples alone.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from personae import selection
from personae.build.documents import IndexedShard, LabelIndex, ShardIndex
from personae.build.shards import LocalShards, ShardFiles
from personae.errors import BadParams, BadShard
from personae.selection import SampleSelection

Ints = npt.NDArray[np.int64]
"""One whole number for each sample, `[sample]`."""
_SHARD_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}\.tar")
_REFERENCE = re.compile(r"(.+)@([0-9a-f]{16,64})")


@dataclass(frozen=True, slots=True)
class ChosenSamples:
    """The samples of a selection, or those in some of the shards, in the order of the build."""

    sha256: str
    """Names the selection."""
    shard: Ints
    """Index of each sample's shard in the manifest."""
    post_ids: Ints
    stored_leaves: Ints
    """Leaf of each sample in the shards."""
    leaves: Ints
    """Leaf of each sample among the labels of the selection, int64."""

    def of(self, shards: Collection[int]) -> "ChosenSamples":
        """Returns the samples in the shards with these indices."""
        rows = np.isin(self.shard, list(shards))
        columns = (self.shard, self.post_ids, self.stored_leaves, self.leaves)
        return ChosenSamples(self.sha256, *(column[rows] for column in columns))

    def rows(
        self,
        post_ids: Ints,
        leaves: Ints,
        *,
        source: Path,
    ) -> Ints:
        """
        Returns the rows of the chosen samples among stored samples, in the same order.

        Raises:
            BadShard: A chosen sample is absent, or has another label or position; `source` names
                what was read.
        """
        rows = np.flatnonzero(np.isin(post_ids, self.post_ids))
        is_same = np.array_equal(post_ids[rows], self.post_ids)
        if not is_same or not np.array_equal(leaves[rows], self.stored_leaves):
            raise BadShard(
                f"The selection {self.sha256[:12]}… disagrees with {source} on the samples or their "
                "labels, although it names the same root hash: one of the two was changed. Write the "
                "selection again, or run stage 'shards' again."
            )
        return rows


@dataclass(frozen=True, slots=True)
class SplitIndex:
    """The samples of one split, or of several: their shards, and which samples were chosen."""

    shards_dir: Path
    files: ShardFiles
    entries: tuple[IndexedShard, ...]
    numbers: tuple[int, ...]
    """Index of each entry in the manifest."""
    side: int
    """Pixels."""
    labels: tuple[str, ...]
    chosen: ChosenSamples | None
    """None: all samples."""

    @property
    def count(self) -> int:
        """Number of samples."""
        return (
            sum(entry.samples for entry in self.entries)
            if self.chosen is None
            else len(self.chosen.post_ids)
        )


@dataclass(frozen=True, slots=True)
class DataIndex:
    """The manifest and the labels of what is trained on."""

    shards_dir: Path
    files: ShardFiles
    manifest: ShardIndex
    """With all shards of the build. Samples, labels and root hash are those of the selection."""
    labels: tuple[str, ...]
    """In leaf order."""
    chosen: ChosenSamples | None
    """None: all samples."""

    def split(self, name: str) -> SplitIndex:
        """
        Returns the index of one split, or of several joined by `+`.

        Raises:
            BadShard: The manifest has no shard of the split.
        """
        splits, shards = name.split("+"), self.manifest.shards
        absent = sorted(set(splits) - {entry.split for entry in shards})
        if absent:
            raise BadShard(
                f"{self.shards_dir / 'manifest.json'} names no shard of split '{absent[0]}'. "
                "Run stages 'split' and 'shards' again, with a share above zero for it."
            )
        numbers = tuple(number for number, entry in enumerate(shards) if entry.split in splits)
        return SplitIndex(
            shards_dir=self.shards_dir,
            files=self.files,
            entries=tuple(shards[number] for number in numbers),
            numbers=numbers,
            side=self.manifest.image.side,
            labels=self.labels,
            chosen=None if self.chosen is None else self.chosen.of(numbers),
        )


def read_index(
    shards_dir: Path, selected: str | None = None, *, files: ShardFiles | None = None
) -> DataIndex:
    """
    Returns the index of the shards, or of the selection `selected` (`FILE@HASH`) of their samples.

    `files` reads the shards where they do not lie in `shards_dir`, beside manifest and labels.

    Raises:
        MissingInput: A file is absent, or damaged.
        BadDocument: One of the two JSON files has another shape.
        BadShard: The name of a shard leads out of the folder, or is no plain name; or the selection
            has samples that the build does not have.
        BadParams: The selection is of another build, has another hash, or lacks samples of a label
            in a split.
    """
    manifest = ShardIndex.read(shards_dir / "manifest.json")
    labels = LabelIndex.read(shards_dir / "classes.json").labels
    for entry in manifest.shards:
        if not _SHARD_NAME.fullmatch(entry.shard):
            raise BadShard(
                f"The manifest names the shard {entry.shard!r}, which is no plain name or leads out "
                f"of {shards_dir}. Run stage 'shards' again."
            )
    files = files or LocalShards(shards_dir)
    if selected is None:
        return DataIndex(shards_dir, files, manifest, labels, None)
    reference = _REFERENCE.fullmatch(selected)
    path = Path(reference[1] if reference else selected)
    chosen = selection.read(path, most=sum(entry.samples for entry in manifest.shards))
    _check_reference(path, reference[2] if reference else None, chosen)
    if chosen.origin.root_sha256 != manifest.root_sha256:
        raise BadParams(
            f"{path} was made from the shards {chosen.origin.root_sha256[:12]}…, and {shards_dir} "
            f"holds {manifest.root_sha256[:12]}…. Run the query again on the present catalog. It "
            f"was:\n  {chosen.origin.query}"
        )
    leaves = _stored_leaves(path, chosen, manifest, labels)
    counts = chosen.counts()
    known = np.unique(leaves)
    samples = ChosenSamples(
        sha256=chosen.sha256,
        shard=_shards(chosen.samples, manifest),
        post_ids=chosen.samples["post_id"].to_numpy(),
        stored_leaves=leaves,
        leaves=np.searchsorted(known, leaves),
    )
    changes = {
        "root_sha256": samples.sha256,
        "labels": len(known),
        "samples": {
            split: sum(count[split] for count in counts.values()) for split in selection.SPLITS
        },
    }
    return DataIndex(
        shards_dir,
        files,
        manifest.model_copy(update=changes),
        tuple(labels[leaf] for leaf in known),
        samples,
    )


def _check_reference(path: Path, expected: str | None, chosen: SampleSelection) -> None:
    """Compares the hash in `data.selection`, by which DVC sees a change, with that of the file."""
    if expected is None or not chosen.sha256.startswith(expected):
        actual = chosen.reference(path)
        raise BadParams(
            (
                f"data.selection is {str(path)!r}, without the hash of the selection"
                if expected is None
                else f"{path} holds another selection than {expected}, which data.selection names"
            )
            + ": the hash says which samples a run was trained on, and DVC notices a change by it. "
            f"To train on the file as it is, set data.selection to:\n  {actual}"
        )


def _shards(samples: pa.Table, manifest: ShardIndex) -> Ints:
    """Returns the index of each sample's shard in the manifest; -1 for an unknown shard."""
    names = pa.array([entry.shard for entry in manifest.shards], pa.string())
    indices = pc.fill_null(pc.index_in(samples["shard"], value_set=names), -1)
    return np.asarray(indices.to_numpy(), dtype=np.int64)


def _stored_leaves(
    path: Path, chosen: SampleSelection, manifest: ShardIndex, labels: tuple[str, ...]
) -> Ints:
    """Returns the leaf of each sample in the shards, after a check against manifest and labels."""
    table = chosen.samples
    shard, offset = _shards(table, manifest), table["offset"].to_numpy()
    leaves = np.asarray(table["leaf"].to_numpy(), dtype=np.int64)
    splits = np.array([entry.split for entry in manifest.shards], dtype=object)
    follows = (np.diff(shard) > 0) | ((np.diff(shard) == 0) & (np.diff(offset) > 0))
    if (
        (shard < 0).any()
        or not follows.all()
        or (leaves < 0).any()
        or (leaves >= len(labels)).any()
        or (splits[shard] != table["split"].to_numpy(zero_copy_only=False)).any()
        or (np.array(labels, dtype=object)[leaves] != table["label"].to_numpy()).any()
    ):
        raise BadShard(
            f"{path} has samples that the shards do not have, other labels, or another order. It was "
            "changed: write the selection again."
        )
    return leaves
