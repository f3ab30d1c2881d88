"""
Copies a build to a storage and back: what is there already is not sent again.

Names in a storage hold the hash of the content, and the index is written last. So a copy that was killed
goes on where it stopped, and a reader sees the old build or the new one.
"""

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import pyarrow as pa

from personae import files, tables
from personae.build.documents import ShardIndex
from personae.errors import BadParams, BadShard, BadStorage, MissingInput
from personae.progress import Progress
from personae.selection import SPLITS
from personae.stages import COMMANDS
from personae.storage import multipart
from personae.storage.address import Address
from personae.storage.build import download, existing, read_index
from personae.storage.documents import DIGESTS, NAME, PATH, StorageIndex, StoredFile
from personae.storage.store import RemoteStore

ResultT = TypeVar("ResultT")

FOLDERS: Final = ("download", "shards", "catalog")
"""Folders of the data folder that are copied by default: segments, shards and catalog."""
_AT_ONCE: Final = 4  # files; each holds one part or chunk in memory
_STORED_NAME: Final = re.compile(r".+-[0-9a-f]{16}(\.[A-Za-z0-9]+)?")
_RANGES: Final = pa.schema(
    {"shard": pa.string(), "image_offset": pa.int64(), "image_bytes": pa.int64()}
)
_MANIFEST: Final = "shards/manifest.json"


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What one copy did."""

    root_sha256: str
    files: int
    """Of the build."""
    sent: int
    """Of them, files that were not there already."""
    sent_bytes: int
    removed: int = 0
    """Files of other builds."""


def push(
    data_dir: Path,
    url: str,
    *,
    folders: Sequence[str] = FOLDERS,
    prune: bool = False,
    part_bytes: int = multipart.PART_BYTES,
) -> CopyReport:
    """
    Copies the build in a data folder to a storage.

    Args:
        data_dir: The data folder; no stage may write to it meanwhile.
        url: As `Address.parse` takes it.
        folders: Folders of the data folder; an absent one is left out, but not `shards`.
        prune: Whether files that this build does not have are removed at the end.
        part_bytes: Bytes of a part of an upload.

    Raises as `RemoteStore` does, and:
        AlreadyRunning: A stage is writing to the data folder.
        BadParams: The name of a file cannot be stored.
        MissingInput: There are no shards.
        BadShard: A shard does not have the sha256 of the manifest, or a file changed meanwhile.
    """
    store = RemoteStore(Address.parse(url))
    with files.locked(data_dir), tempfile.TemporaryDirectory() as scratch:
        manifest = ShardIndex.read(data_dir / _MANIFEST)
        present = store.sizes()
        sources = _local_files(data_dir, folders)
        changed_at = {path: source.stat().st_mtime_ns for path, source in sources.items()}
        stored = _in_parallel("hash", sources, lambda path: _described(path, sources[path]))
        _check(manifest, stored, data_dir)
        digests = Path(scratch) / "digests"
        _write_digests(data_dir / "shards", digests)
        stored[DIGESTS] = _described(DIGESTS, digests)
        sources[DIGESTS], changed_at[DIGESTS] = digests, digests.stat().st_mtime_ns
        index = StorageIndex(
            root_sha256=manifest.root_sha256, files=tuple(stored[path] for path in sorted(stored))
        )
        absent = {file.path: file for file in index.files if present.get(file.name) != file.bytes}
        _in_parallel(
            "push",
            absent,
            lambda path: _send(
                store,
                absent[path],
                sources[path],
                changed_at=changed_at[path],
                part_bytes=part_bytes,
            ),
        )
        if read_index(store) != index:
            store.write(NAME, index.to_bytes())
    removed = _prune(store, index) if prune else 0
    sent_bytes = sum(file.bytes for file in absent.values())
    return CopyReport(index.root_sha256, len(index.files), len(absent), sent_bytes, removed)


def pull(url: str, data_dir: Path, *, folders: Sequence[str] | None = None) -> CopyReport:
    """
    Copies the build in a storage to a data folder.

    The manifest is written last. Shards that the build does not have are removed, as stage `shards`
    does.

    Args:
        url: As `Address.parse` takes it.
        data_dir: The data folder; it is made when absent.
        folders: Folders of the build; None: all.

    Raises as `RemoteStore` does, and:
        AlreadyRunning: A stage is writing to the data folder.
        MissingInput: There is no build, or it does not have a folder.
        BadStorage: A file has other bytes than the index says.
    """
    store = RemoteStore(Address.parse(url))
    index = existing(store)
    has = {file.path.partition("/")[0] for file in index.files}
    if unknown := sorted(set(folders or has) - has):
        raise MissingInput(
            f"The build at {store} has no folder {unknown[0]}. It has {', '.join(sorted(has))}."
        )
    chosen = {
        file.path: file
        for file in index.files
        if file.path.partition("/")[0] in (folders or has) and file.path != DIGESTS
    }
    with files.locked(data_dir):
        same = _in_parallel("compare", chosen, lambda path: _is_same(data_dir / path, chosen[path]))
        absent = {path: file for path, file in chosen.items() if not same[path]}
        if any(path.startswith("shards/") for path in absent):
            files.remove(data_dir / _MANIFEST)
            if _MANIFEST in chosen:
                absent[_MANIFEST] = chosen[_MANIFEST]
        first = [path for path in absent if path != _MANIFEST]
        _in_parallel("pull", first, lambda path: _receive(store, absent[path], data_dir / path))
        removed = _remove_other_shards(data_dir, chosen)
        if _MANIFEST in absent:
            _receive(store, absent[_MANIFEST], data_dir / _MANIFEST)
    sent_bytes = sum(file.bytes for file in absent.values())
    return CopyReport(index.root_sha256, len(chosen), len(absent), sent_bytes, removed)


def _local_files(data_dir: Path, folders: Sequence[str]) -> dict[str, Path]:
    """Returns the files of a build by their paths; hidden and unfinished ones are left out."""
    sources = {}
    for folder in folders:
        for path in sorted((data_dir / folder).rglob("*")):
            name = path.relative_to(data_dir).as_posix()
            if path.name.startswith(".") or path.suffix == ".part" or not path.is_file():
                continue
            if not PATH.fullmatch(name):
                raise BadParams(
                    f"{path} has a name that storage does not take: letters, digits and . _ - = are "
                    "allowed. Rename it, or leave out its folder with --only."
                )
            sources[name] = path
    return sources


def _write_digests(shards_dir: Path, path: Path) -> None:
    """
    Writes the sha256 of each image in the order of samples.parquet, 32 bytes each.

    Raises:
        BadShard: A shard does not have the bytes of an image.
    """
    table = tables.read_complete(shards_dir / "samples.parquet", _RANGES, stage="shards")
    shard = table["shard"].combine_chunks().dictionary_encode()  # a Python string each takes memory
    paths = [shards_dir / Path(name).name for name in shard.dictionary.to_pylist()]
    number = shard.indices.to_numpy()
    offset, size = table["image_offset"].to_numpy(), table["image_bytes"].to_numpy()
    digests = np.zeros((len(number), 32), dtype=np.uint8)
    for row in np.lexsort((offset, number)):
        content = files.read_range(paths[number[row]], int(offset[row]), int(size[row]))
        if not content:
            raise BadShard(
                f"{paths[number[row]]} has no {size[row]} bytes at byte {offset[row]}, where "
                "samples.parquet has an image. Run stage 'shards' again, then push."
            )
        digests[row] = np.frombuffer(hashlib.sha256(content).digest(), dtype=np.uint8)
    path.write_bytes(digests.tobytes())


def _described(path: str, source: Path) -> StoredFile:
    with source.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return StoredFile(path=path, bytes=file.tell(), sha256=sha256)


def _check(manifest: ShardIndex, stored: Mapping[str, StoredFile], data_dir: Path) -> None:
    """Makes sure that the shards are those of the manifest."""
    expected = {f"shards/{entry.shard}": entry.sha256 for entry in manifest.shards}
    expected |= {f"shards/{name}": sha256 for name, sha256 in manifest.files.items()}
    for path, sha256 in expected.items():
        if path not in stored or stored[path].sha256 != sha256:
            raise BadShard(
                f"{data_dir / path} is absent, or has another sha256 than the manifest says: it was "
                "changed or damaged. Run stage 'shards' again, then push."
            )


def _send(
    store: RemoteStore, file: StoredFile, source: Path, *, changed_at: int, part_bytes: int
) -> None:
    if store.has_parts:
        multipart.upload(store, file.name, source, part_bytes=part_bytes)
    else:
        store.put(file.name, source)
    if source.stat().st_mtime_ns != changed_at:
        raise BadShard(
            f"{source} was changed while it was pushed. Push again; no reader sees this build."
        )


def _receive(store: RemoteStore, file: StoredFile, path: Path) -> None:
    """Downloads a file, whole or not at all; what a killed run has fetched of it is kept."""
    part = path.with_name(f"{path.name}.{file.sha256[:16]}.part")
    files.make_folder(path.parent)
    start = min(part.stat().st_size, file.bytes) if part.exists() else 0
    try:
        download(store, file, part, start=start)
    except BadStorage:
        part.unlink()
        if not start:
            raise
        download(store, file, part)  # the fault may be in what was fetched before
    files.publish(part, path)


def _is_same(path: Path, file: StoredFile) -> bool:
    """Returns whether a local file has the bytes of a stored file."""
    if not path.is_file() or path.stat().st_size != file.bytes:
        return False
    return _described(file.path, path) == file


def _remove_other_shards(data_dir: Path, chosen: Iterable[str]) -> int:
    """Removes the shards in a data folder that are not among the chosen paths."""
    if _MANIFEST not in chosen:
        return 0
    present = (path for split in SPLITS for path in (data_dir / "shards").glob(f"{split}-*.tar"))
    others = [path for path in present if f"shards/{path.name}" not in chosen]
    for path in others:
        files.remove(path)
    return len(others)


def _prune(store: RemoteStore, index: StorageIndex) -> int:
    """Removes the files of older builds; files that no build wrote, or one in a folder below, stay."""
    names = {file.name for file in index.files}
    others = [
        name
        for name in store.sizes()
        if name not in names and name.partition("/")[0] in COMMANDS and _STORED_NAME.fullmatch(name)
    ]
    _in_parallel("prune", others, store.remove)
    return len(others)


def _in_parallel(
    title: str, paths: Iterable[str], work: Callable[[str], ResultT]
) -> dict[str, ResultT]:
    """Returns what `work` returns for each path; the first error stops the rest."""
    results = {}
    paths = list(paths)
    with ThreadPoolExecutor(_AT_ONCE) as pool, Progress(title, len(paths)) as progress:
        futures = {pool.submit(work, path): path for path in paths}
        try:
            for future in as_completed(futures):
                results[futures[future]] = future.result()
                progress.advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results
