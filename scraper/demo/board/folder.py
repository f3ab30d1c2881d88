"""
Serves a folder of images as a board: one sub-folder per label, or a CSV index.

A label becomes a character tag, and its family a copyright tag. Every post has the tags `1girl` and
`solo`, so that the scraper's default rules keep it; `white_background` is added where the border
is white. Tags of the image size, such as `lowres`, are left out, so that small images are kept.
"""

import csv
import hashlib
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from personae.errors import MissingColumn, MissingInput
from scraper.demo.board.booru import DemoBoard
from scraper.demo.facts.params import Params
from scraper.demo.facts.record import CATEGORIES, DemoPost, FileRecipe
from scraper.demo.painter.shelf import Shelf
from scraper.sources.labels import tag_name, tag_names

_log = logging.getLogger(__name__)

_EXTENSIONS = {".jpg": "jpg", ".jpeg": "jpg", ".png": "png", ".webp": "webp", ".gif": "gif"}
_INDEX = "index.csv"
_FIRST_MS, _STEP_MS = 1_672_531_200_000, 3_700_000
"""Upload times: from 2023-01-01, one post every 62 minutes."""
_BORDER_SHARE = 0.02
"""Width of the border that is measured, per shorter side, as in `curation.image.border`."""
_WHITE, _WHITE_SHARE = 245, 0.9
"""A border is white if 90 % of its pixels have every channel at 245 or more."""
_ORIENTATION = 0x0112
_TURNED = frozenset({5, 6, 7, 8})
"""Values of the EXIF orientation that exchange width and height (Exif 2.32, table 4)."""


@dataclass(frozen=True, slots=True)
class _FolderImage:
    path: Path
    label: str
    width: int
    """In pixels, after the EXIF orientation is applied."""
    height: int
    white: bool
    """Whether the border is white."""


def board(folder: Path, hierarchy: Path | None, params: Params) -> DemoBoard:
    """
    Returns the board of a folder of images.

    Args:
        folder: A folder with one sub-folder per label, or with an `index.csv`. The index has the
            columns `path` and `label`; without `label` its first column other than `path` counts.
            Paths that lead out of the folder are ignored.
        hierarchy: A CSV file with the label in its first column and a column `family`, or None.
        params: The cache folder and the number of worker processes.

    Raises:
        MissingInput: The folder or a file does not exist, or the folder has no image.
        MissingColumn: A CSV file lacks a column.
    """
    families = _families(hierarchy) if hierarchy else {}
    labelled = _indexed(folder) if (folder / _INDEX).is_file() else _listed(folder)
    shelf = Shelf(params.cache, key=_key(labelled))
    images = _images(labelled, shelf, threads=params.workers + 1)
    if not images:
        raise MissingInput(
            f"{folder} holds no image that can be served. Give a folder with one sub-folder per "
            f"label, or with an {_INDEX} of columns path and label."
        )
    if len(images) < len(labelled):
        unreadable = len(labelled) - len(images)
        _log.warning(
            "%d of %d files cannot be read as images and are left out.", unreadable, len(labelled)
        )
    tags = tag_names(sorted({image.label for image in images}))
    posts = [
        _post(number, image, tags[image.label], families.get(image.label))
        for number, image in enumerate(images, start=1)
    ]
    return DemoBoard(posts, shelf=shelf, workers=params.workers)


def _families(path: Path) -> dict[str, str]:
    rows, columns = _csv(path)
    if "family" not in columns:
        raise MissingColumn(f"{path} lacks column 'family' (it has {', '.join(columns)}).")
    return {row[columns[0]]: row["family"] for row in rows}


def _csv(path: Path) -> tuple[list[dict[str, str]], Sequence[str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            return list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError) as error:
        raise MissingInput(
            f"{path} cannot be read as CSV ({error}). Check its name and its encoding (UTF-8)."
        ) from error


def _indexed(folder: Path) -> list[tuple[Path, str]]:
    path = folder / _INDEX
    rows, columns = _csv(path)
    if "path" not in columns or len(columns) == 1:
        raise MissingColumn(f"{path} needs columns path and label (it has {', '.join(columns)}).")
    label = "label" if "label" in columns else next(name for name in columns if name != "path")
    labelled = [(folder / row["path"], row[label]) for row in rows]
    root = folder.resolve()
    return sorted(pair for pair in labelled if pair[0].resolve().is_relative_to(root))


def _listed(folder: Path) -> list[tuple[Path, str]]:
    if not folder.is_dir():
        raise MissingInput(
            f"{folder} is not a folder. Give a folder with one sub-folder per label."
        )
    return [
        (path, path.parent.name)
        for path in sorted(folder.glob("*/*"))
        if path.suffix.lower() in _EXTENSIONS
    ]


def _images(
    labelled: Sequence[tuple[Path, str]], shelf: Shelf, *, threads: int
) -> list[_FolderImage]:
    """Returns the files that are images. The cache keeps the measures, so each decodes once."""
    noted = shelf.noted("measured")
    if noted is None:
        _log.info("Decoding %d files once; later starts read the cache.", len(labelled))
        with ThreadPoolExecutor(threads) as pool:
            measures = list(pool.map(_measured, (path for path, _ in labelled)))
        shelf.note("measured", json.dumps(measures))
    else:
        measures = json.loads(noted)
    return [
        _FolderImage(path, label, *measured)
        for (path, label), measured in zip(labelled, measures, strict=True)
        if measured is not None
    ]


def _measured(path: Path) -> tuple[int, int, bool] | None:
    """Returns width and height in pixels and whether the border is white; None for no image."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.getexif().get(_ORIENTATION) in _TURNED:
                width, height = height, width
            return width, height, _has_white_border(image)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
        return None


def _has_white_border(image: Image.Image) -> bool:
    pixels = np.asarray(image.convert("RGB")).min(axis=2)
    edge = max(1, round(min(pixels.shape) * _BORDER_SHARE))
    frame = np.ones(pixels.shape, dtype=bool)
    frame[edge:-edge, edge:-edge] = False
    return bool((pixels[frame] >= _WHITE).mean() >= _WHITE_SHARE)


def _post(number: int, image: _FolderImage, label: str, family: str | None) -> DemoPost:
    copyright_tags = (tag_name(family) + "_(series)",) if family else ()
    general: tuple[str, ...] = ("1girl", "simple_background", "solo", "white_background")
    if not image.white:
        general = ("1girl", "solo")
    tags: dict[str, tuple[str, ...]] = dict.fromkeys(CATEGORIES, ())
    tags |= {"general": general, "character": (label,), "copyright": copyright_tags}
    file_ext = _EXTENSIONS[image.path.suffix.lower()]
    created = _FIRST_MS + number * _STEP_MS
    return DemoPost(
        post_id=number,
        created_ms=created,
        updated_ms=created,
        uploader_id=1,
        up_score=0,
        down_score=0,
        score=0,
        fav_count=0,
        source="",
        rating="g",
        width=image.width,
        height=image.height,
        file_ext=file_ext,
        duration=None,
        tags=tags,
        recipe=FileRecipe(
            path=str(image.path.resolve()),
            width=image.width,
            height=image.height,
            file_ext=file_ext,
        ),
        all_tags=tuple(sorted(name for names in tags.values() for name in names)),
    )


def _key(labelled: Sequence[tuple[Path, str]]) -> str:
    """Returns a hash of the folder: label, size and time of the last change of each file."""
    digest = hashlib.sha256()
    for path, label in labelled:
        stat = path.stat() if path.exists() else None
        state = (stat.st_size, stat.st_mtime_ns) if stat else None
        digest.update(f"{path.resolve()}:{label}:{state}\n".encode())
    return digest.hexdigest()
