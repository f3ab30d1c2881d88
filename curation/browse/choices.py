"""What the filters of the browse page offer: labels, splits, reasons, runs, tags, confusions."""

from typing import Any

from curation.browse.selection import Selection
from curation.browse.snapshot import Snapshot

_MOST_TAGS = 20
_MOST_PAIRS = 40

_LABELS = """
SELECT label, leaf, count(s.post_id) AS samples
FROM catalog.labels LEFT JOIN catalog.samples AS s USING (label, leaf) GROUP BY ALL ORDER BY leaf
"""
_OTHERS = """
SELECT persona AS label, NULL AS leaf, 0 AS samples FROM catalog.kept
WHERE persona NOT IN (SELECT label FROM catalog.labels) GROUP BY persona ORDER BY persona
"""
_SPLITS = """
SELECT split, count(*) AS samples FROM catalog.samples GROUP BY split
ORDER BY CASE split WHEN 'train' THEN 1 WHEN 'val' THEN 2 ELSE 3 END
"""
_REASONS = """
SELECT stage, outcome AS reason, posts FROM catalog.funnel
WHERE outcome <> 'kept' ORDER BY position, posts DESC, reason
"""
_RUNS = """
SELECT run, list(DISTINCT seed ORDER BY seed) AS seeds, count(DISTINCT post_id) AS posts
FROM predictions GROUP BY run ORDER BY run
"""
_BUILD = """
SELECT left(root_sha256, 12) AS root, (SELECT count(*) FROM catalog.posts) AS posts,
       (SELECT count(*) FROM catalog.samples) AS samples
FROM catalog.builds
"""
_TAGS = """
SELECT name, post_count AS posts FROM catalog.tags WHERE starts_with(name, ?)
ORDER BY post_count DESC NULLS LAST, name LIMIT ?
"""
_PAIRS = """
SELECT t.label AS true, l.label AS predicted, count(*) AS predictions,
       count(DISTINCT q.post_id) AS posts
FROM predictions AS q
JOIN catalog.labels AS t ON t.leaf = q.leaf
JOIN catalog.labels AS l ON l.leaf = q.predicted
WHERE q.leaf <> q.predicted AND {condition}
GROUP BY ALL ORDER BY predictions DESC, t.label, l.label LIMIT ?
"""


def choices(snapshot: Snapshot) -> dict[str, Any]:
    """Returns every value that a filter offers, with its number of posts, and the build."""
    return snapshot.kept("choices", lambda: _choices(snapshot))


def _choices(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "build": snapshot.rows(_BUILD)[0],
        "labels": snapshot.rows(_LABELS) + snapshot.rows(_OTHERS),
        "splits": snapshot.rows(_SPLITS),
        "reasons": snapshot.rows(_REASONS),
        "runs": snapshot.rows(_RUNS),
        "notices": snapshot.notices,
    }


def tags(snapshot: Snapshot, prefix: str) -> list[dict[str, Any]]:
    """Returns the most frequent tags that begin with `prefix`."""
    return snapshot.rows(_TAGS, [prefix, _MOST_TAGS])


def confusions(snapshot: Snapshot, selection: Selection) -> list[dict[str, Any]]:
    """Returns the most frequent wrong predictions of a selection: pairs of true and predicted label."""
    condition, values = selection.predictions(snapshot.leaves)
    return snapshot.rows(_PAIRS.format(condition=condition), [*values, _MOST_PAIRS])
