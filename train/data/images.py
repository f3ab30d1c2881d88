"""
Shards to one uint8 array per split: decoded once and cached as a memory map, or streamed.

Writes work/cache/KEY/*.npy, KEY being the hash of what the manifest says of the split's shards. A
set too large for that stays in its shards, and the same rows are decoded when they are asked for.
Training opens `train` and `val`; `test` is opened by `evaluate` only.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from train.data import shards, stream
from train.data.stream import Streamed
from train.errors import BadShard
from train.runtime import distributed

_FORMAT = "1"  # part of the cache key: raised when the cached arrays change their meaning
_DEVICE_SHARE = 0.5  # of an accelerator's free memory that images may take

Storage = Literal["auto", "cache", "device", "stream"]
_PLACES = ("cache", "device", "stream")


class Params(BaseModel):
    """Section `data`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(
        128, ge=1, le=65_536, description="images per update; 128 as in the report"
    )
    side: int | None = Field(
        None, ge=8, le=2048, description="side in pixels that the shards must have; null: theirs"
    )
    storage: Storage = Field(
        "auto",
        description="where decoded images lie: device (the accelerator's memory), cache (a file "
        "in the work folder, mapped), stream (nowhere: decoded when asked for); auto: device if "
        "they take less than half of what is free there, else cache if they take less than half "
        "of this machine's memory, else stream. The results are the same",
    )
    train_on_val: bool = Field(
        default=False,
        description="train on the validation images too, once everything is chosen; what the "
        "curves then say of validation is of images seen",
    )


@dataclass(frozen=True, slots=True)
class ImageSet:
    """The images of one split, in shard order."""

    images: UInt8[np.ndarray, "image height width 3"] | Streamed
    """RGB: a read-only memory map, or images that are decoded when indexed."""
    labels: Int[np.ndarray, " picture"]
    """Leaf of each image, int64."""
    post_ids: Int[np.ndarray, " picture"]
    white: Bool[np.ndarray, " picture"]
    """Whether the image stands on a white background."""
    resident: UInt8[Tensor, "image height width 3"] | None = None
    """The same images in an accelerator's memory, where they lie there."""

    @property
    def slow(self) -> bool:
        """Whether a batch takes so long to fetch that it is worth fetching ahead."""
        return isinstance(self.images, Streamed)

    def __len__(self) -> int:
        """Counts the images."""
        return len(self.labels)

    def batch(self, rows: Int[np.ndarray, " batch"]) -> UInt8[Tensor, "batch height width 3"]:
        """Copies the images at `rows`, in that order."""
        if self.resident is not None:
            return self.resident[torch.from_numpy(rows).to(self.resident.device)]
        return torch.from_numpy(self.images[rows])

    def __reduce__(self) -> Any:
        """Travels to another process by the name of its cache, where there is one."""
        if isinstance(self.images, np.memmap) and self.images.filename is not None:
            return _from_cache, (Path(self.images.filename).parent,)
        return ImageSet, (self.images, self.labels, self.post_ids, self.white)


@dataclass(frozen=True, slots=True)
class DataModule:
    """What a method may see: training and validation images. The test split is not here."""

    labels: tuple[str, ...]
    """Names in leaf order."""
    side: int
    """Height and width of every image in pixels."""
    root_sha256: str
    """Root hash of the shards, which names the data set."""
    train: ImageSet
    val: ImageSet


def open_data(
    shards_dir: Path,
    cache_dir: Path,
    *,
    params: Params | None = None,
    device: torch.device | None = None,
) -> DataModule:
    """
    Opens what training may see, decoding it on first use; `device` is where it will be used.

    Raises:
        MissingInput: The manifest, the class list or a shard is absent.
        BadShard: A shard has other bytes than the manifest says, a sample is damaged or of
            another size, a label has no image in a split, or `params.side` is not the shards'.
    """
    params = params or Params()
    manifest, labels = shards.read_index(shards_dir)
    actual = int(manifest["image"]["side"])
    if params.side is not None and params.side != actual:
        raise BadShard(
            f"data.side is {params.side}, and the shards hold images of {actual} pixels. Set "
            f"data.side to {actual} or null, or run stage 'measure' again with measure.side: "
            f"{params.side}."
        )
    names = ("train+val" if params.train_on_val else "train", "val")
    train, val = (
        open_split(shards_dir, cache_dir, name, storage=params.storage, device=device)
        for name in names
    )
    return DataModule(labels, actual, str(manifest["root_sha256"]), train, val)


def open_split(
    shards_dir: Path,
    cache_dir: Path,
    split: str,
    *,
    storage: Storage = "cache",
    device: torch.device | None = None,
) -> ImageSet:
    """
    Returns the images of one split, or of several joined by `+`; raises as `open_data`.

    The cache is filled on first use. Whatever the storage, the rows are the same.
    """
    manifest, labels = shards.read_index(shards_dir)
    wanted = split.split("+")
    chosen = [entry for entry in manifest["shards"] if entry["split"] in wanted]
    absent = sorted(set(wanted) - {entry["split"] for entry in chosen})
    if absent:
        raise BadShard(
            f"{shards_dir / 'manifest.json'} names no shard of split '{absent[0]}'. "
            "Run stages 'split' and 'shards' again, with a share above zero for it."
        )
    side = int(manifest["image"]["side"])
    size = sum(int(entry["samples"]) for entry in chosen) * side * side * 3
    place = _PLACES.index(_place(storage, size, device))
    where = _PLACES[int(distributed.agreed(place, device=device or torch.device("cpu")))]
    if where == "stream":
        images, column = stream.open_rows(shards_dir, chosen, side=side)
        pictures = ImageSet(images, column["leaf"], column["post_id"], column["white"])
    else:
        folder = cache_dir / f"{split}-{_key(split, side, labels, chosen)}"
        with distributed.one_first():
            if not folder.is_dir():
                _fill(folder, shards_dir, chosen, side=side)
        pictures = _from_cache(folder)
    _check_labels(pictures, labels, split)
    if where == "device" and device is not None:
        copy = torch.from_numpy(np.array(pictures.images))
        return replace(pictures, resident=copy.to(device))
    return pictures


def channel_mean(
    images: UInt8[np.ndarray, "image height width 3"] | Streamed,
) -> Float[np.ndarray, "3"]:
    """Returns the mean of each channel in 0..1, summed in integers so that order does not matter."""
    total = np.zeros(3, dtype=np.int64)
    for start in range(0, len(images), 4096):
        total += images[start : start + 4096].sum(axis=(0, 1, 2), dtype=np.int64)
    pixels = images.shape[0] * images.shape[1] * images.shape[2]
    return np.asarray(total / (255.0 * pixels), dtype=np.float32)


def _place(storage: Storage, size: int, device: torch.device | None) -> str:
    """Says where `size` bytes of decoded images lie."""
    cuda = device is not None and device.type == "cuda"
    if storage == "device" and not cuda:
        return "cache"  # the memory of a CPU is the mapped file's
    if storage != "auto":
        return storage
    if cuda and size < _DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
        return "device"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return "cache" if size < memory / 2 else "stream"


def _key(split: str, side: int, labels: Sequence[str], entries: Sequence[dict[str, Any]]) -> str:
    lines = [f"{entry['sha256']}  {entry['shard']}" for entry in entries]
    identity = "\n".join([_FORMAT, split, str(side), *labels, *lines])
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _from_cache(folder: Path) -> ImageSet:
    return ImageSet(
        images=np.load(folder / "images.npy", mmap_mode="r"),
        labels=np.load(folder / "labels.npy"),
        post_ids=np.load(folder / "post_ids.npy"),
        white=np.load(folder / "white.npy"),
    )


def _fill(folder: Path, shards_dir: Path, entries: Sequence[dict[str, Any]], *, side: int) -> None:
    """Decodes the shards into `folder`, whole or not at all."""
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    part.mkdir(parents=True, exist_ok=True)
    total = sum(int(entry["samples"]) for entry in entries)
    images = np.lib.format.open_memmap(
        part / "images.npy", mode="w+", dtype=np.uint8, shape=(total, side, side, 3)
    )
    facts: list[tuple[int, int, bool]] = []
    with ThreadPoolExecutor() as pool:
        for entry in entries:
            path = shards.verified(shards_dir, entry)
            found = list(shards.samples(path))
            if len(found) != int(entry["samples"]):
                raise BadShard(
                    f"{path} holds {len(found)} samples, and the manifest says "
                    f"{entry['samples']}. Run stage 'shards' again."
                )
            decoded = pool.map(partial(shards.picture, side=side, path=path), found)
            for sample, image in zip(found, decoded, strict=True):
                images[len(facts)] = image
                facts.append(shards.facts(sample, path))
    images.flush()
    columns = list(zip(*facts, strict=True))
    np.save(part / "labels.npy", np.array(columns[0], dtype=np.int64))
    np.save(part / "post_ids.npy", np.array(columns[1], dtype=np.int64))
    np.save(part / "white.npy", np.array(columns[2], dtype=bool))
    try:
        part.rename(folder)
    except OSError:  # another run filled it meanwhile, with the same bytes
        if not folder.is_dir():
            raise
        shutil.rmtree(part)


def _check_labels(pictures: ImageSet, labels: Sequence[str], split: str) -> None:
    outside = pictures.labels[(pictures.labels < 0) | (pictures.labels >= len(labels))]
    if len(outside):
        raise BadShard(
            f"Split '{split}' holds leaf {outside[0]}, and classes.json has {len(labels)} labels. "
            "Run stage 'shards' again."
        )
    counts = np.bincount(pictures.labels, minlength=len(labels))
    absent = [name for name, count in zip(labels, counts, strict=True) if not count]
    if absent:
        raise BadShard(
            f"Split '{split}' has no image of {', '.join(repr(name) for name in absent[:5])}"
            f"{' and others' if len(absent) > 5 else ''}: a label needs at least one in every "
            "split. Raise persona.min_samples, or the split's share, and run the stages again."
        )
