"""
Shards to one uint8 array per split, decoded once and cached as a memory map.

Reads data/shards/{manifest.json,classes.json,SPLIT-NNNNNN.tar} with tarfile and Pillow alone; writes
work/cache/KEY/*.npy, KEY being the hash of what the manifest says of the split's shards. Training
opens `train` and `val`; `test` is opened by `evaluate` only.
"""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from train.errors import BadShard, MissingInput

_FORMAT = "1"  # part of the cache key: raised when the cached arrays change their meaning
_PICTURES = (".png", ".webp", ".jpg")


class Params(BaseModel):
    """Section `data`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(
        128, ge=1, le=65_536, description="pictures per update; 128 as in the report"
    )
    side: int | None = Field(
        None, ge=8, le=2048, description="side in pixels that the shards must have; null: theirs"
    )


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of one split, in shard order."""

    images: UInt8[np.ndarray, "picture height width 3"]
    """RGB, a read-only memory map."""
    labels: Int[np.ndarray, " picture"]
    """Leaf of each picture, int64."""
    post_ids: Int[np.ndarray, " picture"]
    white: Bool[np.ndarray, " picture"]
    """Whether the picture stands on a white background."""

    def __len__(self) -> int:
        """Counts the pictures."""
        return len(self.labels)

    def batch(self, rows: Int[np.ndarray, " batch"]) -> UInt8[Tensor, "batch height width 3"]:
        """Copies the pictures at `rows`, in that order."""
        return torch.from_numpy(self.images[rows])


@dataclass(frozen=True, slots=True)
class DataModule:
    """What a method may see: training and validation pictures. The test split is not here."""

    labels: tuple[str, ...]
    """Names in leaf order."""
    side: int
    """Height and width of every picture in pixels."""
    root_sha256: str
    """Root hash of the shards, which names the data set."""
    train: Pictures
    val: Pictures


def open_data(shards_dir: Path, cache_dir: Path, *, side: int | None = None) -> DataModule:
    """
    Opens what training may see, decoding it on first use.

    Raises:
        MissingInput: The manifest, the class list or a shard is absent.
        BadShard: A shard has other bytes than the manifest says, a sample is damaged or of
            another size, a label has no picture in a split, or `side` is not the shards'.
    """
    manifest, labels = _read_index(shards_dir)
    actual = int(manifest["image"]["side"])
    if side is not None and side != actual:
        raise BadShard(
            f"data.side is {side}, and the shards hold pictures of {actual} pixels. Set data.side "
            f"to {actual} or null, or run stage 'measure' again with measure.side: {side}."
        )
    train, val = (open_split(shards_dir, cache_dir, split) for split in ("train", "val"))
    return DataModule(labels, actual, str(manifest["root_sha256"]), train, val)


def open_split(shards_dir: Path, cache_dir: Path, split: str) -> Pictures:
    """Returns the pictures of one split from the cache, filling it first if need be; raises as `open_data`."""
    manifest, labels = _read_index(shards_dir)
    shards = [entry for entry in manifest["shards"] if entry["split"] == split]
    if not shards:
        raise BadShard(
            f"{shards_dir / 'manifest.json'} names no shard of split '{split}'. "
            "Run stages 'split' and 'shards' again, with a share above zero for it."
        )
    side = int(manifest["image"]["side"])
    lines = [f"{entry['sha256']}  {entry['shard']}" for entry in shards]
    identity = "\n".join([_FORMAT, split, str(side), *labels, *lines])
    folder = cache_dir / f"{split}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if not folder.is_dir():
        _fill(folder, shards_dir, shards, side=side)
    pictures = Pictures(
        images=np.load(folder / "images.npy", mmap_mode="r"),
        labels=np.load(folder / "labels.npy"),
        post_ids=np.load(folder / "post_ids.npy"),
        white=np.load(folder / "white.npy"),
    )
    _check_labels(pictures, labels, split)
    return pictures


def channel_mean(
    images: UInt8[np.ndarray, "picture height width 3"],
) -> Float[np.ndarray, "3"]:
    """Returns the mean of each channel in 0..1, summed in integers so that order does not matter."""
    total = np.zeros(3, dtype=np.int64)
    for start in range(0, len(images), 4096):
        total += images[start : start + 4096].sum(axis=(0, 1, 2), dtype=np.int64)
    pixels = images.shape[0] * images.shape[1] * images.shape[2]
    return np.asarray(total / (255.0 * pixels), dtype=np.float32)


def _read_index(shards_dir: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    documents = []
    for name in ("manifest.json", "classes.json"):
        try:
            documents.append(json.loads((shards_dir / name).read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise MissingInput(
                f"{shards_dir / name} is absent: stage 'shards' writes it. Run that stage first."
            ) from error
        except (OSError, ValueError) as error:
            raise MissingInput(
                f"{shards_dir / name} cannot be read as JSON ({error}). Run stage 'shards' again."
            ) from error
    return documents[0], tuple(documents[1]["labels"])


def _fill(folder: Path, shards_dir: Path, shards: Sequence[dict[str, Any]], *, side: int) -> None:
    """Decodes the shards into `folder`, whole or not at all."""
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    part.mkdir(parents=True, exist_ok=True)
    total = sum(int(entry["samples"]) for entry in shards)
    images = np.lib.format.open_memmap(
        part / "images.npy", mode="w+", dtype=np.uint8, shape=(total, side, side, 3)
    )
    facts: list[tuple[int, int, bool]] = []
    with ThreadPoolExecutor() as pool:
        for entry in shards:
            path = _verified(shards_dir, entry)
            samples = list(_samples(path))
            if len(samples) != int(entry["samples"]):
                raise BadShard(
                    f"{path} holds {len(samples)} samples, and the manifest says "
                    f"{entry['samples']}. Run stage 'shards' again."
                )
            decoded = pool.map(partial(_decode, side=side, path=path), samples)
            for sample, image in zip(samples, decoded, strict=True):
                images[len(facts)] = image
                facts.append(_facts(sample, path))
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


def _verified(shards_dir: Path, entry: dict[str, Any]) -> Path:
    name = str(entry["shard"])
    path = shards_dir / name
    if Path(name).name != name:
        raise BadShard(f"The manifest names the shard '{name}', which leads out of {shards_dir}.")
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MissingInput(
            f"{path} is absent or unreadable ({error}), and the manifest names it. "
            "Run stage 'shards' again."
        ) from error
    if found != entry["sha256"]:
        raise BadShard(
            f"{path} has sha256 {found[:12]}…, and the manifest says {entry['sha256'][:12]}…: it "
            "was changed or damaged after it was written. Run stage 'shards' again."
        )
    return path


def _samples(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the members of each sample by suffix, with their common `key`."""
    sample: dict[str, Any] = {}
    try:
        with tarfile.open(path, mode="r:") as archive:
            for member in archive:
                key, dot, suffix = member.name.partition(".")
                if sample and sample["key"] != key:
                    yield sample
                    sample = {}
                file = archive.extractfile(member)
                sample |= {"key": key, dot + suffix: file.read() if file else b""}
    except (tarfile.TarError, EOFError) as error:
        raise BadShard(f"{path} is no readable tar ({error}). Run stage 'shards' again.") from error
    if sample:
        yield sample


def _decode(
    sample: dict[str, Any], *, side: int, path: Path
) -> UInt8[np.ndarray, "height width 3"]:
    content = next((sample[suffix] for suffix in _PICTURES if suffix in sample), None)
    if content is None:
        raise BadShard(
            f"Sample {sample['key']} of {path} has no picture ({', '.join(_PICTURES)}). "
            "Run stage 'shards' again."
        )
    try:
        with Image.open(io.BytesIO(content)) as image:
            size = image.size
            # Before decoding: a header that claims a giant picture costs nothing.
            pixels = np.asarray(image.convert("RGB")) if size == (side, side) else None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadShard(
            f"The picture of sample {sample['key']} in {path} cannot be decoded ({error}). "
            "Run stages 'measure' and 'shards' again."
        ) from error
    if pixels is None:
        raise BadShard(
            f"The picture of sample {sample['key']} in {path} is {size[0]}×{size[1]} pixels, and "
            f"the manifest says {side}×{side}. Run stages 'measure' and 'shards' again."
        )
    return pixels


def _facts(sample: dict[str, Any], path: Path) -> tuple[int, int, bool]:
    try:
        record = json.loads(sample[".json"])
        leaf = int(sample[".cls"])
        return leaf, int(record["post_id"]), bool(record["white_background"])
    except (KeyError, ValueError) as error:
        raise BadShard(
            f"Sample {sample['key']} of {path} lacks a readable label or record ({error!r}). "
            "Run stage 'shards' again."
        ) from error


def _check_labels(pictures: Pictures, labels: Sequence[str], split: str) -> None:
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
            f"Split '{split}' has no picture of {', '.join(repr(name) for name in absent[:5])}"
            f"{' and others' if len(absent) > 5 else ''}: a label needs at least one in every "
            "split. Raise persona.min_samples, or the split's share, and run the stages again."
        )
