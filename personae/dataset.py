"""
A build of a data set in Python: its samples and images, queries of its catalog, splits for torch.

`Dataset` reads the shards as training does, and numbers the labels as training does. Neither torch
nor DuckDB is imported before a method needs it. See docs/python-api.md.
"""

import copy
import operator
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from personae.balance import Balance
from personae.build import shards, stream
from personae.build.documents import ShardIndex
from personae.build.index import Ints, read_index
from personae.errors import BadParams, BadQuery, BadShard, MissingInput, MissingPackage
from personae.sampling import Sampler
from personae.selection import SPLITS
from personae.settings import near_miss
from personae.storage.build import RemoteBuild, RemoteShards

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from personae.epochs import EpochImages

_POSTS: Final = 1024  # posts that are read from the catalog at once


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample. Its image is read from the shard, and its post from the catalog, when asked for."""

    post_id: int
    label: str
    leaf: int
    """Number of the label, from 0."""
    split: str
    """train, val or test."""
    white_background: bool
    _dataset: "Dataset" = field(repr=False, compare=False)
    _position: int = field(repr=False, compare=False)

    @property
    def key(self) -> str:
        """The key of the sample in its shard: the post id as text."""
        return str(self.post_id)

    @property
    def encoded(self) -> bytes:
        """The bytes of the image as the shard has them: PNG, WebP or JPEG. Raises as `image` does."""
        return self._dataset._encoded(self._position)  # noqa: SLF001  # two parts of one interface

    @property
    def image(self) -> Image.Image:
        """
        The image, RGB, with sides of `Dataset.side` pixels; decoded anew at each access.

        Raises:
            MissingInput: The shard is absent.
            BadShard: The image is damaged, or of another size.
        """
        pixels = shards.decoded(
            self.encoded, side=self._dataset.side, source=f"sample {self.post_id}"
        )
        return Image.fromarray(pixels)

    @property
    def post(self) -> dict[str, Any]:
        """
        The row of the view `dataset` of the catalog: tags, rating, artist, sources, measures.

        Raises:
            MissingInput: There is no catalog, or it describes another build.
            MissingPackage: DuckDB is not installed.
        """
        return self._dataset._post(self._position)  # noqa: SLF001  # two parts of one interface


class Dataset:
    """
    The samples of a build, in the order of its shards; a sequence of `Sample`.

    Args:
        folder: Folder of the build, or the URL that it was pushed to; with `shards/` and, for `query`, `where` and `Sample.post`,
            `catalog/`.
        selection: `FILE@HASH`, the value of the parameter `data.selection`: the samples of this
            selection alone, with their labels numbered as in a training on it. None: all samples.
        cache_dir: Where files of a build at a URL are kept.
        cache_bytes: Bound of their bytes; None: 50 GiB.

    Raises:
        MissingInput: There is no build in the folder, or a file of it is absent or damaged.
        BadDocument, BadTable: A file of the build has another shape.
        BadShard: The files of the build disagree.
        BadParams: The selection belongs to another build, or has another hash.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] = "data",
        *,
        selection: str | None = None,
        cache_dir: str | os.PathLike[str] = "work/cache/storage",
        cache_bytes: int | None = None,
    ) -> None:
        self._remote = None
        self._folder, shard_files = Path(folder), None
        if "://" in os.fspath(folder):
            self._remote = RemoteBuild.open(
                os.fspath(folder), Path(cache_dir), cache_bytes=cache_bytes
            )
            self._folder, shard_files = self._remote.shards_dir.parent, RemoteShards(self._remote)
        shards_dir = self._folder / "shards"
        index = read_index(shards_dir, selection, files=shard_files)
        self._root_sha256 = ShardIndex.read(shards_dir / "manifest.json").root_sha256
        self.labels: tuple[str, ...] = index.labels
        """The class labels; a label's number is its leaf."""
        self.side: int = index.manifest.image.side
        """Height and width of every image, pixels."""
        self.sha256: str = index.manifest.root_sha256
        """Names the data set: the root hash of the shards, or the hash of the selection."""
        present = {entry.split for entry in index.manifest.shards}
        source = index.split("+".join(name for name in SPLITS if name in present))
        self._images, columns = stream.open_rows(source, index.manifest)
        self._leaves: Ints = columns["leaf"]
        self._post_ids: Ints = columns["post_id"]
        self._white: npt.NDArray[np.bool_] = columns["white"]
        of_shard = [SPLITS.index(entry.split) for entry in source.entries]
        self._splits: Ints = np.array(of_shard, dtype=np.int64)[self._images.shard]
        self._chosen: Ints = np.arange(len(self._leaves))
        if ((self._leaves < 0) | (self._leaves >= len(self.labels))).any():
            raise BadShard(
                f"{shards_dir / 'samples.parquet'} has a leaf that classes.json does not have. "
                "Run stage 'shards' again."
            )
        self._posts: dict[int, dict[str, Any]] = {}
        self._is_catalog_checked = False

    def __repr__(self) -> str:
        """Returns folder and size."""
        source = self._folder if self._remote is None else self._remote.store
        return f"Dataset({str(source)!r}): {len(self)} samples of {len(self.labels)} labels"

    def __len__(self) -> int:
        """Counts the samples."""
        return len(self._chosen)

    def __iter__(self) -> Iterator[Sample]:
        """Yields every sample, in the order of the shards."""
        return (self[position] for position in range(len(self)))

    def __getitem__(self, position: int) -> Sample:
        """
        Returns the sample at a position; a negative one counts from the end.

        Raises:
            IndexError: There is no such position.
            TypeError: It is no whole number, but a slice, for example.
        """
        try:
            row = int(self._chosen[operator.index(position)])
        except TypeError as error:
            raise TypeError(
                f"A position is a whole number, not {position!r:.80}. For several samples write "
                "[data[number] for number in range(3)], or choose by `where`."
            ) from error
        leaf = int(self._leaves[row])
        return Sample(
            post_id=int(self._post_ids[row]),
            label=self.labels[leaf],
            leaf=leaf,
            split=SPLITS[int(self._splits[row])],
            white_background=bool(self._white[row]),
            _dataset=self,
            _position=position % len(self),
        )

    def query(self, sql: str) -> pa.Table:
        """
        Returns the rows of one SQL statement on the catalog, as an Arrow table.

        The SQL can read the tables and views of the catalog (docs/formats.md), of the whole build
        whatever `selection` and `where` chose. It can open no file and change nothing.

        Raises:
            BadQuery: The SQL is wrong, or does more than read.
            MissingInput: There is no catalog, or it describes another build.
            MissingPackage: DuckDB is not installed.
        """
        try:
            from personae import catalog
        except ModuleNotFoundError as error:
            raise _missing("A query", "curation", error) from error
        path = self._folder / "catalog" / "catalog.duckdb"
        if self._remote is not None:
            self._remote.fetch("catalog/catalog.duckdb")
        with (
            closing(catalog.connect(path)) as connection,
            catalog.sandboxed(connection, sql),
        ):
            # A view of a catalog from elsewhere may try to read files: only now it cannot.
            self._check_catalog(path, connection)
            return catalog.reader(connection, sql).read_all()

    def where(self, condition: str) -> "Dataset":
        """
        Returns the samples that satisfy an SQL condition on the columns of the view `dataset`.

        Labels keep their numbers. Raises as `query` does.
        """
        rows = self.query(f"SELECT post_id FROM dataset WHERE (\n{condition}\n)")  # noqa: S608  # the caller's own SQL, which can only read
        if rows.schema.names != ["post_id"] or not pa.types.is_integer(rows["post_id"].type):
            raise BadQuery(f"{condition!r:.80} is no condition on the columns of `dataset`.")
        chosen = copy.copy(self)
        is_chosen = np.isin(self._post_ids[self._chosen], rows["post_id"].to_numpy())
        chosen._chosen, chosen._posts = self._chosen[is_chosen], {}  # noqa: SLF001  # of this class
        return chosen

    def torch(
        self,
        split: str,
        *,
        seed: int = 0,
        shuffle: bool | None = None,
        balance: Balance = "none",
        network: str = "root",
        rank: int = 0,
        world_size: int = 1,
    ) -> "EpochImages":
        """
        Returns a split as a dataset for torch, which can be stopped and resumed at any sample.

        Args:
            split: train, val or test.
            seed: Seed of the training whose order is taken; a whole number of 0 or more.
            shuffle: Whether each epoch has an order of its own; None: for `train` alone. Without,
                the order is that of the shards.
            balance: As the parameter `balance` of the methods: which images an epoch has.
            network: Network of the training whose order is taken; `root` is the flat network.
            rank: Number of this process among those that train together, from 0.
            world_size: Number of these processes; each has every `world_size`-th sample.

        Raises:
            BadParams: There is no such split, no such balance, no such seed, no such rank, or no
                sample in the split.
            MissingPackage: torch is not installed.
        """
        if split not in SPLITS:
            raise BadParams(
                f"{split!r} is no split.{near_miss(split, SPLITS)} Known: {', '.join(SPLITS)}."
            )
        if balance not in get_args(Balance):
            raise BadParams(f"{balance!r} is no balance. Known: {', '.join(get_args(Balance))}.")
        if not isinstance(seed, int | np.integer) or seed < 0:
            raise BadParams(f"seed is {seed!r:.80}, and must be a whole number of 0 or more.")
        if not 0 <= rank < world_size:
            raise BadParams(
                f"rank is {rank} and world_size {world_size}. Ranks count from 0 to world_size - 1."
            )
        rows = self._chosen[self._splits[self._chosen] == SPLITS.index(split)]
        if not len(rows):
            raise BadParams(f"{self!r}, and none of split '{split}'.")
        try:
            from personae.epochs import EpochImages
        except ModuleNotFoundError as error:
            raise _missing("Dataset.torch", "train", error) from error
        leaves, post_ids = self._leaves[rows], self._post_ids[rows]
        is_shuffled = split == "train" if shuffle is None else shuffle
        classes = [[np.flatnonzero(leaves == leaf)] for leaf in np.unique(leaves)]
        sampler = Sampler(classes, balance) if is_shuffled else None
        images = self._images.at(rows)
        return EpochImages(
            images,
            leaves,
            post_ids,
            sampler=sampler,
            seed=int(seed),
            network=network,
            rank=rank,
            world_size=world_size,
        )

    def _encoded(self, position: int) -> bytes:
        return self._images.encoded(int(self._chosen[position]))

    def _post(self, position: int) -> dict[str, Any]:
        """Returns the post of a sample; reads those of its neighbours too, for a loop over them."""
        post_id = int(self._post_ids[self._chosen[position]])
        if post_id not in self._posts:
            start = position - position % _POSTS
            ids = self._post_ids[self._chosen[start : start + _POSTS]].tolist()
            sql = f"SELECT * FROM dataset WHERE post_id IN ({', '.join(map(str, ids))})"  # noqa: S608  # numbers
            self._posts = {row["post_id"]: row for row in self.query(sql).to_pylist()}
        if post_id not in self._posts:
            raise MissingInput(
                f"The catalog in {self._folder} does not have sample {post_id}, which the shards "
                "have. Run stage 'catalog' again."
            )
        return dict(self._posts[post_id])

    def _check_catalog(self, path: Path, connection: "DuckDBPyConnection") -> None:
        """Makes sure, once, that the catalog describes these shards."""
        from duckdb import Error

        if self._is_catalog_checked:
            return
        try:
            described = connection.execute("SELECT root_sha256 FROM builds").fetchall()
        except Error as error:
            raise MissingInput(f"{path} is no catalog. Run stage 'catalog' again.") from error
        if described != [(self._root_sha256,)]:
            raise MissingInput(
                f"{path} describes other shards than {self._folder / 'shards'}. Run stage 'catalog'."
            )
        self._is_catalog_checked = True


def _missing(what: str, extra: str, error: ModuleNotFoundError) -> MissingPackage:
    return MissingPackage(
        f"{what} needs {error.name}, which is not installed. Install the extra:\n"
        f"  pip install -e '.[{extra}]'"
    )
