"""
Files of a post: the variants that exist, their paths on the CDN, and the bytes of each file.

Sizes, formats and paths follow Danbooru (`variant_types` in `app/models/media_asset.rb` and
`media_asset_file_path` in `config/danbooru_default_config.rb` of
https://github.com/danbooru/danbooru). `produce` runs in worker processes and has no state.
"""

import hashlib
import io
import math
import random
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from scraper.demo.facts.personae import PERSONAE
from scraper.demo.facts.record import FileFacts, FileRecipe

BOXES = {"180x180": 180, "360x360": 360, "720x720": 720}
"""Type of a thumbnail to the side of the square that it fits into, in pixels."""
SAMPLE_WIDTH = 850
"""Width of a sample in pixels; narrower originals have no sample."""
STILLS = ("jpg", "png", "gif", "webp", "avif")
"""Types of image files."""
CONTENT_TYPES = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "zip": "application/zip",
    "swf": "application/x-shockwave-flash",
}

_LARGEST_DRAWN = 640
"""Longest side of a drawing, in pixels. Larger originals are scaled up, which is faster."""
_PATH = re.compile(
    r"/(?P<type>180x180|360x360|720x720|sample|full|original)/(?P<a>[0-9a-f]{2})/(?P<b>[0-9a-f]{2})"
    r"/(?:__[^/]*__)?(?P<prefix>sample-)?(?P<md5>[0-9a-f]{32})\.(?P<ext>[0-9a-z]+)"
)
_HUFFMAN = b"\xff\xc4"
"""Marker of a JPEG's Huffman tables: length, class, then 16 counts (ITU-T T.81, B.2.4.2)."""
_WEBP_HEADER = 30
"""Headers of a lossy WebP in bytes: RIFF 12, chunk 8, frame with its size 10 (RFC 6386, 9.1)."""
_KEPT = (11, 20)
"""Share of the bytes that a truncated file keeps: enough for the header, too few to decode."""
_QUARTER_TURN = 6
"""EXIF orientation: a viewer turns the stored pixels by 90 degrees (Exif 2.32, table 4)."""
_NOISE_BYTES = 4_096
"""Length of the content of films, archives and flash files, which nothing decodes."""
_CAST = {persona.name: persona for persona in PERSONAE}


@dataclass(frozen=True, slots=True)
class FileVariant:
    """One file that the CDN offers for a post."""

    type: str
    """180x180, 360x360, 720x720, sample, full or original."""
    width: int
    """Width in pixels."""
    height: int
    """Height in pixels."""
    file_ext: str
    """File type, such as `jpg`."""


@dataclass(frozen=True, slots=True)
class ProducedFiles:
    """The facts of a post's original, and the bytes of the requested files."""

    facts: FileFacts
    files: dict[str, bytes] = field(default_factory=dict)
    """Variant type to bytes."""


def scaled(width: int, height: int, *, box_width: float, box_height: float) -> tuple[int, int]:
    """
    Returns the size, in pixels, of an image that is scaled down to fit a box.

    An image that fits keeps its size. Each side is rounded half up and is at least 1
    (`scale_dimensions` in `app/logical/media_file.rb` of Danbooru).
    """
    if width <= box_width and height <= box_height:
        return width, height
    scale = min(box_width / width, box_height / height)
    return max(1, math.floor(width * scale + 0.5)), max(1, math.floor(height * scale + 0.5))


def variants(
    width: int, height: int, *, file_ext: str, duration: float | None
) -> tuple[FileVariant, ...]:
    """
    Returns the variants that exist for an original, in the order of the API.

    Args:
        width: Width of the original, in pixels.
        height: Height of the original, in pixels.
        file_ext: File type of the original.
        duration: Seconds of an animation, or None for a still image.
    """
    still = file_ext in STILLS and duration is None
    offered = []
    if file_ext != "swf":
        for name, side in BOXES.items():
            fitted = scaled(width, height, box_width=side, box_height=side)
            offered.append(FileVariant(name, *fitted, "webp" if side == 720 else "jpg"))
    if (still and width > SAMPLE_WIDTH) or file_ext == "zip":
        fitted = scaled(width, height, box_width=SAMPLE_WIDTH, box_height=math.inf)
        offered.append(FileVariant("sample", *fitted, "webm" if file_ext == "zip" else "jpg"))
    if still and file_ext in ("webp", "avif"):
        offered.append(FileVariant("full", width, height, "jpg"))
    return (*offered, FileVariant("original", width, height, file_ext))


def path(variant_type: str, md5: str, file_ext: str) -> str:
    """Returns the CDN path of a file; `md5` is the hash of the original for every variant."""
    prefix = "sample-" if variant_type == "sample" else ""
    return f"/{variant_type}/{md5[:2]}/{md5[2:4]}/{prefix}{md5}.{file_ext}"


def parse_path(text: str) -> tuple[str, str, str] | None:
    """Returns variant type, md5 and file type of a CDN path, or None for any other text."""
    match = _PATH.fullmatch(text)
    if match is None:
        return None
    md5 = match["md5"]
    if md5[:4] != match["a"] + match["b"] or (match["type"] == "sample") != bool(match["prefix"]):
        return None
    return match["type"], md5, match["ext"]


def produce(recipes: tuple[FileRecipe, ...], types: tuple[str, ...]) -> list[ProducedFiles]:
    """
    Makes the original of each recipe and returns its facts and some of its variants.

    Args:
        recipes: The recipes.
        types: Variant types to return. A type that does not exist for a file is left out.

    Raises:
        OSError: A recipe names a file on disk that cannot be read.
    """
    return [_produce(recipe, types) for recipe in recipes]


def _produce(recipe: FileRecipe, types: tuple[str, ...]) -> ProducedFiles:
    if recipe.path is not None:
        original = Path(recipe.path).read_bytes()
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(original))).convert("RGB")
        size = image.size
        pixel_hash = hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()
    else:
        image = _draw(recipe)
        original = _damaged(_encode(image, recipe), recipe)
        size = (recipe.width, recipe.height)
        pixel_hash = hashlib.blake2b(_pixel_text(recipe), digest_size=16).hexdigest()
    md5 = hashlib.md5(original, usedforsecurity=False).hexdigest()
    animated = 1.0 if recipe.mode == "animated" else None
    files = {}
    for variant in variants(*size, file_ext=recipe.file_ext, duration=animated):
        if variant.type == "original" and variant.type in types:
            files["original"] = original
        elif variant.type in types:
            files[variant.type] = _damaged(_variant(image, variant), recipe)
    return ProducedFiles(FileFacts(md5, len(original), pixel_hash), files)


def _pixel_text(recipe: FileRecipe) -> bytes:
    """
    Returns the text whose hash is the post's `pixel_hash`: all fields of the recipe but the salt.

    Recipes that differ in the salt only decode to equal pixels. The word `Recipe` is part of the
    text: another word would change the pixel hash of every post.
    """
    values = asdict(replace(recipe, salt=0))
    text = ", ".join(f"{name}={value!r}" for name, value in values.items())
    return f"Recipe({text})".encode()


def _draw(recipe: FileRecipe) -> Image.Image:
    """Returns the image of a recipe: drawn at most 640 pixels long, then scaled to its size."""
    from scraper.demo.painter import drawing

    longest = max(recipe.width, recipe.height)
    shrink = min(1.0, _LARGEST_DRAWN / longest)
    image = drawing.draw(
        [_CAST[name] for name in recipe.cast],
        kind=recipe.kind,
        ground=recipe.ground,
        style=recipe.style,
        seed=recipe.seed,
        width=max(1, round(recipe.width * shrink)),
        height=max(1, round(recipe.height * shrink)),
        monochrome=recipe.monochrome,
    )
    if recipe.edit is not None:
        image = drawing.edit(image, kind=recipe.edit, seed=recipe.edit_seed)
    if image.size != (recipe.width, recipe.height) and recipe.mode != "bomb":
        image = image.resize((recipe.width, recipe.height), Image.Resampling.BILINEAR)
    return image.convert("L") if recipe.mode == "grey" else image.convert("RGB")


def _encode(image: Image.Image, recipe: FileRecipe) -> bytes:
    if recipe.file_ext not in STILLS:
        return _not_an_image(recipe)
    file = io.BytesIO()
    if recipe.mode == "palette":
        image = image.quantize(64, method=Image.Quantize.FASTOCTREE)
    elif recipe.mode == "cmyk":
        image = image.convert("CMYK")
    elif recipe.mode in _UNUSUAL:
        image = _UNUSUAL[recipe.mode](image, recipe)
    comment = f"copy {recipe.salt}" if recipe.salt else ""
    if recipe.file_ext == "jpg":
        turned = {"exif": _turned()} if recipe.mode == "turned" else {}
        image.save(file, "JPEG", quality=recipe.quality, comment=comment.encode(), **turned)
    elif recipe.file_ext == "png":
        notes = PngImagePlugin.PngInfo()
        if comment:
            notes.add_text("Comment", comment)
        image.save(file, "PNG", compress_level=1, pnginfo=notes)
    else:
        second = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
        frames = second if recipe.mode == "animated" else []
        options = {"quality": recipe.quality, "method": 0} if recipe.file_ext == "webp" else {}
        more = {"save_all": True, "append_images": frames, "duration": 500} if frames else {}
        image.save(file, recipe.file_ext.upper(), **options, **more)
    return file.getvalue()


def _with_alpha(image: Image.Image) -> Image.Image:
    """Returns an image with a palette whose colours become opaque from top to bottom."""
    image = image.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image.quantize(64, method=Image.Quantize.FASTOCTREE)


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = _QUARTER_TURN
    return exif


_UNUSUAL: dict[str, Callable[[Image.Image, FileRecipe], Image.Image]] = {
    "grey_16_bit": lambda image, _: (
        image.convert("L").convert("I").point(lambda value: value * 257).convert("I;16")
    ),
    "palette_alpha": lambda image, _: _with_alpha(image),
    "turned": lambda image, _: image.transpose(Image.Transpose.ROTATE_90),
    "bomb": lambda _, recipe: Image.new("1", (recipe.width, recipe.height), 1),
}
"""Way to store pixels to the image that is encoded; the generated board uses none of these."""


def _not_an_image(recipe: FileRecipe) -> bytes:
    """Returns a film, archive or flash file: the first bytes of its type, then random bytes."""
    magic = {
        "mp4": b"\0\0\0\x18ftypmp42",
        "webm": b"\x1aE\xdf\xa3",
        "zip": b"PK\3\4",
        "swf": b"CWS",
    }
    return magic[recipe.file_ext] + _noise(recipe, _NOISE_BYTES)


def _variant(image: Image.Image, variant: FileVariant) -> bytes:
    file = io.BytesIO()
    size = (variant.width, variant.height)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=1.0)
    if variant.file_ext == "webm":
        return b"\x1aE\xdf\xa3" + bytes(_NOISE_BYTES)
    if variant.file_ext == "webp":
        image.save(file, "WEBP", quality=75, method=0)
    else:
        image.save(file, "JPEG", quality=85)
    return file.getvalue()


def _damaged(encoded: bytes, recipe: FileRecipe) -> bytes:
    """Returns the bytes of a file with the damage of its recipe, if there is any."""
    if recipe.damage == "truncated":
        return encoded[: len(encoded) * _KEPT[0] // _KEPT[1]]
    if recipe.damage == "undecodable":
        # The header stays valid, so that only a decoder of the pixels detects the damage.
        if encoded.startswith(b"RIFF"):
            return encoded[:_WEBP_HEADER] + b"\xff" * (len(encoded) - _WEBP_HEADER)
        table = encoded.index(_HUFFMAN) + len(_HUFFMAN) + 3
        return encoded[:table] + b"\xff" * 16 + encoded[table + 16 :]
    return encoded


def _noise(recipe: FileRecipe, length: int) -> bytes:
    return random.Random(recipe.seed).randbytes(length)  # noqa: S311 - a made-up file, no secrets
