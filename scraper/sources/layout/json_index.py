"""
`index.json`: CIFAR-like mosaics, each a file of equal tiles, with the label number of every tile.

No image is opened here.
"""

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scraper.errors import BadFolder
from scraper.sources.layout.images import (
    MOST_TILES,
    LabelledImage,
    Layout,
    Mosaic,
    check_size,
    inside,
    named,
)

MOST_PIXELS = 50_000_000
"""Most pixels of a mosaic: below the 89 million at which Pillow warns."""


class _Sheet(BaseModel):
    """One mosaic of `index.json`."""

    model_config = ConfigDict(strict=True)

    sheet: str
    rows: int = Field(ge=1, le=MOST_TILES)
    columns: int = Field(ge=1, le=MOST_TILES)
    tile: int = Field(ge=1, le=10_000)
    fine: list[int]


class _Index(BaseModel):
    """`index.json`: sheets by split, and the names that their numbers stand for."""

    model_config = ConfigDict(strict=True)

    train: list[_Sheet] = []
    val: list[_Sheet] = []
    test: list[_Sheet] = []
    fine_names: list[str]
    coarse_names: list[str] = []
    coarse_of_fine: list[int] = []


def mosaics(index: Path) -> Layout:
    """
    Returns the tiles of all mosaics that `index.json` lists.

    Raises:
        BadFolder: The index cannot be read, or a value is wrong; the message names the key.
    """
    document = _parsed(index)
    labels = [named(name, "fine name", str(index)) for name in document.fine_names]
    coarse = [named(name, "coarse name", str(index)) for name in document.coarse_names]
    if len(set(labels)) != len(labels):
        raise BadFolder(f"{index} has a fine name twice. Each stands for one label: rename one.")
    if document.coarse_of_fine and (
        len(document.coarse_of_fine) != len(labels)
        or not all(0 <= number < len(coarse) for number in document.coarse_of_fine)
    ):
        raise BadFolder(
            f"{index}: coarse_of_fine needs one number for each of the {len(labels)} fine names, "
            f"from 0 to {len(coarse) - 1}. Correct it, or leave it out."
        )
    families: list[str | None] = [coarse[number] for number in document.coarse_of_fine]
    families = families or [None] * len(labels)
    mosaics: dict[str, Mosaic] = {}
    images: list[LabelledImage] = []
    splits: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")
    for split, sheet in [(name, sheet) for name in splits for sheet in getattr(document, name)]:
        where = f"{index}, sheet {sheet.sheet!r:.60}"
        path = inside(sheet.sheet, where)
        if path in mosaics:
            raise BadFolder(f"{where}, stands there twice. Remove one.")
        _check_sheet(sheet, where, labels=len(labels))
        mosaics[path] = Mosaic(sheet.rows, sheet.columns, sheet.tile)
        images += [
            LabelledImage(path, labels[fine], split, None, families[fine], tile)
            for tile, fine in enumerate(sheet.fine)
        ]
    return Layout(tuple(images), mosaics)


def _parsed(index: Path) -> _Index:
    check_size(index)
    try:
        return _Index.model_validate(json.loads(index.read_text(encoding="utf-8")))
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise BadFolder(
            f"{index}: '{key}' is wrong ({problem['msg']}). Correct it; the documentation lists the "
            "keys of an index of mosaics."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise BadFolder(
            f"{index} cannot be read as JSON in UTF-8 ({error}). Correct it."
        ) from error


def _check_sheet(sheet: _Sheet, where: str, *, labels: int) -> None:
    tiles = sheet.rows * sheet.columns
    if tiles > MOST_TILES or tiles * sheet.tile**2 > MOST_PIXELS:
        raise BadFolder(
            f"{where}, has {tiles} tiles of {sheet.tile}² pixels; a mosaic has at most "
            f"{MOST_TILES} tiles and {MOST_PIXELS} pixels. Spread it over several."
        )
    if len(sheet.fine) > tiles:
        raise BadFolder(f"{where}, has {len(sheet.fine)} labels for {tiles} tiles. Correct it.")
    wrong = next((number for number in sheet.fine if not 0 <= number < labels), None)
    if wrong is not None:
        raise BadFolder(f"{where}, has the label {wrong}; there are 0 to {labels - 1}. Correct it.")
