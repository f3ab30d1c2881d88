"""Slices: parts of the test images, from the results and from the catalog."""

import duckdb
import pytest

from tests.train.report_fixture import compare, write
from train.page import catalog as catalog_page
from train.page import slices
from train.page.sections import slices as slices_section


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Writes results of two seeds, without a catalog."""
    return write(tmp_path_factory.mktemp("results"), each=8, catalog=False)


def test_slices_are_parts_of_the_test_images(folder, tmp_path):
    """Slices of one kind add up to all images; a catalog adds rating, year and copies."""
    loaded, compared = compare(folder)
    ids = loaded.flat.seeds[0].post_id.tolist()
    with duckdb.connect(str(tmp_path / "catalog.duckdb")) as catalog:
        catalog.execute(
            "CREATE TABLE posts (post_id BIGINT, rating VARCHAR, created_at_utc TIMESTAMP)"
        )
        catalog.execute("CREATE TABLE samples (post_id BIGINT, split VARCHAR)")
        catalog.execute("CREATE TABLE links (post_a BIGINT, post_b BIGINT)")
        catalog.execute(
            "INSERT INTO posts SELECT post, ['g', 's'][1 + place % 2], make_date(2010 + place % 2, 1, 1) "
            "FROM (SELECT unnest(?) AS post, generate_subscripts(?, 1) - 1 AS place)",
            [ids, ids],
        )
        catalog.execute("INSERT INTO samples SELECT post_id, 'test' FROM posts")
        catalog.execute("INSERT INTO samples VALUES (1, 'train'), (2, 'val')")
        catalog.execute("INSERT INTO links SELECT 1, unnest(?)", [ids[:30]])
        catalog.execute("INSERT INTO links SELECT unnest(?), 2", [ids[:30]])
        catalog.execute("INSERT INTO links VALUES (2, ?)", [ids[40]])
    with catalog_page.opened(tmp_path / "catalog.duckdb") as source:
        parts = slices.slices(loaded, slices.read_posts(source))
    sizes = {(part.kind, part.name): int(part.mask.sum()) for part in parts}
    rows = slices_section.section(compared, parts).content.accuracy.rows

    assert 30 == sizes["drawing", "with a copy among the training images"]
    assert len(ids) == sum(size for (kind, _), size in sizes.items() if kind == "drawing")
    assert {"rating", "year of the post", "background", "label"} < {kind for kind, _ in sizes}
    assert sizes["rating", "g"] == sizes["year of the post", "2010"] == (len(ids) + 1) // 2
    assert [size for size in sizes.values() if size < slices.SMALLEST] == []
    assert ("background", "white") == rows[0][:2]
    with catalog_page.opened(tmp_path / "absent.duckdb") as source:
        assert {} == slices.read_posts(source)
