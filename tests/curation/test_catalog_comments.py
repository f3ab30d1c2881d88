"""Tests that the catalog describes itself: each table, view and column has a comment."""

from curation.__main__ import main
from personae.catalog import connect


def test_every_table_view_and_column_has_a_comment(curated) -> None:
    """No table, view or column of the catalog lacks a comment."""
    objects = """
        SELECT table_name, comment FROM duckdb_tables() UNION ALL
        SELECT view_name, comment FROM duckdb_views() WHERE NOT internal UNION ALL
        SELECT table_name || '.' || column_name, comment FROM duckdb_columns() WHERE NOT internal
    """
    with connect(curated.data_dir / "catalog" / "catalog.duckdb") as connection:
        comments = dict(connection.execute(objects).fetchall())

    assert {"posts", "journey", "funnel.outcome", "dataset.artist"} < set(comments)
    assert [] == [name for name, comment in comments.items() if not comment]
    assert [] == [name for name, comment in comments.items() if "`" in (comment or "")]
    assert comments["dataset.rating"] == comments["posts.rating"]


def test_query_shows_the_comments(curated, capsys) -> None:
    """The query of the documentation gives the columns of a view with their comments."""
    sql = "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'funnel'"

    assert main(["query", sql, "--csv", "--data", str(curated.data_dir)]) == 0
    assert 'outcome,"kept, or the reason code of the rule that refused"' in capsys.readouterr().out
