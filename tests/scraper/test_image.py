"""Tests the choice of the variant to fetch, and the check of the first bytes of an image."""

import hashlib
import io
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from scraper.image import Header, RequestedFile, has_end, header, inspect, smallest_sufficient
from scraper.ledger import RefusedImage
from scraper.params.decide import READABLE
from scraper.post import Variant

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF"}


def encode(file_ext, width, height, **options):
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 40, 40)).save(file, FORMATS[file_ext], **options)
    return file.getvalue()


def variant(name, width, height, file_ext="jpg"):
    return Variant(name, f"/{name}/x.{file_ext}", width, height, file_ext)


SMALL, MIDDLE = variant("180x180", 135, 180), variant("360x360", 270, 360)
LARGE, ORIGINAL = variant("720x720", 540, 720, "webp"), variant("original", 900, 1200, "png")
ALL = (SMALL, MIDDLE, LARGE, ORIGINAL)


@pytest.mark.parametrize(
    ("expected", "side"),
    [(SMALL, 64), (SMALL, 180), (MIDDLE, 181), (LARGE, 720), (ORIGINAL, 721), (ORIGINAL, 5000)],
)
def test_takes_the_smallest_variant_that_suffices(expected, side):
    """The long side decides; if no variant suffices, the largest is taken."""
    assert expected == smallest_sufficient(ALL, side)


def test_no_side_means_the_original():
    """Without a requested size the original is fetched, even if a variant is as large."""
    original = variant("original", 100, 100, "png")

    assert ORIGINAL == smallest_sufficient(ALL, None)
    assert original == smallest_sufficient((variant("180x180", 100, 100), original), None)


def test_order_of_variants_does_not_matter_and_the_first_of_equals_wins():
    """Of equal variants the first is taken, so that the smaller re-encoded file is fetched."""
    thumbnail, original = variant("180x180", 100, 100), variant("original", 100, 100, "png")

    assert SMALL == smallest_sufficient(ALL[::-1], 64)
    assert thumbnail == smallest_sufficient((thumbnail, original), 500)
    assert thumbnail == smallest_sufficient((thumbnail, original), 64)


def test_never_takes_what_moves():
    """A video or an animation is never fetched, even if no other variant is large enough."""
    film, gif = variant("sample", 850, 600, "webm"), variant("original", 900, 900, "gif")

    assert SMALL == smallest_sufficient((SMALL, film, gif), 700)
    assert None is smallest_sufficient((film, gif), 64)


@pytest.mark.parametrize("file_ext", FORMATS)
@given(width=st.integers(1, 300), height=st.integers(1, 300))
def test_header_agrees_with_pillow(file_ext, width, height):
    """Type and size read from the first bytes agree with Pillow."""
    assert Header(file_ext, width, height) == header(encode(file_ext, width, height))


@pytest.mark.parametrize(
    ("file_ext", "options"),
    [
        ("webp", {"lossless": True}),
        ("webp", {"exif": Image.Exif().tobytes() + b"padding"}),
        ("jpg", {"progressive": True}),
        ("jpg", {"comment": b"\xff\xc0 looks like a frame" * 3000}),
        ("png", {"interlace": 1}),
    ],
)
def test_header_reads_every_flavour(file_ext, options):
    """Lossless, extended, progressive and commented files are read as well."""
    assert Header(file_ext, 123, 45) == header(encode(file_ext, 123, 45, **options))


def test_fill_bytes_and_lone_markers_are_passed():
    """Fill bytes before a marker, and markers without a length, are legal and skipped."""
    payload = encode("jpg", 20, 30)

    assert Header("jpg", 20, 30) == header(payload[:2] + b"\xff\xff\xff\x01" + payload[2:])


@given(payload=st.binary(max_size=80))
def test_any_bytes_are_survived(payload):
    """Random bytes after a known header raise nothing and give no impossible size."""
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF....WEBPVP8 ", b"GIF89a"):
        found = header(start + payload)

        assert found is None or (found.width >= 0 and found.height >= 0)


@pytest.mark.parametrize("file_ext", FORMATS)
def test_cut_header_has_no_size(file_ext):
    """A file that ends inside its header has size zero, wherever it is cut."""
    payload = encode(file_ext, 77, 55)
    sizes = {
        (cut.width, cut.height) for end in range(len(payload)) if (cut := header(payload[:end]))
    }

    assert sizes <= {(0, 0), (77, 55), (77, 0)}


def wanted(payload, *, kind="180x180", file_ext="png", width=40, height=30, md5=None):
    listed = Variant(kind, f"/{kind}/x.{file_ext}", width, height, file_ext)
    return RequestedFile(7, md5 or hashlib.md5(payload).hexdigest(), len(payload), listed)


PNG = encode("png", 40, 30)


def refusal(payload, **listed):
    found = inspect(payload, wanted(PNG, **listed), max_pixels=5000)
    assert isinstance(found, RefusedImage)
    return found.reason, found.measured, found.threshold


def test_sound_image_is_accepted():
    """A file of the listed type, size and checksum is accepted."""
    for kind in ("180x180", "original"):
        assert Header("png", 40, 30) == inspect(PNG, wanted(PNG, kind=kind), max_pixels=1200)


def test_turned_size_is_accepted():
    """A file with swapped width and height is accepted, because a camera may store it rotated."""
    assert isinstance(inspect(PNG, wanted(PNG, width=30, height=40), max_pixels=5000), Header)


def test_jpeg_by_its_long_name_is_a_jpg():
    """`jpeg` and `jpg` are the same type."""
    payload = encode("jpg", 40, 30)

    assert isinstance(inspect(payload, wanted(payload, file_ext="jpeg"), max_pixels=5000), Header)


def test_checksum_is_asked_of_originals_only():
    """The md5 is checked for originals only: thumbnails are listed with the original's md5."""
    assert isinstance(inspect(PNG, wanted(PNG, md5="0" * 32), max_pixels=5000), Header)
    assert ("wrong_md5", len(PNG), len(PNG)) == refusal(PNG, kind="original", md5="0" * 32)


@pytest.mark.parametrize(
    ("expected", "payload"),
    [
        (("wrong_type", None, None), b"<html>not here</html>"),
        (("wrong_type", None, None), encode("jpg", 40, 30)),
        (("wrong_type", None, None), encode("gif", 40, 30)),
        (("wrong_type", None, None), b""),
        (("corrupt", None, None), PNG[:20]),
        (("wrong_shape", 1320, 1200), encode("png", 40, 33)),
        (("wrong_shape", 1600, 1200), encode("png", 40, 40)),
        (("wrong_shape", 48, 1200), encode("png", 8, 6)),
        (("too_large", 10000, 5000), encode("png", 100, 100)),
    ],
)
def test_other_bytes_are_refused_with_their_reason(expected, payload):
    """A web page, another type, another size and too many pixels are refused with own codes."""
    assert expected == refusal(payload)


@pytest.mark.parametrize("file_ext", ["jpg", "png", "webp"])
@pytest.mark.parametrize("options", [{}, {"progressive": True, "interlace": 1, "lossless": True}])
def test_a_file_cut_short_lacks_its_end(file_ext, options):
    """The end is missed wherever a file is cut after its first bytes; bytes behind it do no harm."""
    whole = encode(file_ext, 40, 30, **options)

    assert has_end(whole)
    assert has_end(whole + b"trailer")
    assert not any(has_end(whole[:end]) for end in range(12, len(whole)))


@pytest.mark.parametrize("size", [(40, 31), (41, 29), (42, 32), (26, 20), (80, 60), (27, 20)])
def test_other_size_of_the_same_shape_is_accepted(size):
    """Boards compute the listed size and resize the file by another rule: the bytes decide."""
    payload = encode("png", *size)

    assert Header("png", *size) == inspect(payload, wanted(PNG), max_pixels=5000)


def test_original_is_accepted_by_its_checksum():
    """An original with the listed md5 is the file, whatever size and type are listed."""
    payload = encode("png", 77, 20)
    listed = wanted(payload, kind="original", file_ext="jpg")

    assert Header("png", 77, 20) == inspect(payload, listed, max_pixels=5000)
    film = wanted(encode("gif", 77, 20), kind="original")
    assert "wrong_type" == inspect(encode("gif", 77, 20), film, max_pixels=5000).reason


def test_refusals_of_bytes_are_suspected():
    """What a network may have changed is suspected, with the hash of the body as evidence."""
    jpeg = encode("jpg", 40, 30)

    assert "suspected" == inspect(b"<html>", wanted(PNG), max_pixels=5000).state
    found = inspect(jpeg, wanted(PNG), max_pixels=5000)
    assert ("suspected", hashlib.sha256(jpeg).hexdigest()) == (found.state, found.evidence)
    assert "final" == inspect(PNG, wanted(PNG), max_pixels=10).state


def test_endless_fill_bytes_end():
    """A file of fill bytes has no size, and the search for it ends at once."""
    start = time.perf_counter()

    assert Header("jpg", 0, 0) == header(b"\xff\xd8" + b"\xff" * 20_000_000)
    assert time.perf_counter() - start < 0.5


def test_key_tells_replaced_files_and_variants_apart():
    """A new checksum or another variant gives another key."""
    keys = {
        wanted(PNG).file_key,
        wanted(PNG, md5="0" * 32).file_key,
        wanted(PNG, kind="original").file_key,
    }

    assert 3 == len(keys)


@pytest.mark.parametrize("file_ext", [*READABLE, "gif", "avif"])
def test_kept_types_are_those_that_are_read(file_ext):
    """The types that section `decide` names as readable are those of which a file is fetched."""
    variant = Variant("original", "/a", 8, 8, file_ext)

    assert (file_ext in READABLE) == (smallest_sufficient([variant], None) is not None)
