"""
`python -m curation select SQL -o FILE`: writes the samples that a query chooses, as a selection.

Reads the catalog. The file has the rows of samples.parquet that the query names by their post id, in
the order of the shards, and training reads it: see `personae/selection.py`.
"""

from pathlib import Path

import duckdb

from curation import query
from curation.errors import TamperedData
from personae import selection
from personae.errors import BadQuery
from personae.selection import SampleSelection, SelectionOrigin

_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
# In the order of the build, which the order of the query does not change.
_CHOSEN = """
    SELECT post_id, split, label, leaf, white_background, shard, byte_offset AS "offset",
           sample_bytes, image_offset, image_bytes
    FROM samples WHERE post_id IN (SELECT post_id FROM chosen)
    ORDER BY shard, byte_offset
"""


def run(sql: str, path: Path, *, catalog_path: Path, results_dir: Path) -> SampleSelection:
    """
    Writes the selection of a query, whole or not at all, and returns it.

    Posts of the query that are no samples are left out; a post may stand in several rows.

    Raises:
        MissingInput: The catalog is absent, or predictions beside it cannot be read.
        BadQuery: The SQL is wrong, does more than read, or has no column `post_id`.
        TamperedData: The catalog has another shape than stage `catalog` gives it.
        BadParams: No sample is selected, or a label would lack samples of a split.
    """
    with query.sandboxed(sql, catalog_path=catalog_path, results_dir=results_dir) as connection:
        builds = connection.execute("SELECT root_sha256 FROM builds").fetchall()
        posts = connection.sql(sql)
        _check_columns(posts)
        chosen = posts.query("chosen", _CHOSEN)
        assert chosen is not None, "a SELECT has rows"  # noqa: S101  # our own mistake
        samples = chosen.to_arrow_table()
    try:
        origin = SelectionOrigin(root_sha256=builds[0][0], query=sql.strip())
        selected = SampleSelection(samples.cast(selection.SCHEMA), origin)
    except (ValueError, IndexError, NotImplementedError) as error:  # pyarrow's errors are of these
        raise TamperedData(
            f"{catalog_path} names no root hash, or its samples have other types. Run stage "
            "'catalog' again."
        ) from error
    selected.counts()  # refused before anything is written
    selection.write(path, selected)
    return selected


def _check_columns(posts: duckdb.DuckDBPyRelation | None) -> None:
    columns = [] if posts is None else posts.columns
    if columns.count("post_id") != 1:
        raise BadQuery(
            f"The columns of the query are {', '.join(columns) or 'none'}, and not `post_id` once. "
            "Query the view `dataset`, whose column `post_id` names a sample."
        )
    kind = str(posts.types[columns.index("post_id")]) if posts is not None else ""
    if kind not in _INTEGERS:
        raise BadQuery(f"Column `post_id` of the query has the type {kind}, not BIGINT.")
