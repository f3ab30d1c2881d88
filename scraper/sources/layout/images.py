"""
What the layouts of a folder have in common: labelled images, files of many images, checks of names.

A folder may come from strangers: no path leaves it, and every label is printable text.
"""

import os
import re
import stat
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from scraper.errors import BadFolder
from scraper.post import TAG_KINDS

Split = Literal["train", "val", "test"]
SPLIT_OF: Final[Mapping[str, Split]] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""The split that a name in lower case means, as torchvision, Hugging Face and Kaggle write it."""
RATING_OF: Final[Mapping[str, str]] = {
    "g": "g",
    "general": "g",
    "s": "s",
    "sensitive": "s",
    "q": "q",
    "questionable": "q",
    "e": "e",
    "explicit": "e",
}
"""The letter of a rating, of a letter or word in lower case, as Danbooru writes it."""
MOST_TILES = 1 << 20
"""Most images of a file: the number of an image in its file is the low 20 bits of its post id."""
NOTES: Final = ("artist", "source", "rating", "licence")
"""What a layout without tags may note of an image."""
_MOST_INDEX_BYTES = 512 * 2**20
_LONGEST_LABEL = 200


@dataclass(frozen=True, slots=True)
class Description:
    """What a file beside an image, or its row of an index, says about its post, as a board would."""

    tags: Mapping[str, tuple[str, ...]]
    """By kind: general, character, copyright, artist, meta."""
    rating: str
    """`g`, `s`, `q` or `e`."""
    source: str
    created_at_utc: datetime | None
    score: int
    flags: frozenset[str]
    """Those of `is_deleted`, `is_banned`, `is_pending` and `is_flagged` that are set."""
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One file with its label, or one image of a file of many; it may turn out to be no image."""

    path: str
    """Of the file, relative to the folder, with slashes."""
    label: str | None
    """None of a file that lies in the folder of no label, or whose character tags decide it."""
    split: Split | None = None
    """train, val, test; None where the folder has no splits."""
    group: str | None = None
    """Images of one group show the same thing and stay in one split."""
    family: str | None = None
    tile: int | None = None
    """
    Number of the image in its file: of the tile in its mosaic, row by row; of the row in its table; of
    the image in its archive. None for a whole file.
    """
    description: Description | None = None

    @property
    def personae(self) -> tuple[str, ...]:
        """The character tags that decide the label; none where the folder gives the label."""
        if self.label or not self.description:
            return ()
        return self.description.tags["character"]


@dataclass(frozen=True, slots=True)
class Mosaic:
    """A file of equal tiles, row by row."""

    rows: int
    columns: int
    side: int
    """Of a tile, in pixels; tiles are squares."""


@dataclass(slots=True)
class Spans:
    """Where the images of a file lie in it, in bytes, by the number of the image."""

    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    """0 for an image that the file does not hold."""

    def add(self, offset: int, size: int) -> int:
        """Adds the next image; returns its number."""
        self.offsets.append(offset)
        self.sizes.append(size)
        return len(self.sizes) - 1


@dataclass(frozen=True, slots=True)
class Layout:
    """All images of a folder."""

    images: tuple[LabelledImage, ...]
    mosaics: Mapping[str, Mosaic] = field(default_factory=dict)
    """By path; empty where every image is a file."""
    spans: Mapping[str, Spans] = field(default_factory=dict)
    """Tar archives and Arrow files, by path."""
    tables: Mapping[str, str] = field(default_factory=dict)
    """Parquet files by path: the column of the encoded image."""


def described(*, artists: Iterable[str], source: str, rating: str, licence: str) -> Description:
    """Returns the description of an image of which no more than this is known."""
    return Description(
        tags={kind: tuple(artists) if kind == "artist" else () for kind in TAG_KINDS},
        rating=rating,
        source=source,
        created_at_utc=None,
        score=0,
        flags=frozenset(),
        licence=licence or None,
    )


def noted(
    *, artist: Any = None, source: Any = None, rating: Any = None, licence: Any = None
) -> Description | None:
    """
    Returns what an archive or a table notes of an image; None where it notes nothing.

    Names of artists have spaces between them, as our shards and exports write them. No rating is
    general, and one that is not understood counts as explicit.
    """
    artist, source, rating, licence = map(plain_text, (artist, source, rating, licence))
    if not artist + source + rating + licence:
        return None
    return described(
        artists=dict.fromkeys(filter(is_label, artist.split())),
        source=source,
        rating=RATING_OF.get(rating.lower() or "general", "e"),
        licence=licence,
    )


def inside(path: str | None, where: str) -> str:
    """
    Returns a relative path with slashes, without `.` and double slashes.

    Raises:
        BadFolder: The path is absolute, leaves the folder, or cannot be printed.
    """
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


def named(text: str | None, what: str, where: str) -> str:
    """
    Returns a label, group or family: 1 to 200 printable characters.

    Raises:
        BadFolder: The text is something else.
    """
    if not text or not text.strip() or not text.isprintable() or len(text) > _LONGEST_LABEL:
        raise BadFolder(
            f"{where}, has the {what} {text!r:.60}. Write 1 to {_LONGEST_LABEL} printable "
            "characters."
        )
    _check_encodable(text, what, where)
    return text


def plain_text(value: Any) -> str:
    """Returns a text that a table can hold, at most 2,000 characters; empty for anything else."""
    return value[:2000].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def is_label(text: str) -> bool:
    """Returns whether a text is a valid label: 1 to 200 printable characters."""
    try:
        return named(text, "label", "") == text
    except BadFolder:
        return False


def split_of(path: str) -> Split | None:
    """Returns the split that the name of a file says, else those of its folders; None if none does."""
    for part in reversed(PurePosixPath(path).parts):
        for word in re.split(r"[-_. ]+", part.lower()):
            if word in SPLIT_OF:
                return SPLIT_OF[word]
    return None


def plain_file(root: Path, path: str) -> Path:
    """
    Returns the path of a plain file in the folder; links within the folder are followed.

    Raises:
        BadFolder: It is absent, no plain file, or a link that leaves the folder.
    """
    try:
        target = (root / path).resolve(strict=True)
        if target.is_relative_to(root.resolve()) and target.is_file():
            return target
    except (OSError, RuntimeError, ValueError) as error:
        raise BadFolder(f"{root / path} cannot be read ({error}). Check it.") from error
    raise BadFolder(f"{root / path} is no plain file in {root}. Copy the file there, or remove it.")


@contextmanager
def damage_named(path: Path, errors: tuple[type[BaseException], ...]) -> Iterator[None]:
    """Turns the `errors` of a library that reads `path` into `BadFolder`."""
    try:
        yield
    except errors as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadFolder(
            f"{path} is damaged or cut short ({reason:.200}). Copy or download it again, or remove it."
        ) from error


def check_size(index: Path) -> None:
    """
    Checks that an index is a plain file of bearable size.

    Raises:
        BadFolder: It is not.
    """
    try:
        known = index.stat()
    except OSError as error:
        raise BadFolder(f"{index} cannot be read ({error}). Check its rights.") from error
    if not stat.S_ISREG(known.st_mode) or known.st_size > _MOST_INDEX_BYTES:
        raise BadFolder(
            f"{index} has {known.st_size} bytes; an index has at most {_MOST_INDEX_BYTES}."
        )


def files_below(folder: Path) -> list[str]:
    """
    Returns the paths of all files below a folder, relative to it, in order.

    Hidden files and folders (`.git`) are left out. A link to a folder is not followed: it counts as
    a file, which cannot be opened later.

    Raises:
        BadFolder: A folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise BadFolder(f"{error.filename} cannot be read ({error.strerror}). Check its rights.")

    paths: list[str] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        folders[:] = [name for name in folders if not name.startswith(".") and name not in links]
        paths += [
            Path(parent, name).relative_to(folder).as_posix()
            for name in (*names, *links)
            if not name.startswith(".")
        ]
    return sorted(paths)


def _check_encodable(text: str, what: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadFolder(f"{where}, has a {what} that is no UTF-8: {text!r:.60}. Rename.") from error
