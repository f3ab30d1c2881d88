"""
Records the stored images again from the segments, when the ledger is lost.

Reads the members of the tar files. One that is the file of a kept post is recorded as if it had
just arrived; the others are recorded for no site, so that their bytes stay.
"""

import logging
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from personae import files
from scraper.image import RequestedFile, inspect, stored_image
from scraper.ledger import Ledger, RefusedImage, StoredImage
from scraper.segments import BLOCK, padded_end

_log = logging.getLogger(__name__)


def rebuild(
    ledger: Ledger, folder: Path, batches: Iterable[Sequence[RequestedFile]], *, max_pixels: int
) -> None:
    """
    Fills an empty ledger from the segments in `folder`.

    Args:
        ledger: The new ledger.
        folder: Folder of the segments.
        batches: The files of the kept posts.
        max_pixels: As in section `download`.
    """
    members = {}
    for segment, name, offset, size in _members(folder):
        members[segment, offset] = name, size
    by_post: dict[int, list[tuple[str, int]]] = {}
    for location, (name, _) in members.items():
        stem = name.partition(".")[0]
        if stem.isdecimal():
            by_post.setdefault(int(stem), []).append(location)
    recorded = 0
    for batch in batches:
        rows = []
        for file in batch:
            for segment, offset in by_post.get(file.post_id, ()):
                payload = files.read_range(folder / segment, offset, members[segment, offset][1])
                image = inspect(payload, file, max_pixels=max_pixels) if file.variant else None
                if image is not None and not isinstance(image, RefusedImage):
                    rows.append(stored_image(file, payload, image, segment, offset))
                    del members[segment, offset]
                    by_post[file.post_id].remove((segment, offset))
                    break
        ledger.record(rows, [])
        recorded += len(rows)
    ledger.keep(
        StoredImage(0, f"{segment} {offset}", segment, offset, size, "", "")
        for (segment, offset), (_, size) in members.items()
    )
    _log.warning(
        "download: the ledger is new, and the segments hold images: %d of kept posts are recorded "
        "again, the bytes of %d others are kept",
        recorded,
        len(members),
    )


def _members(folder: Path) -> Iterator[tuple[str, str, int, int]]:
    """Yields segment, name, offset and size of every whole member, in order."""
    for path in sorted(folder.glob("*.tar")):
        end = path.stat().st_size
        with path.open("rb") as file:
            while len(block := file.read(BLOCK)) == BLOCK:
                try:
                    info = tarfile.TarInfo.frombuf(block, "ascii", "replace")
                except tarfile.HeaderError:  # the end mark, or a torn tail
                    break
                offset = file.tell()
                if not info.isreg() or offset + info.size > end:
                    break
                yield path.name, info.name, offset, info.size
                file.seek(padded_end(offset, info.size))
