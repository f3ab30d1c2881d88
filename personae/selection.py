"""
Selections: some samples of one build of the shards, in the order of the build.

`python -m curation select` writes such a file, and training reads it (parameter `data.selection`). It
is a Parquet file with the columns of samples.parquet. Its metadata has the root hash of the shards
and the query. Format and hash: `docs/selections.md`.
"""

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from personae.errors import BadParams, MissingInput
from personae.files import whole_file

SCHEMA: Final = pa.schema(
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
"""Columns of a selection, and of the samples.parquet that stage `shards` writes."""
SPLITS: Final = ("train", "val", "test")
_DIGITS: Final = 16  # of the hash in a reference: 64 bits tell selections apart
_KEY: Final = b"personae.selection"


class SelectionOrigin(BaseModel):
    """The metadata of a selection: what it was selected from, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Root hash of the shards."""
    query: str


@dataclass(frozen=True, slots=True)
class SampleSelection:
    """The chosen rows of samples.parquet, in the order of shard and offset."""

    samples: pa.Table
    origin: SelectionOrigin

    @property
    def sha256(self) -> str:
        """
        The hash that names the selection: of the root hash and the post ids, a line each.

        Two queries that choose the same samples of the same build have the same hash.
        """
        digest = hashlib.sha256(f"{self.origin.root_sha256}\n".encode())
        for column in self.samples["post_id"].chunks:
            digest.update("".join(f"{post}\n" for post in column.to_pylist()).encode())
        return digest.hexdigest()

    def reference(self, path: Path) -> str:
        """Returns the value of `data.selection` for this selection in the file `path`."""
        return f"{path}@{self.sha256[:_DIGITS]}"

    def counts(self) -> dict[str, dict[str, int]]:
        """
        Returns the number of samples of each split, for each label in the order of the leaves.

        Raises:
            BadParams: There is no sample, or a label lacks samples of a split.
        """
        grouped = self.samples.group_by(["leaf", "label", "split"]).aggregate([([], "count_all")])
        counts: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(SPLITS, 0))
        for row in sorted(grouped.to_pylist(), key=lambda row: int(row["leaf"])):
            counts[row["label"]][row["split"]] = row["count_all"]
        if not counts:
            raise BadParams(
                "The query selects no sample of the data set. Check its conditions with "
                "`python -m curation query`."
            )
        lacking = [
            f"'{label}' ({sum(by_split.values())} samples, none in "
            f"{' or '.join(split for split in SPLITS if not by_split[split])})"
            for label, by_split in counts.items()
            if not all(by_split.values())
        ]
        if lacking:
            raise BadParams(
                "The selection lacks samples of a split for "
                f"{', '.join(lacking[:5])}{' and others' if len(lacking) > 5 else ''}. Training needs "
                "samples of every split for each label. Select more of these labels, or none."
            )
        return dict(counts)


def write(path: Path, selection: SampleSelection) -> None:
    """Writes a selection, whole or not at all."""
    metadata = {_KEY: selection.origin.model_dump_json()}
    table = selection.samples.replace_schema_metadata(metadata)
    with whole_file(path) as file:
        pq.write_table(table, file, compression="zstd")


def read(path: Path, *, most: int) -> SampleSelection:
    """
    Returns the selection in a file, which may have been made by anyone.

    Args:
        path: A file that `python -m curation select` wrote.
        most: Number of samples of the build: a small file may claim any number of rows.

    Raises:
        MissingInput: The file is absent, damaged, no selection, or has more rows.
    """
    try:
        file = pq.read_metadata(path)
        origin = SelectionOrigin.model_validate_json((file.metadata or {})[_KEY])
        if file.num_rows > most:
            raise ValueError(f"it has {file.num_rows} rows, and the build {most} samples")  # noqa: TRY301  # translated like the others
        samples = pq.read_table(path, columns=SCHEMA.names).select(SCHEMA.names).cast(SCHEMA)
        empty = [name for name in SCHEMA.names if samples[name].null_count]
        if empty:
            raise ValueError(f"column {empty[0]} has empty values")  # noqa: TRY301  # see above
    except FileNotFoundError as error:
        raise MissingInput(f"{path} is absent. {_AGAIN}") from error
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise MissingInput(f"{path} is no readable selection ({reason}). {_AGAIN}") from error
    return SampleSelection(samples, origin)


_AGAIN: Final = (
    "Write it from the catalog, or leave out data.selection:\n"
    '  python -m curation select "SELECT post_id FROM dataset WHERE …" -o FILE'
)
