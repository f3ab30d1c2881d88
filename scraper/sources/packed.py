"""
Images that lie in a file of many: a range of a tar archive or an Arrow file, or a row of a Parquet file.

The bytes are those that the file has, and nothing is decoded. A file may come from strangers: a range is
read in pieces, and a value that many rows of a table share is held once.
"""

import io
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from itertools import accumulate
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from scraper.errors import CorruptImage, NotFound
from scraper.sources.layout.hugging_face import DAMAGED
from scraper.sources.layout.images import Layout

_MOST_BYTES: Final = 1 << 31  # of one row group
_KEPT_BYTES: Final = 1 << 28  # of the row groups that stay in memory
_RowGroup = tuple[str, int]


class PackedImages:
    """
    The images of the archives and tables of one folder.

    Args:
        opened: Opens a file of the folder by its path.
        layout: Where the images lie.
    """

    def __init__(self, opened: Callable[[str], BinaryIO], layout: Layout) -> None:
        self._opened = opened
        self._spans, self._tables = layout.spans, layout.tables
        self._starts: dict[str, list[int]] = {}
        self._kept: OrderedDict[_RowGroup, pa.ChunkedArray] = OrderedDict()

    def __contains__(self, path: str) -> bool:
        """Returns whether a path is such a file."""
        return path in self._spans or path in self._tables

    def open(self, path: str, number: str) -> BinaryIO:
        """
        Opens an image; `number` is the text after `#` in its URL.

        Raises:
            NotFound: There is no such image, or the file does not hold its bytes; or as `opened`
                raises.
            CorruptImage: The table is damaged, or has too many bytes at once.
        """
        index = int(number) if number.isdecimal() and len(number) < 8 else -1
        if path in self._tables:
            return io.BytesIO(self._row(path, index))
        spans = self._spans[path]
        if not 0 <= index < len(spans.sizes) or not spans.sizes[index]:
            raise _absent(path, number)
        file = self._opened(path)
        file.seek(spans.offsets[index])
        return io.BufferedReader(_Range(file, spans.sizes[index]))

    def _row(self, path: str, index: int) -> bytes:
        try:
            if path not in self._starts:
                self._starts[path] = self._row_groups(path)
            starts = self._starts[path]
            if not 0 <= index < starts[-1]:
                raise _absent(path, str(index))
            group = bisect_right(starts, index) - 1
            if (path, group) not in self._kept:
                self._keep((path, group), self._images(path, group))
            self._kept.move_to_end((path, group))
            content = self._kept[path, group][index - starts[group]].as_py()
        except (*DAMAGED, IndexError, MemoryError) as error:
            raise CorruptImage(f"{path} cannot be read at row {index} ({error}).") from error
        if not isinstance(content, bytes):
            raise _absent(path, str(index))
        return content

    def _row_groups(self, path: str) -> list[int]:
        """Returns the first row of each row group, and the number of rows."""
        with self._opened(path) as file, pq.ParquetFile(file) as parquet:
            metadata = parquet.metadata
            rows = (
                metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)
            )
            return list(accumulate(rows, initial=0))

    def _images(self, path: str, number: int) -> pa.ChunkedArray:
        """Returns the images of a row group; equal ones are held once."""
        column = self._tables[path]
        with self._opened(path) as file:
            is_struct = pa.types.is_struct(pq.read_schema(file).field(column).type)
            file.seek(0)
            leaf = f"{column}.bytes" if is_struct else column
            with pq.ParquetFile(file, read_dictionary=[leaf]) as parquet:
                # Of all columns: asking for one of a damaged file ends the process (pyarrow 26).
                size = parquet.metadata.row_group(number).total_byte_size
                if size > _MOST_BYTES:
                    raise CorruptImage(
                        f"{path} has {size} bytes in one row group, more than {_MOST_BYTES}. "
                        "Write it with smaller row groups."
                    )
                values = parquet.read_row_group(number, columns=[leaf])[column]
        fields = [chunk.field("bytes") if is_struct else chunk for chunk in values.chunks]
        return pa.chunked_array(fields)

    def _keep(self, key: _RowGroup, values: pa.ChunkedArray) -> None:
        self._kept[key] = values
        while (
            len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > _KEPT_BYTES
        ):
            self._kept.popitem(last=False)


class _Range(io.RawIOBase):
    """The next `size` bytes of an open file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]  # what the caller gives
        content = self._file.read(min(len(buffer), self._left))
        buffer[: len(content)] = content
        self._left -= len(content)
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


def _absent(path: str, number: str) -> NotFound:
    return NotFound(f"{path} has no image {number:.20}.", url=path)
