"""Tests a folder of images as a board: tags of labels and families, whiteness, real images."""

import csv
import hashlib
import tarfile

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from personae.errors import MissingColumn, MissingInput
from scraper.demo.board import folder
from scraper.demo.facts.params import TINY
from scraper.demo.server.thread import serving
from scraper.sources.board_post import read_post

AGENT = {"User-Agent": "personae-tests/1"}


@pytest.fixture
def image_folder(tmp_path):
    """Returns three oddly named labels with two images each, a broken file, and a hierarchy."""
    root = tmp_path / "images"
    for number, label in enumerate(("Mr. Mime", "../Élan".replace("/", "_"), "Plain")):
        (root / label).mkdir(parents=True)
        for copy in range(2):
            colour = (255, 255, 255) if copy else (40 * number, 90, 10)
            image = Image.new("RGB", (90 + number, 60), colour)
            image.putpixel((45, 30), (number, 0, 0))
            image.save(root / label / f"{copy}.png")
    (root / "Plain" / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    (root / "Plain" / "notes.txt").write_text("no image")
    families = tmp_path / "families.csv"
    families.write_text("label,family\nMr. Mime,Mime Family\nPlain,Mime Family\n")
    return root, families


def test_labels_become_tags_and_families_copyrights(image_folder):
    """Every post has the tags of its label, its family and the default rules."""
    board = folder.board(*image_folder, TINY)
    tags = {(post.tags["character"], post.tags["copyright"]) for post in board.posts}
    board.close()

    assert 6 == len(board.posts)
    assert {
        (("mr._mime",), ("mime_family_(series)",)),
        (("elan",), ()),
        (("plain",), ("mime_family_(series)",)),
    } == tags
    for post in board.posts:
        assert {"1girl", "solo"} <= set(post.all_tags)
        assert "lowres" not in post.all_tags
    assert 3 == sum("white_background" in post.all_tags for post in board.posts)


def test_originals_are_served_as_they_are(image_folder):
    """Bytes, md5 and size are those of the file on disk, and the scraper can read the posts."""
    board = folder.board(*image_folder, TINY)
    with serving(board) as served:
        posts = requests.get(served.url + "/posts.json", headers=AGENT, timeout=120).json()
        for post in posts:
            stored = requests.get(post["file_url"], headers=AGENT, timeout=10).content
            small = requests.get(post["preview_file_url"], headers=AGENT, timeout=10)
            assert post["md5"] == hashlib.md5(stored).hexdigest()
            assert post["file_size"] == len(stored)
            assert "image/jpeg" == small.headers["Content-Type"]
            assert read_post(post, base_url=served.url).variants

    assert [6, 5, 4, 3, 2, 1] == [post["id"] for post in posts]


def test_an_index_names_labels(image_folder, tmp_path):
    """The labels of `index.csv` replace the folder names; paths out of the folder are ignored."""
    root, _ = image_folder
    rows = [("path", "species"), ("Plain/0.png", "one"), ("Mr. Mime/1.png", "two")]
    (tmp_path / "outside.png").write_bytes((root / "Plain/0.png").read_bytes())
    rows.append(("../outside.png", "three"))
    with (root / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    board = folder.board(root, None, TINY)
    board.close()

    assert {"one", "two"} == {post.tags["character"][0] for post in board.posts}


def test_a_second_start_decodes_nothing(image_folder, tmp_path, monkeypatch):
    """On a second start, the cache provides the measures of unchanged files without decoding."""
    params = TINY.model_copy(update={"cache": str(tmp_path / "cache")})
    first = folder.board(*image_folder, params)
    first.close()
    monkeypatch.setattr(Image, "open", None)
    second = folder.board(*image_folder, params)
    second.close()

    assert first.posts == second.posts


@pytest.mark.parametrize(
    ("problem", "make"),
    [
        (MissingInput, lambda root: folder.board(root / "nowhere", None, TINY)),
        (MissingInput, lambda root: folder.board(root, root / "nowhere.csv", TINY)),
        (MissingInput, lambda root: folder.board(root, None, TINY)),
    ],
)
def test_absent_folders_are_named(problem, make, tmp_path):
    """A missing folder, a missing hierarchy and a folder without images are errors."""
    with pytest.raises(problem):
        make(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"), [("index.csv", "path\nx.png\n"), ("families.csv", "label,group\na,b\n")]
)
def test_absent_columns_are_named(name, text, tmp_path):
    """A CSV file without a required column is an error that gives the column."""
    (tmp_path / name).write_text(text)
    hierarchy = tmp_path / name if name == "families.csv" else None

    with pytest.raises(MissingColumn, match=r"family|label"):
        folder.board(tmp_path, hierarchy, TINY)


@given(st.lists(st.text(max_size=12), unique=True, max_size=8))
def test_any_label_becomes_its_own_valid_tag(labels):
    """Tag names are valid on Danbooru, and different labels have different tags."""
    names = folder.tag_names(labels)

    assert len(labels) == len(set(names.values()))
    for name in names.values():
        assert name
        assert name.isascii()
        assert name == name.lower()
        assert "__" not in name
        assert name[0] not in "-~_%(){}[]/`"
        assert not name.endswith("_")
        assert not set(name) & set(" *,/")
        assert name.count("(") == name.count(")")


@pytest.mark.parametrize(
    ("label", "tag"),
    [
        ("saber_(fate)", "saber_(fate)"),
        ("Fox (red)", "fox_(red)"),
        ("(left) fox", "left_fox"),
        ("fox :)", "fox"),
        ("fox)(red", "fox_red"),
        ("日(x)", "x"),
    ],
)
def test_balanced_parentheses_stay(label, tag):
    """A label that is a tag of a board keeps its name; other parentheses are left out."""
    assert tag == folder.tag_name(label)


def test_real_pictures_are_served(real_data, tmp_path):
    """For real images, species are character tags, and families are copyright tags."""
    source = real_data / "illustrations"
    with tarfile.open(source / "images-00.tar") as tar:
        for member in filter(tarfile.TarInfo.isfile, tar.getmembers()[:60]):
            path = tmp_path / member.name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(tar.extractfile(member).read())
    board = folder.board(tmp_path, source / "species.csv", TINY)
    with serving(board) as served:
        url = served.url + "/posts.json"
        posts = requests.get(url, params={"limit": 200}, headers=AGENT, timeout=120).json()
        thumbnail = requests.get(posts[0]["preview_file_url"], headers=AGENT, timeout=10)

    assert 60 == len(posts)
    assert {"webp"} == {post["file_ext"] for post in posts}
    assert all(post["tag_string_copyright"].endswith("_(series)") for post in posts)
    assert thumbnail.content.startswith(b"\xff\xd8\xff")
