"""Tests that no damage of the catalog passes: flipped bits, changed rows, changed definitions."""

import os
import random
import shutil
from pathlib import Path

import duckdb
import pytest

from curation import catalog, catalog_check
from curation.documents import CatalogDocument, ManifestDocument

# Each of the tables, with a change of its rows.
ROWS = {
    "posts": "UPDATE posts SET rating = 'e' WHERE post_id = 1000",
    "posts, tags of one": "UPDATE posts SET tags_meta = ['x'] WHERE post_id = 1000",
    "posts, one removed": "DELETE FROM posts WHERE post_id = 1000",
    "posts, one twice": "INSERT INTO posts SELECT * FROM posts WHERE post_id = 1000",
    "tags": "UPDATE tags SET post_count = post_count + 1 WHERE name = 'solo'",
    "implications": "DELETE FROM implications",
    "aliases": "INSERT INTO aliases VALUES ('a', 'b')",
    "kept": "UPDATE kept SET persona = 'amber'",
    "personae": "UPDATE personae SET qualifies = false",
    "images": "UPDATE images SET sha256 = 'x' WHERE post_id = 1000",
    "measures": "UPDATE measures SET saturation = saturation + 0.001 WHERE post_id = 1000",
    "measures, two exchanged": (
        "UPDATE measures SET image_sha256 = (SELECT any_value(m.image_sha256) FROM measures AS m "
        "WHERE m.post_id = 2001 - measures.post_id) WHERE post_id IN (1000, 1001)"
    ),
    "groups": "UPDATE groups SET representative = NOT representative",
    "links": "DELETE FROM links WHERE post_a = (SELECT min(post_a) FROM links)",
    "labels": "UPDATE labels SET leaf = 3 - leaf",
    "splits": "UPDATE splits SET split = 'train' WHERE split = 'test'",
    "samples": "UPDATE samples SET label = 'zzz' WHERE post_id = 1000",
    "samples, offset": "UPDATE samples SET byte_offset = byte_offset + 512 WHERE post_id = 1000",
    "decisions": "UPDATE decisions SET threshold = 5 WHERE stage = 'filters'",
    "decisions, persona": "UPDATE decisions SET post_persona = 'amber'",
    "stages": "UPDATE stages SET position = 1",
    "post_tags": "DELETE FROM post_tags WHERE tag = 'solo'",
    "post_tags, category": "UPDATE post_tags SET category = 5",
    "post_tags, split": "UPDATE post_tags SET sample_split = 'train' WHERE sample_split = 'test'",
    "shards": "UPDATE shards SET sha256 = 'x' WHERE split = 'val'",
    "builds": "UPDATE builds SET versions = '{}'",
    "builds, params": "UPDATE builds SET params = '{}'",
    "builds, none": "DELETE FROM builds",
    "funnel": "UPDATE funnel SET posts = posts + 1 WHERE stage = 'decide'",
    "duplicate_groups": "DELETE FROM duplicate_groups",
    "label_counts": "UPDATE label_counts SET test = test - 1, train = train + 1 WHERE leaf = 0",
    "look_alikes": "UPDATE look_alikes SET kind = 'one_base'",
    "leaks": "INSERT INTO leaks VALUES ('one_file', 1000, 1001, 'train', 'test')",
}
DEFINITIONS = {
    "leaks empty": (
        "DROP TABLE leaks; CREATE VIEW leaks AS SELECT 'a' AS kind, 1 AS post_a, 'b' AS split_a, "
        "2 AS post_b, 'c' AS split_b WHERE false"
    ),
    "leaks without end": (
        "DROP TABLE leaks; CREATE VIEW leaks AS SELECT range AS kind, 1 AS post_a, 'b' AS split_a, "
        "2 AS post_b, 'c' AS split_b FROM range(1000000000000)"
    ),
    "leaks of a file": (
        "DROP TABLE leaks; CREATE VIEW leaks AS SELECT content AS kind, 1 AS post_a, 'b' AS split_a, "
        "2 AS post_b, 'c' AS split_b FROM read_text('/etc/hostname')"
    ),
    "funnel": "DROP TABLE funnel; CREATE VIEW funnel AS SELECT 1 AS a",
    "journey": "CREATE OR REPLACE VIEW journey AS SELECT 1 AS a",
    "a view removed": "DROP VIEW rejections",
    "a view added": "CREATE VIEW more AS SELECT 1 AS a",
    "a table removed": "DROP TABLE tags",
    "a table added": "CREATE TABLE more (a INTEGER)",
    "a column added": "ALTER TABLE stages ADD COLUMN more INTEGER",
    "a column of another type": "ALTER TABLE shards ALTER samples TYPE VARCHAR",
    "a comment of a table": "COMMENT ON TABLE posts IS 'other'",
    "a comment of a view": "COMMENT ON VIEW journey IS 'other'",
    "a comment of a column": "COMMENT ON COLUMN posts.rating IS 'other'",
    "a comment of a column of a view": "COMMENT ON COLUMN dataset.rating IS 'other'",
    "a macro": "CREATE MACRO leaf_of(a) AS a + 1",
    "an index": "CREATE INDEX more ON stages (position)",
}


@pytest.fixture(scope="module")
def data_dir(_curated_once, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("catalogs") / "data"
    shutil.copytree(_curated_once.data_dir, folder)
    shutil.copytree(folder / "catalog", folder.parent / "sound")
    return folder


@pytest.fixture
def path(data_dir: Path) -> Path:
    """Returns the path of a sound catalog."""
    shutil.copytree(data_dir.parent / "sound", data_dir / "catalog", dirs_exist_ok=True)
    return data_dir / "catalog" / "catalog.duckdb"


def problems(path: Path) -> list[str]:
    data_dir = path.parent.parent
    manifest = ManifestDocument.read(data_dir / "shards" / "manifest.json")
    return list(catalog_check.problems(data_dir, manifest))


def seal(path: Path) -> None:
    """Gives catalog.json the sha256 of the present file."""
    document = CatalogDocument.read(path.with_suffix(".json"))
    changes = {"sha256": catalog.sha256(path), "bytes": path.stat().st_size}
    document.model_copy(update=changes).write(path.with_suffix(".json"))


def changed(path: Path, statement: str) -> list[str]:
    """Runs SQL on the catalog, seals it, and returns the problems."""
    with duckdb.connect(str(path)) as connection:
        connection.execute(statement)
    seal(path)
    return problems(path)


def test_sound_catalog_passes_also_after_it_was_opened(path: Path) -> None:
    """A catalog that was opened for writing and not changed is still sound."""
    assert [] == problems(path)
    with duckdb.connect(str(path)) as connection:
        connection.execute("SELECT count(*) FROM posts")
    assert [] == problems(path)


@pytest.mark.parametrize("name", ROWS)
def test_changed_row_is_noticed(path: Path, name: str) -> None:
    """A row that differs from its source is noticed, even if catalog.json has the new sha256."""
    table = name.split(",", maxsplit=1)[0]

    assert any(f"differs from table '{table}' of the" in line for line in changed(path, ROWS[name]))


@pytest.mark.parametrize("name", DEFINITIONS)
def test_changed_definition_is_noticed_before_it_is_used(path: Path, name: str) -> None:
    """A table or view that stage `catalog` does not make is noticed and never queried."""
    reported = changed(path, DEFINITIONS[name])

    assert reported
    assert all("of the catalog is not as stage 'catalog' makes it" in line for line in reported)


@pytest.mark.parametrize("number", range(20))
def test_flipped_bit_is_noticed(path: Path, number: int) -> None:
    """One flipped bit anywhere in the file is noticed before DuckDB reads it."""
    data = bytearray(path.read_bytes())
    data[random.Random(number).randrange(len(data))] ^= 1 << number % 8
    path.write_bytes(data)

    assert [True] == ["has the sha256" in problem for problem in problems(path)]


def test_damaged_blocks_with_a_fitting_hash_are_noticed(path: Path) -> None:
    """DuckDB's checksums notice damaged blocks, whatever catalog.json says."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(os.urandom(200_000))
    seal(path)

    assert any("cannot be read" in line or "cannot be opened" in line for line in problems(path))


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"[]", b'{"version": 1}', b'{"version": 2}', b"[" * 100_000]
)
def test_wrong_description_is_noticed(path: Path, content: bytes | None) -> None:
    """A catalog.json that is absent, damaged or of another shape is noticed."""
    document = path.with_suffix(".json")
    document.unlink()
    if content is not None:
        document.write_bytes(content)

    assert [True] == ["catalog.json" in problem for problem in problems(path)]
