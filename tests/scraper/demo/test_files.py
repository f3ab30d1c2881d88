"""Tests the files of the board: sizes, formats, paths, md5, damage, and the cache of facts."""

import hashlib
import io
from dataclasses import fields, replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError

from scraper.demo.facts.record import FileRecipe
from scraper.demo.painter import files
from scraper.demo.painter.shelf import Shelf

RECIPE = FileRecipe(cast=("sorrel_ashdown",), seed=7, width=300, height=420, ground="plain")


def produce(recipe, *types):
    (made,) = files.produce((recipe,), types)
    return made


def test_sizes_agree_with_every_recorded_variant(real_data):
    """The size rule gives the size of every variant recorded from the live site."""
    checked = 0
    for path in sorted((real_data / "danbooru-fixtures" / "danbooru").glob("p*/*.yaml")):
        body = yaml.safe_load(path.read_text())["response"]["body_json"]
        for post in body if isinstance(body, list) else [body]:
            asset = post.get("media_asset")
            if not asset:
                continue
            mine = files.variants(
                asset["image_width"],
                asset["image_height"],
                file_ext=asset["file_ext"],
                duration=asset["duration"],
            )
            live = [(v["type"], v["width"], v["height"], v["file_ext"]) for v in asset["variants"]]
            assert live == [(v.type, v.width, v.height, v.file_ext) for v in mine]
            checked += len(live)
            for variant in asset["variants"]:
                _host, rest = variant["url"].split("donmai.us")
                assert rest == files.path(variant["type"], asset["md5"], variant["file_ext"])

    assert checked > 60


@given(st.integers(1, 5_000), st.integers(1, 5_000), st.sampled_from([180, 360, 720]))
def test_scaling_never_enlarges_and_fits_the_box(width, height, side):
    """A scaled image fits its box, has at least one pixel per side, and is not enlarged."""
    wide, high = files.scaled(width, height, box_width=side, box_height=side)

    assert 1 <= wide <= min(width, side)
    assert 1 <= high <= min(height, side)


@pytest.mark.parametrize(
    ("expected", "path"),
    [
        (("180x180", "ab" * 16, "jpg"), "/180x180/ab/ab/" + "ab" * 16 + ".jpg"),
        (("sample", "ab" * 16, "jpg"), "/sample/ab/ab/sample-" + "ab" * 16 + ".jpg"),
        (("original", "ab" * 16, "png"), "/original/ab/ab/__some_tags__" + "ab" * 16 + ".png"),
        (None, "/sample/ab/ab/" + "ab" * 16 + ".jpg"),
        (None, "/180x180/ab/cd/" + "ab" * 16 + ".jpg"),
        (None, "/180x180/ab/ab/short.jpg"),
        (None, "/other/ab/ab/" + "ab" * 16 + ".jpg"),
    ],
)
def test_path_grammar(expected, path):
    """CDN paths follow Danbooru's grammar; file names with tags are accepted."""
    assert expected == files.parse_path(path)


def test_equal_recipes_give_equal_bytes():
    """Equal recipes give equal bytes, and the facts describe them."""
    first, second = (produce(RECIPE, "original", "360x360") for _ in range(2))

    assert first == second
    assert hashlib.md5(first.files["original"]).hexdigest() == first.facts.md5
    assert len(first.files["original"]) == first.facts.file_bytes


def test_salt_changes_bytes_but_no_pixel():
    """A pixel duplicate has another md5 and the same pixels and pixel hash."""
    plain, salted = produce(RECIPE, "original"), produce(replace(RECIPE, salt=9), "original")
    pixels = [Image.open(io.BytesIO(made.files["original"])).tobytes() for made in (plain, salted)]

    assert plain.facts.md5 != salted.facts.md5
    assert plain.facts.pixel_hash == salted.facts.pixel_hash
    assert pixels[0] == pixels[1]


def test_the_pixel_hash_stays_from_version_to_version():
    """A recipe has the same pixel hash as in earlier versions of the board."""
    assert "6adf677319275a8ec3837430248f824d" == produce(RECIPE).facts.pixel_hash


@pytest.mark.parametrize("name", [field.name for field in fields(FileRecipe)])
def test_every_field_but_the_salt_changes_the_pixel_hash(name):
    """Recipes with equal pixel hashes differ in the salt only."""
    changed = replace(RECIPE, **{name: "another value"})

    assert ("salt" == name) is (files._pixel_text(RECIPE) == files._pixel_text(changed))


@pytest.mark.parametrize(
    ("mode", "change"),
    [
        ("L", {"mode": "grey", "monochrome": True}),
        ("CMYK", {"mode": "cmyk"}),
        ("P", {"mode": "palette", "file_ext": "png"}),
        ("RGB", {"file_ext": "png"}),
        ("RGB", {"file_ext": "webp"}),
        ("P", {"file_ext": "gif"}),
    ],
)
def test_pixels_are_stored_as_the_recipe_says(mode, change):
    """The decoded file has the storage mode and the type of the recipe."""
    recipe = replace(RECIPE, **change)
    image = Image.open(io.BytesIO(produce(recipe, "original").files["original"]))

    assert (mode, (300, 420)) == (image.mode, image.size)
    assert {"jpg": "JPEG"}.get(recipe.file_ext, recipe.file_ext.upper()) == image.format


def test_an_animated_file_has_frames_and_no_sample():
    """An animated webp has two frames, and no sample."""
    recipe = replace(RECIPE, mode="animated", file_ext="webp")
    made = produce(recipe, "original", "180x180", "sample", "full")

    assert Image.open(io.BytesIO(made.files["original"])).n_frames == 2
    assert {"original", "180x180"} == set(made.files)


@pytest.mark.parametrize("file_ext", ["mp4", "zip", "swf"])
def test_other_types_start_with_their_magic(file_ext):
    """Video, archive and Flash files begin with the first bytes of their type."""
    made = produce(replace(RECIPE, file_ext=file_ext), "original", "180x180")

    assert made.files["original"][:8].lstrip(b"\0\x18")[:2] in (b"ft", b"PK", b"CW")
    assert ("180x180" in made.files) is (file_ext != "swf")


def test_damaged_files_do_not_decode_and_have_a_true_md5():
    """Damaged originals and thumbnails have a valid header and md5, and do not decode."""
    cut = produce(replace(RECIPE, damage="truncated"), "original", "180x180")
    bad = produce(replace(RECIPE, damage="undecodable"), "original", "180x180")

    for made in (cut, bad):
        assert hashlib.md5(made.files["original"]).hexdigest() == made.facts.md5
        for content in made.files.values():
            assert content.startswith(b"\xff\xd8\xff")
            with pytest.raises((OSError, UnidentifiedImageError)):
                Image.open(io.BytesIO(content)).load()


def test_served_files_are_what_the_listing_says(get, demo_board):
    """Served files have the listed size, type, md5 and number of bytes."""
    seen = set()
    for post in get("/posts.json", limit=200, tags="status:active -status:banned").json():
        if demo_board.board.truth(post["id"]).reasons & {"undecodable", "truncated"}:
            continue
        for variant in post.get("media_asset", {}).get("variants", []):
            kind = (variant["type"], variant["file_ext"], post["file_ext"])
            if kind in seen or variant["file_ext"] not in ("jpg", "png", "webp", "gif"):
                continue
            seen.add(kind)
            answer = get(variant["url"])
            image = Image.open(io.BytesIO(answer.content))
            assert (variant["width"], variant["height"]) == image.size
            assert files.CONTENT_TYPES[variant["file_ext"]] == answer.headers["Content-Type"]
            if variant["type"] == "original":
                assert post["md5"] == hashlib.md5(answer.content).hexdigest()
                assert post["file_size"] == len(answer.content)

    assert {"180x180", "360x360", "720x720", "original"} <= {kind[0] for kind in seen}


def test_unknown_files_answer_404_in_html(get):
    """A wrong md5, a wrong type and a wrong path get an HTML page of status 404."""
    post = get("/posts.json", limit=1, tags="filetype:jpg status:active -status:banned").json()[0]
    wrong = post["file_url"].removesuffix("jpg") + "png"

    for url in ("/180x180/00/00/" + "0" * 32 + ".jpg", "/original/x", wrong):
        answer = get(url)
        assert 404 == answer.status_code
        assert answer.headers["Content-Type"].startswith("text/html")


def test_large_originals_have_a_sample(get, demo_board):
    """An original wider than 850 pixels has a sample of that width."""
    wide = next(post for post in demo_board.board.posts if post.width > 850 and not post.flags)
    post = get(f"/posts/{wide.post_id}.json").json()
    image = Image.open(io.BytesIO(get(post["large_file_url"]).content))

    assert post["has_large"]
    assert 850 == image.width


def test_a_shelf_remembers_between_runs(tmp_path):
    """A cache returns what an earlier run stored for the same board, and nothing for another."""
    made = produce(RECIPE, "180x180")
    first = Shelf(str(tmp_path), key="board")
    first.put([(5, made.facts, made.files["180x180"])])
    first.note("name", "text")
    first.close()
    second, other = Shelf(str(tmp_path), key="board"), Shelf(str(tmp_path), key="other")

    assert {5: made.facts} == second.facts()
    assert made.files["180x180"] == second.thumbnail(5)
    assert "text" == second.noted("name")
    assert ({}, None, None) == (other.facts(), other.thumbnail(5), other.noted("name"))
    second.close()
    other.close()


def test_a_shelf_that_cannot_be_written_stays_in_memory(tmp_path, caplog):
    """A cache folder that cannot be written gives a warning and a cache in memory."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    shelf = Shelf(str(blocked), key="board")

    assert {} == shelf.facts()
    assert "The cache of drawn files is in memory only" in caplog.text
    shelf.close()
