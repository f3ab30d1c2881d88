"""Tests the search for one drawing in several images: edits are seen, other drawings are not."""

import csv
import io
import random
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageOps

from curation import artwork
from curation.artwork import LabelImages, StoredArtwork, pairs_of_label
from curation.errors import TamperedData
from curation.keypoints import keypoints_of
from tests.curation.entries_fixture import draw, png
from tests.curation.segments_fixture import store

Edit = Callable[[Image.Image], Image.Image]


def drawing(seed: int) -> Image.Image:
    """Draws a figure on white with many details inside its outline."""
    chance = random.Random(seed)
    image = Image.new("RGB", (170, 180), "white")
    pen = ImageDraw.Draw(image)
    outline = [edge + chance.uniform(-12, 12) for edge in (25, 15, 145, 165)]
    pen.ellipse(outline, fill=(222, 140, 30), outline="black", width=2)
    for _ in range(40):
        x, y = chance.uniform(45, 110), chance.uniform(35, 130)
        box = (x, y, x + chance.uniform(5, 22), y + chance.uniform(5, 22))
        fill = tuple(chance.randrange(30, 220) for _ in range(3))
        getattr(pen, chance.choice(["ellipse", "rectangle"]))(box, fill=fill, outline="black")
    return image


def cut_out(image: Image.Image, ground: Image.Image, share: float = 1.0) -> Image.Image:
    """Returns a drawing on white without its background, scaled and shifted onto another one."""
    image = image.resize((round(image.width * share), round(image.height * share)))
    mask = ImageChops.difference(image, Image.new("RGB", image.size, "white")).convert("L")
    canvas = ground.resize((190, 180))
    canvas.paste(image, (canvas.width - image.width, 5), mask.point(lambda grey: 255 * (grey > 12)))
    return canvas


def plain(colour: str) -> Image.Image:
    return Image.new("RGB", (190, 180), colour)


def captioned(image: Image.Image) -> Image.Image:
    taller = Image.new("RGB", (image.width, image.height + 40), "black")
    taller.paste(image)
    words = random.Random(zlib.crc32(image.tobytes())).randbytes(10).hex()
    ImageDraw.Draw(taller).text((20, image.height + 12), words, fill="white")
    return taller


def hue_turned(image: Image.Image) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    return Image.merge(
        "HSV", (hue.point(lambda angle: (angle + 40) % 256), saturation, value)
    ).convert("RGB")


EDITS: dict[str, Edit] = {
    "cut out, on black": lambda image: cut_out(image, plain("black")),
    "cut out, on a colour, 75 %": lambda image: cut_out(image, plain("#408060"), 0.75),
    "mirrored": ImageOps.mirror,
    "mirrored, on grey, 80 %": lambda image: cut_out(ImageOps.mirror(image), plain("grey"), 0.8),
    "captioned": captioned,
    "recoloured": hue_turned,
    "a third cut off": lambda image: image.crop((0, 0, image.width * 2 // 3, image.height)),
    "turned by 20 degrees": lambda image: image.rotate(
        20, Image.Resampling.BICUBIC, fillcolor="white"
    ),
    "black and white": lambda image: image.convert("L").convert("RGB"),
}


def linked(images: Sequence[Image.Image], folder: Path, least: int = 12) -> set[tuple[int, int]]:
    """Stores the images with their index as id; returns the pairs of one drawing."""
    stored = store(folder, [png(image) for image in images])
    pairs = pairs_of_label(LabelImages(stored, folder, least))
    return {(pair.post_a, pair.post_b) for pair in pairs}


@pytest.mark.parametrize("edit", EDITS)
def test_edited_drawing_is_linked_to_its_original(edit, tmp_path: Path) -> None:
    """Each edit of four drawings is linked to its original alone."""
    drawings = [drawing(seed) for seed in range(4)]
    edited = [EDITS[edit](drawing) for drawing in drawings]

    assert {(number, number + 4) for number in range(4)} == linked([*drawings, *edited], tmp_path)


def test_different_drawings_are_not_linked(tmp_path: Path) -> None:
    """No two of 40 drawings with equal colours, shapes and strokes are linked."""
    drawings = [draw("coral", seed=seed) for seed in range(20)]
    drawings += [drawing(seed) for seed in range(20)]

    assert set() == linked(drawings, tmp_path)


def test_later_images_change_no_pair(tmp_path: Path) -> None:
    """The pairs of the first images are the same, whatever images follow."""
    chance = random.Random(1)
    edited = [chance.choice(list(EDITS.values()))(drawing(seed % 5)) for seed in range(30)]
    whole = linked(edited, tmp_path / "whole")

    assert len(whole) > 30
    for number in (1, 2, 7, 19):
        first = linked(edited[:number], tmp_path / str(number))
        assert first == {pair for pair in whole if max(pair) < number}


def test_pair_tells_inliers_and_mirroring(tmp_path: Path) -> None:
    """A mirrored copy is told apart from a plain one, and has nearly as many inliers."""
    image = drawing(3)
    stored = store(
        tmp_path, [png(image), png(image, compress_level=1), png(ImageOps.mirror(image))]
    )
    pairs = {(pair.post_a, pair.post_b): pair for pair in pairs_of_label(_label(stored, tmp_path))}

    assert [False, True, True] == [pairs[ends].mirrored for ends in ((0, 1), (0, 2), (1, 2))]
    assert pairs[0, 1].inliers > 50
    assert max(pair.difference for pair in pairs.values()) < 0.15
    assert min(pair.overlap for pair in pairs.values()) > 0.9
    assert pairs[0, 2].inliers > 0.7 * pairs[0, 1].inliers


def test_images_without_keypoints_are_no_pair(tmp_path: Path) -> None:
    """Equal plain images, and bytes that are no image, have no keypoints to agree."""
    data = [png(plain("white")), png(plain("white")), b"no image", b"no image"]

    assert [] == pairs_of_label(_label(store(tmp_path, data), tmp_path))
    assert [] == pairs_of_label(_label((), tmp_path))


def test_tampered_segment_is_an_error(tmp_path: Path) -> None:
    """Stored bytes that do not have their sha256 stop the search; the error names the post."""
    stored = store(tmp_path, [png(draw("amber", seed=1))])
    (tmp_path / stored[0].segment).write_bytes(bytes(100_000))

    with pytest.raises(TamperedData, match="post 0 "):
        pairs_of_label(_label(stored, tmp_path))


def test_small_images_are_left_out() -> None:
    """Images of 32 pixels have too few keypoints; thumbnails of 180 pixels have enough."""
    width, height = np.array([32, 40, 180]), np.array([32, 180, 40])

    assert [False, True, True] == artwork.is_large_enough(width, height).tolist()


def _label(stored: tuple[StoredArtwork, ...], folder: Path) -> LabelImages:
    return LabelImages(stored, folder, 12)


# Real drawings


def test_edits_of_real_drawings(real_data: Path, tmp_path: Path) -> None:
    """
    Of 12 illustrations, cut out, scaled, mirrored and on another illustration, 3 in 4 are linked.

    All are compared as if they had one label; of 4,950 other pairs, one of two families is linked
    at most.
    """
    with (real_data / "illustrations" / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["tar"] == "images-00.tar"]
    rows = random.Random(5).sample(rows, 100)
    with tarfile.open(real_data / "illustrations" / "images-00.tar") as tar:
        images = [_opened(tar, row["path"]) for row in rows]
    on_white = [
        number
        for number, image in enumerate(images)
        if np.asarray(image)[[0, -1]].mean() > 245 and len(keypoints_of(image)) >= 60
    ][:12]
    grounds = random.Random(6).sample(range(len(images)), len(on_white))
    edited = [
        cut_out(ImageOps.mirror(images[number]), images[ground].rotate(90), 0.85)
        for number, ground in zip(on_white, grounds, strict=True)
    ]
    pairs = linked([*images, *edited], tmp_path)
    copies = {(number, 100 + place) for place, number in enumerate(on_white)}
    of_ground = {(number, 100 + place) for place, number in enumerate(grounds)}
    family = [row["family"] for row in rows]
    family += [rows[number]["family"] for number in on_white]

    assert 12 == len(on_white)
    others = [(first, second) for first, second in pairs - copies - of_ground if second < 100]

    assert len(copies & pairs) >= 9
    assert sum(family[first] != family[second] for first, second in others) <= 1


def _opened(tar: tarfile.TarFile, name: str) -> Image.Image:
    file = tar.extractfile(name)
    assert file is not None
    return Image.open(io.BytesIO(file.read())).convert("RGB")
