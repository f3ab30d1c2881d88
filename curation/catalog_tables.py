"""
The tables of the catalog: the Parquet file that each comes from, and the SQL that selects its rows.

Stage `catalog` loads them, and `verify` compares them. A column named after a keyword of SQL is
renamed: `offset` becomes `byte_offset`.
"""

from dataclasses import dataclass
from pathlib import Path

from personae import tables
from personae.decisions import DECISIONS

_FOLD = "NULL::INTEGER AS fold"  # split.parquet has the column only with `split.folds`
DECIDING = ("listing", "decide", "download", "filters", "duplicates", "persona", "split")
DERIVED = ("funnel", "duplicate_groups", "label_counts", "look_alikes", "leaks")
"""The tables of catalog_derived.sql."""
TAGS = {"general": 0, "artist": 1, "copyright": 3, "character": 4, "meta": 5}
# Where the original file is: an address on the board, or `folder:` and the quoted path in a folder.
_ORIGINAL = "[variant.url FOR variant IN variants IF variant.type = 'original'][1]"
_ORIGINAL_PATH = (
    f"CASE WHEN {_ORIGINAL} LIKE 'folder:%' THEN try(url_decode(substr({_ORIGINAL}, 8))) END"
)


@dataclass(frozen=True, slots=True)
class CatalogTable:
    """One Parquet file and the table that it becomes."""

    table: str
    stage: str
    file: str
    columns: tuple[str, ...]
    order: str | None
    """SQL of the order; None where the file is in the order of post ids, which loading keeps."""


def _source(table: str, path: str, columns: str, order: str | None = None) -> CatalogTable:
    stage, file = path.split("/")
    return CatalogTable(table, stage, file, tuple(columns.split()), order)


SOURCES = (
    _source(
        "posts",
        "listing/posts.parquet",
        "post_id created_at_utc updated_at_utc md5 pixel_hash rating image_width image_height "
        "file_ext file_bytes duration_seconds parent_id has_children is_pending is_flagged "
        "is_deleted is_banned score uploader_id source tags_general tags_character tags_copyright "
        "tags_artist tags_meta variants given_label given_split given_group "
        "licence",
    ),
    _source("tags", "listing/tags.parquet", "name category post_count", "name"),
    _source(
        "implications",
        "listing/implications.parquet",
        "antecedent consequent",
        "antecedent, consequent",
    ),
    _source("aliases", "listing/aliases.parquet", "antecedent consequent", "antecedent"),
    _source(
        "kept",
        "decide/kept.parquet",
        "post_id persona base base_source copyright white_background_tag",
    ),
    _source(
        "personae",
        "decide/personae.parquet",
        "persona base copyright listed kept qualifies",
        "persona",
    ),
    _source(
        "images",
        "download/images.parquet",
        "post_id segment offset file_bytes sha256 md5 variant file_ext width height",
    ),
    _source(
        "measures",
        "measure/measures.parquet",
        "post_id error detail file_format mode width height sha256 phash phash_quality border_white "
        "saturation sharpness contrast image_tar offset image_bytes image_sha256",
    ),
    _source(
        "groups",
        "duplicates/groups.parquet",
        "post_id group_id representative link distance",
    ),
    _source(
        "links",
        "duplicates/links.parquet",
        "post_a post_b link distance inliers mirrored",
        "post_a, post_b, link",
    ),
    _source(
        "labels", "persona/classes.parquet", "label leaf base copyright available samples", "leaf"
    ),
    _source(
        "splits", "split/split.parquet", "post_id label leaf group_id split fold white_background"
    ),
    _source(
        "samples",
        "shards/samples.parquet",
        "post_id split label leaf white_background shard offset sample_bytes image_offset image_bytes",
    ),
)


def check(data_dir: Path) -> None:
    """
    Makes sure that every table that the catalog loads is there, with its columns.

    Raises:
        MissingInput, MissingColumn: One is not.
        BadTable: A column has another type.
    """
    for source in SOURCES:
        columns = [name for name in source.columns if name != "fold"]
        tables.check(data_dir / source.stage / source.file, columns, stage=source.stage)
    for stage in DECIDING:
        path = data_dir / stage / "decisions.parquet"
        tables.check_types(path, DECISIONS, stage=stage)


def rows_of(source: CatalogTable, data_dir: Path) -> str:
    """Returns the SQL that selects the rows of a table from its Parquet file."""
    columns = ", ".join(map(_column, source.columns))
    rows = f"FROM read_parquet('{pattern(data_dir / source.stage / source.file)}')"
    if "fold" in source.columns:
        rows = f"FROM ({rows} UNION ALL BY NAME SELECT {_FOLD} WHERE false)"
    return f"SELECT {columns} {rows}"  # names are constants of this file, the path is quoted


def decisions(data_dir: Path, kept: str) -> str:
    """
    Returns the SQL that selects the decisions of every stage, each with the persona of its post.

    `kept` is the table that has the personae: with their column, counts by persona need no join.
    """
    columns = ", ".join(DECISIONS.names)
    paths = [pattern(data_dir / stage / "decisions.parquet") for stage in DECIDING]
    rows = " UNION ALL ".join(f"SELECT {columns} FROM read_parquet('{path}')" for path in paths)  # noqa: S608  # see rows_of
    return (
        f"SELECT {columns}, persona AS post_persona FROM ({rows}) LEFT JOIN {kept} USING (post_id)"  # noqa: S608  # constants
    )


def tombstones(data_dir: Path) -> str:
    """Returns the SQL that selects the excluded posts; there is no file where no rule excludes any."""
    path = data_dir / "filters" / "tombstones.parquet"
    if not path.exists():
        return "SELECT 0::BIGINT AS post_id, '' AS rule, '' AS why WHERE false"
    return f"SELECT post_id, rule, why FROM read_parquet('{pattern(path)}')"  # noqa: S608  # see rows_of


def tagged(posts: str, samples: str) -> str:
    """
    Returns the SQL that selects one row for each tag of each post of the table `posts`.

    Where the post is a sample, the row repeats what `samples` has of it: a count of tags in the data
    set reads the largest table alone, where a join would look up each of its rows. The names are not
    those of `samples`, so that SQL which joins the two tables needs no prefix.
    """
    joined = f"SELECT p.*, s.leaf AS sample_leaf, s.split AS sample_split, s.white_background AS sample_white_background FROM {posts} AS p LEFT JOIN {samples} AS s USING (post_id)"  # noqa: S608  # names of tables
    return " UNION ALL ".join(
        f"SELECT post_id, unnest(tags_{kind}) AS tag, {number}::TINYINT AS category, sample_leaf, sample_split, sample_white_background FROM ({joined})"  # noqa: S608  # constants of this file
        for kind, number in TAGS.items()
    )


def tag_parts(posts: str, samples: str) -> list[str]:
    """
    Returns the rows of `tagged` as one SELECT for each category: of the samples, then of other posts.

    A statement of its own for each needs a tenth of the memory.
    """
    of_sample = "s.leaf AS sample_leaf, s.split AS sample_split, s.white_background AS sample_white_background"
    of_none = "NULL::INTEGER AS sample_leaf, NULL::VARCHAR AS sample_split, NULL::BOOLEAN AS sample_white_background"
    return [
        f"SELECT p.post_id, unnest(p.tags_{kind}) AS tag, {number}::TINYINT AS category, {columns} FROM {posts} AS p {join} {samples} AS s USING (post_id)"  # noqa: S608  # constants of this file
        for columns, join in ((of_sample, "JOIN"), (of_none, "ANTI JOIN"))
        for kind, number in TAGS.items()
    ]


def _column(name: str) -> str:
    """Returns the SQL of a column; the listing of a folder has 1970 and 0 for what is unknown."""
    if name == "offset":
        return '"offset" AS byte_offset'
    if name == "variants":
        return f"{_ORIGINAL} AS original_url, {_ORIGINAL_PATH} AS original_path"
    if name.endswith("_at_utc"):
        return f"nullif({name}::TIMESTAMP, TIMESTAMP 'epoch') AS {name}"
    return "nullif(uploader_id, 0) AS uploader_id" if name == "uploader_id" else name


def pattern(path: Path) -> str:
    """Returns a path for `read_parquet`, which takes patterns: `[`, `]`, `*` and `?` are escaped."""
    text = "".join(f"[{sign}]" if sign in "[]*?" else sign for sign in str(path))
    return text.replace("'", "''")


def quoted(path: Path) -> str:
    """Returns a path for a string literal of SQL."""
    return str(path).replace("'", "''")
