"""Everything that the catalog knows of one post: the page that a tile opens."""

from typing import Any

from curation.browse.gallery import tiles
from curation.browse.snapshot import Snapshot

_MOST_RELATED = 60  # tiles of one group, of the children, or of the linked posts

_POST = """
SELECT p.*, s.label, s.leaf, s.split, s.white_background, s.shard, s.byte_offset
FROM catalog.posts AS p LEFT JOIN catalog.samples AS s USING (post_id) WHERE p.post_id = ?
"""
_JOURNEY = """
SELECT step, outcome, detail FROM catalog.journey WHERE post_id = ? ORDER BY position, outcome
"""
_REFUSALS = """
SELECT d.stage, d.reason, d.measured, d.threshold
FROM catalog.decisions AS d LEFT JOIN catalog.stages AS t USING (stage)
WHERE d.post_id = ? AND NOT d.kept ORDER BY t.position, d.reason
"""
_MEASURES = """
SELECT error, file_format, mode, width, height, border_white, saturation, sharpness, contrast,
       phash_quality
FROM catalog.measures WHERE post_id = ?
"""
_GROUP = """
SELECT o.post_id, o.representative, o.link, o.distance
FROM catalog.groups AS g JOIN catalog.groups AS o USING (group_id)
WHERE g.post_id = ? AND o.post_id <> g.post_id ORDER BY o.post_id LIMIT ?
"""
_LINKS = """
SELECT post_b AS post_id, link, distance, inliers, mirrored FROM catalog.links WHERE post_a = ?
UNION ALL
SELECT post_a, link, distance, inliers, mirrored FROM catalog.links WHERE post_b = ?
ORDER BY post_id, link LIMIT ?
"""
_CHILDREN = """
SELECT post_id FROM catalog.posts WHERE parent_id = ? ORDER BY post_id LIMIT ?
"""
_PREDICTIONS = """
SELECT q.run, q.seed, q.split, l.label AS predicted, q.probability, t.label AS true,
       q.label_probability, q.leaf = q.predicted AS is_right
FROM predictions AS q
LEFT JOIN catalog.labels AS l ON l.leaf = q.predicted
LEFT JOIN catalog.labels AS t ON t.leaf = q.leaf
WHERE q.post_id = ? ORDER BY q.run, q.seed
"""
_KINDS = ("character", "copyright", "artist", "general", "meta")


def detail(snapshot: Snapshot, post_id: int) -> dict[str, Any] | None:
    """Returns all facts of one post; None: the catalog has no such post."""
    rows = snapshot.rows(_POST, [post_id])
    if not rows:
        return None
    (post,) = rows
    measures = snapshot.rows(_MEASURES, [post_id])
    parent = [post["parent_id"]] if post["parent_id"] is not None else []
    children = [row["post_id"] for row in snapshot.rows(_CHILDREN, [post_id, _MOST_RELATED])]
    return {
        "tile": tiles(snapshot, [post_id])[0],
        "post": {
            name: value
            for name, value in post.items()
            if name not in ("post_id", "parent_id") and not name.startswith("tags_")
        },
        "tags": {kind: post[f"tags_{kind}"] or [] for kind in _KINDS},
        "journey": snapshot.rows(_JOURNEY, [post_id]),
        "refusals": snapshot.rows(_REFUSALS, [post_id]),
        "measures": measures[0] if measures else None,
        "group": _related(snapshot, snapshot.rows(_GROUP, [post_id, _MOST_RELATED])),
        "links": _related(snapshot, snapshot.rows(_LINKS, [post_id, post_id, _MOST_RELATED])),
        "parent": tiles(snapshot, parent),
        "parent_id": None if post["parent_id"] is None else str(post["parent_id"]),
        "children": tiles(snapshot, children),
        "predictions": snapshot.rows(_PREDICTIONS, [post_id]),
    }


def _related(snapshot: Snapshot, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the tile of each row's post with the row's other columns; posts not listed are left out."""
    shown = {tile["post_id"]: tile for tile in tiles(snapshot, [row["post_id"] for row in rows])}
    return [{**row, **shown[str(row["post_id"])]} for row in rows if str(row["post_id"]) in shown]
