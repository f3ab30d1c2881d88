"""Tests the view `journey`: the steps of each post through all stages."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from curation import catalog
from personae.catalog import connect

JOINED = """
SELECT d.post_id, s.position, d.stage, coalesce(d.reason, 'kept') AS outcome, coalesce(
    CASE WHEN d.stage = 'duplicates' THEN concat_ws(', ', 'group of ' || g.group_id,
                                                    'joined by ' || g.link, 'distance ' || g.distance)
         WHEN d.threshold IS NOT NULL THEN printf('%g against %g', d.measured, d.threshold)
         ELSE printf('%g', d.measured) END,
    CASE d.stage WHEN 'decide' THEN k.persona WHEN 'persona' THEN k.persona
         WHEN 'download' THEN i.variant || ', ' || i.file_bytes || ' bytes in ' || i.segment
         WHEN 'split' THEN p.split || if(p.white_background, ', white background', '') END) AS detail
FROM decisions AS d JOIN stages AS s USING (stage) LEFT JOIN kept AS k USING (post_id)
LEFT JOIN images AS i USING (post_id) LEFT JOIN groups AS g USING (post_id)
LEFT JOIN splits AS p USING (post_id)
"""


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Returns the rows of a query."""
    with connect(path) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture
def path(curated) -> Path:
    """Returns the path of the catalog of the small data folder."""
    return curated.data_dir / "catalog" / "catalog.duckdb"


def test_journey_of_a_packed_post_names_every_stage(curated, path: Path) -> None:
    """The journey of a post in the shards lists all nine stages in order, each with its outcome."""
    journey = rows(
        path,
        "SELECT step, outcome FROM journey WHERE post_id = (SELECT min(post_id) FROM samples) "
        "ORDER BY position",
    )

    assert list(catalog.STAGES) == [step for step, _ in journey]
    assert ["listed", "kept", "kept", "decoded", *["kept"] * 4, "packed"] == [
        outcome for _, outcome in journey
    ]


def test_journey_of_a_refused_post_ends_where_it_was_refused(curated, path: Path) -> None:
    """The journey of a refused post ends at the refusing stage, with the compared numbers."""
    assert [("listing", "listed"), ("decide", "comic")] == rows(
        path, "SELECT step, outcome FROM journey WHERE post_id = 5001 ORDER BY position"
    )
    assert [("listing", "malformed_post")] == rows(
        path, "SELECT step, outcome FROM journey WHERE post_id = 5000"
    )
    grey = min(post for post, truth in curated.truth.items() if truth == "low_saturation")
    last = rows(path, f"FROM journey WHERE post_id = {grey} ORDER BY position DESC LIMIT 1")[0]

    assert ("filters", "low_saturation") == last[2:4]
    assert " against " in last[4]


def test_journey_has_each_decision_with_its_detail(path: Path) -> None:
    """The steps with a decision are those of `decisions`, joined with the tables that they describe."""
    journey = rows(
        path, "FROM journey WHERE step NOT IN ('measure', 'shards') AND outcome <> 'listed'"
    )

    assert Counter(rows(path, JOINED)) == Counter(journey)
    assert {"duplicates", "split", "download"} < {step for _, _, step, _, _ in journey}


def test_journey_of_a_post_of_a_subquery_shares_no_branch(path: Path) -> None:
    """The branches share no part that is kept whole: a condition on the post reaches each of them."""
    with connect(path) as connection:
        plan = connection.execute(
            "EXPLAIN FROM journey WHERE post_id = (SELECT max(post_id) FROM rejections)"
        ).fetchall()[0][1]

    assert "UNION" in plan.upper()
    assert "CTE" not in plan
