"""Tests rare posts: families, odd files, odd tags, pages of hidden posts, and empty results."""

import hashlib
import io
import re
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest
import requests
import yaml
from PIL import Image, ImageOps

from scraper import filters, personae
from scraper.__main__ import main
from scraper.demo.board import booru, unusual
from scraper.demo.facts.params import TINY
from scraper.demo.server.thread import serving
from scraper.params.decide import Params as DecideParams
from scraper.sources.board_post import read_post

AGENT = {"User-Agent": "personae-tests/1 (+https://example.org)"}
MAGIC = {"zip": b"PK", "mp4": b"\0\0\0\x18ftyp", "swf": b"CWS"}


@pytest.fixture(scope="module")
def board():
    """Returns a served board with every unusual post, and kind to post id."""
    made = booru.board(TINY)
    added = unusual.add_posts(made)
    with serving(made) as served:
        yield served, added


@pytest.fixture
def post_of(board):
    """Returns the JSON of the unusual post of a kind."""
    served, added = board
    return lambda kind: ask(served, f"/posts/{added[kind]}.json").json()


def ask(served, path, **params):
    url = path if path.startswith("http") else served.url + path
    return requests.get(url, params=params, headers=AGENT, timeout=60)


def original(served, post):
    content = ask(served, post["file_url"]).content
    assert post["md5"] == hashlib.md5(content).hexdigest()
    assert post["file_size"] == len(content)
    return content


def reasons(served, post):
    """Returns the reasons for which the scraper's rules refuse a post, read from its JSON."""
    read = read_post(post, base_url=served.url)
    implications = [
        (row["antecedent_name"], row["consequent_name"])
        for row in ask(
            served, "/tag_implications.json", limit=1000, **{"search[status]": "active"}
        ).json()
    ]
    kinship = personae.Kinship.from_pairs([], implications)
    lineage = personae.lineage(read.tags_character, read.tags_copyright, kinship)
    facts = filters.PostFacts(
        post_id=read.post_id,
        tags=read.tags,
        leaves=lineage.leaves,
        bases=lineage.bases,
        rating=read.rating,
        file_ext=read.file_ext,
        width=read.image_width,
        height=read.image_height,
        duration_seconds=read.duration_seconds,
    )
    return {refusal.reason for refusal in filters.refusals(facts, DecideParams().limits)}


def test_a_family_of_three_and_two_files_with_equal_pixels(get):
    """A parent has two children of near equal images; two posts of other bytes share a pixel hash."""
    posts = get("/posts.json", limit=200, tags="status:active -status:banned").json()
    posts += get("/posts.json", limit=200, page=2, tags="status:active -status:banned").json()
    families = Counter(post["parent_id"] for post in posts if post["parent_id"])
    parent, children = families.most_common(1)[0]
    pixels = {}
    for post in posts:
        pixels.setdefault(post["media_asset"]["pixel_hash"], set()).add(post.get("md5"))

    assert children >= 2
    assert get(f"/posts/{parent}.json").json()["has_children"]
    assert 1 + children == len(get("/posts.json", tags=f"parent:{parent}").json())
    assert any(len(hashes - {None}) > 1 for hashes in pixels.values())


def test_a_small_file_declares_144_megapixels(board, post_of):
    """A PNG of 100 kB has 12,000 x 12,000 pixels, more than Pillow decodes without a warning."""
    post = post_of("declares_144_megapixels")
    content = original(board[0], post)

    assert len(content) < 200_000
    assert (12_000, 12_000) == (post["image_width"], post["image_height"])
    assert "incredibly_absurdres" in post["tag_string_meta"].split()
    with pytest.warns(Image.DecompressionBombWarning):
        assert (12_000, 12_000) == Image.open(io.BytesIO(content)).size


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        ("one_pixel", ((1, 1), "RGB", "PNG")),
        ("very_wide", ((4_000, 100), "RGB", "JPEG")),
        ("cmyk", ((420, 560), "CMYK", "JPEG")),
        ("grey_16_bit", ((420, 560), "I;16", "PNG")),
        ("palette_with_alpha", ((420, 560), "P", "PNG")),
        ("turned_by_exif", ((560, 420), "RGB", "JPEG")),
        ("animated_webp", ((420, 560), "RGBA", "WEBP")),
    ],
)
def test_images_of_rare_sizes_and_modes_are_served(kind, stored, board, post_of):
    """Each rare image has the stored size and mode; the listed size is that after EXIF."""
    post = post_of(kind)
    image = Image.open(io.BytesIO(original(board[0], post)))

    assert stored == (image.size, image.mode, image.format)
    assert ImageOps.exif_transpose(image).size == (post["image_width"], post["image_height"])
    assert ("transparency" in image.info) is (kind == "palette_with_alpha")
    assert (getattr(image, "n_frames", 1) > 1) is (kind == "animated_webp")
    assert (post["media_asset"]["duration"] is not None) is (kind == "animated_webp")


@pytest.mark.parametrize("kind", ["ugoira", "mp4", "swf"])
def test_files_that_are_no_images_are_served(kind, board, post_of):
    """Archives, films and Flash have the first bytes of their type; only Flash has no thumbnail."""
    post = post_of(kind)
    types = [variant["type"] for variant in post["media_asset"]["variants"]]

    assert original(board[0], post).startswith(MAGIC[post["file_ext"]])
    assert ("180x180" in types) is (kind != "swf")
    assert (("sample" in types), post["has_large"]) == ((kind == "ugoira"),) * 2


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("thirty_characters", {"two_personas"}),
        ("girl_and_boy", {"person_count"}),
        ("several_views", {"several_views"}),
        ("no_character", {"no_persona"}),
        ("sibling_forms", {"two_personas"}),
        ("form_of_two", {"two_bases"}),
        ("odd_names", set()),
        ("very_wide", {"extreme_shape", "small"}),
        ("one_pixel", {"small", "damaged_tag"}),
        ("ugoira", {"file_type", "animated"}),
    ],
)
def test_solo_posts_that_contradict_themselves_are_refused(kind, expected, board, post_of):
    """`solo` alone proves nothing: every other rule is applied to the post that is served."""
    post = post_of(kind)

    assert "solo" in post["tag_string_general"].split()
    assert expected == reasons(board[0], post)
    if kind == "thirty_characters":
        assert post["tag_count_character"] >= 30


def test_the_scraper_stores_or_refuses_each_unusual_post_with_its_reason(
    board, tmp_path, monkeypatch
):
    """A whole run over originals: rare images are stored, the others have one named reason."""
    served, added = board
    monkeypatch.chdir(tmp_path)
    persona = served.board.post(added["cmyk"]).tags["character"][0]
    sections = {
        "personae": {"min_images": 1},
        "listing": {"names": [persona]},
        "decide": {"min_side": 0, "max_aspect": 1e3, "accept_tags": ["lowres", "wide_image"]},
        "download": {"side": None},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(sections))
    assert 0 == main(["--site", served.url, "--api-rate", "1e6", "--cdn-rate", "1e6"])
    outcome = {}
    for stage in ("decide", "download"):
        for row in pq.read_table(f"data/{stage}/decisions.parquet").to_pylist():
            outcome.setdefault(row["post_id"], set()).add(row["reason"])
    stored = set(pq.read_table("data/download/images.parquet")["post_id"].to_pylist())
    kinds = {kind for kind, number in added.items() if number in stored}

    rare = {"one_pixel", "very_wide", "cmyk", "grey_16_bit", "palette_with_alpha"}
    assert rare | {"turned_by_exif", "odd_names"} == kinds
    assert {None, "too_large"} == outcome[added["declares_144_megapixels"]]
    for kind in ("animated_webp", "ugoira", "mp4"):
        assert "animated" in outcome[added[kind]]
    assert all(re.fullmatch(r"[\w./-]+", str(path)) for path in Path("data").rglob("*"))


def test_odd_names_are_served_and_searched_as_they_are(board, post_of):
    """Slashes, quotes and signs stay in tags, other scripts in the source; no path holds them."""
    served, added = board
    post = post_of("odd_names")
    names = unusual.UNUSUAL["odd_names"].add

    assert set(names) <= set(post["tag_string_general"].split())
    assert not post["source"].isascii()
    for name in names:
        url = f"{served.url}/posts.json?only=id&tags={quote(name, safe='')}"
        assert [added["odd_names"]] == [row["id"] for row in ask(served, url).json()], name
    for variant in post["media_asset"]["variants"]:
        assert re.fullmatch(r"[a-z0-9/.:-]+", variant["url"].removeprefix(served.url))


def test_a_page_may_hold_nothing_but_hidden_and_banned_posts(own_demo_board):
    """`status:active` keeps banned posts; a page full of them has a cursor that leads on."""
    board = own_demo_board.board
    newest = [post.post_id for post in board.posts if not post.flags][-12:]
    for post_id in newest:
        board.flag(post_id, "banned")
    query = {"tags": "status:active", "limit": 10}
    first = ask(own_demo_board, "/posts.json", **query).json()
    second = ask(own_demo_board, "/posts.json", **query, page=f"b{first[-1]['id']}").json()

    assert 10 == len(first)
    assert all(post["is_banned"] and "file_url" not in post for post in first)
    assert any("file_url" in post for post in second)
    assert second[0]["id"] < first[-1]["id"]


def test_results_end_with_an_empty_page(get, demo_board):
    """A tag without posts, and the page after a full last page, are empty lists of status 200."""
    unused = get("/tags.json", limit=1000, **{"search[post_count]": "0"}).json()
    tag = next(row for row in get("/tags.json", limit=1000).json() if 2 <= row["post_count"] <= 20)
    exact = {"tags": tag["name"], "limit": tag["post_count"], "only": "id"}
    full = get("/posts.json", **exact).json()

    assert unused
    for row in unused[:3]:
        assert [] == get("/posts.json", tags=row["name"]).json() or row["name"] in (
            demo_board.board.alias_of
        )
    assert tag["post_count"] == len(full)
    assert [] == get("/posts.json", **exact, page=2).json()
    assert [] == get("/posts.json", **exact, page=f"b{full[-1]['id']}").json()
