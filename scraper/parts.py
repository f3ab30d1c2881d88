"""
Divides one download among several machines, and joins what they have stored.

`divide` writes a data folder for each machine, which needs no more to run stage `download`. `take_over`
copies the images that such folders hold into another one. Every post is in one part: post id modulo the
number of parts.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from personae import files, tables
from personae.errors import BadParams, MissingInput
from personae.progress import Progress
from scraper import store
from scraper.image import RequestedFile, inspect, sha256
from scraper.kept_files import KeptFiles
from scraper.ledger import Key, Ledger, RefusedImage, StoredImage
from scraper.transfer import Arrived, Writer

_log = logging.getLogger(__name__)

_ROWS: Final = 10_000  # of a table in memory
_GROUP_BYTES: Final = 16 * 2**20


def divide(data_dir: Path, out_dir: Path, *, count: int) -> list[Path]:
    """
    Writes the data folders of `count` machines: what stage `download` reads, for the posts of each.

    Args:
        data_dir: Folder of the listing and the decisions.
        out_dir: The parts become its folders `1`, `2`, … up to `count`.
        count: Number of parts.

    Raises:
        MissingInput: Stage `listing` or `decide` has not run.
        BadParams: `out_dir` holds the parts of another division.
    """
    if count < 1:
        raise BadParams("A download has at least one part (--count).")
    folders = [out_dir / str(number) for number in range(1, count + 1)]
    surplus = {path for path in out_dir.glob("*") if path.is_dir()} - set(folders)
    if surplus:
        raise BadParams(
            f"{min(surplus)} is no part of {count}. Choose another folder (--out), since images of two "
            "divisions would not match."
        )
    kept = tables.read(data_dir / "decide" / "kept.parquet", ("post_id",), stage="decide")
    ids = kept["post_id"].combine_chunks()
    for stage, table in (("listing", "posts"), ("decide", "kept")):
        _distribute(data_dir, f"{stage}/{table}.parquet", folders, ids, stage=stage)
    _log.info("divide: %d posts in %d parts", len(ids), count)
    return folders


def _distribute(
    data_dir: Path, name: str, folders: Sequence[Path], ids: pa.Array, *, stage: str
) -> None:
    """Writes the rows of the posts `ids` of a table to the same table of each part."""
    path = data_dir / name
    tables.check(path, ("post_id",), stage=stage)
    with ExitStack() as stack:
        schema = pq.read_schema(path)
        writers = []
        for folder in folders:
            files.make_folder((folder / name).parent)
            writers.append(stack.enter_context(tables.writer(folder / name, schema)))
        for batch in tables.batches(path, schema.names, stage=stage, rows=_ROWS):
            rows = batch.filter(pc.is_in(batch["post_id"], ids))
            part = rows["post_id"].to_numpy() % len(folders)
            for number, writer in enumerate(writers):
                writer.write_batch(rows.filter(pa.array(part == number)))


def take_over(
    parts: Sequence[str],
    kept: KeptFiles,
    ledger: Ledger,
    writer: Writer,
    *,
    site: str,
    max_pixels: int,
) -> None:
    """
    Copies the images that other data folders have stored, and their refusals.

    An image that is stored already is not copied. One whose bytes do not have their recorded sha256,
    or are not the listed file, is left to the download.

    Args:
        parts: Data folders; no process may be working in their `download`.
        kept: The files of the posts kept.
        ledger: Records the images.
        writer: Stores the bytes and records them, whole or not at all.
        site: Name of the site whose images are copied.
        max_pixels: As in section `download`.

    Raises:
        MissingInput: A part holds no download.
        AlreadyRunning: A process works in a part.
    """
    with ExitStack() as stack, Progress("download, parts", len(kept.ids())) as progress:
        sources = [_Part(Path(part).expanduser() / "download", site, stack) for part in parts]
        for batch in kept.files():
            span = batch[0].post_id, batch[-1].post_id
            present = ledger.stored(*span).keys()
            absent = {_key(file): file for file in batch if _key(file) not in present}
            refused: dict[Key, RefusedImage] = {}
            for source in sources:
                images = source.images([*absent.values()], *span, max_pixels=max_pixels)
                for group in _groups(images):
                    writer.save(group)
                    for file, _, _ in group:
                        del absent[_key(file)]
                refused |= source.refused(*span)
            ledger.record([], [refused[key] for key in sorted(refused.keys() & absent.keys())])
            for file in batch:
                progress.advance("left" if _key(file) in absent else "stored")
    _log.info("download: %d parts: %s", len(parts), progress.summary())


class _Part:
    """What one data folder has stored of a site; its files close with `stack`."""

    def __init__(self, folder: Path, site: str, stack: ExitStack) -> None:
        if not (folder / store.NAME).is_file():
            raise MissingInput(f"{folder} holds no download. Name the data folder of a part.")
        self._folder = folder
        self._ledger = stack.enter_context(Ledger(folder, site))
        self.refused = self._ledger.refused

    def images(
        self, files_of_batch: Iterable[RequestedFile], first: int, last: int, *, max_pixels: int
    ) -> Iterator[Arrived]:
        """Yields those of the files that are stored here and sound."""
        stored = self._ledger.stored(first, last)
        for file in files_of_batch:
            row = stored.get(_key(file))
            if row is None or file.variant is None:
                continue
            payload = self._payload(row)
            image = inspect(payload, file, max_pixels=max_pixels)
            if sha256(payload) == row.sha256 and not isinstance(image, RefusedImage):
                yield file, payload, image
            else:
                _log.warning("download: post %d is damaged in %s", file.post_id, self._folder)

    def _payload(self, row: StoredImage) -> bytes:
        """Returns the bytes of an image; none where the segment does not have them."""
        path = self._folder / "segments" / Path(row.segment).name
        try:
            return files.read_range(path, row.offset, row.file_bytes)
        except OSError:
            return b""


def _key(file: RequestedFile) -> Key:
    return file.post_id, file.file_key


def _groups(images: Iterable[Arrived]) -> Iterator[list[Arrived]]:
    """Yields the images in groups of few bytes, each one transaction."""
    group: list[Arrived] = []
    size = 0
    for image in images:
        group.append(image)
        size += len(image[1])
        if size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
