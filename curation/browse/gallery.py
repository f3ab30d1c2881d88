"""
One page of the grid: the posts of a selection in the order of their ids, and what each tile shows.

Pages are cut by post id, not by position: the last page of a large catalog is as quick as the first.
"""

from collections.abc import Sequence
from typing import Any

from curation.browse import images
from curation.browse.selection import Selection
from curation.browse.snapshot import Snapshot

PAGE_POSTS = 60
_HASH_SIGNS = 16  # of a sha256 in the address of an image: a browser may keep that address for ever

# The posts of a condition are computed once, and serve the page and the counts. Of a whole table, DuckDB
# knows the number of rows and reads the blocks of one page.
_PAGE = """
WITH matched AS {kept} (SELECT p.post_id FROM {table} AS p WHERE {condition}),
page AS MATERIALIZED (SELECT post_id FROM matched WHERE {bound} ORDER BY post_id {order} LIMIT ?)
SELECT (SELECT count(*) FROM matched) AS count,
       (SELECT count(*) FROM matched WHERE post_id < (SELECT min(post_id) FROM page)) AS ahead,
       (SELECT list(post_id ORDER BY post_id) FROM page) AS posts
"""
_TILES = f"""
WITH page AS (SELECT unnest(?::BIGINT[]) AS post_id),
refused AS (
    SELECT d.post_id, list(d.reason ORDER BY t.position, d.reason) AS reasons
    FROM catalog.decisions AS d JOIN page USING (post_id) LEFT JOIN catalog.stages AS t USING (stage)
    WHERE NOT d.kept GROUP BY d.post_id
)
SELECT
    p.post_id, coalesce(s.label, k.persona) AS label, s.split, r.reasons, i.sha256 AS original,
    {images.SQUARE_COLUMNS}
FROM page JOIN catalog.posts AS p USING (post_id)
LEFT JOIN catalog.samples AS s USING (post_id)
LEFT JOIN catalog.kept AS k USING (post_id)
LEFT JOIN catalog.measures AS m USING (post_id)
LEFT JOIN catalog.images AS i USING (post_id)
LEFT JOIN refused AS r USING (post_id)
ORDER BY p.post_id
"""  # noqa: S608  # constants
_PREDICTED = """
SELECT q.post_id, list(DISTINCT l.label ORDER BY l.label) AS labels
FROM predictions AS q JOIN catalog.labels AS l ON l.leaf = q.predicted
WHERE q.post_id IN (SELECT unnest(?::BIGINT[])) AND {condition}
GROUP BY q.post_id
"""


def page(snapshot: Snapshot, selection: Selection, *, size: int = PAGE_POSTS) -> dict[str, Any]:
    """
    Returns one page of a selection: `tiles`, `count` and `first`, `previous` and `next`.

    `count` is the number of posts on all pages, `first` the number of the first tile from 1.
    `previous` and `next` are the value of `before` and `after` of the neighbouring page, or None.
    """
    table, condition, values = selection.posts(snapshot.leaves)
    kept = "NOT MATERIALIZED" if condition == "true" else "MATERIALIZED"
    bound, order = "true", "ASC"
    if selection.after is not None:
        bound = "post_id > ?"
        values.append(selection.after)
    elif selection.before is not None:
        bound, order = "post_id < ?", "DESC"
        values.append(selection.before)
    sql = _PAGE.format(kept=kept, table=table, condition=condition, bound=bound, order=order)
    rows = snapshot.rows(sql, [*values, size])
    # DuckDB 1.3 gives no row, not zeros, where it knows beforehand that no post fits.
    row = rows[0] if rows else dict[str, Any](posts=None, count=0, ahead=0)
    posts, count, ahead = row["posts"] or [], row["count"], row["ahead"]
    return {
        "count": count,
        "first": ahead + 1 if posts else 0,
        "previous": str(posts[0]) if posts and ahead else None,
        "next": str(posts[-1]) if posts and ahead + len(posts) < count else None,
        "tiles": _with_predictions(
            snapshot, selection, _with_images(snapshot, tiles(snapshot, posts))
        ),
    }


def tiles(snapshot: Snapshot, posts: Sequence[int]) -> list[dict[str, Any]]:
    """
    Returns the tiles of some posts, in the order of their ids.

    Ids are text, because numbers of JavaScript are exact up to 53 bits only. `square` and `original`
    are the version of the image's address, None where there is no image.
    """
    rows = snapshot.rows(_TILES, [list(posts)])
    for row in rows:
        snapshot.remember(row["post_id"], row)
    return [_tile(row) for row in rows]


def _tile(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "post_id": str(row["post_id"]),
        "label": row["label"],
        "split": row["split"],
        "reasons": row["reasons"] or [],
        "square": row["square"] and row["square"][:_HASH_SIGNS],
        "original": row["original"] and row["original"][:_HASH_SIGNS],
    }


def _with_images(snapshot: Snapshot, shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    Adds to each tile its image as a data URL, where it is small: one request then serves a page.

    An image that is large or cannot be read has None, and the browser requests it by its address.
    """
    return [
        {**tile, "data": images.inline(snapshot, int(tile["post_id"])) if tile["square"] else None}
        for tile in shown
    ]


def _with_predictions(
    snapshot: Snapshot, selection: Selection, shown: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Adds to each tile the labels that the selected predictions give its post."""
    if not selection.has_predictions:
        return shown
    condition, values = selection.predictions(snapshot.leaves)
    posts = [int(tile["post_id"]) for tile in shown]
    rows = snapshot.rows(_PREDICTED.format(condition=condition), [posts, *values])
    labels = {str(row["post_id"]): row["labels"] for row in rows}
    return [{**tile, "predicted": labels.get(tile["post_id"], [])} for tile in shown]
