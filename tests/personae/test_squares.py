"""Tests the one decoder by value: awkward images come out in the colours that a browser shows."""

import io
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw, PngImagePlugin

from curation import image as images
from curation import measure
from personae import squares
from personae.build import shards
from personae.documents import Background
from personae.errors import UnreadableImage
from train import predict

WIDTH, HEIGHT = 200, 120
LEFT, RIGHT, WHITE = (230, 120, 30), (30, 60, 200), (255, 255, 255)
GREY_LEFT, GREY_RIGHT = (143, 143, 143), (67, 67, 67)


def drawn() -> Image.Image:
    """Returns an image with an orange left half and a blue right half."""
    image = Image.new("RGB", (WIDTH, HEIGHT), LEFT)
    ImageDraw.Draw(image).rectangle((WIDTH // 2, 0, WIDTH, HEIGHT), fill=RIGHT)
    return image


def half_clear() -> Image.Image:
    """Returns the image with a right half that is transparent, blue below."""
    image = drawn().convert("RGBA")
    alpha = Image.new("L", (WIDTH, HEIGHT), 255)
    ImageDraw.Draw(alpha).rectangle((WIDTH // 2, 0, WIDTH, HEIGHT), fill=0)
    image.putalpha(alpha)
    return image


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def deep_png(colour: int, left: tuple[int, ...], right: tuple[int, ...], *extra: bytes) -> bytes:
    """Returns a PNG of 16 bits a channel with two halves; Pillow cannot write all kinds."""
    halves = [struct.pack(f">{len(half)}H", *half) * (WIDTH // 2) for half in (left, right)]
    rows = (b"\0" + b"".join(halves)) * HEIGHT
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + body


def turned(kind: str, *, number: int = 3, order: str = ">") -> bytes:
    """Returns the image on its side with an EXIF orientation of 16 or 32 bits."""
    mark = b"MM\0*" if order == ">" else b"II*\0"
    value = struct.pack(
        order + "HH" if number == 3 else order + "I", *((6, 0) if number == 3 else (6,))
    )
    entry = struct.pack(order + "HHI", 0x0112, number, 1) + value
    exif = b"Exif\0\0" + mark + struct.pack(order + "IH", 8, 1) + entry + bytes(4)
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    return saved(drawn().transpose(Image.Transpose.ROTATE_90), kind, exif=exif, **options)


def camera() -> bytes:
    """Returns a JPEG of a camera, with a preview as second frame."""
    preview = drawn().resize((50, 30))
    return saved(drawn(), "MPO", save_all=True, append_images=[preview], quality=95)


def damaged_text() -> bytes:
    """Returns a PNG whose text has a wrong checksum."""
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "b")
    return saved(drawn(), "PNG", pnginfo=info).replace(b"tEXta\0b", b"tEXta\0c")


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# Name, bytes, and the colours of the left and the right half.
AWKWARD: dict[str, tuple[Callable[[], bytes], tuple[int, ...], tuple[int, ...]]] = {
    "plain": (lambda: saved(drawn(), "PNG"), LEFT, RIGHT),
    "progressive JPEG": (lambda: saved(drawn(), "JPEG", quality=95, progressive=True), LEFT, RIGHT),
    "CMYK JPEG": (lambda: saved(drawn().convert("CMYK"), "JPEG", quality=95), LEFT, RIGHT),
    "EXIF in JPEG": (lambda: turned("JPEG"), LEFT, RIGHT),
    "EXIF in WebP": (lambda: turned("WEBP"), LEFT, RIGHT),
    "EXIF in PNG": (lambda: turned("PNG"), LEFT, RIGHT),
    "EXIF of 32 bits": (lambda: turned("JPEG", number=4), LEFT, RIGHT),
    "EXIF of 32 bits, little end": (lambda: turned("JPEG", number=4, order="<"), LEFT, RIGHT),
    "16-bit grey": (lambda: deep_png(0, (50_000,), (20_000,)), (195,) * 3, (78,) * 3),
    "16-bit grey, alpha": (lambda: deep_png(4, (50_000, 65_535), (20_000, 0)), (195,) * 3, WHITE),
    "16-bit grey, clear value": (
        lambda: deep_png(0, (50_000,), (20_000,), chunk(b"tRNS", struct.pack(">H", 20_000))),
        (195,) * 3,
        WHITE,
    ),
    "16-bit colour": (
        lambda: deep_png(2, tuple(257 * c for c in LEFT), tuple(257 * c for c in RIGHT)),
        LEFT,
        RIGHT,
    ),
    "palette": (lambda: saved(drawn().quantize(8), "PNG"), LEFT, RIGHT),
    "palette with alpha": (lambda: saved(half_clear().quantize(16), "PNG"), LEFT, WHITE),
    "palette with profile": (
        lambda: saved(drawn().quantize(8), "PNG", icc_profile=SRGB),
        LEFT,
        RIGHT,
    ),
    "alpha over hidden colour": (lambda: saved(half_clear(), "WEBP", lossless=True), LEFT, WHITE),
    "grey with alpha": (lambda: saved(half_clear().convert("LA"), "PNG"), GREY_LEFT, WHITE),
    "grey with colour profile": (
        lambda: saved(drawn().convert("L"), "JPEG", quality=95, icc_profile=SRGB),
        GREY_LEFT,
        GREY_RIGHT,
    ),
    "profile of zeros": (lambda: saved(drawn(), "PNG", icc_profile=bytes(200)), LEFT, RIGHT),
    "profile cut": (
        lambda: saved(drawn(), "JPEG", quality=95, icc_profile=SRGB[:200]),
        LEFT,
        RIGHT,
    ),
    "JPEG of a camera": (camera, LEFT, RIGHT),
    "damaged text": (damaged_text, LEFT, RIGHT),
    "bytes after the end": (lambda: saved(drawn(), "JPEG", quality=95) + bytes(5000), LEFT, RIGHT),
}


@pytest.mark.parametrize("name", AWKWARD)
def test_colours_are_those_of_the_upright_image(name: str) -> None:
    """Both halves have the colour that a browser shows, at the size of the upright image."""
    build, left, right = AWKWARD[name]
    decoded = squares.decode(build(), max_pixels=1 << 20, side=48)
    pixels = np.asarray(decoded.image).astype(int)
    height, width = pixels.shape[:2]

    assert (decoded.width, decoded.height) == (WIDTH, HEIGHT)
    for column, colour in ((width // 4, left), (3 * width // 4, right)):
        assert np.abs(pixels[height // 2, column] - colour).max() <= 8


@pytest.mark.parametrize("name", AWKWARD)
def test_strips_give_the_pixels_of_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images whose transparent pixels are laid on white in strips of seven rows, or as a whole."""
    data = AWKWARD[name][0]()
    whole = squares.decode(data, max_pixels=1 << 20, side=48)
    monkeypatch.setattr(squares, "_STRIP_PIXELS", 7 * WIDTH)

    assert squares.decode(data, max_pixels=1 << 20, side=48).image.tobytes() == (
        whole.image.tobytes()
    )


DECODE = """
import resource, sys
from personae import squares
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
squares.decode(open(sys.argv[1], "rb").read(), max_pixels=1 << 10, side=48)
before = peak()
squares.decode(open(sys.argv[2], "rb").read(), max_pixels=1 << 24, side=48)
print(peak() - before)
"""


def test_memory_of_a_large_transparent_image(tmp_path: Path) -> None:
    """It takes its own pixels, those of the result (4 bytes each in Pillow), and little else."""
    small, large = (Image.new("RGBA", (side, side), (*LEFT, 99)) for side in (32, 4096))
    small.save(tmp_path / "small.png")
    large.save(tmp_path / "large.png", compress_level=1)
    paths = [str(tmp_path / f"{name}.png") for name in ("small", "large")]
    run = subprocess.run(
        [sys.executable, "-c", DECODE, *paths], check=True, capture_output=True, text=True
    )

    assert float(run.stdout) < 2.5 * 4 * 16  # MiB, of 16 million pixels


@pytest.mark.parametrize("background", ["border", "white"])
@pytest.mark.parametrize("name", AWKWARD)
def test_training_and_prediction_see_the_same_square(
    name: str, background: Background, tmp_path: Path
) -> None:
    """What `measure` stores and the trainer decodes is what `predict` makes of the file."""
    data = AWKWARD[name][0]()
    path = tmp_path / "image"
    path.write_bytes(data)
    stored = measure.SegmentImage(1, "0.tar", 0, len(data), "0" * 64, None, None)
    for kind in ("png", "webp"):
        params = measure.Params(side=48, format=kind, background=background)
        _, encoded = measure.measure_one(data, stored, params)
        trained = shards.decoded(encoded, side=48, source="a test")

        assert np.array_equal(trained, predict.square(path, side=48, background=background))


def test_wide_gamut_becomes_srgb() -> None:
    """A profile whose primaries are exchanged changes the colours, so profiles are obeyed."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    green = ImageCms.applyTransform(
        Image.new("RGB", (8, 8), (0, 128, 0)),
        ImageCms.buildTransform(ImageCms.createProfile("sRGB"), lab, "RGB", "LAB"),
    )

    assert green.mode == "LAB"  # littleCMS is there
    assert squares.square(
        saved(Image.new("RGB", (8, 8), (0, 128, 0)), "PNG", icc_profile=SRGB),
        side=8,
        background="border",
        max_pixels=100,
    )[4, 4].tolist() == pytest.approx([0, 128, 0], abs=1)


@pytest.mark.parametrize(
    "data",
    [b"\xff\xd8\xff" + bytes(100), b"RIFF\x10\0\0\0WEBPVP8 " + bytes(8), damaged_text()[:-20], b""],
)
def test_message_is_the_same_for_the_same_bytes(data: bytes) -> None:
    """The reason of a refusal names no address in memory, which would change from run to run."""
    details = set()
    for _ in range(3):
        with pytest.raises(UnreadableImage) as caught:
            squares.decode(data, max_pixels=1 << 20, side=48)
        details.add(caught.value.detail)

    assert len(details) == 1
    assert not re.search(r"0x[0-9a-f]{6}", details.pop())


def test_other_modes_than_rgb_are_no_sample() -> None:
    """The trainer takes squares as `encode` writes them, and decodes nothing else its own way."""
    square = Image.new("RGB", (8, 8), LEFT)
    assert shards.decoded(images.encode(square, "png"), side=8, source="a test")[0, 0].tolist() == [
        *LEFT
    ]
    for other in (square.convert("L"), square.convert("RGBA"), square.quantize(4)):
        with pytest.raises(shards.BadShard, match="of mode"):
            shards.decoded(saved(other, "PNG"), side=8, source="a test")
