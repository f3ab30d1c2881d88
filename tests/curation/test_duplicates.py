"""Duplicate groups: rules, survivors, the stage on planted copies, figures on real drawings."""

import csv
import io
import random
import tarfile
from pathlib import Path

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from curation import duplicates, filters, hamming, measure
from curation import image as pictures
from curation.duplicates import Candidate, Link
from curation.errors import TamperedData
from personae.errors import MissingInput


def post(post_id: int, **known) -> Candidate:
    silent = {"md5": None, "pixel_hash": None, "parent_id": None, "source": "", "score": 0}
    return Candidate(**{"post_id": post_id, "sha256": str(post_id), "pixels": 0} | silent | known)


def ends(links: list[Link]) -> list[tuple[int, int]]:
    return [(link.post_a, link.post_b) for link in links]


@pytest.fixture
def filtered(tiny_data):
    """The small data folder up to stage `filters`."""
    measure.run(measure.Params(workers=1), data_dir=tiny_data.data_dir, work_dir=tiny_data.work_dir)
    filters.run(filters.Params(), data_dir=tiny_data.data_dir)
    return tiny_data


def run(folder, **changes) -> dict[str, list[dict]]:
    duplicates.run(duplicates.Params(**changes), data_dir=folder.data_dir)
    names = ("groups", "links", "apart", "decisions")
    path = folder.data_dir / "duplicates"
    return {name: pq.read_table(path / f"{name}.parquet").to_pylist() for name in names}


# The rules


def test_same_key_links_to_the_smallest_id() -> None:
    """Posts of one key all link to its first; a key of None links nothing."""
    posts = [post(9, md5="a"), post(3, md5="a"), post(5, md5="a"), post(4), post(6)]

    assert [(3, 5), (3, 9)] == ends(duplicates.same_key(posts, "exact", lambda each: each.md5))


def test_families_link_children_and_siblings() -> None:
    """A child links to its parent and its siblings, be the parent present or not."""
    posts = [post(1), post(2, parent_id=1), post(3, parent_id=2), post(8, parent_id=70)]
    posts += [post(9, parent_id=70), post(10, parent_id=71), post(11, parent_id=11)]

    assert [(1, 2), (2, 3), (8, 9)] == ends(duplicates.family_links(posts))


def test_siblings_stay_linked_when_their_parent_comes() -> None:
    """A parent listed after its children adds links to them and takes none away."""
    children = [post(number, parent_id=9) for number in (2, 5, 7)]
    between = [(2, 5), (2, 7)]

    assert between == ends(duplicates.family_links(children))
    assert {*between, (2, 9), (5, 9), (7, 9)} == set(
        ends(duplicates.family_links([*children, post(9)]))
    )


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("https://example.com/works/1", True),
        (" https://example.com/?id=1 ", True),
        ("https://example.com/", False),
        ("http://[broken", False),
        ("my own drawing", False),
        ("file:///home/me/1.png", False),
        ("", False),
    ],
)
def test_sources_name_pictures(source, named) -> None:
    """Only a web address with more than a host can name one image."""
    assert (source.strip() if named else None) == duplicates.picture_url(source)


def test_sources_link_their_first_posts() -> None:
    """A URL links as many posts as allowed, those of the smallest ids; 0 and 1 link none."""
    posts = [post(number, source="https://example.com/a") for number in (7, 3, 5)]

    assert [(3, 5), (3, 7)] == ends(duplicates.source_links(posts, 3))
    assert [(3, 5)] == ends(duplicates.source_links(posts, 2))
    assert [] == duplicates.source_links(posts, 1)
    assert [] == duplicates.source_links(posts, 0)


def test_one_more_post_of_a_source_takes_no_link_away() -> None:
    """The ninth post of a URL stays unlinked, and the eight before it keep their links."""
    posts = [post(number, source="https://example.com/a") for number in range(1, 10)]
    first = ends(duplicates.source_links(posts[:8], 8))

    assert [(1, number) for number in range(2, 9)] == first
    assert first == ends(duplicates.source_links(posts, 8))


def test_survivor_has_no_parent_then_size_score_age() -> None:
    """No parent comes first, then more pixels, a higher score, the smaller id."""
    child = post(1, parent_id=7, pixels=99, score=9)
    small, low, young = post(2, pixels=10, score=9), post(3, pixels=20), post(9, pixels=20, score=5)
    best = post(8, pixels=20, score=5)

    assert 8 == duplicates.survivor([child, small, low, young, best])
    assert 3 == duplicates.survivor([child, small, low])
    assert 2 == duplicates.survivor([child, small])
    assert 1 == duplicates.survivor([child])


@given(pairs=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40))
def test_groups_are_connected_components(pairs: list[tuple[int, int]]) -> None:
    """Groups are the connected components, named by their smallest id, in whatever order."""
    links = [Link(min(pair), max(pair), "near") for pair in pairs]
    graph = nx.Graph(pairs)
    graph.add_nodes_from(range(31))
    wanted = {post: min(part) for part in nx.connected_components(graph) for post in part}

    assert wanted == duplicates.groups_of(range(31), links)
    assert wanted == duplicates.groups_of(range(31), reversed(links))


# The stage


def test_finds_every_planted_copy_and_nothing_else(filtered) -> None:
    """Each copy shares the group of what it copies, with its own reason; no other group exists."""
    found = run(filtered)
    group_of = {row["post_id"]: row["group_id"] for row in found["groups"]}
    kept = {row["post_id"] for row in found["groups"] if row["representative"]}
    reasons = {row["post_id"]: row["reason"] for row in found["decisions"]}
    copies = {copy: group_of[of] for copy, of in filtered.original.items()}

    assert copies == {post_id: group_of[post_id] for post_id in copies}
    assert len(group_of) - len(copies) == len(set(group_of.values())) == len(kept)
    for copy, of in filtered.original.items():
        refused = ({copy, of} - kept).pop()
        assert filtered.truth[copy] == reasons[refused]


def test_tables_agree_with_each_other(filtered) -> None:
    """Every group has one representative; decisions cover the groups; links stay inside them."""
    found = run(filtered)
    group_of = {row["post_id"]: row["group_id"] for row in found["groups"]}
    decided = {row["post_id"]: row["kept"] for row in found["decisions"]}
    filtered_rows = pq.read_table(filtered.data_dir / "filters" / "decisions.parquet").to_pylist()

    assert sorted(row["post_id"] for row in filtered_rows if row["kept"]) == list(group_of)
    assert decided == {row["post_id"]: row["representative"] for row in found["groups"]}
    for link in found["links"]:
        assert link["post_a"] < link["post_b"]
        assert group_of[link["post_a"]] == group_of[link["post_b"]]
        assert (link["link"] == "near") == (link["distance"] is not None)
    for row in found["groups"]:
        assert row["representative"] == (row["link"] is None)
    for row in found["decisions"]:
        if row["reason"] == "near_duplicate":
            assert row["measured"] <= row["threshold"] == 31


def test_rules_can_be_switched_off(filtered) -> None:
    """Without families and sources, only the images themselves join posts."""
    found = run(filtered, families=False, source_posts=0, distance=0)

    assert {"exact", "pixel_hash"} == {link["link"] for link in found["links"]}


def test_all_are_kept_where_duplicates_are_only_reported(filtered) -> None:
    """With `keep: all` groups and links are the same, and no post is refused."""
    one, every = run(filtered), run(filtered, keep="all")

    assert one["groups"] == every["groups"]
    assert one["links"] == every["links"]
    assert {True} == {row["kept"] for row in every["decisions"]}
    assert [row["post_id"] for row in one["groups"]] == [
        row["post_id"] for row in every["decisions"]
    ]
    assert {None} == {row["reason"] for row in every["decisions"]}


def test_pixels_overrule_the_hash(filtered) -> None:
    """Two images whose hashes agree by chance stay apart, and the pair is written down."""
    path = filtered.data_dir / "measure" / "measures.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[9]["phash"] = rows[3]["phash"]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    one, two = rows[3]["post_id"], rows[9]["post_id"]
    found = run(filtered)
    pair = next(row for row in found["apart"] if (row["post_a"], row["post_b"]) == (one, two))

    assert 0 == pair["distance"]
    assert pair["difference"] > 0.3
    assert (one, two) not in {(row["post_a"], row["post_b"]) for row in found["links"]}


def test_writes_the_same_bytes_twice(filtered) -> None:
    """Equal inputs and parameters give equal files."""
    folder = filtered.data_dir / "duplicates"
    run(filtered)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    run(filtered)

    assert first == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_refuses_a_tampered_picture(filtered) -> None:
    """A normalised image that is not what was measured stops the stage."""
    path = filtered.data_dir / "measure" / "images-00000.tar"
    path.write_bytes(bytes(path.stat().st_size))

    with pytest.raises(TamperedData, match=r"images-00000\.tar"):
        run(filtered)


def test_refuses_tables_of_different_runs(filtered) -> None:
    """A post that the filters kept and the board never listed stops the stage with its id."""
    path = filtered.data_dir / "listing" / "posts.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)

    with pytest.raises(MissingInput, match="lacks post 1000"):
        run(filtered)


# Real drawings


def encoded(image: Image.Image, kind: str, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality)
    return buffer.getvalue()


def resized(image: Image.Image, share: float) -> Image.Image:
    return image.resize((max(1, round(image.width * share)), max(1, round(image.height * share))))


EDITS = {
    "jpeg 85": lambda image: encoded(image, "JPEG", 85),
    "jpeg 50": lambda image: encoded(image, "JPEG", 50),
    "webp 50": lambda image: encoded(image, "WEBP", 50),
    "resized to 80 %": lambda image: encoded(resized(image, 0.8), "JPEG", 85),
    "resized to 50 %": lambda image: encoded(resized(image, 0.5), "JPEG", 85),
    "resized to 150 %": lambda image: encoded(resized(image, 1.5), "JPEG", 85),
}


@pytest.fixture(scope="module")
def sample(real_data: Path) -> list[tuple[str, bytes]]:
    """Family and bytes of 300 illustrations drawn by chance."""
    folder = real_data / "illustrations"
    with (folder / "index.csv").open(newline="") as file:
        rows = random.Random(17).sample(list(csv.DictReader(file)), 300)
    family_of = {row["path"]: row["family"] for row in rows}
    found = []
    for name in sorted({row["tar"] for row in rows}):
        with tarfile.open(folder / name) as tar:
            for member in tar:
                if member.name in family_of:
                    file = tar.extractfile(member)
                    assert file is not None
                    found.append((family_of[member.name], file.read()))
    assert 300 == len(found)
    return found


def looked_at(data: bytes) -> tuple[bytes, pictures.Pixels]:
    image = pictures.decode(data, max_pixels=1 << 24, side=48).image
    square = pictures.encode(pictures.normalise(image, side=48, background="border"), "png")
    return pictures.perceptual_hash(image)[0], pictures.thumbnail(square, shape=image.size, side=32)


def test_finds_edits_of_real_drawings(sample) -> None:
    """Among 300 illustrations, at least 95 % of copies of 100 of them, 99 % precise."""
    params = duplicates.Params()
    number = 100
    families = [family for family, _ in [*sample, *sample[:number]]]
    seen = [looked_at(data) for _, data in sample]
    drawings = [Image.open(io.BytesIO(data)).convert("RGB") for _, data in sample[:number]]
    for name, edit in EDITS.items():
        copies = [looked_at(edit(drawing)) for drawing in drawings]
        packed = b"".join(phash for phash, _ in [*seen, *copies])
        hashes = np.frombuffer(packed, np.uint64).reshape(-1, 4)
        small = [pixels for _, pixels in [*seen, *copies]]
        right = wrong = 0
        for one, two, _ in zip(*hamming.near_pairs(hashes, params.distance), strict=True):
            if pictures.difference(small[one], small[two]) > params.max_difference:
                continue
            right += two - one == len(sample)
            wrong += families[one] != families[two]

        assert right / number >= 0.95, name
        assert right / (right + wrong) >= 0.99, name
