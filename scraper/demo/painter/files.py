"""
Files of a post: which variants exist, their paths on the CDN, and the bytes of each.

Sizes, formats and path grammar follow Danbooru (`MediaAsset.variant_types`, `media_asset_file_path`).
`produce` runs in worker processes: it takes recipes and returns bytes, with no other state.
"""

import hashlib
import io
import math
import random
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from PIL import Image, ImageOps, PngImagePlugin

from scraper.demo.facts.personae import PERSONAE
from scraper.demo.facts.record import FileFacts, FileRecipe

BOXES = {"180x180": 180, "360x360": 360, "720x720": 720}
SAMPLE_WIDTH = 850
STILLS = ("jpg", "png", "gif", "webp", "avif")
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
_PATH = re.compile(
    r"/(?P<type>180x180|360x360|720x720|sample|full|original)/(?P<a>[0-9a-f]{2})/(?P<b>[0-9a-f]{2})"
    r"/(?:__[^/]*__)?(?P<prefix>sample-)?(?P<md5>[0-9a-f]{32})\.(?P<ext>[0-9a-z]+)"
)
_HUFFMAN = b"\xff\xc4"
"""Marker of a JPEG's Huffman tables: length, class, then 16 counts (ITU-T T.81, B.2.4.2)."""
_WEBP_HEADER = 30  # RIFF, chunk and frame header with the size of a lossy WebP
_CAST = {persona.name: persona for persona in PERSONAE}


@dataclass(frozen=True, slots=True)
class FileVariant:
    """One file on offer; sizes in pixels."""

    type: str
    width: int
    height: int
    file_ext: str


@dataclass(frozen=True, slots=True)
class ProducedFiles:
    """A post's facts, and the bytes of those files that were asked for, by variant type."""

    facts: FileFacts
    files: dict[str, bytes] = field(default_factory=dict)


def scaled(width: int, height: int, *, box_width: float, box_height: float) -> tuple[int, int]:
    """The size that fits a box: never enlarged, each side rounded half up."""
    if width <= box_width and height <= box_height:
        return width, height
    scale = min(box_width / width, box_height / height)
    return max(1, math.floor(width * scale + 0.5)), max(1, math.floor(height * scale + 0.5))


def variants(
    width: int, height: int, *, file_ext: str, duration: float | None
) -> tuple[FileVariant, ...]:
    """Every file of an original with this size and type, in the order of the API."""
    still = file_ext in STILLS and duration is None
    found = []
    if file_ext != "swf":
        for name, side in BOXES.items():
            fitted = scaled(width, height, box_width=side, box_height=side)
            found.append(FileVariant(name, *fitted, "webp" if side == 720 else "jpg"))
    if (still and width > SAMPLE_WIDTH) or file_ext == "zip":
        fitted = scaled(width, height, box_width=SAMPLE_WIDTH, box_height=math.inf)
        found.append(FileVariant("sample", *fitted, "webm" if file_ext == "zip" else "jpg"))
    if still and file_ext in ("webp", "avif"):
        found.append(FileVariant("full", width, height, "jpg"))
    return (*found, FileVariant("original", width, height, file_ext))


def path(variant_type: str, md5: str, file_ext: str) -> str:
    """Where a file lies on the CDN."""
    prefix = "sample-" if variant_type == "sample" else ""
    return f"/{variant_type}/{md5[:2]}/{md5[2:4]}/{prefix}{md5}.{file_ext}"


def parse_path(text: str) -> tuple[str, str, str] | None:
    """(variant type, md5, extension) of a CDN path, or None when it is none."""
    match = _PATH.fullmatch(text)
    if match is None:
        return None
    md5 = match["md5"]
    if md5[:4] != match["a"] + match["b"] or (match["type"] == "sample") != bool(match["prefix"]):
        return None
    return match["type"], md5, match["ext"]


def produce(recipes: tuple[FileRecipe, ...], wanted: tuple[str, ...]) -> list[ProducedFiles]:
    """Makes each original, and returns its facts and the files of the wanted variant types."""
    return [_produce(recipe, wanted) for recipe in recipes]


def _produce(recipe: FileRecipe, wanted: tuple[str, ...]) -> ProducedFiles:
    if recipe.path is not None:
        original = Path(recipe.path).read_bytes()
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(original))).convert("RGB")
        pixel_hash = hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()
    else:
        image = _draw(recipe)
        original = _damaged(_encode(image, recipe), recipe)
        pixel_hash = hashlib.blake2b(_pixel_text(recipe), digest_size=16).hexdigest()
    md5 = hashlib.md5(original, usedforsecurity=False).hexdigest()
    animated = 1.0 if recipe.mode == "animated" else None
    files = {}
    for variant in variants(*image.size, file_ext=recipe.file_ext, duration=animated):
        if variant.type == "original" and variant.type in wanted:
            files["original"] = original
        elif variant.type in wanted:
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
    """The image, drawn no larger than needed and brought to its size."""
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
    if image.size != (recipe.width, recipe.height):
        image = image.resize((recipe.width, recipe.height), Image.Resampling.BILINEAR)
    return image.convert("L") if recipe.mode == "grey" else image.convert("RGB")


def _encode(image: Image.Image, recipe: FileRecipe) -> bytes:
    if recipe.file_ext not in STILLS:
        return _not_a_picture(recipe)
    file = io.BytesIO()
    if recipe.mode == "palette":
        image = image.quantize(64, method=Image.Quantize.FASTOCTREE)
    elif recipe.mode == "cmyk":
        image = image.convert("CMYK")
    comment = f"copy {recipe.salt}" if recipe.salt else ""
    if recipe.file_ext == "jpg":
        image.save(file, "JPEG", quality=recipe.quality, comment=comment.encode())
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


def _not_a_picture(recipe: FileRecipe) -> bytes:
    """A film, archive or flash file that nobody plays: the right first bytes, then noise."""
    magic = {
        "mp4": b"\0\0\0\x18ftypmp42",
        "webm": b"\x1aE\xdf\xa3",
        "zip": b"PK\3\4",
        "swf": b"CWS",
    }
    return magic[recipe.file_ext] + _noise(recipe, 4_096)


def _variant(image: Image.Image, variant: FileVariant) -> bytes:
    file = io.BytesIO()
    size = (variant.width, variant.height)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=1.0)
    if variant.file_ext == "webm":
        return b"\x1aE\xdf\xa3" + bytes(4_096)
    if variant.file_ext == "webp":
        image.save(file, "WEBP", quality=75, method=0)
    else:
        image.save(file, "JPEG", quality=85)
    return file.getvalue()


def _damaged(encoded: bytes, recipe: FileRecipe) -> bytes:
    """`encoded`, or what is left of it when the recipe says that the file is damaged."""
    if recipe.damage == "truncated":
        return encoded[: len(encoded) * 11 // 20]
    if recipe.damage == "undecodable":
        # The header stays whole, so that only who decodes the pixels finds out.
        if encoded.startswith(b"RIFF"):
            return encoded[:_WEBP_HEADER] + b"\xff" * (len(encoded) - _WEBP_HEADER)
        table = encoded.index(_HUFFMAN) + len(_HUFFMAN) + 3
        return encoded[:table] + b"\xff" * 16 + encoded[table + 16 :]
    return encoded


def _noise(recipe: FileRecipe, length: int) -> bytes:
    return random.Random(recipe.seed).randbytes(length)  # noqa: S311 - a made-up file, no secrets
