"""Tests the folds of cross-validation: off by default, by group, stable, in the catalog."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from curation import split
from curation.__main__ import main
from curation.errors import TooFewSamples
from personae import selection
from personae.catalog import connect
from tests.curation.split_fixture import Folder

FOLDS = split.Params(tolerance=1.0, least_difference=0, folds=3)


def run(folder: Folder, params: split.Params = FOLDS) -> dict[int, tuple[str, int | None]]:
    """Returns split and fold of each kept post."""
    return {row["post_id"]: (row["split"], row["fold"]) for row in folder.run(params)}


def test_unset_folds_leave_no_trace(tmp_path: Path) -> None:
    """Without the parameter the table has neither the column nor the parameter in its metadata."""
    folder = Folder(tmp_path, posts=60)
    folder.run()
    schema = pq.read_schema(folder.data_dir / "split" / "split.parquet")

    assert "fold" not in schema.names
    assert "folds" not in json.loads(schema.metadata[b"personae.params"])


def test_folds_change_no_split(tmp_path: Path) -> None:
    """The splits are those without folds; train and val have folds, test has none."""
    folder = Folder(tmp_path, posts=100)
    plain = {row["post_id"]: row["split"] for row in folder.run()}
    rows = run(folder)

    assert plain == {post: name for post, (name, _) in rows.items()}
    for name in ("train", "val"):
        assert {0, 1, 2} == {fold for each, fold in rows.values() if each == name}
    assert {None} == {fold for each, fold in rows.values() if each == "test"}


def test_copies_share_a_fold(tmp_path: Path) -> None:
    """Linked posts, and posts of a group of the source, are in one fold."""
    folder = Folder(tmp_path, posts=200)
    posts = sorted(folder.labels)
    folder.links = [(posts[0], posts[40]), (posts[40], posts[80])]
    folder.given_groups = {
        post: f"scene {number % 20}" for number, post in enumerate(posts[100:200])
    }
    rows = run(folder)

    assert 1 == len({rows[posts[number]] for number in (0, 40, 80)})
    scenes = [{rows[post] for post in posts[100 + n : 200 : 20]} for n in range(20)]
    assert {1} == {len(places) for places in scenes}


LINKS = st.lists(st.tuples(st.integers(0, 119), st.integers(0, 119)), max_size=60)


@settings(max_examples=10, deadline=None)
@given(LINKS, st.integers(80, 119))
def test_a_grown_data_set_moves_no_post(links, cut) -> None:
    """Whatever is added and linked, every earlier post keeps its split and its fold, or its refusal."""
    with TemporaryDirectory() as name:
        small, large = Folder(Path(name) / "a", labels=1), Folder(Path(name) / "b", labels=1)
        posts = sorted(large.labels)[:120]
        large.labels = dict.fromkeys(posts, "label_0")
        small.labels = dict.fromkeys(posts[:cut], "label_0")
        large.links = [(posts[a], posts[b]) for a, b in links if a != b]
        small.links = [ends for ends in large.links if max(ends) <= posts[cut - 1]]
        try:
            before, after = run(small), run(large)
        except TooFewSamples:
            assume(False)  # so many posts are joined that a split or a fold is empty

    assert before == {post: after[post] for post in after if post in small.labels}


def test_a_given_split_has_folds(tmp_path: Path) -> None:
    """With `mode: given` the splits are those of the source, and train and val get folds."""
    folder = Folder(tmp_path, posts=60)
    folder.given = {post: ("train", "val", "test")[post // 7 % 3] for post in folder.labels}
    rows = run(folder, FOLDS.model_copy(update={"mode": "given"}))

    assert folder.given == {post: name for post, (name, _) in rows.items()}
    assert {(name, fold is None) for name, fold in rows.values()} == {
        ("train", False),
        ("val", False),
        ("test", True),
    }


def test_label_without_a_sample_in_a_fold_is_an_error(tmp_path: Path) -> None:
    """A label that a fold would lack stops the stage, which names label, fold and remedies."""
    with pytest.raises(TooFewSamples, match=r"Label 'label_0' has no sample in fold \d+ of 50"):
        run(Folder(tmp_path, posts=20, labels=1), FOLDS.model_copy(update={"folds": 50}))


def test_a_query_selects_the_training_data_of_a_fold(curated, tmp_path: Path, capsys) -> None:
    """The catalog has the folds, `verify` accepts it, and a selection leaves a fold out."""
    options = ["--data", str(curated.data_dir), "--work", str(tmp_path)]
    shares = ["--train", "0.4", "--val", "0.3", "--test", "0.3", "--tolerance", "1", "--seed", "2"]
    assert 0 == main(["split", *options, *shares, "--folds", "2"])
    for stage in (["shards", "--samples-per-shard", "10"], ["catalog"]):
        assert 0 == main([*stage, *options])
    path = tmp_path / "fold.parquet"
    sql = "SELECT post_id FROM dataset WHERE split = 'test' OR fold <> 0"
    assert 0 == main(["select", sql, "-o", str(path), "--data", str(curated.data_dir)])
    rows = pq.read_table(curated.data_dir / "split" / "split.parquet").to_pylist()

    assert {row["post_id"] for row in rows if row["fold"] != 0} == set(
        selection.read(path, most=len(rows)).samples["post_id"].to_pylist()
    )
    capsys.readouterr()
    assert 0 == main(["verify", "--data", str(curated.data_dir)]), capsys.readouterr()


def test_catalog_without_folds_has_an_empty_column(curated) -> None:
    """Where no folds were drawn, `fold` is NULL, so that queries are the same."""
    with connect(curated.data_dir / "catalog" / "catalog.duckdb") as connection:
        rows = connection.execute("SELECT DISTINCT fold FROM dataset").fetchall()
        order = connection.execute("SELECT post_id FROM splits").fetchall()

    assert [(None,)] == rows
    assert sorted(order) == order
