"""
What `datasets` of Hugging Face writes: Parquet files, or Arrow files of `save_to_disk`.

The metadata of a file names its features: an `Image` column with the encoded bytes, and a `ClassLabel`
with the names of its numbers (https://huggingface.co/docs/datasets/about_dataset_features). No image is
read here, and no path of a row is followed.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scraper.errors import BadFolder
from scraper.sources.layout.images import (
    MOST_TILES,
    NOTES,
    Description,
    LabelledImage,
    Layout,
    Spans,
    damage_named,
    is_label,
    noted,
    plain_file,
    plain_text,
    split_of,
)

_IMAGES: Final = ("image", "img", "jpg", "png", "webp")
_LABELS: Final = ("label", "fine_label", "labels", "class")
_FAMILY: Final = "coarse_label"
_BATCH: Final = 4096
DAMAGED: Final = (OSError, pa.ArrowException, ValueError, KeyError, TypeError, RecursionError)
"""What pyarrow raises on damaged files; metadata that is no UTF-8 gives ValueError."""


def parquet_files(root: Path, paths: Sequence[str]) -> Layout:
    """
    Returns the rows of Parquet files, as `to_parquet`, the hub and our own export write them.

    Raises:
        BadFolder: A file is damaged or too large, or has no column of images or labels.
    """
    images: list[LabelledImage] = []
    tables: dict[str, str] = {}
    for path in paths:
        file = plain_file(root, path)
        with damage_named(file, DAMAGED), pq.ParquetFile(file) as parquet:
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
        _check_rows(file, rows)
        columns = _Columns(file, schema)
        tables[path] = columns.image
        texts = [name for name in columns.read if _is_text(schema.field(name).type)]
        # As dictionaries: a small file may hold one long text for a million rows.
        with damage_named(file, DAMAGED), pq.ParquetFile(file, read_dictionary=texts) as parquet:
            read = 0
            for batch in parquet.iter_batches(batch_size=_BATCH, columns=columns.read):
                images += _images(path, columns, batch, first=read)
                read += batch.num_rows
                _check_rows(file, read)
    return Layout(tuple(images), tables=tables)


def arrow_files(root: Path, paths: Sequence[str]) -> Layout:
    """
    Returns the rows of Arrow files, as `save_to_disk` writes them.

    Raises:
        BadFolder: A file is damaged, compressed or too large, or has no column of images or labels.
    """
    images: list[LabelledImage] = []
    spans: dict[str, Spans] = {}
    for path in _current(root, paths):
        file = plain_file(root, path)
        known = spans[path] = Spans()
        with damage_named(file, DAMAGED), pa.memory_map(str(file)) as mapped:
            start = mapped.read_buffer(1).address
            mapped.seek(0)
            with pa.ipc.open_stream(mapped) as stream:
                columns = _Columns(file, stream.schema)
                for batch in stream:
                    batch.validate(full=True)  # no offset in it leads out of its buffers
                    images += _images(path, columns, batch, first=len(known.sizes))
                    for offset, size in _ranges(file, batch[columns.image], start, mapped.size()):
                        known.add(offset, size)
                    _check_rows(file, len(known.sizes))
        if known.sizes and not any(known.sizes):
            raise BadFolder(
                f"{file} has paths instead of encoded images, and no path is followed. Save the data "
                "set with `to_parquet`, which stores the images themselves."
            )
    return Layout(tuple(images), spans=spans)


class _Columns:
    """The columns of one file: image, label and family, and the names that their numbers stand for."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._features = _features(schema)
        kinds = {name: feature.get("_type") for name, feature in self._features.items()}
        of_kind = {
            kind: [name for name in schema.names if kinds.get(name) == kind]
            for kind in ("Image", "ClassLabel")
        }
        images = of_kind["Image"] + [name for name in _IMAGES if name in schema.names]
        labels = [name for name in _LABELS if name in schema.names] + of_kind["ClassLabel"]
        shown = ", ".join(schema.names)
        if not images or not _is_encoded(schema.field(images[0]).type):
            raise BadFolder(
                f"{path} has no column of encoded images (it has {shown:.200}). Save the data set with "
                "a feature of type Image, called `image`."
            )
        if not labels:
            raise BadFolder(f"{path} has no column `label` (it has {shown:.200}). Rename one.")
        self.image: str = images[0]
        self.label: str = labels[0]
        self.family = _FAMILY if _FAMILY in schema.names and self.label != _FAMILY else None
        self._notes: dict[str, str] = {}
        for name in self.read:
            kind = schema.field(name).type
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            if not pa.types.is_integer(kind) and not _is_text(kind):
                raise BadFolder(
                    f"Column `{name}` of {path} is {kind}, neither a number nor a text."
                )
        for note in NOTES:
            # `source_url` is a column of our own export.
            names = [name for name in (f"{note}_url", note) if schema.names.count(name) == 1]
            if names and names[0] not in self.read and self._is_noted(schema.field(names[0])):
                self._notes[note] = names[0]

    @property
    def read(self) -> list[str]:
        """The columns that the layout reads."""
        return [name for name in (self.label, self.family) if name] + [*self._notes.values()]

    def labels(self, name: str, values: pa.Array) -> list[str | None]:
        """Returns the values of a column as labels; None where one is no valid label."""

        def label(value: Any) -> str | None:
            text = None if value is None else str(value)
            return text if text is not None and is_label(text) else None

        return self._texts(name, values, label)

    def descriptions(self, batch: pa.RecordBatch) -> list[Description | None]:
        """Returns what the rows note of their images; None of a row that notes nothing."""
        if not self._notes:
            return [None] * batch.num_rows
        columns = (self._texts(name, batch[name], plain_text) for name in self._notes.values())
        return [
            noted(**dict(zip(self._notes, row, strict=True))) for row in zip(*columns, strict=True)
        ]

    def _is_noted(self, column: pa.Field) -> bool:
        """Returns whether a column holds texts, or numbers with names."""
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        return _is_text(kind) or "names" in self._features.get(column.name, {})

    def _texts(
        self, name: str, values: pa.Array, text_of: Callable[[Any], str | None]
    ) -> list[str | None]:
        """Returns `text_of` each value of a column; of its name, if the numbers have names."""
        names = self._features.get(name, {}).get("names")
        names = names if isinstance(names, list) else None
        if isinstance(values, pa.DictionaryArray):
            known = [text_of(_named(value, names)) for value in values.dictionary.to_pylist()]
            return [None if index is None else known[index] for index in values.indices.to_pylist()]
        listed = values.to_pylist()
        texts = {value: text_of(_named(value, names)) for value in set(listed)}
        return [texts[value] for value in listed]


def _current(root: Path, paths: Sequence[str]) -> Iterator[str]:
    """Yields the files that the `state.json` beside them lists; all of them where there is none."""
    listed: dict[str, set[str] | None] = {}
    for path in paths:
        folder = str(PurePosixPath(path).parent)
        if folder not in listed:
            listed[folder] = _listed(root, f"{folder}/state.json")
        files = listed[folder]
        if files is None or PurePosixPath(path).name in files:
            yield path


def _listed(root: Path, path: str) -> set[str] | None:
    if not (root / path).exists():
        return None
    file = plain_file(root, path)
    with damage_named(file, DAMAGED):
        entries = json.loads(file.read_bytes()[: 1 << 20])["_data_files"]
        return {str(entry["filename"]) for entry in entries}


def _images(
    path: str, columns: _Columns, batch: pa.RecordBatch, *, first: int
) -> Iterator[LabelledImage]:
    split = split_of(path)
    labels = columns.labels(columns.label, batch[columns.label])
    families: list[str | None] = [None] * len(labels)
    if columns.family:
        families = columns.labels(columns.family, batch[columns.family])
    rows = zip(labels, families, columns.descriptions(batch), strict=True)
    for number, (label, family, description) in enumerate(rows, start=first):
        yield LabelledImage(path, label, split, None, family, number, description)


def _named(value: Any, names: list[Any] | None) -> Any:
    """Returns a value, or the name of a number, if there are names."""
    if isinstance(value, int) and names is not None:
        return names[value] if 0 <= value < len(names) else None
    return value


def _ranges(path: Path, images: pa.Array, start: int, size: int) -> Iterator[tuple[int, int]]:
    """
    Yields offset and size of each image in the file, which is mapped at address `start`.

    Raises:
        BadFolder: The images are compressed, so that they do not lie in the file as they are.
    """
    values = images.field("bytes") if pa.types.is_struct(images.type) else images
    _, positions, content = values.buffers()
    is_valid = (
        values.is_valid() if values is images else pc.and_(values.is_valid(), images.is_valid())
    )
    if content is None or not content.size:
        yield from ((0, 0) for _ in range(len(values)))
        return
    offset = content.address - start
    if not 0 <= offset <= size - content.size:
        raise BadFolder(f"{path} is compressed. Save the data set with `to_parquet` instead.")
    kind = np.int64 if pa.types.is_large_binary(values.type) else np.int32
    edges = np.frombuffer(positions, kind)[values.offset : values.offset + len(values) + 1].tolist()
    for number, has_bytes in enumerate(is_valid.to_pylist()):
        length = edges[number + 1] - edges[number]
        yield (offset + edges[number], length) if has_bytes else (0, 0)


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Returns the features that the metadata of a schema names; none where it names none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            str(name): feature for name, feature in features.items() if isinstance(feature, dict)
        }
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _is_encoded(kind: pa.DataType) -> bool:
    """Returns whether a type holds encoded images: bytes, or a struct with a field of bytes."""
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_encoded(kind.field(index).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _check_rows(path: Path, rows: int) -> None:
    if rows > MOST_TILES:
        raise BadFolder(f"{path} has more than {MOST_TILES} images. Split it into several files.")
