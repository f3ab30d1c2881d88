"""
The layout of a folder of labelled images: which images, with which label and split.

Four layouts are recognised: an `index.csv`, an `index.json` of mosaics, `LABEL/*`, and
`{train,val,test}/LABEL/*`. No image is opened here. A folder may come from strangers: an invalid
index is an error that names line or key, and no path leaves the folder.
"""

import csv
import itertools
import json
import logging
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from personae.errors import MissingColumn, MissingInput
from scraper.errors import BadFolder

_log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp"})
MOST_PIXELS = 50_000_000
"""Most pixels of a mosaic: below the 89 million at which Pillow warns."""
MOST_TILES = 1 << 20
"""Most tiles of a mosaic: the number of a tile is the low 20 bits of its post id."""
_INDEX_CSV, _INDEX_JSON = "index.csv", "index.json"
_MOST_INDEX_BYTES = 512 * 2**20
_LONGEST_LABEL = 200


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One labelled image: a file, or a tile of one."""

    path: str
    """Of the file, relative to the folder, with slashes."""
    label: str
    split: str | None = None
    """train, val, test; None where the folder has no splits."""
    group: str | None = None
    """Images of one group show the same thing and stay in one split."""
    family: str | None = None
    tile: int | None = None
    """Number of the tile in its mosaic, row by row; None for a whole file."""


@dataclass(frozen=True, slots=True)
class Mosaic:
    """A file of equal tiles, row by row."""

    rows: int
    columns: int
    side: int
    """Of a tile, in pixels; tiles are squares."""


@dataclass(frozen=True, slots=True)
class Layout:
    """All images of a folder."""

    images: tuple[LabelledImage, ...]
    mosaics: Mapping[str, Mosaic] = field(default_factory=dict)
    """By path; empty where every image is a file."""


def read(root: Path) -> Layout:
    """
    Returns the layout of the folder `root`.

    Raises:
        MissingInput: There is no such folder, or no image in it.
        MissingColumn: `index.csv` lacks column path or label.
        BadFolder: An index cannot be read, or holds a path that leaves the folder, a path twice,
            an invalid label or split; or the folder of a label is a link that leads outside.
    """
    if not root.is_dir():
        raise MissingInput(
            f"{root} is no folder. Give one of labelled images: `site.folder`, or --folder."
        )
    if (root / _INDEX_CSV).is_file():
        layout = Layout(tuple(_from_csv(root / _INDEX_CSV)))
    elif (root / _INDEX_JSON).is_file():
        layout = _from_json(root / _INDEX_JSON)
    else:
        layout = Layout(tuple(_from_folders(root)))
    if not layout.images:
        raise MissingInput(
            f"{root} holds no labelled image. Give a folder with one sub-folder a label (or "
            f"train, val and test with such in them), or with an {_INDEX_CSV} of path and label."
        )
    return layout


def _from_csv(index: Path) -> Iterator[LabelledImage]:
    _check_size(index)
    seen: dict[str, int] = {}
    try:
        with index.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            names = reader.fieldnames or []
            absent = [name for name in ("path", "label") if name not in names]
            if absent:
                raise MissingColumn(
                    f"{index} lacks column {', '.join(absent)} (it has {', '.join(names)}). It "
                    "needs path and label, and may have split, group and family."
                )
            for row in reader:
                where = f"{index}, line {reader.line_num}"
                image = _row(row, where)
                if image.path in seen:
                    raise BadFolder(
                        f"{where}, names {image.path!r}, which line {seen[image.path]} has "
                        "named already. An image has one label: remove one of the lines."
                    )
                seen[image.path] = reader.line_num
                yield image
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadFolder(f"{index} cannot be read as CSV in UTF-8 ({error}). Correct it.") from error


def _row(row: Mapping[str, str | None], where: str) -> LabelledImage:
    split = row.get("split") or None
    if split is not None and split not in SPLITS:
        raise BadFolder(f"{where}, has split {split!r:.40}. Write train, val, test or nothing.")
    group, family = row.get("group") or None, row.get("family") or None
    return LabelledImage(
        path=_inside(row["path"], where),
        label=_named(row["label"], "label", where),
        split=split,
        group=None if group is None else _named(group, "group", where),
        family=None if family is None else _named(family, "family", where),
    )


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


def _from_json(index: Path) -> Layout:
    document = _parsed(index)
    labels = [_named(name, "fine name", str(index)) for name in document.fine_names]
    coarse = [_named(name, "coarse name", str(index)) for name in document.coarse_names]
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
        path = _inside(sheet.sheet, where)
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
    _check_size(index)
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


def _from_folders(root: Path) -> Iterator[LabelledImage]:
    top = _folders(root, root)
    splits = [name for name in top if name in SPLITS]
    if top and len(splits) == len(top) and any(_folders(root / name, root) for name in top):
        for split in splits:
            for label in _folders(root / split, root):
                yield from _labelled(root, f"{split}/{label}", split)
    else:
        for label in top:
            yield from _labelled(root, label, None)


def _folders(folder: Path, root: Path) -> list[str]:
    """Returns the names of the folders in a folder, in order, without hidden ones (`.git`)."""
    names = sorted(
        path.name for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir()
    )
    for name in names:
        if not (folder / name).resolve().is_relative_to(root.resolve()):
            raise BadFolder(
                f"{folder / name} is a link that leaves {root}. Copy the target of the link, or "
                "name the folder that holds both."
            )
    return names


def _labelled(root: Path, folder: str, split: str | None) -> Iterator[LabelledImage]:
    label = _named(folder.rpartition("/")[2], "label", f"Folder {folder!r} of {root}")
    names = sorted(path.name for path in (root / folder).iterdir() if not path.is_dir())
    images = [name for name in names if PurePosixPath(name).suffix.lower() in EXTENSIONS]
    if len(images) < len(names):
        passed = len(names) - len(images)
        _log.info("%s: %d files ignored, which are no jpg, png or webp", folder, passed)
    for name in images:
        yield LabelledImage(f"{folder}/{name}", label, split)


def _inside(path: str | None, where: str) -> str:
    """Returns a relative path with slashes, without `.` and double slashes."""
    spelled = PurePosixPath(path or "")
    if not path or spelled.is_absolute() or ".." in spelled.parts or not path.isprintable():
        raise BadFolder(
            f"{where}, has the path {path!r:.80}. Write one that is relative to the folder and "
            "does not leave it."
        )
    if not spelled.parts:
        raise BadFolder(f"{where}, has the path {path!r:.80}, which is the folder. Name a file.")
    _check_encodable(path, "path", where)
    return str(spelled)


def _named(text: str | None, what: str, where: str) -> str:
    if not text or not text.strip() or not text.isprintable() or len(text) > _LONGEST_LABEL:
        raise BadFolder(
            f"{where}, has the {what} {text!r:.60}. Write 1 to {_LONGEST_LABEL} printable "
            "characters."
        )
    _check_encodable(text, what, where)
    return text


def _check_encodable(text: str, what: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadFolder(f"{where}, has a {what} that is no UTF-8: {text!r:.60}. Rename.") from error


def _check_size(index: Path) -> None:
    try:
        known = index.stat()
    except OSError as error:
        raise BadFolder(f"{index} cannot be read ({error}). Check its rights.") from error
    if not stat.S_ISREG(known.st_mode) or known.st_size > _MOST_INDEX_BYTES:
        raise BadFolder(
            f"{index} has {known.st_size} bytes; an index has at most {_MOST_INDEX_BYTES}."
        )


def files(layout: Layout) -> list[str]:
    """Returns the paths of a layout, each once, in order."""
    paths = sorted(image.path for image in layout.images)
    return [path for path, _ in itertools.groupby(paths)]
