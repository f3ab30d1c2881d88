"""The files that stage `download` fetches: one for each post that `decide` keeps."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from personae import tables
from personae.errors import MissingInput
from scraper.image import RequestedFile, smallest_sufficient
from scraper.post import Variant
from scraper.schemas import posts_columns

Ids: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class KeptFiles:
    """
    The files of the posts that `decide` keeps, read in batches from the tables of both stages.

    Args:
        listing_dir: Output of stage `listing`.
        decide_dir: Output of stage `decide`.
        side: Pixels that the longer side of a file needs; None for originals.
    """

    listing_dir: Path
    decide_dir: Path
    side: int | None

    def ids(self) -> Ids:
        """Returns the ids of the posts kept, ascending."""
        kept = tables.read(self.decide_dir / "kept.parquet", ("post_id",), stage="decide")
        return np.asarray(kept.column("post_id").to_numpy(), np.int64)

    def files(self, only: Ids | None = None) -> Iterator[list[RequestedFile]]:
        """Yields the files to fetch, by post; `only` restricts them to sorted post ids."""
        ids = self.ids() if only is None else only
        columns = ("post_id", "md5", "file_bytes", "variants")
        count = 0
        path = self.listing_dir / "posts.parquet"
        tables.check_types(path, posts_columns(columns), stage="listing")
        for batch in tables.batches(path, columns, stage="listing", rows=1000):
            listed = batch.column("post_id").to_numpy()
            rows = batch.filter(pa.array(np.isin(listed, _between(ids, listed))))
            count += rows.num_rows
            if rows.num_rows:
                yield _files(rows, self.side)
        if count != len(ids):
            raise MissingInput(
                f"{len(ids) - count} of {len(ids)} posts kept by 'decide' are not in {path}: the "
                "tables come from different runs. Run stage 'decide' again."
            )


def _between(ids: Ids, listed: Ids) -> Ids:
    """Returns the part of the sorted `ids` that lies within the range of the sorted `listed`."""
    return ids[np.searchsorted(ids, listed[0]) : np.searchsorted(ids, listed[-1], side="right")]


def _files(rows: pa.RecordBatch, side: int | None) -> list[RequestedFile]:
    """Returns the file of each post; by columns, which is several times faster than by rows."""
    listed: Any = rows.column("variants")
    # The table has the fields of Variant, in their order.
    fields_of_all = (child.to_numpy(zero_copy_only=False) for child in listed.flatten().flatten())
    # Made one by one: a hundred thousand objects at once would start the garbage collector often.
    variants = map(Variant, *(values.tolist() for values in fields_of_all))
    files = []
    plain = (rows.column(name).to_pylist() for name in ("post_id", "md5", "file_bytes"))
    lengths = pc.list_value_length(listed).to_pylist()
    for post_id, md5, file_bytes, length in zip(*plain, lengths, strict=True):
        files.append(
            RequestedFile(
                post_id=post_id,
                md5=md5,
                original_bytes=file_bytes,
                variant=smallest_sufficient(list(islice(variants, length)), side),
            )
        )
    return files
