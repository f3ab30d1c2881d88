"""
A build at a URL: its files are fetched into a bounded cache when they are needed.

The cache has a folder for each build, laid out like the data folder. What is fetched is compared with
the sha256 in the index of the storage, and the shards with that in their manifest.
"""

import hashlib
import time
from functools import cached_property
from pathlib import Path
from typing import Final, Self

from personae import files
from personae.build import shards
from personae.build.documents import IndexedShard
from personae.errors import BadDocument, BadShard, BadStorage, MissingInput
from personae.storage.address import Address
from personae.storage.cache import FileCache
from personae.storage.documents import DIGESTS, NAME, StorageIndex, StoredFile
from personae.storage.store import RemoteStore

CACHE_BYTES: Final = 50 << 30
_CHUNK: Final = 16 << 20  # bytes of one request
_MOST_INDEX: Final = 256 << 20  # bytes of an index; one of a million files has 150 MB
_THREADS: Final = 32  # that read images, since most of their time passes on the way


class RemoteBuild:
    """
    The build that a storage held when it was opened.

    Args:
        store: The storage.
        index: Its index.
        cache: Where files are kept.
    """

    def __init__(self, store: RemoteStore, index: StorageIndex, cache: FileCache) -> None:
        self.store, self.index, self._cache = store, index, cache
        identity = hashlib.sha256(index.model_dump_json().encode()).hexdigest()[:16]
        self.folder = cache.folder / identity
        """Laid out like the data folder; it has what was fetched and not yet evicted."""
        self._files = {file.path: file for file in index.files}
        self._opened = time.time_ns()

    @classmethod
    def open(cls, url: str, cache_dir: Path, *, cache_bytes: int | None = None) -> Self:
        """
        Opens the build at a URL.

        Args:
            url: Without credentials, as `Address.parse` takes it.
            cache_dir: Folder of the cache, which may be that of other builds too.
            cache_bytes: Bound of the cache; None: 50 GiB.

        Raises as `RemoteStore` does, and:
            MissingInput: No build was pushed there.
            BadDocument: The index has another shape.
        """
        store = RemoteStore(Address.parse(url))
        bound = CACHE_BYTES if cache_bytes is None else cache_bytes
        return cls(store, existing(store), FileCache(cache_dir, bound))

    def has(self, path: str) -> bool:
        """Returns whether the build has a file, such as `catalog/catalog.duckdb`."""
        return path in self._files

    def file(self, path: str) -> StoredFile:
        """
        Returns what the index says of a file.

        Raises:
            MissingInput: The build has no such file.
        """
        if path not in self._files:
            raise MissingInput(
                f"The build at {self.store} has no {path}. Push it again with that file."
            )
        return self._files[path]

    def fetch(self, path: str) -> Path:
        """
        Returns the local path of a file, which is fetched where it is absent.

        Raises as `RemoteStore` does, and:
            BadStorage: The storage has other bytes than its index says.
            BadParams: The file is larger than the cache may be.
        """
        file = self.file(path)
        local = self._cache.fetch(
            self._name(path), file.bytes, lambda part: download(self.store, file, part)
        )
        assert local is not None  # noqa: S101  # only `fetch_if_room` gets None
        return local

    def fetch_if_room(self, path: str) -> Path | None:
        """Returns what `fetch` does, None where only files that this build uses could make room."""
        file = self.file(path)
        return self._cache.fetch(
            self._name(path),
            file.bytes,
            lambda part: download(self.store, file, part),
            unused_since=self._opened,
        )

    def refetch(self, path: str) -> Path:
        """Returns what `fetch` does, of a file whose local copy was damaged."""
        self._cache.remove(self._name(path))
        return self.fetch(path)

    @property
    def shards_dir(self) -> Path:
        """Folder of the manifest, the labels and the samples, which are fetched now."""
        for name in ("manifest.json", "classes.json", "samples.parquet"):
            self.fetch(f"shards/{name}")
        return self.folder / "shards"

    def _name(self, path: str) -> str:
        return f"{self.folder.name}/{path}"


class RemoteShards:
    """
    The shards of a build at a URL, as `personae.build.shards.ShardFiles`.

    A shard is fetched whole as long as the cache has room beside the other shards of this build. The
    images of the others are read one by one, each compared with its own sha256: a cache that is too
    small for a shuffled epoch costs requests, and never the same shard again and again.
    """

    threads = _THREADS

    def __init__(self, build: RemoteBuild) -> None:
        self.build = build
        self._local: dict[str, Path | None] = {}

    def __reduce__(self) -> tuple[type["RemoteShards"], tuple[RemoteBuild]]:
        """Pickles the build alone."""
        return RemoteShards, (self.build,)

    def describe(self, entry: IndexedShard) -> str:
        """Returns the URL of a shard, for messages."""
        return f"{self.build.store}/shards/{entry.shard}"

    def is_present(self, entry: IndexedShard) -> bool:
        """Returns True: the index names files that are there."""
        return self.build.has(f"shards/{entry.shard}")

    def size(self, entry: IndexedShard) -> int:
        """
        Returns the bytes of a shard.

        Raises:
            MissingInput: The index does not name it.
            BadShard: Index and manifest disagree, or it is too small for its samples.
        """
        file = self.build.file(f"shards/{entry.shard}")
        if file.sha256 != entry.sha256:
            raise BadShard(
                f"The index of {self.build.store} says another sha256 of {entry.shard} than the "
                "manifest there. Push the build again."
            )
        shards.check_size(self.describe(entry), entry, file.bytes)
        return file.bytes

    def verified(self, entry: IndexedShard) -> Path:
        """Returns the local path of a shard whose sha256 is that of the manifest."""
        self.size(entry)
        path = f"shards/{entry.shard}"
        local = self.build.fetch(path)
        with local.open("rb") as file:
            is_whole = hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
        return local if is_whole else self.build.refetch(path)

    def read(self, entry: IndexedShard, *, offset: int, size: int, sample: int) -> bytes:
        """Returns the bytes of one image, from the cache or by a request of its own."""
        path = f"shards/{entry.shard}"
        if entry.shard not in self._local:
            self._local[entry.shard] = self.build.fetch_if_room(path)
        local = self._local[entry.shard]
        if local is not None:
            try:
                return files.read_range(local, offset, size)
            except FileNotFoundError:  # another process needed the room
                self._local[entry.shard] = None
        content = self.build.store.read(self.build.file(path).name, offset, offset + size)
        expected = self._digests[32 * sample : 32 * (sample + 1)]
        if hashlib.sha256(content).digest() != expected:
            raise BadStorage(
                f"The image at byte {offset} of {self.describe(entry)} does not have its sha256: the "
                "storage holds other bytes than were pushed. Remove the file there and push again."
            )
        return content

    @cached_property
    def _digests(self) -> bytes:
        """The sha256 of each image, 32 bytes each, in the order of samples.parquet."""
        return self.build.fetch(DIGESTS).read_bytes()


def read_index(store: RemoteStore) -> StorageIndex | None:
    """
    Returns the index of a storage, None where there is none.

    Raises as `RemoteStore` does, and:
        BadDocument: It has another shape.
    """
    try:
        content = store.read(NAME, 0, _MOST_INDEX + 1)
    except MissingInput:
        return None
    if len(content) > _MOST_INDEX:
        raise BadDocument(f"{store}/{NAME} has more than {_MOST_INDEX} bytes: it is no index.")
    remedy = f"Push the build again:\n  python -m curation push {store}"
    return StorageIndex.parse(content, f"{store}/{NAME}", remedy=remedy)


def existing(store: RemoteStore) -> StorageIndex:
    """Returns the index of a storage; raises as `read_index`, or `MissingInput` where there is none."""
    index = read_index(store)
    if index is None:
        raise MissingInput(
            f"{store} holds no build: {NAME} is absent there, or the bucket is. Check the URL and "
            f"AWS_ENDPOINT_URL, or write a build there:\n  python -m curation push {store}"
        )
    return index


def download(store: RemoteStore, file: StoredFile, path: Path, *, start: int = 0) -> None:
    """
    Writes a stored file to `path`, from byte `start` on; memory holds one chunk.

    Raises as `RemoteStore` does, and:
        BadStorage: The file has other bytes than the index says.
    """
    digest = hashlib.sha256()
    with path.open("r+b" if path.exists() else "w+b") as local:
        for position in range(0, start, _CHUNK):
            digest.update(local.read(min(_CHUNK, start - position)))
        for position in range(start, file.bytes, _CHUNK):
            end = min(position + _CHUNK, file.bytes)
            content = store.read(file.name, position, end)
            digest.update(content)
            local.write(content)
            if len(content) < end - position:
                break
        local.truncate()
    if path.stat().st_size != file.bytes or digest.hexdigest() != file.sha256:
        raise BadStorage(
            f"{store}/{file.name} does not have the {file.bytes} bytes and the sha256 that {NAME} says: "
            "it was changed or cut. Remove the file there and push again."
        )
