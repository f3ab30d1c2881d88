"""Tests the decoding of untrusted bytes: each image is read or refused with a reason."""

import io
import struct
import time
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from curation import image as images
from personae import squares
from personae.errors import UnreadableImage

CAP = 40_000_000


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data: bytes, *, side: int = 48, max_pixels: int = CAP) -> squares.DecodedImage:
    return squares.decode(data, max_pixels=max_pixels, side=side)


def refusal(data: bytes, **options: int) -> str:
    with pytest.raises(UnreadableImage) as caught:
        decoded(data, **options)
    return caught.value.reason


def outcome(data: bytes) -> str:
    """Returns `read` or the reason of the refusal; any other exception is a defect."""
    try:
        decoded(data)
    except UnreadableImage as error:
        return error.reason
    return "read"


OUTCOMES = {"read", "undecodable", "truncated", "too_many_pixels", "animated_file"}


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_header(width: int, height: int, *, depth: int = 8, colour: int = 2) -> bytes:
    body = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", body)


def exif(orientation: int, *, order: str = "<") -> bytes:
    mark = b"II*\x00" if order == "<" else b"MM\x00*"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\x00\x00" + mark + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


# Images that are read


@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
    kind=st.sampled_from(["PNG", "WEBP"]),
    seed=st.integers(0, 999),
)
def test_reads_any_size_and_mode(width: int, height: int, mode: str, kind: str, seed: int) -> None:
    """A sound image of any size and mode becomes RGB of its own size, with finite measures."""
    chance = np.random.default_rng(seed)
    if mode == "I;16":
        deep = chance.integers(0, 65536, (height, width)).astype(np.uint16)
        image, kind = Image.fromarray(deep), "PNG"
    else:
        channels = chance.integers(0, 256, (height, width, 4), dtype=np.uint8)
        image = Image.fromarray(channels, "RGBA").convert(mode)
    decoded_image = decoded(saved(image, kind))
    measures = images.measure(decoded_image.image)

    assert ("RGB", (width, height)) == (decoded_image.image.mode, decoded_image.image.size)
    assert (width, height) == (decoded_image.width, decoded_image.height)
    assert 0 <= measures.border_white <= 1
    assert 0 <= measures.saturation <= 1
    assert 0 <= measures.contrast <= 0.5
    assert measures.sharpness >= 0
    assert (32, True) == (len(measures.phash), 0 <= measures.phash_quality <= 100)


@given(width=st.integers(1, 900), height=st.integers(1, 900), side=st.integers(8, 96))
def test_normalises_to_a_square(width: int, height: int, side: int) -> None:
    """Every shape becomes a square of the given side, padded with the colour of its border."""
    square = squares.normalise(
        Image.new("RGB", (width, height), (9, 99, 199)), side=side, background="border"
    )

    assert (side, side) == square.size
    assert [(side * side, (9, 99, 199))] == square.getcolors()


def test_pads_with_white_on_request() -> None:
    """With `white`, the margin is white, whatever the colour of the border."""
    square = squares.normalise(Image.new("RGB", (60, 20)), side=30, background="white")

    assert (255, 255, 255) == square.getpixel((15, 0))
    assert (0, 0, 0) == square.getpixel((15, 15))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_upright(drawing: Image.Image, orientation: int, order: str) -> None:
    """Each of the eight EXIF orientations is decoded to the upright image."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpose that the camera applied
    turned = drawing if orientation == 1 else drawing.transpose(undo[orientation])
    decoded_image = decoded(saved(turned, "PNG", exif=exif(orientation, order=order)))

    assert drawing.size == (decoded_image.width, decoded_image.height)
    assert drawing.tobytes() == decoded_image.image.tobytes()


@pytest.mark.parametrize(
    "block",
    [
        b"Exif\x00\x00",
        b"Exif\x00\x00II*\x00\xff\xff\xff\xff",
        b"Exif\x00\x00MM\x00*" + b"\xff" * 60_000,
        exif(6)[:-9],
        exif(99),
    ],
)
def test_ignores_broken_exif(drawing: Image.Image, block: bytes) -> None:
    """A damaged or endless EXIF block does not change the decoded image."""
    decoded_image = decoded(saved(drawing, "JPEG", exif=block))

    assert drawing.size == decoded_image.image.size


def test_lays_transparency_on_white() -> None:
    """Clear pixels become white; half-transparent pixels are blended with white."""
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 128))
    decoded_image = decoded(saved(image))

    assert (255, 255, 255) == decoded_image.image.getpixel((0, 0))
    assert (255, 127, 127) == decoded_image.image.getpixel((1, 0))


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_honours_a_transparent_colour(mode: str) -> None:
    """A colour marked as transparent, with or without a palette, becomes white."""
    image = Image.new("RGB", (4, 4), (0, 0, 0)).convert(mode)
    key = {"P": image.getpixel((0, 0)), "L": 0, "RGB": (0, 0, 0)}[mode]
    decoded_image = decoded(saved(image, "PNG", transparency=key))

    assert (255, 255, 255) == decoded_image.image.getpixel((2, 2))


def test_reads_cmyk() -> None:
    """CMYK is converted to RGB: full cyan has no red."""
    decoded_image = decoded(saved(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG"))
    red, green, blue = decoded_image.image.getpixel((8, 8))

    assert "CMYK" == decoded_image.mode
    assert red < 20
    assert min(green, blue) > 150


def test_keeps_the_high_byte_of_16_bits() -> None:
    """A 16-bit grey is scaled, not clipped to white."""
    image = Image.fromarray(np.full((5, 5), 0x80FF, dtype=np.uint16))

    assert (0x80, 0x80, 0x80) == decoded(saved(image)).image.getpixel((0, 0))


def test_converts_an_embedded_profile(drawing: Image.Image) -> None:
    """An sRGB profile keeps the colours; a broken or unsuitable profile is ignored."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    plain = np.asarray(drawing).astype(int)
    seen = [
        np.asarray(decoded(saved(drawing, "PNG", icc_profile=profile)).image).astype(int)
        for profile in (srgb, lab, b"junk" * 100)
    ]

    assert np.abs(seen[0] - plain).max() <= 2
    assert (seen[1] == plain).all()
    assert (seen[2] == plain).all()


def test_scales_large_jpeg_files_while_decoding() -> None:
    """A JPEG file is decoded no larger than needed, and its true size is reported."""
    data = saved(Image.effect_noise((1600, 1200), 40).convert("RGB"), "JPEG")

    assert (400, 300) == decoded(data).image.size
    assert (1600, 1200) == (decoded(data).width, decoded(data).height)
    assert (800, 600) == decoded(data, side=300).image.size


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_encodes_without_loss_and_repeatably(drawing: Image.Image, kind: str) -> None:
    """Lossless formats return the same pixels and give the same bytes each time."""
    first = images.encode(drawing, kind)

    assert first == images.encode(drawing.copy(), kind)
    assert drawing.tobytes() == decoded(first).image.tobytes()


# Images that are refused


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_refuses_a_file_cut_anywhere(drawing: Image.Image, kind: str) -> None:
    """A file cut at any length is refused; no partial image is returned."""
    data = saved(drawing, kind)
    for kept in range(0, len(data) - 2, max(1, len(data) // 150)):
        assert refusal(data[:kept]) in {"truncated", "undecodable"}
    assert refusal(data[: len(data) * 2 // 3]) == "truncated"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "undecodable"),
        (b"\x00" * 4096, "undecodable"),
        (b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>", "undecodable"),
        (b'{"success": false, "error": "not found"}', "undecodable"),
        (b"GIF89a" + bytes(100), "undecodable"),
        (b"\xff\xd8\xff\xe0" + bytes(2000), "undecodable"),
        (b"\xff\xd8\xff\xda" * 300, "undecodable"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 " + bytes(8), "undecodable"),
        (b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(8), "truncated"),
        (png_header(65_535, 65_535) + chunk(b"IDAT", b"") + chunk(b"IEND", b""), "too_many_pixels"),
        (png_header(9_000, 9_000) + chunk(b"IDAT", b"") + chunk(b"IEND", b""), "too_many_pixels"),
        (png_header(0, 10) + chunk(b"IEND", b""), "undecodable"),
        (png_header(10, 10) + chunk(b"IEND", b""), "undecodable"),
        (png_header(10, 10, depth=3), "truncated"),
        (png_header(10, 10) + b"\x7f\xff\xff\xffIDAT", "truncated"),
        (png_header(4, 4) + chunk(b"tEXt", b"") * 100_001, "undecodable"),
    ],
)
def test_refuses_by_name(data: bytes, reason: str) -> None:
    """A file that is not an image, or is an attack, is refused with its reason."""
    assert reason == refusal(data)


def test_refuses_a_wrong_checksum(drawing: Image.Image) -> None:
    """A PNG file with one flipped bit in its pixels is refused."""
    data = bytearray(saved(drawing))
    data[data.index(b"IDAT") + 30] ^= 1

    assert "undecodable" == refusal(bytes(data))


def test_caps_pixels_before_decoding() -> None:
    """The cap is a parameter and is checked in the header; the pixels are never decoded."""
    bomb = png_header(8_000, 4_000, depth=1, colour=0)
    bomb += chunk(b"IDAT", zlib.compress(bytes(1001 * 4000))) + chunk(b"IEND", b"")
    started = time.process_time()

    assert "too_many_pixels" == refusal(bomb, max_pixels=31_000_000)
    assert time.process_time() - started < 2


@pytest.mark.parametrize(("side", "limit"), [(9_000, 40_000_000), (20_000, 40_000_000)])
def test_refusal_for_pixels_has_both_numbers(side: int, limit: int) -> None:
    """The refusal records the number of pixels and the cap, also above Pillow's own limit."""
    bomb = png_header(side, side) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")

    with pytest.raises(UnreadableImage) as caught:
        squares.decode(bomb, max_pixels=limit, side=64)
    assert (side * side, limit) == (caught.value.measured, caught.value.threshold)


def test_refusal_for_scans_has_their_number() -> None:
    """A JPEG file of many scans is refused with their number and the cap."""
    with pytest.raises(UnreadableImage, match="scans") as caught:
        squares.decode(b"\xff\xd8\xff" + b"\xff\xda" * 300, max_pixels=1000, side=64)
    assert (300, 100) == (caught.value.measured, caught.value.threshold)


@pytest.mark.parametrize(
    "filler", [b"\xff", b"\xff\xfe\0\2", b"\xff\xe1\0\2", b"\xff\xd0", b"\xff\xf0", b"\0\xff\xd0"]
)
def test_refuses_a_jpeg_of_endless_markers(drawing: Image.Image, filler: bytes) -> None:
    """A JPEG file of millions of markers or fill bytes before its pixels is refused at once."""
    data = saved(drawing, "JPEG")
    scan = data.index(b"\xff\xda")
    started = time.process_time()

    assert "undecodable" == refusal(data[:scan] + filler * 3_000_000 + data[scan:])
    assert time.process_time() - started < 0.5


def test_reads_a_jpeg_with_fill_bytes(drawing: Image.Image) -> None:
    """Some fill bytes before a marker, which the format allows, change no pixel."""
    data = saved(drawing, "JPEG")
    scan = data.index(b"\xff\xda")
    filled = data[:scan] + b"\xff" * 1_000 + data[scan:]

    assert decoded(data).image.tobytes() == decoded(filled).image.tobytes()


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_refuses_animation(drawing: Image.Image, kind: str) -> None:
    """A file with several frames is refused as an animation."""
    other = drawing.transpose(Image.Transpose.ROTATE_180)

    assert "animated_file" == refusal(saved(drawing, kind, save_all=True, append_images=[other]))


@pytest.mark.parametrize("name", [b"zTXt", b"iCCP", b"iTXt"])
def test_survives_compressed_text_bombs(drawing: Image.Image, name: bytes) -> None:
    """A text chunk that decompresses to 100 MiB is refused or ignored within 5 seconds."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
    body = b"x\x00\x00" + packed if name != b"iTXt" else b"x\x00\x01\x00\x00\x00" + packed
    data = saved(drawing)
    started = time.process_time()

    assert outcome(data[:33] + chunk(name, body) + data[33:]) in {"read", "undecodable"}
    assert time.process_time() - started < 5


def test_drops_what_hides_behind_an_image(drawing: Image.Image) -> None:
    """From a file that is both an image and an archive, only the pixels are kept."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("payload.js", "alert('hidden')")
    data = saved(drawing, "JPEG", comment=b"<script>hidden</script>") + archive.getvalue()
    square = squares.normalise(decoded(data).image, side=48, background="border")

    assert b"PK" not in images.encode(square, "png")
    assert b"script" not in images.encode(square, "jpg")


@given(data=st.binary(max_size=400), head=st.sampled_from(["jpg", "png", "webp", ""]))
def test_never_crashes_on_noise(data: bytes, head: str) -> None:
    """Random bytes after a valid file header give an image or a refusal with a known reason."""
    heads = {
        "jpg": b"\xff\xd8\xff",
        "png": png_header(8, 8),
        "webp": b"RIFF\x08\x00\x00\x00WEBP",
        "": b"",
    }

    assert outcome(heads[head] + data) in OUTCOMES


@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP"]),
    positions=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=12),
)
def test_never_crashes_on_damage(
    drawing: Image.Image, kind: str, positions: list[tuple[float, int]]
) -> None:
    """Changed bytes in a sound file give an image or a refusal with a known reason."""
    data = bytearray(saved(drawing, kind, exif=exif(6)))
    for position, value in positions:
        data[int(position * len(data))] = value

    assert outcome(bytes(data)) in OUTCOMES
