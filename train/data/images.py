"""
Loads each split as one uint8 array: decoded once into a memory-mapped cache, or streamed.

Writes work/cache/SPLIT-KEY/*.npy; KEY is a hash of the split's entries in the manifest
and of the selection. `sha256.txt`
beside them has a hash of each, checked whenever the cache is opened. A split that is too large for a cache stays in its shards and is decoded on access. Training opens `train`
and `val`; only `evaluate` opens `test`.
"""

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from personae import files
from personae.build import shards, stream
from personae.build.index import DataIndex, SplitIndex
from personae.build.stream import Streamed
from personae.documents import Background
from personae.errors import AlreadyRunning, BadShard, DiskRefused
from personae.sampling import rank_in_label
from train.data.rows import ImageRows
from train.data.source import open_index
from train.params.data import Params, Source, Storage
from train.runtime import distributed

log = logging.getLogger(__name__)

_FORMAT = "2"  # part of the cache key: raised when the cached arrays change their meaning
_DEVICE_SHARE = 0.5  # of an accelerator's free memory that images may take

_HASHES = "sha256.txt"
_STORAGES = ("cache", "device", "stream")


@dataclass(frozen=True, slots=True)
class ImageSet:
    """The images of one split, in shard order."""

    images: UInt8[np.ndarray, "image height width 3"] | Streamed | ImageRows
    """RGB: an array, often a read-only memory map, or images that are read when indexed."""
    labels: Int[np.ndarray, " image"]
    """Leaf of each image, int64."""
    post_ids: Int[np.ndarray, " image"]
    white: Bool[np.ndarray, " image"]
    """Whether the image has a white background."""
    resident: UInt8[Tensor, "image height width 3"] | None = None
    """The same images in the accelerator's memory; None if they are not there."""

    @property
    def slow(self) -> bool:
        """Whether batches are slow to fetch, so that prefetching pays."""
        return isinstance(self.images, Streamed)

    def __len__(self) -> int:
        """Counts the images."""
        return len(self.labels)

    def batch(self, rows: Int[np.ndarray, " batch"]) -> UInt8[Tensor, "batch height width 3"]:
        """Copies the images at `rows`, in that order."""
        if self.resident is not None:
            return self.resident[torch.from_numpy(rows).to(self.resident.device)]
        return torch.from_numpy(self.images[rows])

    def at(self, rows: Int[np.ndarray, " row"]) -> "ImageSet":
        """Returns the images at `rows` of a whole split, in that order; no pixel is copied."""
        images = self.images
        if isinstance(images, ImageRows):
            raise TypeError("rows are chosen from a whole split")
        chosen = images.at(rows) if isinstance(images, Streamed) else ImageRows(images, rows)
        return ImageSet(chosen, self.labels[rows], self.post_ids[rows], self.white[rows])

    def __reduce__(self) -> Any:
        """Pickles the path of the cache instead of the pixels, where there is a cache."""
        if isinstance(self.images, np.memmap) and self.images.filename is not None:
            return _reopened, (Path(self.images.filename).parent,)
        return ImageSet, (self.images, self.labels, self.post_ids, self.white)


@dataclass(frozen=True, slots=True)
class DataModule:
    """The data that training may see: the training and validation split, never the test split."""

    labels: tuple[str, ...]
    """Class labels in leaf order."""
    side: int
    """Height and width of every image in pixels."""
    root_sha256: str
    """Root hash of the shards, or the hash of the selection: it names the data set."""
    train: ImageSet
    val: ImageSet
    background: Background = "border"
    """Colour of the margin of every image."""

    @property
    def trains_on_val(self) -> bool:
        """Whether validation images are trained on, so that nothing can be chosen on them."""
        return bool(np.isin(self.val.post_ids, self.train.post_ids).any())


def open_data(
    shards_dir: Path,
    cache_dir: Path,
    *,
    params: Params | None = None,
    device: torch.device | None = None,
) -> DataModule:
    """
    Opens the training and validation split, and decodes them on first use.

    Args:
        shards_dir: Folder of the shards.
        cache_dir: Folder for decoded images.
        params: Section `data`; None means the defaults.
        device: Device that trains.

    Raises:
        MissingInput: The manifest, the class list or a shard is absent or no JSON.
        BadDocument: The manifest or the class list has another shape.
        BadShard: A shard has other bytes than the manifest says, a sample is damaged or of
            another size, a label has no image in a split, or `params.side` is not the shards'.
        BadParams: `params.selection` names a selection of another build, or with another hash.
    """
    params = params or Params()
    index = open_index(shards_dir, cache_dir, params, params.selection)
    image = index.manifest.image
    check_side(params.side, image.side)
    names = ("train+val" if params.train_on_val else "train", "val")
    train, val = (
        _opened(index, cache_dir, name, storage=params.storage, device=device) for name in names
    )
    if params.share < 1:
        train = train.at(share_of_each_label(train, params.share))
    root = index.manifest.root_sha256
    return DataModule(index.labels, image.side, root, train, val, image.background)


def share_of_each_label(images: "ImageSet", share: float) -> Int[np.ndarray, " row"]:
    """Returns the rows of a `share` of each label's images, those of smallest hash; at least one."""
    keys = [hashlib.sha256(f"share:{post}".encode()).digest() for post in images.post_ids.tolist()]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__))
    most = np.maximum(1, np.round(share * np.bincount(images.labels)))
    return np.flatnonzero(rank_in_label(images.labels, order) < most[images.labels])


def check_side(expected: int | None, actual: int) -> None:
    """Raises `BadShard` if `data.side` is set and is not the side of the images in the shards."""
    if expected is not None and expected != actual:
        raise BadShard(
            f"data.side is {expected}, and the shards hold images of {actual} pixels. Set data.side "
            f"to {actual} or null, or run stage 'measure' again with measure.side: {expected}."
        )


def open_split(
    shards_dir: Path,
    cache_dir: Path,
    split: str,
    *,
    storage: Storage = "cache",
    device: torch.device | None = None,
    selection: str | None = None,
    source: Source | None = None,
) -> ImageSet:
    """
    Returns the images of one split, or of several splits joined by `+`; raises as `open_data`.

    The cache is filled on first use. The rows are the same for every storage. `selection` is the
    value of the parameter `data.selection`; `source` says where the shards are read.
    """
    index = open_index(shards_dir, cache_dir, source, selection)
    return _opened(index, cache_dir, split, storage=storage, device=device)


def _opened(
    index: DataIndex, cache_dir: Path, split: str, *, storage: Storage, device: torch.device | None
) -> ImageSet:
    source = index.split(split)
    size = source.count * source.side * source.side * 3
    # Processes may see different amounts of free memory, and must choose the same storage.
    number = _STORAGES.index(_chosen_storage(storage, size, device))
    number = int(distributed.broadcast_value(float(number), device=device or torch.device("cpu")))
    chosen = _STORAGES[number]
    if chosen == "stream":
        streamed, column = stream.open_rows(source, index.manifest)
        images = ImageSet(streamed, column["leaf"], column["post_id"], column["white"])
    else:
        images = _cached(cache_dir / f"{split}-{_key(split, source)}", source)
    _check_labels(images, index.labels, split)
    if chosen == "device" and device is not None:
        copy = torch.from_numpy(np.array(images.images))
        return replace(images, resident=copy.to(device))
    return images


def channel_mean(
    images: UInt8[np.ndarray, "image height width 3"] | Streamed | ImageRows,
) -> Float[np.ndarray, "3"]:
    """
    Returns the mean of each channel in 0..1, float32.

    The sum is one of integers, so it does not depend on the order of the images.
    """
    total = np.zeros(3, dtype=np.int64)
    for start in range(0, len(images), 4096):
        total += images[start : start + 4096].sum(axis=(0, 1, 2), dtype=np.int64)
    pixels = images.shape[0] * images.shape[1] * images.shape[2]
    return np.asarray(total / (255.0 * pixels), dtype=np.float32)


def _chosen_storage(storage: Storage, size: int, device: torch.device | None) -> str:
    """
    Returns the storage of `size` bytes of decoded images: cache, device or stream.

    For auto: the device if they take less than half of its free memory, else the cache if they take
    less than half of this machine's memory, else stream.
    """
    cuda = device is not None and device.type == "cuda"
    if storage == "device" and not cuda:
        return "cache"  # a CPU computes on the mapped file
    if storage != "auto":
        return storage
    if cuda and size < _DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
        return "device"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return "cache" if size < memory / 2 else "stream"


def _key(split: str, source: SplitIndex) -> str:
    lines = [f"{entry.sha256}  {entry.shard}" for entry in source.entries]
    lines += [] if source.chosen is None else [source.chosen.sha256]
    identity = "\n".join([_FORMAT, split, str(source.side), *source.labels, *lines])
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _cached(folder: Path, source: SplitIndex) -> ImageSet:
    """Returns the images in `folder`; decodes the shards into it if it is absent or damaged."""
    with distributed.rank_zero_first():
        if not folder.is_dir():
            _fill(folder, source)
        try:
            return _from_cache(folder, source)
        except (OSError, EOFError, ValueError) as error:
            if distributed.rank():
                raise
            log.warning("%s is damaged (%s): decoding the shards again", folder, error)
        shutil.rmtree(folder)
        _fill(folder, source)
        return _from_cache(folder, source)


def _from_cache(folder: Path, source: SplitIndex) -> ImageSet:
    """Returns the cached images; raises `ValueError` where an array has another shape or type."""
    arrays = _arrays(folder)
    count = source.count
    expected = {
        "images": ((count, source.side, source.side, 3), np.uint8),
        "labels": ((count,), np.int64),
        "post_ids": ((count,), np.int64),
        "white": ((count,), np.bool_),
    }
    if not distributed.rank():  # the others wait for process zero
        _check_hashes(folder, expected)
    for name, (shape, dtype) in expected.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(f"{name}.npy holds {array.dtype} of shape {array.shape}")
    return ImageSet(**arrays)


def _check_hashes(folder: Path, names: Iterable[str]) -> None:
    """Raises `ValueError` where an array has another sha256 than when it was written."""
    recorded = (folder / _HASHES).read_text(encoding="utf-8")
    if recorded != "".join(_hashed(folder / f"{name}.npy") for name in sorted(names)):
        raise ValueError(f"its files have not the hashes of {_HASHES}")


def _hashed(path: Path) -> str:
    """Returns sha256 and name of a file as `sha256sum` prints them."""
    with path.open("rb") as file:
        return f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n"


def _reopened(folder: Path) -> ImageSet:
    return ImageSet(**_arrays(folder))


def _arrays(folder: Path) -> dict[str, Any]:
    columns = {name: np.load(folder / f"{name}.npy") for name in ("labels", "post_ids", "white")}
    return {"images": np.load(folder / "images.npy", mmap_mode="r"), **columns}


def _fill(folder: Path, source: SplitIndex) -> None:
    """Decodes the shards into `folder`, whole or not at all; every file is synced first."""
    _remove_abandoned(folder.parent)
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    part.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.ExitStack() as held:
            with contextlib.suppress(DiskRefused):  # without locks nothing is removed either
                held.enter_context(files.locked(part))
            _decode(part, source)
        try:
            files.publish(part, folder)
        except OSError:  # another run has filled it meanwhile, with the same bytes
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _remove_abandoned(cache_dir: Path) -> None:
    """Removes the unfinished folders of processes that were killed: those that nobody holds."""
    for part in cache_dir.glob("*.part"):
        with contextlib.suppress(AlreadyRunning, DiskRefused), files.locked(part):
            shutil.rmtree(part, ignore_errors=True)


def _decode(part: Path, source: SplitIndex) -> None:
    """Writes images.npy, labels.npy, post_ids.npy, white.npy and their hashes into `part`."""
    shape = (source.count, source.side, source.side, 3)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    annotations: list[tuple[int, int, bool]] = []
    # Not into a memory map: on a full disk that ends the process by SIGBUS.
    with files.whole_file(part / "images.npy") as file, ThreadPoolExecutor() as pool:
        np.lib.format.write_array_header_1_0(file, header)
        for number in range(len(source.entries)):
            path, samples, facts = _samples(source, number)
            for image in pool.map(partial(shards.image, side=source.side, path=path), samples):
                file.write(image.tobytes())
            annotations += facts
    leaves, post_ids, white = zip(*annotations, strict=True) if annotations else ((), (), ())
    columns = {
        "labels": np.array(leaves, dtype=np.int64),
        "post_ids": np.array(post_ids, dtype=np.int64),
        "white": np.array(white, dtype=bool),
    }
    for name, column in columns.items():
        with files.whole_file(part / f"{name}.npy") as file:
            np.save(file, column)
    hashes = [_hashed(part / f"{name}.npy") for name in sorted(("images", *columns))]
    files.write_text(part / _HASHES, "".join(hashes))


def _samples(
    source: SplitIndex, number: int
) -> tuple[Path, list[dict[str, Any]], list[tuple[int, int, bool]]]:
    """Returns path and samples of one shard with leaf, post id and white flag; the chosen, if any."""
    entry = source.entries[number]
    path = source.files.verified(entry)
    samples = list(shards.samples(path))
    if len(samples) != entry.samples:
        raise BadShard(
            f"{path} holds {len(samples)} samples, and the manifest says "
            f"{entry.samples}. Run stage 'shards' again."
        )
    facts = [shards.annotation(sample, path) for sample in samples]
    if source.chosen is None:
        return path, samples, facts
    chosen = source.chosen.of([source.numbers[number]])
    leaves, post_ids = (np.array([fact[at] for fact in facts], dtype=np.int64) for at in (0, 1))
    rows = chosen.rows(post_ids, leaves, source=path)
    renumbered = [
        (leaf, *facts[row][1:]) for leaf, row in zip(chosen.leaves.tolist(), rows, strict=True)
    ]
    return path, [samples[row] for row in rows], renumbered


def _check_labels(images: ImageSet, labels: Sequence[str], split: str) -> None:
    outside = images.labels[(images.labels < 0) | (images.labels >= len(labels))]
    if len(outside):
        raise BadShard(
            f"Split '{split}' holds leaf {outside[0]}, and classes.json has {len(labels)} labels. "
            "Run stage 'shards' again."
        )
    counts = np.bincount(images.labels, minlength=len(labels))
    absent = [name for name, count in zip(labels, counts, strict=True) if not count]
    if absent:
        raise BadShard(
            f"Split '{split}' has no image of {', '.join(repr(name) for name in absent[:5])}"
            f"{' and others' if len(absent) > 5 else ''}: a label needs at least one in every "
            "split. With split.mode: hash, raise persona.min_samples or the split's share, or draw with "
            "split.mode: stratified. With split.mode: given, add images of these labels to that split "
            "of the source, or leave the labels out of the source. Then run the stages again."
        )
