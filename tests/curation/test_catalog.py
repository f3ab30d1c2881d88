"""Tests the catalog: the views over a small data folder and the queries of docs/queries.sql."""

import hashlib
import json
import shutil
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import catalog
from personae.catalog import connect
from personae.errors import DiskRefused, MissingColumn, MissingInput, PersonaeError

QUERIES = Path(__file__).resolve().parents[2] / "docs" / "queries.sql"


def questions() -> list[tuple[str, str]]:
    """Returns the ten queries, each as a pair of comment and SQL."""
    parts = QUERIES.read_text(encoding="utf-8").strip().split("\n\n")
    return [(part.split("\n", 1)[0], part.split("\n", 1)[1]) for part in parts]


def run(data_dir: Path) -> Path:
    """Runs the stage; returns the path of the catalog."""
    catalog.run(catalog.Params(), data_dir=data_dir, work_dir=data_dir)
    return data_dir / "catalog" / "catalog.duckdb"


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Returns the rows of a query."""
    with connect(path) as connection:
        return connection.execute(sql).fetchall()


def edit(path: Path, column: str, values: pa.Array) -> None:
    """Replaces a column of a Parquet file."""
    table = pq.read_table(path)
    index = table.schema.get_field_index(column)
    values = values.cast(table.schema.field(index).type)
    pq.write_table(table.set_column(index, table.schema.field(index), values), path)


@pytest.fixture
def path(curated) -> Path:
    """Returns the path of the catalog of the small data folder."""
    return curated.data_dir / "catalog" / "catalog.duckdb"


@pytest.mark.parametrize("question", questions(), ids=lambda question: question[0][3:40])
def test_question_of_the_readme_has_an_answer(path: Path, question) -> None:
    """Each query of docs/queries.sql runs, and its comment states the question."""
    comment, sql = question

    assert comment.startswith("-- ")
    assert comment.rstrip().endswith((".", "?", ")"))
    assert rows(path, sql) or "disagree" in comment


def test_there_are_ten_questions_of_which_three_read_tags() -> None:
    """docs/queries.sql has ten queries, and three of them read the largest table."""
    assert 10 == len(questions())
    assert 3 == sum("post_tags" in sql for _, sql in questions())


def test_tables_hold_every_row_of_the_parquet_files(curated, path: Path) -> None:
    """Each table has as many rows as its Parquet file."""
    for source in catalog.SOURCES:
        file = curated.data_dir / source.stage / source.file
        assert [(pq.read_metadata(file).num_rows,)] == rows(
            path, f"SELECT count(*) FROM {source.table}"
        )
    decisions = sum(
        pq.read_metadata(curated.data_dir / stage / "decisions.parquet").num_rows
        for stage in catalog.DECIDING
    )

    assert [(decisions,)] == rows(path, "SELECT count(*) FROM decisions")
    assert [] == rows(
        path,
        "SELECT post_id, count(*) AS tags FROM post_tags GROUP BY post_id EXCEPT "
        "SELECT post_id, len(tags_general) + len(tags_character) + len(tags_copyright) "
        "+ len(tags_artist) + len(tags_meta) FROM posts",
    )


def test_what_a_folder_does_not_say_is_null(curated) -> None:
    """The time 1970-01-01 and the uploader 0 of a folder's listing are null in the catalog."""
    file = curated.data_dir / "listing" / "posts.parquet"
    for column in ("created_at_utc", "uploader_id"):
        edit(file, column, pa.array([0, *[1] * (pq.read_metadata(file).num_rows - 1)]))
    path = run(curated.data_dir)
    count = "SELECT count(*) FROM posts WHERE created_at_utc IS NULL AND uploader_id IS NULL"

    assert [(1,)] == rows(path, count)
    assert [(1,)] == rows(path, f"{count} AND post_id = 1000")


def test_duplicate_groups_are_the_groups_of_several_posts(path: Path) -> None:
    """The table has one row for each group of several posts, with their number and the kept post."""
    counted = rows(
        path,
        "SELECT group_id, count(*), max(post_id) FILTER (representative), "
        "string_agg(DISTINCT link, ' ' ORDER BY link), max(distance) FROM groups "
        "GROUP BY group_id HAVING count(*) > 1 ORDER BY group_id",
    )

    assert counted
    assert counted == rows(path, "FROM duplicate_groups")


def test_post_tags_repeat_the_sample(path: Path) -> None:
    """Each tag has leaf, split and slice of the sample of its post; null where there is no sample."""
    joined = "FROM post_tags AS t LEFT JOIN samples AS s USING (post_id) WHERE "

    assert [] == rows(
        path,
        f"SELECT * {joined} (sample_leaf, sample_split, sample_white_background) "
        "IS DISTINCT FROM (leaf, split, white_background)",
    )
    assert [(2,)] == rows(path, f"SELECT count(DISTINCT sample_split IS NULL) {joined} true")


def test_post_tags_are_ordered_by_sample_category_and_post(path: Path) -> None:
    """Tags of samples come first, then those of all other posts, each by category and post."""
    tags = rows(path, "SELECT sample_leaf IS NULL, category, post_id FROM post_tags")

    assert sorted(tags) == tags


def test_decisions_name_the_persona(path: Path) -> None:
    """Each decision has the persona of its post, and null where the tag rules refused the post."""
    assert [] == rows(
        path,
        "SELECT * FROM decisions AS d LEFT JOIN kept AS k USING (post_id) "
        "WHERE post_persona IS DISTINCT FROM persona",
    )
    assert [(True,)] == rows(
        path,
        "SELECT DISTINCT post_persona IS NULL FROM decisions WHERE stage = 'decide' AND NOT kept",
    )


def test_funnel_adds_up(path: Path) -> None:
    """Each stage and the shards have exactly the posts that the stage before them kept."""
    kept = dict(rows(path, "SELECT stage, posts FROM funnel WHERE outcome = 'kept'"))
    for before, after in [
        ("filters", "duplicates"),
        ("duplicates", "persona"),
        ("persona", "split"),
    ]:
        decided = f"SELECT count(DISTINCT post_id) FROM decisions WHERE stage = '{after}'"
        assert [(kept[before],)] == rows(path, decided)

    assert kept["split"] == kept["shards"]
    assert [(1, "listing", "kept", 66)] == rows(path, "FROM funnel LIMIT 1")
    assert [(1,)] == rows(
        path, "SELECT posts FROM funnel WHERE stage = 'decide' AND outcome = 'monochrome_tag'"
    )


def test_rejections_carry_their_numbers(path: Path) -> None:
    """`rejections` lists every refusal with its stage and, after a comparison, both numbers."""
    assert rows(path, "SELECT count(*) FROM decisions WHERE NOT kept") == rows(
        path, "SELECT count(*) FROM rejections"
    )
    assert [] == rows(
        path, "FROM rejections WHERE reason = 'low_saturation' AND NOT measured < threshold"
    )


def test_label_counts_add_up(curated, path: Path) -> None:
    """The counts of train, val and test add up to the samples of each label, in leaf order."""
    counts = rows(path, "SELECT leaf, label, samples, train + val + test FROM label_counts")
    classes = pq.read_table(curated.data_dir / "persona" / "classes.parquet").to_pylist()

    assert [
        (row["leaf"], row["label"], row["samples"], row["samples"]) for row in classes
    ] == counts


def test_white_background_lists_the_slice(path: Path) -> None:
    """The view lists exactly the samples with a white background."""
    assert rows(path, "SELECT post_id FROM samples WHERE white_background ORDER BY 1") == rows(
        path, "SELECT post_id FROM white_background ORDER BY 1"
    )
    assert [(0.9,)] <= rows(path, "SELECT min(border_white) FROM white_background")


def test_unusual_ground_is_that_of_a_tenth_of_a_label(path: Path) -> None:
    """The view has the samples whose ground at most a tenth of their label has, with the share."""
    samples = rows(
        path,
        "SELECT post_id, label, white_background, list_contains(tags, 'checkered_background') "
        "FROM dataset",
    )
    grounds = {
        post_id: (
            label,
            "white" if white else "checkered_background" if checkered else "not tagged",
        )
        for post_id, label, white, checkered in samples
    }
    shared, labels = Counter(grounds.values()), Counter(label for label, _ in grounds.values())
    expected = {
        (post_id, ground, shared[label, ground] / labels[label])
        for post_id, (label, ground) in grounds.items()
        if 10 * shared[label, ground] <= labels[label]
    }

    assert {"white", "checkered_background"} & {ground for _, ground, _ in expected}
    assert expected == set(rows(path, "SELECT post_id, ground, share FROM unusual_ground"))


def test_look_alikes_pair_a_form_with_its_base(path: Path) -> None:
    """The view pairs a form with its base, and the most similar names of one copyright."""
    assert [
        ("coral", "coral_(winter)", "form_and_base"),
        ("amber", "beryl", "near_name"),
    ] == rows(path, "SELECT label_a, label_b, kind FROM look_alikes")


def test_leaks_is_empty_for_a_sound_split(path: Path) -> None:
    """For a sound split the view is empty: no two splits share a file, image, group or link."""
    assert [] == rows(path, "FROM leaks")


def test_dataset_places_the_bytes_of_every_sample(curated, path: Path) -> None:
    """Shard, offset and size of each row address the bytes of the image that `measure` wrote."""
    samples = rows(
        path,
        "SELECT d.shard, d.image_offset, d.image_bytes, m.image_sha256, artist, licence, tags "
        "FROM dataset AS d JOIN measures AS m USING (post_id)",
    )
    for shard, offset, size, sha256, artist, licence, tags in samples:
        data = (curated.data_dir / "shards" / shard).read_bytes()[offset : offset + size]
        assert sha256 == hashlib.sha256(data).hexdigest()
        assert artist.startswith("artist_")
        assert licence.startswith("CC BY")
        assert "solo" in tags

    assert [(len(samples),)] == rows(path, "SELECT count(*) FROM samples")


def test_builds_names_root_hash_versions_and_parameters(curated, path: Path) -> None:
    """The view has one row with root hash, versions and parameters of the build."""
    manifest = json.loads((curated.data_dir / "shards" / "manifest.json").read_text())
    [(root, versions, params)] = rows(path, "SELECT root_sha256, versions, params FROM builds")

    assert manifest["root_sha256"] == root
    assert manifest["versions"] == json.loads(versions)
    assert {"measure", "duplicates", "split", "shards"} <= set(json.loads(params))


def test_older_duckdb_can_read_the_file(path: Path) -> None:
    """The storage version in the file header is at most 65, the version of DuckDB 1.2."""
    magic, version = struct.unpack_from("<4sQ", path.read_bytes(), 8)

    assert b"DUCK" == magic
    assert version <= 65


def test_catalog_works_under_another_name(path: Path, tmp_path: Path) -> None:
    """The views work after the catalog file is renamed."""
    shutil.copy(path, tmp_path / "other.duckdb")

    assert rows(path, "FROM funnel") == rows(tmp_path / "other.duckdb", "FROM funnel")


def test_rebuild_gives_the_same_answers(curated, path: Path) -> None:
    """A rebuild over a torn `.part` file gives the same result for every query."""
    before = {sql: rows(path, sql) for _, sql in questions()}
    (path.parent / "catalog.duckdb.part").write_bytes(b"torn")
    run(curated.data_dir)

    assert before == {sql: rows(path, sql) for _, sql in questions()}
    ((root,),) = rows(path, "SELECT root_sha256 FROM builds")
    expected = ["catalog.duckdb", "catalog.json", f"samples-{root}.parquet"]
    assert expected == sorted(file.name for file in path.parent.iterdir())


def test_readers_cannot_write(path: Path) -> None:
    """The catalog opens read-only."""
    with (
        connect(path) as connection,
        pytest.raises(duckdb.InvalidInputException, match="read-only"),
    ):
        connection.execute("DELETE FROM posts")


def test_missing_file_and_column_are_named(curated) -> None:
    """A missing file or column is an error with file, column and stage; the old catalog stays."""
    links = curated.data_dir / "duplicates" / "links.parquet"
    pq.write_table(pq.read_table(links).drop_columns(["distance"]), links)
    with pytest.raises(MissingColumn, match=r"links\.parquet lacks column distance"):
        run(curated.data_dir)
    (curated.data_dir / "split" / "certificate.json").unlink()
    links.unlink()
    with pytest.raises(MissingInput, match=r"links\.parquet is absent: stage 'duplicates'"):
        run(curated.data_dir)

    assert (curated.data_dir / "catalog" / "catalog.duckdb").exists()


def test_damaged_json_and_catalog_are_named(curated, path: Path) -> None:
    """A manifest that is not JSON and a catalog that is not a database are clear errors."""
    (curated.data_dir / "shards" / "manifest.json").write_text("{")
    with pytest.raises(MissingInput, match=r"manifest\.json is no readable JSON"):
        run(curated.data_dir)
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(MissingInput, match=r"cannot be opened: .*Stage 'catalog' builds it anew"):
        rows(path, "FROM posts")
    path.unlink()
    with pytest.raises(MissingInput, match="is absent: stage 'catalog' writes it"):
        rows(path, "FROM posts")


def test_unwritable_folder_is_a_clear_error(curated, path: Path) -> None:
    """If the folder is not writable, the error says what to do."""
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    (path.parent / "catalog.duckdb.part.wal").mkdir()

    with pytest.raises((DiskRefused, IsADirectoryError)):
        run(curated.data_dir)


@settings(max_examples=4)  # each example holds about sixty posts
@given(st.data())
def test_any_text_survives(tmp_path_factory, _curated_once, data) -> None:  # noqa: PT019  # Hypothesis reuses one private copy
    """Tags, sources and the folder name survive a round trip, whatever text they contain."""
    data_dir = tmp_path_factory.mktemp("it's [odd] *") / "data"
    shutil.copytree(_curated_once.data_dir, data_dir)
    posts = data_dir / "listing" / "posts.parquet"
    table = pq.read_table(posts)
    words = data.draw(
        st.lists(
            st.lists(st.text(min_size=1), max_size=3), min_size=len(table), max_size=len(table)
        )
    )
    sources = [" ".join(tags) for tags in words]
    edit(posts, "source", pa.array(sources))
    edit(posts, "tags_general", pa.array(words, pa.list_(pa.string())))
    path = run(data_dir)
    ids = table["post_id"].to_pylist()

    assert list(zip(ids, sources, words, strict=True)) == rows(
        path, "SELECT post_id, source, tags_general FROM posts ORDER BY post_id"
    )
    assert sorted(
        (post, tag) for post, tags in zip(ids, words, strict=True) for tag in tags
    ) == sorted(rows(path, "SELECT post_id, tag FROM post_tags WHERE category = 0"))


def _subclasses(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(_subclasses(below) for below in kind.__subclasses__()))


DUCKDB_ERRORS = sorted(_subclasses(duckdb.Error), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", DUCKDB_ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_of_duckdb_is_translated(kind: type[Exception], tmp_path: Path) -> None:
    """Every DuckDB error class becomes an error of the package, or KeyboardInterrupt."""
    expected = KeyboardInterrupt if kind is duckdb.InterruptException else PersonaeError

    with pytest.raises(expected) as caught, catalog.translated_errors(tmp_path / "catalog.duckdb"):
        raise kind("Query failed")
    assert caught.value.__cause__ is not None


def test_interruption_of_duckdb_is_ctrl_c(tmp_path: Path) -> None:
    """A RuntimeError of DuckDB that reports Ctrl-C becomes KeyboardInterrupt; others are raised."""
    with pytest.raises(KeyboardInterrupt), catalog.translated_errors(tmp_path):
        raise RuntimeError("Query interrupted")
    with pytest.raises(RuntimeError, match="another"), catalog.translated_errors(tmp_path):
        raise RuntimeError("another error")
