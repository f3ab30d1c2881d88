"""
A folder of labelled images as a source, and as what hands out their bytes.

A label becomes the post's one character tag, a family its copyright tag; label, split and group go
into the `given_*` columns, so that no tag need say who is in the image. A file is handed out as
it is; a tile of a mosaic becomes a PNG whose bytes depend on its pixels alone.
"""

import hashlib
import logging
import os
import stat
from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import quote_from_bytes, unquote_to_bytes

from personae.errors import BadParams
from scraper.errors import (
    BadFolder,
    CorruptImage,
    ForeignHost,
    NotFound,
    RequestRefused,
    TooLarge,
    UnexpectedResponse,
)
from scraper.picture import Header, header
from scraper.post import CATEGORIES, Post, Variant
from scraper.site import FOLDER
from scraper.sources import Page, Tag
from scraper.sources.labels import tag_names
from scraper.sources.layout import MOST_TILES, Layout, Picture, files, read
from scraper.sources.mosaic import HEADER_BYTES, Sheets, start_of, unreadable

_log = logging.getLogger(__name__)

_SCHEME = "folder:"
_NO_PAIRS: tuple[tuple[str, str], ...] = ()
_UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)


class Folder:
    """
    One folder as a `Source`, and as the transport of its bytes.

    Args:
        root: Where the folder lies.
        number: Gives the post id of a path and a tile.

    Raises:
        MissingInput, MissingColumn, BadFolder: As `layout.read` does; and two images with one
            post id, which would be a collision of sha256.
    """

    name = FOLDER
    """Keeps its images apart from those of boards, as `Site.name` does."""

    def __init__(
        self, root: Path, *, number: Callable[[str, int | None], int] | None = None
    ) -> None:
        self._root = root.resolve()
        self._layout = read(root)
        self._identity = f"{FOLDER} {_state(self._root, self._layout)[:32]}"
        self._sheets = Sheets(self.open, self._layout.mosaics)
        labels = sorted({picture.label for picture in self._layout.pictures})
        families = sorted({one.family for one in self._layout.pictures if one.family})
        self._tags = tag_names(labels)
        self._families = tag_names(families, taken=set(self._tags.values()))
        self._posts = self._by_tag(number or post_id)

    @property
    def identity(self) -> str:
        """Names the collection: posts of two identities never mix, nor two states of a folder."""
        return self._identity

    async def candidates(self, min_images: int) -> AsyncIterator[Tag]:
        """Yields the labels with at least `min_images` images, the most pictured first."""
        for name in sorted(self._posts, key=lambda name: (-len(self._posts[name]), name)):
            if len(self._posts[name]) >= min_images:
                yield self._tag(name)

    async def named(self, names: Sequence[str]) -> AsyncIterator[Tag]:
        """Yields those of `names` that are labels, spelled as tags."""
        for name in names:
            if name in self._posts:
                yield self._tag(name)

    async def page(self, search: str, *, before: int | None, size: int) -> Page:
        """
        Returns the `size` images of label `search` with the largest ids below `before`.

        Raises:
            BadParams: `search` has further terms: a folder has no tags to search.
            BadFolder: A mosaic is not what the index says.
            TransientError: The system could not read a file that is there.
        """
        known = self._posts[self._searched(search)]
        end = len(known) if before is None else bisect_left(known, before, key=lambda one: one[0])
        found = known[max(0, end - size) : end]
        posts = tuple(self._post(number, picture) for number, picture in reversed(found))
        return Page(posts, posts[-1].post_id if posts else None)

    async def implications(self) -> AsyncIterator[tuple[str, str]]:
        """Yields nothing: a label implies no other."""
        for pair in _NO_PAIRS:
            yield pair

    async def aliases(self) -> AsyncIterator[tuple[str, str]]:
        """Yields nothing: a label has one name."""
        for pair in _NO_PAIRS:
            yield pair

    async def count(self, search: str) -> int | None:
        """Returns how many images a label has."""
        return len(self._posts[self._searched(search)])

    async def get_bytes(self, url: str, *, max_bytes: int) -> bytes:
        """
        Returns the bytes that a URL of this source stands for, at most `max_bytes`.

        Raises:
            NotFound: The file is gone, is no plain file, or may not be read.
            ForeignHost: A link leads out of the folder.
            TooLarge: It has more bytes.
            CorruptImage: The mosaic does not decode any more, or to another size.
            UnexpectedResponse: The URL is of another source: the listing is of a board.
            TransientError: The system could not read a file that is there.
        """
        if not url.startswith(_SCHEME):
            raise UnexpectedResponse(
                f"The listing names {url!r:.80}, which is no file of a folder: it is of another "
                "site. Run stage 'listing' again."
            )
        quoted, _, tile = url.removeprefix(_SCHEME).partition("#")
        path = os.fsdecode(unquote_to_bytes(quoted))
        if tile:
            payload = self._sheets.tile(path, tile)
        else:
            with self.open(path) as file:
                payload = start_of(file, max_bytes + 1, path)
        if len(payload) > max_bytes:
            raise TooLarge(f"{path} has more than {max_bytes} bytes (`max_bytes`).", url=url)
        return payload

    def open(self, path: str) -> BinaryIO:
        """
        Opens a plain file inside the folder, wherever links inside it lead.

        Raises:
            NotFound, ForeignHost, TransientError: As `get_bytes` does.
        """
        try:
            place = (self._root / path).resolve(strict=True)
            if not place.is_relative_to(self._root):
                raise ForeignHost(f"{path} is a link that leaves {self._root}.", url=path)
            # Not waiting for whoever writes into a pipe; and what was resolved is no link.
            descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise unreadable(path, error) from error
        except (RuntimeError, ValueError) as error:  # a loop of links; a zero byte
            raise NotFound(f"{path} cannot be followed ({error}).", url=path) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NotFound(f"{path} is no plain file.", url=path)
        return os.fdopen(descriptor, "rb")

    def _by_tag(
        self, number_of: Callable[[str, int | None], int]
    ) -> dict[str, list[tuple[int, Picture]]]:
        known: dict[int, Picture] = {}
        found: dict[str, list[tuple[int, Picture]]] = defaultdict(list)
        for picture in self._layout.pictures:
            number = number_of(picture.path, picture.tile)
            if number in known:
                raise BadFolder(
                    f"{picture.path} and {known[number].path} get the same post id, {number}: "
                    "their sha256 begins alike. Rename one of them."
                )
            known[number] = picture
            found[self._tags[picture.label]].append((number, picture))
        return {name: sorted(posts, key=lambda post: post[0]) for name, posts in found.items()}

    def _tag(self, name: str) -> Tag:
        return Tag(name, CATEGORIES["character"], len(self._posts[name]))

    def _searched(self, search: str) -> str:
        if search not in self._posts:
            raise BadParams(
                f"A folder of images has no search for {search!r:.80}, only its labels. Leave "
                "'listing.terms' empty."
            )
        return search

    def _post(self, number: int, picture: Picture) -> Post:
        md5, size, found, file_ext = self._looked_at(picture)
        place = quote_from_bytes(os.fsencode(picture.path))
        url = f"{_SCHEME}{place}" + ("" if picture.tile is None else f"#{picture.tile}")
        variants = (Variant("original", url, found.width, found.height, file_ext),)
        return Post(
            post_id=number,
            created_at_utc=_UNKNOWN_TIME,
            updated_at_utc=_UNKNOWN_TIME,
            md5=md5,
            pixel_hash=None,
            rating="g",
            image_width=found.width,
            image_height=found.height,
            file_ext=file_ext,
            file_bytes=size,
            duration_seconds=None,
            parent_id=None,
            has_children=False,
            is_pending=False,
            is_flagged=False,
            is_deleted=False,
            is_banned=False,
            score=0,
            uploader_id=0,
            source="",
            tags_general=(),
            tags_character=(self._tags[picture.label],),
            tags_copyright=(self._families[picture.family],) if picture.family else (),
            tags_artist=(),
            tags_meta=(),
            variants=variants if md5 else (),
            given_label=picture.label,
            given_split=picture.split,
            given_group=picture.group,
        )

    def _looked_at(self, picture: Picture) -> tuple[str | None, int, Header, str]:
        """md5, bytes, size and type of an image; no md5 where there is no file to be had."""
        file_ext = PurePosixPath(picture.path).suffix.lower().lstrip(".")
        try:
            if picture.tile is not None:
                payload = self._sheets.tile(picture.path, str(picture.tile))
                return _md5(payload), len(payload), header(payload) or Header("png", 0, 0), "png"
            with self.open(picture.path) as file:
                start = start_of(file, HEADER_BYTES, picture.path)
                digest = hashlib.md5(start, usedforsecurity=False)
                while more := start_of(file, HEADER_BYTES, picture.path):
                    digest.update(more)
                found = header(start) or Header(file_ext, 0, 0)
                return digest.hexdigest(), file.tell(), found, found.file_ext
        except (CorruptImage, RequestRefused) as error:
            if picture.tile is not None:
                raise BadFolder(f"{error} Restore the file, or fix the index.") from error
            _log.warning("listing: %s It is listed without a file.", error)
            return None, 0, Header(file_ext, 0, 0), file_ext


def post_id(path: str, tile: int | None = None) -> int:
    """
    Returns the post id of an image: positive, 63 bits, from sha256 of its relative path.

    The low 20 bits of a tile's id are its number, so that the order of ids goes through a mosaic
    before it comes to the next. A folder that grows keeps the ids that it has.
    """
    digest = hashlib.sha256(os.fsencode(path)).digest()
    if tile is None:
        return max(1, int.from_bytes(digest[:8], "big") >> 1)
    return max(1, int.from_bytes(digest[:8], "big") >> 21) * MOST_TILES + tile


def _state(root: Path, layout: Layout) -> str:
    """Names the state of a folder: what it says of each image, size and time of each file."""
    digest = hashlib.sha256()
    for path in files(layout):
        try:
            known = (root / path).stat()
            state = f"{known.st_size}:{known.st_mtime_ns}"
        except (OSError, ValueError):
            state = "-"
        digest.update(os.fsencode(path) + f"\0{state}\n".encode())
    for picture in layout.pictures:
        digest.update(repr(picture).encode("utf-8", "surrogateescape"))
    digest.update(repr(sorted(layout.mosaics.items())).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _md5(payload: bytes) -> str:
    return hashlib.md5(payload, usedforsecurity=False).hexdigest()
