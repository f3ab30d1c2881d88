"""Tests a folder of labelled images as a source: stable ids, complete walks, hostile files."""

import asyncio
import hashlib
import json
import os
import random
import signal
import struct
import tarfile
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from personae.errors import BadParams
from scraper import decide, listing, personae
from scraper.__main__ import main
from scraper.errors import BadFolder, ForeignHost, NotFound, TooLarge, UnexpectedResponse
from scraper.sources.folder import Folder, post_id
from scraper.sources.layout.images import MOST_TILES
from tests.scraper.folder_fixture import (
    FAMILIES,
    LABELS,
    by_label,
    fetched,
    indexed,
    mosaics,
    save,
    walked,
)
from tests.scraper.test_resume import warm_parent


@pytest.fixture
def images(tmp_path):
    """Returns a folder of three oddly named labels, three images each, of three types."""
    return by_label(tmp_path / "images")


def test_posts_carry_what_the_folder_gives(tmp_path):
    """Label, split, group and family reach the post; the post needs no tag for its persona."""
    root = tmp_path / "images"
    rows = [(f"{n}.png", LABELS[n], "val", f"g{n}", FAMILIES.get(LABELS[n])) for n in range(3)]
    for number in range(3):
        save(root / f"{number}.png", number)
    posts = {post.given_label: post for post in walked(Folder(indexed(root, rows)))}

    assert set(LABELS) == set(posts)
    post = posts["Mr. Mime"]
    assert ("val", "g0") == (post.given_split, post.given_group)
    assert (("mr._mime",), ("mimes",)) == (post.tags_character, post.tags_copyright)
    assert ((12, 12), "png") == ((post.image_width, post.image_height), post.file_ext)
    payload = (root / "0.png").read_bytes()
    assert (hashlib.md5(payload).hexdigest(), len(payload)) == (post.md5, post.file_bytes)
    assert () == posts["Élan"].tags_copyright


def test_index_says_where_an_image_is_from(tmp_path):
    """Artist, source, rating and licence of a row reach the post; without them a post has none."""
    columns = ("path", "label", "artist", "source", "rating", "licence")
    rows = [
        ("a.png", "x", "Some One", "https://a.example/1", "Questionable", "CC BY 4.0, © Zoë"),
        ("b.png", "x", "", "", "", ""),
    ]
    for number, name in enumerate(("a.png", "b.png")):
        save(tmp_path / name, number)
    folder = Folder(indexed(tmp_path, rows, columns))
    posts = {post.variants[0].url: post for post in walked(folder)}
    named, bare = posts["folder:a.png"], posts["folder:b.png"]

    assert (("Some_One",), "https://a.example/1") == (named.tags_artist, named.source)
    assert ("q", "CC BY 4.0, © Zoë") == (named.rating, named.licence)
    assert ((), "", "g", None) == (bare.tags_artist, bare.source, bare.rating, bare.licence)


def test_names_of_labels_and_families_never_meet(tmp_path):
    """A family with the name of a label gets its own tag."""
    save(tmp_path / "a.png", 0)
    (post,) = walked(Folder(indexed(tmp_path, [("a.png", "Fish", "", "", "fish")])))

    assert ((("fish",)), ("fish_2",)) == (post.tags_character, post.tags_copyright)


async def _counts(folder):
    return {tag.name: tag.post_count async for tag in folder.candidates(1)}


@pytest.mark.parametrize("size", [1, 2, 7, 200])
def test_walks_meet_every_image_once(images, size):
    """Pages of any size, in descending ids, hold every image once, with unchanged bytes."""
    folder = Folder(images)
    posts = walked(folder, size=size)
    counts = asyncio.run(_counts(folder))

    assert 9 == len({post.post_id for post in posts})
    files = {path.read_bytes() for path in images.glob("*/*")}
    assert files == {fetched(folder, post) for post in posts}
    assert all(0 < post.post_id < 2**63 for post in posts)
    assert {3} == {counts[tag] for post in posts for tag in post.tags_character}


def test_ids_stay_when_the_folder_grows_or_moves(images, tmp_path):
    """The id depends only on the relative path: new files and a moved folder change no id."""
    before = {post.variants[0].url: post.post_id for post in walked(Folder(images))}
    save(images / "aaa" / "new.png", 99)
    images.rename(tmp_path / "moved")
    after = {post.variants[0].url: post.post_id for post in walked(Folder(tmp_path / "moved"))}

    assert 10 == len(after)
    assert before == {url: after[url] for url in before}


def test_a_changed_folder_is_another_collection(images):
    """A changed file changes the identity of the folder, so that the old listing is not reused."""
    before = Folder(images).identity
    assert before == Folder(images).identity
    save(images / "plain" / "0 #1%.png", 50, compress_level=0)

    assert before != Folder(images).identity


def test_two_images_of_one_id_are_an_error(images):
    """Two images with the same post id are an error."""
    with pytest.raises(BadFolder, match="get the same post id, 7"):
        Folder(images, number=lambda _path, _tile: 7)


@given(path=st.text(min_size=1, max_size=20), tile=st.integers(0, MOST_TILES - 1))
def test_ids_are_positive_63_bits_and_tiles_follow_each_other(path, tile):
    """Ids fit a signed 64-bit integer; the tiles of one mosaic have consecutive ids."""
    assert 0 < post_id(path) < 2**63
    assert 0 < post_id(path, tile) < 2**63
    assert tile == post_id(path, tile) - post_id(path, 0)


# Hostile files


def _hostile(root, kind):
    place = root / "plain" / "bad.png"
    if kind == "link out":
        save(root.parent / "outside.png", 5)
        place.symlink_to(root.parent / "outside.png")
    elif kind == "link in circles":
        place.symlink_to(place)
    elif kind == "dead link":
        place.symlink_to(root / "nothing")
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.write_bytes({"empty": b"", "text": b"<html>", "cut": b"\x89PNG\r\n\x1a\n"}[kind])
    return place


def test_every_file_has_a_decision(images, tmp_path, monkeypatch):
    """The content decides the type: a JPEG by any name is stored, each other file is refused by name."""
    save(images / "plain" / "a.jfif", 20, format="JPEG")
    save(images / "plain" / "deep" / "er" / "b.JPE", 21, format="JPEG")
    save(images / "plain" / "c.bmp", 22)
    save(images / "plain" / "d.tif", 23)
    (images / "plain" / "notes.txt").write_text("no image")
    (images / "readme.md").write_text("no label")
    save(images / "small" / "e.png", 24)
    wide = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 2**32 - 1, 2**31)
    (images / "plain" / "wide.png").write_bytes(wide + bytes(9))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"decide": {"min_side": 0}}))
    assert 0 == main(["--folder", "images", "--min-images", "3"])
    reasons = defaultdict(set)
    for stage in ("decide", "download"):
        for row in pq.read_table(f"data/{stage}/decisions.parquet").to_pylist():
            reasons[row["post_id"]] |= {row["reason"]} - {None}
    stored = set(pq.read_table("data/download/images.parquet")["post_id"].to_pylist())

    assert 17 == len(reasons)
    assert {post_id("plain/a.jfif"), post_id("plain/deep/er/b.JPE")} < stored
    assert 11 == len(stored)
    assert {"file_type"} == reasons[post_id("plain/c.bmp")] == reasons[post_id("plain/d.tif")]
    assert {"file_type"} == reasons[post_id("plain/notes.txt")]
    assert {"file_type", "no_persona"} < reasons[post_id("readme.md")]
    assert {"persona_too_small"} == reasons[post_id("small/e.png")]
    assert {"corrupt"} == reasons[post_id("plain/wide.png")]


def test_a_tilde_is_the_home_folder(images, monkeypatch):
    """`~` in the path of the folder stands for the home folder, as in a shell."""
    monkeypatch.setenv("HOME", str(images.parent))

    assert 9 == len(walked(Folder(Path("~/images"))))


@pytest.mark.parametrize("kind", ["link out", "link in circles", "dead link", "pipe"])
def test_what_is_no_file_is_listed_without_one(images, kind):
    """A pipe or a link that is broken or leaves the folder is hidden and never read."""
    _hostile(images, kind)
    (post,) = [post for post in walked(Folder(images)) if post.is_hidden]

    assert () == post.variants
    assert post_id("plain/bad.png") == post.post_id


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("link out", "hidden"),
        ("dead link", "hidden"),
        ("empty", "wrong_type"),
        ("text", "wrong_type"),
        ("cut", "corrupt"),
    ],
)
def test_a_bad_file_is_a_recorded_refusal(images, tmp_path, monkeypatch, kind, reason):
    """One bad file in the folder is refused with a reason, and all other files are stored."""
    _hostile(images, kind)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"decide": {"min_side": 0}}))
    assert 0 == main(["--folder", "images", "--min-images", "1"])

    found = {
        row["post_id"]: row["reason"]
        for stage in ("decide", "download")
        for row in pq.read_table(f"data/{stage}/decisions.parquet").to_pylist()
    }
    assert 10 == len(found)
    assert {post_id("plain/bad.png"): reason} == {k: v for k, v in found.items() if v}
    assert 9 == pq.read_table("data/download/images.parquet").num_rows


def test_giant_files_and_removed_ones_are_refused(images):
    """A file above the cap is TooLarge, and a file removed after the listing is NotFound."""
    folder = Folder(images)
    post = walked(folder)[0]
    size = post.file_bytes

    assert size == len(fetched(folder, post, max_bytes=size))
    with pytest.raises(TooLarge):
        fetched(folder, post, max_bytes=size - 1)
    for path in images.glob("*/*"):
        path.unlink()
    with pytest.raises(NotFound):
        fetched(folder, post)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("/original/ab.png", UnexpectedResponse),
        ("http://127.0.0.1/a.png", UnexpectedResponse),
        ("folder:../outside.png", ForeignHost),
        ("folder:..%2foutside.png", ForeignHost),
        ("folder:/etc/hosts", ForeignHost),
        ("folder:plain", NotFound),
        ("folder:a%00b.png", NotFound),
        ("folder:plain/0 #1%25.png", NotFound),
        ("folder:plain/0%20%231%25.png#0", NotFound),
    ],
)
def test_no_url_leads_outside(images, tmp_path, url, error):
    """A URL that leads out of the folder, from a changed or foreign table, is refused."""
    save(tmp_path / "outside.png", 5)

    with pytest.raises(error):
        asyncio.run(Folder(images).get_bytes(url, max_bytes=10**6))


def test_a_folder_has_no_search(images):
    """A folder refuses search terms, because it has no search."""
    with pytest.raises(BadParams, match=r"Leave 'listing\.terms' empty"):
        asyncio.run(Folder(images).page("plain solo", before=None, size=9))


# The stages


def test_default_rules_admit_every_image(images, tmp_path):
    """With `min_side: 0`, no rule of `decide` refuses a labelled image."""
    folders = [tmp_path / name for name in ("listing", "decide")]
    wanted = personae.Params(min_images=1)
    asyncio.run(listing.run(listing.Params(), wanted, Folder(images), folders[0]))
    decide.run(decide.Params(min_side=0), wanted, *folders)

    kept = pq.read_table(folders[1] / "kept.parquet").to_pylist()
    assert 9 == len(kept)
    assert set(LABELS) == {row["persona"] for row in kept}


def test_equal_folders_give_equal_bytes(images, tmp_path, monkeypatch):
    """Two runs write the same tables and the same segments, in the order of ids."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("decide: {min_side: 0}")
    for name in ("one", "two"):
        assert 0 == main(["--folder", "images", "--min-images", "1", "--data", name])
    files = [path.relative_to("one") for path in sorted(Path("one").rglob("*.parquet"))]
    files += [path.relative_to("one") for path in sorted(Path("one").rglob("*.tar"))]

    assert len(files) >= 10
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()
    stored = pq.read_table("one/download/images.parquet")
    assert stored["offset"].to_pylist() == sorted(stored["offset"].to_pylist())


def test_names_and_command(images, tmp_path, monkeypatch, capsys):
    """`listing.names` chooses labels; a folder without a path, and `plan`, are wrong usage."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("site: {name: folder, folder: images}")
    assert 0 == main(["listing", "--names", "mr._mime", "elan"])
    assert 6 == pq.read_table("data/listing/posts.parquet").num_rows
    assert 2 == main(["listing", "--names", "nobody"])
    assert 2 == main(["plan"])
    assert 5 == main(["listing", "--folder", "nowhere"])
    (tmp_path / "params.yaml").write_text("site: {name: folder}")
    assert 2 == main(["listing"])
    (tmp_path / "params.yaml").write_text("site: {name: folder, folder: images}")
    assert 3 == main(["listing", "--site", "http://127.0.0.1:9", "--attempts", "1"])

    out, err = capsys.readouterr()
    assert out.startswith("Site: folder, images. Another:")
    assert "a folder needs none" in err
    assert "nowhere is no folder" in err
    assert "needs a path in 'site.folder'" in err


# Killed and run again


@pytest.fixture(scope="module")
def parent():
    with warm_parent() as process:
        yield process


def _job(parent, folder, images, **job):
    params = {"side": None, "workers": 4, "queue": 8, "group": 8, "segment_bytes": 40_960}
    common = {"folder": str(folder), "images": str(images), "params": params}
    parent.stdin.write(json.dumps(common | job) + "\n")
    parent.stdin.flush()
    parent.stdout.readline()
    return int(parent.stdout.readline())


@pytest.fixture
def listed(tmp_path):
    """Returns a folder of mosaics, listed and decided, and the bytes of its images."""
    chance = random.Random(0)
    sheets = {f"{name}.png": ("train", [chance.randrange(3) for _ in range(40)]) for name in "abcd"}
    root = mosaics(tmp_path / "images", sheets, side=8, columns=8, rows=5)
    folder = Folder(root)
    wanted = personae.Params(min_images=1)
    asyncio.run(listing.run(listing.Params(), wanted, folder, tmp_path / "listing"))
    decide.run(decide.Params(min_side=0), wanted, tmp_path / "listing", tmp_path / "decide")
    return root, {post.post_id: fetched(folder, post) for post in walked(folder)}


@pytest.mark.parametrize(
    ("step", "count"),
    [
        ("segment begun", 2),
        ("header", 1),
        ("payload", 50),
        ("padding", 77),
        ("synced", 5),
        ("recorded", 3),
        ("committed", 9),
        ("exporting", 1),
        ("decisions exported", 1),
    ],
)
def test_a_download_killed_and_run_again_ends_the_same(listed, parent, tmp_path, step, count):
    """After SIGKILL at a step of the writer, the next run stores every image with equal bytes."""
    root, expected = listed
    assert -signal.SIGKILL == _job(parent, tmp_path, root, step=step, count=count)
    assert not (tmp_path / "download" / "images.parquet").exists()
    assert 0 == _job(parent, tmp_path, root)

    found = {}
    for path in (tmp_path / "download" / "segments").iterdir():
        with tarfile.open(path) as tar:
            for member in tar:
                assert member.name not in found
                found[member.name] = tar.extractfile(member).read()
    assert {f"{number}.png": payload for number, payload in expected.items()} == found
    images = pq.read_table(tmp_path / "download" / "images.parquet").to_pylist()
    assert sorted(expected) == [row["post_id"] for row in images]
    assert all(hashlib.md5(expected[row["post_id"]]).hexdigest() == row["md5"] for row in images)
