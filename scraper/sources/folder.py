"""
A folder of labelled images as a source of posts, and as the transport of their bytes.

A label becomes the only character tag of a post, a family the copyright tag. Label, split and group
stand in the `given_*` columns too, so that stage `decide` needs no tags. A file that is no image, or
lies in the folder of no label, is listed as well, so that a decision names it. A file is returned as it
is, and so is an image of an archive or a table. A tile of a mosaic becomes a PNG whose bytes depend on
its pixels alone.
"""

import hashlib
import io
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
from scraper.image import Header, header
from scraper.params.site import FOLDER
from scraper.post import CATEGORIES, TAG_KINDS, Post, Variant
from scraper.sources import Page, Tag
from scraper.sources.labels import tag_names
from scraper.sources.layout.images import MOST_TILES, Description, LabelledImage, Layout
from scraper.sources.layout.read import files, read
from scraper.sources.mosaic import HEADER_BYTES, Sheets, start_of, unreadable
from scraper.sources.packed import PackedImages

_log = logging.getLogger(__name__)

_SCHEME = "folder:"
_NO_LABEL = "no_label"  # the search for files that lie in the folder of no label
_NO_PAIRS: tuple[tuple[str, str], ...] = ()
_UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)
_UNDESCRIBED = Description(
    tags=dict.fromkeys(TAG_KINDS, ()),
    rating="g",
    source="",
    created_at_utc=None,
    score=0,
    flags=frozenset(),
)


class Folder:
    """
    One folder as a `PostSource`, and as the transport of its bytes.

    Args:
        root: The folder.
        number: Returns the post id of a path and a tile.

    Raises:
        MissingInput, MissingColumn, BadFolder: As `read` does; and two images with one
            post id, a collision of sha256.
    """

    name = FOLDER
    """Name of the site in the ledger, as `Site.name`."""

    def __init__(
        self, root: Path, *, number: Callable[[str, int | None], int] | None = None
    ) -> None:
        self._root = root.expanduser().resolve()
        self._layout = read(self._root)
        self._identity = f"{FOLDER} {_state(self._root, self._layout)[:32]}"
        self._sheets = Sheets(self.open, self._layout.mosaics)
        self._packed = PackedImages(self.open, self._layout)
        labels = sorted({image.label for image in self._layout.images if image.label})
        families = sorted({image.family for image in self._layout.images if image.family})
        self._tags = tag_names(labels, taken={_NO_LABEL})
        self._families = tag_names(families, taken=set(self._tags.values()))
        self._posts = self._by_tag(number or post_id)

    @property
    def identity(self) -> str:
        """Name of the collection; it changes with the files of the folder."""
        return self._identity

    async def candidates(self, min_images: int) -> AsyncIterator[Tag]:
        """
        Yields every label, those with most files first, and the files without a label last.

        `min_images` leaves none out: reading a small label is cheap, and so every file has a decision.
        """
        del min_images
        size = {name: len(posts) for name, posts in self._posts.items()}
        for name in sorted(size, key=lambda name: (name == _NO_LABEL, -size[name], name)):
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
            BadParams: `search` has further terms; a folder has no tags to search.
            BadFolder: A mosaic disagrees with the index.
            TransientError: The system could not read a file that is there.
        """
        known = self._posts[self._searched(search)]
        end = (
            len(known) if before is None else bisect_left(known, before, key=lambda entry: entry[0])
        )
        chosen = known[max(0, end - size) : end]
        posts = tuple(self._post(number, image) for number, image in reversed(chosen))
        return Page(posts, posts[-1].post_id if posts else None)

    async def implications(self) -> AsyncIterator[tuple[str, str]]:
        """Yields nothing: a label implies no other."""
        for pair in _NO_PAIRS:
            yield pair

    async def aliases(self) -> AsyncIterator[tuple[str, str]]:
        """Yields nothing: a label has one name."""
        for pair in _NO_PAIRS:
            yield pair

    @property
    def is_remote(self) -> bool:
        """False: what is read is the file itself, so a refusal needs no second reading."""
        return False

    async def remaining(self, search: str, *, before: int | None) -> int | None:  # noqa: ARG002  # as in PostSource
        """Returns 0: a page of a folder is empty only at the end."""
        return 0

    async def get_bytes(self, url: str, *, max_bytes: int) -> bytes:
        """
        Returns the bytes of the image at a URL of this source, at most `max_bytes`.

        Raises:
            NotFound: The file is gone, is no plain file, or may not be read.
            ForeignHost: A link leads out of the folder.
            TooLarge: It has more bytes.
            CorruptImage: The mosaic does not decode any more, or to another size.
            UnexpectedResponse: The URL is not of a folder; the listing is that of a board.
            TransientError: The system could not read a file that is there.
        """
        if not url.startswith(_SCHEME):
            raise UnexpectedResponse(
                f"The listing names {url!r:.80}, which is no file of a folder: it was made from "
                "another site. Run stage 'listing' again."
            )
        quoted, _, tile = url.removeprefix(_SCHEME).partition("#")
        path = os.fsdecode(unquote_to_bytes(quoted))
        with self._opened(path, tile) as file:
            payload = start_of(file, max_bytes + 1, path)
        if len(payload) > max_bytes:
            raise TooLarge(
                f"{path} has more than {max_bytes} bytes (`max_bytes`).", size=len(payload), url=url
            )
        return payload

    def open(self, path: str) -> BinaryIO:
        """
        Opens a plain file inside the folder; links within the folder are followed.

        Raises:
            NotFound, ForeignHost, TransientError: As `get_bytes` does.
        """
        try:
            target = (self._root / path).resolve(strict=True)
            if not target.is_relative_to(self._root):
                raise ForeignHost(f"{path} is a link that leaves {self._root}.", url=path)
            # Non-blocking: a pipe without a writer must not hold the run.
            descriptor = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise unreadable(path, error) from error
        except (RuntimeError, ValueError) as error:  # a loop of links; a zero byte
            raise NotFound(f"{path} cannot be followed ({error}).", url=path) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NotFound(f"{path} is no plain file.", url=path)
        return os.fdopen(descriptor, "rb")

    def _opened(self, path: str, tile: str) -> BinaryIO:
        """Opens a file, or the image `tile` of a file of many; raises as `get_bytes` does."""
        if not tile:
            return self.open(path)
        if path in self._packed:
            return self._packed.open(path, tile)
        return io.BytesIO(self._sheets.tile(path, tile))

    def _by_tag(
        self, number_of: Callable[[str, int | None], int]
    ) -> dict[str, list[tuple[int, LabelledImage]]]:
        known: dict[int, LabelledImage] = {}
        by_tag: dict[str, list[tuple[int, LabelledImage]]] = defaultdict(list)
        for image in self._layout.images:
            number = number_of(image.path, image.tile)
            if number in known:
                raise BadFolder(
                    f"{image.path} and {known[number].path} get the same post id, {number}: "
                    "their sha256 begins alike. Rename one of them."
                )
            known[number] = image
            for tag in self._tags_of(image):
                by_tag[tag].append((number, image))
        return {name: sorted(posts, key=lambda post: post[0]) for name, posts in by_tag.items()}

    def _tag(self, name: str) -> Tag:
        return Tag(name, CATEGORIES["character"], len(self._posts[name]))

    def _tags_of(self, image: LabelledImage) -> tuple[str, ...]:
        """Returns the searches that have the image."""
        return (self._tags[image.label],) if image.label else image.personae or (_NO_LABEL,)

    def _searched(self, search: str) -> str:
        if search not in self._posts:
            raise BadParams(
                f"A folder of images has no search for {search!r:.80}, only its labels. Leave "
                "'listing.terms' empty."
            )
        return search

    def _post(self, number: int, image: LabelledImage) -> Post:
        md5, file_bytes, size, file_ext = self._inspected(image)
        path = quote_from_bytes(os.fsencode(image.path))
        url = f"{_SCHEME}{path}" + ("" if image.tile is None else f"#{image.tile}")
        variants = (Variant("original", url, size.width, size.height, file_ext),)
        described = image.description or _UNDESCRIBED
        moment = described.created_at_utc or _UNKNOWN_TIME
        family = (self._families[image.family],) if image.family else ()
        return Post(
            post_id=number,
            created_at_utc=moment,
            updated_at_utc=moment,
            md5=md5,
            pixel_hash=None,
            rating=described.rating,
            image_width=size.width,
            image_height=size.height,
            file_ext=file_ext,
            file_bytes=file_bytes,
            duration_seconds=None,
            parent_id=None,
            has_children=False,
            is_pending="is_pending" in described.flags,
            is_flagged="is_flagged" in described.flags,
            is_deleted="is_deleted" in described.flags,
            is_banned="is_banned" in described.flags,
            score=described.score,
            uploader_id=0,
            source=described.source,
            tags_general=described.tags["general"],
            tags_character=(self._tags[image.label],) if image.label else image.personae,
            tags_copyright=family or described.tags["copyright"],
            tags_artist=described.tags["artist"],
            tags_meta=described.tags["meta"],
            variants=variants if md5 else (),
            given_label=image.label,
            given_split=image.split,
            given_group=image.group,
            licence=described.licence,
        )

    def _inspected(self, image: LabelledImage) -> tuple[str | None, int, Header, str]:
        """Returns md5, bytes, size and type of an image; no md5 when the file cannot be read."""
        file_ext = PurePosixPath(image.path).suffix.lower().lstrip(".")
        try:
            with self._opened(image.path, "" if image.tile is None else str(image.tile)) as file:
                start = start_of(file, HEADER_BYTES, image.path)
                digest, length = hashlib.md5(start, usedforsecurity=False), len(start)
                while more := start_of(file, HEADER_BYTES, image.path):
                    digest.update(more)
                    length += len(more)
                size = header(start) or Header(file_ext, 0, 0)
                return digest.hexdigest(), length, size, size.file_ext
        except (CorruptImage, RequestRefused) as error:
            if image.path in self._layout.mosaics:
                raise BadFolder(f"{error} Restore the file, or correct the index.") from error
            _log.warning("listing: %s It is listed without a file.", error)
            return None, 0, Header(file_ext, 0, 0), file_ext


def post_id(path: str, tile: int | None = None) -> int:
    """
    Returns the post id of an image: positive, 63 bits, from sha256 of its relative path.

    The low 20 bits of a tile's id are its number, so the tiles of one mosaic have consecutive ids.
    The ids of existing images stay when the folder grows.
    """
    digest = hashlib.sha256(os.fsencode(path)).digest()
    if tile is None:
        return max(1, int.from_bytes(digest[:8], "big") >> 1)
    return max(1, int.from_bytes(digest[:8], "big") >> 21) * MOST_TILES + tile


def _state(root: Path, layout: Layout) -> str:
    """Returns a hash of the layout, and of size and time of each file."""
    digest = hashlib.sha256()
    for path in files(layout):
        try:
            known = (root / path).stat()
            state = f"{known.st_size}:{known.st_mtime_ns}"
        except (OSError, ValueError):
            state = "-"
        digest.update(os.fsencode(path) + f"\0{state}\n".encode())
    for image in layout.images:
        digest.update(repr(image).encode("utf-8", "surrogateescape"))
    digest.update(repr(sorted(layout.mosaics.items())).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
