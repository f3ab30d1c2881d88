"""
One page of the grid: the posts of a selection in the order of their ids, and what each tile shows.

Pages are cut by post id, not by position: the last page of a large catalog is as quick as the first.
"""

from collections.abc import Sequence
from typing import Any

from curation.browse.selection import Selection
from curation.browse.snapshot import Snapshot

PAGE_POSTS = 60
_HASH_SIGNS = 16  # of a sha256 in the address of an image: a browser may keep that address for ever

_TILES = """
WITH page AS (SELECT unnest(?::BIGINT[]) AS post_id),
refused AS (
    SELECT d.post_id, list(d.reason ORDER BY t.position, d.reason) AS reasons
    FROM catalog.decisions AS d JOIN page USING (post_id) LEFT JOIN catalog.stages AS t USING (stage)
    WHERE NOT d.kept GROUP BY d.post_id
)
SELECT
    p.post_id, coalesce(s.label, k.persona) AS label, s.split, r.reasons,
    m.image_sha256 AS square, i.sha256 AS original
FROM page JOIN catalog.posts AS p USING (post_id)
LEFT JOIN catalog.samples AS s USING (post_id)
LEFT JOIN catalog.kept AS k USING (post_id)
LEFT JOIN catalog.measures AS m USING (post_id)
LEFT JOIN catalog.images AS i USING (post_id)
LEFT JOIN refused AS r USING (post_id)
ORDER BY p.post_id
"""
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
    condition, values = selection.posts(snapshot.leaves)
    bound, order, limits = "true", "ASC", list[object]()
    if selection.after is not None:
        bound, limits = "p.post_id > ?", [selection.after]
    elif selection.before is not None:
        bound, order, limits = "p.post_id < ?", "DESC", [selection.before]
    rows = snapshot.rows(
        f"SELECT p.post_id FROM catalog.posts AS p WHERE {condition} AND {bound} "  # noqa: S608  # constants with ?
        f"ORDER BY p.post_id {order} LIMIT {size + 1}",
        [*values, *limits],
    )
    has_more = len(rows) > size
    posts = sorted(row["post_id"] for row in rows[:size])
    start = posts[0] if posts else 0
    (counted,) = snapshot.rows(
        "SELECT count(*) AS count, count(*) FILTER (p.post_id < ?) AS ahead "  # noqa: S608  # constants with ?
        f"FROM catalog.posts AS p WHERE {condition}",
        [start, *values],
    )
    is_backwards = selection.before is not None
    is_last = not posts or not (is_backwards or has_more)
    return {
        "count": counted["count"],
        "first": counted["ahead"] + 1 if posts else 0,
        "previous": str(posts[0]) if posts and counted["ahead"] else None,
        "next": None if is_last else str(posts[-1]),
        "tiles": _with_predictions(snapshot, selection, tiles(snapshot, posts)),
    }


def tiles(snapshot: Snapshot, posts: Sequence[int]) -> list[dict[str, Any]]:
    """
    Returns the tiles of some posts, in the order of their ids.

    Ids are text, because numbers of JavaScript are exact up to 53 bits only. `square` and `original`
    are the version of the image's address, None where there is no image.
    """
    return [_tile(row) for row in snapshot.rows(_TILES, [list(posts)])]


def _tile(row: dict[str, Any]) -> dict[str, Any]:
    versions = {name: row[name] and row[name][:_HASH_SIGNS] for name in ("square", "original")}
    return {**row, **versions, "post_id": str(row["post_id"]), "reasons": row["reasons"] or []}


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
