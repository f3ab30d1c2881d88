"""
`index.csv`: a row for each image, with path and label, and where wanted split, group and family, and
artist, source, rating and licence.

Spreadsheets write such files with commas, semicolons or tabs, in UTF-8 or UTF-16, and with
backslashes in paths; people write a space behind a comma. All of them are read. No image is opened here.
"""

import csv
import io
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path, PureWindowsPath

from personae.errors import MissingColumn
from scraper.errors import BadFolder
from scraper.sources.layout.images import (
    NOTES,
    RATING_OF,
    SPLIT_OF,
    Description,
    LabelledImage,
    check_size,
    described,
    files_below,
    inside,
    named,
    plain_text,
)

_DELIMITERS = ",;\t"
_BEYOND = "\n"  # the key of fields without a column; no column has this name
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def rows(index: Path) -> Iterator[LabelledImage]:
    """
    Yields the images that `index.csv` lists, in its order.

    Raises:
        MissingColumn: Column path or label is absent.
        BadFolder: The file is no CSV in UTF-8 or UTF-16, or a row has a path that leaves the folder,
            a path of an earlier row, more fields than the header, or an invalid label, split, group,
            family, artist or rating.
    """
    check_size(index)
    paths = _Paths(index.parent)
    seen: dict[str, int] = {}
    try:
        text = _text(index)
        # The header decides: a label may hold any of the delimiters.
        first = text.partition("\n")[0]
        delimiter = max(_DELIMITERS, key=first.count)
        reader = csv.DictReader(
            io.StringIO(text, newline=""),
            delimiter=delimiter,
            skipinitialspace=True,
            strict=True,
            restkey=_BEYOND,
        )
        names = reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or []]
        absent = [name for name in ("path", "label") if name not in names]
        if absent:
            raise MissingColumn(
                f"{index} lacks column {', '.join(absent)} (it has {', '.join(names)}). It "
                "needs path and label, and may have split, group, family, artist, source, rating and "
                "licence."
            )
        for row in reader:
            where = f"{index}, line {reader.line_num}"
            if any(row.pop(_BEYOND, None) or ""):
                raise BadFolder(
                    f"{where}, has more fields than the header. Quote a field that contains the "
                    "delimiter, or remove the surplus."
                )
            image = _image(row, where, paths)
            if image.path in seen:
                raise BadFolder(
                    f"{where}, names {image.path!r}, which line {seen[image.path]} has "
                    "named already. An image has one label: remove one of the lines."
                )
            seen[image.path] = reader.line_num
            yield image
    except (OSError, csv.Error) as error:
        raise BadFolder(f"{index} cannot be read as CSV ({error}). Correct it.") from error


def _text(index: Path) -> str:
    content = index.read_bytes()
    encoding = "utf-16" if content.startswith(_UTF16) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadFolder(
            f"{index}, line {line}, is not in UTF-8 (byte {content[error.start]:#04x}), as when a "
            "spreadsheet saves in the encoding of its system. Save it as CSV in UTF-8."
        ) from error


def _image(row: Mapping[str, str | None], where: str, paths: "_Paths") -> LabelledImage:
    split = row.get("split") or None
    if split is not None and split.lower() not in SPLIT_OF:
        raise BadFolder(f"{where}, has split {split!r:.40}. Write train, val, test or nothing.")
    group, family = row.get("group") or None, row.get("family") or None
    return LabelledImage(
        path=paths.spelled(row["path"], where),
        label=named(row["label"], "label", where),
        split=None if split is None else SPLIT_OF[split.lower()],
        group=None if group is None else named(group, "group", where),
        family=None if family is None else named(family, "family", where),
        description=_description(row, where),
    )


def _description(row: Mapping[str, str | None], where: str) -> Description | None:
    """Returns artist, source, rating and licence of an image; None where the row has none of them."""
    artist, source, rating, licence = (row.get(name) or "" for name in NOTES)
    if not artist + source + rating + licence:
        return None
    letter = RATING_OF.get(rating.lower() or "general")
    if letter is None:
        raise BadFolder(
            f"{where}, has rating {rating!r:.40}. Write general, sensitive, questionable, explicit or "
            "nothing, which means general."
        )
    artists = artist.splitlines()  # a cell may have several lines
    return described(
        artists=["_".join(named(name, "artist", where).split()) for name in artists],
        source=plain_text(source),
        rating=letter,
        licence=plain_text(licence),
    )


class _Paths:
    """Paths of an index as they are spelled on disk."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def spelled(self, path: str | None, where: str) -> str:
        """
        Returns a path of the index, relative to the folder, as the file system spells it.

        Backslashes separate folders where no file has one in its name, an absolute path may lead
        into the folder, and letters with accents may be composed on one side only (macOS
        decomposes them). A path without a file stays as it is.
        """
        if path and Path(path).is_relative_to(self._root):
            path = str(Path(path).relative_to(self._root))
        exact = inside(path, where)
        if self._exists(exact):
            return exact
        if PureWindowsPath(exact).drive:
            raise BadFolder(f"{where}, has the absolute path {path!r:.80}. Write a relative one.")
        with_slashes = inside(exact.replace("\\", "/"), where)
        if self._exists(with_slashes):
            return with_slashes
        return self._by_composed.get(unicodedata.normalize("NFC", with_slashes), with_slashes)

    def _exists(self, path: str) -> bool:
        try:
            return (self._root / path).exists()
        except OSError:  # a name that is too long for the file system
            return False

    @cached_property
    def _by_composed(self) -> Mapping[str, str]:
        """Every file of the folder, by its path with composed letters."""
        return {unicodedata.normalize("NFC", path): path for path in files_below(self._root)}
