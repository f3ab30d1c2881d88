"""
What the shards hold: their index, their bytes, one image decoded.

Reads data/shards/{manifest.json,classes.json,SPLIT-NNNNNN.tar} with tarfile and Pillow alone; every
way in which they can be wrong ends in an error that names the shard, the sample and the stage.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from personae.errors import MissingInput
from train.errors import BadShard

_PICTURES = (".png", ".webp", ".jpg")


def read_index(shards_dir: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """
    Returns the manifest and the labels in leaf order.

    Raises:
        MissingInput: One of the two files is absent or no JSON.
    """
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


def verified(shards_dir: Path, entry: dict[str, Any]) -> Path:
    """
    Returns the path of a shard whose bytes are those of the manifest.

    Raises:
        MissingInput: It is absent.
        BadShard: Its name leads elsewhere, or its sha256 differs.
    """
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


def samples(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the members of each sample by suffix, with their common `key`; raises `BadShard`."""
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


def picture(
    sample: dict[str, Any], *, side: int, path: Path
) -> UInt8[np.ndarray, "height width 3"]:
    """
    Returns the decoded image of a sample.

    Raises:
        BadShard: It has no image, or one that is damaged or of another size.
    """
    content = next((sample[suffix] for suffix in _PICTURES if suffix in sample), None)
    if content is None:
        raise BadShard(
            f"Sample {sample['key']} of {path} has no image ({', '.join(_PICTURES)}). "
            "Run stage 'shards' again."
        )
    return decoded(content, side=side, source=f"sample {sample['key']} in {path}")


def decoded(content: bytes, *, side: int, source: str) -> UInt8[np.ndarray, "height width 3"]:
    """
    Returns the pixels of an encoded image of `side` pixels; `source` names it in errors.

    Raises:
        BadShard: It is damaged, or of another size.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            size = image.size
            # Before decoding: a header that claims a giant image costs nothing.
            pixels = np.asarray(image.convert("RGB")) if size == (side, side) else None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadShard(
            f"The image of {source} cannot be decoded ({error}). "
            "Run stages 'measure' and 'shards' again."
        ) from error
    if pixels is None:
        raise BadShard(
            f"The image of {source} is {size[0]}×{size[1]} pixels, and "
            f"the manifest says {side}×{side}. Run stages 'measure' and 'shards' again."
        )
    return pixels


def facts(sample: dict[str, Any], path: Path) -> tuple[int, int, bool]:
    """Returns leaf, post id and whether the ground is white; raises `BadShard`."""
    try:
        record = json.loads(sample[".json"])
        leaf = int(sample[".cls"])
        return leaf, int(record["post_id"]), bool(record["white_background"])
    except (KeyError, ValueError) as error:
        raise BadShard(
            f"Sample {sample['key']} of {path} lacks a readable label or record ({error!r}). "
            "Run stage 'shards' again."
        ) from error
