"""
Serves a folder of real images as a board: one sub-folder a label, or an index in CSV.

Labels become character tags and families copyright tags; `1girl` and `solo` are added so that the
scraper's default rules admit every image, and `white_background` where the border is white.
Tags that tell the size (`lowres`) are left out: a folder of small images is what it is.
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
_WHITE, _WHITE_SHARE = 245, 0.9
_TURNED = frozenset({5, 6, 7, 8})
_ORIENTATION = 0x0112


@dataclass(frozen=True, slots=True)
class _FolderImage:
    path: Path
    label: str
    width: int
    height: int
    white: bool
    """Whether at least 0.9 of a frame of 2 % has every channel at 245 or more."""


def board(folder: Path, hierarchy: Path | None, params: Params) -> DemoBoard:
    """
    Returns the board of a folder.

    `folder` holds one sub-folder a label, or an `index.csv` with columns `path` and `label` (else
    its second column). `hierarchy` is a CSV file with the label first and a column `family`.

    Raises:
        MissingInput: There is no such folder or file, or no image in it.
        MissingColumn: A CSV file lacks a column.
    """
    families = _families(hierarchy) if hierarchy else {}
    found = _indexed(folder) if (folder / _INDEX).is_file() else _listed(folder)
    shelf = Shelf(params.cache, key=_key(found))
    pictures = _pictures(found, shelf, threads=params.workers + 1)
    if not pictures:
        raise MissingInput(
            f"{folder} holds no image that can be served. Give a folder with one sub-folder a "
            f"label, or with an {_INDEX} of columns path and label."
        )
    if len(pictures) < len(found):
        _log.warning("%d of %d files are no images.", len(found) - len(pictures), len(found))
    tags = tag_names(sorted({picture.label for picture in pictures}))
    posts = [
        _post(number, picture, tags[picture.label], families.get(picture.label))
        for number, picture in enumerate(pictures, start=1)
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
        raise MissingInput(f"{path} cannot be read ({error}). Check its name.") from error


def _indexed(folder: Path) -> list[tuple[Path, str]]:
    path = folder / _INDEX
    rows, columns = _csv(path)
    if "path" not in columns or len(columns) == 1:
        raise MissingColumn(f"{path} needs columns path and label (it has {', '.join(columns)}).")
    label = "label" if "label" in columns else next(one for one in columns if one != "path")
    inside = [(folder / row["path"], row[label]) for row in rows]
    return sorted(one for one in inside if one[0].resolve().is_relative_to(folder.resolve()))


def _listed(folder: Path) -> list[tuple[Path, str]]:
    if not folder.is_dir():
        raise MissingInput(f"{folder} is no folder. Give one with a sub-folder for each label.")
    return [
        (path, path.parent.name)
        for path in sorted(folder.glob("*/*"))
        if path.suffix.lower() in _EXTENSIONS
    ]


def _pictures(
    found: Sequence[tuple[Path, str]], shelf: Shelf, *, threads: int
) -> list[_FolderImage]:
    """Those of the files that are images; each is decoded once in the life of a shelf."""
    noted = shelf.noted("measured")
    if noted is None:
        _log.info("Looking at %d files once; the next start is quick.", len(found))
        with ThreadPoolExecutor(threads) as pool:
            measured = list(pool.map(_measured, (path for path, _ in found)))
        shelf.note("measured", json.dumps(measured))
    else:
        measured = json.loads(noted)
    return [
        _FolderImage(path, label, *one)
        for (path, label), one in zip(found, measured, strict=True)
        if one is not None
    ]


def _measured(path: Path) -> tuple[int, int, bool] | None:
    """Width, height and whiteness of the image at a path, or None when there is none."""
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
    edge = max(1, round(min(pixels.shape) * 0.02))
    frame = np.ones(pixels.shape, dtype=bool)
    frame[edge:-edge, edge:-edge] = False
    return bool((pixels[frame] >= _WHITE).mean() >= _WHITE_SHARE)


def _post(number: int, picture: _FolderImage, label: str, family: str | None) -> DemoPost:
    copyright_tags = (tag_name(family) + "_(series)",) if family else ()
    general: tuple[str, ...] = ("1girl", "simple_background", "solo", "white_background")
    if not picture.white:
        general = ("1girl", "solo")
    tags: dict[str, tuple[str, ...]] = dict.fromkeys(CATEGORIES, ())
    tags |= {"general": general, "character": (label,), "copyright": copyright_tags}
    file_ext = _EXTENSIONS[picture.path.suffix.lower()]
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
        width=picture.width,
        height=picture.height,
        file_ext=file_ext,
        duration=None,
        tags=tags,
        recipe=FileRecipe(
            path=str(picture.path.resolve()),
            width=picture.width,
            height=picture.height,
            file_ext=file_ext,
        ),
        all_tags=tuple(sorted(name for names in tags.values() for name in names)),
    )


def _key(found: Sequence[tuple[Path, str]]) -> str:
    """Names the state of a folder: every path with size and time of its last change."""
    digest = hashlib.sha256()
    for path, label in found:
        stat = path.stat() if path.exists() else None
        state = (stat.st_size, stat.st_mtime_ns) if stat else None
        digest.update(f"{path.resolve()}:{label}:{state}\n".encode())
    return digest.hexdigest()
