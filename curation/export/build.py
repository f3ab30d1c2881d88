"""
The samples that are exported: rows of the catalog with their images out of the shards.

Images are checked by their sha256 before they are given on. Nothing that the catalog holds becomes
a path here or in the formats.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import duckdb
import pyarrow as pa

from curation.documents import CertificateDocument, ClassesDocument, ManifestDocument
from curation.errors import TamperedData
from curation.spans import SpanReader
from personae import selection, tables
from personae.catalog import connect
from personae.errors import BadParams, MissingInput

_BATCH = 1000
_LONGEST_NAME = 200  # letters of a label or an artist that the folder source takes
COLUMNS = (
    "post_id",
    "label",
    "leaf",
    "split",
    "white_background",
    "rating",
    "tags",
    "copyrights",
    "artist",
    "source_url",
    "licence",
    "original_url",
    "original_path",
)
"""Columns of the view `dataset` that every export has."""
_SAMPLES = f"""
SELECT {", ".join(f"d.{name}" for name in COLUMNS)}, d.shard, d.image_offset, d.image_bytes, m.image_sha256
FROM dataset AS d JOIN measures AS m USING (post_id) SEMI JOIN chosen USING (post_id)
WHERE d.split = ?
ORDER BY d.shard, d.byte_offset
"""  # noqa: S608  # constants of this file


@dataclass(frozen=True, slots=True)
class ExportedSample:
    """One sample: its columns by name, and its normalised image as the shard has it."""

    columns: dict[str, Any]
    image: bytes

    @property
    def post_id(self) -> int:
        """The post of the sample."""
        return int(self.columns["post_id"])


@dataclass(frozen=True, slots=True)
class ExportedBuild:
    """A build, or the part of it that a selection names."""

    data_dir: Path
    manifest: ManifestDocument
    labels: tuple[str, ...]
    """Labels that have samples, in the order of their leaves."""
    counts: dict[str, dict[str, int]]
    """Samples of each split, by label."""
    query: str | None
    """The query of the selection; None for a whole build."""
    sha256: str
    """The hash of the selection, or the root hash of the shards."""
    chosen: pa.Table
    """The post ids of the samples."""

    @classmethod
    def open(cls, data_dir: Path, selected: Path | None) -> Self:
        """
        Returns the build in `data_dir`, or what the selection file `selected` names of it.

        Raises:
            MissingInput: A file of stage `shards` or `catalog` is absent or damaged, or the catalog
                describes other shards.
            BadParams: The selection belongs to another build.
        """
        folder = data_dir / "shards"
        manifest = ManifestDocument.read(folder / "manifest.json")
        labels = ClassesDocument.read(folder / "classes.json").labels
        samples = tables.read_complete(folder / "samples.parquet", selection.SCHEMA, stage="shards")
        with _opened(data_dir) as connection:
            described = connection.execute("SELECT root_sha256 FROM builds").fetchall()
        if described != [(manifest.root_sha256,)]:
            raise MissingInput(
                f"{_catalog(data_dir)} describes other shards than {folder}. Run stage 'catalog'."
            )
        if selected is None:
            chosen = selection.SampleSelection(
                samples, selection.SelectionOrigin(root_sha256=manifest.root_sha256, query="")
            )
        else:
            chosen = selection.read(selected, most=samples.num_rows)
            if chosen.origin.root_sha256 != manifest.root_sha256:
                raise BadParams(
                    f"{selected} selects samples of another build. Select them again:\n  python -m "
                    f"curation select {chosen.origin.query!r} -o {selected}"
                )
        counts = chosen.counts()
        return cls(
            data_dir=data_dir,
            manifest=manifest,
            labels=tuple(label for label in labels if label in counts),
            counts=counts,
            query=None if selected is None else chosen.origin.query,
            sha256=manifest.root_sha256 if selected is None else chosen.sha256,
            chosen=chosen.samples.select(["post_id"]),
        )

    def total(self, split: str) -> int:
        """Returns the number of samples of a split."""
        return sum(count[split] for count in self.counts.values())

    def pieces(self, split: str, *, bytes_of_piece: int, samples_of_group: int) -> Iterator[Self]:
        """
        Yields the samples of a split in pieces, in the order of the shards.

        A piece consists of groups of `samples_of_group` samples, the last group of the split apart. It
        ends with the group that reaches `bytes_of_piece` bytes of images.
        """
        sizes = [(row["post_id"], row["image_bytes"]) for row in self._rows(split)]
        ids: list[int] = []
        size = 0
        for start in range(0, len(sizes), samples_of_group):
            group = sizes[start : start + samples_of_group]
            ids += [post_id for post_id, _ in group]
            size += sum(image_bytes for _, image_bytes in group)
            if size >= bytes_of_piece or start + samples_of_group >= len(sizes):
                yield replace(self, chosen=pa.table({"post_id": pa.array(ids, pa.int64())}))
                ids, size = [], 0

    def columns(self, split: str) -> Iterator[dict[str, Any]]:
        """Yields the columns of the samples of a split, without images, in the order of the shards."""
        for row in self._rows(split):
            yield {name: row[name] for name in COLUMNS}

    def samples(self, split: str) -> Iterator[ExportedSample]:
        """
        Yields the samples of a split in the order of the shards.

        Raises:
            TamperedData: An image does not have the sha256 of the catalog.
            MissingInput: A shard is absent.
        """
        spans = SpanReader(
            self.data_dir / "shards",
            stage="shards",
            table="the catalog",
            remedy="Run stages 'shards' and 'catalog' again.",
        )
        with spans:
            for row in self._rows(split):
                image = spans.read(
                    row["post_id"],
                    row.pop("shard"),
                    offset=row.pop("image_offset"),
                    size=row.pop("image_bytes"),
                    sha256=row.pop("image_sha256"),
                )
                yield ExportedSample(row, image)

    def _rows(self, split: str) -> Iterator[dict[str, Any]]:
        """
        Yields the rows of `_SAMPLES`.

        Raises:
            TamperedData: The catalog has another shape, or a label that classes.json lacks.
        """
        labels = frozenset(self.labels)
        with _opened(self.data_dir) as connection:
            connection.register("chosen", self.chosen)
            try:
                cursor = connection.execute(_SAMPLES, [split])
                names = [column[0] for column in cursor.description or ()]
                while rows := cursor.fetchmany(_BATCH):
                    for values in rows:
                        row = dict(zip(names, values, strict=True))
                        if row["label"] not in labels:
                            raise TamperedData(
                                f"{self.data_dir / 'shards' / 'classes.json'} lacks the label "
                                f"{row['label']!r:.80} of post {row['post_id']}. Run stages 'shards' "
                                "and 'catalog' again."
                            )
                        yield row
            except (duckdb.Error, TypeError) as error:
                raise TamperedData(
                    f"{_catalog(self.data_dir)} has another shape than stage 'catalog' gives it: "
                    f"{str(error).splitlines()[0]} Run that stage again."
                ) from error

    def tally(self, expression: str) -> list[tuple[str, int]]:
        """Returns each value of an expression of `dataset` and its samples, most samples first."""
        sql = f"""
            SELECT coalesce({expression}, '') AS value, count(*)
            FROM dataset SEMI JOIN chosen USING (post_id) GROUP BY 1 ORDER BY 2 DESC, 1
        """  # noqa: S608  # our own expressions
        with _opened(self.data_dir) as connection:
            connection.register("chosen", self.chosen)
            return connection.execute(sql).fetchall()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Returns the rows of a query of the whole catalog."""
        with _opened(self.data_dir) as connection:
            return connection.execute(sql).fetchall()

    @property
    def certificate(self) -> CertificateDocument | None:
        """What stage `split` found about leaks; None if its file is not there."""
        path = self.data_dir / "split" / "certificate.json"
        return CertificateDocument.read(path) if path.exists() else None

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have samples."""
        return tuple(split for split in selection.SPLITS if self.total(split))


def plain_name(name: str) -> str:
    """Returns a name of a board as the folder source takes it: printable, at most 200 letters."""
    return "".join(letter if letter.isprintable() else "_" for letter in name)[:_LONGEST_NAME]


def plain_labels(labels: Sequence[str]) -> dict[str, str]:
    """Returns the name of each label in an export; its leaf is in front where that is not the label."""
    plain = {label: plain_name(label) for label in labels}
    return {
        label: label if label == name else f"{leaf:03d}_{name}"[:_LONGEST_NAME]
        for leaf, (label, name) in enumerate(plain.items())
    }


@contextmanager
def _opened(data_dir: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Opens the catalog; a view in it, which anyone may have made, can read no file."""
    with closing(connect(_catalog(data_dir))) as connection:
        connection.execute("SET enable_external_access = false")
        yield connection


def _catalog(data_dir: Path) -> Path:
    return data_dir / "catalog" / "catalog.duckdb"
