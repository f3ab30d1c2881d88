"""Tests mosaics: unchanged pixels, each sheet decoded once, and no sheet trusted."""

import hashlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from scraper.errors import BadFolder
from scraper.sources.folder import Folder, post_id
from scraper.sources.mosaic import png
from tests.scraper.folder_fixture import fetched, mosaics, pixels, save, some_of_cifar100, walked


@given(width=st.integers(1, 300), height=st.integers(1, 300), seed=st.integers(0, 100))
def test_png_holds_the_pixels(width, height, seed):
    """Any image is written and read back by Pillow unchanged, with every checksum verified."""
    drawn = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    with Image.open(io.BytesIO(png(drawn))) as image:
        image.load()

        assert ("PNG", "RGB") == (image.format, image.mode)
        assert np.array_equal(drawn, np.asarray(image))


def test_tiles_are_cut_and_told_apart(tmp_path):
    """Each tile is its own image, with the same bytes in any order of requests."""
    mosaics(tmp_path, {"a.webp": ("train", [0, 1, 2, 2]), "b.png": ("test", [0, 0])})
    folder = Folder(tmp_path)
    posts = walked(folder)
    found = {post.post_id: fetched(folder, post) for post in posts}

    for name, number, tiles in (("a.webp", 0, 4), ("b.png", 1, 2)):
        for tile in range(tiles):
            assert png(pixels(100 * number + tile, 4)) == found[post_id(name, tile)]
    assert {"train", "test"} == {post.given_split for post in posts}
    assert {hashlib.md5(payload).hexdigest() for payload in found.values()} == {
        post.md5 for post in posts
    }


def test_a_sheet_is_decoded_once_for_all_its_tiles(tmp_path, monkeypatch):
    """In the order of ids, as in the download, every sheet is opened once."""
    mosaics(tmp_path, {f"{n}.png": ("train", [0, 1, 2, 0, 1, 2]) for n in range(7)})
    folder = Folder(tmp_path)
    posts = sorted(walked(folder), key=lambda post: post.post_id)
    opened = []
    decode = Image.open
    monkeypatch.setattr(Image, "open", lambda file, **k: opened.append(file) or decode(file, **k))
    fresh = Folder(tmp_path)
    for post in posts:
        fetched(fresh, post)

    assert (42, 7) == (len(posts), len(opened))


@pytest.mark.parametrize("kind", ["cut", "other size", "text", "absent", "alpha"])
def test_a_sheet_that_is_not_what_the_index_says(tmp_path, kind):
    """A sheet that is cut, transparent, absent, wrongly sized or no image is an error."""
    mosaics(tmp_path, {"a.png": ("train", [0, 1])})
    path = tmp_path / "a.png"
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-60])
    elif kind == "other size":
        save(path, 0)
    elif kind == "alpha":
        Image.new("RGBA", (12, 8), (9, 9, 9, 9)).save(path)
    elif kind == "text":
        path.write_text("no image")
    else:
        path.unlink()

    with pytest.raises(BadFolder, match=r"a\.png .* Restore the file, or correct the index"):
        walked(Folder(tmp_path))


# Real images


def test_sheets_of_cifar100(real_data, tmp_path):
    """One sheet of train and one of test have the expected labels, splits and pixels."""
    source = real_data / "cifar100"
    if not (source / "index.json").is_file():
        pytest.skip(f"{source} is absent: the real test data lacks CIFAR-100")
    folder = Folder(some_of_cifar100(source, tmp_path / "cifar100"))
    posts = walked(folder)

    assert 5000 == len(posts)
    counts = {(post.given_split, post.given_label): 0 for post in posts}
    for post in posts:
        counts[post.given_split, post.given_label] += 1
    assert [500] * 5 == [count for (split, _), count in counts.items() if split == "train"]
    assert {100} == {count for (split, _), count in counts.items() if split == "test"}
    apple = next(post for post in posts if post.post_id == post_id("train-00.webp", 51))
    assert ("apple", ("fruit_and_vegetables",)) == (apple.given_label, apple.tags_copyright)
    with (
        Image.open(source / "train-00.webp") as sheet,
        Image.open(io.BytesIO(fetched(folder, apple))) as tile,
    ):
        cut = sheet.convert("RGB").crop((32, 32, 64, 64))
        assert cut.tobytes() == tile.tobytes()
