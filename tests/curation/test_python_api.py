"""Tests the catalog behind `personae.Dataset`: queries, conditions, posts, and refusals."""

import json

import duckdb
import pytest

from personae import Dataset
from personae.errors import BadQuery, MissingInput


def test_query_gives_the_rows_of_the_catalog(curated):
    """Counts of labels are those of the samples; a second column of one name gets a number."""
    data = Dataset(curated.data_dir)
    sql = "SELECT label, count(*) AS n FROM dataset GROUP BY label ORDER BY label"
    counted = {label: sum(sample.label == label for sample in data) for label in data.labels}

    assert counted == {row["label"]: row["n"] for row in data.query(sql).to_pylist()}
    assert ["label", "label_1"] == data.query("SELECT label, label FROM dataset").column_names
    assert 0 == data.query("FROM dataset WHERE false").num_rows


def test_condition_chooses_samples(curated):
    """`where` keeps the samples of the condition, their order and the numbers of their labels."""
    data = Dataset(curated.data_dir)
    white = data.where("white_background -- a comment")
    nested = white.where("split = 'train'")

    assert [s.key for s in data if s.white_background] == [sample.key for sample in white]
    assert [s.key for s in white if s.split == "train"] == [sample.key for sample in nested]
    assert {s.key: s.leaf for s in data}.items() >= {s.key: s.leaf for s in white}.items()
    assert 0 < len(nested) < len(white) < len(data)
    assert len(nested) == len(nested.torch("train"))
    assert 0 == len(data.where("rating = 'e'"))


def test_post_is_the_row_of_the_view(curated):
    """Each sample has the row of its own post, tags included, in any order of access."""
    data = Dataset(curated.data_dir)
    rows = {row["post_id"]: row for row in data.query("FROM dataset").to_pylist()}

    assert all(sample.post == rows[sample.post_id] for sample in reversed(list(data)))
    assert data[0].post["rating"] == "g"
    assert "solo" in data[-1].post["tags"]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC", "syntax error"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("", "one statement"),
        ("SELECT label::INT FROM dataset", "Conversion Error"),
        ("FROM read_csv('/etc/passwd')", "disabled"),
        ("CREATE TABLE t (i INT)", "read-only"),
        ("FROM predictions", "does not exist"),
    ],
)
def test_bad_sql_is_refused(curated, sql, message):
    """SQL that is wrong, or that does more than read, is an error with DuckDB's reason."""
    with pytest.raises(BadQuery, match=message):
        Dataset(curated.data_dir).query(sql)


@pytest.mark.parametrize(
    "condition",
    ["rating =", "true) UNION ALL SELECT label FROM dataset WHERE (true", "nothing = 1"],
)
def test_condition_that_is_none_is_refused(curated, condition):
    """A condition must be one on the columns of `dataset`."""
    with pytest.raises(BadQuery):
        Dataset(curated.data_dir).where(condition)


def test_catalog_of_another_build_is_refused(curated):
    """A catalog that describes other shards, or is none, is named with its stage."""
    path = curated.data_dir / "catalog" / "catalog.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE builds SET root_sha256 = 'other'")
    with pytest.raises(MissingInput, match=r"describes other shards.*Run stage 'catalog'"):
        Dataset(curated.data_dir).query("FROM dataset")
    with duckdb.connect(str(path)) as connection:
        connection.execute("DROP TABLE builds")
        connection.execute("CREATE VIEW builds AS FROM read_text('/etc/hostname')")
    with pytest.raises(MissingInput, match="is no catalog"):
        _ = Dataset(curated.data_dir)[0].post


def test_leaf_without_a_label_is_refused(curated):
    """samples.parquet that disagrees with classes.json is an error, not an index out of range."""
    from personae.errors import BadShard

    path = curated.data_dir / "shards" / "classes.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"labels": document["labels"][:1]}))

    with pytest.raises(BadShard, match=r"a leaf that classes.json does not have"):
        Dataset(curated.data_dir)
