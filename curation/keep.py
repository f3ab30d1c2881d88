"""
`python -m curation keep`: writes the split of each post to a file, for all later builds.

The file, splits.csv, has the columns `post_id` and `split`, and belongs into Git. Stage `split`
gives its posts their split before it draws that of any other post. A post that has left the build
stays in the file, so that it comes back to its split.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from curation.assignment import NONE_KEPT, KeptSplits
from personae import files, tables
from personae.errors import BadParams, BadTable
from personae.selection import SPLITS

_HEADER: Final = ["post_id", "split"]
_SCHEMA: Final = pa.schema({"post_id": pa.int64(), "split": pa.string()})
_MOST_BYTES: Final = 2**30  # forty million posts
_ROW: Final = re.compile(r"Row #(\d+)")
_REMEDY: Final = (
    f"Below the header `{','.join(_HEADER)}` a line is a post id and {', '.join(SPLITS[:-1])} or "
    f"{SPLITS[-1]}, such as `1234,train`, and each id stands once. Correct the file, or take it from Git."
)


@dataclass(frozen=True, slots=True)
class KeepReport:
    """What `python -m curation keep` wrote."""

    posts: int
    """Posts that keep their split."""
    new: int
    """Those that the file did not have."""
    absent: int
    """Those that the build does not have."""
    splits: dict[str, int]
    """Number of posts by split."""


def run(path: Path, *, data_dir: Path) -> KeepReport:
    """
    Writes the splits of the present build to `path`, whole or not at all, in the order of the ids.

    Posts that the file has and the build lacks stay as they are.

    Raises:
        MissingInput, MissingColumn, BadTable: `split.parquet` is absent or damaged.
        BadParams: The file is damaged.
        AlreadyRunning: Another process writes it.
    """
    built_path = data_dir / "split" / "split.parquet"
    built = tables.read(built_path, _HEADER, stage="split")
    target = path.resolve()
    with files.locked(target.parent):
        before = _read(path)
        absent = before.filter(
            pc.invert(pc.is_in(before["post_id"], value_set=built["post_id"].combine_chunks()))
        )
        table = pa.concat_tables([built, absent]).sort_by("post_id").combine_chunks()
        if fault := _fault(table):
            raise BadTable(f"{built_path}: {fault[1]}. Run stage 'split' again.")
        with files.whole_file(target) as file:
            file.write(f"{','.join(_HEADER)}\n".encode())
            options = csv.WriteOptions(include_header=False, quoting_style="none")
            csv.write_csv(table, file, options)
    counts = pc.value_counts(table["split"]).to_pylist()
    by_split = {row["values"]: row["counts"] for row in counts}
    return KeepReport(
        posts=table.num_rows,
        new=table.num_rows - before.num_rows,
        absent=absent.num_rows,
        splits={split: by_split.get(split, 0) for split in SPLITS},
    )


def read(path: Path) -> KeptSplits:
    """
    Returns the posts of the file and their splits; none if the file is absent.

    Raises:
        BadParams: The file cannot be read, or a line is wrong; the message names file and line.
    """
    table = _read(path)
    if not table.num_rows:
        return NONE_KEPT
    table = table.sort_by("post_id")
    splits = pc.index_in(table["split"], value_set=pa.array(SPLITS)).to_numpy()
    return KeptSplits(table["post_id"].to_numpy(), (1 << splits).astype(np.uint8))


def _read(path: Path) -> pa.Table:
    """Returns the rows of the file, checked, in its order."""
    if not path.exists():
        return _SCHEMA.empty_table()
    try:
        files.check_regular(path)
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise BadParams(
                f"{path} has {size} bytes, more than the {_MOST_BYTES} of a file of splits. {_REMEDY}"
            )
        with csv.open_csv(
            path,
            csv.ReadOptions(use_threads=False),  # without threads, errors have the line
            csv.ParseOptions(ignore_empty_lines=False),
            csv.ConvertOptions(column_types=_SCHEMA, null_values=[]),
        ) as reader:
            if reader.schema.names != _HEADER:
                header = ",".join(reader.schema.names)
                raise BadParams(f"{path}, line 1: {header!r:.80} is not the header. {_REMEDY}")
            table = reader.read_all()
    except (OSError, pa.ArrowInvalid) as error:
        line = _ROW.search(str(error))
        where = f"{path}, line {line[1]}" if line else str(path)
        raise BadParams(f"{where} cannot be read as splits ({error!s:.200}). {_REMEDY}") from error
    if fault := _fault(table):
        raise BadParams(f"{path}, line {fault[0] + 2}: {fault[1]}. {_REMEDY}")
    return table


def _fault(table: pa.Table) -> tuple[int, str] | None:
    """Returns the first row with an unknown split, or with an id that an earlier row has, and why."""
    unknown = pc.is_null(pc.index_in(table["split"], value_set=pa.array(SPLITS)))
    row = unknown.index(value=True).as_py()
    if row >= 0:
        return row, f"{table['split'][row].as_py()!r:.80} is no split"
    post_ids = table["post_id"].to_numpy()
    order = np.argsort(post_ids, kind="stable")
    repeated = order[1:][np.diff(post_ids[order]) == 0]
    if len(repeated):
        row = int(repeated.min())
        return row, f"post {post_ids[row]} stands there a second time"
    return None
